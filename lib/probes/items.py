"""What is probed in a language model: its tokens, those whose activations count, and labels of features.

Sets of them are made in lib.probes.sets and read in lib.probes.gurnee.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from numpy import ndarray

from lib.common.errors import DataError


@dataclass(frozen=True, eq=False, kw_only=True)
class LabelledItems:
    """Sequences of tokens, the items probed in them (a token, or the tokens of a name) and their labels.

    `texts`: one per sequence, or none; `ids` and `mask` (True: a token) `(sequences, length)`, padded on the right;
    `indices` `(tokens, 2)`: sequence and position of every token probed, in order; `owner` `(tokens,)`: its item, in
    order too; `features`: names; `labels` and `use` (which items a feature uses) `(features, items)`; `groups`
    `(items,)`: the name or document, which no split may cut. Raises DataError if these do not fit together, or
    if a feature has only one class.
    """

    name: str
    texts: tuple[str, ...]
    ids: Int[ndarray, "sequences length"]
    mask: Bool[ndarray, "sequences length"]
    indices: Int[ndarray, "tokens 2"]
    owner: Int[ndarray, " tokens"]
    features: tuple[str, ...]
    labels: Bool[ndarray, "features items"]
    use: Bool[ndarray, "features items"]
    groups: Shaped[ndarray, " items"]

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


def pool(
    activations: Float[ndarray, "tokens d"], owner: Int[ndarray, " tokens"]
) -> Float[ndarray, "items d"]:
    """The largest activation over the tokens of an item, in each dimension, as Gurnee et al. do for a surname."""
    owner = np.asarray(owner)
    new = np.diff(owner)
    if len(activations) != len(owner) or not len(owner) or owner[0] != 0 or not np.isin(new, (0, 1)).all():
        raise ValueError(
            f"{len(activations)} activations have {len(owner)} owners; these must be 0, 0, ..., 1, ..., one for each"
        )
    return np.maximum.reduceat(activations, np.flatnonzero(np.diff(owner, prepend=-1)), axis=0)
