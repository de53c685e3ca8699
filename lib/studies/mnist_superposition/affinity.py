"""Weighted affinity kernels (WAK, PWAK), and diffusion through them without an n x n matrix.

Source: Wiechecki 2024, appendix B.2-B.3, after DEWAKSS (Tjarnberg et al. 2021).
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

Normalise = Literal["columns", "rows"]


def wak(
    graph: Float[Tensor, "*batch n n"], *, normalise: Normalise = "columns", eps: float | None = None
) -> Float[Tensor, "*batch n n"]:
    """Weighted affinity kernel of an adjacency matrix: diagonal set to 0, columns (or rows) to sum 1.

    A column (row) whose sum is 0 stays 0. `eps` is added to the sums; the machine epsilon unless given.
    Wiechecki 2024, eq. 3.
    """
    graph = graph - torch.diag_embed(graph.diagonal(dim1=-2, dim2=-1))
    return graph / (graph.sum(-2 if _by_columns(normalise) else -1, keepdim=True) + _eps(graph, eps))


def pwak(
    K: Float[Tensor, "*batch k n"], *, normalise: Normalise = "columns", eps: float | None = None
) -> Float[Tensor, "*batch n n"]:
    """Partitioned weighted affinity kernel WAK(K^T K) of soft assignments K, one column per sample, of sum 1.

    Dense: the reference for `diffuse`, and for looking at. Wiechecki 2024, eq. 4.
    """
    return wak(K.mT @ K, normalise=normalise, eps=eps)


def diffuse(
    K: Float[Tensor, "*#batch k n"],
    E: Float[Tensor, "*#batch n d"],
    *,
    normalise: Normalise = "columns",
    eps: float | None = None,
) -> Float[Tensor, "*#batch n d"]:
    """PWAK(K) E, each embedding replaced by the affinity-weighted mean of the others: O(nk(k+d)) time, O(nk) memory.

    With s = sum_j K_j, q_i = |K_i|^2 and c_i = K_i . s - q_i (the affinity of i to all others):

        columns  F_j = E_j / (c_j + eps);  out_i = (sum_j K_j F_j^T)^T K_i - q_i F_i
        rows     out_i = [(sum_j K_j E_j^T)^T K_i - q_i E_i] / (c_i + eps)

    "columns" is the source's kernel (eq. 3-4); with "rows" the weights of each mean sum to 1. Leading
    dimensions are a batch (replicas). For a sample nearly alone in its cluster c is a difference of
    near-equal numbers: it is clamped at 0, and the relative error grows to about epsilon q/c, so use
    float64 where batches have fewer samples than clusters. Raises ValueError where K and E disagree on n.
    """
    if K.shape[-1] != E.shape[-2]:
        raise ValueError(
            f"K has {K.shape[-1]} samples (last dimension) and E has {E.shape[-2]}; they must agree"
        )
    if K.shape[:-2] != E.shape[:-2]:
        batch = torch.broadcast_shapes(K.shape[:-2], E.shape[:-2])
        K, E = K.expand(*batch, *K.shape[-2:]), E.expand(*batch, *E.shape[-2:])
    return _Diffuse.apply(K, E, _by_columns(normalise), _eps(K, eps))


class _Diffuse(torch.autograd.Function):
    """`diffuse` with a gradient of its own: few passes over arrays of n d numbers, of which only E is kept.

    The weight w = 1/(c + eps) is put on K, which has fewer rows than E: with S = K w and M = S E, the
    result is K^T M - q w E for columns; for rows K gathers and S spreads.
    """

    @staticmethod
    def forward(ctx, K: Tensor, E: Tensor, by_columns: bool, eps: float) -> Tensor:
        q = K.square().sum(-2, keepdim=True)
        s = K.sum(-1, keepdim=True)
        c = s.mT @ K - q
        w = (c.clamp_min(0) + eps).reciprocal_()
        S = K * w
        gather, spread = (S, K) if by_columns else (K, S)
        M = gather @ E
        ctx.by_columns = by_columns
        ctx.save_for_backward(K, S, E, M, s, q, c, w)
        return _product(spread.mT, M, E).addcmul_((q * w).mT, E, value=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        K, S, E, M, s, q, c, w = ctx.saved_tensors
        gather, spread = (S, K) if ctx.by_columns else (K, S)
        d_M = spread @ grad
        d_E = _product(gather.mT, d_M, E).addcmul_((q * w).mT, grad, value=-1)
        d_gather, d_spread = d_M @ E.mT, M @ grad.mT
        d_S, d_K = (d_gather, d_spread) if ctx.by_columns else (d_spread, d_gather)
        d_qw = (grad * E).sum(-1)[..., None, :]  # of -q w
        d_w = (d_S * K).sum(-2, keepdim=True).addcmul_(q, d_qw, value=-1)
        d_c = torch.where(c >= 0, w.square() * d_w, 0.0).neg_()
        d_q = d_c.addcmul(w, d_qw)  # of -q
        # c = s . K with s = sum_j K_j: K_i enters by itself and through s.
        d_K = d_K.addcmul_(d_S, w).addcmul_(K, d_q, value=-2).addcmul_(s, d_c).add_(K @ d_c.mT)
        return d_K, d_E, None, None


def _product(a: Tensor, b: Tensor, like: Tensor) -> Tensor:
    """a @ b in the memory order of `like`: mixed orders are slow in what follows."""
    return (b.mT @ a.mT).mT if like.stride(-2) == 1 else a @ b


def _eps(x: Tensor, eps: float | None) -> float:
    return torch.finfo(x.dtype).eps if eps is None else eps


def _by_columns(normalise: str) -> bool:
    if normalise not in ("columns", "rows"):
        raise ValueError(f"normalise: got {normalise!r}; allowed: 'columns' or 'rows'")
    return normalise == "columns"
