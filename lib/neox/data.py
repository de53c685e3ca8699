"""What the small language model reads: planted sentences mixed into a corpus, as one row of packed tokens."""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from lib.common.files import whole, write_text
from lib.common.progress import progress
from lib.language import corpus
from lib.language.corpus import Document
from lib.neox import facts
from lib.neox import model as neox

SENTENCES = 20  # of a planted document


def planted(
    seed: int = 0, sentences: Callable[[int, np.random.Generator], list[str]] = facts.sentences
) -> Iterator[Document]:
    """Documents of `SENTENCES` planted sentences each, endlessly; `sentences(n, rng)` draws n of them.

    A sentence is a line: its first word has no space before it, as in a prompt, which comes after an end of text.
    """
    rng = np.random.default_rng(seed)
    while True:
        some = sentences(100 * SENTENCES, rng)
        for start in range(0, len(some), SENTENCES):
            yield Document("planted", "planted", "\n".join(some[start : start + SENTENCES]))


def mix(
    documents: list[Document],
    more: Iterable[Document],
    *,
    share: float = 0.1,
    count: Callable[[list[str]], int] = lambda texts: sum(map(len, texts)),
) -> list[Document]:
    """`documents`, with enough of `more` spread evenly among them to make up `share` of the whole.

    `count(texts)` is the size of texts, by default in characters; that of `documents` is estimated from every
    twentieth. Raises ValueError if `share` is not in [0, 1) or `more` ends too soon.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share is {share}; it must be at least 0 and below 1")
    sample = [document.text for document in documents[::20]]
    characters = sum(len(document.text) for document in documents)
    wanted = count(sample) * characters / max(1, sum(map(len, sample))) * share / (1 - share)
    more, taken, total = iter(more), [], 0
    while total < wanted:
        block = list(itertools.islice(more, 100))
        if not block:
            raise ValueError(
                f"{len(taken)} documents to mix in are too few for a share of {share}; give more, or a smaller share"
            )
        # The last block is cut if it would be too much.
        size = count([document.text for document in block])
        block = block[: max(1, round(len(block) * min(1, (wanted - total) / max(1, size))))]
        taken, total = taken + block, total + size
    places = [((i + 0.5) / len(some), d) for some in (documents, taken) for i, d in enumerate(some)]
    return [document for _, document in sorted(places, key=lambda place: place[0])]


def encode(tokenizer: PreTrainedTokenizerFast, texts: Iterable[str]) -> Iterator[np.ndarray]:
    """The tokens of every text, uint16 `(length,)`, without an end of text; batches of texts, on all cores."""
    texts = iter(texts)
    while block := list(itertools.islice(texts, 500)):
        for encoding in tokenizer.backend_tokenizer.encode_batch_fast(block, add_special_tokens=False):
            yield np.array(encoding.ids, dtype=np.uint16)


def pack(
    documents: list[Document], tokenizer: PreTrainedTokenizerFast, path: str | Path
) -> tuple[np.ndarray, dict]:
    """The tokens of all documents as uint16 `(tokens,)`, each document ended by token 0, and what they were made from.

    Kept in `path`, an .npy, with a .json beside it that names the documents, the tokenizer, the number of tokens by
    source and the SHA-256 of all tokens; made again if these do not fit or the file is damaged.
    """
    if len(tokenizer) > 2**16:
        raise ValueError(
            f"a tokenizer of {len(tokenizer)} tokens; packed tokens have 16 bits, so at most 65536"
        )
    path = Path(path)
    beside = path.with_suffix(".json")
    expected = {"documents": corpus.sha256(documents), "tokenizer": neox.tokenizer_sha256(tokenizer)}
    found = _packed(path, beside, expected)
    if found is not None:
        return found
    rows, sizes = [], Counter()
    texts = progress((document.text for document in documents), "tokenise", total=len(documents))
    for document, tokens in zip(documents, encode(tokenizer, texts), strict=True):
        rows += [tokens, np.zeros(1, np.uint16)]
        sizes[document.source] += len(tokens) + 1
    packed = np.concatenate(rows) if rows else np.zeros(0, np.uint16)
    about = {**expected, "tokens": dict(sizes), "sha256": sha256(packed)}
    with whole(path) as part, open(part, "wb") as file:
        np.save(file, packed, allow_pickle=False)
    write_text(beside, json.dumps(about))
    return packed, about


def sha256(tokens: np.ndarray) -> str:
    """Hash of the bytes alone, as checkpoints and neox-tiny's record have it; lib.common.files adds shape and type."""
    return hashlib.sha256(np.ascontiguousarray(tokens).data).hexdigest()


class Windows:
    """Batches of windows `(batch, context + 1)` of packed tokens; a step's batch depends on `seed` and the step alone.

    An epoch takes every window once, in random order. Its windows lie end to end, starting from a random offset; each
    shares one token with the next: its last target is the next one's first input.
    """

    def __init__(self, tokens: np.ndarray, *, batch: int, context: int, seed: int):
        self.tokens, self.batch, self.context, self.seed = tokens, batch, context, seed
        self.epoch = (len(tokens) - context) // context  # windows, at every offset
        if batch < 1 or context < 1 or self.epoch < 1:
            raise ValueError(
                f"batch is {batch}, context {context}, with {len(tokens)} tokens; both must be at least 1, and the "
                "tokens at least twice the context"
            )
        self._order: tuple[int, np.ndarray] = (-1, np.empty(0))

    def __call__(self, step: int) -> Tensor:
        """The batch of step 0, 1, ...: int64 `(batch, context + 1)`."""
        places = [self._start(step * self.batch + i) for i in range(self.batch)]
        return torch.from_numpy(
            self.tokens[np.add.outer(places, np.arange(self.context + 1))].astype(np.int64)
        )

    def _start(self, i: int) -> int:
        epoch, place = divmod(i, self.epoch)
        if self._order[0] != epoch:
            rng = np.random.default_rng([self.seed, epoch])
            starts = rng.permutation(self.epoch) * self.context + rng.integers(self.context)
            self._order = epoch, starts
        return int(self._order[1][place])


def _packed(path: Path, beside: Path, expected: dict) -> tuple[np.ndarray, dict] | None:
    """What `pack` kept; None if it is damaged, or of other documents or another tokenizer."""
    try:
        about = json.loads(beside.read_text(encoding="utf-8"))
        if any(about.get(key) != value for key, value in expected.items()):
            return None
        tokens = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return (tokens, about) if tokens.dtype == np.uint16 and sha256(tokens) == about.get("sha256") else None
