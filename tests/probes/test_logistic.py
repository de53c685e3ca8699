"""The solver's parts: centred samples and their covariance, the metric, L-BFGS; the rest is in test_fit."""

import numpy as np
import pytest
import torch

from lib.probes import logistic


def samples(n=300, d=20, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.logspace(1, -1, d) + 3
    rows = np.flatnonzero(rng.random(n) < 0.8)
    weight = rng.random(len(rows)) + 0.5
    return x, rows, weight, logistic.prepared(x, rows, weight=weight, dtype=torch.float64, device="cpu")


def covariance(x, weight):
    return np.cov(x, rowvar=False, aweights=weight, ddof=0)


def test_samples_are_centred_and_the_axes_are_those_of_their_covariance(monkeypatch):
    monkeypatch.setattr(logistic, "_ROWS", 64)
    x, rows, weight, found = samples(n=30)  # all of fewer than 2 d are looked at
    np.testing.assert_allclose(found.mean, np.average(x[rows], axis=0, weights=weight))
    np.testing.assert_allclose(found.x[:, :-1] + found.mean, x[rows], atol=1e-12)
    assert (found.x[:, -1] == 1).all()
    rebuilt = (found.axes * found.variance) @ found.axes.T
    np.testing.assert_allclose(rebuilt, covariance(x[rows], weight), atol=1e-10)
    np.testing.assert_allclose(found.axes.T @ found.axes, np.eye(20), atol=1e-10)


def test_of_many_dimensions_the_leading_axes_are_known_and_the_mean_of_the_others(monkeypatch):
    monkeypatch.setattr(logistic, "_AXES", 4)
    x, rows, weight, found = samples(n=30)
    exact = np.linalg.eigvalsh(covariance(x[rows], weight))[::-1]
    np.testing.assert_allclose(found.variance.flip(0)[:2], exact[:2], rtol=0.02)
    assert found.axes.shape == (20, 4)
    assert 16 * float(found.rest) + float(found.variance.sum()) == pytest.approx(exact.sum())


def test_the_metric_inverts_the_hessian_of_equal_curvatures():
    x, rows, weight, found = samples(n=30)
    curvature = torch.tensor([[1e-3], [1.0], [1e4]], dtype=torch.float64)
    metric = logistic._Metric(found, curvature)
    gradient = torch.randn(3, 21, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for c, g, out in zip(curvature[:, 0], gradient, metric(gradient), strict=True):
        hessian = torch.eye(20, dtype=torch.float64) + c * torch.from_numpy(covariance(x[rows], weight))
        torch.testing.assert_close(out[:-1], torch.linalg.solve(hessian, g[:-1]))
        torch.testing.assert_close(out[-1], g[-1] / c)


def test_the_direction_meets_the_secant_equation():
    """The inverse Hessian takes the last difference of gradients to the last step, whatever the metric."""
    *_, found = samples()
    g = torch.Generator().manual_seed(0)
    metric = logistic._Metric(found, torch.tensor([[0.1], [10.0]], dtype=torch.float64))
    hessian = torch.randn(2, 21, 21, generator=g, dtype=torch.float64)
    hessian = hessian @ hessian.mT + torch.eye(21, dtype=torch.float64)
    past = []
    for _ in range(4):
        step = torch.randn(2, 21, generator=g, dtype=torch.float64)
        difference = (hessian @ step[..., None])[..., 0]
        past.append((step, difference, 1 / (step * difference).sum(1, keepdim=True)))
        torch.testing.assert_close(logistic._direction(difference, past, metric), step)
    gradient = torch.randn(2, 21, generator=g, dtype=torch.float64)
    assert ((logistic._direction(gradient, past, metric) * gradient).sum(1) > 0).all(), "positive definite"
    assert (logistic._direction(gradient, [], metric) == metric(gradient)).all()


def test_steps_that_are_too_long_or_too_short_are_changed_until_f_has_fallen():
    *_, found = samples()
    n = len(found.x)
    g = torch.Generator().manual_seed(0)
    target = (found.x[:, :3] + torch.randn(n, 3, generator=g, dtype=torch.float64) > 0).double()
    weight = 5 * torch.rand(n, 3, generator=g, dtype=torch.float64)
    w = 0.1 * torch.randn(3, 21, generator=g, dtype=torch.float64)
    logits = found.x @ w.T

    def value(logits, w):
        losses = weight * torch.nn.functional.softplus(torch.where(target > 0, -logits, logits))
        return w[:, :-1].square().sum(1) / 2 + losses.sum(0)

    gradient = (weight * (logits.sigmoid() - target)).T @ found.x
    gradient[:, :-1] += w[:, :-1]
    for far in (1e-9, 1e-4, 1.0, 1e3):
        step = -far * gradient
        change = found.x @ step.T
        length, moved, surprise, residual = logistic._line_search(
            w, logits, step, change, target, weight, gradient
        )
        torch.testing.assert_close(moved, logits + length * change)
        torch.testing.assert_close(surprise, moved.sigmoid() - target)
        torch.testing.assert_close(residual, weight * surprise)
        end = w + length[:, None] * step
        slope = (residual.T @ found.x * step).sum(1) + (end * step)[:, :-1].sum(1)
        before = (gradient * step).sum(1)
        assert (value(moved, end) < value(logits, w)).all()
        assert (slope >= 0.9 * before).all(), "not where it began"
