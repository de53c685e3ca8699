"""Energy matching, done properly: the slides' two steps with norms held exactly, for a batch of problems at once.

The joint step fits a configuration to a target pairwise similarity matrix (PSM) and lowers its energy; the
re-optimisation forgets the target, holds the norms and lowers the energy from a perturbed start (thesis slides 2024).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from lib.energy.minimise import Minimum, minimise
from lib.energy.objective import EnergyError, Problems, check_psm, objective, problems, similarity, tangent

DENSE = 256  # variables up to which whole inverse Hessians fit into memory for thousands of problems


@dataclass(frozen=True)
class Matched:
    """Where b problems ended: x `(b, n, f)`, w~ `(b, n)`, the loss, the largest entry of its projected gradient, ..."""

    x: Tensor
    weights: Tensor
    value: Tensor
    gradient: Tensor
    evaluations: Tensor
    converged: Tensor

    def __getitem__(self, index: Tensor) -> "Matched":
        return Matched(*(getattr(self, name)[index] for name in self.__dataclass_fields__))


def starts(count: int, *, n: int, f: int | Tensor, generator: torch.Generator) -> Tensor:
    """Gaussian configurations `(count, n, f)`; where f is a tensor `(count,)`, with zeros beyond each problem's own."""
    f = torch.as_tensor(f)
    if (f < 1).any():
        raise EnergyError(f"f is {int(f.min())}; a configuration needs at least one dimension")
    x = torch.randn(count, n, int(f.max()), generator=generator, dtype=torch.float64)
    return x * (torch.arange(x.shape[-1]) < f.reshape(-1, 1, 1))


def joint(p: Problems, start: Tensor, *, tolerance: float = 1e-6, evaluations: int = 1000) -> Matched:
    """The joint step: minimises `p`'s loss over x from `start` `(b, n, f)`, and over free weights from equal ones."""
    b, n, f = start.shape
    free = 0 if p.weights is not None else n  # variables beside x
    own = p  # those of the problems that are still in the batch

    def function(z, which):
        nonlocal own
        if len(which) < len(own):
            own = p[which]
        # Where norms are held, the variables are unit vectors: all then have the same units, whatever the norms.
        length = 1.0 if own.norms is None else own.norms[..., None]
        x = length * z[:, : n * f].reshape(-1, n, f)
        value, in_x, in_w = objective(x, z[:, n * f :] if free else None, own)
        in_x = length * in_x
        return value, in_x.flatten(1) if in_w is None else torch.cat([in_x.flatten(1), in_w], 1)

    spheres = None if p.norms is None else _Spheres(n, f)
    x = start if spheres is None else torch.nn.functional.normalize(start, dim=-1)
    z = torch.cat([x.flatten(1), torch.zeros(b, free, dtype=torch.float64)], 1)
    # A target with a large lambda_d makes a problem ill-conditioned.
    dense = p.target is not None and z.shape[1] <= DENSE
    found = minimise(function, z, tolerance=tolerance, evaluations=evaluations, manifold=spheres, dense=dense)
    return _matched(found, p, n, f)


def reoptimise(
    x: Tensor,
    weights: Tensor,
    *,
    kernel: str | list[str] = "exp",
    norms: Tensor | None = None,
    tolerance: float = 1e-6,
    evaluations: int = 1000,
) -> Matched:
    """The re-optimisation: local minima of the energy from x `(b, n, f)`, weights fixed, |x_i| held at `norms`.

    Norms are those of x unless given: those of a perturbed start are not the ones to hold.
    """
    norms = torch.as_tensor(x.norm(dim=-1) if norms is None else norms, dtype=torch.float64).expand(
        x.shape[:2]
    )
    # The minima are the same in any unit of length; in this one, a gradient below the tolerance means something.
    unit = norms.mean(-1, keepdim=True)
    p = problems(len(x), kernel, weights=weights, norms=norms / unit)
    found = joint(p, x, tolerance=tolerance, evaluations=evaluations)
    x = found.x * unit[..., None]
    return replace(found, x=x, value=objective(x, None, replace(p, norms=None))[0])


def perturb(x: Tensor, sigma: float | Tensor, *, generator: torch.Generator) -> Tensor:
    """x `(b, n, f)` plus isotropic Gaussian noise with standard deviation sigma |x_i| in each dimension that x uses."""
    sigma = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1)
    used = (x != 0).any(-2, keepdim=True)
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x + sigma * x.norm(dim=-1, keepdim=True) * noise * used


def fit(target: Tensor, f: int, *, restarts: int = 8, seed: int = 0) -> Matched:
    """Unit vectors in f dimensions whose cosines are nearest to each target `(b, n, n)`: the best of `restarts`."""
    target = check_psm(target)
    b, n = target.shape[:2]
    repeated = target.repeat_interleave(restarts, 0)
    ones = torch.ones(n, dtype=torch.float64)
    p = problems(b * restarts, target=repeated, weights=torch.zeros(n), norms=ones)
    generator = torch.Generator().manual_seed(seed)
    found = joint(p, starts(b * restarts, n=n, f=f, generator=generator))
    return found[best(found.value, restarts)]


def best(value: Tensor, restarts: int) -> Tensor:
    """Where each problem's lowest value is, `(b,)`, in values `(b * restarts,)` with a problem's restarts adjacent."""
    value = value.reshape(-1, restarts)
    return value.argmin(1) + torch.arange(len(value)) * restarts


def distance(a: Tensor, b: Tensor, *, p: float = 2.0) -> Tensor:
    """Minkowski distance of PSMs `(..., n, n)`: (sum_ij |a_ij - b_ij|^p)^(1/p), over ordered pairs."""
    return (a - b).abs().pow(p).sum((-2, -1)).pow(1 / p)


def psm(matched: Matched, kind: str = "cosine", **settings) -> Tensor:
    """The PSMs `(b, n, n)` of the configurations at which problems ended; `settings` as `similarity`."""
    return similarity(matched.x, kind, **settings)


@dataclass(frozen=True)
class _Spheres:
    """Unit spheres, one per feature: steps start along them and end on them. Free weights beside them are untouched."""

    n: int
    f: int

    def tangent(self, direction: Tensor, z: Tensor) -> Tensor:
        u, d = (self._vectors(t) for t in (z, direction))
        return self._beside(tangent(d, u, square=1.0), direction)

    def retract(self, z: Tensor) -> Tensor:
        u = self._vectors(z)
        return self._beside(u / torch.linalg.vector_norm(u, dim=-1, keepdim=True), z)

    def _vectors(self, z: Tensor) -> Tensor:
        return z[:, : self.n * self.f].reshape(-1, self.n, self.f)

    def _beside(self, vectors: Tensor, z: Tensor) -> Tensor:
        flat = vectors.flatten(1)
        return flat if flat.shape[1] == z.shape[1] else torch.cat([flat, z[:, flat.shape[1] :]], 1)


def _matched(found: Minimum, p: Problems, n: int, f: int) -> Matched:
    x = found.z[:, : n * f].reshape(-1, n, f)
    x = x if p.norms is None else p.norms[..., None] * x
    weights = torch.softmax(found.z[:, n * f :], -1) if p.weights is None else p.weights
    return Matched(x, weights, found.value, found.gradient, found.evaluations, found.converged)
