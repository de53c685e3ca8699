"""The projection against numpy and against autograd through a solve, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from helpers.plain import close, problem, solved
from lib.dictionaries import rows
from lib.dictionaries.projection import effective_dimension, project
from lib.dictionaries.rows import decode

examples = settings(max_examples=40, deadline=None)


@st.composite
def problems(draw):
    d = draw(st.integers(2, 8))
    sizes = {"batch": draw(st.integers(1, 5)), "d": d, "k": draw(st.integers(1, d)), "n": 9}
    return problem(draw(st.integers(0, 2**31)), **sizes, unit=draw(st.booleans()))


@examples
@given(problems())
def test_it_is_the_least_squares_projection(drawn):
    table, index, y, _ = drawn
    found = project(table, index, y)
    for s in range(len(y)):
        X = table[index[s]].numpy().T
        beta, *_ = np.linalg.lstsq(X, y[s].numpy(), rcond=None)
        close(found.y_hat[s], torch.from_numpy(X @ beta), 1e-7)
        if np.linalg.cond(X) < 1e3:
            close(found.coefficients[s], torch.from_numpy(beta), 1e-6)
    close(found.error, (y - found.y_hat).square().sum(1))


@examples
@given(problems())
def test_it_is_idempotent_and_the_residual_is_orthogonal(drawn):
    table, index, y, _ = drawn
    y_hat = project(table, index, y).y_hat
    close(project(table, index, y_hat).y_hat, y_hat, 1e-6)
    residual = table[index] @ (y - y_hat)[..., None]
    close(residual, torch.zeros_like(residual), 1e-7)


@examples
@given(problems(), st.integers(0, 99))
def test_order_and_scale_of_the_columns_do_not_matter(drawn, seed):
    table, index, y, _ = drawn
    g = torch.Generator().manual_seed(seed)
    order = torch.randperm(index.shape[1], generator=g)
    factor = 10 ** (2 * torch.rand(len(table), 1, generator=g, dtype=torch.float64) - 1)
    factor = factor * (2 * torch.randint(2, factor.shape, generator=g) - 1)  # either sign
    one, other = project(table, index, y), project(table * factor, index[:, order], y)
    close(other.y_hat, one.y_hat, 1e-6)
    close((other.coefficients * factor[index[:, order], 0]).sum(1), one.coefficients.sum(1), 1e-4)


@examples
@given(problems(), st.integers(0, 99), st.floats(1e-3, 10))
def test_no_other_coefficients_are_better(drawn, seed, size):
    table, index, y, _ = drawn
    found = project(table, index, y)
    g = torch.Generator().manual_seed(seed)
    other = found.coefficients + size * torch.randn(index.shape, generator=g, dtype=torch.float64)
    error = (y - (other[..., None] * table[index]).sum(1)).square().sum(1)
    assert (found.error <= error + 1e-9).all()


@examples
@given(problems())
def test_the_ridge_objective_is_at_its_minimum(drawn):
    table, index, y, e = drawn
    found, (y_hat, beta, _) = project(table, index, y, importance=e), solved(table, index, y, e)
    close(found.y_hat, y_hat)
    close(found.coefficients, beta)
    gradient = (found.y_hat - y)[:, None] @ table[index].mT + (found.coefficients * e**-2)[:, None]
    close(gradient, torch.zeros_like(gradient))


OUTPUTS = {
    "y_hat": lambda y_hat, error: y_hat.sin().sum(),
    "error": lambda y_hat, error: error.sin().sum(),
    "both": lambda y_hat, error: (y_hat.sin().sum(1) * error).sum(),
}


@pytest.mark.parametrize("masked", [False, True], ids=["all", "some valid"])
@pytest.mark.parametrize("ridge", [False, True], ids=["exact", "ridge"])
@pytest.mark.parametrize("through", OUTPUTS)
def test_gradients_are_those_of_autograd_through_the_solve(through, ridge, masked):
    table, index, y, e = problem(batch=40, d=12, k=5, n=20, unit=False)  # rows are used many times
    valid = torch.arange(200).view(40, 5) % 3 > 0 if masked else None
    gradients = []
    for function in (project, solved):
        leaves = [part.clone().requires_grad_() for part in ((table, y, e) if ridge else (table, y))]
        y_hat, _, error = function(
            leaves[0], index, leaves[1], importance=leaves[2] if ridge else None, valid=valid
        )
        gradients.append(torch.autograd.grad(OUTPUTS[through](y_hat, error), leaves))
    for ours, plain in zip(*gradients, strict=True):
        close(ours, plain)
        assert plain.abs().max() > 0.1


def test_each_gradient_alone_is_that_of_all():
    table, index, y, e = problem()
    together = [part.clone().requires_grad_() for part in (table, y, e)]
    project(together[0], index, together[1], importance=together[2]).y_hat.sin().sum().backward()
    for i in range(3):
        leaves = [part.clone().requires_grad_(i == j) for j, part in enumerate((table, y, e))]
        project(leaves[0], index, leaves[1], importance=leaves[2]).y_hat.sin().sum().backward()
        close(leaves[i].grad, together[i].grad)


def test_the_sign_of_an_importance_does_not_matter():
    table, index, y, e = problem()
    leaves = [(sign * e).requires_grad_() for sign in (1, -1)]
    found = [project(table, index, y, importance=leaf) for leaf in leaves]
    close(found[0].y_hat, found[1].y_hat)
    (found[0].error + found[1].error).sum().backward()
    close(leaves[0].grad, -leaves[1].grad)


def test_columns_of_memory_do_not_matter():
    """Supports and tables that are slices or transposes of others."""
    table, index, y, e = problem(k=4)
    for k in (1, 2):
        cut = index[:, :k]
        wanted = project(table, cut.contiguous(), y).y_hat
        close(project(table.mT.contiguous().mT, cut, y.mT.contiguous().mT).y_hat, wanted)
        close(decode(table, cut, e[:, :k]), (table[cut] * e[:, :k, None]).sum(1))


def test_gradcheck():
    table, index, y, e = problem()
    leaves = [part.requires_grad_() for part in (table, y, e)]
    assert torch.autograd.gradcheck(lambda t, y: project(t, index, y)[::2], leaves[:2])
    assert torch.autograd.gradcheck(lambda t, y, e: project(t, index, y, importance=e)[::2], leaves)
    assert torch.autograd.gradcheck(lambda t, w: decode(t, index, w), (leaves[0], leaves[2]))


def test_coefficients_carry_no_gradient():
    table, index, y, _ = problem()
    assert not project(table.requires_grad_(), index, y).coefficients.requires_grad


def test_fixed_coefficients_give_the_whole_gradient_of_the_error():
    table, index, y, _ = problem(batch=30)
    gradients = []
    for envelope, output in ((True, 2), (False, 2), (True, 0)):
        leaves = [part.clone().requires_grad_() for part in (table, y)]
        found = project(leaves[0], index, leaves[1], envelope=envelope)
        loss = found.error.sin().sum() if output == 2 else (y - found.y_hat).square().sum(1).sin().sum()
        gradients.append(torch.autograd.grad(loss, leaves, allow_unused=True))
    close(gradients[0][0], gradients[1][0])
    close(gradients[0][1], gradients[1][1])
    close(gradients[2][0], gradients[1][0])


def test_ridge_goes_from_leaving_out_to_exact():
    table, index, y, e = problem()
    exact = project(table, index, y)
    far = [
        (project(table, index, y, importance=size * e).y_hat - exact.y_hat).norm() for size in (10, 100, 1e4)
    ]
    assert far[0] > 50 * far[1] > 0 and far[2] < 1e-6  # the distance falls as lambda does, e^-2
    e = e.clone()
    e[:, 1] = 0
    e.requires_grad_()
    found, less = (
        project(table, index, y, importance=e),
        project(table, index[:, ::2], y, importance=e[:, ::2]),
    )
    close(found.y_hat, less.y_hat)
    assert (found.coefficients[:, 1] == 0).all()
    found.error.sum().backward()
    assert e.grad.isfinite().all() and (e.grad[:, 1] == 0).all()
    valid = torch.ones_like(index, dtype=torch.bool)
    valid[:, 1] = False
    close(project(table, index, y, valid=valid).y_hat, project(table, index[:, ::2], y).y_hat)
    assert not project(table, index, y, importance=torch.zeros_like(e)).y_hat.any()


def test_ridge_with_a_penalty_is_the_garrote_on_orthonormal_columns():
    """min |y - y_hat|^2 + alpha sum 1/(1 + lambda) over e shrinks y by s = (1 - alpha/(2 y^2))_+ (Breiman 1995)."""
    alpha, y = 0.8, torch.tensor([[0.1, 0.5, 0.62, 0.64, 0.9, 1.5, 4.0, -2.0]], dtype=torch.float64)
    Q = torch.linalg.qr(torch.randn(10, 8, generator=torch.Generator().manual_seed(0), dtype=y.dtype)).Q.mT
    index = torch.arange(8)[None]

    def objective(e):
        e = torch.from_numpy(e)[None].requires_grad_()
        loss = (project(Q, index, y @ Q, importance=e).error + alpha * (e**2 / (1 + e**2)).sum()).sum()
        loss.backward()
        return loss.item(), e.grad[0].numpy()

    e = torch.from_numpy(minimize(objective, np.ones(8), jac=True, method="L-BFGS-B", tol=1e-14).x)
    expected = (1 - alpha / (2 * y**2)).clamp_min(0)
    assert (expected == 0).sum() == 3
    found = project(Q, index, y @ Q, importance=e[None]).coefficients / y
    close(found, expected, 1e-3)


def test_effective_dimension_is_the_trace_of_the_smoother():
    table, index, _, e = problem(batch=20, d=8, k=6)
    e[:, 0] = 0
    X = table[index].mT
    lam = torch.diag_embed(e.clamp_min(1e-8) ** -2)
    H = X @ torch.linalg.inv(X.mT @ X + lam) @ X.mT
    trace = effective_dimension(table, index, e)
    close(trace, H.diagonal(dim1=1, dim2=2).sum(1), 1e-7)
    bound = (e**2 / (1 + e**2)).sum(1)
    assert (trace < bound).all()  # for unit columns, by (M^-1)_jj >= 1 / M_jj
    orthonormal = torch.eye(8, dtype=torch.float64)
    close(effective_dimension(orthonormal, index % 8, e)[:0], bound[:0])
    close(effective_dimension(orthonormal, torch.arange(6).expand(20, 6), e), bound)


def test_pieces_do_not_matter(monkeypatch):
    table, index, y, e = problem(batch=11)
    whole = project(table, index, y, importance=e)
    monkeypatch.setattr(rows, "PIECE", 4 * 3 * 7)
    close(project(table, index, y, importance=e).y_hat, whole.y_hat)
