"""What the projection does with less precision, with degenerate supports and targets, and with what does not fit."""

import pytest
import torch

from helpers.plain import close, problem
from lib.dictionaries.projection import cholesky, project


@pytest.mark.parametrize("ridge", [False, True], ids=["exact", "ridge"])
def test_single_precision_is_close_to_double(ridge):
    table, index, y, e = problem(batch=50, d=32, k=8, n=64)
    found = {}
    for dtype in (torch.float64, torch.float32):
        leaf = table.detach().clone().to(dtype).requires_grad_()
        out = project(leaf, index, y.to(dtype), importance=e.to(dtype) if ridge else None)
        out.error.sum().backward()
        found[dtype] = [out.y_hat, out.coefficients, out.error, leaf.grad]
    for double, single in zip(*found.values(), strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(single.double(), double, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("ridge", [False, True], ids=["exact", "ridge"])
def test_a_table_in_half_precision_is_projected_on_in_single(ridge):
    table, index, y, e = problem(batch=50, d=32, k=8, n=64)
    half, y, e = table.bfloat16().requires_grad_(), y.float(), e.float() if ridge else None
    found, wanted = (project(t, index, y, importance=e) for t in (half, half.detach().float()))
    assert found.y_hat.dtype == found.coefficients.dtype == torch.float32
    torch.testing.assert_close(found.y_hat, wanted.y_hat, atol=0.03, rtol=0.03)
    found.error.sum().backward()
    assert half.grad.dtype == torch.bfloat16 and half.grad.isfinite().all()


def test_equal_columns_share_their_coefficient():
    table, index, y, _ = problem()
    doubled = torch.cat([index, index[:, :1]], 1)
    leaf = table.clone().requires_grad_()
    found, once = project(leaf, doubled, y), project(table, index, y)
    close(found.y_hat, once.y_hat, 1e-7)
    close(found.coefficients[:, 0] + found.coefficients[:, -1], once.coefficients[:, 0], 1e-6)
    found.error.sum().backward()
    assert leaf.grad.isfinite().all()
    single = project(table.float(), doubled, y.float())
    torch.testing.assert_close(single.y_hat.double(), once.y_hat, atol=1e-4, rtol=1e-4)


def test_zeros_have_coefficients_of_zero():
    table, index, y, e = problem()
    y[0], table[index[1, 0]] = 0, 0
    for importance in (None, e):
        leaf = table.clone().requires_grad_()
        found = project(leaf, index, y, importance=importance)
        assert (found.coefficients[0] == 0).all() and (found.y_hat[0] == 0).all()
        assert found.coefficients[1, 0] == 0
        found.error.sum().backward()
        assert leaf.grad.isfinite().all()
    close(project(table, index, y).y_hat[1], project(table, index[:, 1:], y).y_hat[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_more_columns_than_dimensions_reproduce_the_target(dtype):
    table, index, y, _ = problem(d=4, k=9)
    y = y.to(dtype)
    found = project(table.to(dtype), index, y)
    torch.testing.assert_close(found.y_hat, y, atol=1e-4, rtol=0)
    assert found.coefficients.isfinite().all()


def broken(place, value):
    table, index, y, _ = problem()
    {"y": y, "table": table[index[2, 1]].unsqueeze(0)}[place][0, 0] = value
    if place == "table":
        table[index[2, 1], 0] = value
    return table, index, y


@pytest.mark.parametrize("place", ["y", "table"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_what_is_not_finite_is_refused(place, value):
    table, index, y = broken(place, value)
    for importance in (None, torch.ones(index.shape, dtype=y.dtype)):
        with pytest.raises(ValueError, match="not finite"):
            project(table, index, y, importance=importance)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda t, i, y, e: (t, i, y[:, :-1]), "must be \\(batch, d\\) and \\(rows, d\\)"),
        (lambda t, i, y, e: (t[0], i, y), "must be \\(batch, d\\) and \\(rows, d\\)"),
        (lambda t, i, y, e: (t, i, y[None]), "must be \\(batch, d\\) and \\(rows, d\\)"),
        (lambda t, i, y, e: (t, i[:-1], y), "index is \\(4, 3\\)"),
        (lambda t, i, y, e: (t, i[0], y), "index is \\(3,\\)"),
        (lambda t, i, y, e: (t, i, y, {"importance": e[:, 1:]}), "importance is \\(5, 2\\)"),
        (lambda t, i, y, e: (t, i, y, {"valid": e[1:] > 0}), "valid is \\(4, 3\\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change, said):
    with pytest.raises(ValueError, match=said) as error:
        table, index, y, *options = change(*problem())
        project(table, index, y, **(options[0] if options else {}))
    assert "\n" not in str(error.value)


def test_a_gram_matrix_that_rounding_makes_indefinite_gets_more_ridge():
    gram = torch.eye(3).repeat(2, 1, 1)
    gram[0, 0, 1] = gram[0, 1, 0] = 1 + 5e-5
    gram[:, 2, 2] = 4.0
    ridge = torch.full((2, 3), 1e-6)
    wanted = gram + torch.diag_embed(ridge * torch.tensor([100.0, 1.0])[:, None])  # twice ten times; none
    factor = cholesky(gram.clone(), ridge)
    torch.testing.assert_close(factor @ factor.mT, wanted, atol=2e-7, rtol=0)
