"""Sparse autoencoders: top-k, top-k over a batch, and ReLU with an L1 penalty. They decode by their amplitudes."""

import torch
from torch import Tensor

from lib.dictionaries.base import Code, Dictionary
from lib.dictionaries.selection import top_k, top_scores


class TopK(Dictionary):
    """Top-k sparse autoencoder (Gao et al. 2024): y_hat = sum of ReLU(e_j) f_j over the k largest scores.

    Latents unused for `dead_after` samples also reconstruct the residual with their own top k, with weight 1/32 (AuxK,
    section 3 there). `tied=True` shares encoder and decoder. Sizes and options that all share: `Dictionary`.
    """

    def __init__(self, *, dead_after: int = 100_000, **options):
        super().__init__(**options)
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
        values, index = top_scores(a, self.rows, masked, k=min(max(1, self.d_out // 2), self.d_sae))
        live = values.isfinite()
        guess = self._decode(Code(index, torch.where(live, values, 0.0).relu(), live))
        return (guess - residual).square().sum((1, 2)) / residual.square().sum((1, 2)).clamp_min(1e-30) / 32


class BatchTopK(TopK):
    """Top-k over a batch (Bussmann et al. 2024): the k x batch largest scores, whichever samples they are in.

    In evaluation a score counts where it is above a threshold, the running mean of the smallest selected in training.
    No sample uses more than 4k latents (or d_sae, or d_out, if that is less).
    """

    def __init__(self, **options):
        super().__init__(**options)
        self.most = max(self.k, min(4 * self.k, self.d_sae, self.d_out))
        self.register_buffer("threshold", torch.zeros(self.replicas))

    def select(self, a: Tensor) -> Code:
        values, index = top_scores(a, self.rows, self.bias, k=self.most)
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
    the k strongest latents, so k bounds what is counted, not what is used: `encode` gives all activations.
    """

    def __init__(self, *, penalty: float = 0.05, **options):
        super().__init__(**options)
        self.config["penalty"] = self.penalty = penalty

    def activations(self, a: Tensor) -> Tensor:
        """Dense activations `(replicas, batch, d_sae)` of a prepared input."""
        return torch.baddbmm(self.bias[:, None], a, self.rows.mT).relu()

    def select(self, a: Tensor) -> Code:
        values, index = top_k(self.activations(a), self.k)
        return Code(index, values, values > 0)

    def encode(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        inputs, _ = self._prepared(a, y)
        return self._like(a, self.activations(inputs))

    def forward(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        inputs, _ = self._prepared(a, y)
        return self._like(a, self.activations(inputs) @ self.decoder + self.centre[:, None])

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
