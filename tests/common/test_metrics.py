"""Statistics at their known limits, and against scikit-learn or a loop."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression
from sklearn.metrics import r2_score

from helpers.plain import draw
from lib.common import metrics


def test_fvu_of_the_mean_is_one_and_of_a_perfect_reconstruction_zero():
    x = draw(50, 3) * torch.tensor([1.0, 10.0, 0.1]) + 5
    assert float(metrics.fvu(x, x)) == 0
    assert float(metrics.fvu(x, x.mean(0).expand_as(x))) == pytest.approx(1, abs=1e-12)
    x_hat = x + draw(50, 3, seed=1)
    expected = 1 - r2_score(x, x_hat, multioutput="variance_weighted")
    assert float(metrics.fvu(x, x_hat)) == pytest.approx(expected, abs=1e-12)


@given(st.floats(-100, 100), st.floats(0.01, 100))
def test_fvu_does_not_depend_on_shift_or_scale(shift, scale):
    x, x_hat = draw(40, 3), draw(40, 3, seed=1)
    moved = metrics.fvu(x * scale + shift, x_hat * scale + shift)
    assert float(moved) == pytest.approx(float(metrics.fvu(x, x_hat)), rel=1e-6)


def test_fvu_does_not_depend_on_how_often_the_data_are_repeated():
    x, x_hat = draw(40, 3), draw(40, 3, seed=1)
    torch.testing.assert_close(metrics.fvu(x.repeat(7, 1), x_hat.repeat(7, 1)), metrics.fvu(x, x_hat))


def test_standardising_has_one_scale_for_all_coordinates():
    x = draw(3, 200, 6) * torch.tensor([1.0, 5, 1, 1, 1, 1]) + 3
    mean, rms = metrics.mean_and_rms(x)
    assert mean.shape == (3, 1, 6) and rms.shape == (3, 1, 1)
    y, other = metrics.standardise(x, x[:, :50] + 1)
    torch.testing.assert_close(y, (x - mean) / rms, atol=0, rtol=0)
    torch.testing.assert_close(y.mean(1), torch.zeros(3, 6, dtype=x.dtype), atol=1e-12, rtol=0)
    torch.testing.assert_close(y.square().mean((1, 2)), torch.ones(3, dtype=x.dtype))
    assert y.square().mean((0, 1))[1] > 3
    # Others keep their distances to one another and to the training samples, in the training samples' unit.
    torch.testing.assert_close(other - y[:, :50], (1 / rms).expand(3, 50, 6))
    assert metrics.mean_and_rms(x[0])[0].shape == (1, 6)


def test_fvu_names_bad_input():
    with pytest.raises(ValueError, match=r"\(4, 2\).*\(4, 3\)"):
        metrics.fvu(torch.zeros(4, 2), torch.zeros(4, 3))
    with pytest.raises(ValueError, match="constant"):
        metrics.fvu(torch.ones(4, 2), torch.zeros(4, 2))


def test_sparsity_at_its_limits():
    one_hot, equal = torch.eye(5), torch.ones(5, 5)
    assert float(metrics.hoyer(one_hot)) == pytest.approx(1)
    assert float(metrics.hoyer(equal)) == pytest.approx(0, abs=1e-6)
    assert float(metrics.gini(one_hot)) == pytest.approx(4 / 5)
    assert float(metrics.gini(equal)) == pytest.approx(0, abs=1e-6)
    assert float(metrics.l0(one_hot)) == 1 and float(metrics.l0(equal)) == 5


def test_sparsity_is_over_live_units():
    E = draw(30, 6).relu()
    padded = torch.cat([E, torch.zeros(30, 10, dtype=E.dtype)], 1)
    for measure in (metrics.hoyer, metrics.gini, metrics.l0):
        torch.testing.assert_close(measure(padded), measure(E))
    assert metrics.live(padded).sum() == 6


def test_gini_and_hoyer_against_a_loop():
    E = draw(20, 7).relu() + 0.01
    d = 7
    gini = [np.abs(np.subtract.outer(e, e)).sum() / (2 * d * e.sum()) for e in E.numpy()]
    hoyer = [(d**0.5 - e.sum() / np.sqrt((e**2).sum())) / (d**0.5 - 1) for e in E.numpy()]
    assert float(metrics.gini(E)) == pytest.approx(np.mean(gini), rel=1e-9)
    assert float(metrics.hoyer(E)) == pytest.approx(np.mean(hoyer), rel=1e-9)


def test_samples_without_activity_are_left_out():
    E = torch.cat([torch.eye(4), torch.zeros(3, 4)])
    assert float(metrics.hoyer(E)) == pytest.approx(1)
    assert float(metrics.hoyer(torch.zeros(3, 4))) == 0


def test_copies_are_found_and_strangers_are_not():
    a, b = draw(200, 1), draw(200, 1, seed=1)
    assert float(metrics.copies(torch.cat([a, b, 3 * a + 1], 1))) == pytest.approx(2 / 3)
    assert float(metrics.copies(torch.cat([a, b, -a], 1))) == 0  # opposite is no copy
    assert (
        float(metrics.copies(torch.cat([a, torch.ones(200, 2, dtype=a.dtype)], 1))) == 0
    )  # constants are none


def test_perplexity_and_used_clusters():
    assert float(metrics.perplexity(torch.ones(12))) == pytest.approx(12, rel=1e-5)
    assert float(metrics.perplexity(torch.eye(12)[0])) == pytest.approx(1)
    assignment = torch.tensor([0] * 5000 + [1] * 4999 + [2])
    assert int(metrics.used_clusters(assignment, 12)) == 2  # one sample of 10,000 is not used


def test_cka_sees_through_rotation_and_scale_and_not_through_noise():
    x = draw(500, 3)
    q, _ = torch.linalg.qr(draw(3, 3, seed=1))
    assert metrics.cka(x, 5 * x @ q + 2) == pytest.approx(1, abs=1e-10)
    assert metrics.cka(x, draw(500, 3, seed=2)) < 0.05


def test_linear_r2_against_scikit_learn_with_collinear_predictors():
    K, x = draw(2, 300, 12).softmax(-1), draw(2, 300, 3, seed=1)
    x = x + K @ draw(12, 3, seed=2) * 5
    for r, value in enumerate(metrics.linear_r2(K, x)):
        fit = LinearRegression().fit(K[r], x[r]).predict(K[r])
        assert float(value) == pytest.approx(r2_score(x[r], fit, multioutput="variance_weighted"), abs=1e-6)


def test_agreement_of_labellings():
    a = torch.tensor([0, 0, 1, 1, 2, 2])
    assert metrics.ari(a, (a + 1) % 3) == 1 and metrics.nmi(a, 7 - a) == pytest.approx(1)
    g = torch.Generator().manual_seed(0)
    assert (
        abs(metrics.ari(torch.randint(5, (2000,), generator=g), torch.randint(5, (2000,), generator=g)))
        < 0.01
    )


@pytest.mark.parametrize("k", [1, 3])
def test_pca_fvu_is_that_of_scikit_learn(k):
    mix = draw(2, 6, 6)
    train, x = draw(2, 300, 6, seed=1) @ mix + 3, draw(2, 100, 6, seed=2) @ mix + 3.5
    for r, error in enumerate(metrics.pca_fvu(x, train=train, k=k)):
        pca = PCA(k).fit(train[r].numpy())
        left = x[r].numpy() - pca.inverse_transform(pca.transform(x[r].numpy()))
        total = ((x[r] - x[r].mean(0)) ** 2).sum()
        assert error.item() == pytest.approx((left**2).sum() / total.item(), rel=1e-9)
