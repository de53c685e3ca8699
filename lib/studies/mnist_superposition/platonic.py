"""Many clusters in small minibatches, and learned representatives appended to them ("platonic forms").

Source: Wiechecki 2024, section 5.3, which proposes the representatives and does not test them.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from lib.common import metrics
from lib.networks import training
from lib.networks.replicas import mlp
from lib.studies.mnist_superposition.affinity import diffuse

SAMPLES, TRAINED = 8000, 6000  # of a data set: all, and those trained on; the rest is for testing


class Platonic(nn.Module):
    """x_hat = PWAK(K) X over the minibatch and `forms` learned points, which count as samples but are not predicted.

    K = softmax(partitioner(.)), d-64-k, of samples and points alike. In float64: with fewer samples than
    clusters, most samples are nearly alone in theirs.
    """

    def __init__(
        self, replicas: int, *, d_in: int, clusters: int, forms: int, generator: Generator | None = None
    ):
        super().__init__()
        self.partitioner = mlp(replicas, d_in, 64, clusters, generator=generator)
        self.forms = nn.Parameter(torch.randn(replicas, forms, d_in, generator=generator))
        self.double()

    def assign(self, x: Float[Tensor, "replicas n d"]) -> Float[Tensor, "replicas k n"]:
        return self.partitioner(x).mT.softmax(-2)

    def forward(self, x: Float[Tensor, "replicas n d"], view: Float[Tensor, "replicas n d"] | None = None):
        """Predict x `(replicas, n, d)`; the partitioner sees `view`, another view of the samples, if given."""
        seen = torch.cat([x if view is None else view, self.forms], dim=1)
        everyone = torch.cat([x, self.forms], dim=1)
        return diffuse(self.assign(seen), everyone, normalise="rows")[:, : x.shape[1]]

    def loss(self, x: Float[Tensor, "replicas n d"], view=None) -> Float[Tensor, " replicas"]:
        return (self(x, view) - x).square().mean((1, 2))


def mixture(
    clusters: int, *, n: int, d: int, spread: float, generator: Generator
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d"], Int[Tensor, " n"]]:
    """Samples of equally likely Gaussian clusters: two views with independent noise, and the true clusters.

    Centres are standard normal and `spread` is the standard deviation within a cluster; 0 clusters are
    standard normal noise around one point.
    """
    centres = torch.randn(max(clusters, 1), d, generator=generator, dtype=torch.float64) * (clusters > 0)
    labels = torch.randint(max(clusters, 1), (n,), generator=generator)
    noise = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    x, view = centres[labels] + (spread if clusters else 1.0) * noise
    return x, view, labels


def small_batches(
    settings: Sequence[Mapping],
    *,
    clusters: int = 64,
    d: int = 8,
    spread: float = 0.25,
    seeds: int,
    steps: int,
    lr: float,
    first_seed: int = 100,
) -> pd.DataFrame:
    """Train on known mixtures with each of the `settings`, on the same data sets and as many minibatches.

    A setting is a mapping of batch, forms and perhaps sees ("itself" or "view") and clusters. One row per setting and
    data seed: sees, clusters, batch, forms, seed, ari (largest assignment against the true clusters) and fvu on test
    samples, in minibatches of the size trained with. `clusters` 0 is noise: its ari is 0 by definition.
    """
    tables = []
    for setting in settings:
        setting = {"sees": "itself", "clusters": clusters} | dict(setting)
        data = [
            mixture(
                setting["clusters"],
                n=SAMPLES,
                d=d,
                spread=spread,
                generator=torch.Generator().manual_seed(first_seed + seed),
            )
            for seed in range(seeds)
        ]
        x, view, labels = (torch.stack(parts) for parts in zip(*data, strict=True))
        seen = view if setting["sees"] == "view" else x
        generator = torch.Generator().manual_seed(first_seed)
        model = Platonic(seeds, d_in=d, clusters=clusters, forms=setting["forms"], generator=generator)
        _train(model, x, seen, batch=setting["batch"], steps=steps, lr=lr, seed=first_seed)
        fvu, found = _test(model, x[:, TRAINED:], seen[:, TRAINED:], batch=setting["batch"])
        ari = [metrics.ari(a, b) for a, b in zip(found, labels[:, TRAINED:], strict=True)]
        tables.append(pd.DataFrame(setting | dict(seed=range(seeds), ari=ari, fvu=fvu.tolist())))
    return pd.concat(tables, ignore_index=True)


def by_seed(
    table: pd.DataFrame, column: str, *, batch: int, forms: int, sees: str = "itself", clusters: int = 64
) -> np.ndarray:
    """`column` of one setting in `small_batches`: one value per data seed."""
    chosen = (table["batch"] == batch) & (table["forms"] == forms) & (table["sees"] == sees)
    chosen &= table["clusters"] == clusters
    return table[chosen].sort_values("seed")[column].to_numpy()


def _train(model: Platonic, x: Tensor, seen: Tensor, *, batch: int, steps: int, lr: float, seed: int) -> None:
    replicas = len(x)
    generator = torch.Generator().manual_seed(seed)
    index = training.minibatches(TRAINED, replicas=replicas, batch=batch, generator=generator)
    each = torch.arange(replicas)[:, None]
    batches = ((x[each, i], seen[each, i]) for i in index)
    name = f"batch {batch}, {model.forms.shape[1]} forms"
    training.train(model, batches, steps=steps, lr=lr, name=name)


@torch.no_grad()
def _test(
    model: Platonic, x: Float[Tensor, "seeds n d"], seen: Float[Tensor, "seeds n d"], *, batch: int
) -> tuple[Float[Tensor, " seeds"], Int[Tensor, "seeds n"]]:
    """FVU over whole minibatches (what is left at the end is dropped), and clusters of all samples."""
    whole = x.shape[1] // batch * batch
    chunks = zip(x[:, :whole].split(batch, 1), seen[:, :whole].split(batch, 1), strict=True)
    x_hat = torch.cat([model(*chunk) for chunk in chunks], dim=1)
    return metrics.fvu(x[:, :whole], x_hat), model.assign(seen).argmax(1)
