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
    graph: Float[Tensor, "*batch n n"], normalise: Normalise = "columns", eps: float | None = None
) -> Tensor:
    """Weighted affinity kernel of an adjacency matrix: diagonal set to 0, columns (or rows) to sum 1.

    A column (row) whose sum is 0 stays 0. `(..., n, n)` to `(..., n, n)`. `eps`, added to the sums, is
    the machine epsilon unless given. Wiechecki 2024, eq. 3.
    """
    graph = graph - torch.diag_embed(graph.diagonal(dim1=-2, dim2=-1))
    return graph / (graph.sum(-2 if _by_columns(normalise) else -1, keepdim=True) + _eps(graph, eps))


def pwak(
    K: Float[Tensor, "*batch k n"], normalise: Normalise = "columns", eps: float | None = None
) -> Tensor:
    """Partitioned weighted affinity kernel WAK(K^T K) of soft assignments K; `(..., n, n)`.

    K is `(..., k, n)`: a column a sample, summing to 1. Dense: the reference for `diffuse`, and for
    looking at. Wiechecki 2024, eq. 4.
    """
    return wak(K.mT @ K, normalise, eps)


def diffuse(
    K: Float[Tensor, "*batch k n"],
    E: Float[Tensor, "*batch n d"],
    normalise: Normalise = "columns",
    eps: float | None = None,
) -> Float[Tensor, "*batch n d"]:
    """PWAK(K) E, each embedding replaced by the affinity-weighted mean of the others: O(nk(k+d)) time, O(nk) memory.

    With s = sum_j K_j, q_i = |K_i|^2 and c_i = K_i . s - q_i (the affinity of i to all others):

        columns  F_j = E_j / (c_j + eps);  out_i = (sum_j K_j F_j^T)^T K_i - q_i F_i
        rows     out_i = [(sum_j K_j E_j^T)^T K_i - q_i E_i] / (c_i + eps)

    "columns" is the source's kernel (eq. 3-4); with "rows" the weights of each mean sum to 1. Leading
    dimensions are a batch (replicas). For a sample nearly alone in its cluster c is a difference of
    near-equal numbers: it is clamped at 0, and the relative error grows to about epsilon q/c, so use
    float64 where batches hold fewer samples than clusters. Raises ValueError where K and E disagree on n.
    """
    if K.shape[-1] != E.shape[-2]:
        raise ValueError(
            f"K has {K.shape[-1]} samples (last dimension) and E has {E.shape[-2]}; they must agree"
        )
    batch = torch.broadcast_shapes(K.shape[:-2], E.shape[:-2])
    K, E = K.expand(*batch, *K.shape[-2:]), E.expand(*batch, *E.shape[-2:])
    return _Diffuse.apply(K, E.mT, _by_columns(normalise), _eps(K, eps)).mT


class _Diffuse(torch.autograd.Function):
    """`diffuse` on E^T `(..., d, n)`: samples contiguous, and few passes over arrays of d n numbers.

    The weight w = 1/(c + eps) is put on K, which has fewer rows than E: with S = K w, M = E^T S^T and
    out^T = M K - (q w) E^T for columns; for rows K gathers and S spreads.
    """

    @staticmethod
    def forward(ctx, K: Tensor, Et: Tensor, by_columns: bool, eps: float) -> Tensor:
        q = K.square().sum(-2, keepdim=True)
        c = K.sum(-1, keepdim=True).mT @ K - q
        w = (c.clamp_min(0) + eps).reciprocal()
        gather, spread = (K * w, K) if by_columns else (K, K * w)
        M = Et @ gather.mT
        ctx.by_columns = by_columns
        ctx.save_for_backward(K, Et, M, q, c, w)
        return (M @ spread).addcmul_(q * w, Et, value=-1)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        K, Et, M, q, c, w = ctx.saved_tensors
        gather, spread = (K * w, K) if ctx.by_columns else (K, K * w)
        d_M = grad @ spread.mT
        d_Et = (d_M @ gather).addcmul_(q * w, grad, value=-1)
        d_gather, d_spread = d_M.mT @ Et, M.mT @ grad
        d_scaled, d_K = (d_gather, d_spread) if ctx.by_columns else (d_spread, d_gather)
        d_qw = -(grad * Et).sum(-2, keepdim=True)
        d_w = (d_scaled * K).sum(-2, keepdim=True) + q * d_qw
        d_c = torch.where(c >= 0, -w.square() * d_w, 0.0)
        d_q = w * d_qw - d_c
        # c = s . K with s = sum_j K_j: K_i enters by itself and through s.
        d_K = d_K + d_scaled * w + 2 * K * d_q + K.sum(-1, keepdim=True) * d_c + K @ d_c.mT
        return d_K, d_Et, None, None


def _eps(x: Tensor, eps: float | None) -> float:
    return torch.finfo(x.dtype).eps if eps is None else eps


def _by_columns(normalise: str) -> bool:
    if normalise not in ("columns", "rows"):
        raise ValueError(f"normalise: got {normalise!r}; allowed: 'columns' or 'rows'")
    return normalise == "columns"
