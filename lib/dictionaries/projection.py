"""Least-squares projection of targets on a few rows of a dictionary, never differentiating through the solve.

For one target y of width d and the k selected rows of the dictionary as the columns of X `(d, k)`,

    beta = (X^T X + diag(lambda))^-1 X^T y,    y_hat = X beta          (Sklar 2024, sections 3-6)

with lambda = 0 for the exact projection and lambda_j = e_j^-2 for an *importance* e_j. With A = X^T X + diag(lambda),
g = dL/dy_hat and u = A^-1 X^T g, the gradients come from the Cholesky factor of the forward pass:

    dL/dX = (g - X u) beta^T + (y - y_hat) u^T,    dL/dy = X u,    dL/dlambda_j = -u_j beta_j.

Rows are gathered, never multiplied densely: sums over a support and their transposes are `embedding_bag`s.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

# Gathered rows are worked on in pieces of about this many numbers, which stay in a core's cache.
_PIECE = 2**17


def decode(
    table: Float[Tensor, "rows d"], index: Int[Tensor, "batch k"], weight: Float[Tensor, "batch k"]
) -> Float[Tensor, "batch d"]:
    """The sum over j of weight_j times row index_j of the table, a sample: a sparse code times a dictionary.

    Its gradients touch only the rows that were used.
    """
    return _Decode.apply(table, index, weight)


class Projection(NamedTuple):
    """Reconstructions `(batch, d)`, coefficients `(batch, k)` and squared errors |y - y_hat|^2 `(batch,)`."""

    y_hat: Tensor
    coefficients: Tensor
    error: Tensor


def project(
    table: Float[Tensor, "rows d"],
    index: Int[Tensor, "batch k"],
    y: Float[Tensor, "batch d"],
    importance: Float[Tensor, "batch k"] | None = None,
    valid: Bool[Tensor, "batch k"] | None = None,
    envelope: bool = False,
) -> Projection:
    """Projection of each target on its support; reconstruction and error carry gradients, coefficients do not.

    Without `importance` it is exact (up to a ridge of rounding size on normalised columns); with it, ridge
    regression with lambda_j = importance_j^-2, where a column of importance 0 is left out. Columns that are not
    `valid` are left out of either. `envelope=True` holds the coefficients fixed in the backward pass of the exact
    projection, which is exact for the squared error (its u is 0) and saves a solve.

    Defined for whatever support: of equal columns the sum of coefficients counts, a column of zeros and a target of
    zeros have coefficients 0, d or more independent columns reproduce y. Raises ValueError on shapes that do not
    fit and on values that are not finite. Gram matrix and solve are in float32 at least, whatever the table's type.
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
) -> Float[Tensor, "batch"]:
    """tr H of the ridge projection H = X (X^T X + diag(importance^-2))^-1 X^T, a sample.

    The source approximates it by the sum of 1/(1 + lambda_j), which is exact for orthonormal columns.
    """
    gram = _gram(table, index)
    scaled = importance[:, :, None] * gram * importance[:, None, :]
    factor = torch.linalg.cholesky(
        scaled + torch.eye(index.shape[1], dtype=scaled.dtype, device=scaled.device)
    )
    return index.shape[1] - torch.cholesky_inverse(factor).diagonal(dim1=1, dim2=2).sum(1)


def scatter(
    index: Int[Tensor, "batch k"],
    weight: Float[Tensor, "batch k"],
    source: Float[Tensor, "batch d"],
    rows: int,
) -> Float[Tensor, "rows d"]:
    """The transpose of `decode`: row r of the result is the sum of weight_bj source_b over all index_bj = r."""
    order, starts = _by_row(index, rows)
    weight = weight.flatten()[order].to(source.dtype)
    return F.embedding_bag(order // index.shape[1], source, starts, per_sample_weights=weight, mode="sum")


def _scatter_pair(index: Tensor, weights: Tensor, sources: Tensor, rows: int) -> Tensor:
    """The sum of two scatters over one index: weights `(2, batch, k)` and sources `(2, batch, d)`; sorts once."""
    order, starts = _by_row(index, rows)
    weight = weights.flatten(1)[:, order].T.flatten().to(sources.dtype)
    sample = order // index.shape[1]
    sample = torch.stack([sample, sample + len(index)], 1).flatten()
    return F.embedding_bag(sample, sources.flatten(0, 1), 2 * starts, per_sample_weights=weight, mode="sum")


def _by_row(index: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """The entries of an index sorted by the row they name, and where each row's begin."""
    flat, order = index.flatten().sort()
    return order, torch.searchsorted(flat, torch.arange(rows, device=index.device))


def dots(
    table: Float[Tensor, "rows d"], index: Int[Tensor, "batch k"], g: Float[Tensor, "batch d"]
) -> Float[Tensor, "batch k"]:
    """Dot product of each sample with each row of its support, X^T g."""
    batch, k = index.shape
    starts = torch.arange(0, batch * k, k, device=index.device)
    sample = torch.arange(batch, device=index.device).repeat_interleave(k)
    # The gradient of `embedding_bag` to its weights: the rows are read where they are, not gathered (0 is its "sum").
    backward = torch.ops.aten._embedding_bag_per_sample_weights_backward
    g = g.to(table.dtype).contiguous()
    return backward(g, table, index.flatten().contiguous(), starts, sample, 0).view(batch, k)


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, index, weight):
        ctx.save_for_backward(table, index, weight)
        return _bag(table, index, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        table, index, weight = ctx.saved_tensors
        grad = grad.contiguous()
        d_table = (
            scatter(index, weight, grad, len(table)).to(table.dtype) if ctx.needs_input_grad[0] else None
        )
        d_weight = dots(table, index, grad).to(weight.dtype) if ctx.needs_input_grad[2] else None
        return d_table, None, d_weight


class _Project(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, index, y, importance, valid, envelope):
        y = y.contiguous()
        gram, correlation = _gram(table, index), dots(table, index, y)
        if importance is None:
            norm = gram.diagonal(dim1=1, dim2=2).sqrt()
            scale = torch.where(norm > 0, 1 / norm, 0.0)
            ridge = torch.full_like(scale, 4 * index.shape[1] * torch.finfo(scale.dtype).eps)
        else:
            scale, ridge = importance.to(gram.dtype), torch.ones_like(correlation)
        if valid is not None:
            scale = scale * valid
        # With S = diag(scale): gamma = (S X^T X S + ridge)^-1 S X^T y and beta = S gamma, well conditioned also where
        # lambda is infinite.
        ridge = torch.where(scale == 0, 1.0, ridge)
        factor = _cholesky(gram.mul_(scale[:, :, None]).mul_(scale[:, None, :]), ridge)
        gamma = torch.cholesky_solve((scale * correlation)[..., None], factor)[..., 0]
        beta = (scale * gamma).to(y.dtype)
        if not beta.sum().isfinite():
            raise ValueError(
                "the targets or the dictionary have values that are not finite: nothing to project"
            )
        y_hat = _bag(table, index, beta)
        error = (y - y_hat).square().sum(1)
        ctx.envelope, ctx.ridge = envelope, importance is not None
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(table, index, y, y_hat, beta, scale, factor, gamma)
        ctx.mark_non_differentiable(beta)
        return y_hat, beta, error

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _, d_error):
        table, index, y, y_hat, beta, scale, factor, gamma = ctx.saved_tensors
        residual = y - y_hat
        g = torch.zeros_like(residual) if grad is None else grad.contiguous()
        if d_error is not None:
            g = g - 2 * d_error[:, None] * residual
        d_table = d_importance = d_y = None
        if ctx.envelope:
            d_table = scatter(index, beta, g, len(table)).to(table.dtype)
        else:
            # S X^T g; of the error it is known from the normal equations, S X^T (y - y_hat) = gamma or 0.
            known = (
                -2 * d_error[:, None] * gamma
                if ctx.ridge and d_error is not None
                else torch.zeros_like(gamma)
            )
            dot = (
                known
                if grad is None
                else known + scale * dots(table, index, grad.contiguous()).to(known.dtype)
            )
            mu = torch.cholesky_solve(dot[..., None], factor)[..., 0]
            u = (scale * mu).to(y.dtype)
            d_y = _bag(table, index, u)
            weights, sources = torch.stack([beta, u]), torch.stack([g - d_y, residual])
            if ctx.needs_input_grad[0]:
                d_table = _scatter_pair(index, weights, sources, len(table)).to(table.dtype)
            if ctx.ridge and ctx.needs_input_grad[3]:
                # -u_j beta_j dlambda_j/de_j = 2 u_j beta_j / e_j^3 = 2 mu_j gamma_j / e_j
                d_importance = (2 * mu * gamma / torch.where(scale == 0, 1.0, scale)).to(y.dtype)
        if d_error is not None and ctx.needs_input_grad[2]:
            direct = 2 * d_error[:, None] * residual
            d_y = direct if d_y is None else d_y + direct
        return d_table, None, d_y, d_importance, None, None


def _bag(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    weight = weight.to(table.dtype)
    return F.embedding_bag(index.contiguous(), table, per_sample_weights=weight, mode="sum").to(
        torch.promote_types(table.dtype, torch.float32)
    )


def _pieces(table: Tensor, index: Tensor):
    """Slices of the batch with their gathered rows `(piece, k, d)`, in one buffer that is used again."""
    batch, k = index.shape
    size = max(1, _PIECE // max(1, k * table.shape[1])) if table.device.type == "cpu" else max(1, batch)
    rows = table.new_empty(min(size, batch) * k, table.shape[1])
    for start in range(0, batch, size):
        part = slice(start, min(start + size, batch))
        piece = rows[: (part.stop - start) * k]
        torch.index_select(table, 0, index[part].flatten(), out=piece)
        piece = piece.view(-1, k, table.shape[1])
        yield part, piece.to(torch.promote_types(table.dtype, torch.float32))


def _gram(table: Tensor, index: Tensor) -> Tensor:
    batch, k = index.shape
    gram = table.new_empty(batch, k, k, dtype=torch.promote_types(table.dtype, torch.float32))
    for part, rows in _pieces(table.detach(), index):
        torch.bmm(rows, rows.mT, out=gram[part])
    return gram


def _cholesky(gram: Tensor, ridge: Tensor) -> Tensor:
    """Cholesky factors of gram + diag(ridge); where rounding makes one indefinite, with ten times the ridge."""
    diagonal = gram.diagonal(dim1=1, dim2=2)
    diagonal += ridge
    factor, failed = torch.linalg.cholesky_ex(gram)
    for _ in range(4):
        bad = failed > 0
        if not bad.any():
            break
        diagonal[bad] += 9 * ridge[bad]
        ridge = 10 * ridge
        factor[bad], failed[bad] = torch.linalg.cholesky_ex(gram[bad])
    return factor
