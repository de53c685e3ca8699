"""A small GPT-NeoX language model of our own: its tokenizer, its architecture, its weights as files.

`python -m lib.neox train --folder F` trains it; lib.neox.evaluation says how good it is.
"""

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, PreTrainedTokenizerFast

from lib.common.errors import UserError, one_line
from lib.common.files import whole
from lib.language.loading import SHIPPED, quiet

END_OF_TEXT = "<|endoftext|>"  # token 0: begins, ends and pads
RECORD = "training.json"  # beside the weights: how they were made


class NeoxError(UserError, ValueError):
    """A model folder or checkpoint that is missing, damaged or of another model."""


def train_tokenizer(texts: Iterable[str], vocabulary: int = 4096) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer, split like GPT-2's and Pythia's, of at most `vocabulary` tokens; any text survives.

    Raises ValueError if `vocabulary` has no room for the 256 bytes and the end of text.
    """
    if vocabulary < 257:
        raise ValueError(f"vocabulary is {vocabulary}; it must be at least 257: the bytes and {END_OF_TEXT}")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=[END_OF_TEXT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return wrap(tokenizer)


def wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    """The tokenizer as transformers takes it, with `END_OF_TEXT` for every special token."""
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        unk_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
    )


def config(vocabulary: int = 4096, **changes) -> GPTNeoXConfig:
    """Pythia's architecture: 6 layers, d_model 128, d_mlp 512, 4 heads, a quarter rotary, parallel residual, untied."""
    settings = dict(
        vocab_size=vocabulary,
        num_hidden_layers=6,
        hidden_size=128,
        intermediate_size=512,
        num_attention_heads=4,
        rotary_pct=0.25,
        use_parallel_residual=True,
        tie_word_embeddings=False,
        max_position_embeddings=512,
        hidden_act="gelu",
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=0,
        use_cache=False,
    )
    return GPTNeoXConfig(**(settings | changes))


def model(config: GPTNeoXConfig, seed: int) -> GPTNeoXForCausalLM:
    """A model with random weights, which depend on `seed` alone; the global generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # transformers draws from the global generator
        return GPTNeoXForCausalLM(config)


def tokenizer_sha256(tokenizer: PreTrainedTokenizerFast) -> str:
    """Hash of the tokenizer's JSON alone, as neox-tiny's record has it."""
    return hashlib.sha256(tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def save_pretrained(
    model: GPTNeoXForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    folder: str | Path,
    *,
    record: dict | None = None,
) -> None:
    """Writes a Hugging Face folder, whole or not at all, replacing any that is there; `record` goes into `RECORD`."""
    with whole(folder) as part:
        with quiet():
            model.save_pretrained(part)
        tokenizer.save_pretrained(part)
        if record is not None:
            (part / RECORD).write_text(json.dumps(record), encoding="utf-8")


def load_pretrained(folder: str | Path = SHIPPED) -> tuple[GPTNeoXForCausalLM, PreTrainedTokenizerFast]:
    """The model, in evaluation mode and float32, and its tokenizer.

    Raises NeoxError if a file is missing or damaged, or if the weights are not those of the configuration.
    """
    folder = Path(folder)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        if not (folder / name).is_file():
            raise NeoxError(
                f"{folder} holds no whole model: {name} is missing; `python -m lib.neox train` makes one"
            )
    _read_tensors(folder / "model.safetensors")  # transformers would name no file
    try:
        with quiet():
            model, loading = GPTNeoXForCausalLM.from_pretrained(
                folder, dtype=torch.float32, local_files_only=True, output_loading_info=True
            )
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    except (
        Exception
    ) as error:  # transformers and tokenizers raise unrelated types, plain Exception among them
        raise NeoxError(f"{folder} is damaged: {one_line(error)}") from None
    strange = {name for names in loading.values() for name in names}
    if strange:  # transformers would draw what is missing at random
        raise NeoxError(
            f"{folder}: its weights are not those of its configuration: {one_line(sorted(map(str, strange)))}"
        )
    return model.eval(), tokenizer


def record(folder: str | Path = SHIPPED) -> dict:
    """How the model of a folder was trained: settings, curve, data; raises NeoxError if no record says so."""
    path = Path(folder) / RECORD
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise NeoxError(f"{path} is missing or damaged: {one_line(error)}") from None


def keep(model: GPTNeoXForCausalLM, folder: str | Path, step: int) -> None:
    """Writes the weights at a step of training as `step-<step>.safetensors`, whole or not at all."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    write_tensors(folder / f"step-{step}.safetensors", tensors, {"config": model.config.to_json_string()})


def kept(folder: str | Path) -> list[int]:
    """The steps that `keep` wrote to a folder, in order."""
    found = (re.fullmatch(r"step-(\d+)\.safetensors", path.name) for path in Path(folder).glob("step-*"))
    return sorted(int(match[1]) for match in found if match)


def load_step(folder: str | Path, step: int) -> GPTNeoXForCausalLM:
    """The model as it was at a step, in evaluation mode; raises NeoxError if that was not kept or is damaged."""
    path = Path(folder) / f"step-{step}.safetensors"
    if not path.is_file():
        steps = ", ".join(map(str, kept(folder))) or "none"
        raise NeoxError(f"{path} is missing; the steps kept in this folder are: {steps}")
    weights, about = _read_tensors(path)
    try:
        out = model(GPTNeoXConfig(**json.loads(about["config"])), seed=0)
        out.load_state_dict(weights)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise NeoxError(f"{path}: its weights are not those of a model: {one_line(error)}") from None
    return out.eval()


def write_tensors(path: Path, tensors: dict[str, Tensor], about: dict[str, str]) -> None:
    """One safetensors file, whole or not at all."""
    with whole(path) as part:
        save_file(tensors, part, metadata=about)


def _read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in file.keys()}, file.metadata() or {}
    except (SafetensorError, OSError, ValueError) as error:
        raise NeoxError(
            f"{path} is damaged or truncated: {one_line(error)}; fetch or make it again"
        ) from None
