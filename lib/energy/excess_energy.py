"""Excess energy: how near a pairwise similarity matrix (PSM) is to an energy's minimum, without a perturbation.

All is on unit directions with weights 1/n: a cosine PSM says nothing about norms. E is the energy over i != j, by
`lib.energy.objective`; the excess energy is (E - E_min) / (E_random - E_min), 0 at the lowest minimum and 1 at random
vectors. `measure` returns it, beside the gradient and the distance to the minimum below.
A target PSM is read as the configuration in f dimensions whose cosines are nearest to it (`lib.energy.matching.fit`).
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from lib.energy import matching
from lib.energy.objective import energy, equal_weights, held, objective, problems, similarity, simplex

RESTARTS = 40
DRAWS = 2000


@dataclass(frozen=True)
class Minima:
    """The distinct local minima that restarts found, told apart by their energy, lowest first.

    `values` `(m,)`; `counts` `(m,)`: restarts that ended there; `x` `(m, n, f)`; `gradient`: the largest entry of any
    projected gradient; `converged`: share of the restarts that converged.
    """

    values: Tensor
    counts: Tensor
    x: Tensor
    gradient: float
    converged: float


@dataclass(frozen=True)
class Measured:
    """The statistics of b targets, `(b,)` each: see `measure`."""

    misfit: Tensor
    excess: Tensor
    gradient: Tensor
    distance: Tensor
    converged: Tensor


@lru_cache(maxsize=256)
def minima(n: int, *, f: int, kernel: str = "exp", restarts: int = RESTARTS, seed: int = 0) -> Minima:
    """The minima of the energy of n unit vectors in f dimensions, from `restarts` Gaussian starts."""
    generator = torch.Generator().manual_seed(seed)
    start = matching.starts(restarts, n=n, f=f, generator=generator)
    ones = torch.ones(restarts, n, dtype=start.dtype)
    found = matching.reoptimise(start, equal_weights(n), kernel=kernel, norms=ones)
    settled = found.converged.nonzero()[:, 0]
    order = settled[found.value[settled].argsort()]
    values = found.value[order]
    # A family of configurations with one energy counts once, whatever its dimension.
    first = torch.ones(len(values), dtype=torch.bool)
    first[1:] = values[1:] - values[:-1] > 1e-7 * values[1:].abs()
    return Minima(
        values[first],
        torch.bincount(first.cumsum(0) - 1),
        found.x[order[first]],
        found.gradient[settled].max().item(),
        found.converged.double().mean().item(),
    )


@lru_cache(maxsize=256)
def random_energy(n: int, *, f: int, kernel: str = "exp", seed: int = 0) -> float:
    """The mean energy of n independent unit vectors in f dimensions."""
    x = matching.starts(DRAWS, n=n, f=f, generator=torch.Generator().manual_seed(seed))
    return energy(x / x.norm(dim=-1, keepdim=True), kernel).mean().item()


@lru_cache(maxsize=256)
def random_gradient(n: int, *, f: int, kernel: str = "exp", seed: int = 0) -> float:
    """The median norm of the projected gradient at n independent unit vectors in f dimensions."""
    x = matching.starts(DRAWS, n=n, f=f, generator=torch.Generator().manual_seed(seed))
    return projected_gradient(x / x.norm(dim=-1, keepdim=True), kernel).median().item()


def projected_gradient(x: Tensor, kernel: str = "exp") -> Tensor:
    """The norm of the energy's gradient on the spheres of x `(b, n, f)`, `(b,)`."""
    p = problems(len(x), kernel, weights=equal_weights(x.shape[-2]), norms=x.norm(dim=-1))
    return objective(x, None, p)[1].flatten(1).norm(dim=-1)


def measure(
    target: Tensor, f: int, *, kernel: str = "exp", fitted: matching.Matched | None = None
) -> Measured:
    """The statistics of target PSMs `(b, n, n)` in f dimensions; `fitted` saves `matching.fit` for another kernel.

    `misfit`: distance of the fitted PSM from the target; `excess`: the excess energy of the fitted configuration;
    `gradient`: norm of the projected gradient, 1 for random vectors; `distance`: between the fitted PSM and that of
    the local minimum below it, 0 where the target is one.
    """
    n = target.shape[-1]
    fitted = matching.fit(target, f) if fitted is None else fitted
    lowest = minima(n, f=f, kernel=kernel).values[0].item()
    ended = matching.reoptimise(fitted.x, equal_weights(n), kernel=kernel)
    here = energy(fitted.x, kernel)
    found = matching.psm(fitted)
    return Measured(
        matching.distance(found, target),
        (here - lowest) / (random_energy(n, f=f, kernel=kernel) - lowest),
        projected_gradient(fitted.x, kernel) / random_gradient(n, f=f, kernel=kernel),
        matching.distance(matching.psm(ended), found),
        ended.converged,
    )


def simplex_distance(target: Tensor) -> Tensor:
    """Minkowski distance of PSMs `(b, n, n)` from the simplex, whose cosines are all -1/(n - 1)."""
    return matching.distance(target, similarity(simplex(target.shape[-1])))


def path(start: Tensor, end: Tensor, *, kernel: str = "exp", steps: int = 41) -> Tensor:
    """The energy along the path from one configuration `(n, f)` to another on the spheres of the first, `(steps,)`."""
    share = torch.linspace(0, 1, steps, dtype=torch.float64)[:, None, None]
    norms = start.norm(dim=-1).expand(steps, -1)
    return energy(held((1 - share) * start + share * end, norms), kernel)


def planted_minimiser(
    n: int,
    *,
    f: int,
    d: int,
    noise: float,
    count: int,
    generator: torch.Generator,
    kernel: str = "exp",
) -> Tensor:
    """The positive control: an exact minimiser in f dimensions, rotated into d and blurred, `(count, n, d)`.

    Each direction gets Gaussian noise of length `noise` (in units of the direction's own, 1).
    """
    x = minima(n, f=f, kernel=kernel).x[0]
    turn = torch.linalg.qr(torch.randn(count, d, f, generator=generator, dtype=x.dtype))[0]
    blur = torch.randn(count, n, d, generator=generator, dtype=x.dtype) / d**0.5
    return x @ turn.mT + noise * blur
