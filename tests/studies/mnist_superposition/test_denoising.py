"""Nearest-neighbour diffusion against a loop, and noise2self where the truth is known."""

import numpy as np
import pytest
import torch

from lib.studies.mnist_superposition import denoising


def test_predictions_are_means_over_the_nearest_others():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    ours = denoising.knn_predictions(x, [1, 5])
    for i in range(30):
        order = [j for j in (x - x[i]).norm(dim=1).argsort().tolist() if j != i]
        for row, k in enumerate((1, 5)):
            torch.testing.assert_close(ours[row, i], x[order[:k]].mean(0))


def test_noise2self_chooses_what_the_truth_would():
    g = torch.Generator().manual_seed(1)
    clean = torch.randn(20, 50, generator=g).repeat_interleave(15, 0)  # twenty things, fifteen times each
    run = denoising.noise2self(clean, sigma=0.3, ks=[100, 1, 14, 40])
    curve = run.curve
    assert curve["k"].tolist() == [1, 14, 40, 100]
    assert run.chosen == 14 and np.argmin(curve["clean"]) == 1
    error = float((run.denoised - clean).square().mean())
    assert error == pytest.approx(curve["clean"][1]) and error < 0.2 * float(
        (run.noisy - clean).square().mean()
    )
    gap = (curve["self"] - curve["clean"])[1]
    assert gap == pytest.approx(
        0.09, rel=0.05
    )  # the noise variance: the fourteen are all there are of a kind


def test_choosing_neighbours_by_the_noisy_sample_is_itself_a_leak():
    """With all samples alike, the nearest noisy ones look like the sample's own noise: the error is too low."""
    curve = denoising.noise2self(torch.zeros(400, 3), sigma=1.0, ks=[5, 399]).curve
    expected = 1 + 1 / curve["k"]  # of means over neighbours that were chosen blindly
    assert curve["self"][0] < 0.6 * expected[0]
    np.testing.assert_allclose(curve["self"][1], expected[1], rtol=0.1)
