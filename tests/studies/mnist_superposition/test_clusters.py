"""How digits fall into clusters, on clusterings whose answer is known; enrichment against Fisher's test."""

import numpy as np
import pytest
import torch
from scipy.stats import fisher_exact

from lib.common import metrics
from lib.studies.mnist_superposition import clusters

RNG = np.random.default_rng(0)
A = RNG.integers(0, 3, 300)
B = np.where(RNG.random(300) < 0.5, A, RNG.integers(0, 3, 300))


def contingency(groups, size=100):
    """Clusters that each gather the digits of one group, evenly."""
    counts = torch.zeros(10, len(groups))
    for c, group in enumerate(groups):
        counts[list(group), c] = size
    return counts


def test_planted_split_is_the_best_of_35():
    planted = contingency([clusters.ROUNDED, clusters.POINTED, (1,), (2,)])
    scores = clusters.split_scores(clusters.cocluster(planted))
    assert len(scores) == 35
    assert max(scores, key=scores.get) == (0, 3, 6, 8) and max(scores.values()) == pytest.approx(1)
    assert clusters.split_rank(clusters.cocluster(planted)) == 1


def test_another_split_and_no_split():
    other = contingency([(0, 4, 5, 6), (3, 8, 7, 9), (1,), (2,)])
    assert clusters.split_rank(clusters.cocluster(other)) > 1
    alone = contingency([(d,) for d in range(10)])
    assert clusters.split_rank(clusters.cocluster(alone)) == 18  # all splits tie: the mean rank


def test_bisemantic_counts_clusters_of_exactly_two():
    assert clusters.bisemantic(contingency([(0, 1), (2, 3), (4,), (5, 6, 7)])) == 0.5
    unused = torch.cat([contingency([(0, 1), (2,)]), torch.zeros(10, 3)], 1)
    assert clusters.bisemantic(unused) == 0.5  # empty clusters are not counted


def test_digits_per_cluster():
    assert clusters.digits_per_cluster(contingency([(0, 1), (2, 3)])) == pytest.approx(2, rel=1e-4)
    assert clusters.digits_per_cluster(contingency([tuple(range(10))])) == pytest.approx(10, rel=1e-4)


def test_opposites_are_found():
    counts = torch.full((10, 4), 50.0)
    counts[1], counts[6] = torch.tensor([100.0, 80, 10, 5]), torch.tensor([5.0, 10, 80, 100])
    assert clusters.opposition_rank(counts) == 1
    assert clusters.opposition_rank(counts, a=2, b=3) > 1


def test_confidence_by_digit():
    K = torch.tensor([[0.9, 0.5, 0.6], [0.1, 0.5, 0.4]])
    confidence = clusters.confidence_by_digit(K, torch.tensor([6, 6, 1]))
    assert confidence[6] == pytest.approx(0.7) and confidence[1] == pytest.approx(0.6)
    assert np.isnan(confidence[0])


def test_contingency_against_a_loop():
    g = torch.Generator().manual_seed(0)
    a, d = torch.randint(4, (200,), generator=g), torch.randint(10, (200,), generator=g)
    counts = clusters.contingency(a, digits=d, k=4)
    for digit in range(10):
        for c in range(4):
            assert counts[digit, c] == ((a == c) & (d == digit)).sum()


def test_baselines_find_planted_clusters():
    g = torch.Generator().manual_seed(0)
    centres = 5 * torch.eye(3)
    labels = torch.arange(600) % 3
    x = centres[labels] + 0.1 * torch.randn(600, 3, generator=g)
    for name, (assignment, x_hat) in clusters.baselines(x[:300], x[300:], k=3).items():
        assert metrics.ari(assignment, labels[300:]) == 1, name
        assert metrics.fvu(x[300:], x_hat) < 0.01, name


def test_centroids_are_weighted_means_and_empty_without_weight():
    g = torch.Generator().manual_seed(0)
    images = torch.randint(256, (6, 2, 3), generator=g, dtype=torch.uint8)
    K = torch.tensor([[0.5, 0.1, 0, 0.3, 1, 0], [0.5, 0.9, 1, 0.7, 0, 1], [0, 0, 0, 0, 0, 0]])
    centroids = clusters.centroids(K, images)
    assert centroids.shape == (3, 2, 3) and np.isnan(centroids[2]).all()
    for c in range(2):
        expected = sum(w * image.numpy() / 255 for w, image in zip(K[c].tolist(), images, strict=True))
        np.testing.assert_allclose(centroids[c], expected / K[c].sum().item(), rtol=1e-5)


def test_tails_of_enrichment_are_fishers():
    for _, line in clusters.enrichment(rows={"a": A}, columns={"b": B}).iterrows():
        inside, other = line.row_class == A, line.column_class == B
        table = [[(x & y).sum() for y in (other, ~other)] for x in (inside, ~inside)]
        tails = [fisher_exact(table, alternative=side)[1] for side in ("less", "greater")]
        assert line.p == pytest.approx(min(1, 2 * min(tails)), rel=1e-9)
        assert line.overlap == table[0][0]


def test_the_false_discovery_rate_is_over_the_whole_table():
    table = clusters.enrichment(rows={"a": A}, columns={"b": B, "c": RNG.integers(0, 4, 300)})
    assert len(table) == 9 + 12
    p = table["p"].to_numpy()
    order = np.argsort(p)
    stepped = p[order] * len(p) / np.arange(1, len(p) + 1)
    expected = np.minimum.accumulate(stepped[::-1])[::-1].clip(max=1)
    np.testing.assert_allclose(table["fdr"].to_numpy()[order], expected, rtol=1e-9)


def test_what_belongs_together_is_enriched_and_what_is_shuffled_is_not():
    table = clusters.enrichment(rows={"a": A}, columns={"b": B, "shuffled": RNG.permutation(A)})
    same = table[(table["column"] == "b") & (table["row_class"] == table["column_class"])]
    assert (same["log2_odds"] > 1).all() and (same["fdr"] < 1e-6).all()
    assert (table[table["column"] == "shuffled"]["fdr"] > 0.05).all()


def test_enrichment_of_empty_cells_stays_finite():
    table = clusters.enrichment(
        rows={"a": np.array([0] * 50 + [1] * 50)}, columns={"b": np.array([0] * 50 + [1] * 50)}
    )
    assert np.isfinite(table["log2_odds"]).all() and (table["p"] > 0).all()


def test_lengths_of_labellings_must_agree():
    with pytest.raises(ValueError, match=r"\[10, 300\]"):
        clusters.enrichment(rows={"a": A}, columns={"b": A[:10]})
