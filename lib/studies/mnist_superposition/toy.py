"""The toy model of superposition, all sparsity levels and seeds as one batch (Elhage et al. 2022)."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from lib.networks import training
from lib.networks.training import Trained


class ToyModel(nn.Module):
    """x_hat = ReLU(W^T W x + b): n sparse features through m < n neurons; `W` is `(replicas, m, n)`."""

    def __init__(
        self, replicas: int, *, features: int = 400, neurons: int = 30, generator: Generator | None = None
    ):
        super().__init__()
        scale = (2 / (features + neurons)) ** 0.5  # Glorot normal
        self.W = nn.Parameter(torch.randn(replicas, neurons, features, generator=generator) * scale)
        self.b = nn.Parameter(torch.zeros(replicas, 1, features))

    def forward(self, x: Float[Tensor, "replicas n features"]) -> Tensor:
        return torch.baddbmm(self.b, x @ self.W.mT, self.W).relu()

    def loss(self, x: Float[Tensor, "replicas n features"]) -> Float[Tensor, " replicas"]:
        return (self(x) - x).square().mean((1, 2))


def train(
    density: Float[Tensor, " replicas"],
    *,
    features: int = 400,
    neurons: int = 30,
    batch: int = 256,
    seed: int = 0,
    **settings,
) -> Trained:
    """Train one replica for every entry of `density` = 1 - S, the probability that a feature is active.

    Active features are uniform on [0, 1] and equally important. `settings` go to `lib.networks.training.train`; with
    400 features in 30 neurons, 4,000 steps are enough at lr 5e-3 but not at 1e-3.
    """
    g = torch.Generator().manual_seed(seed)
    model = ToyModel(len(density), features=features, neurons=neurons, generator=g)

    def batches():
        shape = (len(density), batch, features)
        while True:  # u < p is active with probability p, and u/p is then uniform: one draw serves both
            u = torch.rand(shape, generator=g)
            p = density[:, None, None]
            yield (torch.where(u < p, u / p, 0.0),)

    return training.train(model, batches(), name="toy model", **settings)


def dimensionality(W: Float[Tensor, "*batch m n"]) -> Float[Tensor, "*batch n"]:
    """D_i = |W_i|^2 / sum_j (w_i . W_j)^2, w_i = W_i/|W_i|: the share of a dimension that feature i has.

    1: a dimension of its own; 1/2: an antipodal pair; 0: not represented (Elhage et al. 2022).
    """
    gram = W.mT @ W
    squared = gram.diagonal(dim1=-2, dim2=-1)
    shared = gram.square().sum(-1) / squared.clamp_min(1e-30)
    return squared / shared.clamp_min(1e-30)


class Measured(NamedTuple):
    """Toy models over densities and seeds.

    `inverse_density` `(densities,)` is 1/(1 - S). `dimensionality` and `squared_norm` `(seeds, densities, features)`
    are D_i and |W_i|^2; `per_feature` `(seeds, densities)` is m/|W|_F^2, neurons per represented feature; `random`
    `(seeds, features)` is D_i of random weights.
    """

    inverse_density: np.ndarray
    dimensionality: np.ndarray
    squared_norm: np.ndarray
    per_feature: np.ndarray
    random: np.ndarray

    def nearest(self, inverse_density: float) -> int:
        """Index of the density nearest to this one, on a logarithmic scale."""
        return int(np.abs(np.log(self.inverse_density / inverse_density)).argmin())


def measure(inverse_density: np.ndarray, *, seeds: int, steps: int) -> Measured:
    """Toy models of the default size trained at all densities with all seeds, as one batch."""
    density = torch.tensor(1 / inverse_density, dtype=torch.float32).repeat(seeds)
    W = train(density, steps=steps, lr=5e-3, seed=5).model.W.detach()
    untrained = ToyModel(seeds, generator=torch.Generator().manual_seed(6)).W.detach()

    def by_seed(values: Tensor) -> np.ndarray:
        return values.unflatten(0, (seeds, -1)).numpy()

    return Measured(
        inverse_density=inverse_density,
        dimensionality=by_seed(dimensionality(W)),
        squared_norm=by_seed(W.square().sum(1)),
        per_feature=by_seed(W.shape[1] / W.square().sum((1, 2))),
        random=dimensionality(untrained).numpy(),
    )
