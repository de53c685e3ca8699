"""Quasi-Newton descent of a batch of independent problems: each has its own step, its own history and its own end.

Nocedal & Wright, *Numerical optimization*, chapters 7.2 and 3.1. One pass of the loop is one evaluation of every
problem: one whose step was too long tries a shorter one while the others go on. Problems that are done leave the batch,
so that the last few cost little.

What is known of each problem's curvature is its inverse Hessian H, to be applied to -g. `Dense` keeps the matrix, which
is better for the few variables of an ill-conditioned problem; `LimitedMemory` keeps the last steps, which is better
where the problem changes along the way. Both begin with `scale` times the identity and learn from
`add(step, change, gradient, lower)`: steps s, the changes y of the gradient that they caused, the gradient `(b, size)`
at their ends, and which of them were taken `(b,)`. A pair teaches nothing where s . y is not above 0.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
from torch import Tensor

ARMIJO = 1e-4
COMPACT = 0.7  # of the batch still running: below it, the others are left out
MEMORY = 10  # steps that the limited memory holds
FAR = 1e6  # a variable beyond it is on its way to infinity
PATIENCE = 20  # evaluations that may together lower a value by less than rounding
SHORT = 1e-12  # a step so much shorter than planned no longer lowers anything


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
    *,
    tolerance: float = 1e-6,
    evaluations: int = 1000,
    manifold=None,
    dense: bool = False,
) -> Minimum:
    """Local minima of b functions from `start` `(b, size)`, in float64.

    `function(z, which)` gives the values `(k,)` and gradients `(k, size)` of the problems `which` `(k,)` at z; autograd
    is off in it. Problems only ever leave: `which` begins as all b of them, in order, and stays the same until it gets
    shorter. A problem has converged when no entry of its gradient exceeds `tolerance` times the larger of 1 and its
    value; it also ends after that many `evaluations`, when no step lowers it, or when a variable exceeds FAR: it then
    has no minimum nearby. With `dense`, whole inverse Hessians are kept. A `manifold` has `tangent(direction, z)` and
    `retract(z)`: steps start along it and end on it. Raises ValueError if a start has no finite value.
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
    # Far out, the gradient of a function that falls for ever is small beside its value.
    final.converged.logical_and_(final.z.abs().amax(-1) <= FAR)
    return final


def _put(final: Minimum, which, chosen, z, value, largest, evaluation, small) -> None:
    chosen = chosen.nonzero()[:, 0]
    where = which[chosen]
    final.z[where], final.value[where], final.gradient[where] = z[chosen], value[chosen], largest[chosen]
    final.evaluations[where], final.converged[where] = evaluation, small[chosen]


class Dense:
    """BFGS (Nocedal & Wright, *Numerical optimization*, equation 6.17).

    H g is kept too: as g changes by y it becomes H g + H y, so that H is read once for the update and the direction.
    """

    def __init__(self, gradient: Tensor, scale: Tensor):
        self.scale = scale
        self.inverse = torch.eye(gradient.shape[1], dtype=torch.float64) * scale[:, None, None]
        self.along = scale[:, None] * gradient
        self.fresh = torch.ones(len(gradient), dtype=torch.bool)  # nothing is known yet
        self.any_fresh = True

    def keep(self, index: Tensor) -> None:
        """Leaves out all problems but these."""
        for name in ("scale", "inverse", "along", "fresh"):
            setattr(self, name, getattr(self, name)[index])

    def add(self, step: Tensor, change: Tensor, gradient: Tensor, lower: Tensor) -> None:
        product, curved, scale = _curvature(step, change, lower)
        if self.any_fresh:
            # The first step was as long as is safe; from here on its units are those of the problem.
            ratio = torch.where(self.fresh & curved, scale / self.scale, 1.0)
            self.inverse *= ratio[:, None, None]
            self.along = self.along * ratio[:, None]
            self.fresh = self.fresh & ~curved
            self.any_fresh = bool(self.fresh.any())
        self.scale = torch.where(curved, scale, self.scale)
        step = torch.where(curved[:, None], step, 0.0)
        change = torch.where(lower[:, None], change, 0.0)
        moved = (self.inverse @ change[:, :, None]).squeeze(-1)
        rate = torch.where(curved, 1 / product, 0.0)[:, None]
        half = 0.5 + 0.5 * rate * (change * moved).sum(-1, keepdim=True)
        other = rate * torch.addcmul(-moved, half, step)
        left, right = torch.stack([step, other], 2), torch.stack([other, step], 1)
        self.inverse.baddbmm_(left, right)
        along = (self.along + moved)[:, :, None]
        self.along = torch.baddbmm(along, left, right @ gradient[:, :, None]).squeeze(-1)

    def direction(self, gradient: Tensor) -> Tensor:
        """-H g `(b, size)`, for the gradient last added."""
        return -self.along


class LimitedMemory:
    """L-BFGS in its compact form (Byrd, Nocedal & Schnabel 1994, equation 3.13).

    It gives the same as the two-loop recursion, in a dozen operations on the whole batch instead of sixty. A pair that
    teaches nothing is stored as zeros and takes no part.
    """

    def __init__(self, gradient: Tensor, scale: Tensor):
        self.scale = scale
        # A window of MEMORY that slides through a longer buffer; only at its end is anything copied.
        (count, size), room = gradient.shape, 2 * MEMORY
        self.pairs = torch.zeros(count, 2 * room, size, dtype=torch.float64)  # s_0, y_0, s_1, y_1, ...
        self.mixed = torch.zeros(count, room, room, dtype=torch.float64)  # of s_i . y_j, i <= j: inverse
        self.square = torch.zeros(count, room, room, dtype=torch.float64)  # y_i . y_j
        self.end = 0

    def keep(self, index: Tensor) -> None:
        """Leaves out all problems but these."""
        for name in ("scale", "pairs", "mixed", "square"):
            setattr(self, name, getattr(self, name)[index])

    def add(self, step: Tensor, change: Tensor, gradient: Tensor, lower: Tensor) -> None:
        product, curved, scale = _curvature(step, change, lower)
        if not curved.all():
            step, change = (torch.where(curved[:, None], pair, 0.0) for pair in (step, change))
            product = torch.where(curved, product, 1.0)
            scale = torch.where(curved, scale, self.scale)
        self.scale = scale
        if self.end == self.mixed.shape[1]:
            old, self.end = slice(self.end - MEMORY, self.end), MEMORY
            self.pairs[:, : 2 * MEMORY] = self.pairs[:, 2 * old.start :].clone()
            for matrices in (self.mixed, self.square):
                kept = matrices[:, old, old].clone()
                matrices.zero_()[:, :MEMORY, :MEMORY] = kept
        last, self.end = self.end, self.end + 1
        self.pairs[:, 2 * last], self.pairs[:, 2 * last + 1] = step, change
        window, pairs = self._window
        along, across = (pairs @ change[:, :, None]).view(len(pairs), -1, 2, 1).unbind(2)
        self.square[:, window, last] = self.square[:, last, window] = across.squeeze(-1)
        # One column more of a triangular matrix is one more of its inverse; the window's part is the part's inverse.
        column = (self.mixed[:, window, window] @ along).squeeze(-1) / -product[:, None]
        self.mixed[:, window, last], self.mixed[:, last, last] = column, 1 / product

    @property
    def _window(self) -> tuple[slice, Tensor]:
        start = max(0, self.end - MEMORY)
        return slice(start, self.end), self.pairs[:, 2 * start : 2 * self.end]

    def direction(self, gradient: Tensor) -> Tensor:
        """-H g `(b, size)`."""
        if not self.end:
            return -self.scale[:, None] * gradient
        window, pairs = self._window
        mixed, scale = self.mixed[:, window, window], self.scale[:, None, None]
        along, across = (pairs @ gradient[:, :, None]).view(len(pairs), -1, 2, 1).unbind(2)
        t = mixed @ along
        own = t / mixed.diagonal(dim1=-2, dim2=-1)[:, :, None]
        p = mixed.mT @ torch.addcmul(own, scale, self.square[:, window, window] @ t - across)
        shares = torch.cat([p, -scale * t], 2).view(len(pairs), 1, -1)
        return -torch.addcmul((shares @ pairs).squeeze(1), self.scale[:, None], gradient)


def _curvature(step: Tensor, change: Tensor, lower: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """s . y, where it is above 0 beyond rounding, and s . y / |y|^2, each `(b,)`."""
    product, square = torch.linalg.vecdot(step, change), torch.linalg.vecdot(change, change)
    curved = lower & (product > 1e-12 * (torch.linalg.vecdot(step, step) * square).sqrt())
    return product, curved, product / square
