"""What probes are asked of a language model: its tokens, those whose activations count, and labels of features.

Own tables (athletes, politicians, compound words), text features and the published data sets of Gurnee et al. 2023,
"Finding neurons in a haystack" (arXiv:2305.01610), all as one `ProbeSet`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Shaped
from numpy import ndarray
from numpy.random import Generator

from lib.common.errors import DataError
from lib.probes import prompts, text_features


@dataclass(frozen=True, eq=False)
class ProbeSet:
    """Sequences of tokens, the items probed in them (a token, or the tokens of a name) and their labels.

    `texts`: one a sequence, or none; `ids` and `mask` (True: a token) `(sequences, length)`, padded on the right;
    `indices` `(tokens, 2)`: sequence and position of every token probed, in order; `owner` `(tokens,)`: its item, in
    order too; `features`: names; `labels` and `use` (which items a feature has) `(features, items)`; `groups`
    `(items,)`: the name or document, which no split may cut. Raises DataError where these do not fit together, or
    where a feature has one class.
    """

    name: str
    texts: tuple[str, ...]
    ids: Int[ndarray, "sequences length"]
    mask: Bool[ndarray, "sequences length"]
    indices: Int[ndarray, "tokens 2"]
    owner: Int[ndarray, "tokens"]
    features: tuple[str, ...]
    labels: Bool[ndarray, "features items"]
    use: Bool[ndarray, "features items"]
    groups: Shaped[ndarray, "items"]

    def __post_init__(self):
        inside = (self.indices >= 0).all() and (self.indices < self.ids.shape).all()
        if not inside or not self.mask[tuple(self.indices.T)].all():
            raise DataError(
                f"{self.name}: tokens to probe are out of range or padding; the sequences are {self.ids.shape}"
            )
        flat = np.ravel_multi_index(tuple(self.indices.T), self.ids.shape)
        items = np.unique(self.owner)
        if (np.diff(flat) <= 0).any() or (np.diff(self.owner) < 0).any() or len(items) != len(self.groups):
            raise DataError(
                f"{self.name}: tokens to probe must be in order, once each, and every item must have one"
            )
        positives, used = (self.labels & self.use).sum(1), self.use.sum(1)
        for feature, up, many in zip(self.features, positives, used, strict=True):
            if not 0 < up < many:
                raise DataError(
                    f"{self.name}: feature {feature} has one class, {up:,} of its {many:,} items are positive; "
                    "give more data, or leave it out"
                )

    @property
    def select(self) -> Bool[ndarray, "sequences length"]:
        """The tokens to harvest; their activations come in the order of `indices` and `owner`."""
        out = np.zeros(self.ids.shape, bool)
        out[tuple(self.indices.T)] = True
        return out


def pool(activations: Float[ndarray, "tokens d"], owner: Int[ndarray, "tokens"]) -> Float[ndarray, "items d"]:
    """The largest activation over the tokens of an item, in each dimension, as Gurnee et al. take it over a surname."""
    owner = np.asarray(owner)
    new = np.diff(owner)
    if len(activations) != len(owner) or not len(owner) or owner[0] != 0 or not np.isin(new, (0, 1)).all():
        raise ValueError(
            f"{len(activations)} activations have {len(owner)} owners; these must be 0, 0, ..., 1, ..., one each"
        )
    return np.maximum.reduceat(activations, np.flatnonzero(np.diff(owner, prepend=-1)), axis=0)


def athletes(tokenizer, frame: pd.DataFrame | None = None) -> ProbeSet:
    """The five sports, one against the rest, at the surnames of athletes; groups are athletes.

    `frame`: rows of `lib.probes.prompts.athlete_prompts()`, all by default: name, sport, text that ends with the name, and the
    surname's character offsets start and end in it.
    """
    if frame is None:
        frame = prompts.athlete_prompts()
    return _people("athletes", tokenizer, frame, "sport")


def politicians(tokenizer, frame: pd.DataFrame | None = None) -> ProbeSet:
    """The two parties at the surnames of politicians; as `athletes`, from `lib.probes.prompts.politician_prompts()`."""
    if frame is None:
        frame = prompts.politician_prompts()
    return _people("politicians", tokenizer, frame, "party")


def compounds(tokenizer, frame: pd.DataFrame | None = None) -> ProbeSet:
    """Compound words at their second word, each against its words with other neighbours; groups are the beginnings.

    `frame`: rows of `lib.probes.prompts.compound_prompts()`, all by default: name of the compound, positive, beginning, text
    and the second word's offsets start and end.
    """
    if frame is None:
        frame = prompts.compound_prompts()
    _columns("compounds", frame, "name", "positive", "beginning", "text", "start", "end")
    names = tuple(frame.name.unique())
    use = frame.name.to_numpy() == np.array(names, object)[:, None]
    labels = use & frame.positive.to_numpy(bool)
    return ProbeSet("compounds", *_tokens(tokenizer, frame), names, labels, use, frame.beginning.to_numpy())


def text(
    ids: Int[ndarray, "sequences length"],
    mask: Bool[ndarray, "sequences length"],
    tokens: Sequence[Sequence[str]],
    rng: Generator,
    *,
    documents: Shaped[ndarray, "sequences"] | None = None,
    special: Sequence[int] = (),
    **settings,
) -> tuple[ProbeSet, dict[str, str]]:
    """`text_features.FEATURES` at single tokens, with the features that were dropped and why.

    `tokens`: the decoded `ids`; `documents`: of each sequence, the groups (each its own by default); `special`: ids
    that are never probed; `settings` as `text_features.sample`.
    """
    ids, mask = np.asarray(ids), np.asarray(mask, bool)
    places = np.argwhere(text_features.eligible(mask, ids, special))
    documents = np.arange(len(ids)) if documents is None else np.asarray(documents)
    labels = text_features.labels(tokens)
    if labels.shape[1:] != ids.shape or len(documents) != len(ids):
        raise DataError(
            f"tokens are {labels.shape[1:]} and documents {documents.shape}; they must fit the ids {ids.shape}"
        )
    labels, groups = labels[:, *places.T], documents[places[:, 0]]
    use, kept, dropped = text_features.sample(labels, groups, rng, **settings)
    if not kept:
        raise DataError(
            f"no text feature is left: {'; '.join(f'{k}: {v}' for k, v in dropped.items())}; give more text"
        )
    rows = use.any(0)
    labels = labels[[list(text_features.FEATURES).index(name) for name in kept]][:, rows]
    owner = np.arange(rows.sum())
    found = ProbeSet(
        "text features", (), ids, mask, places[rows], owner, tuple(kept), labels, use[:, rows], groups[rows]
    )
    return found, dropped


def from_gurnee(folder: str | Path, pad: int | None = None) -> ProbeSet:
    """A published data set of Gurnee et al. 2023, as `datasets.save_to_disk` wrote it; see lib.probes.gurnee."""
    from lib.probes import gurnee

    return gurnee.load(folder, pad)


def _people(kind: str, tokenizer, frame: pd.DataFrame, label: str) -> ProbeSet:
    _columns(kind, frame, "name", label, "text", "start", "end")
    features = tuple(frame[label].unique())
    labels = frame[label].to_numpy() == np.array(features, object)[:, None]
    return ProbeSet(
        kind, *_tokens(tokenizer, frame), features, labels, np.ones_like(labels), frame.name.to_numpy()
    )


def _columns(kind: str, frame: pd.DataFrame, *columns: str) -> None:
    missing = [name for name in columns if name not in frame]
    if missing or frame.empty:
        raise DataError(
            f"{kind}: the table has {len(frame)} rows of {', '.join(frame)}; it must have rows of {', '.join(columns)}"
        )


def _tokens(tokenizer, frame: pd.DataFrame) -> tuple[tuple[str, ...], ndarray, ndarray, ndarray, ndarray]:
    """Texts, ids, mask, indices and owner: the tokens that share a character with [start, end) of their row's text.

    The tokenizer's beginning of text comes first where it has one and doesn't put it there itself, as in Gurnee et al.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer is needed")
    texts = tuple(frame.text)
    out = tokenizer(list(texts), return_offsets_mapping=True)
    ids, spans = out["input_ids"], out["offset_mapping"]
    first = tokenizer.bos_token_id
    if first is not None and ids[0][:1] != [first]:
        ids, spans = [[first, *row] for row in ids], [[(0, 0), *row] for row in spans]
    lengths = np.array([len(row) for row in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(mask.shape, tokenizer.pad_token_id or 0)
    padded[mask] = np.concatenate(ids)
    offsets = np.zeros((*mask.shape, 2), int)
    offsets[mask] = np.concatenate(spans)
    start, end = (frame[name].to_numpy(int)[:, None] for name in ("start", "end"))
    chosen = (offsets[..., 0] < end) & (offsets[..., 1] > np.maximum(start, offsets[..., 0]))
    lost = ~chosen.any(1)
    if lost.any():
        raise DataError(f"no token lies at the offsets given in {texts[int(np.argmax(lost))]!r}")
    indices = np.argwhere(chosen)
    return texts, padded, mask, indices, indices[:, 0]
