"""Transcoders: dictionaries that read one layer and reconstruct another, with and without sight of the target.

A projection looks at the target to find its coefficients, which a transcoder's user does not have. So each is measured
*peeking* (coefficients from the target), *not peeking* (coefficients predicted from the scores) and with its input
*shuffled* between samples.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lib.common.metrics import fvu
from lib.dictionaries import coding
from lib.dictionaries.base import Code, Dictionary
from lib.dictionaries.training import fit
from lib.studies.projective_dictionaries import factorial
from lib.studies.projective_dictionaries.hidden import batches

ARMS = ("peeking", "not peeking", "peeking, shuffled input", "not peeking, shuffled input")


def pca_fvu(
    y: Float[Tensor, "replicas n d"], test: Float[Tensor, "replicas m d"], k: int
) -> Float[Tensor, "replicas"]:
    """FVU of the test targets' projection on the k principal components of the training targets."""
    mean = y.mean(1, keepdim=True)
    _, _, V = torch.linalg.svd(y - mean, full_matrices=False)
    V = V[:, :k]
    return fvu(test, (test - mean) @ V.mT @ V + mean)


class Calibrated:
    """Coefficients predicted from scores: a line s_j e_j + t_j a latent, fitted to the peeking ones in training."""

    @torch.no_grad()
    def __init__(self, model: Dictionary, a: Tensor, y: Tensor):
        self.model = model.eval()
        code, beta = self._peeking(a, y)
        n = model.n
        # In float64: a latent's scores may vary little about a large mean.
        sums = [torch.zeros(model.replicas, n, dtype=torch.float64) for _ in range(5)]
        e, beta = code.strength.double(), beta.double()
        for total, value in zip(sums, (torch.ones_like(e), e, e * e, beta, e * beta), strict=True):
            total.scatter_add_(1, code.index.flatten(1), (value * code.valid).flatten(1))
        count, se, see, sb, seb = sums
        variance = count * see - se * se
        # A latent seen once, or always with one score, has a constant.
        self.slope = torch.where(
            variance > 1e-6 * (count * see), (count * seb - se * sb) / variance.clamp_min(1e-12), 0.0
        )
        self.offset = (sb - self.slope * se) / count.clamp_min(1)

    @torch.no_grad()
    def __call__(self, a: Tensor) -> Float[Tensor, "replicas batch d"]:
        """Reconstructions from the input alone."""
        model = self.model
        blank = torch.zeros(*a.shape[:-1], model.d)
        code = model.select(model.prepare(a, blank)[0])
        slope, offset = (
            part.gather(1, code.index.flatten(1)).view_as(code.strength) for part in (self.slope, self.offset)
        )
        beta = torch.where(code.valid, slope * code.strength + offset, 0.0).to(a.dtype)
        return coding.reconstruct(model.decoder, code.index, beta) + model.centre[:, None]

    def _peeking(self, a: Tensor, y: Tensor) -> tuple[Code, Tensor]:
        inputs, target = self.model.prepare(a, y)
        code = self.model.select(inputs)
        if not hasattr(self.model, "project"):
            return code, code.strength
        return code, self.model.project(code, target).coefficients.view(code.index.shape)


def compare(
    a: Float[Tensor, "replicas n d_in"],
    y: Float[Tensor, "replicas n d"],
    test_a: Tensor,
    test_y: Tensor,
    methods: Sequence[str],
    *,
    k: int,
    n: int,
    steps: int,
    rates: dict[str, float],
    seed: int,
) -> pd.DataFrame:
    """FVU of every method in every arm (ARMS), tidy, with PCA-k of the target and linear regression beside them.

    Amplitude methods do not peek: their own output stands in both arms.
    """
    replicas = len(a)
    generator = torch.Generator().manual_seed(seed)
    options = {"replicas": replicas, "generator": generator, "d_in": a.shape[-1]}
    models = {name: factorial.build(name, y.shape[-1], n, k, **options) for name in methods}
    for model in models.values():
        factorial.initialise(model, y[:, :1000])
    fit(models, batches(a, generator, y), steps=steps, lr=rates, name="transcoders")
    order = torch.randperm(test_a.shape[1], generator=generator)
    rows = []
    for name, model in models.items():
        calibrated = Calibrated(model, a[:, :8000], y[:, :8000])
        peeks = hasattr(model, "project")
        for arm in ARMS:
            x = test_a[:, order] if "shuffled" in arm else test_a
            with torch.no_grad():
                y_hat = calibrated(x) if peeks and arm.startswith("not") else model(x, test_y)
            rows.append((name, arm, fvu(test_y, y_hat)))
    ones = [torch.cat([part, torch.ones(*part.shape[:2], 1)], -1).double() for part in (a, test_a)]
    # Pixels at the rim hardly vary: gelsd, by singular values and in float64, bears that.
    linear = (ones[1] @ torch.linalg.lstsq(ones[0], y.double(), driver="gelsd").solution).to(y.dtype)
    rows.append((f"PCA, {k} components", "peeking", pca_fvu(y, test_y, k)))
    rows.append(("linear regression", "not peeking", fvu(test_y, linear)))
    frames = [
        pd.DataFrame({"fvu": np.asarray(value)}).assign(method=name, arm=arm, seed=range(replicas))
        for name, arm, value in rows
    ]
    return pd.concat(frames, ignore_index=True)
