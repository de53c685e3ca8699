"""A small image classifier with two 64-neuron hidden layers to be explained, for all seeds at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence

import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from lib.common.metrics import mean_and_rms
from lib.dictionaries.training import fit
from lib.networks import replicas, training
from lib.networks.images import Images
from lib.studies.projective_dictionaries.factorial import code_table
from lib.studies.projective_dictionaries.methods import build

WIDTHS = (196, 128, 64, 128, 64, 10)
LAYERS = {"layer 1": 3, "layer 2": 7}  # where the pre-activations of the 64 neurons end, in `body`


class Network(nn.Module):
    """196-128-64-128-64-10 with ReLU between; the two 64-wide pre-activations are what dictionaries explain.

    Between them lie two ReLUs and a layer of 128, so the map from the first to the second is not linear.
    """

    def __init__(self, seeds: int, generator: Generator | None = None):
        super().__init__()
        self.body = replicas.mlp(seeds, *WIDTHS, generator=generator)

    def forward(self, x: Float[Tensor, "seeds n 196"]) -> Float[Tensor, "seeds n 10"]:
        return self.body(x)

    def layer(self, x: Tensor, name: str) -> Float[Tensor, "seeds n 64"]:
        """Pre-activations of the layer called `name`."""
        return self.body[: LAYERS[name]](x)

    def rest(self, h: Tensor, name: str) -> Float[Tensor, "seeds n 10"]:
        """Logits from the pre-activations of the layer called `name`."""
        return self.body[LAYERS[name] :](h)

    def loss(self, x: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self(x).permute(0, 2, 1), labels, reduction="none").mean(1)


def pixels(images: Tensor) -> Float[Tensor, "n 196"]:
    """Bytes `(n, 28, 28)` as 14 x 14 means of 2 x 2 pixels in [0, 1]."""
    return F.avg_pool2d(images[:, None].float() / 255, 2).flatten(1)


def train(images: Images, *, seeds: int, steps: int, seed: int) -> Network:
    """Networks trained by Adam on minibatches of 256 images."""
    generator = torch.Generator().manual_seed(seed)
    x, labels = pixels(images.train_images), images.train_labels
    order = training.minibatches(len(x), replicas=seeds, batch=256, generator=generator)
    batches = ((x[i], labels[i]) for i in order)
    return training.train(
        Network(seeds, generator), batches, steps=steps, lr=2e-3, name="network"
    ).model.eval()


class Recovered:
    """Cross entropy recovered by h_hat in a layer's place, (CE of the mean - CE of h_hat) / (CE of the mean - CE of h).

    1: as good as the layer called `name` itself; 0: as bad as its mean.
    """

    def __init__(self, network: Network, name: str, *, labels: Tensor):
        self.network, self.name, self.labels = network, name, labels

    @torch.no_grad()
    def __call__(self, h: Float[Tensor, "seeds n d"], h_hat: Tensor) -> Float[Tensor, " seeds"]:
        blank, clean, given = map(self._loss, (h.mean(1, keepdim=True).expand_as(h), h, h_hat))
        return (blank - given) / (blank - clean)

    def _loss(self, h: Tensor) -> Tensor:
        logits = self.network.rest(h, self.name).permute(0, 2, 1)
        return F.cross_entropy(logits, self.labels.expand(len(h), -1), reduction="none").mean(1)


def compare(
    methods: Sequence[str],
    *,
    train: Float[Tensor, "seeds n d"],
    test: Float[Tensor, "seeds m d"],
    k: int,
    latents: int,
    steps: int,
    rates: Mapping[str, float],
    seed: int,
    recovered: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> pd.DataFrame:
    """The table of `factorial.code_table` for dictionaries of real activations, one of each method per seed.

    Activations are centred and brought to a root mean square of 1. `recovered(h, h_hat)`, where given, adds the
    column `cross_entropy` to the models' own output.
    """
    generator = torch.Generator().manual_seed(seed)
    mean, rms = mean_and_rms(train)
    x, test = (train - mean) / rms, (test - mean) / rms
    sizes = {"d_in": x.shape[-1], "d_sae": latents, "k": k, "replicas": len(x), "generator": generator}
    models = {name: build(name, **sizes) for name in methods}
    fit(models, batches(x, generator), steps=steps, lr=rates, name="activations")
    frames = []
    for name, model in models.items():
        table = code_table(model, test, k=k, selections=("own", "OMP"))
        if recovered is not None:
            with torch.no_grad():
                share = recovered(test * rms + mean, model(test) * rms + mean).numpy()
            own = table["coefficients"] == "as trained"
            table.loc[own, "cross_entropy"] = share[table.loc[own, "replica"]]
        frames.append(table.assign(method=name, k=k).rename(columns={"replica": "seed"}))
    return pd.concat(frames, ignore_index=True)


def batches(
    x: Float[Tensor, "seeds n d_in"],
    generator: Generator,
    *,
    target: Float[Tensor, "seeds n d"] | None = None,
    batch: int = 128,
) -> Iterator[Tensor | tuple[Tensor, Tensor]]:
    """Endless minibatches of samples, drawn for each seed independently; pairs with the target where there is one."""
    seed = torch.arange(len(x))[:, None]
    while True:
        chosen = torch.randint(x.shape[1], (len(x), batch), generator=generator)
        if target is None:
            yield x[seed, chosen]
        else:
            yield x[seed, chosen], target[seed, chosen]
