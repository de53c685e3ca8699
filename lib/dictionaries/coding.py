"""Sparse codes of targets in a given dictionary: supports (threshold, OMP) and coefficients on them.

Post-hoc refits of a trained dictionary are prior art: orthogonal matching pursuit (Pati et al. 1993), and
inference-time optimisation in sparse autoencoders (Smith 2024; Engels et al. 2024).
"""

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.optimize import nnls as solve_nnls
from torch import Tensor

from lib.dictionaries.projection import decode, project
from lib.dictionaries.selection import flatten, top_k

COEFFICIENTS = ("amplitude", "least squares", "ridge", "NNLS")


@torch.no_grad()
def threshold(
    dictionary: Float[Tensor, "replicas n d"], y: Float[Tensor, "replicas batch d"], k: int
) -> Int[Tensor, "replicas batch k"]:
    """The k rows with the largest |dot product| with each target."""
    return top_k((y @ dictionary.mT).abs(), k)[1]


@torch.no_grad()
def omp(
    dictionary: Float[Tensor, "replicas n d"], y: Float[Tensor, "replicas batch d"], k: int
) -> Int[Tensor, "replicas batch k"]:
    """Supports of orthogonal matching pursuit: k times the row that correlates most with what is left.

    After each choice the target is projected on all rows chosen so far (Gram-Schmidt, a step at a time), so no row is
    chosen twice. Batch OMP (Rubinstein et al. 2008) keeps a Gram matrix; with few rows a product is as fast.
    """
    residual, chosen = y.clone(), []
    basis: list[Tensor] = []
    used = torch.zeros(*y.shape[:-1], dictionary.shape[-2], dtype=torch.bool, device=y.device)
    replica = torch.arange(len(y), device=y.device)[:, None]
    for _ in range(k):
        score = (residual @ dictionary.mT).abs().masked_fill_(used, -1)
        index = score.argmax(-1)
        used.scatter_(-1, index[..., None], True)
        row = dictionary[replica, index]
        for _ in range(2):  # twice is enough against rounding (Kahan)
            for unit in basis:
                row = row - unit * torch.linalg.vecdot(row, unit)[..., None]
        row = row / row.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        residual = residual - row * torch.linalg.vecdot(residual, row)[..., None]
        basis.append(row)
        chosen.append(index)
    return torch.stack(chosen, -1)


@torch.no_grad()
def shared_omp(
    dictionary: Float[Tensor, "replicas n d"], y: Float[Tensor, "replicas batch d"], k: int
) -> Int[Tensor, "replicas k"]:
    """One support for all targets of a replica: k times the row with the largest sum of squared dot products with
    what is left of them (simultaneous OMP, Tropp et al. 2006)."""
    residual, rows, chosen = y.clone(), dictionary.clone(), []
    for _ in range(k):
        norm = rows.norm(dim=-1, keepdim=True)
        unit = torch.where(norm > 1e-4, rows / norm.clamp_min(1e-12), 0.0)
        index = (residual @ unit.mT).square().sum(-2).argmax(-1)
        direction = unit.gather(1, index[:, None, None].expand(-1, 1, unit.shape[-1]))
        residual = residual - (residual @ direction.mT) * direction
        rows = rows - (rows @ direction.mT) * direction
        chosen.append(index)
    return torch.stack(chosen, -1)


@torch.no_grad()
def coefficients(
    how: str, dictionary: Tensor, index: Tensor, strength: Tensor, valid: Tensor, y: Tensor
) -> Float[Tensor, "replicas batch k"]:
    """Coefficients on a given support; 0 where it is not valid.

    "amplitude": the strengths themselves; "least squares": the exact projection; "ridge": lambda = strength^-2;
    "NNLS": least squares without negative coefficients. Raises ValueError on any other name.
    """
    if how not in COEFFICIENTS:
        raise ValueError(f"coefficients: got {how!r}; allowed: {', '.join(map(repr, COEFFICIENTS))}")
    if how == "amplitude":
        return torch.where(valid, strength, 0.0)
    if how == "NNLS":
        return nnls(dictionary, index, valid, y)
    importance = torch.where(valid, strength, 0.0).flatten(0, 1) if how == "ridge" else None
    flat, table = flatten(index, dictionary.shape[-2]), dictionary.flatten(0, 1)
    found = project(table, flat, y.flatten(0, 1), importance, valid.flatten(0, 1))
    return found.coefficients.view(index.shape)


def reconstruct(dictionary: Tensor, index: Tensor, beta: Tensor) -> Float[Tensor, "replicas batch d"]:
    """What sparse codes `(replicas, batch, k)` stand for in each replica's dictionary."""
    n, d = dictionary.shape[-2:]
    flat = decode(dictionary.flatten(0, 1), flatten(index, n), beta.flatten(0, 1))
    return flat.view(*index.shape[:2], d)


def nnls(dictionary: Tensor, index: Tensor, valid: Tensor, y: Tensor) -> Tensor:
    """Non-negative least squares on each support by scipy (Lawson & Hanson), a sample at a time."""
    out = np.zeros(index.shape)
    rows, target = dictionary.double().numpy(), y.double().numpy()
    for r, b in np.ndindex(*index.shape[:2]):
        on = valid[r, b].numpy()
        if on.any():
            columns = rows[r][index[r, b].numpy()[on]].T
            out[r, b, on] = solve_nnls(columns, target[r, b], maxiter=30 * columns.shape[1])[0]
    return torch.from_numpy(out).to(y.dtype)


def mod(
    y: Float[Tensor, "replicas samples d"], n: int, k: int, *, iterations: int = 20, generator=None
) -> Float[Tensor, "replicas n d"]:
    """Method of optimal directions (Engan et al. 1999): OMP codes, then the least-squares dictionary, in turn.

    Starts at n samples of each replica; rows that no code uses are replaced by the samples that are explained worst.
    """
    replicas, samples, d = y.shape
    if n > samples:
        raise ValueError(f"{samples} samples for {n} rows; MOD starts at samples and needs at least as many")
    start = torch.rand(replicas, samples, generator=generator).argsort(-1)[:, :n]
    dictionary = torch.nn.functional.normalize(y.gather(1, start[..., None].expand(-1, -1, d)), dim=-1)
    ones = torch.ones(replicas, samples, k, dtype=torch.bool)
    for _ in range(iterations):
        index = omp(dictionary, y, k)
        beta = coefficients("least squares", dictionary, index, ones, ones, y)
        codes = torch.zeros(replicas, samples, n).scatter_(-1, index, beta)
        gram = codes.mT @ codes + 1e-6 * samples * torch.eye(n, device=y.device)
        rows = torch.linalg.solve(gram, codes.mT @ y)
        used = (codes != 0).any(1)
        worst = (y - codes @ rows).square().sum(-1).topk(n, dim=-1).indices
        worst = worst.gather(1, ((~used).cumsum(-1) - 1).clamp_min(0))  # the first unused row gets the worst
        fresh = y.gather(1, worst[..., None].expand(-1, -1, d))
        dictionary = torch.nn.functional.normalize(torch.where(used[..., None], rows, fresh), dim=-1)
    return dictionary
