"""What a pairwise similarity matrix (PSM) would be if there were nothing in it, and how extreme the real one is."""

import torch
from torch import Tensor

from lib.energy.objective import EnergyError, check_psm


def edge_shuffled(psm: Tensor, draws: int, *, generator: torch.Generator) -> Tensor:
    """The PSM `(n, n)` with its pairs in random order, `(draws, n, n)`: the same values, no structure."""
    psm = check_psm(psm)
    rows, columns = torch.triu_indices(*psm.shape, offset=1)
    values = psm[rows, columns]
    shuffled = psm.diagonal().diag_embed().repeat(draws, 1, 1)
    order = torch.rand(draws, len(values), generator=generator).argsort(-1)
    shuffled[:, rows, columns] = shuffled[:, columns, rows] = values[order]
    return shuffled


def coordinate_permuted(directions: Tensor, draws: int, *, generator: torch.Generator) -> Tensor:
    """Directions `(n, d)`, with the coordinates of each in its own random order, `(draws, n, d)`.

    The slides' own null, "no geometry at all": any directions whose coordinates average to zero become nearly
    orthogonal.
    """
    order = torch.rand(draws, *directions.shape, generator=generator).argsort(-1)
    return directions.expand(draws, *directions.shape).gather(-1, order)


def label_correlation(labels: Tensor, *, use: Tensor | None = None) -> Tensor:
    """Pearson correlations of labels `(n, items)`, `(n, n)` float64; each pair over the items both features use."""
    y = labels.to(torch.float64)
    use = torch.ones_like(y) if use is None else use.to(torch.float64)
    count = use @ use.T
    mean = (use * y) @ use.T / count  # of feature i over what i and j use
    product = (use * y) @ (use * y).T / count
    variance = (use * y * y) @ use.T / count - mean.square()
    if (count < 2).any() or (variance <= 0).any():
        raise EnergyError(
            "two features share no items on which each has both labels, so their correlation is not defined; "
            "give more items, or leave one of the features out"
        )
    correlation = (product - mean * mean.T) / (variance * variance.T).sqrt()
    return correlation.fill_diagonal_(1.0)


def off_diagonal(psm: Tensor) -> Tensor:
    """The pairs i < j of PSMs `(..., n, n)`, `(..., n (n - 1) / 2)`."""
    rows, columns = torch.triu_indices(psm.shape[-1], psm.shape[-1], offset=1)
    return psm[..., rows, columns]


def agreement(a: Tensor, b: Tensor) -> Tensor:
    """Pearson correlation of two PSMs over their pairs i < j; batches broadcast."""
    a, b = off_diagonal(a), off_diagonal(b)
    a, b = a - a.mean(-1, keepdim=True), b - b.mean(-1, keepdim=True)
    return (a * b).sum(-1) / (a.norm(dim=-1) * b.norm(dim=-1))


def p_value(real: float, null: Tensor, *, lower: bool = True) -> float:
    """The share of the null at least as low (or high) as the real value, itself included (Phipson & Smyth 2010)."""
    as_extreme = (null <= real) if lower else (null >= real)
    return (1 + int(as_extreme.sum())) / (1 + len(null))
