"""Diffusion against the dense kernel, which is the reference, in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lib.studies.mnist_superposition.affinity import diffuse, pwak, wak

BOTH = pytest.mark.parametrize("normalise", ["columns", "rows"])


def draw(seed, k=12, n=200, d=27, sharp=1.0, batch=()):
    g = torch.Generator().manual_seed(seed)
    K = (sharp * torch.randn(*batch, k, n, generator=g, dtype=torch.float64)).softmax(-2)
    return K, torch.randn(*batch, n, d, generator=g, dtype=torch.float64)


def by_hand(K, E, normalise):
    """The definition, sample by sample: the affinity-weighted sum over the others."""
    K, E = K.numpy(), E.numpy()
    n = K.shape[1]
    affinity = np.array([[K[:, i] @ K[:, j] if i != j else 0.0 for j in range(n)] for i in range(n)])
    sums = affinity.sum(0) if normalise == "columns" else affinity.sum(1)
    return np.array(
        [
            sum(affinity[i, j] / (sums[j] if normalise == "columns" else sums[i]) * E[j] for j in range(n))
            for i in range(n)
        ]
    )


@BOTH
def test_dense_is_the_definition(normalise):
    K, E = draw(0, n=15, d=3)
    np.testing.assert_allclose(pwak(K, normalise=normalise) @ E, by_hand(K, E, normalise), rtol=1e-12)


def test_wak_has_no_diagonal_and_columns_that_sum_to_one():
    G = torch.rand(7, 7, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    P = wak(G)
    assert P.diagonal().abs().max() == 0
    torch.testing.assert_close(P.sum(0), torch.ones(7, dtype=torch.float64), rtol=1e-12, atol=0)
    torch.testing.assert_close(
        wak(G, normalise="rows").sum(1), torch.ones(7, dtype=torch.float64), rtol=1e-12, atol=0
    )
    assert wak(torch.eye(3)).abs().max() == 0  # an isolated sample has no neighbours, not a NaN


@BOTH
@pytest.mark.parametrize("sharp", [0.1, 1.0, 3.0])
def test_diffuse_equals_dense(normalise, sharp):
    K, E = draw(2, sharp=sharp)
    assert (diffuse(K, E, normalise=normalise) - pwak(K, normalise=normalise) @ E).abs().max() < 1e-12


@BOTH
def test_gradients_equal_dense(normalise):
    K, E = draw(3, n=60)
    target = torch.randn(60, 27, generator=torch.Generator().manual_seed(4), dtype=torch.float64)

    def gradients(kernel):
        k, e = K.clone().requires_grad_(), E.clone().requires_grad_()
        return torch.autograd.grad(((kernel(k, e) - target) ** 2).sum(), (k, e))

    dense = gradients(lambda k, e: pwak(k, normalise=normalise) @ e)
    for ours, reference in zip(
        gradients(lambda k, e: diffuse(k, e, normalise=normalise)), dense, strict=True
    ):
        assert (ours - reference).abs().max() < 1e-6 * max(1, reference.abs().max())


@BOTH
def test_gradcheck(normalise):
    K, E = draw(5, k=3, n=6, d=2)
    logits = K.log().requires_grad_()
    assert torch.autograd.gradcheck(
        lambda x, e: diffuse(x.softmax(0), e, normalise=normalise), (logits, E.requires_grad_())
    )


@BOTH
def test_replicas_do_not_mix(normalise):
    K, E = draw(6, n=40, batch=(3,))
    together = diffuse(K, E, normalise=normalise)
    for r in range(3):
        torch.testing.assert_close(
            together[r], diffuse(K[r], E[r], normalise=normalise), rtol=1e-12, atol=1e-14
        )


def test_leading_dimensions_broadcast_and_gradients_add_up():
    K, E = draw(7, n=20, batch=(4, 3))
    E = E[:, :1].clone().requires_grad_()
    (ours,) = torch.autograd.grad(diffuse(K, E).square().sum(), E)
    (dense,) = torch.autograd.grad((pwak(K) @ E).square().sum(), E)
    torch.testing.assert_close(ours, dense, rtol=1e-9, atol=1e-9)


@BOTH
def test_a_sample_alone_in_its_cluster_gets_zero_and_disturbs_nobody(normalise):
    K = torch.nn.functional.one_hot(torch.tensor([0, 0, 0, 1, 2, 2])).double().T
    E = torch.randn(6, 4, generator=torch.Generator().manual_seed(8), dtype=torch.float64)
    out = diffuse(K, E, normalise=normalise)
    assert out[3].abs().max() == 0
    torch.testing.assert_close(out[4], E[5], rtol=1e-12, atol=0)
    torch.testing.assert_close(out[0], (E[1] + E[2]) / 2, rtol=1e-12, atol=0)


@BOTH
def test_nearly_alone_stays_close_to_dense(normalise):
    K, E = draw(9, k=40, n=30, sharp=8.0)  # fewer samples than clusters
    assert (diffuse(K, E, normalise=normalise) - pwak(K, normalise=normalise) @ E).abs().max() < 1e-6


def test_rows_are_means_so_constants_pass_and_columns_are_not():
    K, E = draw(10)
    ones = torch.ones_like(E)
    torch.testing.assert_close(diffuse(K, ones, normalise="rows"), ones, rtol=1e-12, atol=0)
    assert (diffuse(K, ones, normalise="columns") - ones).abs().max() > 1e-3


@given(st.integers(2, 30), st.integers(1, 8), st.integers(1, 5), st.integers(0, 2**31))
def test_any_size(n, k, d, seed):
    K, E = draw(seed, k, n, d)
    assert (diffuse(K, E) - pwak(K) @ E).abs().max() < 1e-11


def test_bad_input_is_named():
    K, E = draw(11)
    with pytest.raises(ValueError, match=r"200 samples .* 199"):
        diffuse(K, E[:-1])
    with pytest.raises(ValueError, match="'cols'; allowed: 'columns' or 'rows'"):
        diffuse(K, E, normalise="cols")
