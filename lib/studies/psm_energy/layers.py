"""Statistics of one layer of a unit's probe directions, which claims of the energy-matching study are judged by.

Each takes a unit and the index of a layer in it. Medians and means are over draws of a null; those drawn here depend on
the layer's index alone.
"""

import torch
from torch import Tensor

from lib.energy import nulls
from lib.energy.landscape import simplex_distance
from lib.energy.objective import similarity
from lib.studies.psm_energy.units import Unit

DRAWS = 199  # of the nulls drawn here


def psm(unit: Unit, i: int) -> Tensor:
    """Pairwise cosines of the directions, `(n, n)`."""
    return similarity(unit.probed.directions[i])


def edges(unit: Unit, i: int) -> Tensor:
    """`psm` with its pairs in random order, `(DRAWS, n, n)`."""
    return nulls.edge_shuffled(psm(unit, i), DRAWS, _generator(i))


def agreement_with_random(unit: Unit, i: int) -> float:
    """Correlation of the PSM with the mean PSM of models with random weights."""
    return _with_random(unit, i, psm(unit, i))


def shuffled_agreement_with_random(unit: Unit, i: int) -> float:
    """The same of edge-shuffled PSMs, their mean."""
    return _with_random(unit, i, edges(unit, i))


def agreement_with_labels(unit: Unit, i: int) -> float:
    """Correlation of the PSM with the correlations of the labels."""
    return nulls.agreement(psm(unit, i), unit.labels).item()


def random_agreement_with_labels(unit: Unit, i: int) -> float:
    """The same of models with random weights, their median."""
    return nulls.agreement(similarity(unit.random[i]), unit.labels).median().item()


def shuffled_agreement_with_labels(unit: Unit, i: int) -> float:
    """The same of probes on shuffled labels, their median."""
    return nulls.agreement(similarity(unit.shuffled[i]), unit.labels).median().item()


def mean_cosine(unit: Unit, i: int) -> float:
    """Mean |cosine| of the directions."""
    return nulls.off_diagonal(psm(unit, i)).abs().mean().item()


def permuted_cosine(unit: Unit, i: int) -> float:
    """Mean |cosine| of the directions with permuted coordinates."""
    permuted = nulls.coordinate_permuted(unit.probed.directions[i], DRAWS, _generator(i))
    return nulls.off_diagonal(similarity(permuted)).abs().mean().item()


def to_simplex(unit: Unit, i: int) -> float:
    """Distance of the PSM from the simplex."""
    return simplex_distance(psm(unit, i)[None]).item()


def shuffled_to_simplex(unit: Unit, i: int) -> float:
    """The same of probes on shuffled labels, their median."""
    return simplex_distance(similarity(unit.shuffled[i])).median().item()


def random_to_simplex(unit: Unit, i: int) -> float:
    """The same of random directions, their median."""
    shape = DRAWS, *unit.probed.directions[i].shape
    return simplex_distance(similarity(torch.randn(shape, generator=_generator(i)).double())).median().item()


def sum_length(unit: Unit, i: int) -> float:
    """Length of the sum of the directions over the root of the sum of their squared lengths."""
    x = unit.probed.directions[i]
    return (x.sum(0).norm() / x.norm()).item()


def agreement_with_layers(unit: Unit, i: int) -> float:
    """Mean correlation of the PSM with those of the other layers."""
    return nulls.agreement(psm(unit, i), _other_layers(unit, i)).mean().item()


def shuffled_agreement_with_layers(unit: Unit, i: int) -> float:
    """The same of edge-shuffled PSMs."""
    return nulls.agreement(edges(unit, i)[:, None], _other_layers(unit, i)).mean().item()


def spread_by_norms(unit: Unit, i: int) -> float:
    """Mean |x_i - x_j|^2 over what the layer's norms give with the mean cosines of all layers."""
    norms, psms = unit.probed.directions.norm(dim=-1), similarity(unit.probed.directions)
    return _spread(norms[i], psms[i]) / _spread(norms[i], psms.mean(0))


def spread_by_cosines(unit: Unit, i: int) -> float:
    """Mean |x_i - x_j|^2 over what the mean norms of all layers give with the layer's cosines."""
    norms, psms = unit.probed.directions.norm(dim=-1), similarity(unit.probed.directions)
    return _spread(norms[i], psms[i]) / _spread(norms.mean(0), psms[i])


def apart(psms: Tensor) -> float:
    """Agreement of neighbouring layers less that of the first and the last, of PSMs `(layers, draws, n, n)`.

    0 of two layers, whose neighbours are the first and the last.
    """
    near = nulls.agreement(psms[1:], psms[:-1]).mean()
    return (near - nulls.agreement(psms[0], psms[-1]).mean()).item()


def _generator(i: int) -> torch.Generator:
    return torch.Generator().manual_seed(i)


def _with_random(unit: Unit, i: int, psms: Tensor) -> float:
    return nulls.agreement(psms, similarity(unit.random[i]).mean(0)).mean().item()


def _other_layers(unit: Unit, i: int) -> Tensor:
    psms = similarity(unit.probed.directions)
    return psms[[j for j in range(len(psms)) if j != i]]


def _spread(norms: Tensor, psm: Tensor) -> float:
    square = norms[:, None] ** 2 + norms[None] ** 2 - 2 * norms[:, None] * norms[None] * psm
    return nulls.off_diagonal(square).mean().item()
