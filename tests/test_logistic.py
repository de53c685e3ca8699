"""The solver's parts: a rotation that loses nothing, conjugate gradients, line search; the rest is in test_probes."""

import numpy as np
import pytest
import torch

from lib import logistic


def samples(n=60, d=20, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, d)) * np.logspace(1, -1, d) + 3
    rows = np.flatnonzero(rng.random(n) < 0.8)
    weight = rng.random(len(rows)) + 0.5
    return x, rows, weight, logistic.rotated(x, rows, weight, torch.float64, "cpu")


@pytest.mark.parametrize("d", [20, 100])
def test_rotated_samples_are_the_samples(d):
    x, rows, weight, found = samples(d=d)
    inner = found.x[:, :-1]
    torch.testing.assert_close(inner @ found.basis.T + found.mean, torch.from_numpy(x[rows]))
    torch.testing.assert_close(found.basis.T @ found.basis, torch.eye(inner.shape[1], dtype=torch.float64))
    torch.testing.assert_close(found.mean.numpy(), np.average(x[rows], axis=0, weights=weight))
    gram = (found.x.T * torch.from_numpy(weight / weight.sum())) @ found.x
    torch.testing.assert_close(gram, torch.diag(found.spectrum), atol=1e-10, rtol=1e-10)
    assert found.x.shape == (len(rows), min(d, len(rows)) + 1) and (found.x[:, -1] == 1).all()


def test_conjugate_gradients_solve_each_system_as_far_as_asked():
    *_, found = samples()
    g = torch.Generator().manual_seed(0)
    x, n, d = found.x, *found.x.shape
    curvature = torch.rand(4, n, generator=g, dtype=torch.float64) * torch.tensor([[1e-3], [1], [10], [1e3]])
    penalty = torch.ones(d, dtype=torch.float64)
    penalty[-1] = 0
    right = torch.randn(4, d, generator=g, dtype=torch.float64)
    scale = penalty + curvature.sum(1, keepdim=True) * found.spectrum
    hessian = torch.diag(penalty) + x.T @ (curvature[:, :, None] * x)
    exact = torch.linalg.solve(hessian, right[..., None])[..., 0]
    norm = (right.square() / scale).sum(1)
    taken = []
    for stop in (1e-2, 1e-24):
        step, change, iterations = logistic._conjugate_gradients(
            x, curvature, penalty, scale, right, stop * norm
        )
        left = right - (hessian @ step[..., None])[..., 0]
        assert ((left.square() / scale).sum(1) <= stop * norm * 1.01).all()
        torch.testing.assert_close(change, step @ x.T)
        taken.append(iterations)
    torch.testing.assert_close(step, exact, atol=1e-9, rtol=1e-8)
    assert (taken[0] < taken[1]).all() and len(set(taken[1].tolist())) > 1


def test_a_step_that_is_too_long_is_halved_until_f_has_fallen():
    """Far from the optimum a whole Newton step of this problem overshoots."""
    x = np.array([[1.0], [-1.0], [30.0], [0.1]])
    found = logistic.rotated(x, np.arange(4), np.ones(4), torch.float64, "cpu")
    target = torch.tensor([[True, False, False, True]])
    weight = torch.full((1, 4), 1e3, dtype=torch.float64)
    solution = logistic.solve(found, target, weight, 1e-10)
    assert solution.converged.all()
    w = torch.zeros(1, 2, dtype=torch.float64)
    logits, penalty = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([1.0, 0.0], dtype=torch.float64)

    def value(logits, w):
        losses = weight * torch.nn.functional.softplus(torch.where(target, -logits, logits))
        return float((w[:, :-1] ** 2).sum() / 2 + losses.sum())

    gradient = penalty * w + weight * (logits.sigmoid() - target.double()) @ found.x
    for far in (1.0, 1e2, 1e4):
        step = -far * gradient
        change = step @ found.x.T
        length, residual = logistic._line_search(
            w, logits, step, change, penalty, target.double(), weight, gradient
        )
        end = logits + length * change
        assert value(end, w + length * step) < value(logits, w)
        torch.testing.assert_close(residual, weight * (end.sigmoid() - target.double()))
