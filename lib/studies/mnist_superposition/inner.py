"""Inner models, which split the bottleneck activations into features and clusters, as replicas.

Source: Wiechecki 2024, section 3.3.3 and appendix B.3: the SAE, the PSAE and DeePWAK; the controls and
the two variants that cannot see what they predict are ours.
"""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn

from lib.networks import training
from lib.networks.replicas import mlp
from lib.networks.training import Trained
from lib.studies.mnist_superposition.affinity import Normalise, diffuse

Activations = Float[Tensor, "replicas n d_in"]
Sees = Literal["itself", "view", "complement"]


class _Reconstructing(nn.Module):
    """Trained for reconstruction alone, as all inner models are."""

    def loss(self, x: Activations, view: Activations | None = None) -> Float[Tensor, " replicas"]:
        return (self(x, view) - x).square().mean((1, 2))


class _Autoencoder(_Reconstructing):
    """What encodes and decodes without regard to other samples."""

    def forward(self, x: Activations, view: Activations | None = None) -> Activations:
        return self.decode(self.encode(x))


class SAE(_Autoencoder):
    """Tied autoencoder E = ReLU(W x + b), x_hat = W^T E; weights and biases start standard normal.

    Sizes 3-27; the source's SAE trained for reconstruction alone, without a sparsity penalty.
    """

    def __init__(
        self, replicas: int, *, d_in: int = 3, latents: int = 27, generator: Generator | None = None
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(replicas, latents, d_in, generator=generator))
        self.bias = nn.Parameter(torch.randn(replicas, latents, 1, generator=generator))

    def encode(self, x: Activations) -> Float[Tensor, "replicas n latents"]:
        return torch.baddbmm(self.bias, self.weight, x.mT).relu().mT

    def decode(self, E: Float[Tensor, "replicas n latents"]) -> Activations:
        return (self.weight.mT @ E.mT).mT


class DenseAutoencoder(_Autoencoder):
    """DeePWAK without diffusion: encoder 3-9-27 (ReLU), decoder 27-9-3 (ReLU between, linear out)."""

    def __init__(
        self, replicas: int, *, d_in: int = 3, latents: int = 27, generator: Generator | None = None
    ):
        super().__init__()
        self.encoder = mlp(replicas, d_in, 9, latents, generator=generator)
        self.decoder = mlp(replicas, latents, 9, d_in, generator=generator)

    def encode(self, x: Activations) -> Float[Tensor, "replicas n latents"]:
        return self.encoder(x).relu()

    def decode(self, E: Float[Tensor, "replicas n latents"]) -> Activations:
        return self.decoder(E)


class Diffusing(_Reconstructing):
    """An autoencoder whose embeddings are diffused over soft clusters before decoding.

        K = softmax(partitioner(seen)),   E_hat = PWAK(K) E,   x_hat = decode(E_hat)

    Around an `SAE` this is the PSAE, around a `DenseAutoencoder` DeePWAK (Wiechecki 2024, eq. 4-5). The
    partitioner is 3-6-k. `sees` says what it reads for sample i:

    - "itself": x_i, as in the source. The prediction of x_i then depends on x_i, through K_i.
    - "view": another view of the same sample, passed as `view`. x_hat_i does not depend on x_i.
    - "complement": for each coordinate that is predicted, the other ones (the predicted one set to 0).
      x_hat_ic does not depend on x_ic.
    """

    def __init__(
        self,
        autoencoder: SAE | DenseAutoencoder,
        *,
        replicas: int,
        d_in: int = 3,
        clusters: int = 12,
        sees: Sees = "itself",
        normalise: Normalise = "columns",
        generator: Generator | None = None,
    ):
        super().__init__()
        self.autoencoder = autoencoder
        self.partitioner = mlp(replicas, d_in, 6, clusters, generator=generator)
        self.sees, self.normalise = sees, normalise

    def encode(self, x: Activations) -> Float[Tensor, "replicas n latents"]:
        return self.autoencoder.encode(x)

    def assign(self, x: Activations, view: Activations | None = None) -> Float[Tensor, "replicas k n"]:
        """Soft assignments: for "complement" the mean over the predicted coordinates."""
        if self.sees == "complement":
            return self._assign_complements(x).mean(1)
        return self._partition(self._seen(x, view))

    def forward(self, x: Activations, view: Activations | None = None, hard: bool = False) -> Activations:
        """Reconstruct x; `hard=True` replaces each assignment by its largest entry (one-hot)."""
        E = self.encode(x)
        if self.sees == "complement":
            K = self._assign_complements(x)
            E_hat = diffuse(_harden(K) if hard else K, E[:, None], normalise=self.normalise)
            x_hat = self.autoencoder.decode(E_hat.flatten(1, 2)).unflatten(1, E_hat.shape[1:3])
            return x_hat.diagonal(dim1=1, dim2=3)  # coordinate c from the assignments that do not see c
        K = self.assign(x, view)
        E_hat = diffuse(_harden(K) if hard else K, E, normalise=self.normalise)
        return self.autoencoder.decode(E_hat)

    def _seen(self, x: Activations, view: Activations | None) -> Activations:
        if self.sees == "view" and view is None:
            raise ValueError('a partitioner that sees "view" needs the argument view')
        return view if self.sees == "view" else x

    def _partition(self, seen: Activations) -> Float[Tensor, "replicas k n"]:
        return self.partitioner(seen).mT.softmax(-2)

    def _assign_complements(self, x: Activations) -> Float[Tensor, "replicas d_in k n"]:
        replicas, n, d = x.shape
        masked = x[:, None] * (1 - torch.eye(d, device=x.device, dtype=x.dtype))[:, None]
        return self._partition(masked.reshape(replicas, d * n, d)).unflatten(-1, (d, n)).movedim(2, 1)


class Codebook(_Reconstructing):
    """The control without neighbours: x_hat = decode(K^T D) with a learned dictionary D `(k, latents)`.

    DeePWAK with the mean over the other samples replaced by a constant: an autoencoder whose code is the
    assignment K.
    """

    def __init__(
        self,
        replicas: int,
        *,
        d_in: int = 3,
        latents: int = 27,
        clusters: int = 12,
        generator: Generator | None = None,
    ):
        super().__init__()
        self.partitioner = mlp(replicas, d_in, 6, clusters, generator=generator)
        self.dictionary = nn.Parameter(torch.rand(replicas, clusters, latents, generator=generator))
        self.decoder = mlp(replicas, latents, 9, d_in, generator=generator)

    def encode(self, x: Activations) -> Float[Tensor, "replicas n latents"]:
        return self.assign(x).mT @ self.dictionary

    def assign(self, x: Activations, view: Activations | None = None) -> Float[Tensor, "replicas k n"]:
        return self.partitioner(x).mT.softmax(-2)

    def forward(self, x: Activations, view: Activations | None = None, hard: bool = False) -> Activations:
        K = self.assign(x)
        return self.decoder((_harden(K) if hard else K).mT @ self.dictionary)


def _harden(K: Float[Tensor, "*batch k n"]) -> Float[Tensor, "*batch k n"]:
    return F.one_hot(K.argmax(-2), K.shape[-2]).to(K.dtype).mT


SETTINGS = {"batch": 256, "lr": 3e-3}  # of the study; the source has batches of 512


class _Variant(NamedTuple):
    """What `Diffusing` is made of: the autoencoder, what the partitioner sees, and what of the kernel sums to 1."""

    autoencoder: type[SAE] | type[DenseAutoencoder]
    sees: Sees = "itself"
    normalise: Normalise = "columns"


_PLAIN = {"SAE": SAE, "Autoencoder": DenseAutoencoder, "Codebook": Codebook}
_DIFFUSING = {
    "PSAE": _Variant(SAE),
    "DeePWAK": _Variant(DenseAutoencoder),
    "DeePWAK-view": _Variant(DenseAutoencoder, sees="view"),
    "DeePWAK-complement": _Variant(DenseAutoencoder, sees="complement"),
    "DeePWAK, rows": _Variant(DenseAutoencoder, normalise="rows"),
}
NAMES = (
    "SAE",
    "Autoencoder",
    "PSAE",
    "DeePWAK",
    "Codebook",
    "DeePWAK-view",
    "DeePWAK-complement",
    "DeePWAK, rows",
)


def build(name: str, replicas: int, *, seed: int = 0) -> nn.Module:
    """The untrained inner model called `name`, of the study's sizes: 3 neurons, 27 latents, 12 clusters.

    Raises ValueError where `name` is none of `NAMES`.
    """
    generator = torch.Generator().manual_seed(seed)
    if name in _PLAIN:
        return _PLAIN[name](replicas, generator=generator)
    if name not in _DIFFUSING:
        raise ValueError(f"inner model: got {name!r}; allowed: {'; '.join(NAMES)}")
    variant = _DIFFUSING[name]
    return Diffusing(
        variant.autoencoder(replicas, generator=generator),
        replicas=replicas,
        sees=variant.sees,
        normalise=variant.normalise,
        generator=generator,
    )


def train(
    model: nn.Module,
    x: Float[Tensor, "outer n d_in"],
    *,
    view: Float[Tensor, "outer n d_in"] | None = None,
    inner: int,
    batch: int = 512,
    seed: int = 0,
    **settings,
) -> Trained:
    """Train a model of outer * inner replicas: replica r learns on the activations of outer model r // inner.

    `view`, where a model needs it, is a second view of the same samples; `settings` go to
    `lib.networks.training.train`.
    """
    generator = torch.Generator().manual_seed(seed)
    outer = torch.arange(len(x)).repeat_interleave(inner)[:, None]
    parts = (x,) if view is None else (x, view)
    chosen = training.minibatches(x.shape[1], replicas=len(x) * inner, batch=batch, generator=generator)
    batches = (tuple(part[outer, index] for part in parts) for index in chosen)
    return training.train(model, batches, **settings)


def train_all(
    x: Float[Tensor, "outer n d_in"], view: Float[Tensor, "outer n d_in"], *, inner: int, steps: int
) -> dict[str, Trained]:
    """The models of `NAMES`, `inner` replicas of each per outer model, with checkpoints at five stages of training."""
    stages = tuple(sorted({0, steps // 50, steps // 10, steps // 3, steps}))
    settings = dict(view=view, inner=inner, steps=steps, checkpoints=stages, **SETTINGS)
    runs = {}
    for i, name in enumerate(NAMES):
        model = build(name, len(x) * inner, seed=10 + i)
        runs[name] = train(model, x, **settings, seed=20 + i, name=name)
    return runs
