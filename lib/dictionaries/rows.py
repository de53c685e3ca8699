"""Sums over a few rows of a table, and their transposes: a sparse code times a dictionary, without the dense product.

A table is `(rows, d)`; an index `(batch, k)` names the rows that each sample uses. Rows are read where they are
(`embedding_bag`) or gathered in pieces that stay in a core's cache, never multiplied by the whole table.
"""

from collections.abc import Callable, Iterator
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

# Gathered rows are worked on in pieces of about this many numbers, which stay in a core's cache.
PIECE = 2**17


def decode(
    table: Float[Tensor, "rows d"], index: Int[Tensor, "batch k"], weight: Float[Tensor, "batch k"]
) -> Float[Tensor, "batch d"]:
    """For each sample the sum over j of weight_j times row index_j of the table: a sparse code times a dictionary.

    Its gradients touch only the rows that were used.
    """
    return _Decode.apply(table, index, weight)


def weighted_sum(table: Tensor, index: Tensor, weight: Tensor) -> Tensor:
    """`decode` without gradients, in float32 at least."""
    weight = weight.to(table.dtype)
    return F.embedding_bag(index.contiguous(), table, per_sample_weights=weight, mode="sum").to(
        torch.promote_types(table.dtype, torch.float32)
    )


def scatter(
    index: Int[Tensor, "batch k"],
    weight: Float[Tensor, "batch k"],
    source: Float[Tensor, "batch d"],
    *,
    rows: int,
) -> Float[Tensor, "rows d"]:
    """The transpose of `decode`: row r of the result is the sum of weight_bj source_b over all index_bj = r."""
    order, starts = _by_row(index, rows)
    weight = weight.flatten()[order].to(source.dtype)
    return F.embedding_bag(order // index.shape[1], source, starts, per_sample_weights=weight, mode="sum")


def scatter_pair(
    index: Int[Tensor, "batch k"],
    weights: Float[Tensor, "2 batch k"],
    sources: Float[Tensor, "2 batch d"],
    *,
    rows: int,
) -> Float[Tensor, "rows d"]:
    """The sum of two scatters over one index, which is sorted once."""
    order, starts = _by_row(index, rows)
    weight = weights.flatten(1)[:, order].T.flatten().to(sources.dtype)
    sample = order // index.shape[1]
    sample = torch.stack([sample, sample + len(index)], 1).flatten()
    return F.embedding_bag(sample, sources.flatten(0, 1), 2 * starts, per_sample_weights=weight, mode="sum")


def dots(
    table: Float[Tensor, "rows d"], index: Int[Tensor, "batch k"], g: Float[Tensor, "batch d"]
) -> Float[Tensor, "batch k"]:
    """Dot product of each sample with each row of its support, in the table's type.

    It is the gradient of `embedding_bag` with respect to its weights, for which torch has a private operator that reads
    the rows where they are; if a version of torch no longer has it, or it does something else, `plain_dots` gathers
    them.
    """
    operator = _weight_gradient(table.device.type)
    if operator is None:
        return plain_dots(table, index, g)
    return operator(table, index, g)


def plain_dots(
    table: Float[Tensor, "rows d"], index: Int[Tensor, "batch k"], g: Float[Tensor, "batch d"]
) -> Float[Tensor, "batch k"]:
    """`dots` by gathering the rows and multiplying."""
    out = table.new_empty(index.shape)
    g = g.to(table.dtype).to(torch.promote_types(table.dtype, torch.float32))
    for part, rows in gathered(table, index):
        out[part] = (rows @ g[part, :, None])[..., 0].to(table.dtype)
    return out


def gathered(table: Tensor, index: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Slices of the batch with their rows `(piece, k, d)`, float32 at least, in one buffer that is reused."""
    batch, k = index.shape
    size = max(1, PIECE // max(1, k * table.shape[1])) if table.device.type == "cpu" else max(1, batch)
    rows = table.new_empty(min(size, batch) * k, table.shape[1])
    for start in range(0, batch, size):
        part = slice(start, min(start + size, batch))
        piece = rows[: (part.stop - start) * k]
        torch.index_select(table, 0, index[part].flatten(), out=piece)
        piece = piece.view(-1, k, table.shape[1])
        yield part, piece.to(torch.promote_types(table.dtype, torch.float32))


def gram(table: Float[Tensor, "rows d"], index: Int[Tensor, "batch k"]) -> Float[Tensor, "batch k k"]:
    """Gram matrix of each sample's rows, without gradients, in float32 at least."""
    batch, k = index.shape
    out = table.new_empty(batch, k, k, dtype=torch.promote_types(table.dtype, torch.float32))
    for part, rows in gathered(table.detach(), index):
        torch.bmm(rows, rows.mT, out=out[part])
    return out


class _Decode(torch.autograd.Function):
    @staticmethod
    def forward(ctx, table, index, weight):
        ctx.save_for_backward(table, index, weight)
        return weighted_sum(table, index, weight)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        table, index, weight = ctx.saved_tensors
        grad, d_table, d_weight = grad.contiguous(), None, None
        if ctx.needs_input_grad[0]:
            d_table = scatter(index, weight, grad, rows=len(table)).to(table.dtype)
        if ctx.needs_input_grad[2]:
            d_weight = dots(table, index, grad).to(weight.dtype)
        return d_table, None, d_weight


def _by_row(index: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """The entries of an index sorted by the row they name, and where each row's entries begin."""
    flat, order = index.flatten().sort()
    return order, torch.searchsorted(flat, torch.arange(rows, device=index.device))


@cache
def _weight_gradient(device: str) -> Callable[[Tensor, Tensor, Tensor], Tensor] | None:
    """`dots` by torch's private operator, or None if this torch lacks it or it gives something else."""
    operator = getattr(torch.ops.aten, "_embedding_bag_per_sample_weights_backward", None)
    if operator is None:
        return None

    def found(table: Tensor, index: Tensor, g: Tensor) -> Tensor:
        batch, k = index.shape
        starts = torch.arange(0, batch * k, k, device=index.device)
        sample = torch.arange(batch, device=index.device).repeat_interleave(k)
        g = g.to(table.dtype).contiguous()
        mode = 0  # "sum"
        return operator(g, table, index.flatten().contiguous(), starts, sample, mode).view(batch, k)

    table = torch.tensor([[1.0, 2.0], [3.0, 5.0], [-7.0, 11.0]], device=device)
    index = torch.tensor([[2, 0], [1, 1]], device=device)
    try:
        same = torch.equal(found(table, index, table[:2]), plain_dots(table, index, table[:2]))
    except (RuntimeError, TypeError):  # another signature
        return None
    return found if same else None
