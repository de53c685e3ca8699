"""Sparse autoencoders of n latents for activations of width d, and what all dictionaries share.

Those that decode by projection are in `lib.dictionaries.projective`. Every model is a batch of replicas: the decoder is
`(replicas, n, d)`, its rows (the source's columns f_j) of norm 1. `loss(a, y)` has one value a replica, in units of the
batch's variance (so that it is an FVU plus penalties, which do not depend on the scale of the data); encoder scores
have the units of the activations, which `lib.dictionaries.training.scale` brings to a root mean square of 1 a coordinate.

The input a is `(replicas, batch, d_in)`, or `(batch, d_in)` for all replicas alike; the target y is the input, but in a
transcoder (`d_in` given), which reads one layer and reconstructs another.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from lib.dictionaries.projection import decode
from lib.dictionaries.selection import flatten, top_k, top_scores


@dataclass(frozen=True)
class Code:
    """The latents that a batch uses: indices, strengths and which of them count, each `(replicas, batch, k)`."""

    index: Tensor
    strength: Tensor
    valid: Tensor


class Dictionary(nn.Module):
    """What all dictionaries share: a decoder of unit rows, an encoder (the decoder, where `tied`), biases, a centre.

    Raises ValueError where k is not between 1 and n, or sizes are not positive.
    """

    def __init__(
        self,
        d: int,
        n: int,
        k: int,
        *,
        replicas: int = 1,
        d_in: int | None = None,
        tied: bool = False,
        generator: Generator | None = None,
    ):
        super().__init__()
        for name, value in (
            ("d", d),
            ("n", n),
            ("k", k),
            ("replicas", replicas),
            ("d_in", d if d_in is None else d_in),
        ):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}; it must be a positive integer")
        if k > n:
            raise ValueError(f"k is {k}, more than the {n} latents there are; choose k of at most n")
        if tied and d_in is not None:
            raise ValueError("a transcoder (d_in given) has an encoder of its own; choose tied=False")
        self.config = {"d": d, "n": n, "k": k, "replicas": replicas, "d_in": d_in, "tied": tied}
        self.d, self.n, self.k, self.replicas, self.transcodes = d, n, k, replicas, d_in is not None
        rows = F.normalize(torch.randn(replicas, n, d, generator=generator), dim=-1)
        self.decoder = nn.Parameter(rows)
        self.encoder = None
        if not tied:
            other = torch.randn(replicas, n, d_in or d, generator=generator)
            self.encoder = nn.Parameter(F.normalize(other, dim=-1) if self.transcodes else rows.clone())
        self.bias = nn.Parameter(torch.zeros(replicas, n))
        self.centre = nn.Parameter(torch.zeros(replicas, d))
        self.register_buffer(
            "idle", torch.zeros(replicas, n, dtype=torch.long)
        )  # samples since a latent was used

    @property
    def table(self) -> Tensor:
        """The replicas' decoders one below the other, `(replicas x n, d)`."""
        return self.decoder.flatten(0, 1)

    @property
    def rows(self) -> Tensor:
        """What the encoder multiplies with, `(replicas, n, d_in)`: the decoder, where it is tied."""
        return self.decoder if self.encoder is None else self.encoder

    def prepare(self, a: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Input and target as `(replicas, batch, width)`, less the centre; raises ValueError on what does not fit."""
        if y is None and self.transcodes:
            raise ValueError("a transcoder needs a target: call it with the input and the target")
        y = a if y is None else y
        for name, part, width in (("input", a, self.rows.shape[-1]), ("target", y, self.d)):
            if part.ndim not in (2, 3) or part.shape[-1] != width:
                raise ValueError(f"the {name} is {tuple(part.shape)}; its last dimension must be {width}")
            if part.ndim == 3 and len(part) != self.replicas:
                raise ValueError(f"the {name} has {len(part)} replicas; the dictionary has {self.replicas}")
            if not part.sum().isfinite():  # a sum of finite numbers is, one pass
                raise ValueError(f"the {name} has NaN or infinite values; leave those samples out")
        if a.shape[-2] != y.shape[-2]:
            raise ValueError(f"{a.shape[-2]} inputs and {y.shape[-2]} targets; they must be as many")
        a, y = (part.expand(self.replicas, -1, -1) for part in (a, y))
        y = y - self.centre[:, None]
        return (a if self.transcodes else y), y

    def select(self, a: Tensor) -> Code:
        """The latents of a prepared input: the k largest scores, of which those above 0 count."""
        values, index = top_scores(a, self.rows, self.bias, self.k)
        return Code(index, values.relu(), values > 0)

    def reconstruct(self, code: Code, y: Tensor) -> Tensor:
        """The reconstruction of the prepared target from a code, less the centre."""
        return self._decode(code)

    def forward(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        """Reconstructions `(replicas, batch, d)`; a projection looks at the target y to make them."""
        a, y = self.prepare(a, y)
        return self.reconstruct(self.select(a), y) + self.centre[:, None]

    def loss(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        """Squared error over the batch's variance, plus the model's own terms, a replica."""
        a, y = self.prepare(a, y)
        code = self.select(a)
        self._count(code)
        return self._relative(self._errors(code, y), y)

    @torch.no_grad()
    def constrain(self) -> None:
        """Brings the decoder's rows back to norm 1; called after each step."""
        self.decoder.copy_(F.normalize(self.decoder, dim=-1))

    @torch.no_grad()
    def tangent(self) -> None:
        """Takes from the decoder's gradient what would only change the rows' norms; called before each step."""
        grad = self.decoder.grad
        if grad is not None:
            grad.sub_(self.decoder * torch.linalg.vecdot(grad, self.decoder)[..., None])

    def _decode(self, code: Code, table: Tensor | None = None) -> Tensor:
        flat = flatten(code.index, self.n)
        y_hat = decode(self.table if table is None else table, flat, code.strength.flatten(0, 1))
        return y_hat.view(self.replicas, -1, self.d)

    def _errors(self, code: Code, y: Tensor) -> Tensor:
        """Squared errors of the samples."""
        return (y - self.reconstruct(code, y)).square().sum(-1)

    def _relative(self, error: Tensor, y: Tensor) -> Tensor:
        """Squared errors of samples over the variance of the batch, a replica."""
        y = y.detach()
        variance = (y - y.mean(1, keepdim=True)).square().sum((1, 2))
        return error.view(self.replicas, -1).sum(1) / variance.clamp_min(1e-30)

    @torch.no_grad()
    def _count(self, code: Code) -> None:
        if self.training:
            self.idle += code.index.shape[1]
            self.idle.view(-1)[flatten(code.index, self.n)[code.valid.flatten(0, 1)]] = 0


class TopK(Dictionary):
    """Top-k sparse autoencoder (Gao et al. 2024): y_hat = sum of ReLU(e_j) f_j over the k largest scores.

    Latents unused for `dead_after` samples also reconstruct the residual with their own top k, with weight 1/32 (AuxK,
    section 3 there). `tied=True` shares encoder and decoder.
    """

    def __init__(self, d: int, n: int, k: int, *, dead_after: int = 100_000, **options):
        super().__init__(d, n, k, **options)
        self.config["dead_after"] = self.dead_after = dead_after

    def loss(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        a, y = self.prepare(a, y)
        code = self.select(a)
        self._count(code)
        residual = y - self.reconstruct(code, y)
        return self._relative(residual.square().sum(-1), y) + self._auxiliary(a, residual.detach())

    def _auxiliary(self, a: Tensor, residual: Tensor) -> Tensor | float:
        dead = self.idle > self.dead_after
        if not dead.any():
            return 0.0
        masked = torch.where(dead, self.bias, -torch.inf)
        values, index = top_scores(a, self.rows, masked, min(max(1, self.d // 2), self.n))
        live = values.isfinite()
        guess = self._decode(Code(index, torch.where(live, values, 0.0).relu(), live))
        return (guess - residual).square().sum((1, 2)) / residual.square().sum((1, 2)).clamp_min(1e-30) / 32


class BatchTopK(TopK):
    """Top-k over a batch (Bussmann et al. 2024): the k x batch largest scores, in whatever samples they are.

    At test time a score counts where it is above a threshold, the running mean of the smallest selected in training.
    No sample uses more than 4k latents (or n, or d where that is less).
    """

    def __init__(self, d: int, n: int, k: int, **options):
        super().__init__(d, n, k, **options)
        self.most = max(k, min(4 * k, n, d))
        self.register_buffer("threshold", torch.zeros(self.replicas))

    def select(self, a: Tensor) -> Code:
        values, index = top_scores(a, self.rows, self.bias, self.most)
        if self.training:
            flat = values.detach().flatten(1)
            least = flat.topk(self.k * a.shape[1], dim=1).values[:, -1].clamp_min(0)
            unset = self.threshold == 0
            self.threshold.copy_(torch.where(unset, least, 0.99 * self.threshold + 0.01 * least))
        else:
            least = self.threshold
        valid = (values >= least[:, None, None]) & (values > 0)
        return Code(index, torch.where(valid, values, 0.0), valid)


class L1(Dictionary):
    """ReLU autoencoder with an L1 penalty (Bricken et al. 2023): every latent with a positive score is active.

    The loss adds `penalty` times the sum of activations, over the root mean square norm of the targets. Codes list
    the k strongest latents, so k bounds what is counted, not what is used.
    """

    def __init__(self, d: int, n: int, k: int, *, penalty: float = 0.05, **options):
        super().__init__(d, n, k, **options)
        self.config["penalty"] = self.penalty = penalty

    def activations(self, a: Tensor) -> Tensor:
        """Dense activations `(replicas, batch, n)` of a prepared input."""
        return torch.baddbmm(self.bias[:, None], a, self.rows.mT).relu()

    def select(self, a: Tensor) -> Code:
        values, index = top_k(self.activations(a), self.k)
        return Code(index, values, values > 0)

    def forward(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        a, y = self.prepare(a, y)
        return self.activations(a) @ self.decoder + self.centre[:, None]

    def loss(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        a, y = self.prepare(a, y)
        z = self.activations(a)
        if self.training:
            with torch.no_grad():
                self.idle += z.shape[1]
                self.idle[(z > 0).any(1)] = 0
        norm = y.square().sum(-1).mean(-1).sqrt().detach().clamp_min(1e-30)
        error = self._relative((y - z @ self.decoder).square().sum(-1), y)
        return error + self.penalty * z.sum(-1).mean(-1) / norm
