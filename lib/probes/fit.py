"""Linear probes: logistic regressions for all features, strengths and layers as one batch, and how well they rank.

Labels y, the samples `use` that a feature has, and groups (names, documents) are numpy arrays over the same n samples;
activations are `(layers, n, d)`, or a list of memory maps `(n, d)`. The solver is lib.probes.logistic.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Shaped
from numpy import ndarray
from numpy.random import Generator
from sklearn.model_selection import GroupShuffleSplit

from lib.common import timing
from lib.common.progress import progress
from lib.probes import logistic

_ROWS = 4096  # of activations that are converted at once
_NUMBERS = 2**20  # logits, or weights of all steps remembered, of the probes that are solved together


class Probes(NamedTuple):
    """Weights `(strengths, layers, features, d)` and biases of probes for raw activations, and how they were found.

    `iterations`: passes over the activations; `gradient_norm`: of the objective divided by C n, as scikit-learn scales
    it, in raw coordinates; `converged`: the weights are within `tol` of the optimum, relative to their norm. The last
    four are `(strengths, layers, features)`.
    """

    weights: ndarray
    bias: ndarray
    iterations: ndarray
    gradient_norm: ndarray
    converged: ndarray


def fit(
    X: Float[ndarray, "layers n d"] | Sequence[ndarray],
    y: Bool[ndarray, "features n"],
    use: Bool[ndarray, "features n"] | None = None,
    *,
    strengths: float | Sequence[float] = 1.0,
    names: Sequence[str] | None = None,
    tol: float | None = None,
    steps: int = 1000,
    device: str | None = None,
) -> Probes:
    """Logistic probes of every feature on every layer, for every C in `strengths`; for classes, y is one-hot.

    X may be a list of memory maps, one per layer: each is read once, and no more than one is held. Activations in
    float64 are solved in float64, to a relative error `tol` of about 1e-7 by default, all others in float32 to 1e-3;
    `steps` bounds those of the solver, which runs on the GPU if there is one. Raises ValueError on shapes that do
    not fit, a feature with only one class and activations that are not finite.
    """
    X = _layers(X, y)
    y, use = _labels(y, use, names)
    C = np.atleast_1d(np.asarray(strengths, float))
    if C.ndim != 1 or not (np.isfinite(C).all() and (C > 0).all()):
        raise ValueError(f"strengths (C) are {strengths}; they must be finite and above 0")
    double = X[0].dtype == np.float64
    dtype = np.float64 if double else np.float32
    if tol is None:
        tol = 1e-7 if double else 1e-3
    device = device or str(timing.device())
    rows = np.flatnonzero(use.any(0))
    y, use = y[:, rows], use[:, rows]
    positives, used = (y & use).sum(1, keepdims=True), use.sum(1, keepdims=True)
    balanced = use * np.where(y, used / (2 * positives), used / (2 * (used - positives)))
    shape = (len(C), len(X), len(y))
    out = Probes(
        weights=np.empty((*shape, X[0].shape[1]), dtype),
        bias=np.empty(shape, dtype),
        iterations=np.empty(shape, int),
        gradient_norm=np.empty(shape, dtype),
        converged=np.empty(shape, bool),
    )
    pairs = [(i, j) for i in range(len(C)) for j in range(len(y))]
    step = max(1, _NUMBERS // max(len(rows), 10 * X[0].shape[1]))
    for layer in progress(range(len(X)), "probes", total=len(X)):
        try:
            samples = logistic.prepared(
                X[layer],
                rows,
                weight=balanced.sum(0),
                dtype=torch.float64 if double else torch.float32,
                device=device,
            )
        except ValueError as error:
            raise ValueError(f"layer {layer}: {error}") from None
        for first in range(0, len(pairs), step):
            s, f = np.array(pairs[first : first + step]).T
            target, weight = (
                torch.from_numpy(np.ascontiguousarray(v.T)).to(samples.x)
                for v in (y[f], C[s, None] * balanced[f])
            )
            found = logistic.solve(samples, target, weight, tol=tol, steps=steps)
            out.weights[s, layer, f] = found.weights.cpu().numpy()
            out.bias[s, layer, f] = found.bias.cpu().numpy()
            out.iterations[s, layer, f] = found.iterations.cpu().numpy()
            out.gradient_norm[s, layer, f] = found.gradient_norm.cpu().numpy() / (C[s] * used[f, 0])
            out.converged[s, layer, f] = found.converged.cpu().numpy()
    return out


def scores(probes: Probes, X: Float[ndarray, "layers n d"] | Sequence[ndarray]) -> Float[ndarray, "s l f n"]:
    """Logits w . x + b of every sample by every probe, `(strengths, layers, features, n)`."""
    if len(X) != probes.weights.shape[1] or {x.shape[1:] for x in X} != {probes.weights.shape[3:]}:
        asked, found = probes.weights.shape[1::2], [tuple(x.shape) for x in X]
        raise ValueError(f"the probes are of layers and dimensions {asked}, the activations are {found}")
    out = np.empty((*probes.bias.shape, len(X[0])), probes.weights.dtype)
    for layer, x in enumerate(X):
        for start in range(0, len(x), _ROWS):
            part = np.asarray(x[start : start + _ROWS], out.dtype)
            out[:, layer, :, start : start + _ROWS] = probes.weights[:, layer] @ part.T
    return out + probes.bias[..., None]


def class_means(
    X: Float[ndarray, "layers n d"] | Sequence[ndarray],
    y: Bool[ndarray, "features n"],
    use: Bool[ndarray, "features n"] | None = None,
) -> Float[ndarray, "layers features d"]:
    """Directions of the class means: mean activation of the positives minus that of the negatives, in float64."""
    X = _layers(X, y)
    y, use = _labels(y, use, None)
    positive, negative = y & use, ~y & use
    signed = positive / positive.sum(1, keepdims=True) - negative / negative.sum(1, keepdims=True)
    out = np.zeros((len(X), len(y), X[0].shape[1]))
    for layer, x in enumerate(X):
        for start in range(0, len(x), _ROWS):
            part = slice(start, start + _ROWS)
            out[layer] += signed[:, part] @ np.asarray(x[part], np.float64)
        if not np.isfinite(out[layer]).all():
            raise ValueError(f"the activations of layer {layer} are not finite")
    return out


def split(
    groups: Shaped[ndarray, " n"], rng: Generator, *, test: float = 0.2
) -> tuple[Bool[ndarray, " n"], Bool[ndarray, " n"]]:
    """Training and test samples as masks, such that no group (a name, a document) is on both sides."""
    groups = np.asarray(groups)
    if not 0 < test < 1 or len(np.unique(groups)) < 2:
        raise ValueError(
            f"test is {test}, of {len(np.unique(groups))} groups; it must be between 0 and 1, and the groups 2 or more"
        )
    splitter = GroupShuffleSplit(1, test_size=test, random_state=int(rng.integers(2**31)))
    _, chosen = next(splitter.split(groups, groups=groups))
    mask = np.isin(np.arange(len(groups)), chosen)
    return ~mask, mask


def shuffled(
    y: Bool[ndarray, "features n"],
    use: Bool[ndarray, "features n"] | None,
    rng: Generator,
    *,
    groups: Shaped[ndarray, " n"] | None = None,
) -> tuple[Bool[ndarray, "features n"], Bool[ndarray, "features n"]]:
    """The control: labels and `use` change places among the samples used, all features of a sample together.

    So the features stay as frequent, and as correlated or exclusive, as they are. With `groups`, whole groups, which
    must be of one size, change places: labels that a group shares can be learnt, shuffled single ones can't. Many draws
    are fitted at once when their features are stacked.
    """
    y = np.asarray(y, bool)
    use = np.ones_like(y) if use is None else np.asarray(use, bool)
    rows = np.flatnonzero(use.any(0))
    if groups is None:
        source = rng.permutation(rows)
    else:
        codes, names = pd.factorize(np.asarray(groups)[rows])
        sizes = np.bincount(codes)
        if len(set(sizes)) > 1:
            raise ValueError(
                f"groups have {sizes.min()} to {sizes.max()} used samples; they must be of one size to change places"
            )
        places = rows[np.argsort(codes, kind="stable")].reshape(len(names), -1)
        rows, source = places.ravel(), places[rng.permutation(len(names))].ravel()
    out = y.copy(), use.copy()
    for new, old in zip(out, (y, use), strict=True):
        new[:, rows] = old[:, source]
    return out


class Auc(NamedTuple):
    """Areas under the ROC curve and the ends of their 95% intervals, each `(..., features)`."""

    value: ndarray
    low: ndarray
    high: ndarray


def auc(
    scores: Float[ndarray, "*probes features n"],
    y: Bool[ndarray, "features n"],
    use: Bool[ndarray, "features n"] | None = None,
    *,
    rng: Generator,
    groups: Shaped[ndarray, " n"] | None = None,
    draws: int = 1000,
    names: Sequence[str] | None = None,
) -> Auc:
    """AUC of every probe on the samples in `use`, with percentile intervals of a bootstrap over whole groups.

    Without `groups` every sample is a group. A draw that holds only one class is left out; with 0 draws the intervals
    are NaN. Raises ValueError if a feature has only one class, or one group, among the samples used.
    """
    scores = np.asarray(scores)
    y, use = _labels(y, use, names)
    groups = np.arange(y.shape[1]) if groups is None else np.asarray(groups)
    if scores.shape[-2:] != y.shape or groups.shape != y.shape[1:]:
        raise ValueError(
            f"scores are {scores.shape}, labels {y.shape} and groups {groups.shape}; "
            "they must be (..., features, n), (features, n) and (n,)"
        )
    out = Auc(*(np.full(scores.shape[:-1], np.nan) for _ in range(3)))
    for f, mask in enumerate(use):
        codes, found = pd.factorize(groups[mask])
        if len(found) < 2:
            raise ValueError(
                f"feature {_name(names, f)} has samples of {len(found)} group; intervals need 2 or more"
            )
        weight = rng.multinomial(len(found), np.full(len(found), 1 / len(found)), size=draws).T[codes]
        # The first column is not a draw but the data, every sample once.
        weight = np.column_stack([np.ones(len(codes)), weight])
        for at in np.ndindex(scores.shape[:-2]):
            drawn = _auc(scores[(*at, f)][mask], y[f, mask], weight)
            out.value[(*at, f)] = drawn[0]
            if draws:
                out.low[(*at, f)], out.high[(*at, f)] = np.nanquantile(drawn[1:], (0.025, 0.975))
    return out


def _layers(X, y) -> list[ndarray]:
    """The layers, not read yet, each `(n, d)` with the n of the labels y."""
    X = [np.asarray(x) for x in X]
    shape = X[0].shape if X else ()
    if len(shape) != 2 or any(x.shape != shape for x in X) or np.shape(y)[1:] != shape[:1]:
        raise ValueError(
            f"activations are {[x.shape for x in X]} and labels {np.shape(y)}; they must be (n, d) and (features, n)"
        )
    return X


def _labels(y, use, names) -> tuple[ndarray, ndarray]:
    """y and `use` as `(features, n)` masks; each feature has two classes among the samples it uses."""
    y = np.asarray(y)
    use = np.ones(y.shape, bool) if use is None else np.asarray(use)
    if y.ndim != 2 or use.shape != y.shape or y.dtype != bool or use.dtype != bool:
        raise ValueError(
            f"y is {y.dtype} {y.shape} and use {use.dtype} {use.shape}; both must be bool (features, n)"
        )
    for f, (positives, many) in enumerate(zip((y & use).sum(1), use.sum(1), strict=True)):
        if not 0 < positives < many:
            raise ValueError(
                f"feature {_name(names, f)} has one class: {positives:,} of its {many:,} samples are "
                "positive; leave it out, or use more samples"
            )
    return y, use


def _name(names: Sequence[str] | None, feature: int) -> str | int:
    """A feature's name if names are given, else its number."""
    return feature if names is None else names[feature]


def _auc(scores: ndarray, y: ndarray, weight: ndarray) -> ndarray:
    """Weighted AUC for every column of weights `(n, draws)`: the share of pairs ranked right, ties counting half."""
    order, positive = np.argsort(scores[~y]), weight[y]
    below = np.pad(weight[~y][order].cumsum(0), ((1, 0), (0, 0)))
    left, right = (below[np.searchsorted(scores[~y][order], scores[y], side)] for side in ("left", "right"))
    with np.errstate(invalid="ignore"):  # a draw with one class is NaN
        return np.einsum("id,id->d", positive, left + right) / (2 * positive.sum(0) * below[-1])
