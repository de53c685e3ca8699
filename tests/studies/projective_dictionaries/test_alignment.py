"""Alignment search compared, on tiny runs."""

import pytest
import torch

from lib.networks import images
from lib.studies.projective_dictionaries import alignment, hidden


def test_variables_in_superposition():
    found = alignment.superposed((1, 4), seeds=2, steps=12, network_steps=300, seed=0, widths=(1, 2))
    by = found.groupby(["method", "width", "active"])["error"].mean()
    assert (by["coefficient swap, true dictionary", 1] < 0.01).all()
    assert (by["true direction", 1] > 0.01).all() and by["true direction", 1, 1] < by[
        "random direction", 1, 1
    ]
    assert by["tied projection, span", 1, 1] < by["random direction", 1, 1]
    assert (found.groupby(["method", "width"]).size() == 4).all()
    assert found["error"].to_numpy() == pytest.approx((found["target"] + found["side"]).to_numpy(), rel=1e-3)


def test_pairs_of_digits():
    digits = images.load("digits")
    x = [hidden.pixels(i) for i in (digits.train_images, digits.test_images)]
    found = alignment.digit_pairs(
        x[0],
        digits.train_labels,
        test_images=x[1],
        test_labels=digits.test_labels,
        seeds=2,
        steps=60,
        network_steps=300,
        seed=0,
    )
    by = found.groupby(["method", "width"])["accuracy"].mean()
    assert by["learned rotation", 16] > 0.6 > 0.2 > by["random directions", 16]
    assert by["class means", 9] > 0.5
    assert by["learned rotation, untrained network", 16] < 0.3
    assert {m for m, _ in by.index} >= {"tied projection, by means", "top-k, by correlation"}


def test_class_means():
    h = torch.randn(1, 50, 4, generator=torch.Generator().manual_seed(0))
    left = torch.arange(50)[None] % 10
    means = alignment._means(h, left)
    assert torch.allclose(means[0, 3], h[0, 3::10].mean(0) - h[0].mean(0), atol=1e-6)
    assert torch.allclose(means.mean(1), torch.zeros(1, 4), atol=1e-6)
