"""Transcoders: dictionaries that read one layer and reconstruct another, with and without sight of the target.

A projection looks at the target to find its coefficients, but whoever uses a transcoder does not have the target. So
each is measured *peeking* (coefficients from the target), *not peeking* (coefficients predicted from the scores) and
with its input *shuffled* between samples.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from lib.common.metrics import fvu, pca_fvu
from lib.dictionaries import coding
from lib.dictionaries.base import Code, Dictionary
from lib.dictionaries.training import fit
from lib.studies.projective_dictionaries.hidden import batches
from lib.studies.projective_dictionaries.methods import build, initialise


class Arm(NamedTuple):
    """How a transcoder is measured: whether it sees its target, and whether its input is another sample's."""

    peeks: bool
    shuffled: bool


ARMS = {
    "peeking": Arm(peeks=True, shuffled=False),
    "not peeking": Arm(peeks=False, shuffled=False),
    "peeking, shuffled input": Arm(peeks=True, shuffled=True),
    "not peeking, shuffled input": Arm(peeks=False, shuffled=True),
}


def standardise_together(
    train: Float[Tensor, "replicas n d"], test: Float[Tensor, "replicas m d"]
) -> tuple[Tensor, Tensor]:
    """Both less the mean of each coordinate, over the standard deviation of all numbers; statistics of `train`.

    Mean and deviation are those of all replicas together, unlike in `lib.common.metrics.standardise`, so that all
    replicas transcode with targets in one unit.
    """
    mean, deviation = train.mean((0, 1)), train.std()
    return (train - mean) / deviation, (test - mean) / deviation


class Calibrated:
    """Coefficients predicted from scores: a line s_j e_j + t_j for each latent, fitted to the peeking ones in training.

    `slope` and `offset` are `(replicas, latents)`.
    """

    @torch.no_grad()
    def __init__(self, model: Dictionary, a: Tensor, y: Tensor):
        self.model = model.eval()
        code, beta = self._peeking(a, y)
        n = model.d_sae
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
        blank = torch.zeros(*a.shape[:-1], model.d_out)
        code = model.select(model.prepare(a, blank)[0])
        slope, offset = (
            part.gather(1, code.index.flatten(1)).view_as(code.strength) for part in (self.slope, self.offset)
        )
        beta = torch.where(code.valid, slope * code.strength + offset, 0.0).to(a.dtype)
        return coding.reconstruct(model.decoder, code.index, beta) + model.centre[:, None]

    def _peeking(self, a: Tensor, y: Tensor) -> tuple[Code, Tensor]:
        inputs, target = self.model.prepare(a, y)
        code = self.model.select(inputs)
        if not self.model.projects:
            return code, code.strength
        return code, self.model.project(code, target).coefficients.view(code.index.shape)


def compare(
    methods: Sequence[str],
    *,
    a: Float[Tensor, "replicas n d_in"],
    y: Float[Tensor, "replicas n d"],
    test_a: Float[Tensor, "replicas m d_in"],
    test_y: Float[Tensor, "replicas m d"],
    k: int,
    latents: int,
    steps: int,
    rates: Mapping[str, float],
    seed: int,
) -> pd.DataFrame:
    """FVU of every method in every arm (ARMS), with PCA-k of the target and linear regression beside them.

    `a` is the input, `y` the target. Amplitude methods do not peek: their own output stands in both arms. Tidy: method,
    arm, seed (the replica), fvu.
    """
    replicas = len(a)
    generator = torch.Generator().manual_seed(seed)
    sizes = {"d_in": a.shape[-1], "d_out": y.shape[-1], "d_sae": latents, "k": k}
    options = {"replicas": replicas, "generator": generator}
    models = {name: build(name, **sizes, **options) for name in methods}
    for model in models.values():
        initialise(model, y[:, :1000])
    fit(models, batches(a, generator, target=y), steps=steps, lr=rates, name="transcoders")
    order = torch.randperm(test_a.shape[1], generator=generator)
    rows = []
    for name, model in models.items():
        calibrated = Calibrated(model, a[:, :8000], y[:, :8000])
        for arm, (peeks, shuffled) in ARMS.items():
            x = test_a[:, order] if shuffled else test_a
            blind = model.projects and not peeks
            with torch.no_grad():
                y_hat = calibrated(x) if blind else model(x, test_y)
            rows.append((name, arm, fvu(test_y, y_hat)))
    rows.append((f"PCA, {k} components", "peeking", pca_fvu(test_y, train=y, k=k)))
    rows.append(("linear regression", "not peeking", fvu(test_y, _linear(a, y, test_a))))
    frames = [
        pd.DataFrame({"fvu": np.asarray(value)}).assign(method=name, arm=arm, seed=range(replicas))
        for name, arm, value in rows
    ]
    return pd.concat(frames, ignore_index=True)


def _linear(a: Tensor, y: Tensor, test_a: Tensor) -> Tensor:
    """Least squares with intercept, predicted for `test_a`."""
    train, test = (torch.cat([part, torch.ones(*part.shape[:2], 1)], -1).double() for part in (a, test_a))
    # Pixels at the rim hardly vary: gelsd, by singular values and in float64, can cope with that.
    return (test @ torch.linalg.lstsq(train, y.double(), driver="gelsd").solution).to(y.dtype)
