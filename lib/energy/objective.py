"""Energies and similarities between feature directions, with their gradients in closed form (thesis slides 2024).

A configuration is n features in f dimensions, x `(problems, n, f)`. Each problem of a batch may have its own
kernel K, similarity d_p, target T, weights and norms; fewer dimensions than f are zeros at the end, which stay
zeros under any gradient step.

    L(x, w) = sum_ij K(x_i, x_j) w~_i w~_j + lambda_d sum_ij (d_p(x_i, x_j) - T_ij)^2,   w~ = softmax(w)

The sums go over ordered pairs. Those with i = j count in the first sum only if `diagonal` says so: the slides leave
this open, -log and Riesz kernels are infinite there, and what becomes of the weights depends on it.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.common.errors import UserError


class Kernel(NamedTuple):
    """K = scale exp(cosine cos + power log D) + logarithm log D, D being the squared distance."""

    scale: float | Tensor = 0.0
    cosine: float | Tensor = 0.0
    power: float | Tensor = 0.0
    logarithm: float | Tensor = 0.0


S = 1.0  # of the Riesz kernel |x_i - x_j|^-s
FORMS = {
    "exp": Kernel(scale=1.0, cosine=1.0),  # exp(cos)
    "log": Kernel(logarithm=-0.5),  # -log |x_i - x_j|
    "riesz": Kernel(scale=1.0, power=-S / 2),
}
KERNELS = tuple(FORMS)
SIMILARITIES = ("cosine", "rbf")
C = 200.0  # of the slides' RBF similarity


class EnergyError(UserError, ValueError):
    """A matrix, kernel or configuration that has no energy; one line."""


def similarity(x: Tensor, kind: str = "cosine", *, c: float = C) -> Tensor:
    """Pairwise similarity matrices `(..., n, n)` of directions `(..., n, d)`.

    "cosine": x_i.x_j / (|x_i| |x_j|); "rbf": exp(-|x_i - x_j|^2 / c). Raises EnergyError on another kind, a c that is
    not positive, NaN, and, for the cosine, a direction of length zero.
    """
    _check_similarity(kind, c)
    if not torch.isfinite(x).all():
        raise EnergyError("directions have NaN or infinite entries; a similarity needs finite ones")
    if kind == "cosine":
        norms = x.norm(dim=-1, keepdim=True)
        if (norms == 0).any():
            raise EnergyError("a direction has length zero; it has no cosine with any other")
        u = x / norms
        return (u @ u.mT).clamp(-1, 1)
    return torch.exp(-squared_distances(x) / c)


def squared_distances(x: Tensor) -> Tensor:
    """|x_i - x_j|^2, `(..., n, n)`, exactly 0 on the diagonal."""
    gram = x @ x.mT
    square = gram.diagonal(dim1=-2, dim2=-1)
    distances = (square[..., :, None] + square[..., None, :] - 2 * gram).clamp_min(0)
    return distances * ~torch.eye(x.shape[-2], dtype=torch.bool, device=x.device)


def equal_weights(n: int) -> Tensor:
    """Weights w~ of 1/n each, `(n,)` float64."""
    return torch.full((n,), 1 / n, dtype=torch.float64)


def check_psm(target: Tensor | np.ndarray, *, tolerance: float = 1e-6) -> Tensor:
    """A pairwise similarity matrix or a batch of them, `(..., n, n)` float64, checked: finite and symmetric."""
    target = torch.as_tensor(target, dtype=torch.float64)
    if target.ndim < 2 or target.shape[-1] != target.shape[-2]:
        raise EnergyError(f"a PSM is a square matrix; got shape {tuple(target.shape)}")
    if target.shape[-1] < 2:
        raise EnergyError("a PSM needs at least two features; got one")
    if not torch.isfinite(target).all():
        raise EnergyError("the PSM has NaN or infinite entries; fit the probes behind it again or drop them")
    off = (target - target.mT).abs().max().item()
    if off > tolerance:
        raise EnergyError(f"the PSM is not symmetric: entries differ from their mirrors by up to {off:.3g}")
    return (target + target.mT) / 2


@dataclass(frozen=True)
class Problems:
    """A batch of b problems with n features each, made by `problems`; a field that is None plays no part in them.

    `kernels` `(b, 4, 1, 1)`: the four numbers of each problem's `Kernel`. `own` `(b,)`: K(x_i, x_i) where i = j counts,
    else 0. `target` `(b, n, n)` and `strength` `(b,)`: T and lambda_d; `rbf` `(b,)`: 1 where the similarity is RBF.
    `weights` `(b, n)`: w~, fixed (None: free, the softmax of n variables). `norms` `(b, n)`: |x_i|, held exactly (None:
    free). What follows from them is computed once: `pairs` w~_i w~_j, 0 at i = j; `alone` `(b,)`, the energy of i = j;
    `inverse` 1 / (|x_i| |x_j|) and `squares` |x_i|^2 + |x_j|^2.
    """

    kernels: Tensor
    own: Tensor
    rbf: Tensor
    target: Tensor | None
    strength: Tensor | None
    weights: Tensor | None
    norms: Tensor | None
    pairs: Tensor | None
    alone: Tensor | None
    inverse: Tensor | None
    squares: Tensor | None
    c: float
    any_rbf: bool

    def __len__(self) -> int:
        return len(self.kernels)

    def __getitem__(self, index: Tensor) -> "Problems":
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: v[index] for k, v in values.items() if isinstance(v, Tensor)})


def problems(
    count: int,
    kernel: str | list[str] = "exp",
    *,
    kind: str | list[str] = "cosine",
    target: Tensor | None = None,
    strength: float | Tensor = 1.0,
    weights: Tensor | None = None,
    norms: Tensor | None = None,
    diagonal: bool = False,
    c: float = C,
) -> Problems:
    """A batch of `count` problems from names and values; a single name or value applies to all of them.

    `kernel`: of KERNELS; `kind`: of SIMILARITIES. `target` `(n, n)` or `(count, n, n)`, `weights` and `norms` `(n,)` or
    `(count, n)`; without them, weights and norms are free. `strength`: lambda_d. `diagonal`: whether i = j counts, for
    the kernel exp alone. Raises EnergyError on anything that no problem can have.
    """
    kernels = [kernel] * count if isinstance(kernel, str) else list(kernel)
    kinds = [kind] * count if isinstance(kind, str) else list(kind)
    if len(kernels) != count or len(kinds) != count:
        raise EnergyError(f"{len(kernels)} kernels and {len(kinds)} similarities for {count} problems")
    for name in set(kinds):
        _check_similarity(name, c)
    for name in set(kernels):
        if name not in KERNELS:
            raise EnergyError(f"kernel {name!r} is not known; known are {', '.join(KERNELS)}")
    if diagonal and set(kernels) != {"exp"}:
        raise EnergyError("the kernels log and riesz are infinite at i = j; diagonal=True is for exp alone")
    if norms is not None and not (torch.as_tensor(norms) > 0).all():
        raise EnergyError(f"norms must be positive; the smallest given is {torch.as_tensor(norms).min():g}")
    target = None if target is None else _repeated(check_psm(target), count, dims=2)
    weights = None if weights is None else _repeated(weights, count, dims=1)
    norms = None if norms is None else _repeated(norms, count, dims=1)
    square = None if norms is None else norms.square()
    own = torch.full((count,), math.e if diagonal else 0.0, dtype=torch.float64)
    return Problems(
        kernels=torch.tensor([FORMS[name] for name in kernels], dtype=torch.float64)[:, :, None, None],
        own=own,
        rbf=torch.tensor([float(name == "rbf") for name in kinds], dtype=torch.float64),
        target=target,
        strength=None if target is None else _repeated(strength, count, dims=0),
        weights=weights,
        norms=norms,
        pairs=None if weights is None else _pairs(weights),
        alone=None if weights is None else own * weights.square().sum(-1),
        inverse=None if norms is None else 1 / (norms[:, :, None] * norms[:, None, :]),
        squares=None if norms is None else square[:, :, None] + square[:, None, :],
        c=c,
        any_rbf=target is not None and "rbf" in kinds,
    )


def objective(x: Tensor, w: Tensor | None, p: Problems) -> tuple[Tensor, Tensor, Tensor | None]:
    """L `(b,)` of configurations x `(b, n, f)`, and its gradients in x and, where they are free, in w `(b, n)`.

    All of L depends on x through its Gram matrix G alone, and the gradient in x is 2 (dL/dG) x. If norms are held, x
    must have them, and the gradient is the one along their spheres.
    """
    gram = x @ x.mT
    if p.norms is None:
        square = gram.diagonal(dim1=-2, dim2=-1).clamp_min(1e-300)
        squares = square[:, :, None] + square[:, None, :]
        inverse = square.rsqrt()
        inverse = inverse[:, :, None] * inverse[:, None, :]
    else:
        squares, inverse = p.squares, p.inverse
    cosine = gram * inverse
    # Two features in one place have the energy of a very small distance; i = j is not used, but must be finite.
    distance = torch.add(squares, gram, alpha=-2).clamp_min_(1e-300)
    distance.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    kernel = Kernel(*p.kernels.unbind(1))
    logarithm = distance.log()
    power = kernel.scale * torch.addcmul(kernel.cosine * cosine, kernel.power, logarithm).exp_()
    value = torch.addcmul(power, kernel.logarithm, logarithm)

    if p.weights is None:
        weights = torch.softmax(w, -1)
        pull = (value * _off(value) @ weights[:, :, None]).squeeze(-1) + p.own[:, None] * weights
        loss = (weights * pull).sum(-1)
        in_w = 2 * weights * (pull - loss[:, None])
        pairs = _pairs(weights)
    else:
        pairs, in_w = p.pairs, None
        loss = (pairs * value).sum((-2, -1)) + p.alone
    by_cosine = pairs * kernel.cosine * power
    by_distance = pairs * torch.addcmul(kernel.logarithm, kernel.power, power) / distance

    if p.target is not None:
        likeness = cosine
        if p.any_rbf:
            rbf = p.rbf[:, None, None]
            gaussian = torch.exp(distance / -p.c)
            likeness = torch.lerp(cosine, gaussian, rbf)
        off = _off(likeness)
        error = torch.lerp(likeness, 1 - off, 1 - off) - p.target
        slope = p.strength[:, None, None] * error
        loss = loss + (slope * error).sum((-2, -1))
        slope = slope * off
        if p.any_rbf:
            by_cosine = torch.addcmul(by_cosine, slope, 1 - rbf, value=2)
            by_distance = torch.addcmul(by_distance, slope * gaussian, rbf, value=-2 / p.c)
        else:
            by_cosine = torch.add(by_cosine, slope, alpha=2)

    in_gram = torch.add(by_cosine * inverse, by_distance, alpha=-2)
    in_x = 2 * (in_gram @ x)
    if p.norms is not None:
        return loss, tangent(in_x, x, square=gram.diagonal(dim1=-2, dim2=-1)[..., None]), in_w
    own = 2 * by_distance.sum(-1) - (by_cosine * cosine).sum(-1) / square
    return loss, torch.addcmul(in_x, own[:, :, None], x, value=2), in_w


def energy(
    x: Tensor, kernel: str = "exp", *, weights: Tensor | None = None, diagonal: bool = False
) -> Tensor:
    """sum_ij K(x_i, x_j) w~_i w~_j of configurations `(b, n, f)`, `(b,)`; weights 1/n each if none are given.

    Raises EnergyError if it is not finite (two features in one place, for the kernels log and riesz) and if a
    direction of length zero has no cosine (exp).
    """
    x = torch.as_tensor(x, dtype=torch.float64)
    weights = equal_weights(x.shape[-2]) if weights is None else weights
    made = problems(len(x), kernel, weights=weights, diagonal=diagonal)
    if not torch.isfinite(x).all():
        raise EnergyError("the energy is not finite: the configuration has NaN or infinite entries")
    if kernel == "exp" and (x == 0).all(-1).any():
        raise EnergyError("a direction has length zero; it has no cosine with any other")
    if kernel != "exp":
        apart = squared_distances(x) + torch.eye(x.shape[-2])
        if (apart <= 0).any():
            raise EnergyError(f"the energy is not finite: two features coincide, and the kernel is {kernel}")
    return objective(x, None, made)[0]


def held(u: Tensor, norms: Tensor) -> Tensor:
    """n_i u_i / |u_i|: the configuration `(b, n, f)` on spheres of radii `norms` `(b, n)`."""
    return norms[..., None] * u / u.norm(dim=-1, keepdim=True)


def tangent(direction: Tensor, x: Tensor, *, square: float | Tensor | None = None) -> Tensor:
    """The part of `direction` `(b, n, f)` along the spheres of x: orthogonal to each x_i.

    `square`: |x_i|^2 if it is known, `(b, n, 1)` or one number.
    """
    square = x.square().sum(-1, keepdim=True) if square is None else square
    along = (direction * x).sum(-1, keepdim=True) / square
    return torch.addcmul(direction, along, x, value=-1)


def simplex(n: int, *, f: int | None = None) -> Tensor:
    """n unit vectors with pairwise cosines -1/(n - 1), `(n, f)`; f is n - 1 unless given, and at least that."""
    f = n - 1 if f is None else f
    if n < 2 or f < n - 1:
        raise EnergyError(
            f"a simplex of n = {n} features needs n >= 2 and f >= n - 1 dimensions; got f = {f}"
        )
    centred = torch.eye(n, dtype=torch.float64) - 1 / n
    vectors, values, _ = torch.linalg.svd(centred)
    points = torch.zeros(n, f, dtype=torch.float64)
    points[:, : n - 1] = vectors[:, : n - 1] * values[: n - 1]
    return points / points.norm(dim=-1, keepdim=True)


def _off(matrices: Tensor) -> Tensor:
    """0 at i = j, else 1: `(n, n)` for matrices `(..., n, n)`."""
    return 1 - torch.eye(matrices.shape[-1], dtype=matrices.dtype)


def _repeated(value: float | Tensor, count: int, *, dims: int) -> Tensor:
    """A value with `dims` dimensions, or `count` of them, as `(count, ...)` float64."""
    value = torch.as_tensor(value, dtype=torch.float64)
    return value.expand(count, *value.shape[value.ndim - dims :]).contiguous()


def _pairs(weights: Tensor) -> Tensor:
    return weights[:, :, None] * weights[:, None, :] * _off(weights)


def _check_similarity(kind: str, c: float) -> None:
    if kind not in SIMILARITIES:
        raise EnergyError(f"similarity {kind!r} is not known; known are {', '.join(SIMILARITIES)}")
    if not c > 0 or c == float("inf"):
        raise EnergyError(f"C is {c:g}; exp(-|x_i - x_j|^2 / C) needs a positive, finite C")
