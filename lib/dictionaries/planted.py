"""Synthetic activations made of known features: what a dictionary should find in them has been planted.

x = sum_i z_i f_i + noise, with n unit features f_i in d dimensions and non-negative strengths z_i, of which about `l0`
are not 0.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor

KINDS = ("independent", "coherent", "clusters", "hierarchy")
GROUP_SIZE = 4  # coherent features in a group
GROUP_COSINE = 0.7  # of two features in a group
CLUSTER_SIZE = 8  # features that occur together, each with probability 1/2 where their cluster is active
CHILDREN_PER_PARENT = 2
CHILD_RATE = 0.4  # share of the samples with an active parent in which a child is active
STRENGTHS = (0.5, 1.5)  # the interval they are drawn from, uniformly
NOISE = 0.02  # standard deviation of each coordinate


class Planted:
    """Replicas of one kind of planted dictionary, with features `(replicas, n, d)` and `sample`.

    - "independent": random directions, independently active;
    - "coherent": groups of 4 with a cosine of about 0.7, independently active;
    - "clusters": random directions, of which 8 at a time tend to occur together;
    - "hierarchy": a quarter are parents; half are children, two per parent, active only where it is; a quarter
      are independent. `parent[c]` is the parent of child c, and -1 for the others.

    Raises ValueError on an unknown kind, and if n is not a multiple of 8.
    """

    def __init__(
        self, kind: str, *, replicas: int, generator: Generator, n: int = 256, d: int = 64, l0: float = 8.0
    ):
        if kind not in KINDS:
            raise ValueError(f"kind is {kind!r}; allowed: {', '.join(map(repr, KINDS))}")
        if n % CLUSTER_SIZE or not 0 < l0 < n / 4:
            raise ValueError(
                f"n is {n} and l0 {l0}; n must be a multiple of {CLUSTER_SIZE}, and l0 between 0 and n/4"
            )
        self.kind, self.n, self.d, self.l0 = kind, n, d, l0
        features = torch.randn(replicas, n, d, generator=generator)
        if kind == "coherent":
            shared = torch.randn(replicas, n // GROUP_SIZE, d, generator=generator)
            shared = shared.repeat_interleave(GROUP_SIZE, 1)
            features = GROUP_COSINE**0.5 * shared + (1 - GROUP_COSINE) ** 0.5 * features
        self.features: Float[Tensor, "replicas n d"] = F.normalize(features, dim=-1)
        self.parent = torch.full((n,), -1)
        if kind == "hierarchy":
            parents = n // 4
            children = slice(parents, parents * (1 + CHILDREN_PER_PARENT))
            self.parent[children] = torch.arange(parents).repeat_interleave(CHILDREN_PER_PARENT)

    @property
    def replicas(self) -> int:
        """How many dictionaries there are."""
        return len(self.features)

    def active(self, samples: int, generator: Generator) -> Tensor:
        """Which features occur, bool `(replicas, samples, n)`."""
        draw = torch.rand(self.replicas, samples, self.n, generator=generator)
        if self.kind == "clusters":
            groups = torch.rand(self.replicas, samples, self.n // CLUSTER_SIZE, generator=generator)
            return (groups < 2 * self.l0 / self.n).repeat_interleave(CLUSTER_SIZE, -1) & (draw < 0.5)
        if self.kind != "hierarchy":
            return draw < self.l0 / self.n
        child = self.parent >= 0
        rate = self.l0 / ((~child).sum() + CHILD_RATE * child.sum())
        on = draw < torch.where(child, CHILD_RATE, rate)
        return on & torch.where(child, on[..., self.parent.clamp_min(0)], True)

    def sample(self, samples: int, generator: Generator) -> tuple[Tensor, Tensor]:
        """Activations `(replicas, samples, d)` and strengths `(replicas, samples, n)`."""
        low, high = STRENGTHS
        strengths = low + (high - low) * torch.rand(self.replicas, samples, self.n, generator=generator)
        strengths = strengths * self.active(samples, generator)
        noise = torch.randn(self.replicas, samples, self.d, generator=generator)
        return strengths @ self.features + NOISE * noise, strengths

    def stream(self, batch: int, generator: Generator) -> Iterator[Tensor]:
        """Endless batches of activations `(replicas, batch, d)`, in units of their root mean square (`scale`)."""
        scale = self.scale
        while True:
            yield self.sample(batch, generator)[0] / scale

    @property
    def scale(self) -> float:
        """Root mean square per coordinate, were the features orthogonal: the unit that dictionaries are trained in."""
        low, high = STRENGTHS
        square = (high**3 - low**3) / (3 * (high - low))
        return float((self.l0 * square / self.d + NOISE**2) ** 0.5)
