"""Outer models: an image classifier and an image autoencoder with a bottleneck of 3 neurons, as replicas.

Source: Wiechecki 2024, section 3.3.2; layer sizes and training as in the author's published code
(github.com/kewiechecki/SAE: models.jl, trainingfns.jl).
"""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from torch import Generator, Tensor, nn

from lib.networks import training
from lib.networks.images import Images
from lib.networks.replicas import Conv2d, ConvTranspose2d, mlp
from lib.networks.training import Trained

BOTTLENECK = 3
CLASSIFIERS = ("as coded", "repaired")
ARMS = (*CLASSIFIERS, "decoder")


class Encoder(nn.Module):
    """Images `(replicas, n, 28, 28)` in [0, 1] to bottleneck activations `(replicas, n, 3)`.

    3x3 stride-2 convolutions 1-3-6-9, a 2x2 convolution 9-12, dense 12-6-3, ReLU between. The author's
    code has a ReLU on the bottleneck too (`relu=True`).
    """

    def __init__(self, replicas: int, *, relu: bool = False, generator: Generator | None = None):
        super().__init__()
        self.convolutions = nn.Sequential(
            Conv2d(replicas, d_in=1, d_out=3, kernel=3, stride=2, generator=generator), nn.ReLU(),
            Conv2d(replicas, d_in=3, d_out=6, kernel=3, stride=2, generator=generator), nn.ReLU(),
            Conv2d(replicas, d_in=6, d_out=9, kernel=3, stride=2, generator=generator), nn.ReLU(),
            Conv2d(replicas, d_in=9, d_out=12, kernel=2, stride=1, generator=generator), nn.ReLU(),
        )  # fmt: skip
        self.dense = mlp(replicas, 12, 6, BOTTLENECK, generator=generator)
        self.relu = relu

    def forward(self, images: Tensor) -> Tensor:
        features = self.convolutions(images.permute(0, 2, 3, 1)[:, None])
        z = self.dense(features.flatten(1, 3).mT)
        return z.relu() if self.relu else z


class Decoder(nn.Module):
    """Bottleneck activations `(replicas, n, 3)` to images `(replicas, n, 28, 28)`: the encoder's mirror."""

    def __init__(self, replicas: int, *, generator: Generator | None = None):
        super().__init__()
        self.dense = mlp(replicas, BOTTLENECK, 6, 12, generator=generator)
        self.convolutions = nn.Sequential(
            ConvTranspose2d(replicas, d_in=12, d_out=9, kernel=2, stride=1, generator=generator), nn.ReLU(),
            ConvTranspose2d(replicas, d_in=9, d_out=6, kernel=4, stride=2, generator=generator), nn.ReLU(),
            ConvTranspose2d(replicas, d_in=6, d_out=3, kernel=3, stride=2, generator=generator), nn.ReLU(),
            ConvTranspose2d(replicas, d_in=3, d_out=1, kernel=4, stride=2, generator=generator),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        features = self.dense(z).relu().mT[:, :, None, None]
        return self.convolutions(features)[:, 0].permute(0, 3, 1, 2)


class Classifier(nn.Module):
    """Images `(replicas, n, 28, 28)` to logits `(replicas, n, 10)`: encoder, then dense 3-5-10.

    `as_coded=True` is the author's code: ReLU on the bottleneck and on the logits, and a softmax before
    the cross entropy, which applies another.
    """

    def __init__(self, replicas: int, *, as_coded: bool = False, generator: Generator | None = None):
        super().__init__()
        self.encoder = Encoder(replicas, relu=as_coded, generator=generator)
        self.head = mlp(replicas, BOTTLENECK, 5, 10, generator=generator)
        self.as_coded = as_coded

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(self.encoder(images))
        return logits.relu().softmax(-1) if self.as_coded else logits

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy, `(replicas,)`."""
        logits = self(images)
        return F.cross_entropy(logits.mT, labels, reduction="none").mean(-1)


class Autoencoder(nn.Module):
    """Images to images through the same encoder: the outer model with a decoder for a classifier."""

    def __init__(self, replicas: int, *, generator: Generator | None = None):
        super().__init__()
        self.encoder = Encoder(replicas, generator=generator)
        self.decoder = Decoder(replicas, generator=generator)

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error, `(replicas,)`; `labels` is not used."""
        return (self(images) - images).square().mean((1, 2, 3))


def train(
    model: Classifier | Autoencoder,
    images: UInt8[Tensor, "n 28 28"],
    *,
    labels: Int[Tensor, " n"],
    batch: int = 512,
    seed: int = 0,
    **settings,
) -> Trained:
    """Train all replicas of an outer model, each on an order of its own.

    `settings` go to `lib.networks.training.train`.
    """
    generator = torch.Generator().manual_seed(seed)
    replicas = model.encoder.dense[0].weight.shape[0]
    chosen = training.minibatches(len(images), replicas=replicas, batch=batch, generator=generator)
    batches = ((images[index].float() / 255, labels[index]) for index in chosen)
    return training.train(model, batches, **settings)


def train_arms(
    data: Images, replicas: int, *, steps: int, batch: int, lr: float, decoder_steps: int
) -> dict[str, Trained]:
    """The three arms of the study, in the order of `ARMS`; checkpoints of the classifiers at five stages of training.

    "as coded": the author's code, sign descent with steps of 1e-3. "repaired": Adam at `lr`, a linear bottleneck and
    one softmax. "decoder": the repaired encoder with a decoder, Adam at `lr`.
    """
    common = dict(images=data.train_images, labels=data.train_labels, batch=batch)
    stages = tuple(sorted({0, steps // 30, steps // 10, steps // 3, steps}))

    def generator(seed):
        return torch.Generator().manual_seed(seed)

    as_coded = Classifier(replicas, as_coded=True, generator=generator(1))
    repaired = Classifier(replicas, generator=generator(2))
    decoder = Autoencoder(replicas, generator=generator(3))
    classifying = dict(common, steps=steps, checkpoints=stages)
    return {
        "as coded": train(as_coded, **classifying, lr=1e-3, reset_optimiser=True, seed=1, name="as coded"),
        "repaired": train(repaired, **classifying, lr=lr, seed=2, name="repaired"),
        "decoder": train(decoder, **common, steps=decoder_steps, lr=lr, seed=3, name="decoder"),
    }


def classifier_table(arms: Mapping[str, Trained], data: Images) -> pd.DataFrame:
    """How the classifiers do on the test images, one row per arm and outer seed.

    Columns: arm, outer, accuracy, missing (digits that are never predicted), dead (constant neurons of the bottleneck).
    """
    tables = []
    for arm in CLASSIFIERS:
        model = arms[arm].model
        predicted = apply(model, data.test_images).argmax(-1)
        columns = dict(
            accuracy=accuracy(predicted, data.test_labels),
            missing=[float(10 - len(row.unique())) for row in predicted],
            dead=(~varies(apply(model.encoder, data.test_images))).sum(1).double().numpy(),
        )
        tables.append(pd.DataFrame({"arm": arm, "outer": range(len(predicted))} | columns))
    return pd.concat(tables, ignore_index=True)


def accuracy(predicted: Int[Tensor, "replicas n"], labels: Int[Tensor, " n"]) -> np.ndarray:
    """Share of the predictions that are right, `(replicas,)`."""
    return (predicted == labels).double().mean(1).numpy()


def accuracy_at_checkpoints(arms: Mapping[str, Trained], data: Images) -> dict[str, pd.DataFrame]:
    """Test accuracy in the course of training: by classifier, a table with steps as rows and outer seeds as columns."""
    return {
        arm: pd.DataFrame(
            {
                step: accuracy(apply(model, data.test_images).argmax(-1), data.test_labels)
                for step, model in arms[arm].checkpoints.items()
            }
        ).T
        for arm in CLASSIFIERS
    }


def varies(z: Float[Tensor, "replicas n d"]) -> Bool[Tensor, "replicas d"]:
    """Which neurons are not constant over the samples."""
    return z.std(1) >= 1e-6


@torch.no_grad()
def apply(module: nn.Module, images: UInt8[Tensor, "n 28 28"], *, chunk: int = 1000) -> Tensor:
    """`module` on the same images for every replica, by chunks: `(replicas, n, ...)`."""
    replicas = next(module.parameters()).shape[0]
    parts = [part.float() / 255 for part in images.split(chunk)]
    return torch.cat([module(part.expand(replicas, *part.shape)) for part in parts], dim=1)
