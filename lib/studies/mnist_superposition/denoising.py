"""Diffusion on a k-nearest-neighbour graph, tuned by noise2self, as in DEWAKSS (Tjarnberg et al. 2021)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from sklearn.neighbors import NearestNeighbors
from torch import Tensor


def knn_predictions(noisy: Float[Tensor, "n d"], ks: Sequence[int]) -> Float[Tensor, "ks n d"]:
    """WAK(G) X for the graph of the k nearest neighbours, for each k: the mean of the k nearest others.

    The neighbours are found once, for the largest k; the means are running sums. `ks` ascends.
    """
    x = noisy.numpy()
    order = NearestNeighbors(n_neighbors=max(ks)).fit(x).kneighbors(return_distance=False)
    total, out = torch.zeros_like(noisy), []
    for j in range(max(ks)):
        total = total + noisy[order[:, j]]
        if j + 1 in ks:
            out.append(total / (j + 1))
    return torch.stack(out)


class Denoised(NamedTuple):
    """Errors of the k-NN means of noisy samples, by k, and the samples denoised.

    `curve`: k, self (mean squared error against the noisy samples), clean (against the truth). noise2self (Batson &
    Royer 2019) chooses the k with the least self-supervised error, which needs no clean data: `chosen`. `noisy` and
    `denoised`, at that k, are `(n, d)`.
    """

    curve: pd.DataFrame
    chosen: int
    noisy: Float[Tensor, "n d"]
    denoised: Float[Tensor, "n d"]


def noise2self(clean: Float[Tensor, "n d"], *, sigma: float, ks: Sequence[int], seed: int = 0) -> Denoised:
    """k-NN means of samples to which normal noise of standard deviation `sigma` is added, at each k."""
    g = torch.Generator().manual_seed(seed)
    noisy = clean + sigma * torch.randn(clean.shape, generator=g)
    ks = sorted(ks)
    predictions = knn_predictions(noisy, ks)
    to_self = (predictions - noisy).square().mean((1, 2)).numpy()
    to_clean = (predictions - clean).square().mean((1, 2)).numpy()
    best = int(np.argmin(to_self))
    curve = pd.DataFrame({"k": ks, "self": to_self, "clean": to_clean})
    return Denoised(curve, ks[best], noisy, predictions[best])
