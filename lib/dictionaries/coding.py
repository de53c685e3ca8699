"""Sparse codes of targets in a given dictionary: supports (threshold, OMP) and coefficients on them.

Post-hoc refits of a trained dictionary are prior art: orthogonal matching pursuit (Pati et al. 1993), and
inference-time optimisation in sparse autoencoders (Smith 2024; Engels et al. 2024).
"""

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Generator, Tensor

from lib.dictionaries.projection import project
from lib.dictionaries.rows import decode
from lib.dictionaries.selection import dense, flatten, top_k


@torch.no_grad()
def threshold(
    dictionary: Float[Tensor, "replicas n d"], y: Float[Tensor, "replicas batch d"], *, k: int
) -> Int[Tensor, "replicas batch k"]:
    """The k rows with the largest |dot product| with each target."""
    return top_k((y @ dictionary.mT).abs(), k)[1]


@torch.no_grad()
def omp(
    dictionary: Float[Tensor, "replicas n d"], y: Float[Tensor, "replicas batch d"], *, k: int
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
    dictionary: Float[Tensor, "replicas n d"], y: Float[Tensor, "replicas batch d"], *, k: int
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
def least_squares(
    dictionary: Float[Tensor, "replicas n d"],
    index: Int[Tensor, "replicas batch k"],
    y: Float[Tensor, "replicas batch d"],
    *,
    valid: Bool[Tensor, "replicas batch k"] | None = None,
) -> Float[Tensor, "replicas batch k"]:
    """Coefficients of the exact projection on each support; 0 where it is not valid."""
    return _projected(dictionary, index, y, None, valid)


@torch.no_grad()
def ridge(
    dictionary: Float[Tensor, "replicas n d"],
    index: Int[Tensor, "replicas batch k"],
    y: Float[Tensor, "replicas batch d"],
    *,
    importance: Float[Tensor, "replicas batch k"],
    valid: Bool[Tensor, "replicas batch k"] | None = None,
) -> Float[Tensor, "replicas batch k"]:
    """Coefficients of ridge regression on each support with lambda = importance^-2; 0 where it is not valid."""
    if valid is not None:
        importance = torch.where(valid, importance, 0.0)
    return _projected(dictionary, index, y, importance, valid)


def nnls(
    dictionary: Float[Tensor, "replicas n d"],
    index: Int[Tensor, "replicas batch k"],
    y: Float[Tensor, "replicas batch d"],
    *,
    valid: Bool[Tensor, "replicas batch k"] | None = None,
) -> Float[Tensor, "replicas batch k"]:
    """Non-negative least squares on each support by scipy (Lawson & Hanson), sample by sample; 0 where not valid."""
    from scipy.optimize import nnls as solve  # imported here: nothing else in this package needs scipy

    out = np.zeros(index.shape)
    rows, target = dictionary.detach().double().numpy(), y.detach().double().numpy()
    on = np.ones(index.shape, bool) if valid is None else valid.numpy()
    for r, b in np.ndindex(*index.shape[:2]):
        used = on[r, b]
        if used.any():
            columns = rows[r][index[r, b].numpy()[used]].T
            out[r, b, used] = solve(columns, target[r, b], maxiter=30 * columns.shape[1])[0]
    return torch.from_numpy(out).to(y.dtype)


def reconstruct(
    dictionary: Float[Tensor, "replicas n d"],
    index: Int[Tensor, "replicas batch k"],
    beta: Float[Tensor, "replicas batch k"],
) -> Float[Tensor, "replicas batch d"]:
    """What sparse codes `(replicas, batch, k)` stand for in each replica's dictionary."""
    n, d = dictionary.shape[-2:]
    flat = decode(dictionary.flatten(0, 1), flatten(index, n), beta.flatten(0, 1))
    return flat.view(*index.shape[:2], d)


def _projected(dictionary, index, y, importance, valid) -> Tensor:
    found = project(
        dictionary.flatten(0, 1),
        flatten(index, dictionary.shape[-2]),
        y.flatten(0, 1),
        importance=None if importance is None else importance.flatten(0, 1),
        valid=None if valid is None else valid.flatten(0, 1),
    )
    return found.coefficients.view(index.shape)


def mod(
    y: Float[Tensor, "replicas samples d"],
    *,
    n: int,
    k: int,
    iterations: int = 20,
    generator: Generator | None = None,
) -> Float[Tensor, "replicas n d"]:
    """Method of optimal directions (Engan et al. 1999): OMP codes, then the least-squares dictionary, in turn.

    Starts at n samples of each replica; rows that no code uses are replaced by the worst-explained samples.
    """
    replicas, samples, d = y.shape
    if n > samples:
        raise ValueError(f"{samples} samples for {n} rows; MOD starts at samples and needs at least as many")
    start = torch.rand(replicas, samples, generator=generator).argsort(-1)[:, :n]
    dictionary = torch.nn.functional.normalize(y.gather(1, start[..., None].expand(-1, -1, d)), dim=-1)
    for _ in range(iterations):
        index = omp(dictionary, y, k=k)
        codes = dense(index, least_squares(dictionary, index, y), n=n)
        gram = codes.mT @ codes + 1e-6 * samples * torch.eye(n, device=y.device)
        rows = torch.linalg.solve(gram, codes.mT @ y)
        used = (codes != 0).any(1)
        worst = (y - codes @ rows).square().sum(-1).topk(n, dim=-1).indices
        worst = worst.gather(1, ((~used).cumsum(-1) - 1).clamp_min(0))  # the first unused row gets the worst
        fresh = y.gather(1, worst[..., None].expand(-1, -1, d))
        dictionary = torch.nn.functional.normalize(torch.where(used[..., None], rows, fresh), dim=-1)
    return dictionary
