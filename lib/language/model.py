"""Language models through TransformerLens, the names of their activations, and their tokens.

Activations have TransformerLens 4's names, the same for GPT-NeoX and BERT: `blocks.3.mlp.out.hook_in` is what the
MLP's non-linearity gives (d_mlp), `blocks.3.hook_out` the residual stream after a block and `blocks.0.hook_in` before
the first (d_model), `embed.hook_out` the token embeddings. The library's aliases (`blocks.3.mlp.hook_post`) are
understood too. `lib.language.activations` computes them, `lib.language.cache` keeps them on disk.
"""

import copy
import difflib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lib.common import files, timing
from lib.common.errors import one_line
from lib.language import loading
from lib.language.loading import RANDOM, ModelError, quiet


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """A language model in evaluation mode, float32, without gradients, and what it was made from.

    `bridge`: TransformerLens' TransformerBridge; `tokenizer`: Hugging Face's, fast, padding on the right; `layers`,
    `d_model`, `d_mlp` and `context` (tokens): its sizes; `random`: the seed its weights were drawn with, or None;
    `head`: False if the folder held a body alone, so that the logits, of a head drawn at random, mean nothing;
    `sha256`: of the weights (names, shapes, bytes; without such a head); `config_sha256`, `tokenizer_sha256` likewise.
    """

    name: str
    revision: str | None
    random: int | None
    bridge: Any
    tokenizer: Any
    layers: int
    d_model: int
    d_mlp: int
    context: int
    vocabulary: int
    head: bool
    device: str
    sha256: str
    config_sha256: str
    tokenizer_sha256: str

    @cached_property
    def widths(self) -> dict[str, int]:
        """Canonical hook name -> width of the activations `(batch, length, width)` there, in the order of a pass.

        Found out by running it: many of TransformerLens' hook points never fire, or not with one activation per token.
        """
        seen: dict[str, list[Tensor]] = {}
        # Attention patterns (batch, heads, query, key) are told apart by their shape.
        length = 5 if self.bridge.cfg.n_heads != 5 else 7
        ids = torch.zeros(3, length, dtype=torch.long, device=self.device)

        def look(x, hook):
            seen.setdefault(hook.name, []).append(x)

        with torch.no_grad(), quiet(), self.bridge.hooks(fwd_hooks=[(lambda name: True, look)]):
            self.bridge(ids, attention_mask=torch.ones_like(ids))
        return {
            name: x[0].flatten(2).shape[2]
            for name, x in seen.items()
            if len(x) == 1 and torch.is_tensor(x[0]) and x[0].is_floating_point() and x[0].ndim > 2
            if x[0].shape[:2] == ids.shape
        }

    @cached_property
    def aliases(self) -> dict[str, str]:
        """Every name that TransformerLens understands -> the canonical name of an activation."""
        return {key: p.name for key, p in self.bridge.hook_dict.items() if p.name in self.widths}


def load(
    name: str, *, revision: str | None = None, random: int | None = None, device: str | None = None
) -> LanguageModel:
    """The language model called `name`: in evaluation mode, float32, without gradients; on the GPU if there is one.

    `name` is "neox-tiny" (shipped), "pythia-70m-random" (a GPT-NeoX of Pythia-70m's shape with random weights, by
    default of seed 0, and Pythia's tokenizer), a local folder, a folder of `$DATA_DIR/models`, or a hub id (with a
    `revision`; in the cache or downloaded). A BERT body alone is wrapped as BertForMaskedLM, its missing head drawn at
    random: `LanguageModel.head` says so. `random`, a seed, draws all weights as the architecture initialises them.
    Only safetensors are read. Raises ModelError if the model can't be found or its weights are damaged.
    """
    name, device = str(name), device or str(timing.device())
    if random is not None and (not isinstance(random, int) or isinstance(random, bool) or random < 0):
        raise ModelError(f"random is {random!r}; it must be None or a seed, an integer of at least 0")
    if name == RANDOM:
        random = 0 if random is None else random
    # TransformerLens and a missing head draw from torch's own generator, which must be left as the caller had it.
    with quiet(), torch.random.fork_rng(devices=[]):
        folder = loading.find_folder(name, revision=revision, weights=random is None)
        try:
            return _load(name, folder, revision=revision, random=random, device=device)
        except ModelError:
            raise
        except Exception as error:  # safetensors, transformers and TransformerLens raise unrelated types
            reason = one_line(f"{type(error).__name__}: {error}", 300)
            if "Safetensor" in type(error).__name__:
                reason = f"its weights are damaged or incomplete; {reason}"
            raise ModelError(f"model {name} can't be loaded from {folder}: {reason}") from None


def hooks(model: LanguageModel) -> list[str]:
    """Canonical names of the activations that `activations` and `harvest` give, in the order of a forward pass."""
    return list(model.widths)


def mlp_hook(model: LanguageModel, layer: int) -> str:
    """The hook of the MLP's activations after the non-linearity, `(batch, length, d_mlp)`."""
    return _layer_hook(model, layer, "mlp.out.hook_in")


def residual_hook(model: LanguageModel, layer: int) -> str:
    """The hook of the residual stream after a block, `(batch, length, d_model)`."""
    return _layer_hook(model, layer, "hook_out")


def canonical(model: LanguageModel, hooks: str | Sequence[str]) -> dict[str, str]:
    """Each name asked for -> its canonical name. ModelError, with names that are close, if there is none."""
    asked = [hooks] if isinstance(hooks, str) else list(hooks)
    for hook in asked:
        if hook not in model.aliases:
            close = difflib.get_close_matches(str(hook), model.aliases, n=4, cutoff=0.3)
            near = f"close to it: {', '.join(close)}" if close else f"it has, e.g., {mlp_hook(model, 0)}"
            raise ModelError(f"hook {hook!r} is not one of {model.name}'s; {near}")
    if not asked:
        raise ModelError("no hook is given; lib.language.model.hooks(model) lists them")
    return {hook: model.aliases[hook] for hook in asked}


def tokenize(model: LanguageModel, texts: Sequence[str], length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Ids `(batch, length)`, mask `(batch, length)` (True: a token) and character offsets `(batch, length, 2)`.

    Cut and padded on the right to `length` tokens, special tokens as the tokenizer adds them (BERT's [CLS] and [SEP];
    none for Pythia); the offsets of padding and special tokens are 0, 0.
    """
    if not 1 <= length <= model.context:
        raise ModelError(f"length is {length}; {model.name} takes from 1 to {model.context} tokens")
    if isinstance(texts, str) or not len(texts):
        raise ModelError("texts must be a list of at least one text")
    ids = torch.full((len(texts), length), model.tokenizer.pad_token_id)
    mask, offsets = torch.zeros(ids.shape, dtype=torch.bool), torch.zeros(*ids.shape, 2, dtype=torch.long)
    # In pieces: the tokenizer's lists of Python's integers take far more memory than tensors.
    for start in range(0, len(texts), 1024):
        part = slice(start, start + 1024)
        out = model.tokenizer(
            list(texts[part]),
            truncation=True,
            max_length=length,
            padding="max_length",
            return_offsets_mapping=True,
            return_tensors="pt",
        )
        ids[part], mask[part] = out["input_ids"], out["attention_mask"].bool()
        offsets[part] = out["offset_mapping"]
    return ids, mask, offsets


def decoded(model: LanguageModel, ids: Tensor) -> list:
    """Each token as a human reads it, in lists nested like `ids`: " house" with its space; a WordPiece without ##."""
    ids = np.asarray(ids)
    distinct, inverse = np.unique(ids, return_inverse=True)
    tokenizer = model.tokenizer
    pieces = tokenizer.convert_ids_to_tokens(distinct.tolist())
    kind = type(tokenizer.backend_tokenizer.decoder).__name__
    if kind == "ByteLevel":
        pieces = [tokenizer.decode([i], clean_up_tokenization_spaces=False) for i in distinct.tolist()]
    elif kind == "WordPiece":
        pieces = [piece.removeprefix("##") for piece in pieces]
    else:
        pieces = [piece.replace("\u2581", " ") for piece in pieces]  # SentencePiece's mark of a space
    return np.array(pieces, dtype=object)[inverse].reshape(ids.shape).tolist()


def _load(name: str, folder: Path, *, revision: str | None, random: int | None, device: str) -> LanguageModel:
    # Imported here: it takes seconds, and reading activations from disk does not need it.
    from transformer_lens.model_bridge import TransformerBridge

    config = loading.load_config(name, folder)
    tokenizer = loading.load_tokenizer(name, folder)
    hf, missing = loading.load_weights(name, folder, config=config, random=random)
    # TransformerLens chooses by this name, which for a body alone must be that of its language model.
    hf.eval().config.architectures = [type(hf).__name__]
    weights = {key: value for key, value in hf.state_dict().items() if key not in missing}
    sha256 = files.sha256(*(part for key in sorted(weights) for part in (key, weights[key].detach().numpy())))
    about = hf.config.to_dict()
    for key in ("_name_or_path", "transformers_version", "dtype", "torch_dtype"):  # they change no activation
        about.pop(key, None)
    backend = json.loads(tokenizer.backend_tokenizer.to_str())
    backend |= {"truncation": None, "padding": None}  # `tokenize` sets its own
    # TransformerLens loads the tokenizer again, with a beginning-of-text token before every text, unless it has none.
    theirs = copy.deepcopy(tokenizer)
    theirs.bos_token = None
    bridge = TransformerBridge.boot_transformers(
        str(folder), hf_model=hf.to(device), tokenizer=theirs, device=device
    )
    cfg = bridge.eval().cfg
    bridge.original_model.requires_grad_(False)  # after booting, which adds parameters of its own
    return LanguageModel(
        name=name,
        revision=revision,
        random=random,
        bridge=bridge,
        tokenizer=tokenizer,
        layers=cfg.n_layers,
        d_model=cfg.d_model,
        d_mlp=cfg.d_mlp,
        context=cfg.n_ctx,
        vocabulary=hf.config.vocab_size,
        head=not missing,
        device=device,
        sha256=sha256,
        config_sha256=files.sha256(json.dumps(about, sort_keys=True, default=str)),
        tokenizer_sha256=files.sha256(json.dumps(backend, sort_keys=True)),
    )


def _layer_hook(model: LanguageModel, layer: int, hook: str) -> str:
    if not 0 <= layer < model.layers:
        raise ModelError(f"layer is {layer}; {model.name} has layers 0 to {model.layers - 1}")
    return next(iter(canonical(model, f"blocks.{layer}.{hook}")))
