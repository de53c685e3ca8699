"""The files of a language model: where they are looked for, and the Hugging Face model and tokenizer in them.

For `lib.language.model.load`. Only safetensors are read.
"""

import contextlib
import io
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import torch

from lib.common.errors import UserError, one_line

SHIPPED = Path(__file__).parent / "neox-tiny"
RANDOM = "pythia-70m-random"
_TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")


class ModelError(UserError, RuntimeError):
    """A model that can't be found or loaded, or a hook or batch of tokens that it does not have or can't take."""


def find_folder(name: str, *, revision: str | None, weights: bool) -> Path:
    """The folder with the model's files; for a hub id, its snapshot in Hugging Face's cache, downloaded if need be.

    Raises ModelError, which names the places searched.
    """
    data = Path(os.environ["DATA_DIR"]).expanduser() if os.environ.get("DATA_DIR") else None
    if name == RANDOM:
        places = [data / "pythia-tokenizer"] if data else []
        hub, patterns = "EleutherAI/pythia-70m", ["*token*.json"]
    elif name == SHIPPED.name:
        places, hub, patterns = [SHIPPED], None, []
    else:
        places = [Path(name).expanduser(), *([data / "models" / name] if data else [])]
        hub, patterns = name, ["*.json", "*.txt", "*.model", *(["*.safetensors"] if weights else [])]
    for place in places:
        if place.is_dir():
            if revision is not None:
                raise ModelError(f"revision is {revision!r}, but {place} is a folder, which has none")
            return place
    looked, reason = [str(place) for place in places], ""
    if hub is not None:
        from huggingface_hub import constants, snapshot_download
        from huggingface_hub.errors import HFValidationError

        try:
            other = ["*/*", "consolidated*"]  # the same weights in other formats
            return Path(
                snapshot_download(hub, revision=revision, allow_patterns=patterns, ignore_patterns=other)
            )
        except HFValidationError:  # a path, not an id of the hub
            pass
        except Exception as error:  # requests, httpx and the hub's own raise unrelated types
            looked += [constants.HF_HUB_CACHE, constants.ENDPOINT]
            reason = f" ({one_line(f'{type(error).__name__}: {error}', 120)})"
    here = [SHIPPED.name] if SHIPPED.is_dir() else []
    if data is not None and (data / "pythia-tokenizer").is_dir():
        here.append(RANDOM)
    if data is not None and (data / "models").is_dir():
        here += sorted(place.name for place in (data / "models").iterdir() if place.is_dir())
    what = "its tokenizer" if name == RANDOM else "it"
    at = f" at revision {revision}" if revision is not None else ""
    raise ModelError(
        f"model {name} cannot be had{at}: {what} was looked for in {', '.join(looked)}{reason}. "
        f"Without a network any local folder works{', and here ' if here else ''}{', '.join(here)}."
    )


def load_config(name: str, folder: Path):
    """The Hugging Face configuration of the model in a folder; for `RANDOM`, Pythia-70m's shape."""
    from transformers import AutoConfig, GPTNeoXConfig

    if name == RANDOM:
        sizes = dict(num_hidden_layers=6, hidden_size=512, intermediate_size=2048, num_attention_heads=8)
        return GPTNeoXConfig(vocab_size=50304, eos_token_id=0, rotary_pct=0.25, **sizes)
    if not (folder / "config.json").is_file():
        raise ModelError(f"model {name}: the folder {folder} has no config.json")
    return AutoConfig.from_pretrained(folder, local_files_only=True)


def load_tokenizer(name: str, folder: Path):
    """The Hugging Face tokenizer in a folder, padding and cutting on the right; ModelError if it is not a fast one."""
    from transformers import AutoTokenizer

    # Without these files transformers makes a tokenizer of a handful of tokens, and says nothing.
    if not any(file for pattern in _TOKENIZERS for file in folder.glob(pattern)):
        raise ModelError(f"model {name}: the folder {folder} has no tokenizer ({', '.join(_TOKENIZERS)})")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    if not tokenizer.is_fast:
        raise ModelError(f"model {name}: its tokenizer is not a fast one, and only those know offsets")
    tokenizer.padding_side = tokenizer.truncation_side = "right"
    if tokenizer.pad_token is None:  # padding is masked, so any token will do
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token or tokenizer.convert_ids_to_tokens(0)
    return tokenizer


def load_weights(name: str, folder: Path, *, config, random: int | None) -> tuple[Any, set[str]]:
    """The Hugging Face model, and the names of the weights of a head that its folder lacks.

    `random`, a seed, draws all weights, from torch's own generator. Raises ModelError if a folder lacks any others.
    """
    from transformers import AutoModelForCausalLM, AutoModelForMaskedLM
    from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES as MASKED

    architecture = (config.architectures or [""])[0]
    causal = architecture.endswith(("ForCausalLM", "LMHeadModel"))
    kind = AutoModelForMaskedLM if config.model_type in MASKED and not causal else AutoModelForCausalLM
    torch.default_generator.manual_seed(0 if random is None else random)  # initialisation takes no other
    if random is not None:
        return kind.from_config(config, dtype=torch.float32), set()
    hf, report = kind.from_pretrained(
        folder,
        config=config,
        dtype=torch.float32,
        use_safetensors=True,
        local_files_only=True,
        output_loading_info=True,
    )
    missing = set(report["missing_keys"])
    body = {key for key in missing if key.startswith(f"{hf.base_model_prefix}.")}
    if body or (missing and architecture == type(hf).__name__):
        raise ModelError(
            f"model {name}: the weights in {folder} are incomplete: they lack {min(body or missing)}"
            f"{f' and {len(missing) - 1} more' if len(missing) > 1 else ''}"
        )
    return hf, missing


@contextlib.contextmanager
def quiet():
    """No progress bars, warnings or prints from the libraries: a notebook's page would show them. Errors are raised."""
    import huggingface_hub.utils as hub
    from transformers.utils import logging as transformers_logging

    bars, hub_bars = transformers_logging.is_progress_bar_enabled(), not hub.are_progress_bars_disabled()
    level = logging.root.manager.disable
    transformers_logging.disable_progress_bar()
    hub.disable_progress_bars()
    logging.disable(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        if hub_bars:
            hub.enable_progress_bars()
        if bars:
            transformers_logging.enable_progress_bar()
