"""Plain versions of what the library does faster, as one would first write them: for tests and for the speed study.

Autograd does everything: through a dense decode, and through a linear solve.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn


class DenseTopK(nn.Module):
    """Top-k sparse autoencoder that writes each code into d_sae numbers and multiplies by the whole decoder."""

    def __init__(self, *, d_in: int, d_sae: int, k: int, generator: Generator | None = None):
        super().__init__()
        self.k = k
        rows = F.normalize(torch.randn(d_sae, d_in, generator=generator), dim=-1)
        self.decoder, self.encoder = nn.Parameter(rows), nn.Parameter(rows.clone())
        self.bias, self.centre = nn.Parameter(torch.zeros(d_sae)), nn.Parameter(torch.zeros(d_in))

    def forward(self, x: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        scores = (x - self.centre) @ self.encoder.mT + self.bias
        values, index = scores.topk(self.k, dim=-1)
        code = torch.zeros_like(scores).scatter(-1, index, values.relu())
        return code @ self.decoder + self.centre


class NaiveProjection(nn.Module):
    """Tied projective dictionary, y_hat = X (X^T X)^-1 X^T y by `torch.linalg.solve`, differentiated by autograd.

    `epsilon`, which guards against singular supports, is added to the diagonal of the Gram matrix.
    """

    def __init__(
        self,
        *,
        d_in: int,
        d_sae: int,
        k: int,
        epsilon: float = 1e-6,
        generator: Generator | None = None,
    ):
        super().__init__()
        self.k, self.epsilon = k, epsilon
        self.decoder = nn.Parameter(F.normalize(torch.randn(d_sae, d_in, generator=generator), dim=-1))
        self.centre = nn.Parameter(torch.zeros(d_in))

    def forward(self, y: Float[Tensor, "batch d"]) -> Float[Tensor, "batch d"]:
        y = y - self.centre
        rows = self.decoder[(y @ self.decoder.mT).topk(self.k, dim=-1).indices]  # (batch, k, d)
        gram = rows @ rows.mT + self.epsilon * torch.eye(self.k, dtype=y.dtype)
        beta = torch.linalg.solve(gram, rows @ y[..., None])
        return (rows.mT @ beta)[..., 0] + self.centre


def step(model: nn.Module, x: Float[Tensor, "batch d"]) -> Callable[[], None]:
    """A whole training step of a plain model on one batch: squared error, clipping, Adam, rows back to norm 1."""
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def take() -> None:
        optimiser.zero_grad()
        (model(x) - x).square().sum(-1).mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            model.decoder.copy_(F.normalize(model.decoder, dim=-1))

    return take
