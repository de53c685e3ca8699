"""Probe directions in a language model's layers, and the same with shuffled labels and with random weights.

From a model and a set of labelled items to weights of logistic probes, the directions of energy matching (thesis slides
2024, "procedure", step 1). Tensors come back in float64, in which all that follows is computed.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from lib.common.precision import matrix_products
from lib.common.progress import progress
from lib.language import model as language_model
from lib.language.activations import activations
from lib.language.cache import harvest
from lib.language.model import LanguageModel
from lib.probes import fit
from lib.probes.items import LabelledItems, pool

STRENGTH = 0.1  # C of scikit-learn


@dataclass(frozen=True, kw_only=True)
class Directions:
    """Probes of one set on some layers: `directions` `(layers, n, d)`, and their AUC on held-out groups `(layers, n)`.

    `low` and `high`: its 95% interval, bootstrapped over groups; `means`: differences of class means `(layers, n, d)`.
    """

    directions: Tensor
    means: Tensor
    auc: ndarray
    low: ndarray
    high: ndarray


def item_activations(
    model: LanguageModel,
    items: LabelledItems,
    layers: Sequence[int],
    *,
    folder: str | Path | None = None,
    cached: bool = True,
) -> Float[ndarray, "layers items d_mlp"]:
    """MLP activations of the items, the largest over each one's tokens, float32; kept in `folder` if `cached`."""
    hooks = [language_model.mlp_hook(model, layer) for layer in layers]
    ids = torch.as_tensor(items.ids)
    tokens = dict(mask=torch.as_tensor(items.mask), select=torch.as_tensor(items.select))
    if cached:
        got = harvest(model, ids, hooks, **tokens, folder=folder, dtype="float32")
    else:
        got = activations(model, ids, hooks, **tokens)
    return np.stack([pool(np.asarray(got[hook]), items.owner) for hook in hooks])


def probe(
    X: Float[ndarray, "layers items d"],
    items: LabelledItems,
    rng: np.random.Generator,
    *,
    strength: float = STRENGTH,
    bootstrap: int = 1000,
) -> Directions:
    """Probes of all features and layers on four fifths of the groups, and how they rank the items of the others.

    `bootstrap`: draws behind the intervals of the AUC.
    """
    train, test = split(items, rng)
    fitted = fit.fit(X, items.labels, items.use & train, strengths=strength, names=items.features)
    ranks = fit.scores(fitted, X)[0]
    held_out = dict(groups=items.groups, names=items.features)
    auc = fit.auc(ranks, items.labels, items.use & test, **held_out, rng=rng, draws=bootstrap)
    means = fit.class_means(X, items.labels, items.use & train)
    return Directions(
        directions=_tensor(fitted.weights[0]), means=_tensor(means), auc=auc.value, low=auc.low, high=auc.high
    )


def split(items: LabelledItems, rng: np.random.Generator, *, tries: int = 100) -> tuple[ndarray, ndarray]:
    """A grouped split in which every feature has both classes on both sides; ValueError if `tries` find none."""
    for _ in range(tries):
        train, test = fit.split(items.groups, rng)
        if all(both_classes(items, side).all() for side in (train, test)):
            return train, test
    lacking = [name for name, both in zip(items.features, both_classes(items, test), strict=True) if not both]
    raise ValueError(
        f"{items.name}: no split by groups gives {', '.join(lacking) or 'every feature'} both classes on both sides; "
        "give more groups, or leave the feature out"
    )


def shuffled(
    X: Float[ndarray, "layers items d"],
    items: LabelledItems,
    rng: np.random.Generator,
    *,
    draws: int,
    strength: float = STRENGTH,
    whole_groups: bool = False,
) -> Tensor:
    """Directions of probes on shuffled labels `(layers, draws, n, d)`, with as many items as `probe` trains on.

    With `whole_groups` a name keeps one label for all its items, which a probe can learn by heart.
    """
    labels, use = [], []
    for _ in range(draws):
        train, _ = split(items, rng)
        groups = items.groups if whole_groups else None
        y, used = fit.shuffled(items.labels, items.use & train, rng, groups=groups)
        labels.append(y)
        use.append(used)
    fitted = fit.fit(X, np.concatenate(labels), np.concatenate(use), strengths=strength)
    layers, _, d = fitted.weights[0].shape
    return _tensor(fitted.weights[0]).reshape(layers, draws, -1, d)


def random_weights(
    name: str,
    sets: Mapping[Hashable, LabelledItems],
    layers: Sequence[int],
    *,
    seeds: Sequence[int],
    rng: np.random.Generator,
    strength: float = STRENGTH,
) -> dict[Hashable, tuple[Tensor, ndarray]]:
    """Directions `(layers, draws, n, d)` and AUC `(layers, draws, n)` of probes on models with random weights, by key.

    Each model is drawn once for all `sets`, and a set listed under two keys goes through it once, with factors
    of matrix products rounded to bfloat16: the draws of a null need no more digits.
    """
    out = {key: [] for key in sets}
    for seed in progress(seeds, "random weights"):
        model = language_model.load(name, random=seed)
        with matrix_products("bfloat16"):
            distinct = dict.fromkeys(sets.values())  # sets are equal only to themselves
            seen = {items: item_activations(model, items, layers, cached=False) for items in distinct}
        for key, items in sets.items():
            out[key].append(probe(seen[items], items, rng, strength=strength, bootstrap=0))
    return {
        key: (torch.stack([each.directions for each in drawn], 1), np.stack([each.auc for each in drawn], 1))
        for key, drawn in out.items()
    }


def both_classes(items: LabelledItems, side: Bool[ndarray, " items"]) -> Bool[ndarray, " features"]:
    """Which features have both classes among the items that they use on one side of a split."""
    positives = (items.labels & items.use & side).sum(1)
    return (positives > 0) & (positives < (items.use & side).sum(1))


def _tensor(values: ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float64))
