"""Which latents are active: top-k of an encoder's scores, with the sparse gradient that they need; codes made dense."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

from lib.dictionaries.rows import decode, scatter


def top_k(scores: Float[Tensor, "*batch n"], k: int) -> tuple[Tensor, Tensor]:
    """Values and indices `(..., k)` of the k largest scores, in no particular order.

    Where n is much larger than k, the k blocks with the largest maxima are found first: they hold the k largest
    scores, and a maximum over blocks is far cheaper than a selection among all.
    """
    n, blocks = scores.shape[-1], 16
    if scores.device.type != "cpu" or n % blocks or n < 4 * blocks * k:
        return scores.topk(k, dim=-1, sorted=False)
    view = scores.unflatten(-1, (blocks, n // blocks))
    column = view.amax(-2).topk(k, dim=-1, sorted=False).indices
    candidates = view.gather(-1, column[..., None, :].expand(*column.shape[:-1], blocks, k)).flatten(-2)
    values, place = candidates.topk(k, dim=-1, sorted=False)
    return values, (place // k) * (n // blocks) + column.gather(-1, place % k)


def flatten(index: Int[Tensor, "replicas batch k"], n: int) -> Int[Tensor, "rows k"]:
    """Indices into the replicas' dictionaries laid one below the other, `(replicas x batch, k)`."""
    offset = n * torch.arange(len(index), device=index.device)
    return (index + offset[:, None, None]).flatten(0, 1)


def top_scores(
    a: Float[Tensor, "replicas batch d_in"],
    encoder: Float[Tensor, "replicas n d_in"],
    bias: Float[Tensor, "replicas n"],
    *,
    k: int,
) -> tuple[Float[Tensor, "replicas batch k"], Int[Tensor, "replicas batch k"]]:
    """The k largest scores E a + b of each sample, and which latents have them.

    Only the selected scores carry a gradient, so encoder and bias get a sum over the k selected rows of each sample
    in place of a dense product.
    """
    return _TopScores.apply(a, encoder, bias, k)


def mask(
    index: Int[Tensor, "replicas batch k"], valid: Bool[Tensor, "replicas batch k"], *, n: int
) -> Bool[Tensor, "replicas batch n"]:
    """Supports as masks over n latents."""
    # An index may be listed twice only where it is not valid: those are sent to a column of their own.
    wide = torch.zeros(*index.shape[:2], n + 1, dtype=torch.bool, device=index.device)
    return wide.scatter_(2, torch.where(valid, index, n), True)[..., :-1]


def dense(
    index: Int[Tensor, "replicas batch k"], values: Float[Tensor, "replicas batch k"], *, n: int
) -> Float[Tensor, "replicas batch n"]:
    """Sparse codes as dense ones over n latents; a latent listed twice gets the sum."""
    return values.new_zeros(*index.shape[:2], n).scatter_add_(2, index, values)


class _TopScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, encoder, bias, k):
        values, index = top_k(torch.baddbmm(bias[:, None], a, encoder.mT), k)
        ctx.save_for_backward(a, encoder, index)
        ctx.mark_non_differentiable(index)
        return values, index

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):
        a, encoder, index = ctx.saved_tensors
        replicas, n, d_in = encoder.shape
        flat, weight = flatten(index, n), grad.flatten(0, 1)
        d_a = d_encoder = d_bias = None
        if ctx.needs_input_grad[0]:
            d_a = decode(encoder.flatten(0, 1), flat, weight).view(replicas, -1, d_in)
        if ctx.needs_input_grad[1]:
            d_encoder = scatter(flat, weight, a.flatten(0, 1), rows=replicas * n).view(encoder.shape)
        if ctx.needs_input_grad[2]:
            d_bias = weight.new_zeros(replicas * n).index_add_(0, flat.flatten(), weight.flatten())
            d_bias = d_bias.view(replicas, n)
        return d_a, d_encoder, d_bias, None
