"""Feature dimensionality at its known values, and that features come in pairs when they are sparse."""

import pytest
import torch

from lib.studies.mnist_superposition import toy


def test_dimensionality_of_known_geometries():
    own = torch.eye(4)
    torch.testing.assert_close(toy.dimensionality(own), torch.ones(4))
    pairs = torch.cat([torch.eye(3), -torch.eye(3)], 1)  # antipodal pairs
    torch.testing.assert_close(toy.dimensionality(2.5 * pairs), torch.full((6,), 0.5))
    angles = torch.arange(5) * 2 * torch.pi / 5  # a pentagon in two dimensions
    pentagon = torch.stack([angles.cos(), angles.sin()])
    torch.testing.assert_close(toy.dimensionality(pentagon), torch.full((5,), 0.4))
    assert (toy.dimensionality(torch.zeros(2, 3)) == 0).all()


def test_the_forward_pass_is_its_equation():
    model = toy.ToyModel(2, 6, 3, torch.Generator().manual_seed(0))
    x = torch.rand(2, 5, 6, generator=torch.Generator().manual_seed(1))
    for r in range(2):
        W = model.W[r]
        torch.testing.assert_close(model(x)[r], (x[r] @ W.T @ W + model.b[r]).relu())


@pytest.mark.slow
def test_sparse_features_outnumber_neurons_and_dense_ones_do_not():
    run = toy.train(torch.tensor([1.0, 0.2]), features=20, neurons=5, steps=1500, lr=5e-3)
    W = run.model.W.detach()
    represented = (W.norm(dim=1) > 0.9).sum(1)
    assert represented[0] <= 5  # dense features without privilege: a subspace, hardly anyone's own direction
    assert represented[1] >= 8  # more sparse features than neurons
    assert (toy.dimensionality(W).sum(1) <= 5.01).all()  # shares of five dimensions
