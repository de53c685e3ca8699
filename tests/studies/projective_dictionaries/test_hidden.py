"""Layers of a small network: cut where it says, and cross entropy recovered at its limits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.plain import generator
from lib.networks import images
from lib.studies.projective_dictionaries import hidden


@pytest.fixture(scope="module")
def trained():
    digits = images.load("digits")
    return digits, hidden.train(digits, seeds=2, steps=120, seed=0)


def test_pixels_are_means_of_four():
    bytes_ = torch.randint(256, (3, 28, 28), generator=generator(), dtype=torch.uint8)
    x = hidden.pixels(bytes_)
    assert x.shape == (3, 196) and x.min() >= 0 and x.max() <= 1
    torch.testing.assert_close(x[1, 14 * 2 + 5], bytes_[1, 4:6, 10:12].double().mean().float() / 255)


@pytest.mark.parametrize("name", hidden.LAYERS)
def test_the_rest_of_the_layer_is_the_network(name):
    network, x = hidden.Network(3, generator()), torch.rand(3, 5, 196, generator=generator(1))
    h = network.layer(x, name)
    assert h.shape == (3, 5, 64) and (h < 0).any(), "pre-activations"
    torch.testing.assert_close(network.rest(h, name), network(x))
    torch.testing.assert_close(network.rest(h.relu(), name), network(x))


def test_the_second_layer_is_not_linear_in_the_first():
    network, x = hidden.Network(1, generator()), torch.rand(1, 4000, 196, generator=generator(1))
    one, two = (network.layer(x, name).detach()[0] for name in hidden.LAYERS)
    design = torch.cat([one, torch.ones(4000, 1)], 1)
    left = two - design @ torch.linalg.lstsq(design, two).solution
    assert left.square().sum() / (two - two.mean(0)).square().sum() > 0.005


def test_a_network_learns_and_a_seed_is_its_own(trained):
    digits, network = trained
    x = hidden.pixels(digits.test_images).expand(2, -1, -1)
    right = (network(x).argmax(-1) == digits.test_labels).float().mean(1)
    assert (right > 0.8).all() and not network.training
    assert not torch.equal(*network.body[0].weight)
    again = hidden.train(digits, seeds=2, steps=3, seed=0)
    assert torch.equal(again.body[0].weight, hidden.train(digits, seeds=2, steps=3, seed=0).body[0].weight)


def test_cross_entropy_recovered_at_its_limits(trained):
    digits, network = trained
    x = hidden.pixels(digits.test_images).expand(2, -1, -1)
    for name in hidden.LAYERS:
        h = network.layer(x, name).detach()
        recovered = hidden.Recovered(network, name, labels=digits.test_labels)
        torch.testing.assert_close(recovered(h, h), torch.ones(2))
        torch.testing.assert_close(recovered(h, h.mean(1, keepdim=True).expand_as(h)), torch.zeros(2))
        half = h + 0.3 * h.std() * torch.randn(h.shape, generator=generator())
        loss = [
            F.cross_entropy(network.rest(part, name)[1], digits.test_labels)
            for part in (h.mean(1, keepdim=True).expand_as(h), half, h)
        ]
        torch.testing.assert_close(recovered(h, half)[1], (loss[0] - loss[1]) / (loss[0] - loss[2]))
        assert (recovered(h, half) < 1).all()
        assert (recovered(h, torch.roll(h, 1, 1)) < 0).all(), "another's layer is worse than none"


def test_minibatches_keep_pairs_together():
    x = torch.arange(20.0).view(2, 10, 1)
    a, b = next(hidden.batches(x, generator(), target=3 * x, batch=50))
    assert a.shape == (2, 50, 1) and torch.equal(b, 3 * a)
    assert (a[0] < 10).all() and (a[1] >= 10).all(), "each seed its own samples"
    assert not torch.equal(a[0], a[1] - 10)
    assert torch.equal(next(hidden.batches(x, generator(), batch=50)), a)


def test_dictionaries_of_real_activations_are_compared():
    g = generator()
    D = torch.randn(2, 24, 12, generator=g)
    codes = [
        torch.rand(2, n, 24, generator=g) * (torch.rand(2, n, 24, generator=g) < 0.1) for n in (800, 200)
    ]
    train, test = (5 * z @ D + torch.arange(12.0) for z in codes)

    def recovered(h, h_hat):
        torch.testing.assert_close(h, test, rtol=1e-3, atol=1e-3)
        return (h - h_hat).square().mean((1, 2))

    frame = hidden.compare(
        ["top-k", "tied projection"], train=train, test=test, k=4, latents=32, steps=150, recovered=recovered, seed=0,
        rates={"top-k": 1e-2, "tied projection": 1e-2},
    )  # fmt: skip
    assert set(frame["seed"]) == {0, 1} and set(frame["selection"]) == {"own", "OMP"}
    own = frame["coefficients"] == "as trained"
    # It is asked in the data's own units.
    variance = (test - test.mean(1, keepdim=True)).square().mean((1, 2)).numpy()[frame.loc[own, "seed"]]
    np.testing.assert_allclose(frame.loc[own, "cross_entropy"] / variance, frame.loc[own, "fvu"], rtol=1e-3)
    assert frame.loc[~own, "cross_entropy"].isna().all()
    assert (frame.loc[own, "fvu"] < 0.6).all()
    scaled = hidden.compare(
        ["top-k"], train=7 * train, test=7 * test, k=4, latents=32, steps=20, seed=0, rates={"top-k": 1e-2}
    )
    plain = hidden.compare(
        ["top-k"], train=train, test=test, k=4, latents=32, steps=20, seed=0, rates={"top-k": 1e-2}
    )
    torch.testing.assert_close(
        torch.tensor(scaled["fvu"].to_numpy(float)),
        torch.tensor(plain["fvu"].to_numpy(float)),
        rtol=0.02,
        atol=0,
    )
    assert "cross_entropy" not in plain
