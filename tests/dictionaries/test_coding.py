"""Supports against scikit-learn, coefficients against numpy and scipy, and a planted dictionary for MOD."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import nnls
from sklearn.linear_model import orthogonal_mp

from helpers.plain import generator
from lib.dictionaries import coding
from lib.dictionaries.planted import Planted
from lib.dictionaries.recovery import recovered


def problem(replicas=2, batch=30, n=24, d=10, dtype=torch.float64):
    g = generator()
    D = F.normalize(torch.randn(replicas, n, d, generator=g, dtype=dtype), dim=-1)
    return D, torch.randn(replicas, batch, d, generator=g, dtype=dtype)


@pytest.mark.parametrize("k", [1, 3, 6])
def test_matching_pursuit_is_that_of_scikit_learn(k):
    D, y = problem()
    index = coding.omp(D, y, k=k)
    assert index.shape == (2, 30, k)
    for r in range(2):
        theirs = orthogonal_mp(D[r].T.numpy(), y[r].T.numpy(), n_nonzero_coefs=k).T
        for s in range(30):
            assert sorted(index[r, s].tolist()) == np.flatnonzero(theirs[s]).tolist()


def test_matching_pursuit_chooses_greedily():
    """Each choice correlates most with what least squares on the choices before leaves."""
    D, y = problem(replicas=1, batch=10)
    index = coding.omp(D, y, k=4)
    for s in range(10):
        residual = y[0, s].numpy()
        for step in range(4):
            assert index[0, s, step] == np.abs(D[0].numpy() @ residual).argmax()
            X = D[0, index[0, s, : step + 1]].T.numpy()
            residual = y[0, s].numpy() - X @ np.linalg.lstsq(X, y[0, s].numpy(), rcond=None)[0]


def test_matching_pursuit_never_chooses_twice():
    D, y = problem(dtype=torch.float32)
    D[:, 1] = D[:, 0]  # a copy
    y[:, 0] = 0
    y[:, 1] = D[:, 0]
    index = coding.omp(D, y, k=12)  # more than the dimensions
    assert all(len(row.unique()) == 12 for row in index.flatten(0, 1))


def test_threshold_takes_the_largest_dot_products():
    D, y = problem()
    dot = (y @ D.mT).abs()
    index = coding.threshold(D, y, k=5)
    torch.testing.assert_close(dot.gather(-1, index).sort().values, dot.topk(5).values.sort().values)
    assert (y @ D.mT).gather(-1, index).min() < 0


def support(k=5):
    D, y = problem()
    index = coding.omp(D, y, k=k)
    strength = torch.rand(index.shape, generator=generator(1), dtype=torch.float64) + 0.2
    valid = torch.rand(index.shape, generator=generator(2)) < 0.7
    valid[0, 0] = False
    return D, index, strength, valid, y


def each(index, valid):
    for r, s in np.ndindex(*index.shape[:2]):
        yield r, s, valid[r, s].nonzero()[:, 0]


HOW = {
    "least squares": lambda D, index, y, strength, valid: coding.least_squares(D, index, y, valid=valid),
    "ridge": lambda D, index, y, strength, valid: coding.ridge(D, index, y, importance=strength, valid=valid),
    "NNLS": lambda D, index, y, strength, valid: coding.nnls(D, index, y, valid=valid),
}


@pytest.mark.parametrize("how", HOW)
def test_coefficients_are_their_definitions(how):
    D, index, strength, valid, y = support()
    beta = HOW[how](D, index, y, strength, valid)
    assert (beta[~valid] == 0).all() and beta[valid].any()
    for r, s, on in each(index, valid):
        if not len(on):
            continue
        X, t, e = D[r, index[r, s, on]].T.numpy(), y[r, s].numpy(), strength[r, s, on].numpy()
        wanted = {
            "least squares": lambda X=X, t=t: np.linalg.lstsq(X, t, rcond=None)[0],
            "ridge": lambda X=X, t=t, e=e: np.linalg.solve(X.T @ X + np.diag(e**-2), X.T @ t),
            "NNLS": lambda X=X, t=t: nnls(X, t)[0],
        }[how]()
        np.testing.assert_allclose(beta[r, s, on], wanted, atol=1e-8)


def test_nnls_is_not_negative_and_between_nothing_and_least_squares():
    D, index, strength, valid, y = support()
    error = {}
    for how in ("least squares", "NNLS"):
        beta = HOW[how](D, index, y, strength, valid)
        rows = torch.stack([rows[i] for rows, i in zip(D, index, strict=True)])
        error[how] = (y - (beta[..., None] * rows).sum(-2)).square().sum(-1)
        assert (beta < 0).any() == (how == "least squares")
    assert (error["least squares"] <= error["NNLS"] + 1e-9).all()
    assert (error["NNLS"] <= y.square().sum(-1) + 1e-9).all()
    assert (error["least squares"] < error["NNLS"] - 1e-3).any()


def test_without_a_mask_the_whole_support_counts():
    D, index, strength, valid, y = support()
    for how, coefficients in HOW.items():
        whole = coefficients(D, index, y, strength, None)
        assert torch.equal(whole, coefficients(D, index, y, strength, torch.ones_like(valid))), how
        assert (whole != 0).all() or how == "NNLS"


@pytest.mark.parametrize("k", [1, 2, 3])
def test_a_shared_support_is_found(k):
    D, _ = problem(n=40, d=12)
    planted = torch.tensor([[7, 30, 2], [0, 11, 25]])
    weight = torch.randn(2, 200, 3, generator=generator(3), dtype=torch.float64) * torch.tensor([3.0, 2, 1])
    y = weight @ D.gather(1, planted[..., None].expand(-1, -1, 12))
    found = coding.shared_omp(D, y, k=k)
    assert torch.equal(found, planted[:, :k])


def test_a_shared_support_is_chosen_by_what_explains_most():
    """At each step the row whose addition leaves the smallest sum of squares (order-recursive matching)."""
    D, y = problem(batch=15)
    index = coding.shared_omp(D, y, k=4)
    for r in range(2):
        for step in range(4):
            before = index[r, :step].tolist()
            left = []
            for j in range(24):
                X = D[r, [*before, j]].T.numpy()
                left.append((y[r].T.numpy() - X @ np.linalg.lstsq(X, y[r].T.numpy(), rcond=None)[0]) ** 2)
            assert index[r, step] == np.argmin([part.sum() for part in left])


def test_a_shared_support_of_copies_has_none_twice():
    D, y = problem(n=6, d=4)
    D[:, 1] = D[:, 0]
    found = coding.shared_omp(D, D[:, :1].repeat(1, 5, 1) + 0.01 * y[:, :5], k=3)
    assert found[0, 0] in (0, 1) and not {0, 1} <= set(found[0].tolist())


def test_mod_finds_a_planted_dictionary():
    data = Planted("independent", replicas=2, generator=generator(), n=32, d=16, l0=2)
    y, _ = data.sample(800, generator(1))
    D = coding.mod(y, n=32, k=2, iterations=15, generator=generator(2))
    torch.testing.assert_close(D.norm(dim=-1), torch.ones(2, 32))
    start = coding.mod(y, n=32, k=2, iterations=0, generator=generator(2))
    found, before = (recovered(rows, data.features)["recovery"] for rows in (D, start))
    assert (found > 0.87).all() and (before < 0.8).all(), (before, found)
    assert torch.equal(D, coding.mod(y, n=32, k=2, iterations=15, generator=generator(2)))


def test_mod_needs_as_many_samples_as_rows():
    with pytest.raises(ValueError, match="20 samples for 32 rows"):
        coding.mod(torch.randn(1, 20, 8, generator=generator()), n=32, k=2)


@pytest.mark.parametrize("seed", range(3))
def test_mod_replaces_rows_that_no_code_uses(seed):
    """Nearly all samples lie on one line: most rows start there, and end where the others are."""
    strength = torch.cat([torch.linspace(1, 2, 150), 3 + torch.arange(12) / 6])
    y = strength[:, None] * torch.eye(8)[torch.cat([torch.zeros(150).long(), torch.arange(12) % 4 + 1])]
    D = coding.mod(y[None], n=8, k=1, iterations=10, generator=generator(seed))
    torch.testing.assert_close(D.norm(dim=-1), torch.ones(1, 8))
    assert (D[0].abs().amax(0)[:5] > 0.999).all()
