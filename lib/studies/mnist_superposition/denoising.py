"""Diffusion on a k-nearest-neighbour graph, tuned by noise2self, as in DEWAKSS (Tjarnberg et al. 2021)."""

import numpy as np
import torch
from jaxtyping import Float
from sklearn.neighbors import NearestNeighbors
from torch import Tensor


def knn_predictions(noisy: Float[Tensor, "n d"], ks: list[int]) -> Float[Tensor, "ks n d"]:
    """WAK(G) X for the graph of the k nearest neighbours, each k: the mean of the k nearest others.

    The neighbours are found once, for the largest k; the means are running sums.
    """
    x = noisy.numpy()
    order = NearestNeighbors(n_neighbors=max(ks)).fit(x).kneighbors(return_distance=False)
    total, out = torch.zeros_like(noisy), []
    for j in range(max(ks)):
        total = total + noisy[order[:, j]]
        if j + 1 in ks:
            out.append(total / (j + 1))
    return torch.stack(out)


def noise2self_curve(clean: Float[Tensor, "n d"], sigma: float, ks: list[int], seed: int = 0) -> dict:
    """Errors of the k-NN means of noisy samples, by k: `self` against the noisy samples, `clean` against the truth.

    noise2self (Batson & Royer 2019) chooses the k with the least self-supervised error, which needs no
    clean data. Also `excess`: the clean error at that k over the least clean error, and the pictures.
    """
    g = torch.Generator().manual_seed(seed)
    noisy = clean + sigma * torch.randn(clean.shape, generator=g)
    predictions = knn_predictions(noisy, sorted(ks))
    to_self = (predictions - noisy).square().mean((1, 2)).numpy()
    to_clean = (predictions - clean).square().mean((1, 2)).numpy()
    best = int(np.argmin(to_self))
    return dict(
        ks=np.array(sorted(ks)),
        self=to_self,
        clean=to_clean,
        chosen=sorted(ks)[best],
        excess=float(to_clean[best] / to_clean.min()),
        noisy=noisy,
        denoised=predictions[best],
    )
