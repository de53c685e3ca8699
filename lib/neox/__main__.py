"""`python -m lib.neox train|evaluate --folder F`: makes the small language model, and says how good it is."""

import argparse
import time
from pathlib import Path

import numpy as np
import tokenizers
import torch
import transformers

from lib.common.errors import UserError
from lib.common.files import whole
from lib.common.precision import PRECISIONS
from lib.language import corpus
from lib.language.corpus import Document
from lib.neox import data as neox_data
from lib.neox import evaluation as neox_evaluation
from lib.neox import facts
from lib.neox import model as neox
from lib.neox import training as neox_training
from lib.neox.ngram import KneserNey

KEEP = (0, 100, 300, 1000, 3000, 10_000)  # and the last step
SAMPLE = 6  # validation documents per source that are read during training


def make(
    folder: str | Path,
    *,
    steps: int,
    batch: int = 16,
    context: int = 256,
    learning_rate: float = 2e-3,
    precision: str = "bfloat16",
    seed: int = 0,
    vocabulary: int = 4096,
    share: float = 0.1,
    text: str = "corpus",
    start: str | Path | None = None,
    every: int = 250,
    log=print,
) -> neox_training.Trained:
    """Tokenizer, packed tokens and training in `folder`; continues from what is already there.

    Writes tokenizer-<hash>.json, tokens.npy, training.safetensors (the checkpoint), step-<n>.safetensors at the steps
    of `KEEP` and the last, and `neox-tiny`, the Hugging Face folder with the record of the training. `share` of the
    tokens is planted. With `start`, a Hugging Face folder made here, this is a second stage: it continues with that
    folder's weights and tokenizer; its step numbers go on from there, its last weights are kept beside that folder,
    and the record holds the first stage's as "before".
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    documents, valid = corpus.load(text, "train"), corpus.load(text, "valid")
    if start is None:
        before, taken = None, 0
        mixed = neox_data.mix(documents, neox_data.planted(seed), share=share)
        tokenizer = _tokenizer(folder, mixed, vocabulary=vocabulary, log=log)
        model = neox.model(neox.config(len(tokenizer)), seed)
    else:
        model, tokenizer = neox.load_pretrained(start)
        before = neox.record(start)
        taken = before["settings"]["steps"]

    def count(texts: list[str]) -> int:
        return sum(map(len, neox_data.encode(tokenizer, texts)))

    documents = _enough(documents, steps * batch * context * (1 - share), count)
    mixed = neox_data.mix(documents, neox_data.planted(seed), share=share, count=count)
    tokens, about = neox_data.pack(mixed, tokenizer, folder / "tokens.npy")
    log(f"{len(tokens):,} tokens: " + ", ".join(f"{name} {n:,}" for name, n in about["tokens"].items()))
    sample = sampled(valid)

    def validate(model) -> dict[str, float]:
        table = neox_evaluation.loss_per_byte(model, tokenizer, sample, context=context)
        return {source: round(float(nats), 5) for source, nats in table.nats_per_byte.items()}

    neox_training.hold_memory()
    settings = dict(steps=steps, batch=batch, context=context, learning_rate=learning_rate, seed=seed)
    settings |= dict(precision=precision)
    trained = neox_training.train(
        model,
        tokens,
        **settings,
        checkpoint=folder / "training.safetensors",
        every=every,
        keep=() if start else tuple(sorted({step for step in KEEP if step < steps} | {steps})),
        validate=validate,
        log=log,
    )
    if start:
        neox.keep(trained.model, Path(start).parent, taken + steps)
    mean = [float(part.mean().round(5)) for part in np.array_split(trained.loss, max(1, steps // 50))]
    record = {
        "settings": settings | {"vocabulary": len(tokenizer), "share": share, "text": text},
        "data": about,
        "loss": mean,  # of steps / len(loss) steps each
        "validation": trained.validation,  # nats per byte on a sample of the validation documents
        "tokens_per_second": steps * batch * context / trained.seconds,
        "before": before,
        "versions": {m.__name__: m.__version__ for m in (torch, transformers, tokenizers)},
    }
    neox.save_pretrained(trained.model, tokenizer, folder / "neox-tiny", record=record)
    log(f"wrote {folder / 'neox-tiny'}")
    return trained


def evaluate(folder: str | Path, *, text: str = "corpus", log=print) -> None:
    """Prints nats per byte by source beside the trigram model's, and the shares of right choices."""
    folder = Path(folder)
    model, tokenizer = neox.load_pretrained(folder / "neox-tiny")
    valid = corpus.load(text, "valid")
    table = neox_evaluation.loss_per_byte(model, tokenizer, valid)
    tokens = np.load(folder / "tokens.npy", allow_pickle=False)
    started = time.perf_counter()
    ngram = KneserNey.fit(tokens, len(tokenizer))
    log(f"trigram model of {len(tokens):,} tokens fitted in {time.perf_counter() - started:.1f} s")
    table["trigram_nats_per_byte"] = neox_evaluation.ngram_loss_per_byte(
        ngram, tokenizer, valid
    ).nats_per_byte
    log(table.round(4).to_string())
    rng = np.random.default_rng(0)
    for name, questions in {
        "planted athletes, held-out templates": facts.athlete_questions(planted=True, held_out=True),
        "planted athletes, training templates": facts.athlete_questions(planted=True, held_out=False),
        "athletes never named (chance is 1 in 5)": facts.athlete_questions(planted=False, held_out=True),
        "indirect objects": facts.indirect_object_questions(1000, rng, held_out_names=False),
        "indirect objects, held-out names": facts.indirect_object_questions(1000, rng, held_out_names=True),
    }.items():
        right = neox_evaluation.choose(model, tokenizer, questions) == [q.answer for q in questions]
        log(f"{name}: {right.mean():.3f} of {len(questions):,}")


def sampled(documents: list[Document], size: int = SAMPLE) -> list[Document]:
    """`size` documents per source, evenly spaced."""
    out = []
    for source in dict.fromkeys(document.source for document in documents):
        some = [document for document in documents if document.source == source]
        out += [some[i] for i in np.unique(np.linspace(0, len(some) - 1, min(size, len(some))).astype(int))]
    return out


def _enough(documents: list[Document], tokens: float, count) -> list[Document]:
    """Evenly spaced documents that together hold about this many tokens: no more than that will be read."""
    sample = [document.text for document in documents[::20]]
    found = count(sample) * sum(len(document.text) for document in documents) / max(1, sum(map(len, sample)))
    if found <= tokens:
        return documents
    many = max(1, round(len(documents) * tokens / found))
    return [documents[i] for i in np.linspace(0, len(documents) - 1, many).astype(int)]


def _tokenizer(folder: Path, documents: list[Document], *, vocabulary: int, log):
    """The tokenizer trained on these documents: made once, and kept under their hash."""
    path = folder / f"tokenizer-{vocabulary}-{corpus.sha256(documents)[:16]}.json"
    if path.exists():
        return neox.wrap(tokenizers.Tokenizer.from_file(str(path)))
    started = time.perf_counter()
    tokenizer = neox.train_tokenizer((document.text for document in documents), vocabulary)
    with whole(path) as part:
        tokenizer.backend_tokenizer.save(str(part))
    log(f"a tokenizer of {len(tokenizer):,} tokens in {time.perf_counter() - started:.1f} s")
    return tokenizer


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line and runs it; an error that the user can do something about ends it in one line."""
    parser = argparse.ArgumentParser(prog="python -m lib.neox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("train", "evaluate"):
        command = commands.add_parser(name)
        command.add_argument("--folder", required=True, type=Path, help="where everything is written")
        command.add_argument("--text", default="corpus", choices=corpus.NAMES)
        if name == "train":
            command.add_argument("--steps", type=int, default=10_000)
            command.add_argument("--batch", type=int, default=16)
            command.add_argument("--context", type=int, default=256)
            command.add_argument("--learning-rate", type=float, default=2e-3)
            command.add_argument("--precision", default="bfloat16", choices=PRECISIONS)
            command.add_argument("--seed", type=int, default=0)
            command.add_argument("--vocabulary", type=int, default=4096)
            command.add_argument("--share", type=float, default=0.1, help="of the tokens that are planted")
            command.add_argument(
                "--start", type=Path, help="a folder neox-tiny to continue from, as a second stage"
            )
    given = vars(parser.parse_args(arguments))

    def log(line: str) -> None:
        print(line, flush=True)  # it is read while training runs

    try:
        {"train": make, "evaluate": evaluate}[given.pop("command")](**given, log=log)
    except (UserError, OSError, ValueError) as error:
        raise SystemExit(str(error)) from None


if __name__ == "__main__":
    main()
