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
        self.pairs = torch.zeros(count, 2 * room, size, dtype=torch.float64)  # s_0, y_0, s_1, y_1, ...
        self.mixed = torch.zeros(count, room, room, dtype=torch.float64)  # of s_i . y_j, i <= j: inverse
        self.square = torch.zeros(count, room, room, dtype=torch.float64)  # y_i . y_j
        self.end = 0

    def keep(self, index: Tensor) -> None:
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
