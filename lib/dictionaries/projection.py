"""The least-squares projection of targets on a few rows of a dictionary, and its gradient, never through the solve.

For one target y of width d and the k selected rows of the dictionary as the columns of X `(d, k)`,

    beta = (X^T X + diag(lambda))^-1 X^T y,    y_hat = X beta          (Sklar 2024, sections 3-6)

with lambda = 0 for the exact projection and lambda_j = e_j^-2 for an *importance* e_j. With A = X^T X + diag(lambda),
g = dL/dy_hat and u = A^-1 X^T g, the gradients come from the Cholesky factor of the forward pass:

    dL/dX = (g - X u) beta^T + (y - y_hat) u^T,    dL/dy = X u,    dL/dlambda_j = -u_j beta_j.

`projection_gradient` computes them. Rows are gathered, never multiplied densely (`lib.dictionaries.rows`).
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from lib.dictionaries.rows import dots, gram, scatter, scatter_pair, weighted_sum


class Projection(NamedTuple):
    """Reconstructions `(batch, d)`, coefficients `(batch, k)` and squared errors |y - y_hat|^2 `(batch,)`."""

    y_hat: Tensor
    coefficients: Tensor
    error: Tensor


def project(
    table: Float[Tensor, "rows d"],
    index: Int[Tensor, "batch k"],
    y: Float[Tensor, "batch d"],
    *,
    importance: Float[Tensor, "batch k"] | None = None,
    valid: Bool[Tensor, "batch k"] | None = None,
    envelope: bool = False,
) -> Projection:
    """Projection of each target on its support; reconstruction and error carry gradients, coefficients do not.

    Without `importance` it is exact (up to a ridge of rounding size on normalised columns); with it, ridge
    regression with lambda_j = importance_j^-2, where a column of importance 0 is left out. Columns that are not
    `valid` are left out in both cases. `envelope=True` holds the coefficients fixed in the backward pass of the exact
    projection, which is exact for the squared error (its u is 0) and saves a solve.

    Defined for any support: of equal columns only the sum of the coefficients matters; a column of zeros and
    a target of zeros have coefficients 0; d or more independent columns reproduce y. Raises ValueError on shapes that
    do not fit and on values that are not finite. Gram matrix and solve are in float32 at least, whatever the table's
    type.
    """
    if table.ndim != 2 or y.ndim != 2 or y.shape[1] != table.shape[1]:
        raise ValueError(
            f"targets {tuple(y.shape)} and dictionary rows {tuple(table.shape)} must be (batch, d) and (rows, d)"
        )
    for name, part in (("index", index), ("importance", importance), ("valid", valid)):
        if part is not None and (part.shape != index.shape or part.ndim != 2 or len(part) != len(y)):
            raise ValueError(f"{name} is {tuple(part.shape)}; it must be (batch, k) with batch {len(y)}")
    return Projection(*_Project.apply(table, index, y, importance, valid, envelope and importance is None))


def effective_dimension(
    table: Float[Tensor, "rows d"], index: Int[Tensor, "batch k"], importance: Float[Tensor, "batch k"]
) -> Float[Tensor, " batch"]:
    """tr H of each sample's ridge projection H = X (X^T X + diag(importance^-2))^-1 X^T.

    The source approximates it by the sum of 1/(1 + lambda_j), which is exact for orthonormal columns.
    """
    scaled = importance[:, :, None] * gram(table, index) * importance[:, None, :]
    factor = torch.linalg.cholesky(
        scaled + torch.eye(index.shape[1], dtype=scaled.dtype, device=scaled.device)
    )
    return index.shape[1] - torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2).sum(1)


class _Solved(NamedTuple):
    """What the forward pass keeps: with S = diag(scale), gamma = (S X^T X S + ridge)^-1 S X^T y and beta = S gamma."""

    table: Tensor  # (rows, d)
    index: Tensor  # (batch, k)
    y: Tensor  # (batch, d)
    y_hat: Tensor  # (batch, d)
    beta: Tensor  # (batch, k)
    scale: Tensor  # (batch, k)
    factor: Tensor  # (batch, k, k), Cholesky's, of S X^T X S + ridge
    gamma: Tensor  # (batch, k)


def _solve(table, index, y, importance, valid) -> _Solved:
    products, correlation = gram(table, index), dots(table, index, y)
    if importance is None:
        norm = products.diagonal(dim1=1, dim2=2).sqrt()
        scale = torch.where(norm > 0, 1 / norm, 0.0)
        ridge = torch.full_like(scale, 4 * index.shape[1] * torch.finfo(scale.dtype).eps)
    else:
        scale, ridge = importance.to(products.dtype), torch.ones_like(correlation)
    if valid is not None:
        scale = scale * valid
    # Scaled, the system is well conditioned even where lambda is infinite.
    ridge = torch.where(scale == 0, 1.0, ridge)
    factor = cholesky(products.mul_(scale[:, :, None]).mul_(scale[:, None, :]), ridge)
    gamma = torch.cholesky_solve((scale * correlation)[..., None], factor)[..., 0]
    beta = (scale * gamma).to(y.dtype)
    if not beta.sum().isfinite():
        raise ValueError("the targets or the dictionary have values that are not finite: nothing to project")
    return _Solved(table, index, y, weighted_sum(table, index, beta), beta, scale, factor, gamma)


def projection_gradient(
    solved: _Solved,
    grad: Float[Tensor, "batch d"] | None,
    grad_error: Float[Tensor, " batch"] | None,
    *,
    ridge: bool,
    envelope: bool,
    needs: tuple[bool, bool, bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of a loss with respect to table, target and importance, given those for `y_hat` and for the error.

    The equations are at the head of this module; `ridge` says whether there was an importance, `needs` which of the
    three are asked for. With `envelope` the coefficients count as constants.
    """
    table, index, y, y_hat, beta, scale, factor, gamma = solved
    residual = y - y_hat
    g = torch.zeros_like(residual) if grad is None else grad.contiguous()
    if grad_error is not None:
        g = g - 2 * grad_error[:, None] * residual
    d_table = d_y = d_importance = None
    if envelope:
        d_table = scatter(index, beta, g, rows=len(table)).to(table.dtype)
    else:
        mu = torch.cholesky_solve(_scaled_dots(solved, grad, grad_error, ridge)[..., None], factor)[..., 0]
        u = (scale * mu).to(y.dtype)
        d_y = weighted_sum(table, index, u)
        if needs[0]:
            weights, sources = torch.stack([beta, u]), torch.stack([g - d_y, residual])
            d_table = scatter_pair(index, weights, sources, rows=len(table)).to(table.dtype)
        if ridge and needs[2]:
            # -u_j beta_j dlambda_j/de_j = 2 u_j beta_j / e_j^3 = 2 mu_j gamma_j / e_j
            d_importance = (2 * mu * gamma / torch.where(scale == 0, 1.0, scale)).to(y.dtype)
    if grad_error is not None and needs[1]:
        direct = 2 * grad_error[:, None] * residual
        d_y = direct if d_y is None else d_y + direct
    return d_table, d_y, d_importance


def _scaled_dots(
    solved: _Solved, grad: Tensor | None, grad_error: Tensor | None, ridge: bool
) -> Float[Tensor, "batch k"]:
    """S X^T g; its part from the error is known from the normal equations, S X^T (y - y_hat) = gamma, or 0 if exact."""
    out = torch.zeros_like(solved.gamma)
    if ridge and grad_error is not None:
        out = -2 * grad_error[:, None] * solved.gamma
    if grad is not None:
        out = out + solved.scale * dots(solved.table, solved.index, grad.contiguous()).to(out.dtype)
    return out


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, index, y, importance, valid, envelope):
        solved = _solve(table, index, y.contiguous(), importance, valid)
        error = (solved.y - solved.y_hat).square().sum(1)
        ctx.envelope, ctx.ridge = envelope, importance is not None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*solved)
        ctx.mark_non_differentiable(solved.beta)
        return solved.y_hat, solved.beta, error

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _, grad_error):
        table, _, y, importance, *_ = ctx.needs_input_grad
        d_table, d_y, d_importance = projection_gradient(
            _Solved(*ctx.saved_tensors),
            grad,
            grad_error,
            ridge=ctx.ridge,
            envelope=ctx.envelope,
            needs=(table, y, importance),
        )
        return d_table, None, d_y, d_importance, None, None


def cholesky(
    products: Float[Tensor, "batch k k"], ridge: Float[Tensor, "batch k"]
) -> Float[Tensor, "batch k k"]:
    """Cholesky factors of products + diag(ridge); where rounding makes one indefinite, with ten times the ridge.

    The diagonal is changed in place.
    """
    diagonal = products.diagonal(dim1=1, dim2=2)
    diagonal += ridge
    factor, failed = torch.linalg.cholesky_ex(products)
    for _ in range(4):
        bad = failed > 0
        if not bad.any():
            break
        diagonal[bad] += 9 * ridge[bad]
        ridge = 10 * ridge
        factor[bad], failed[bad] = torch.linalg.cholesky_ex(products[bad])
    return factor
