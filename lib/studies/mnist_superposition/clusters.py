"""Clusterings: the baselines at matched k, how the ten digits fall into clusters, and enrichment."""

from itertools import combinations

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int, UInt8
from scipy.stats import false_discovery_control, hypergeom, rankdata
from sklearn.cluster import KMeans, SpectralClustering
from sklearn.mixture import GaussianMixture
from torch import Tensor

from lib.common.metrics import perplexity

ROUNDED, POINTED = (0, 3, 6, 8), (4, 5, 7, 9)  # the two groups that the source reports


def baselines(
    train: Float[Tensor, "n d"], test: Float[Tensor, "m d"], *, k: int, seed: int = 0
) -> dict[str, tuple[Int[Tensor, " m"], Float[Tensor, "m d"]]]:
    """k-means, Gaussian mixture and spectral clustering into k: by name, the clusters of `test` and their centroids.

    The first two are fitted on `train` and applied to `test`, the centroid being the training mean of the
    cluster; spectral clustering (10 nearest neighbours) cannot assign new samples and is fitted on `test`.
    """
    train, test = train.double().numpy(), test.double().numpy()
    kmeans = KMeans(k, n_init=4, random_state=seed).fit(train)
    mixture = GaussianMixture(k, random_state=seed, reg_covar=1e-4, max_iter=200).fit(train)
    spectral = SpectralClustering(
        k, affinity="nearest_neighbors", assign_labels="cluster_qr", random_state=seed
    ).fit_predict(test)
    means = {
        "k-means": (kmeans.predict(test), kmeans.cluster_centers_),
        "Gaussian mixture": (mixture.predict(test), mixture.means_),
        "spectral": (spectral, np.stack([test[spectral == c].mean(0) for c in range(k)])),
    }
    return {
        name: (torch.from_numpy(np.asarray(a)).long(), torch.from_numpy(centres[a]).float())
        for name, (a, centres) in means.items()
    }


def contingency(assignment: Int[Tensor, " n"], *, digits: Int[Tensor, " n"], k: int) -> Float[Tensor, "10 k"]:
    """Number of samples of each digit (row) in each cluster (column)."""
    counts = torch.zeros(10, k)
    return counts.index_put_((digits, assignment), torch.ones(len(digits)), accumulate=True)


def cocluster(counts: Float[Tensor, "10 k"]) -> np.ndarray:
    """Probability that random samples of digits a and b fall into the same cluster, `(10, 10)`."""
    p = counts / counts.sum(1, keepdim=True).clamp_min(1)
    return (p @ p.T).numpy()


def split_scores(affinity: np.ndarray) -> dict[tuple[int, ...], float]:
    """Each of the 35 equal splits of the source's eight digits: mean affinity within minus between groups.

    Keys are the group that holds the digit 0; `affinity` is `(10, 10)`, from `cocluster` or a confusion matrix.
    """
    eight = sorted(ROUNDED + POINTED)
    scores = {}
    for rest in combinations(eight[1:], 3):
        group = (eight[0], *rest)
        other = [d for d in eight if d not in group]
        within = [affinity[a, b] for side in (group, other) for a, b in combinations(side, 2)]
        scores[group] = float(np.mean(within) - affinity[np.ix_(group, other)].mean())
    return scores


def split_rank(affinity: np.ndarray) -> float:
    """Rank of rounded against pointed among the 35 splits: 1 is the best, 18 the chance level; ties share a rank."""
    scores = split_scores(affinity)
    ranks = dict(zip(scores, rankdata([-s for s in scores.values()]), strict=True))
    return float(ranks[tuple(sorted(ROUNDED))])


def bisemantic(counts: Float[Tensor, "10 k"], share: float = 0.2) -> float:
    """Share of the used clusters that gather exactly two digits: two have at least `share` of its samples each."""
    gathered = (counts / counts.sum(0).clamp_min(1) >= share).sum(0)[used(counts)]
    return float((gathered == 2).float().mean())


def digits_per_cluster(counts: Float[Tensor, "10 k"]) -> float:
    """Effective number of digits in the cluster of a random sample: perplexities weighted by size."""
    weight = counts.sum(0) / counts.sum()
    return float((weight * perplexity(counts.T.clamp_min(1e-30))).sum())


def confidence_by_digit(K: Float[Tensor, "k n"], digits: Int[Tensor, " n"]) -> np.ndarray:
    """Mean largest assignment of the samples of each digit, `(10,)`; NaN for a digit without samples."""
    top = K.max(0).values
    return np.array([float(top[digits == d].mean()) for d in range(10)])


def opposition_rank(counts: Float[Tensor, "10 k"], *, a: int = 1, b: int = 6) -> float:
    """Rank of the pair (a, b) among the 45 pairs of digits, by how their distributions over clusters correlate.

    1: the most opposed pair. Only used clusters count.
    """
    p = counts[:, used(counts)]
    p = p / p.sum(1, keepdim=True).clamp_min(1)
    centred = p - p.mean(1, keepdim=True)
    # A constant row correlates with nothing.
    unit = centred / centred.norm(dim=1, keepdim=True).clamp_min(1e-30)
    correlation = (unit @ unit.T).numpy()
    pairs = list(combinations(range(10), 2))
    return float(rankdata([correlation[pair] for pair in pairs])[pairs.index((a, b))])


def centroids(
    K: Float[Tensor, "k n"], images: UInt8[Tensor, "n h w"], *, share: float = 1e-3
) -> Float[np.ndarray, "k h w"]:
    """Mean images of the clusters, in [0, 1], weighted by assignment; NaN for a cluster with at most `share` of it."""
    pixels = images.float() / 255
    weighted = K @ pixels.flatten(1) / K.sum(1, keepdim=True).clamp_min(1e-9)
    mean = weighted.unflatten(1, pixels.shape[1:])
    return torch.where((K.mean(1) > share)[:, None, None], mean, torch.nan).numpy()


def used(counts: Float[Tensor, "10 k"], share: float = 1e-3) -> Tensor:
    """Clusters with more than `share` of the samples; bool `(k,)`."""
    return counts.sum(0) > share * counts.sum()


def enrichment(*, rows: dict[str, np.ndarray], columns: dict[str, np.ndarray]) -> pd.DataFrame:
    """Two-sided hypergeometric test of every class of every row labelling in every class of every column labelling.

    `rows` and `columns` map a name to integer labels of the same n samples. One line per pair of classes:
    row, row_class, column, column_class, overlap, log2_odds (with 1/2 added to the four counts, so that
    empty cells stay finite), p (twice the smaller tail, at most 1) and fdr (Benjamini-Hochberg over the
    whole table). Raises ValueError where lengths differ. Wiechecki 2024, section 3.1.5.
    """
    sizes = {len(labels) for labels in (*rows.values(), *columns.values())}
    if len(sizes) != 1:
        raise ValueError(f"labellings of the same samples are needed; got lengths {sorted(sizes)}")
    table = pd.concat(
        [
            _overlaps(a, b).assign(row=row, column=column)
            for row, a in rows.items()
            for column, b in columns.items()
        ],
        ignore_index=True,
    )
    table["fdr"] = false_discovery_control(table["p"])
    return table


def _overlaps(a: np.ndarray, b: np.ndarray) -> pd.DataFrame:
    """The part of `enrichment` on two labellings, without their names and the false discovery rate."""
    n = len(a)
    a_classes, a_index = np.unique(a, return_inverse=True)
    b_classes, b_index = np.unique(b, return_inverse=True)
    both = np.zeros((len(a_classes), len(b_classes)), dtype=int)
    np.add.at(both, (a_index, b_index), 1)
    i, j = (grid.ravel() for grid in np.indices(both.shape))
    overlap, in_a, in_b = both.ravel(), both.sum(1)[i], both.sum(0)[j]
    only_a, only_b = in_a - overlap, in_b - overlap
    neither = n - in_a - in_b + overlap
    odds = (overlap + 0.5) * (neither + 0.5) / ((only_a + 0.5) * (only_b + 0.5))
    fewer, more = hypergeom.cdf(overlap, n, in_a, in_b), hypergeom.sf(overlap - 1, n, in_a, in_b)
    return pd.DataFrame(
        dict(
            row_class=a_classes[i],
            column_class=b_classes[j],
            overlap=overlap,
            log2_odds=np.log2(odds),
            p=np.clip(2 * np.minimum(fewer, more), 0, 1),
        )
    )
