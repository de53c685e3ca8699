"""Activations of a language model, computed: passes of the model, one chunk of sequences at a time."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lib.common.progress import progress
from lib.language.loading import ModelError
from lib.language.model import LanguageModel, canonical

_TOKENS = 4096  # in one pass of the model, roughly


def activations(
    model: LanguageModel,
    ids: Tensor,
    hooks: str | Sequence[str],
    *,
    mask: Tensor | None = None,
    select: Tensor | None = None,
    chunk: int | None = None,
) -> dict[str, Tensor]:
    """Activations `(batch, length, d)` of ids `(batch, length)` by the hooks' names, on the CPU; 0 at padding.

    Heads are side by side (q, k, v, z have width heads x d_head). A padded batch needs its mask. `chunk` sequences
    go through the model at once. With `select` `(batch, length)` only those tokens are kept, `(n_selected, d)`, one
    sequence after the other. Raises ModelError on hooks and tokens that the model does not have, and on NaN.
    """
    names = canonical(model, hooks)
    ids, mask = checked(model, ids, mask)
    if select is not None:
        kept = {name: [] for name in set(names.values())}
        for rows, got in passes(model, ids, mask, names=list(kept), rows=select.any(1), chunk=chunk):
            for name, x in got.items():
                kept[name].append(x[select[rows, : x.shape[1]].to(x.device)].cpu())
        return {asked: torch.cat(kept[name]) for asked, name in names.items()}
    out = {name: torch.empty(*ids.shape, model.widths[name]) for name in set(names.values())}
    for rows, got in passes(model, ids, mask, names=list(out), rows=mask.any(1), chunk=chunk):
        for name, x in got.items():
            out[name][rows, : x.shape[1]] = x.cpu()
    for x in out.values():
        x[~mask] = 0
    return {asked: out[name] for asked, name in names.items()}


def checked(model: LanguageModel, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Ids int64 and mask bool `(batch, length)`, on the CPU; ModelError if the model can't take them."""
    ids = torch.as_tensor(ids).cpu()
    if ids.ndim != 2 or not ids.numel() or ids.is_floating_point() or ids.dtype == torch.bool:
        raise ModelError(f"tokens {tuple(ids.shape)} of {ids.dtype} must be integers (batch, length)")
    ids = ids.long().contiguous()
    if ids.shape[1] > model.context:
        raise ModelError(
            f"tokens {tuple(ids.shape)} are longer than the {model.context} that {model.name} takes"
        )
    if ids.min() < 0 or ids.max() >= model.vocabulary:
        raise ModelError(
            f"tokens are from {ids.min()} to {ids.max()}; {model.name} has tokens 0 to {model.vocabulary - 1}"
        )
    if mask is None:
        tokenizer = model.tokenizer
        pad = tokenizer.pad_token_id
        only_pads = pad not in (tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id)
        if only_pads and (ids == pad).any():
            raise ModelError(
                f"the tokens hold padding ({tokenizer.pad_token}); give the mask that `tokenize` returns"
            )
        return ids, torch.ones_like(ids, dtype=torch.bool)
    mask = torch.as_tensor(mask).cpu().bool().contiguous()
    if mask.shape != ids.shape:
        raise ModelError(f"the mask is {tuple(mask.shape)}; it must be {tuple(ids.shape)} like the tokens")
    return ids, mask


def passes(
    model: LanguageModel, ids: Tensor, mask: Tensor, *, names: list[str], rows: Tensor, chunk: int | None
) -> Iterator[tuple[Tensor, dict[str, Tensor]]]:
    """Sequences that are True in `rows` `(batch,)`, one chunk at a time, and activations `(chunk, longest, d)`."""
    if chunk is not None and chunk < 1:
        raise ModelError(f"chunk is {chunk}; it must be at least 1 sequence")
    size = chunk or max(1, _TOKENS // ids.shape[1])
    for part in progress(rows.nonzero()[:, 0].split(size), f"activations of {model.name}"):
        length = int(mask[part].any(0).nonzero().max()) + 1
        here = mask[part, :length].to(model.device)
        got = _forward(model, ids[part, :length].to(model.device), here, names)
        for name, x in got.items():
            if not x.sum().isfinite():  # one pass over them; where it fails, the padding doesn't count
                bad = part[(~x.isfinite().all(2) & here).any(1).cpu()]
                if len(bad):
                    raise ModelError(f"activations at {name} are not finite in sequence {int(bad[0])}")
        yield part, got


class _Enough(Exception):
    """Raised in a forward pass when all activations asked for have been seen, to skip the layers after them."""


@torch.no_grad()
def _forward(model: LanguageModel, ids: Tensor, mask: Tensor, names: list[str]) -> dict[str, Tensor]:
    got = {}

    def keep(x, hook):
        got[hook.name] = x.detach().flatten(2)
        if len(got) == len(names):
            raise _Enough

    # Without the mask, padding would be attended to; with a cache, all keys and values would be kept.
    with model.bridge.hooks(fwd_hooks=[(name, keep) for name in names]), contextlib.suppress(_Enough):
        model.bridge(ids, attention_mask=mask.long(), use_cache=False)
    return got
