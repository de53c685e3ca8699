"""Interchange interventions: what of a hidden layer has to be swapped so that one variable, and no other, changes.

A *base* and a *source* input pass a network; part of the base's hidden state h `(replicas, ..., d)` is replaced by the
source's, and the output should be the *counterfactual*: that of the base with one variable taken from the source.

- `swap_subspace`: h + Q Q^T (h_source - h), for a learned Q (distributed alignment search, DAS: Geiger et al. 2023,
  arXiv:2303.02536) or the span of a few decoder rows of a dictionary (Sklar 2024, purposes 1 and 2);
- `swap_coefficient` (ours): least squares of h on all active rows, then one coefficient is swapped.

The networks to do it on are in `lib.studies.projective_dictionaries.variables`. Replicas come first everywhere; the
axes between them and the samples (the variables) are free.
"""

import copy
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lib.networks import training

_JITTER = 1e-9  # of the ridge, relative to the mean squared norm of an active row; the solve is in float64
_PIECE = 2**23  # numbers in the largest temporary of `swap_coefficient`


def span(directions: Float[Tensor, "*batch k d"]) -> Float[Tensor, "*batch d k"]:
    """An orthonormal basis of the span of k directions, as columns; those beyond its rank are zero.

    By singular values, since QR without pivoting fills up with arbitrary columns where directions coincide.
    """
    U, s, _ = torch.linalg.svd(directions.mT, full_matrices=False)
    tolerance = max(directions.shape[-2:]) * torch.finfo(s.dtype).eps * s[..., :1]
    U = U * (s > tolerance)[..., None, :]
    return torch.cat([U, U.new_zeros(*U.shape[:-1], directions.shape[-2] - U.shape[-1])], -1)


def swap_subspace(
    Q: Float[Tensor, "*#batch d k"],
    *,
    base: Float[Tensor, "*#batch n d"],
    source: Float[Tensor, "*#batch n d"],
) -> Float[Tensor, "*#batch n d"]:
    """base + Q Q^T (source - base): the part in the span of Q's orthonormal (or zero) columns is the source's.

    Raises ValueError where the shapes do not fit.
    """
    _same("hidden states", base, source)
    if Q.ndim < 2 or Q.shape[-2] != base.shape[-1]:
        raise ValueError(
            f"Q is {tuple(Q.shape)}; for hidden states {tuple(base.shape)} it must be (..., d, k)"
        )
    return base + (source - base) @ Q @ Q.mT


def swap_coefficient(
    dictionary: Float[Tensor, "replicas n d"],
    i: int | Int[Tensor, "..."],
    *,
    base: Float[Tensor, "replicas *batch d"],
    source: Float[Tensor, "replicas *batch d"],
    active_base: Bool[Tensor, "replicas *batch n"],
    active_source: Bool[Tensor, "replicas *batch n"],
) -> Float[Tensor, "replicas *batch d"]:
    """base + (beta_i(source) - beta_i(base)) f_i, where beta is the least squares fit of h on its active rows.

    beta_i is 0 where row i is not active, so that nothing happens where it is active in neither. `i` is one row or
    broadcasts to `(replicas, *batch)`. Exact where h is a sum of active rows that are linearly independent (so at
    most d); beyond that the coefficients of least norm. Raises ValueError where the shapes do not fit.
    """
    _same("hidden states", base, source)
    n, expected = dictionary.shape[-2], (*base.shape[:-1], dictionary.shape[-2])
    if dictionary.ndim != 3 or (len(dictionary), dictionary.shape[-1]) != (len(base), base.shape[-1]):
        raise ValueError(f"dictionary is {tuple(dictionary.shape)}; hidden states are {tuple(base.shape)}")
    for name, mask in (("active_base", active_base), ("active_source", active_source)):
        if mask.shape != expected or mask.dtype != torch.bool:
            raise ValueError(f"{name} is {mask.dtype} {tuple(mask.shape)}; it must be bool {expected}")
    i = torch.as_tensor(i, device=base.device)
    if i.min() < 0 or i.max() >= n:
        raise ValueError(f"i is {i.min()} to {i.max()}; rows are 0 to {n - 1}")
    i = i.expand(base.shape[:-1]).flatten(1)
    in_source = _coefficient(source.flatten(1, -2), dictionary, active=active_source.flatten(1, -2), i=i)
    in_base = _coefficient(base.flatten(1, -2), dictionary, active=active_base.flatten(1, -2), i=i)
    rows = dictionary.gather(1, i[..., None].expand(-1, -1, dictionary.shape[-1]))
    return base + ((in_source - in_base)[..., None] * rows).view(base.shape)


def _coefficient(h: Tensor, dictionary: Tensor, *, active: Tensor, i: Tensor) -> Tensor:
    """Coefficient i `(replicas, n)` of least squares on the active rows.

    As X^T (X X^T + jitter)^-1 h, which is (X^T X + jitter)^-1 X^T h: the system is d x d however many are active,
    and its matrices for all samples are one product of the masks with the rows' outer products.
    """
    D = dictionary.double()
    d = D.shape[-1]
    outer = (D[..., :, None] * D[..., None, :]).flatten(2)
    eye, out = torch.eye(d, dtype=D.dtype, device=D.device), []
    pieces = zip(*(t.split(max(1, _PIECE // (len(D) * d * d)), 1) for t in (h, active, i)), strict=True)
    for y, on, index in pieces:
        gram = (on.double() @ outer).unflatten(-1, (d, d))
        unit = gram.diagonal(dim1=-2, dim2=-1).sum(-1) / on.sum(-1).clamp_min(1)
        unit = torch.where(unit == 0, 1.0, _JITTER * unit)  # no active row: any matrix that inverts
        gram += unit[..., None, None] * eye
        solved = torch.cholesky_solve(y.double()[..., None], torch.linalg.cholesky(gram))[..., 0]
        row = D.gather(1, index[..., None].expand(-1, -1, d))
        out.append((row * solved).sum(-1) * on.gather(-1, index[..., None])[..., 0])
    return torch.cat(out, 1).to(h.dtype)


class _Rotation(nn.Module):
    """A subspace `(*batch, d, k)`, orthonormal by QR of free parameters, and a frozen tail to judge it by."""

    def __init__(self, free: Tensor, tail: Callable, loss: Callable):
        super().__init__()
        self.free, self.compare = nn.Parameter(free), loss
        self.tail = copy.deepcopy(tail).requires_grad_(False) if isinstance(tail, nn.Module) else tail

    @property
    def Q(self) -> Tensor:
        return torch.linalg.qr(self.free).Q

    def loss(self, h_base: Tensor, h_source: Tensor, target: Tensor) -> Tensor:
        return self.compare(through(self.tail, swap_subspace(self.Q, base=h_base, source=h_source)), target)


def learn_rotation(
    pairs: Iterator[tuple[Tensor, Tensor, Tensor]],
    tail: nn.Module | Callable[[Tensor], Tensor],
    *,
    loss: Callable[[Tensor, Tensor], Tensor],
    k: int,
    steps: int = 500,
    lr: float = 0.05,
    seed: int = 0,
) -> Float[Tensor, "*batch d k"]:
    """DAS: the k-dimensional subspace whose interchange gives the counterfactual, one for each leading index.

    `pairs` yields minibatches (h_base, h_source, target), hidden states `(*batch, n, d)`; all leading axes (replicas,
    variables) are learned at once and independently. `tail`, the rest of the network, maps `(replicas, n, d)` to
    outputs; a module is copied and its copy frozen. `loss(outputs, target)` averages over samples and keeps the leading
    axes. Raises ValueError where k is not between 1 and d.
    """
    first = next(pairs)
    *batch, _, d = first[0].shape
    if not 1 <= k <= d:
        raise ValueError(f"k is {k}; allowed: 1 to {d}, the width of the hidden layer")
    free = torch.randn(*batch, d, k, generator=torch.Generator().manual_seed(seed))
    rotation = _Rotation(free.to(first[0].dtype), tail, loss)

    def batches():
        yield first
        yield from pairs

    return training.train(rotation, batches(), steps=steps, lr=lr, name="rotation").model.Q.detach()


def through(
    f: Callable[[Tensor], Tensor], x: Float[Tensor, "replicas ... d"]
) -> Float[Tensor, "replicas ... out"]:
    """f, a map on `(replicas, n, d)`, with the axes between replicas and features folded into one."""
    return f(x.flatten(1, -2)).unflatten(1, x.shape[1:-1])


def correlation(
    codes: Float[Tensor, "*batch n latents"], x: Float[Tensor, "*batch n m"]
) -> Float[Tensor, "*batch m latents"]:
    """Pearson's correlation of every variable with every latent over samples; 0 where one of them is constant.

    Raises ValueError where the samples differ in number.
    """
    if codes.shape[:-1] != x.shape[:-1]:
        raise ValueError(
            f"codes are {tuple(codes.shape)} and variables {tuple(x.shape)}; all but the last must agree"
        )
    codes, x = (t - t.mean(-2, keepdim=True) for t in (codes, x))
    norms = x.norm(dim=-2)[..., :, None] * codes.norm(dim=-2)[..., None, :]
    return torch.where(norms > 0, x.mT @ codes / norms, 0.0)


def choose_columns(
    codes: Float[Tensor, "*batch n latents"], x: Float[Tensor, "*batch n m"], *, k: int
) -> Int[Tensor, "*batch m k"]:
    """The k latents whose codes correlate most (in absolute value) with each of m variables, the best first.

    The dictionary's subspace for a variable is the `span` of their decoder rows. Raises ValueError where k is not
    between 1 and the number of latents.
    """
    if not 1 <= k <= codes.shape[-1]:
        raise ValueError(f"k is {k}; allowed: 1 to {codes.shape[-1]}, the number of latents")
    return correlation(codes, x).abs().topk(k, -1).indices


class Scores(NamedTuple):
    """How well interventions give the counterfactual outputs, each `(replicas,)`.

    `error` is the squared distance to the counterfactual as a share of the base's (0: perfect, 1: like doing nothing),
    the sum of `target`, in the variable's own output, and `side`, in all others; `accuracy` is the share of pairs in
    which every thresholded output is the counterfactual's, and `idle` what doing nothing gets.
    """

    error: Tensor
    target: Tensor
    side: Tensor
    accuracy: Tensor
    idle: Tensor


def scores(
    out: Float[Tensor, "replicas m n m"],
    *,
    base: Float[Tensor, "replicas m n m"],
    counterfactual: Float[Tensor, "replicas m n m"],
    threshold: float = 0.25,
) -> Scores:
    """Scores of the outputs after intervening on each of m variables, over n pairs in which that variable differs.

    `base` and `counterfactual` are the network's own outputs on them. Squares are summed over pairs and variables
    before they are divided: a network in superposition drops some variables, and a mean of their ratios would be one
    of noise. nan where no variable reaches the outputs.
    """
    _same("outputs", out, base, counterfactual)
    if out.ndim != 4 or out.shape[1] != out.shape[3]:
        raise ValueError(
            f"outputs are {tuple(out.shape)}; they must be (replicas, variables, pairs, variables)"
        )
    squared = (out - counterfactual).square().sum(2)
    total = (base - counterfactual).square().sum((1, 2, 3))
    error, target = squared.sum((1, 2)) / total, squared.diagonal(dim1=1, dim2=2).sum(-1) / total
    wanted = counterfactual > threshold
    accuracy, idle = (((o > threshold) == wanted).all(-1).float().mean((1, 2)) for o in (out, base))
    return Scores(error, target, error - target, accuracy, idle)


def _same(what: str, *tensors: Tensor) -> None:
    shapes = {tuple(t.shape) for t in tensors}
    if len(shapes) > 1:
        raise ValueError(f"{what} are {' and '.join(map(str, sorted(shapes)))}; they must have one shape")
