"""Batched L-BFGS: known minima, scipy's, the two-loop recursion, and how problems end that have no minimum."""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize as scipy_minimize
from scipy.optimize import rosen, rosen_der

from helpers.plain import close, draw
from lib.energy.minimise import FAR, MEMORY, minimise


def quadratics(conditions, size=6, seed=0):
    """(z - m) A (z - m) / 2 with eigenvalues from 1 to each condition, `function` and the minima m."""
    b = len(conditions)
    turn = torch.linalg.qr(draw(b, size, size, seed=seed))[0]
    powers = torch.linspace(0, 1, size, dtype=torch.float64)
    a = turn @ torch.diag_embed(torch.tensor(conditions, dtype=torch.float64)[:, None] ** powers) @ turn.mT
    m = draw(b, size, seed=seed + 1)

    def function(z, which):
        off = z - m[which]
        gradient = (a[which] * off[:, None, :]).sum(-1)
        return 0.5 * (off * gradient).sum(-1), gradient

    return function, m


def rosenbrock(z, which):
    x, y = z[:, :-1], z[:, 1:]
    value = (100 * (y - x**2) ** 2 + (1 - x) ** 2).sum(-1)
    gradient = torch.zeros_like(z)
    gradient[:, :-1] += -400 * x * (y - x**2) - 2 * (1 - x)
    gradient[:, 1:] += 200 * (y - x**2)
    return value, gradient


def softplus(size=5, count=4):
    """Strictly convex, not quadratic: log sum exp(A z + b) + |z|^2 / 20."""
    a, b = draw(count, 9, size), draw(count, 9, seed=1)

    def function(z, which):
        t = (a[which] @ z[:, :, None])[..., 0] + b[which]
        value = torch.logsumexp(t, -1) + z.square().sum(-1) / 20
        return value, (t.softmax(-1)[:, None, :] @ a[which])[:, 0] + z / 10

    return function


def alone(function, i, z):
    """Problem i of a batch as scipy wants it."""
    value, gradient = function(torch.from_numpy(np.array(z))[None], torch.tensor([i]))
    return value.item(), gradient[0].numpy()


@pytest.mark.parametrize("dense", [False, True])
def test_quadratics_of_every_conditioning_reach_their_own_minimum(dense):
    conditions = [1.0, 3, 10, 100, 1e3, 1e4, 1e5, 30, 1, 1e6]
    function, m = quadratics(conditions)
    found = minimise(function, draw(len(m), 6, seed=5), dense=dense)
    assert found.converged.all() and (found.gradient <= 1e-6).all()
    close(found.z, m, 3e-6)  # the smallest eigenvalue is 1
    assert found.evaluations.max() < 200
    assert found.evaluations[0] < 10 and found.evaluations[0] == found.evaluations[8]


def test_whole_inverse_hessians_need_fewer_evaluations_where_conditioning_is_bad():
    function, m = quadratics([1e4] * 3, size=30)
    start = draw(3, 30, seed=5)
    whole, limited = (minimise(function, start, dense=dense) for dense in (True, False))
    assert whole.converged.all() and limited.converged.all()
    close(whole.z, m, 1e-5)
    assert (whole.evaluations < 0.8 * limited.evaluations).all()


def test_it_needs_as_many_evaluations_as_scipys_with_the_same_memory():
    function, m = quadratics([300.0] * 3, size=40)
    start = draw(3, 40, seed=5)
    found = minimise(function, start)
    assert found.converged.all() and found.evaluations.min() > 3 * 4 * MEMORY  # its buffer is moved
    close(found.z, m, 5e-6)
    for b in range(3):
        options = dict(maxcor=MEMORY, ftol=0, gtol=1e-6)
        theirs = scipy_minimize(
            lambda z, b=b: alone(function, b, z),
            start[b].numpy(),
            jac=True,
            method="L-BFGS-B",
            options=options,
        )
        assert found.evaluations[b] < 1.25 * theirs.nfev


@pytest.mark.parametrize("dense", [False, True])
def test_rosenbrock(dense):
    for size in (2, 6):
        start = torch.cat([draw(8, size), torch.tensor([-1.2] + [1.0] * (size - 1))[None].double()])
        start[:, 0] = start[:, 0].abs() if size > 2 else start[:, 0]  # beyond two, -1 is near another minimum
        found = minimise(rosenbrock, start, tolerance=1e-9, dense=dense)
        assert found.converged.all()
        lowest = found.value < 1
        assert lowest.sum() >= 8 and found.evaluations.max() < 300
        close(found.z[lowest], torch.ones_like(found.z[lowest]), 1e-6)


def test_our_rosenbrock_is_scipys():
    z = draw(3, 4)
    value, gradient = rosenbrock(z, None)
    for b in range(3):
        close(value[b].item(), rosen(z[b].numpy()))
        close(gradient[b], torch.from_numpy(rosen_der(z[b].numpy())))


@pytest.mark.parametrize("function, size", [(softplus(), 5), (quadratics([5.0, 50, 500, 5])[0], 6)])
def test_the_minimum_is_scipys(function, size):
    start = draw(4, size, seed=7)
    found = minimise(function, start, tolerance=1e-9)
    assert found.converged.all()
    for b in range(4):
        theirs = scipy_minimize(
            lambda z, b=b: alone(function, b, z), start[b].numpy(), jac=True, method="L-BFGS-B", tol=1e-14
        )
        assert found.value[b].item() <= theirs.fun + 1e-12
        close(found.z[b], torch.from_numpy(theirs.x), 1e-4)


def test_what_comes_back_belongs_together():
    function, _ = quadratics([1.0, 1e2, 1e5, 10, 1e3])
    start = draw(5, 6, seed=5)
    for evaluations in (3, 1000):
        found = minimise(function, start, tolerance=1e-7, evaluations=evaluations)
        value, gradient = function(found.z, torch.arange(5))
        close(found.value, value, 1e-13)
        close(found.gradient, gradient.abs().amax(-1), 1e-13)
        assert torch.equal(found.converged, found.gradient <= 1e-7 * found.value.abs().clamp_min(1))
        assert (found.value <= function(start, torch.arange(5))[0]).all()


def test_a_large_value_makes_the_tolerance_relative():
    function, _ = quadratics([1e3])

    def raised(z, which):
        value, gradient = function(z, which)
        return value + 1e4, gradient

    start = draw(1, 6, seed=5)
    loose, strict = (minimise(each, start, tolerance=1e-5) for each in (raised, function))
    assert loose.converged.all() and 1e-5 < loose.gradient.item() <= 0.1 + 1e-3
    assert loose.evaluations < strict.evaluations


def test_a_result_does_not_depend_on_what_else_is_in_the_batch():
    function, _ = quadratics([1.0, 1e4, 1e2, 1e5, 10, 3])
    start = draw(6, 6, seed=5)
    together = minimise(function, start)
    assert together.converged.all()
    for b in range(6):
        own = minimise(lambda z, which, b=b: function(z, torch.full_like(which, b)), start[b : b + 1])
        close(own.z[0], together.z[b], 1e-6)
        assert abs(own.evaluations - together.evaluations[b]) <= 0.2 * own.evaluations
    backwards = minimise(lambda z, which: function(z, 5 - which), start.flip(0))
    close(backwards.z.flip(0), together.z, 1e-6)


def test_a_problem_that_is_done_costs_nothing_more():
    function, _ = quadratics([1.0] * 9 + [1e5])
    evaluated = torch.zeros(10)

    def counting(z, which):
        evaluated[which] += 1
        return function(z, which)

    found = minimise(counting, draw(10, 6, seed=5))
    assert found.converged.all()
    assert torch.equal(found.evaluations[9:] + 1, evaluated[9:].long())
    assert evaluated[:9].max() < 0.3 * evaluated[9]


@pytest.mark.parametrize("first", [1.0, 0.7, -3.0])
def test_without_a_lower_bound_it_ends_and_says_so(first):
    """-z^2, -z^4 and exp(-z) - z, and one beside them that has a minimum."""

    def function(z, which):
        forms = torch.stack([-z.square(), -(z**4), torch.exp(-z) - z, (z - 3).square()])[..., 0]
        slopes = torch.stack([-2 * z, -4 * z**3, -torch.exp(-z) - 1, 2 * (z - 3)])[..., 0]
        rows = torch.arange(len(which))
        return forms[which, rows], slopes[which, rows][:, None]

    found = minimise(function, torch.full((4, 1), first, dtype=torch.float64))
    assert found.converged.tolist() == [False, False, False, True]
    close(found.z[3].item(), 3.0, 1e-6)
    assert (found.value[:3] < function(found.z * 0 + first, torch.arange(4))[0][:3]).all()
    assert (found.evaluations <= 1000).all() and found.evaluations[0] < 100
    strict = minimise(lambda z, which: (-z.square()[:, 0], -2 * z), found.z[:1] * 0 + first, tolerance=0)
    assert not strict.converged and strict.evaluations < 100 and strict.z.abs() > FAR


def test_a_start_that_is_not_finite_is_refused():
    def function(z, which):
        return z.log().sum(-1), 1 / z

    start = torch.ones(3, 2, dtype=torch.float64)
    start[1, 0] = -1
    with pytest.raises(ValueError, match="problem 1 has no finite value where it starts") as raised:
        minimise(function, start)
    assert "\n" not in str(raised.value)

    def steep(z, which):
        return z.sqrt().sum(-1), 0.5 / z.sqrt()

    with pytest.raises(ValueError, match="problem 2 has no finite value"):
        minimise(steep, torch.tensor([[1.0], [1.0], [0.0]]))


def test_it_steps_back_from_where_a_function_is_not_finite():
    def function(z, which):
        return (1e3 * z - z.log()).sum(-1), 1e3 - 1 / z  # NaN below 0, the minimum at 0.001

    found = minimise(function, torch.tensor([[1.0, 2.0], [0.5, 1e-4]]))
    assert found.converged.all()
    close(found.z, torch.full_like(found.z, 1e-3), 1e-8)

    def cliff(z, which):  # below 2.9 the value is lower, and there is no gradient to go on with
        below = z < 2.9
        value = torch.where(below, -5.0, (z - 3).square())
        return value.sum(-1), torch.where(below, torch.nan, 2 * (z - 3))

    found = minimise(cliff, torch.tensor([[3.45]]))
    assert found.converged.all()
    close(found.z.item(), 3.0, 1e-6)


def test_at_a_kink_it_ends_soon_unconverged():
    def function(z, which):
        return z.abs().sum(-1), torch.where(z < 0, -1.0, 1.0).double()

    found = minimise(function, draw(4, 3))
    assert not found.converged.any() and (found.evaluations < 300).all()
    assert (found.value < 0.7 * draw(4, 3).abs().sum(-1)).all() and (found.gradient == 1).all()


@pytest.mark.parametrize("cap", [0, 1, 5])
def test_it_keeps_to_the_evaluations_it_is_given(cap):
    calls = []

    def counting(z, which):
        calls.append(len(which))
        return rosenbrock(z, which)

    start = draw(3, 4)
    found = minimise(counting, start, evaluations=cap)
    assert len(calls) == cap + 1  # that of the start is not counted
    assert (found.evaluations == cap).all() and not found.converged.any()
    if cap == 0:
        assert torch.equal(found.z, start)
    else:
        assert (found.value < rosenbrock(start, None)[0]).all()


def test_one_that_starts_at_its_minimum_stays_there():
    function, m = quadratics([10.0, 100])
    start = torch.stack([m[0], m[1] + 1])
    found = minimise(function, start)
    assert found.evaluations[0] == 0 and found.evaluations[1] > 0 and found.converged.all()
    assert torch.equal(found.z[0], m[0])
    assert torch.equal(start[1], m[1] + 1), "the start is left as it was"


class Sphere:
    def tangent(self, direction, z):
        return direction - (direction * z).sum(-1, keepdim=True) * z

    def retract(self, z):
        assert (z.norm(dim=-1) >= 1 - 1e-12).all(), "a step along the tangent leads out of the sphere"
        return z / z.norm(dim=-1, keepdim=True)


@pytest.mark.parametrize("dense", [False, True])
def test_on_a_sphere_the_minimum_is_the_smallest_eigenvector(dense):
    a = draw(5, 7, 7)
    a = a + a.mT
    radius = []

    def function(z, which):
        radius.append((z.norm(dim=-1) - 1).abs().max().item())
        image = (a[which] @ z[:, :, None])[..., 0]
        value = (z * image).sum(-1)
        return value, 2 * (image - value[:, None] * z)

    start = torch.nn.functional.normalize(draw(5, 7, seed=1), dim=-1)
    found = minimise(function, start, tolerance=1e-9, manifold=Sphere(), dense=dense)
    assert found.converged.all() and max(radius) < 1e-14
    values, vectors = torch.linalg.eigh(a)
    close(found.value, values[:, 0])
    close((found.z * vectors[:, :, 0]).sum(-1).abs(), torch.ones(5, dtype=torch.float64), 1e-12)
    assert found.evaluations.max() < 100
