"""What the importances of ridge dictionaries say: their size, their ranks, and the effective dimension."""

import torch
from torch import Tensor

from lib.dictionaries.base import Code
from lib.dictionaries.projection import effective_dimension
from lib.dictionaries.projective import Ridge, shrinkage
from lib.dictionaries.selection import flatten


@torch.no_grad()
def measure(model: Ridge, x: Tensor) -> dict[str, Tensor]:
    """How a ridge dictionary uses its importances e, each statistic `(replicas,)`.

    `square`: mean e^2; `dimension_error`: how far the sum of 1/(1 + lambda) is from tr H, relative, and
    `conservative`: the share of samples where tr H is at most the sum; `ranks`: mean Spearman correlation within a
    sample of e_j with the error that leaving column j out would add.
    """
    model.eval()
    inputs, y = model.prepare(x)
    code = model.select(inputs)
    e = code.strength
    exact = effective_dimension(model.table, flatten(code.index, model.d_sae), e.flatten(0, 1)).view(
        e.shape[:2]
    )
    guess = shrinkage(e).sum(-1)
    some = exact > 1e-6
    relative = torch.where(some, (guess - exact).abs() / exact.clamp_min(1e-6), 0.0)
    beta = model.project(code, y).coefficients.view(e.shape)
    added = _leave_one_out(model, code, beta)
    return {
        "square": _square(code),
        "dimension_error": relative.sum(1) / some.sum(1).clamp_min(1),
        "conservative": ((exact <= guess * (1 + 1e-5)) & some).sum(1) / some.sum(1).clamp_min(1),
        "ranks": _rank_correlation(e, added, code.valid),
    }


def _leave_one_out(model: Ridge, code: Code, beta: Tensor) -> Tensor:
    """beta_j^2 / ((X^T X + diag(lambda))^-1)_jj: by how much the ridge objective rises without column j."""
    rows = torch.stack([D[i] for D, i in zip(model.decoder, code.index, strict=True)])
    scaled = code.strength[..., None] * (rows @ rows.mT) * code.strength[..., None, :]
    inverse = torch.linalg.inv(scaled + torch.eye(model.k, device=scaled.device))
    inverse = inverse.diagonal(dim1=-2, dim2=-1) * code.strength.square()
    return torch.where(code.valid, beta.square() / inverse.clamp_min(1e-12), 0.0)


def _rank_correlation(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Mean over samples with at least 3 valid entries of Spearman's correlation (no ties among continuous values)."""

    def ranks(v: Tensor) -> Tensor:
        order = torch.where(valid, v, torch.inf).argsort(-1).argsort(-1).float()
        count = valid.sum(-1, keepdim=True)
        return torch.where(valid, order - (count - 1) / 2, 0.0)

    x, y = ranks(a), ranks(b)
    enough = valid.sum(-1) >= 3
    value = (x * y).sum(-1) / (x.square().sum(-1) * y.square().sum(-1)).sqrt().clamp_min(1e-12)
    return torch.where(enough, value, 0.0).sum(1) / enough.sum(1).clamp_min(1)


@torch.no_grad()
def mean_square(model: Ridge, x: Tensor) -> Tensor:
    """Mean e^2 of the selected latents, `(replicas,)`."""
    model.eval()
    return _square(model.select(model.prepare(x)[0]))


def _square(code: Code) -> Tensor:
    return code.strength.square().sum((1, 2)) / code.valid.sum((1, 2)).clamp_min(1)
