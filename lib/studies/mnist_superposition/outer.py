"""Outer models: an image classifier and an autoencoder with a bottleneck of 3 neurons, as replicas.

Source: Wiechecki 2024, section 3.3.2; layer sizes and training as in the author's published code
(github.com/kewiechecki/SAE: models.jl, trainingfns.jl).
"""

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lib.networks import training
from lib.networks.replicas import Conv2d, ConvTranspose2d, mlp
from lib.networks.training import Trained

BOTTLENECK = 3


class Encoder(nn.Module):
    """Images `(replicas, n, 28, 28)` in [0, 1] to bottleneck activations `(replicas, n, 3)`.

    3x3 stride-2 convolutions 1-3-6-9, a 2x2 convolution 9-12, dense 12-6-3, ReLU between. The author's
    code has a ReLU on the bottleneck too (`relu=True`).
    """

    def __init__(self, replicas: int, relu: bool = False, generator: Generator | None = None):
        super().__init__()
        self.convolutions = nn.Sequential(
            Conv2d(replicas, 1, 3, 3, 2, generator), nn.ReLU(),
            Conv2d(replicas, 3, 6, 3, 2, generator), nn.ReLU(),
            Conv2d(replicas, 6, 9, 3, 2, generator), nn.ReLU(),
            Conv2d(replicas, 9, 12, 2, 1, generator), nn.ReLU(),
        )  # fmt: skip
        self.dense = mlp(replicas, 12, 6, BOTTLENECK, generator=generator)
        self.relu = relu

    def forward(self, images: Tensor) -> Tensor:
        features = self.convolutions(images.permute(0, 2, 3, 1)[:, None])
        z = self.dense(features.flatten(1, 3).mT)
        return z.relu() if self.relu else z


class Decoder(nn.Module):
    """Bottleneck activations `(replicas, n, 3)` to images `(replicas, n, 28, 28)`: the encoder's mirror."""

    def __init__(self, replicas: int, generator: Generator | None = None):
        super().__init__()
        self.dense = mlp(replicas, BOTTLENECK, 6, 12, generator=generator)
        self.convolutions = nn.Sequential(
            ConvTranspose2d(replicas, 12, 9, 2, 1, generator), nn.ReLU(),
            ConvTranspose2d(replicas, 9, 6, 4, 2, generator), nn.ReLU(),
            ConvTranspose2d(replicas, 6, 3, 3, 2, generator), nn.ReLU(),
            ConvTranspose2d(replicas, 3, 1, 4, 2, generator),
        )  # fmt: skip

    def forward(self, z: Tensor) -> Tensor:
        features = self.dense(z).relu().mT[:, :, None, None]
        return self.convolutions(features)[:, 0].permute(0, 3, 1, 2)


class Classifier(nn.Module):
    """Images `(replicas, n, 28, 28)` to logits `(replicas, n, 10)`: encoder, then dense 3-5-10.

    `as_coded=True` is the author's code: ReLU on the bottleneck and on the logits, and a softmax before
    the cross entropy, which applies another.
    """

    def __init__(self, replicas: int, as_coded: bool = False, generator: Generator | None = None):
        super().__init__()
        self.encoder = Encoder(replicas, relu=as_coded, generator=generator)
        self.head = mlp(replicas, BOTTLENECK, 5, 10, generator=generator)
        self.as_coded = as_coded

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(self.encoder(images))
        return logits.relu().softmax(-1) if self.as_coded else logits

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Cross entropy a replica, `(replicas,)`."""
        logits = self(images)
        return F.cross_entropy(logits.mT, labels, reduction="none").mean(-1)


class Autoencoder(nn.Module):
    """Images to images through the same encoder: the outer model with a decoder for a classifier."""

    def __init__(self, replicas: int, generator: Generator | None = None):
        super().__init__()
        self.encoder = Encoder(replicas, generator=generator)
        self.decoder = Decoder(replicas, generator)

    def forward(self, images: Tensor) -> Tensor:
        return self.decoder(self.encoder(images))

    def loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """Mean squared error a replica, `(replicas,)`; `labels` is not used."""
        return (self(images) - images).square().mean((1, 2, 3))


def train(
    model: nn.Module, images: Tensor, labels: Tensor, *, batch: int = 512, seed: int = 0, **settings
) -> Trained:
    """Train all replicas of an outer model, each on an order of its own; `settings` as `training.train`.

    `images` uint8 `(n, 28, 28)`, `labels` int64 `(n,)`.
    """
    generator = torch.Generator().manual_seed(seed)
    replicas = model.encoder.dense[0].weight.shape[0]
    chosen = training.minibatches(len(images), replicas, batch, generator)
    batches = ((images[index].float() / 255, labels[index]) for index in chosen)
    return training.train(model, batches, **settings)


@torch.no_grad()
def apply(module: nn.Module, images: Tensor, chunk: int = 1000) -> Tensor:
    """`module` on the same uint8 images `(n, 28, 28)` for every replica, by chunks: `(replicas, n, ...)`."""
    replicas = next(module.parameters()).shape[0]
    parts = [part.float() / 255 for part in images.split(chunk)]
    return torch.cat([module(part.expand(replicas, *part.shape)) for part in parts], dim=1)
