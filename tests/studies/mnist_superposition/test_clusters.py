"""What clusters say of digits, on clusterings whose answer is known."""

import numpy as np
import pytest
import torch

from lib.common import metrics
from lib.studies.mnist_superposition import clusters


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
    assert clusters.opposition_rank(counts, 2, 3) > 1


def test_confidence_by_digit():
    K = torch.tensor([[0.9, 0.5, 0.6], [0.1, 0.5, 0.4]])
    confidence = clusters.confidence_by_digit(K, torch.tensor([6, 6, 1]))
    assert confidence[6] == pytest.approx(0.7) and confidence[1] == pytest.approx(0.6)
    assert np.isnan(confidence[0])


def test_contingency_against_a_loop():
    g = torch.Generator().manual_seed(0)
    a, d = torch.randint(4, (200,), generator=g), torch.randint(10, (200,), generator=g)
    counts = clusters.contingency(a, d, 4)
    for digit in range(10):
        for c in range(4):
            assert counts[digit, c] == ((a == c) & (d == digit)).sum()


def test_baselines_find_planted_clusters():
    g = torch.Generator().manual_seed(0)
    centres = 5 * torch.eye(3)
    labels = torch.arange(600) % 3
    x = centres[labels] + 0.1 * torch.randn(600, 3, generator=g)
    for name, (assignment, x_hat) in clusters.baselines(x[:300], x[300:], 3).items():
        assert metrics.ari(assignment, labels[300:]) == 1, name
        assert metrics.fvu(x[300:], x_hat) < 0.01, name
