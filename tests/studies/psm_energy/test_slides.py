"""Energy matching as in the slides: the loss in loops, gradients by differences, and what Powell's method ends at."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import approx_fprime

from helpers.plain import generator
from lib.energy import matching
from lib.energy.objective import KERNELS, SIMILARITIES, equal_weights
from lib.studies.psm_energy import slides
from lib.studies.psm_energy.slides import Setting

SETTINGS = [
    *(Setting(kernel, kind, c=5.0) for kernel in KERNELS for kind in SIMILARITIES),
    *(Setting("exp", kind, diagonal=True) for kind in SIMILARITIES),
]


def drawn(n=4, f=3, seed=0):
    rng = np.random.default_rng(seed)
    x, w, t = rng.normal(size=(n, f)), rng.normal(size=n), rng.normal(size=(n, n))
    return x, np.exp(w) / np.exp(w).sum(), (t + t.T) / 2


def in_loops(x, weights, setting, target=None, strength=1.0):
    total = 0.0
    for i, j in np.ndindex(len(x), len(x)):
        apart = math.dist(x[i], x[j])
        cosine = 1.0 if i == j else x[i] @ x[j] / (np.linalg.norm(x[i]) * np.linalg.norm(x[j]))
        if i != j or setting.diagonal:
            if setting.kernel == "exp":
                kernel = math.exp(cosine)
            elif setting.kernel == "log":
                kernel = -math.log(apart)
            else:
                kernel = 1 / apart
            total += kernel * weights[i] * weights[j]
        if target is not None:
            likeness = cosine if setting.kind == "cosine" else math.exp(-(apart**2) / setting.c)
            total += strength * (likeness - target[i, j]) ** 2
    return total


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("matched", [False, True])
def test_the_loss_is_the_double_sum(setting, matched):
    x, weights, target = drawn()
    target = target if matched else None
    found = slides.loss(x, weights, setting=setting, target=target, strength=3.0)
    assert found[0] == pytest.approx(in_loops(x, weights, setting, target, 3.0), rel=1e-12)

    def in_x(z):
        return in_loops(z.reshape(x.shape), weights, setting, target, 3.0)

    def in_weights(z):
        return in_loops(x, z, setting, target, 3.0)

    np.testing.assert_allclose(found[1].ravel(), approx_fprime(x.ravel(), in_x, 1e-7), atol=2e-5)
    np.testing.assert_allclose(found[2], approx_fprime(weights, in_weights, 1e-7), atol=1e-5)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_the_value_alone_is_that_of_the_loss(setting):
    x, weights, _ = drawn()
    alone = slides._energy(x.copy(), weights, setting)
    assert alone == pytest.approx(slides.loss(x, weights, setting=setting)[0], rel=1e-12)


class Caught:
    """In scipy's place: keeps what it was asked to minimise, and says that the start is the minimum."""

    def __call__(self, function, start, jac=False, method=None):
        self.function, self.start, self.jac, self.method = function, start, jac, method
        value = function(start)
        self.x, self.fun, self.nfev, self.success = start, value[0] if jac else value, 1, False
        return self


@pytest.fixture
def caught(monkeypatch):
    caught = Caught()
    monkeypatch.setattr(slides, "minimize", caught)
    return caught


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("held", [False, True])
def test_the_joint_step_has_the_loss_and_its_gradient(setting, held, caught):
    x, _, target = drawn()
    norms = np.array([1.0, 2, 0.5, 1.5]) if held else None
    found = slides.joint(target, x, setting=setting, strength=2.0, norms=norms)
    assert caught.method == "CG" and caught.jac is True
    at = x if norms is None else norms[:, None] * x / np.linalg.norm(x, axis=1, keepdims=True)
    equal = np.full(4, 0.25)
    assert found.value == pytest.approx(in_loops(at, equal, setting, target, 2.0), rel=1e-12)
    np.testing.assert_allclose(found.x, at, rtol=1e-14)
    np.testing.assert_allclose(found.weights, equal)
    assert found.calls == 1 and found.converged is False
    z = np.concatenate([1.3 * x.ravel(), [0.1, -0.4, 0.8, 0.0]])
    numeric = approx_fprime(z, lambda z: caught.function(z)[0], 1e-7)
    np.testing.assert_allclose(caught.function(z)[1], numeric, atol=3e-5)


@pytest.mark.parametrize("setting", [Setting(kernel) for kernel in KERNELS], ids=str)
def test_the_reoptimisation_has_the_energy_and_the_penalty(setting, caught):
    x, weights, _ = drawn()
    norms = np.array([1.0, 2, 0.5, 1.5])
    lengths = np.linalg.norm(x, axis=1)
    found = slides.reoptimise(x, norms=norms, weights=weights, setting=setting, penalty=7.0)
    assert caught.method == "Powell" and not caught.jac
    off = np.abs(lengths - norms).sum()
    assert found.value == pytest.approx(in_loops(x, weights, setting) + 7 * off, rel=1e-12)
    np.testing.assert_array_equal(found.x, x)
    found = slides.reoptimise(x, norms=norms, weights=weights, setting=setting, penalty=None)
    at = x * (norms / lengths)[:, None]
    assert found.value == pytest.approx(in_loops(at, weights, setting), rel=1e-12)
    np.testing.assert_allclose(found.x, at)


def test_the_joint_step_ends_at_a_minimum():
    x, _, _ = drawn()
    u = torch.nn.functional.normalize(torch.from_numpy(drawn(seed=5)[0]), dim=-1)
    target, setting = (u @ u.T).numpy(), Setting(diagonal=True)
    for norms in (None, np.ones(4)):
        found = slides.joint(target, x, setting=setting, strength=10.0, norms=norms)
        assert found.converged and found.calls > 5 and found.weights.sum() == pytest.approx(1)
        at = found.x if norms is None else found.x / np.linalg.norm(found.x, axis=1, keepdims=True)
        value, in_x, in_weights = slides.loss(
            at, found.weights, setting=setting, target=target, strength=10.0
        )
        along = in_x - np.einsum("if,if->i", in_x, at)[:, None] * at / np.square(at).sum(1, keepdims=True)
        assert value == pytest.approx(found.value) and np.abs(along).max() < 1e-4
        assert np.ptp(in_weights) < 1e-3, "no weight would gain by taking from another"


@pytest.mark.parametrize("kernel", KERNELS)
def test_powell_keeps_norms_about_and_ends_no_lower_than_ours(kernel):
    n, f = 4, 2
    start = matching.starts(3, n=n, f=f, generator=generator(1))
    norms = 1 + torch.rand(3, n, generator=generator(2), dtype=torch.float64)
    weights = equal_weights(n)
    many = matching.reoptimise(
        matching.starts(24, n=n, f=f, generator=generator(3)).repeat(3, 1, 1),
        weights,
        kernel=kernel,
        norms=norms.repeat_interleave(24, 0),
    ).value.reshape(3, 24)
    for b in range(3):
        x, lengths = start[b].numpy(), norms[b].numpy()
        given = dict(norms=lengths, weights=weights.numpy(), setting=Setting(kernel))
        penalised = slides.reoptimise(x, **given, penalty=100.0)
        np.testing.assert_allclose(np.linalg.norm(penalised.x, axis=1), lengths, atol=1e-3)
        lowest = many[b].min().item()
        assert penalised.value >= lowest - 1e-6
        held = slides.reoptimise(x, **given, penalty=None)
        np.testing.assert_allclose(np.linalg.norm(held.x, axis=1), lengths, rtol=1e-12)
        assert held.value >= lowest - 1e-9
        assert held.value == pytest.approx(
            many[b].tolist()[int((many[b] - held.value).abs().argmin())], rel=1e-3
        )
        assert held.value == pytest.approx(in_loops(held.x, weights.numpy(), Setting(kernel)), rel=1e-12)
