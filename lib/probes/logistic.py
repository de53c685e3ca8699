"""Many balanced logistic regressions on the same samples as one batch: the solver under lib.probes.fit.

For labels t = -1 or 1, sample weights a and C, the inverse strength of regularisation, each problem minimises

    F(w, b) = |w|^2/2 + C sum_i a_i log(1 + exp(-t_i (w . x_i + b)))

by L-BFGS (Nocedal and Wright 2006, chapter 7), all problems in step: a step reads the samples once for all of them. The
metric it starts from is the Hessian with the same curvature c/n at every sample, I + c G, where G is the covariance of
the samples and c the sum of a problem's curvatures, which falls as it is fitted. G is represented by its leading axes
and the mean variance of the others, so that I + c G is inverted for every c at once.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

_ROWS = 4096  # samples that are converted at once
_AXES = 32  # leading axes that the metric knows
_MEMORY = 5  # steps that L-BFGS remembers
_PATIENCE = 30  # steps without progress after which a problem is given up


class Prepared(NamedTuple):
    """Samples, centred, with a column of ones `(n, d + 1)`, their `mean` `(d,)` and covariance.

    `axes` `(d, k)`: its leading eigenvectors; `variance` `(k,)` along them; `rest`: the mean variance of all others.
    """

    x: Tensor
    mean: Tensor
    axes: Tensor
    variance: Tensor
    rest: Tensor


class Solution(NamedTuple):
    """Weights `(problems, d)` and biases `(problems,)` for samples as they were given, and how they were found.

    `gradient_norm`: |dF/d(w, b)|; `iterations`: passes over the samples; `converged`: the remaining gradient, in the
    metric of the Hessian, is below `tol` |w|. As F grows at least as |w|^2/2, this estimates the relative error of w.
    """

    weights: Tensor
    bias: Tensor
    gradient_norm: Tensor
    iterations: Tensor
    converged: Tensor


def prepared(
    x: Float[ndarray, "all d"],
    rows: ndarray,
    *,
    weight: Float[ndarray, " n"],
    dtype: torch.dtype,
    device: str,
) -> Prepared:
    """The samples x[rows], centred under `weight`, the only copy that is kept, and their covariance.

    The leading axes are those of about 2 d of the samples, by subspace iteration from a fixed start (Halko et al.
    2011). Raises ValueError if the samples are not finite, or all the same.
    """
    n, d = len(rows), x.shape[1]
    out = torch.ones(n, d + 1, dtype=dtype, device=device)
    for start in range(0, n, _ROWS):
        part = x[start : start + _ROWS] if n == len(x) else x[rows[start : start + _ROWS]]
        out[start : start + _ROWS, :d] = torch.from_numpy(np.asarray(part)).to(out)
    weight = torch.from_numpy(weight / weight.sum()).to(out)
    mean = weight @ out[:, :d]
    if not mean.isfinite().all():
        raise ValueError("the activations are not finite: NaN or infinity among them")
    out[:, :d] -= mean
    stride = max(1, n // (2 * d))
    some = weight[::stride, None].sqrt() * out[::stride, :d] / weight[::stride].sum().sqrt()
    total = some.square().sum()
    if total <= (100 * torch.finfo(dtype).eps) ** 2 * mean.square().sum():
        raise ValueError("the activations are the same for every sample: nothing to probe")
    k = min(_AXES, *some.shape)
    axes = torch.randn(d, k, dtype=dtype, generator=torch.Generator().manual_seed(0)).to(device)
    for _ in range(2):
        axes = torch.linalg.qr(some.T @ (some @ axes)).Q
    inner = some @ axes
    variance, turn = torch.linalg.eigh(inner.T @ inner)
    rest = ((total - variance.sum()) / max(d - k, 1)).clamp_min(0)
    return Prepared(out, mean, axes @ turn, variance.clamp_min(0), rest)


def solve(
    samples: Prepared,
    target: Float[Tensor, "n problems"],
    weight: Float[Tensor, "n problems"],
    *,
    tol: float,
    steps: int = 1000,
) -> Solution:
    """Minimises F for every problem, `target` being 0 or 1 and `weight` C a; `steps` bounds those of L-BFGS."""
    x, mean = samples.x, samples.mean
    target, live = target.to(x), torch.arange(target.shape[1], device=x.device)
    w, logits = x.new_zeros(len(live), x.shape[1]), torch.zeros_like(target)
    out_w, out_g, iterations = torch.zeros_like(w), torch.zeros_like(w), torch.zeros_like(live)
    converged, waited = torch.zeros_like(live, dtype=torch.bool), torch.zeros_like(live)
    least = torch.full_like(w[:, 0], torch.inf)
    surprise = logits.sigmoid() - target
    residual = weight * surprise
    gradient = residual.T @ x
    past = []  # steps, the differences of gradients that they made, and 1/(the product of the two)
    for taken in range(steps + 1):
        # The sum of weight p (1 - p), as |p - target| is p or 1 - p.
        metric = _Metric(samples, (residual.abs() - residual * surprise).sum(0)[:, None])
        left = _dot(gradient, metric(gradient))
        near = left <= tol**2 * _dot(w[:, :-1], w[:, :-1])
        waited = torch.where(left < least, 0, waited + 1)  # rounding may keep it from getting nearer
        least = torch.minimum(least, left)
        over = near | (waited > _PATIENCE) | (taken == steps)
        if over.any():
            done, stay = live[over], ~over
            out_w[done], out_g[done] = w[over], gradient[over]
            iterations[done], converged[done] = taken, near[over]
            if not stay.any():
                break
            live, w, gradient, least, waited = (v[stay] for v in (live, w, gradient, least, waited))
            past = [tuple(v[stay] for v in pair) for pair in past]
            logits, target, weight = (v[:, stay] for v in (logits, target, weight))
            metric = _Metric(samples, metric.curvature[stay])
        step = -_direction(gradient, past, metric)
        change = x @ step.T
        length, logits, surprise, residual = _line_search(w, logits, step, change, target, weight, gradient)
        step *= length[:, None]
        w = w + step
        before, gradient = gradient, residual.T @ x
        gradient[:, :-1] += w[:, :-1]
        difference = gradient - before
        product = _dot(step, difference)[:, None]
        # Where rounding swallowed the product, 0 forgets the pair.
        inverse = torch.where(product > _tiny(x), 1 / product, 0)
        past = [*past[1 - _MEMORY :], (step, difference, inverse)]
    g, g_bias, d_w = out_g[:, :-1], out_g[:, -1:], out_w[:, :-1]
    norm = torch.cat([g + g_bias * mean, g_bias], 1).norm(dim=1)  # logits are w . (x - mean) + the last of w
    return Solution(d_w, out_w[:, -1] - d_w @ mean, norm, iterations, converged)


class _Metric:
    """The inverse of I + c G for each problem's c, and of c for its bias."""

    def __init__(self, samples: Prepared, curvature: Float[Tensor, "problems 1"]):
        self.axes, self.curvature = samples.axes, curvature
        rest = 1 / (1 + curvature * samples.rest)
        self.lead = 1 / (1 + curvature * samples.variance) - rest
        bias = 1 / curvature.clamp_min(_tiny(rest))
        self.rest = torch.cat([rest.expand(-1, len(samples.mean)), bias], 1)

    def __call__(self, gradient: Float[Tensor, "problems width"]) -> Float[Tensor, "problems width"]:
        out = gradient * self.rest
        out[:, :-1].addmm_((gradient[:, :-1] @ self.axes) * self.lead, self.axes.T)
        return out


def _direction(gradient: Tensor, past: list, metric: _Metric) -> Tensor:
    """L-BFGS's inverse Hessian times the gradient (algorithm 7.4 of Nocedal and Wright)."""
    q, shares = gradient, []
    for step, difference, inverse in reversed(past):
        shares.append(_dot(step, q)[:, None] * inverse)
        q = torch.addcmul(q, shares[-1], difference, value=-1)
    q = metric(q)
    if past:
        _, difference, inverse = past[-1]
        scale = inverse * _dot(difference, metric(difference))[:, None]
        q /= torch.where(scale > 0, scale, 1)
    for (step, difference, inverse), share in zip(past, reversed(shares), strict=True):
        q.addcmul_(share - _dot(difference, q)[:, None] * inverse, step)
    return q


def _line_search(w, logits, step, change, target, weight, gradient) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lengths `(problems,)` of the steps, and at their ends the logits, p - target and that times the weights.

    F is convex along a step: it has fallen where its slope at the end is at most 0, or where the slopes at the end and
    at half the length add up to at most 0. So what is compared are slopes, which lose fewer digits than values. A step
    whose slope has hardly changed at its end is made longer.
    """
    length, short = torch.ones_like(w[:, 0]), torch.zeros_like(w[:, 0])
    long = torch.full_like(length, torch.inf)
    downhill = _dot(gradient, step).abs()
    fixed, rise = _dot(w[:, :-1], step[:, :-1]), _dot(step[:, :-1], step[:, :-1])

    def at(length):
        moved = torch.addcmul(logits, length, change)
        surprise = moved.sigmoid().sub_(target)
        residual = weight * surprise
        return fixed + length * rise + (residual * change).sum(0), moved, surprise, residual

    for _ in range(40):
        slope, *end = at(length)
        over, under = slope > 0.01 * downhill, slope < -0.9 * downhill
        if over.any():
            over &= at(length / 2)[0] + slope > 0
        if not (over | under).any():
            break
        long, short = torch.where(over, length, long), torch.where(under, length, short)
        between = torch.where(long.isinf(), 4 * length, short + 0.4 * (long - short))
        length = torch.where(over | under, between, length)
    return length, *end


def _dot(a: Float[Tensor, "problems d"], b: Float[Tensor, "problems d"]) -> Float[Tensor, " problems"]:
    return (a * b).sum(1)


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny
