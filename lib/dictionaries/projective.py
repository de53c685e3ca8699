"""Projective dictionaries (Sklar 2024): the target is projected on the selected columns; and our own hybrids."""

import math

import torch
from torch import Tensor

from lib.dictionaries import coding
from lib.dictionaries.base import Code, Dictionary
from lib.dictionaries.projection import Projection, project
from lib.dictionaries.sae import TopK
from lib.dictionaries.selection import dense, flatten, top_scores

QUOTAS = ("penalty", "normalised", "budget", "none")


class Projecting(Dictionary):
    """A dictionary that decodes by projection of the target on its support; its codes are the coefficients.

    Raises ValueError if k is the target's width or more: a projection on that many columns reconstructs anything.
    """

    projects = True

    def __init__(self, *, d_in: int, k: int, d_out: int | None = None, **options):
        width = d_in if d_out is None else d_out
        if k >= width:
            raise ValueError(
                f"k is {k}, but the target's width is {width}: a projection on that many columns reconstructs "
                f"anything; choose k below {width}"
            )
        super().__init__(d_in=d_in, k=k, d_out=d_out, **options)

    def project(self, code: Code, y: Tensor) -> Projection:
        """The projection of prepared targets on the supports of a code, samples of all replicas in one dimension."""
        return self._project(y, code.index)

    def reconstruct(self, code: Code, y: Tensor) -> Tensor:
        return self.project(code, y).y_hat.view(y.shape)

    def _errors(self, code: Code, y: Tensor) -> Tensor:
        return self.project(code, y).error

    def _dense(self, code: Code, y: Tensor) -> Tensor:
        beta = self.project(code, y).coefficients.view(code.index.shape)
        return dense(code.index, beta, n=self.d_sae)

    def _project(
        self, y: Tensor, index: Tensor, *, importance: Tensor | None = None, valid: Tensor | None = None
    ) -> Projection:
        return project(
            self.table,
            flatten(index, self.d_sae),
            y.flatten(0, 1),
            importance=None if importance is None else importance.flatten(0, 1),
            valid=None if valid is None else valid.flatten(0, 1),
            envelope=self.training,
        )


class Projective(Projecting):
    """Tied projective dictionary (Sklar 2024, section 4): support = top-k(F^T y + c), y_hat = X (X^T X)^-1 X^T y.

    Scores only rank, so latents with negative scores may be selected, and the biases c get no gradient. With
    `support="omp"` orthogonal matching pursuit selects in place of the scores, in training too.
    """

    def __init__(self, *, support: str = "scores", tied: bool = True, d_out: int | None = None, **options):
        if support not in ("scores", "omp"):
            raise ValueError(f"support is {support!r}; allowed: 'scores' or 'omp'")
        if not tied:
            raise ValueError(
                "an exact projection gives an encoder no gradient: choose tied=True, Ridge or Hybrid"
            )
        if d_out is not None:
            raise ValueError("a transcoder (d_out given) has an encoder of its own: choose Ridge or Hybrid")
        super().__init__(tied=True, **options)
        self.config["support"] = self.support = support

    @torch.no_grad()
    def select(self, a: Tensor) -> Code:
        if self.support == "omp":
            index = coding.omp(self.decoder, a, k=self.k)
            values = torch.ones(index.shape, dtype=a.dtype, device=a.device)
        else:
            values, index = top_scores(a, self.decoder, self.bias, k=self.k)
        return Code(index, values, torch.ones_like(index, dtype=torch.bool))


class Ridge(Projecting):
    """Ridge projective dictionary (Sklar 2024, section 6): importance e_j = E_j a + b_j, lambda_j = e_j^-2.

    Latents with e_j <= 0 are left out. `quota` keeps the importance from growing: "penalty" adds `strength` times each
    sample's sum of 1/(1 + lambda_j); "normalised" rescales each sample's selected importances to a mean e^2 of
    `strength`; "budget" selects, the most important first, while the sum of 1/(1 + lambda_j) is at most `strength`;
    "none" does nothing. `tied=True` is the same-layer dictionary of the section's end.
    """

    def __init__(self, *, quota: str = "penalty", strength: float = 0.005, **options):
        if quota not in QUOTAS:
            raise ValueError(f"quota is {quota!r}; allowed: {', '.join(map(repr, QUOTAS))}")
        if not (isinstance(strength, int | float) and math.isfinite(strength) and strength > 0):
            raise ValueError(f"strength is {strength!r}; it must be a finite number above 0")
        super().__init__(**options)
        self.config |= {"quota": quota, "strength": strength}
        self.quota, self.strength = quota, strength

    def select(self, a: Tensor) -> Code:
        code = super().select(a)
        e, valid = code.strength, code.valid
        if self.quota == "normalised":
            count = valid.sum(-1, keepdim=True)
            e = e * (count * self.strength / e.square().sum(-1, keepdim=True).clamp_min(1e-12)).sqrt()
        elif self.quota == "budget":
            order = e.detach().argsort(-1, descending=True)
            spent = shrinkage(e.detach()).gather(-1, order).cumsum(-1)
            within = torch.zeros_like(valid).scatter(-1, order, spent <= self.strength)
            valid = valid & within
            e = torch.where(valid, e, 0.0)
        return Code(code.index, e, valid)

    def project(self, code: Code, y: Tensor) -> Projection:
        return self._project(y, code.index, importance=code.strength)

    def loss(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        a, y = self.prepare(a, y)
        code = self.select(a)
        self._count(code)
        return self._relative(self._errors(code, y), y) + self._quota(code)

    def _quota(self, code: Code) -> Tensor | float:
        if self.quota != "penalty":
            return 0.0
        return self.strength * shrinkage(code.strength).sum(-1).mean(-1)


class Hybrid(Projecting, TopK):
    """Ours: the encoder learns from a top-k loss of its own, the decoder from the projection's, which also decodes.

    The top-k loss sees the decoder as a constant. If `penalty` > 0, the projection is the ridge of `Ridge` with its
    penalty on the effective dimension, which then reaches the encoder too.
    """

    def __init__(self, *, penalty: float = 0.0, **options):
        super().__init__(**options)
        self.config["penalty"] = self.penalty = penalty

    def project(self, code: Code, y: Tensor) -> Projection:
        if self.penalty:
            return self._project(y, code.index, importance=code.strength)
        return self._project(y, code.index, valid=code.valid)

    def loss(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        a, y = self.prepare(a, y)
        code = self.select(a)
        self._count(code)
        residual = y - self._decode(code, self.table.detach())
        loss = self._relative(self._errors(code, y), y) + self._relative(residual.square().sum(-1), y)
        loss = loss + self._auxiliary(a, residual.detach())
        if self.penalty:
            loss = loss + self.penalty * shrinkage(code.strength).sum(-1).mean(-1)
        return loss


def shrinkage(e: Tensor) -> Tensor:
    """1/(1 + lambda) with lambda = e^-2: the factor by which ridge shrinks along a column orthogonal to the others."""
    return e.square() / (1 + e.square())
