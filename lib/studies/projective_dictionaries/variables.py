"""Networks of known variables to intervene on: many in superposition, and a pair of digits.

The interventions are in `lib.studies.projective_dictionaries.interchange`.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Generator, Tensor, nn

from lib.networks import training
from lib.networks.replicas import Linear, mlp
from lib.networks.training import Trained
from lib.studies.projective_dictionaries.interchange import swap_subspace, through

STRENGTH = (0.5, 1.5)  # of an active variable, uniform
DIGITS = 10


class Superposed(nn.Module):
    """m sparse variables through a linear layer of width d < m: h = W x, x_hat = ReLU(W_out h + b), untied.

    `W` is `(replicas, d, m)`, its columns the true dictionary; `tail` maps h to x_hat. Untrained it is the random
    network that serves as a control; `train_superposed` trains it. After Elhage et al. 2022, with W_out free.
    """

    def __init__(
        self, replicas: int, *, variables: int = 64, d: int = 24, generator: Generator | None = None
    ):
        super().__init__()
        scale = (2 / (variables + d)) ** 0.5  # Glorot normal
        self.W = nn.Parameter(torch.randn(replicas, d, variables, generator=generator) * scale)
        self.tail = nn.Sequential(Linear(replicas, d_in=d, d_out=variables, generator=generator), nn.ReLU())

    def hidden(self, x: Float[Tensor, "replicas n m"]) -> Float[Tensor, "replicas n d"]:
        return x @ self.W.mT

    def forward(self, x: Float[Tensor, "replicas n m"]) -> Float[Tensor, "replicas n m"]:
        return self.tail(self.hidden(x))

    def loss(self, x: Float[Tensor, "replicas n m"]) -> Float[Tensor, " replicas"]:
        return (self(x) - x).square().mean((1, 2))

    @property
    def dictionary(self) -> Float[Tensor, "replicas m d"]:
        """The true dictionary: the unit directions along which the variables are written, as rows."""
        return F.normalize(self.W.detach().mT, dim=-1)


def sample(active: Float[Tensor, " replicas"], n: int, *, variables: int, generator: Generator) -> Tensor:
    """Variables `(replicas, n, variables)`, on average `active` of them U(0.5, 1.5) and the others 0.

    Raises ValueError where `active` is not above 0 and at most the number of variables.
    """
    if active.ndim != 1 or not ((active > 0) & (active <= variables)).all():
        raise ValueError(
            f"active is {active.tolist()}; it must be one number per replica, above 0 and at most {variables}"
        )
    p, (low, high) = (active / variables)[:, None, None], STRENGTH
    u = torch.rand(len(active), n, variables, generator=generator)
    return torch.where(u < p, low + (high - low) * u / p, 0.0)  # u / p is then uniform: one draw serves both


def train_superposed(
    active: Float[Tensor, " replicas"],
    *,
    variables: int = 64,
    d: int = 24,
    batch: int = 128,
    seed: int = 0,
    lr: float = 5e-3,
    **settings,
) -> Trained:
    """Train one replica for every entry of `active`, the mean number active; settings as `training.train`."""
    g = torch.Generator().manual_seed(seed)
    model = Superposed(len(active), variables=variables, d=d, generator=g)

    def batches():
        while True:
            yield (sample(active, batch, variables=variables, generator=g),)

    return training.train(model, batches(), name="superposed variables", lr=lr, **settings)


class Pairs(NamedTuple):
    """Bases and sources of an interchange of every variable: variables x `(replicas, m, n, m)`, hidden states
    `(replicas, m, n, d)` and the network's own output `(replicas, m, n, m)` on base and counterfactual."""

    x_base: Tensor
    x_source: Tensor
    h_base: Tensor
    h_source: Tensor
    out_base: Tensor
    out_counterfactual: Tensor


@torch.no_grad()
def pairs(network: Superposed, active: Float[Tensor, " replicas"], *, n: int, generator: Generator) -> Pairs:
    """n pairs for each variable i in which x_i differs: active in the base alone, in the source alone (a quarter each)
    or in both (half), with strengths of its own.

    The counterfactual is the network's own output on the base with the source's x_i, so that what the network gets
    wrong does not count. The other variables are drawn independently for base and source, and shared by the m
    variables of a replica. Raises ValueError where n is not a multiple of 4, or `active` not one number per replica.
    """
    replicas, _, m = network.W.shape
    if n % 4 or n < 4:
        raise ValueError(f"n is {n} pairs; it must be a positive multiple of 4")
    if len(active) != replicas:
        raise ValueError(
            f"active has {len(active)} entries, but the network has {replicas} replicas; give one per replica"
        )
    low, high = STRENGTH
    base, source = ((low + (high - low) * torch.rand(replicas, n, m, generator=generator)) for _ in range(2))
    base[:, 0::4] = source[:, 1::4] = 0
    others = sample(active, 2 * n, variables=m, generator=generator)[:, None].repeat(1, m, 1, 1)
    x_base, x_source = others.split(n, 2)
    x_counterfactual = x_base.clone()
    for x, value in ((x_base, base), (x_source, source), (x_counterfactual, source)):
        x.diagonal(dim1=1, dim2=3).copy_(value)
    h_base, h_source, h_counterfactual = (
        through(network.hidden, x) for x in (x_base, x_source, x_counterfactual)
    )
    out_base, out_counterfactual = (through(network.tail, h) for h in (h_base, h_counterfactual))
    return Pairs(x_base, x_source, h_base, h_source, out_base, out_counterfactual)


def interchanges(
    network: Superposed, active: Float[Tensor, " replicas"], *, n: int, generator: Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless minibatches of `pairs` as `learn_rotation` takes them: h_base, h_source, counterfactual outputs."""
    while True:
        drawn = pairs(network, active, n=n, generator=generator)
        yield drawn.h_base, drawn.h_source, drawn.out_counterfactual


def squared_error(out: Tensor, target: Tensor) -> Tensor:
    """Squared distance of outputs `(*batch, n, m)`, mean over the n samples: the loss of DAS on `Superposed`."""
    return (out - target).square().sum(-1).mean(-1)


class PairNetwork(nn.Module):
    """Two images `(replicas, n, pixels)`, left and right, to 20 logits `(replicas, n, 20)`: ten for each digit.

    2 pixels - 128 - d - 128 - 20 with ReLU on the 128s; h is the linear layer of width d, `tail` what follows it.
    """

    def __init__(
        self,
        replicas: int,
        *,
        pixels: int = 784,
        d: int = 64,
        width: int = 128,
        generator: Generator | None = None,
    ):
        super().__init__()
        self.body = mlp(replicas, 2 * pixels, width, d, generator=generator)
        self.tail = mlp(replicas, d, width, 2 * DIGITS, generator=generator)

    def hidden(self, left: Tensor, right: Tensor) -> Float[Tensor, "replicas n d"]:
        return self.body(torch.cat([left, right], -1))

    def forward(self, left: Tensor, right: Tensor) -> Float[Tensor, "replicas n 20"]:
        return self.tail(self.hidden(left, right))

    def loss(
        self, left: Tensor, right: Tensor, labels: Int[Tensor, "replicas n 2"]
    ) -> Float[Tensor, " replicas"]:
        return cross_entropy(self(left, right), labels)


def cross_entropy(logits: Float[Tensor, "*batch n 20"], labels: Int[Tensor, "*batch n 2"]) -> Tensor:
    """Cross entropy of both digits, in nats, mean over the n samples."""
    log_p = logits.unflatten(-1, (2, DIGITS)).log_softmax(-1)
    return -log_p.gather(-1, labels[..., None]).sum((-1, -2)).mean(-1)


def _draw(
    images: Tensor, labels: Tensor, *, replicas: int, n: int, generator: Generator
) -> tuple[Tensor, Tensor]:
    """n random images `(replicas, n, pixels)` and their labels `(replicas, n)` for each replica."""
    if images.ndim != 2 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"images are {tuple(images.shape)} and labels {tuple(labels.shape)}; they must be (n, pixels) and (n,)"
        )
    index = torch.randint(len(images), (replicas, n), generator=generator)
    return images[index], labels[index]


def train_pair_network(
    images: Float[Tensor, "samples pixels"],
    labels: Int[Tensor, " samples"],
    *,
    replicas: int,
    d: int = 64,
    batch: int = 128,
    seed: int = 0,
    **settings,
) -> Trained:
    """Train on random pairs of images; settings as `training.train`."""
    g = torch.Generator().manual_seed(seed)

    def batches():
        while True:
            left, a = _draw(images, labels, replicas=replicas, n=batch, generator=g)
            right, b = _draw(images, labels, replicas=replicas, n=batch, generator=g)
            yield left, right, torch.stack([a, b], -1)

    model = PairNetwork(replicas, pixels=images.shape[-1], d=d, generator=g)
    return training.train(model, batches(), name="pairs of digits", **settings)


class DigitPairs(NamedTuple):
    """Bases and sources: hidden states `(replicas, n, d)`, the counterfactual's labels `(replicas, n, 2)` (the source's
    left digit, the base's right one), and which pairs count, bool `(replicas, n)`."""

    h_base: Tensor
    h_source: Tensor
    labels: Tensor
    counts: Tensor


@torch.no_grad()
def digit_pairs(
    network: PairNetwork,
    images: Tensor,
    labels: Tensor,
    *,
    n: int,
    generator: Generator,
    only_right: bool = True,
) -> DigitPairs:
    """n pairs per replica. Those count whose digits differ on both sides and, with `only_right`, whose base, source and
    counterfactual images the network itself reads correctly (an untrained network hardly ever does)."""
    replicas = network.tail[0].weight.shape[0]
    drawn = [_draw(images, labels, replicas=replicas, n=n, generator=generator) for _ in range(4)]
    (left, a), (right, b), (source_left, c), (source_right, e) = drawn
    counts = (a != c) & (b != e)
    h_base, h_source = network.hidden(left, right), network.hidden(source_left, source_right)
    wanted = torch.stack([c, b], -1)
    if only_right:
        h_counterfactual = network.hidden(source_left, right)
        checks = (
            (h_base, torch.stack([a, b], -1)),
            (h_source, torch.stack([c, e], -1)),
            (h_counterfactual, wanted),
        )
        for h, truth in checks:
            counts &= (_digits(network.tail(h)) == truth).all(-1)
    return DigitPairs(h_base, h_source, wanted, counts)


def digit_interchanges(
    network: PairNetwork, images: Tensor, labels: Tensor, *, n: int, generator: Generator
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Endless minibatches of `digit_pairs`, right or wrong, as `learn_rotation` takes them."""
    while True:
        yield digit_pairs(network, images, labels, n=n, generator=generator, only_right=False)[:3]


def digit_accuracy(network: PairNetwork, pairs: DigitPairs, Q: Float[Tensor, "replicas d k"]) -> Tensor:
    """Interchange accuracy `(replicas,)`: of the pairs that count, the share with both digits as they should be after
    the subspace Q is swapped. nan where none counts."""
    with torch.no_grad():
        out = network.tail(swap_subspace(Q, base=pairs.h_base, source=pairs.h_source))
    right = (_digits(out) == pairs.labels).all(-1)
    return (right & pairs.counts).sum(-1) / pairs.counts.sum(-1)


def _digits(logits: Tensor) -> Tensor:
    return logits.unflatten(-1, (2, DIGITS)).argmax(-1)
