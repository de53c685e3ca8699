"""What a quasi-Newton method knows of the curvature of each problem of a batch: its inverse Hessian H, times -g.

`Dense` keeps the matrix, which is better for the few variables of an ill-conditioned problem; `LimitedMemory` the last
steps, which is better where the problem changes along the way. Both begin with `scale` times the identity and learn
from `add(step, change, gradient, lower)`: steps s, the changes y of the gradient that they made, the gradient
`(b, size)` at their ends, and which of them were taken `(b,)`. A pair teaches nothing where s . y is not above 0.
"""

import torch
from torch import Tensor

MEMORY = 10  # steps that the limited memory holds


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
        """-H g `(b, size)`, of the gradient that was last added."""
        return -self.along


class LimitedMemory:
    """L-BFGS in its compact form (Byrd, Nocedal & Schnabel 1994, equation 3.13).

    It gives what the two-loop recursion gives, by a dozen operations on the whole batch instead of sixty. A pair that
    teaches nothing is stored as zeros and takes no part.
    """

    def __init__(self, gradient: Tensor, scale: Tensor):
        self.scale = scale
        # A window of MEMORY that slides through a longer buffer; only at its end is anything copied.
        (count, size), room = gradient.shape, 2 * MEMORY
        self.all_steps = torch.zeros(count, room, size, dtype=torch.float64)
        self.all_changes = torch.zeros(count, room, size, dtype=torch.float64)
        self.mixed = torch.zeros(count, room, room, dtype=torch.float64)  # s_i . y_j for i <= j
        self.square = torch.zeros(count, room, room, dtype=torch.float64)  # y_i . y_j
        self.end = 0

    def keep(self, index: Tensor) -> None:
        for name in ("scale", "all_steps", "all_changes", "mixed", "square"):
            setattr(self, name, getattr(self, name)[index])

    def add(self, step: Tensor, change: Tensor, gradient: Tensor, lower: Tensor) -> None:
        _, curved, scale = _curvature(step, change, lower)
        self.scale = torch.where(curved, scale, self.scale)
        step, change = (torch.where(curved[:, None], pair, 0.0) for pair in (step, change))
        if self.end == self.all_steps.shape[1]:
            old, self.end = slice(self.end - MEMORY, self.end), MEMORY
            for name in ("all_steps", "all_changes"):
                getattr(self, name)[:, :MEMORY] = getattr(self, name)[:, old].clone()
            for name in ("mixed", "square"):
                getattr(self, name)[:, :MEMORY, :MEMORY] = getattr(self, name)[:, old, old].clone()
                getattr(self, name)[:, MEMORY:] = 0
        last, self.end = self.end, self.end + 1
        self.all_steps[:, last], self.all_changes[:, last] = step, change
        window = self._window
        self.mixed[:, window, last] = (self.all_steps[:, window] @ change[:, :, None]).squeeze(-1)
        across = (self.all_changes[:, window] @ change[:, :, None]).squeeze(-1)
        self.square[:, window, last] = self.square[:, last, window] = across

    @property
    def _window(self) -> slice:
        return slice(max(0, self.end - MEMORY), self.end)

    def direction(self, gradient: Tensor) -> Tensor:
        """-H g `(b, size)`."""
        if not self.end:
            return -self.scale[:, None] * gradient
        window = self._window
        steps, changes = self.all_steps[:, window], self.all_changes[:, window]
        mixed = self.mixed[:, window, window]
        own = mixed.diagonal(dim1=-2, dim2=-1)
        upper = mixed + torch.diag_embed((own == 0).to(own.dtype))
        along, across = steps @ gradient[:, :, None], changes @ gradient[:, :, None]
        t = torch.linalg.solve_triangular(upper, along, upper=True)
        scale = self.scale[:, None, None]
        middle = torch.addcmul(own[:, :, None] * t, scale, self.square[:, window, window] @ t - across)
        p = torch.linalg.solve_triangular(upper.mT, middle, upper=False)
        return -torch.addcmul(p.mT @ steps, scale, gradient[:, None] - t.mT @ changes).squeeze(1)


def _curvature(step: Tensor, change: Tensor, lower: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """s . y, where it is above 0 beyond rounding, and s . y / |y|^2, each `(b,)`."""
    product, square = (step * change).sum(-1), change.square().sum(-1)
    curved = lower & (product > 1e-12 * (step.square().sum(-1) * square).sqrt())
    return product, curved, product / square
