"""Statistics of one layer of a feature set's probe directions, by which claims are judged.

Each takes a feature set and the index of a layer in it. Medians and means are over draws of a null; those drawn here
depend on the layer's index alone.
"""

import torch
from torch import Tensor

from lib.energy import nulls
from lib.energy.excess_energy import simplex_distance
from lib.energy.objective import similarity
from lib.studies.psm_energy.feature_sets import FeatureSet

DRAWS = 199  # of the nulls drawn here


def psm(features: FeatureSet, i: int) -> Tensor:
    """Pairwise cosines of the directions, `(n, n)`."""
    return similarity(features.probed.directions[i])


def edges(features: FeatureSet, i: int) -> Tensor:
    """`psm` with its pairs in random order, `(DRAWS, n, n)`."""
    return nulls.edge_shuffled(psm(features, i), DRAWS, generator=_generator(i))


def agreement_with_random(features: FeatureSet, i: int) -> float:
    """Correlation of the PSM with the mean PSM of models with random weights."""
    return _with_random(features, i, psm(features, i))


def shuffled_agreement_with_random(features: FeatureSet, i: int) -> float:
    """The same of edge-shuffled PSMs, their mean."""
    return _with_random(features, i, edges(features, i))


def agreement_with_labels(features: FeatureSet, i: int) -> float:
    """Correlation of the PSM with the correlations of the labels."""
    return nulls.agreement(psm(features, i), features.labels).item()


def random_agreement_with_labels(features: FeatureSet, i: int) -> float:
    """The same of models with random weights, their median."""
    return nulls.agreement(similarity(features.random[i]), features.labels).median().item()


def shuffled_agreement_with_labels(features: FeatureSet, i: int) -> float:
    """The same of probes on shuffled labels, their median."""
    return nulls.agreement(similarity(features.shuffled[i]), features.labels).median().item()


def mean_cosine(features: FeatureSet, i: int) -> float:
    """Mean |cosine| of the directions."""
    return nulls.off_diagonal(psm(features, i)).abs().mean().item()


def permuted_cosine(features: FeatureSet, i: int) -> float:
    """Mean |cosine| of the directions with permuted coordinates."""
    permuted = nulls.coordinate_permuted(features.probed.directions[i], DRAWS, generator=_generator(i))
    return nulls.off_diagonal(similarity(permuted)).abs().mean().item()


def to_simplex(features: FeatureSet, i: int) -> float:
    """Distance of the PSM from the simplex."""
    return simplex_distance(psm(features, i)[None]).item()


def shuffled_to_simplex(features: FeatureSet, i: int) -> float:
    """The same of probes on shuffled labels, their median."""
    return simplex_distance(similarity(features.shuffled[i])).median().item()


def random_to_simplex(features: FeatureSet, i: int) -> float:
    """The same of random directions, their median."""
    shape = DRAWS, *features.probed.directions[i].shape
    return simplex_distance(similarity(torch.randn(shape, generator=_generator(i)).double())).median().item()


def sum_length(features: FeatureSet, i: int) -> float:
    """Length of the sum of the directions over the root of the sum of their squared lengths."""
    x = features.probed.directions[i]
    return (x.sum(0).norm() / x.norm()).item()


def agreement_with_layers(features: FeatureSet, i: int) -> float:
    """Mean correlation of the PSM with those of the other layers."""
    return nulls.agreement(psm(features, i), _other_layers(features, i)).mean().item()


def shuffled_agreement_with_layers(features: FeatureSet, i: int) -> float:
    """The same of edge-shuffled PSMs."""
    return nulls.agreement(edges(features, i)[:, None], _other_layers(features, i)).mean().item()


def spread_by_norms(features: FeatureSet, i: int) -> float:
    """Mean |x_i - x_j|^2 over what the layer's norms give with the mean cosines of all layers."""
    norms, psms = features.probed.directions.norm(dim=-1), similarity(features.probed.directions)
    return _spread(norms[i], psms[i]) / _spread(norms[i], psms.mean(0))


def spread_by_cosines(features: FeatureSet, i: int) -> float:
    """Mean |x_i - x_j|^2 over what the mean norms of all layers give with the layer's cosines."""
    norms, psms = features.probed.directions.norm(dim=-1), similarity(features.probed.directions)
    return _spread(norms[i], psms[i]) / _spread(norms.mean(0), psms[i])


def apart(psms: Tensor) -> float:
    """Agreement of neighbouring layers less that of the first and the last, of PSMs `(layers, draws, n, n)`.

    0 of two layers, whose neighbours are the first and the last.
    """
    near = nulls.agreement(psms[1:], psms[:-1]).mean()
    return (near - nulls.agreement(psms[0], psms[-1]).mean()).item()


def _generator(i: int) -> torch.Generator:
    return torch.Generator().manual_seed(i)


def _with_random(features: FeatureSet, i: int, psms: Tensor) -> float:
    return nulls.agreement(psms, similarity(features.random[i]).mean(0)).mean().item()


def _other_layers(features: FeatureSet, i: int) -> Tensor:
    psms = similarity(features.probed.directions)
    return psms[[j for j in range(len(psms)) if j != i]]


def _spread(norms: Tensor, psm: Tensor) -> float:
    square = norms[:, None] ** 2 + norms[None] ** 2 - 2 * norms[:, None] * norms[None] * psm
    return nulls.off_diagonal(square).mean().item()
