"""Quasi-Newton descent of a batch of independent problems: each has its own step, its own history and its own end.

Nocedal & Wright, *Numerical optimization*, chapters 7.2 and 3.1. One pass of the loop is one evaluation of every
problem: one whose step was too long tries a shorter one while the others go on. Problems that are done leave the batch,
so that the last few cost little.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from lib.energy.inverse_hessian import Dense, LimitedMemory

ARMIJO = 1e-4
COMPACT = 0.7  # of the batch still running: below it, the others are left out
FAR = 1e6  # a variable beyond it is on its way to infinity
PATIENCE = 20  # evaluations that may together lower a value by less than rounding
SHORT = 1e-12  # a step so much shorter than planned lowers nothing any more


@dataclass(frozen=True)
class Minimum:
    """Where each of b problems ended: z `(b, size)`, its value, the largest entry of its gradient, ..."""

    z: Tensor
    value: Tensor
    gradient: Tensor
    evaluations: Tensor
    converged: Tensor


def minimise(
    function: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    start: Tensor,
    tolerance: float = 1e-6,
    evaluations: int = 1000,
    manifold=None,
    dense: bool = False,
) -> Minimum:
    """Local minima of b functions from `start` `(b, size)`, in float64.

    `function(z, which)` gives the values `(k,)` and gradients `(k, size)` of the problems `which` `(k,)` at z; autograd
    is off in it. A problem has converged when no entry of its gradient exceeds `tolerance` times the larger of 1 and
    its value; it also ends after so many `evaluations`, when no step lowers it, and when a variable exceeds FAR: it has
    no minimum nearby. With `dense`, whole inverse Hessians are kept. A `manifold` has `tangent(direction, z)` and
    `retract(z)`: steps start along it and end on it. Raises ValueError where a start has no finite value.
    """
    with torch.inference_mode():  # saves a fifth of the time of small batches
        found = _descend(function, start, tolerance, evaluations, manifold, dense)
    return Minimum(*(getattr(found, field.name).clone() for field in fields(found)))


def _descend(function, start: Tensor, tolerance: float, evaluations: int, manifold, dense: bool) -> Minimum:
    z = start.detach().to(torch.float64).clone()
    count = len(z)
    which = torch.arange(count)
    value, gradient = function(z, which)
    finite = torch.isfinite(value) & torch.isfinite(gradient).all(-1)
    if not finite.all():
        first = int((~finite).nonzero()[0, 0])
        raise ValueError(f"problem {first} has no finite value where it starts; start it elsewhere")
    final = Minimum(
        z.clone(),
        value.clone(),
        gradient.abs().amax(-1),
        torch.zeros(count, dtype=torch.long),
        torch.zeros(count, dtype=torch.bool),
    )
    running = torch.ones(count, dtype=torch.bool)
    # A first step no longer than 1.
    history = (Dense if dense else LimitedMemory)(gradient, 1 / gradient.norm(dim=-1).clamp_min(1.0))
    length = torch.ones(count, dtype=torch.float64)  # of the next trial, in units of the whole step
    before = value.clone()
    for evaluation in range(evaluations + 1):
        largest = gradient.abs().amax(-1)
        small = largest <= tolerance * value.abs().clamp_min(1.0)
        ended = small if evaluation < evaluations else torch.ones_like(small)
        if evaluation % PATIENCE == PATIENCE - 1:
            still = before - value <= 1e-13 * value.abs().clamp_min(1.0)
            ended = ended | still | (z.abs().amax(-1) > FAR) | (length < SHORT)
            before = value.clone()
        ended = running & ended
        if ended.any():
            _put(final, which, ended, z, value, largest, evaluation, small)
            running = running & ~ended
            left = int(running.sum())
            if not left:
                break
            if left < COMPACT * len(running):
                keep = running.nonzero()[:, 0]
                z, value, gradient, which, length, before, running = (
                    t[keep] for t in (z, value, gradient, which, length, before, running)
                )
                history.keep(keep)

        direction = history.direction(gradient)
        if manifold is not None:
            direction = manifold.tangent(direction, z)
        slope = torch.linalg.vecdot(direction, gradient)
        if not (slope < 0).all():
            direction = torch.where((slope < 0)[:, None], direction, -history.scale[:, None] * gradient)
            slope = torch.linalg.vecdot(direction, gradient)
        trial = torch.addcmul(z, length[:, None], direction)
        if manifold is not None:
            trial = manifold.retract(trial)
        trial_value, trial_gradient = function(trial, which)
        rise = trial_value - value
        # A decrease that drowns in rounding counts.
        lower = rise <= ARMIJO * length * slope + 4e-16 * value.abs()
        lower = lower & torch.isfinite(trial_gradient.sum(-1))

        step, change = trial - z, trial_gradient - gradient
        if lower.all():
            z, value, gradient, length = trial, trial_value, trial_gradient, torch.ones_like(length)
        else:
            # A step that was too long is tried again at the minimum of the parabola through what is known of it.
            parabola = -0.5 * slope * length.square() / (rise - slope * length)
            shorter = torch.where(torch.isfinite(parabola), parabola, 0.0).clamp(0.1 * length, 0.5 * length)
            length = torch.where(lower, 1.0, shorter)
            z = torch.where(lower[:, None], trial, z)
            value = torch.where(lower, trial_value, value)
            gradient = torch.where(lower[:, None], trial_gradient, gradient)
        history.add(step, change, gradient, lower)
    # Far out a gradient is small beside the value of whatever falls for ever.
    final.converged.logical_and_(final.z.abs().amax(-1) <= FAR)
    return final


def _put(final: Minimum, which, chosen, z, value, largest, evaluation, small) -> None:
    chosen = chosen.nonzero()[:, 0]
    where = which[chosen]
    final.z[where], final.value[where], final.gradient[where] = z[chosen], value[chosen], largest[chosen]
    final.evaluations[where], final.converged[where] = evaluation, small[chosen]
