"""The batched energy optimiser against scipy on the same problems: CPU time, and whose optimum is lower."""

import itertools
import time
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.energy import matching, objective
from lib.studies.psm_energy import slides

RESTARTS = {"joint": 4, "reoptimisation": 2}
LOWER = 1e-6  # of a value: by so much it may be above and still count as equal


@dataclass(frozen=True)
class Grid:
    """Problems of one size, restarts of a problem next to each other; the entries of `settings` name each problem."""

    kernels: list[str]
    kinds: list[str]
    f: Tensor
    strength: Tensor
    target: Tensor
    norms: Tensor
    start: Tensor

    def __len__(self) -> int:
        return len(self.kernels)


def grid(count: int, n: int, restarts: int, seed: int = 0) -> Grid:
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
    start = objective.held(matching.starts(count, n, f, generator), norms)
    return Grid(list(kernels), list(kinds), f, torch.tensor(strength), target, norms, start)


def joint(g: Grid) -> tuple[Tensor, float]:
    """Values `(b,)` and CPU seconds of our joint step, norms held and weights free."""
    began = time.process_time()
    p = objective.problems(len(g), g.kernels, g.kinds, g.target, g.strength, norms=g.norms)
    return matching.joint(p, g.start).value, time.process_time() - began


def joint_scipy(g: Grid, which) -> tuple[np.ndarray, float]:
    """The same by scipy's conjugate gradient with exact gradients, one problem after the other."""
    began, values = time.process_time(), []
    for i in which:
        setting = slides.Setting(g.kernels[i], g.kinds[i])
        start = g.start[i, :, : g.f[i]].numpy()
        found = slides.joint(g.target[i].numpy(), start, setting, g.strength[i].item(), g.norms[i].numpy())
        values.append(found.value)
    return np.array(values), time.process_time() - began


def reoptimisation_grid(count: int, n: int, seed: int = 0) -> tuple[list[str], Tensor, Tensor]:
    """Kernels, starts `(count, n, f)` and norms: kernels x dimensions x sigma x restarts, around random vectors."""
    generator = torch.Generator().manual_seed(seed)
    fs, sigmas = (n // 2, n - 2, n - 1), (0.01, 0.1, 0.3)
    cells = list(itertools.product(objective.KERNELS, fs, sigmas))
    if count % len(cells):
        raise ValueError(f"{count} problems do not fill {len(cells)} settings")
    kernels, f, sigma = zip(*(cell for cell in cells for _ in range(count // len(cells))), strict=True)
    x = matching.starts(count, n, torch.tensor(f), generator)
    restarts = RESTARTS["reoptimisation"]  # of one problem: they have the same norms to hold
    norms = 1 + torch.rand(count // restarts, n, generator=generator, dtype=torch.float64)
    norms = norms.repeat_interleave(restarts, 0)
    x = objective.held(x, norms)
    return list(kernels), matching.perturb(x, torch.tensor(sigma), generator), norms


def reoptimise(kernels: list[str], start: Tensor, norms: Tensor) -> tuple[Tensor, float]:
    """Energies `(b,)` and CPU seconds of our re-optimisation, weights 1/n."""
    began = time.process_time()
    n = start.shape[1]
    equal = torch.full((n,), 1 / n, dtype=torch.float64)
    values = matching.reoptimise(start, equal, kernels, norms=norms).value
    return values, time.process_time() - began


def reoptimise_scipy(kernels, start, norms, which, penalty: float = 100.0) -> tuple[np.ndarray, float]:
    """The same by scipy's Powell with the slides' penalty: the penalised values."""
    began, values, n = time.process_time(), [], start.shape[1]
    for i in which:
        used = (start[i] != 0).any(0)
        setting = slides.Setting(kernels[i])
        x = start[i][:, used].numpy()
        values.append(slides.reoptimise(x, norms[i].numpy(), np.full(n, 1 / n), setting, penalty).value)
    return np.array(values), time.process_time() - began


def compare(repetitions: int, sample: int, powell_sample: int, largest: int = 3840) -> pd.DataFrame:
    """Ours against scipy: one row a comparison and repetition, on one thread.

    Columns: `step`, `n`, `problems`, `repetition`, `ours` and `scipy` (CPU seconds a problem), `ratio`, `alone` (ours
    one problem at a time, over ours), `not above` and `below` (shares of problems where the best of our restarts is at
    most scipy's, and where it is lower by 1%). Scipy solves some `sample` (`powell_sample`) of the problems, spread
    evenly over the settings.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        # What happens once only (libraries that load, memory that is fetched) is no part of either.
        _joint_row(96, 5, RESTARTS["joint"], repetitions)
        _reoptimisation_row(54, 5, RESTARTS["reoptimisation"], repetitions)
        rows = [
            _joint_row(count, n, sample, repetition)
            for repetition in range(repetitions)
            for n, count in ((5, 96), (5, min(largest, 3840)), (11, 480))
        ]
        rows += [
            _reoptimisation_row(count, n, powell_sample, repetition)
            for repetition in range(repetitions)
            for n, count in ((5, 108), (11, 54))
        ]
    finally:
        torch.set_num_threads(threads)
    return pd.DataFrame(rows)


def _joint_row(count: int, n: int, sample: int, seed: int) -> dict:
    restarts = RESTARTS["joint"]
    g = grid(count, n, restarts, seed)
    values, seconds = joint(g)
    which = _spread(count, restarts, sample)
    theirs, their_seconds = joint_scipy(g, which)
    alone = _few(which)
    began = time.process_time()
    for i in alone:
        p = objective.problems(
            1, g.kernels[i], g.kinds[i], g.target[i], g.strength[i].item(), norms=g.norms[i]
        )
        matching.joint(p, g.start[i : i + 1])
    single = (time.process_time() - began) / len(alone)
    return _row("joint", n, count, seed, seconds / count, their_seconds / len(which), single) | _lower(
        values[which].numpy(), theirs, restarts
    )


def _reoptimisation_row(count: int, n: int, sample: int, seed: int) -> dict:
    restarts = RESTARTS["reoptimisation"]
    kernels, start, norms = reoptimisation_grid(count, n, seed)
    values, seconds = reoptimise(kernels, start, norms)
    which = _spread(count, restarts, sample)
    theirs, their_seconds = reoptimise_scipy(kernels, start, norms, which)
    alone = _few(which)
    single = sum(reoptimise([kernels[i]], start[i : i + 1], norms[i : i + 1])[1] for i in alone) / len(alone)
    return _row(
        "re-optimisation", n, count, seed, seconds / count, their_seconds / len(which), single
    ) | _lower(values[which].numpy(), theirs, restarts)


def _spread(count: int, restarts: int, sample: int) -> list[int]:
    """Whole groups of restarts, spread evenly over the settings, some `sample` problems in all."""
    groups = count // restarts
    chosen = np.unique(
        np.linspace(0, groups - 1, max(min(sample // restarts, groups), 1)).round().astype(int)
    )
    return [group * restarts + i for group in chosen for i in range(restarts)]


def _few(which: list[int]) -> list[int]:
    return which[:: max(len(which) // 6, 1)]


def _row(step, n, problems, repetition, ours, scipy, alone) -> dict:
    names = {"step": step, "n": n, "problems": problems, "repetition": repetition}
    return names | {"ours": ours, "scipy": scipy, "ratio": scipy / ours, "alone": alone / ours}


def _lower(ours: np.ndarray, theirs: np.ndarray, restarts: int) -> dict:
    best, peer = ours.reshape(-1, restarts).min(1), theirs.reshape(-1, restarts).min(1)
    size = np.maximum(np.abs(peer), 1e-12)
    return {
        "not above": float(np.mean(best <= peer + LOWER * size)),
        "below": float(np.mean(best < peer - 0.01 * size)),
    }
