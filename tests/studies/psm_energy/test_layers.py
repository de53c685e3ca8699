"""Statistics of a layer where geometry gives them: simplices, orthogonal directions, layers that are alike."""

import math

import pytest
import torch

from helpers.plain import close, draw
from lib.energy import nulls
from lib.energy.objective import similarity, simplex
from lib.probes.directions import Directions
from lib.studies.psm_energy import layers
from lib.studies.psm_energy.feature_sets import FeatureSet


def feature_set(directions, *, shuffled=None, random=None, labels=None):
    """Of directions `(layers, n, d)` and draws `(layers, draws, n, d)`."""
    return FeatureSet(
        items=None,
        dropped={},
        probed=Directions(directions=directions, means=directions, auc=None, low=None, high=None),
        shuffled=shuffled,
        random=random,
        random_auc=None,
        labels=labels,
    )


def turned(x, d=16, seed=0):
    return x @ torch.linalg.qr(draw(d, x.shape[-1], seed=seed))[0].T


def plain(a, b):
    """Pearson correlation over pairs i < j, in a loop."""
    pairs = [(a[i, j].item(), b[i, j].item()) for j in range(len(a)) for i in range(j)]
    x, y = torch.tensor(pairs, dtype=torch.float64).T
    return torch.corrcoef(torch.stack([x, y]))[0, 1].item()


def test_a_simplex_and_orthogonal_directions():
    simplices, orthogonal = turned(3 * simplex(5)), 2 * torch.eye(16, dtype=torch.float64)[:5]
    given = feature_set(torch.stack([simplices, orthogonal]))
    assert layers.to_simplex(given, 0) == pytest.approx(0, abs=1e-9)
    # 20 ordered pairs whose cosines are 1/4 away from the simplex's -1/4.
    assert layers.to_simplex(given, 1) == pytest.approx(math.sqrt(20) / 4)
    assert layers.sum_length(given, 0) == pytest.approx(0, abs=1e-9)
    assert layers.sum_length(given, 1) == pytest.approx(1)
    assert layers.mean_cosine(given, 0) == pytest.approx(1 / 4)
    assert layers.mean_cosine(given, 1) == pytest.approx(0, abs=1e-9)
    close(layers.psm(given, 0), similarity(simplex(5)))


def test_random_directions_are_as_far_from_the_simplex_as_their_variance_says():
    """In d dimensions a cosine has variance 1/d, so the mean square distance is n (n - 1) (1/(n - 1)^2 + 1/d)."""
    given = feature_set(torch.zeros(2, 5, 400) + draw(5, 400))
    expected = math.sqrt(20 * (1 / 16 + 1 / 400))
    assert layers.random_to_simplex(given, 0) == pytest.approx(expected, rel=0.02)
    assert layers.random_to_simplex(given, 0) != layers.random_to_simplex(given, 1)
    assert layers.random_to_simplex(given, 1) == layers.random_to_simplex(given, 1)


def test_permuted_coordinates_are_near_orthogonal_unless_all_are_alike():
    x = torch.stack([torch.ones(4, 400).double() * torch.tensor([[1.0], [-1], [2], [1]]), draw(4, 400) ** 3])
    x[1, 1:] = x[1, 0]
    given = feature_set(x)
    assert layers.permuted_cosine(given, 0) == pytest.approx(1)
    assert layers.mean_cosine(given, 1) == pytest.approx(1)
    # |cosine| of 400 permuted coordinates: about that of a Gaussian with variance 1/400.
    expected = math.sqrt(2 / math.pi / 400)
    assert layers.permuted_cosine(given, 1) == pytest.approx(expected, rel=0.2)


def test_draws_of_nulls_are_medians():
    close_by, far = turned(simplex(4)), torch.eye(16, dtype=torch.float64)[:4]
    shuffled = torch.stack([torch.stack([far, close_by, close_by]), torch.stack([far, far, close_by])])
    given = feature_set(draw(2, 4, 16), shuffled=shuffled)
    assert layers.shuffled_to_simplex(given, 0) == pytest.approx(0, abs=1e-9)
    assert layers.shuffled_to_simplex(given, 1) == pytest.approx(math.sqrt(12) / 3)


def test_agreement_with_labels_and_of_the_nulls():
    x = draw(2, 6, 16)
    shuffled, random = draw(2, 5, 6, 16, seed=1), draw(2, 3, 6, 16, seed=2)
    own = similarity(x[1])
    given = feature_set(x, shuffled=shuffled, random=random, labels=0.5 * own + 0.1)
    assert layers.agreement_with_labels(given, 1) == pytest.approx(1)
    assert layers.agreement_with_labels(given, 0) == pytest.approx(plain(similarity(x[0]), own))
    for function, draws in (
        (layers.shuffled_agreement_with_labels, shuffled),
        (layers.random_agreement_with_labels, random),
    ):
        for i in range(2):
            found = sorted(plain(similarity(one), own) for one in draws[i])
            assert function(given, i) == pytest.approx(found[len(found) // 2])


def test_agreement_with_the_mean_psm_of_random_weights():
    x, random = draw(2, 6, 16), draw(2, 3, 6, 16, seed=2)
    given = feature_set(x, random=random)
    for i in range(2):
        mean = sum(similarity(one) for one in random[i]) / 3
        assert layers.agreement_with_random(given, i) == pytest.approx(plain(similarity(x[i]), mean))
        # Pairs in random order agree with nothing, on average: 199 correlations over 15 pairs each.
        assert abs(layers.shuffled_agreement_with_random(given, i)) < 5 / math.sqrt(14 * 199)
    same = feature_set(x, random=x[:, None])
    assert layers.agreement_with_random(same, 0) == pytest.approx(1)
    assert abs(layers.shuffled_agreement_with_random(same, 0)) < 5 / math.sqrt(14 * 199)


def test_edges_keep_their_values():
    given = feature_set(draw(2, 5, 16))
    drawn = layers.edges(given, 1)
    assert drawn.shape == (199, 5, 5)
    own = nulls.off_diagonal(layers.psm(given, 1)).sort().values
    close(nulls.off_diagonal(drawn).sort(-1).values, own.expand(199, 10))


def test_agreement_with_the_other_layers_leaves_out_the_own():
    x, y = draw(6, 16), draw(6, 16, seed=1)
    given = feature_set(torch.stack([x, 5 * x, y]))
    across = plain(similarity(x), similarity(y))
    for i, expected in enumerate(((1 + across) / 2, (1 + across) / 2, across)):
        assert layers.agreement_with_layers(given, i) == pytest.approx(expected)
        assert abs(layers.shuffled_agreement_with_layers(given, i)) < 5 / math.sqrt(14 * 199)


def test_scale_comes_from_norms_or_from_cosines():
    """Layers that differ in length alone, and layers that differ in angle alone."""
    x = draw(5, 16)
    by_length = feature_set(torch.stack([x, 3 * x]))
    for i, share in ((0, 1 / 2), (1, 3 / 2)):
        assert layers.spread_by_norms(by_length, i) == pytest.approx(1)
        assert layers.spread_by_cosines(by_length, i) == pytest.approx(share**2)
    unit_length = torch.stack([turned(simplex(5)), torch.eye(16, dtype=torch.float64)[:5]])
    by_angle = feature_set(2 * unit_length)
    # Mean squared distances 4 (2 + 1/2) and 4 * 2; the mean cosine is -1/8.
    for i, actual in ((0, 10), (1, 8)):
        assert layers.spread_by_norms(by_angle, i) == pytest.approx(actual / 9)
        assert layers.spread_by_cosines(by_angle, i) == pytest.approx(1)


def test_norms_and_cosines_of_each_pair():
    x = draw(3, 4, 16) * (1 + torch.arange(4.0)[:, None])
    given, norms, psms = feature_set(x), x.norm(dim=-1), similarity(x)

    def mean_square(norms, psm):
        pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
        return sum(norms[i] ** 2 + norms[j] ** 2 - 2 * norms[i] * norms[j] * psm[i, j] for i, j in pairs) / 12

    for i in range(3):
        actual = sum((x[i, a] - x[i, b]).square().sum() for a in range(4) for b in range(4)) / 12
        by_norms, by_cosines = mean_square(norms[i], psms.mean(0)), mean_square(norms.mean(0), psms[i])
        assert layers.spread_by_norms(given, i) == pytest.approx((actual / by_norms).item())
        assert layers.spread_by_cosines(given, i) == pytest.approx((actual / by_cosines).item())


def test_neighbours_less_the_first_and_the_last():
    a, b, c = (similarity(draw(6, 16, seed=seed)) for seed in range(3))
    expected = (plain(a, b) + plain(b, c)) / 2 - plain(a, c)
    assert layers.apart(torch.stack([a, b, c])[:, None]) == pytest.approx(expected)
    assert layers.apart(torch.stack([a, b])[:, None]) == pytest.approx(0, abs=1e-12)
    # Draws are of one model through its layers, and are averaged.
    both = torch.stack([torch.stack([a, b, c]), torch.stack([a, a, a])], 1)
    assert layers.apart(both) == pytest.approx(expected / 2)
