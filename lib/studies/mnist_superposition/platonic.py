"""Many clusters in small minibatches, and learned representatives appended to them ("platonic forms").

Source: Wiechecki 2024, section 5.3, which proposes the representatives and does not test them.
"""

import pandas as pd
import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from lib.common import metrics
from lib.networks import training
from lib.networks.replicas import mlp
from lib.studies.mnist_superposition.affinity import diffuse


class Platonic(nn.Module):
    """x_hat = PWAK(K) X over the minibatch and `forms` learned points, which are samples to everyone else.

    K = softmax(partitioner(.)), d-64-k, of samples and points alike. In float64: with fewer samples than
    clusters, most are nearly alone in theirs.
    """

    def __init__(
        self, replicas: int, d_in: int, clusters: int, forms: int, generator: Generator | None = None
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
        return diffuse(self.assign(seen), torch.cat([x, self.forms], dim=1), "rows")[:, : x.shape[1]]

    def loss(self, x: Float[Tensor, "replicas n d"], view=None) -> Float[Tensor, "replicas"]:
        return (self(x, view) - x).square().mean((1, 2))


def mixture(clusters: int, n: int, d: int, spread: float, generator: Generator):
    """Samples of equally likely Gaussian clusters: two views `(n, d)` with independent noise, and the true clusters.

    Centres are standard normal and `spread` is the standard deviation within a cluster; 0 clusters are
    standard normal noise around one point.
    """
    centres = torch.randn(max(clusters, 1), d, generator=generator, dtype=torch.float64) * (clusters > 0)
    labels = torch.randint(max(clusters, 1), (n,), generator=generator)
    noise = torch.randn(2, n, d, generator=generator, dtype=torch.float64)
    return *(centres[labels] + (spread if clusters else 1.0) * noise), labels


def small_batches(
    settings: list[dict], *, clusters=64, d=8, spread=0.25, seeds: int, steps: int, lr: float, first_seed=100
) -> pd.DataFrame:
    """Train on known mixtures with each of the `settings`: dicts of batch, forms, sees ("itself" or "view"), clusters.

    All settings see the same data sets and the same number of minibatches. One row a setting and data
    seed: the setting, ari (largest assignment against the true clusters) and fvu on test
    samples, in minibatches of the size trained with. `clusters` 0 is noise: its ari is 0 by definition.
    """
    rows = []
    for setting in settings:
        known = setting.get("clusters", clusters)
        generators = [torch.Generator().manual_seed(first_seed + s) for s in range(seeds)]
        x, view, labels = map(
            torch.stack, zip(*[mixture(known, 8000, d, spread, g) for g in generators], strict=True)
        )
        batch, sees_view = setting["batch"], setting.get("sees", "itself") == "view"
        model = Platonic(seeds, d, clusters, setting["forms"], torch.Generator().manual_seed(first_seed))
        parts = (x, view) if sees_view else (x,)
        index = training.minibatches(6000, seeds, batch, torch.Generator().manual_seed(first_seed))
        replica = torch.arange(seeds)[:, None]
        training.train(
            model,
            (tuple(part[replica, i] for part in parts) for i in index),
            steps=steps,
            lr=lr,
            name=f"batch {batch}, {setting['forms']} forms",
        )
        with torch.no_grad():
            test = [part[:, 6000:] for part in parts]
            K = model.assign(test[-1])
            chunks = zip(*[part.split(batch, dim=1) for part in test], strict=True)
            whole = [
                torch.cat([chunk[0], model(*chunk)], -1) for chunk in chunks if chunk[0].shape[1] == batch
            ]
            fvu = metrics.fvu(*torch.cat(whole, dim=1).chunk(2, dim=-1))
        for seed in range(seeds):
            ari = metrics.ari(K[seed].argmax(0), labels[seed, 6000:])
            rows.append(
                dict(sees="itself", clusters=known) | setting | dict(seed=seed, ari=ari, fvu=float(fvu[seed]))
            )
    return pd.DataFrame(rows)
