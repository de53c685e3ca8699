"""Feature dimensionality at its known values, and that features come in pairs when they are sparse."""

import numpy as np
import pytest
import torch

from helpers.plain import generator
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
    model = toy.ToyModel(2, features=6, neurons=3, generator=generator())
    x = torch.rand(2, 5, 6, generator=generator(1))
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


def test_measured_models_are_in_order_of_seeds_and_densities(monkeypatch):
    """Replicas are trained as one batch: each must come back under the density and the seed it was trained with."""
    given = {}

    def train(density, **settings):
        given.update(settings, density=density)
        model = toy.ToyModel(len(density), features=5, neurons=2)
        with torch.no_grad():
            model.W[:] = torch.eye(2, 5)
            model.W *= torch.arange(1.0, len(density) + 1)[:, None, None]  # its norm tells the replica
        return toy.Trained(model)

    monkeypatch.setattr(toy, "train", train)
    found = toy.measure(np.array([1.0, 10.0, 100.0]), seeds=2, steps=7)
    assert given["steps"] == 7 and given["density"].tolist() == pytest.approx([1, 0.1, 0.01] * 2)
    replica = np.arange(1, 7).reshape(2, 3)
    assert found.dimensionality.shape == found.squared_norm.shape == (2, 3, 5)
    np.testing.assert_allclose(found.squared_norm[..., 0], replica**2)
    np.testing.assert_allclose(found.per_feature, 2 / (2 * replica**2))
    assert found.dimensionality[1, 2].tolist() == [1, 1, 0, 0, 0] and found.random.shape == (2, 400)
    assert found.nearest(5) == 1 and found.nearest(60) == 2
