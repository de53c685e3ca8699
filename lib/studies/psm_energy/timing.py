"""Ours against the usual tools on the same problems: energies against scipy, probes against scikit-learn.

CPU time on one thread, and how good each side's optimum is.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float
from numpy import ndarray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits
from torch import Tensor

from lib.common.timing import cpu_seconds, threads
from lib.energy import matching, objective
from lib.energy.objective import equal_weights
from lib.probes import fit
from lib.studies.psm_energy import slides

RESTARTS = {"joint": 4, "reoptimisation": 2}
LOWER = 1e-6  # relative: a value above another by so much still counts as equal


@dataclass(frozen=True)
class Grid:
    """b problems of one size, restarts of a problem next to each other.

    By problem: names of its kernel and similarity, `f` `(b,)` the dimensions that it uses, `strength` `(b,)` lambda_d,
    `target` `(b, n, n)`, `norms` `(b, n)` to hold, and `start` `(b, n, largest f)`.
    """

    kernels: list[str]
    kinds: list[str]
    f: Tensor
    strength: Tensor
    target: Tensor
    norms: Tensor
    start: Tensor

    def __len__(self) -> int:
        return len(self.kernels)


def grid(count: int, *, n: int, restarts: int, seed: int = 0) -> Grid:
    """`count` problems of n features: kernels x similarities x dimensions x lambda_d x targets x restarts.

    Targets are the PSMs of random directions in 2 n dimensions with lengths of 1 to 2 (10 to 20 where the similarity is
    RBF, whose C is 200).
    """
    generator = torch.Generator().manual_seed(seed)
    fs = (n // 2, n - 2)
    cells = list(itertools.product(objective.KERNELS, objective.SIMILARITIES, fs, (10.0, 100.0)))
    if count % (len(cells) * restarts):
        raise ValueError(f"{count} problems do not fill {len(cells)} settings with {restarts} restarts each")
    targets = count // (len(cells) * restarts)
    kernels, kinds, f, strength = zip(
        *(cell for cell in cells for _ in range(targets * restarts)), strict=True
    )
    scale = torch.tensor([1.0 if kind == "cosine" else 10.0 for kind in kinds], dtype=torch.float64)

    def repeated(shape):
        return torch.randn(
            count // restarts, *shape, generator=generator, dtype=torch.float64
        ).repeat_interleave(restarts, 0)

    u = repeated((n, 2 * n))
    norms = scale[:, None] * (1 + torch.sigmoid(repeated((n,))))
    x = objective.held(u, norms)
    rbf = torch.tensor([kind == "rbf" for kind in kinds])[:, None, None]
    target = torch.where(rbf, objective.similarity(x, "rbf"), objective.similarity(x))
    f = torch.tensor(f)
    start = objective.held(matching.starts(count, n=n, f=f, generator=generator), norms)
    return Grid(list(kernels), list(kinds), f, torch.tensor(strength), target, norms, start)


def joint(g: Grid) -> tuple[Tensor, float]:
    """Values `(b,)` and CPU seconds of our joint step, norms held and weights free."""

    def solve():
        p = objective.problems(
            len(g), g.kernels, kind=g.kinds, target=g.target, strength=g.strength, norms=g.norms
        )
        return matching.joint(p, g.start).value

    return cpu_seconds(solve)


def joint_scipy(g: Grid, which: Sequence[int]) -> tuple[ndarray, float]:
    """The same by scipy's conjugate gradient with exact gradients, for problems `which`, one after the other."""

    def one(i: int) -> float:
        setting = slides.Setting(g.kernels[i], g.kinds[i])
        start = g.start[i, :, : g.f[i]].numpy()
        held = g.norms[i].numpy()
        found = slides.joint(
            g.target[i].numpy(), start, setting=setting, strength=g.strength[i].item(), norms=held
        )
        return found.value

    return cpu_seconds(lambda: np.array([one(i) for i in which]))


def reoptimisation_grid(count: int, *, n: int, seed: int = 0) -> tuple[list[str], Tensor, Tensor]:
    """Kernels, starts `(count, n, f)` and norms: kernels x dimensions x sigma x restarts, around random vectors."""
    generator = torch.Generator().manual_seed(seed)
    fs, sigmas = (n // 2, n - 2, n - 1), (0.01, 0.1, 0.3)
    cells = list(itertools.product(objective.KERNELS, fs, sigmas))
    if count % len(cells):
        raise ValueError(f"{count} problems do not fill {len(cells)} settings")
    kernels, f, sigma = zip(*(cell for cell in cells for _ in range(count // len(cells))), strict=True)
    x = matching.starts(count, n=n, f=torch.tensor(f), generator=generator)
    restarts = RESTARTS["reoptimisation"]  # of one problem: they have the same norms to hold
    norms = 1 + torch.rand(count // restarts, n, generator=generator, dtype=torch.float64)
    norms = norms.repeat_interleave(restarts, 0)
    x = objective.held(x, norms)
    return list(kernels), matching.perturb(x, torch.tensor(sigma), generator=generator), norms


def reoptimise(kernels: list[str], start: Tensor, *, norms: Tensor) -> tuple[Tensor, float]:
    """Energies `(b,)` and CPU seconds of our re-optimisation, weights 1/n."""
    equal = equal_weights(start.shape[1])
    return cpu_seconds(lambda: matching.reoptimise(start, equal, kernel=kernels, norms=norms).value)


def reoptimise_scipy(
    kernels: list[str],
    start: Tensor,
    *,
    norms: Tensor,
    which: Sequence[int],
    penalty: float | None = 100.0,
) -> tuple[ndarray, float]:
    """The same by scipy's Powell with the slides' penalty, for problems `which`: the penalised values."""
    equal = equal_weights(start.shape[1]).numpy()

    def one(i: int) -> float:
        x = start[i][:, (start[i] != 0).any(0)].numpy()
        found = slides.reoptimise(
            x, norms=norms[i].numpy(), weights=equal, setting=slides.Setting(kernels[i]), penalty=penalty
        )
        return found.value

    return cpu_seconds(lambda: np.array([one(i) for i in which]))


def against_scipy(repetitions: int, *, sample: int, powell_sample: int, largest: int = 3840) -> pd.DataFrame:
    """Our optimiser against scipy's: one row per comparison and repetition, on one thread.

    Columns: `step`, `n`, `problems`, `repetition`, `ours` and `scipy` (CPU seconds per problem), `ratio`, `alone` (ours
    one problem at a time, over ours), `not above` and `below` (shares of problems where the best of our restarts is at
    most scipy's, and where it is lower by 1%). Scipy solves about `sample` (`powell_sample`) of the problems, spread
    evenly over the settings.
    """
    joint_sizes = ((5, 96), (5, min(largest, 3840)), (11, 480))
    with threads(1):
        # What happens once only (libraries that load, memory that is fetched) is no part of either.
        _joint_row(96, n=5, sample=RESTARTS["joint"], seed=repetitions)
        _reoptimisation_row(54, n=5, sample=RESTARTS["reoptimisation"], seed=repetitions)
        rows = [
            _joint_row(count, n=n, sample=sample, seed=repetition)
            for repetition in range(repetitions)
            for n, count in joint_sizes
        ]
        rows += [
            _reoptimisation_row(count, n=n, sample=powell_sample, seed=repetition)
            for repetition in range(repetitions)
            for n, count in ((5, 108), (11, 54))
        ]
    return pd.DataFrame(rows)


def against_sklearn(
    X: Float[ndarray, "layers n d"],
    y: Bool[ndarray, "features n"],
    *,
    use: Bool[ndarray, "features n"] | None = None,
    strength: float = 1.0,
    repetitions: int = 3,
    tol: float = 1e-2,
    sklearn_tol: float = 1e-4,
) -> pd.DataFrame:
    """CPU seconds of `fit` and of a loop over scikit-learn's, one thread each: repetition, batched, sklearn, ratio.

    `batched_cosine` and `sklearn_cosine` are the worst with the optimum (`fit` in float64 to 1e-8): the ratio counts
    where the batched fit is at least as accurate, as it is with the default tolerances; scikit-learn's is its own.
    """
    use = np.ones_like(y) if use is None else use
    exact = fit.fit(np.asarray(X, np.float64), y, use, strengths=strength, tol=1e-8, device="cpu")
    optimum = exact.weights[0]

    def batched() -> ndarray:
        return fit.fit(X, y, use, strengths=strength, tol=tol, device="cpu").weights[0]

    def loop() -> ndarray:
        found = []
        for x, (labels, used) in itertools.product(X, list(zip(y, use, strict=True))):
            model = LogisticRegression(C=strength, class_weight="balanced", tol=sklearn_tol, max_iter=100_000)
            found.append(model.fit(x[used], labels[used]).coef_[0])
        return np.reshape(found, optimum.shape)

    def cosine(w: ndarray) -> float:
        lengths = np.linalg.norm(w, axis=-1) * np.linalg.norm(optimum, axis=-1)
        return float(((w * optimum).sum(-1) / lengths).min())

    rows = []
    with threads(1), threadpool_limits(1):
        for repetition in range(repetitions):
            (ours, seconds), (theirs, their_seconds) = cpu_seconds(batched), cpu_seconds(loop)
            row = {"repetition": repetition, "batched": seconds, "batched_cosine": cosine(ours)}
            rows.append(row | {"sklearn": their_seconds, "sklearn_cosine": cosine(theirs)})
    return pd.DataFrame(rows).assign(ratio=lambda table: table["sklearn"] / table["batched"])


def _joint_row(count: int, *, n: int, sample: int, seed: int) -> dict:
    restarts = RESTARTS["joint"]
    g = grid(count, n=n, restarts=restarts, seed=seed)
    values, seconds = joint(g)
    which = _spread(count, restarts=restarts, sample=sample)
    theirs, their_seconds = joint_scipy(g, which)
    alone = _few(which)
    single = cpu_seconds(lambda: [_joint_alone(g, i) for i in alone])[1] / len(alone)
    names = {"step": "joint", "n": n, "problems": count, "repetition": seed}
    return (
        names
        | _times(ours=seconds / count, scipy=their_seconds / len(which), alone=single)
        | _lower(values[which].numpy(), theirs, restarts=restarts)
    )


def _joint_alone(g: Grid, i: int) -> matching.Matched:
    strength = g.strength[i].item()
    p = objective.problems(
        1, g.kernels[i], kind=g.kinds[i], target=g.target[i], strength=strength, norms=g.norms[i]
    )
    return matching.joint(p, g.start[i : i + 1])


def _reoptimisation_row(count: int, *, n: int, sample: int, seed: int) -> dict:
    restarts = RESTARTS["reoptimisation"]
    kernels, start, norms = reoptimisation_grid(count, n=n, seed=seed)
    values, seconds = reoptimise(kernels, start, norms=norms)
    which = _spread(count, restarts=restarts, sample=sample)
    theirs, their_seconds = reoptimise_scipy(kernels, start, norms=norms, which=which)
    alone = _few(which)
    single = sum(reoptimise([kernels[i]], start[i : i + 1], norms=norms[i : i + 1])[1] for i in alone) / len(
        alone
    )
    names = {"step": "re-optimisation", "n": n, "problems": count, "repetition": seed}
    return (
        names
        | _times(ours=seconds / count, scipy=their_seconds / len(which), alone=single)
        | _lower(values[which].numpy(), theirs, restarts=restarts)
    )


def _spread(count: int, *, restarts: int, sample: int) -> list[int]:
    """Whole groups of restarts, spread evenly over the settings, about `sample` problems in all."""
    groups = count // restarts
    wanted = max(min(sample // restarts, groups), 1)
    chosen = np.unique(np.linspace(0, groups - 1, wanted).round().astype(int))
    return [int(group) * restarts + i for group in chosen for i in range(restarts)]


def _few(which: Sequence[int]) -> Sequence[int]:
    return which[:: max(len(which) // 6, 1)]


def _times(*, ours: float, scipy: float, alone: float) -> dict:
    return {"ours": ours, "scipy": scipy, "ratio": scipy / ours, "alone": alone / ours}


def _lower(ours: ndarray, theirs: ndarray, *, restarts: int) -> dict:
    best, peer = ours.reshape(-1, restarts).min(1), theirs.reshape(-1, restarts).min(1)
    size = np.maximum(np.abs(peer), 1e-12)
    return {
        "not above": float(np.mean(best <= peer + LOWER * size)),
        "below": float(np.mean(best < peer - 0.01 * size)),
    }
