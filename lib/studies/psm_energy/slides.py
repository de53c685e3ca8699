"""Energy matching as in the slides: one problem at a time through scipy, conjugate gradient and then Powell's method.

The joint step has the gradient in closed form; the re-optimisation holds the norms by a penalty, lambda_x times the sum
of | |x_i| - n_i |, which has no gradient where it is kept, and so asks for a method without one.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import minimize

from lib.energy.objective import C, S


@dataclass(frozen=True)
class Setting:
    """What the slides vary: kernel, similarity, whether i = j counts, and C."""

    kernel: str = "exp"
    kind: str = "cosine"
    diagonal: bool = False
    c: float = C


@dataclass(frozen=True)
class Stopped:
    """Where scipy stopped: x `(n, f)`, w~ `(n,)`, the loss, function calls, and whether it says that it converged."""

    x: np.ndarray
    weights: np.ndarray
    value: float
    calls: int
    converged: bool


def loss(
    x: np.ndarray, weights: np.ndarray, *, setting: Setting, target=None, strength: float = 1.0
) -> tuple[float, np.ndarray, np.ndarray]:
    """The loss of the joint step, its gradients in x `(n, f)` and w~ `(n,)`; without a target the energy alone."""
    n = len(x)
    off = ~np.eye(n, dtype=bool)
    norms = np.sqrt(np.einsum("if,if->i", x, x))[:, None]
    u = x / norms
    cosine = u @ u.T
    square = norms**2
    distance = np.where(off, square + square.T - 2 * (x @ x.T), 1.0)
    by_cosine, by_distance = np.zeros((n, n)), np.zeros((n, n))
    if setting.kernel == "exp":
        kernel = by_cosine = np.exp(cosine)
    elif setting.kernel == "log":
        kernel, by_distance = -0.5 * np.log(distance), -0.5 / distance
    else:
        kernel = distance ** (-S / 2)
        by_distance = -S / 2 * kernel / distance
    kernel = kernel if setting.diagonal else np.where(off, kernel, 0.0)
    pull = kernel @ weights
    value = weights @ pull
    pairs = np.outer(weights, weights)
    by_cosine, by_distance = by_cosine * pairs, by_distance * pairs
    if target is not None:
        if setting.kind == "cosine":
            error = np.where(off, cosine, 1.0) - target
            by_cosine = by_cosine + 2 * strength * error
        else:
            gaussian = np.where(off, np.exp(-distance / setting.c), 1.0)
            error = gaussian - target
            by_distance = by_distance - 2 * strength * error * gaussian / setting.c
        value = value + strength * np.sum(error * error)
    in_u = 2 * np.where(off, by_cosine, 0.0) @ u
    in_x = (in_u - np.einsum("if,if->i", in_u, u)[:, None] * u) / norms
    by_distance = np.where(off, by_distance, 0.0)
    in_x = in_x + 4 * (by_distance.sum(1)[:, None] * x - by_distance @ x)
    return value, in_x, 2 * pull


def joint(target, start: np.ndarray, *, setting: Setting, strength: float, norms=None) -> Stopped:
    """The joint step from x = `start` `(n, f)` and equal weights, by scipy's conjugate gradient with exact gradients.

    With `norms` `(n,)` the problem is the one of `lib.energy.matching`: x_i = n_i u_i / |u_i|, minimised over u.
    """
    n, f = start.shape

    def function(z):
        u, w = z[: n * f].reshape(n, f), z[n * f :]
        length = np.sqrt(np.einsum("if,if->i", u, u))[:, None]
        x = u if norms is None else norms[:, None] * u / length
        weights = _softmax(w)
        value, in_x, in_weights = loss(x, weights, setting=setting, target=target, strength=strength)
        if norms is not None:
            along = np.einsum("if,if->i", in_x, u)[:, None] / length**2
            in_x = norms[:, None] / length * (in_x - along * u)
        in_w = weights * (in_weights - weights @ in_weights)
        return value, np.concatenate([in_x.ravel(), in_w])

    with np.errstate(all="ignore"):
        found = minimize(function, np.concatenate([start.ravel(), np.zeros(n)]), jac=True, method="CG")
    u, w = found.x[: n * f].reshape(n, f), found.x[n * f :]
    x = u if norms is None else norms[:, None] * u / np.linalg.norm(u, axis=1, keepdims=True)
    return Stopped(x, _softmax(w), float(found.fun), int(found.nfev), bool(found.success))


def reoptimise(start: np.ndarray, *, norms, weights, setting: Setting, penalty: float | None) -> Stopped:
    """The re-optimisation from `start` `(n, f)` by scipy's Powell: energy plus `penalty` times sum | |x_i| - n_i |.

    Without a penalty the norms are held exactly, x_i = n_i u_i / |u_i|, and Powell's method searches over u.
    """
    n, f = start.shape
    weights, norms = np.asarray(weights), np.asarray(norms)

    def function(z):
        x = z.reshape(n, f)
        length = np.sqrt(np.einsum("if,if->i", x, x))
        if penalty is None:
            return _energy(x * (norms / length)[:, None], weights, setting)
        return _energy(x, weights, setting) + penalty * np.abs(length - norms).sum()

    with np.errstate(all="ignore"):
        found = minimize(function, start.ravel(), method="Powell")
    x = found.x.reshape(n, f)
    if penalty is None:
        x = x * (norms / np.linalg.norm(x, axis=1))[:, None]
    return Stopped(x, weights, float(found.fun), int(found.nfev), bool(found.success))


def _energy(x, weights, setting):
    # The value alone: Powell calls it thousands of times and has no use for a gradient.
    gram = x @ x.T
    square = gram.diagonal()
    if setting.kernel == "exp":
        norms = np.sqrt(square)
        kernel = np.exp(gram / np.outer(norms, norms))
    else:
        distance = square[:, None] + square[None, :] - 2 * gram
        np.fill_diagonal(distance, 1.0)
        if setting.kernel == "log":
            kernel = -0.5 * np.log(distance)
        else:
            kernel = distance ** (-S / 2)
    if not setting.diagonal:
        np.fill_diagonal(kernel, 0.0)
    return weights @ kernel @ weights


def _softmax(w):
    e = np.exp(w - w.max())
    return e / e.sum()
