"""Probe directions in a language model's layers, and the same with shuffled labels and with random weights.

From a model and a set of items (`lib.probes.items`) to weights of logistic probes, the directions of energy matching
(thesis slides 2024, "procedure", step 1). Tensors come back in float64, as what follows is done in it.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from torch import Tensor

from lib.common.progress import progress
from lib.language import model as language_model
from lib.language.activations import activations
from lib.language.cache import harvest
from lib.language.corpus import Document, cut
from lib.language.model import LanguageModel
from lib.neox.training import matrix_products
from lib.probes import fit
from lib.probes import items as probe_data
from lib.probes.items import ProbeSet

STRENGTH = 0.1  # C of scikit-learn; the notebook shows others


@dataclass(frozen=True)
class Probed:
    """Probes of one set on some layers: directions `(layers, n, d)` and, on held-out groups, AUC `(layers, n)`.

    `low` and `high`: 95% intervals of the AUC, bootstrapped over groups; `means`: differences of class means.
    """

    directions: Tensor
    means: Tensor
    auc: ndarray
    low: ndarray
    high: ndarray


def text_set(
    model: LanguageModel,
    documents: Sequence[Document],
    rng: np.random.Generator,
    sequences: int,
    length: int = 128,
    **settings,
) -> tuple[ProbeSet, dict[str, str]]:
    """The text features in `sequences` passages drawn at random, works being the groups; and what is dropped, with why.

    `settings` as `text_features.sample`.
    """
    passages = [(piece, document.work) for document in documents for piece in cut(document.text, 6 * length)]
    if not passages:
        raise ValueError("there are no documents with text to draw passages from; give at least one")
    chosen = rng.permutation(len(passages))[:sequences]
    texts, works = zip(*(passages[i] for i in chosen), strict=True)
    ids, mask, _ = language_model.tokenize(model, texts, length)
    special = model.tokenizer.all_special_ids
    return probe_data.text(
        ids.numpy(),
        mask.numpy(),
        language_model.decoded(model, ids),
        rng,
        documents=np.array(works),
        special=special,
        **settings,
    )


def items(
    model: LanguageModel, found: ProbeSet, layers: Sequence[int], folder=None, cached: bool = True
) -> Float[ndarray, "layers items d_mlp"]:
    """MLP activations of the items, the largest over each one's tokens, float32; through the cache if `cached`."""
    hooks = [language_model.mlp_hook(model, layer) for layer in layers]
    ids, mask = torch.as_tensor(found.ids), torch.as_tensor(found.mask)
    select = torch.as_tensor(found.select)
    if cached:
        got = harvest(model, ids, hooks, mask=mask, select=select, folder=folder, dtype="float32")
    else:
        got = activations(model, ids, hooks, mask=mask, select=select)
    return np.stack([probe_data.pool(np.asarray(got[hook]), found.owner) for hook in hooks])


def probe(
    X: Float[ndarray, "layers items d"],
    found: ProbeSet,
    rng: np.random.Generator,
    strength: float = STRENGTH,
    bootstrap: int = 1000,
) -> Probed:
    """Probes of all features and layers on four fifths of the groups, and how they rank the items of the others.

    `bootstrap`: draws behind the intervals of the AUC.
    """
    train, test = split(found, rng)
    fitted = fit.fit(X, found.labels, found.use & train, strength, names=found.features)
    seen = found.use & test
    ranks = fit.scores(fitted, X)[0]
    auc = fit.auc(ranks, found.labels, seen, found.groups, rng=rng, draws=bootstrap, names=found.features)
    means = fit.class_means(X, found.labels, found.use & train)
    return Probed(_tensor(fitted.weights[0]), _tensor(means), auc.value, auc.low, auc.high)


def split(found: ProbeSet, rng: np.random.Generator, tries: int = 100) -> tuple[ndarray, ndarray]:
    """A grouped split in which every feature has both classes on both sides; ValueError where `tries` find none."""
    for _ in range(tries):
        train, test = fit.split(found.groups, rng)
        if all(both_classes(found, side).all() for side in (train, test)):
            return train, test
    lacking = [name for name, both in zip(found.features, both_classes(found, test), strict=True) if not both]
    raise ValueError(
        f"{found.name}: no split by groups gives {', '.join(lacking) or 'every feature'} both classes on both sides; "
        "give more groups, or leave the feature out"
    )


def shuffled(
    X: Float[ndarray, "layers items d"],
    found: ProbeSet,
    draws: int,
    rng: np.random.Generator,
    strength: float = STRENGTH,
    whole_groups: bool = False,
) -> Tensor:
    """Directions of probes on shuffled labels `(layers, draws, n, d)`, as many items as `probe` trains on.

    With `whole_groups` a name keeps one label for all its items, which a probe can learn by heart.
    """
    labels, use = [], []
    for _ in range(draws):
        train, _ = split(found, rng)
        groups = found.groups if whole_groups else None
        y, used = fit.shuffled(found.labels, found.use & train, rng, groups)
        labels.append(y)
        use.append(used)
    fitted = fit.fit(X, np.concatenate(labels), np.concatenate(use), strength)
    layers, _, d = fitted.weights[0].shape
    return _tensor(fitted.weights[0]).reshape(layers, draws, -1, d)


def random_weights(
    name: str,
    sets: Mapping[Hashable, ProbeSet],
    layers: Sequence[int],
    seeds: Sequence[int],
    rng: np.random.Generator,
    strength: float = STRENGTH,
) -> dict[Hashable, tuple[Tensor, ndarray]]:
    """Directions `(layers, draws, n, d)` and AUC `(layers, draws, n)` of probes on models with random weights.

    By the keys of `sets`. A model is drawn once for all of them, and one that is there twice goes through it once, with
    factors of matrix products rounded to bfloat16: the draws of a null need no more digits.
    """
    out = {key: [] for key in sets}
    for seed in progress(seeds, "random weights"):
        model = language_model.load(name, random=seed)
        with matrix_products("bfloat16"):
            seen = {id(found): items(model, found, layers, cached=False) for found in _distinct(sets)}
        for key, found in sets.items():
            out[key].append(probe(seen[id(found)], found, rng, strength, bootstrap=0))
    return {
        key: (torch.stack([each.directions for each in drawn], 1), np.stack([each.auc for each in drawn], 1))
        for key, drawn in out.items()
    }


def _distinct(sets: Mapping[Hashable, ProbeSet]) -> list[ProbeSet]:
    return list({id(found): found for found in sets.values()}.values())


def both_classes(found: ProbeSet, side: Bool[ndarray, "items"]) -> Bool[ndarray, "features"]:
    """Which features have both classes among the items that they use on one side of a split."""
    positives = (found.labels & found.use & side).sum(1)
    return (positives > 0) & (positives < (found.use & side).sum(1))


def _tensor(values: ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float64))
