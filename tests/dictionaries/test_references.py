"""The plain versions compute what they say, so that being faster than they are means something."""

import numpy as np
import torch

from helpers.plain import generator
from lib.dictionaries import references
from lib.dictionaries.references import DenseTopK, NaiveProjection


def test_dense_top_k_sums_the_k_strongest_rows():
    model = DenseTopK(d_in=6, d_sae=15, k=4, generator=generator()).double()
    x = torch.randn(9, 6, generator=generator(1), dtype=torch.double)
    with torch.no_grad():
        model.bias.normal_(generator=generator(2))
        model.centre.normal_(generator=generator(3))
        made = model(x)
    E, D, b, c = (p.detach().numpy() for p in (model.encoder, model.decoder, model.bias, model.centre))
    for y, y_hat in zip(x.numpy(), made.numpy(), strict=True):
        score = E @ (y - c) + b
        best = np.argsort(-score)[:4]
        np.testing.assert_allclose(y_hat, np.maximum(score[best], 0) @ D[best] + c, atol=1e-12)


def test_naive_projection_is_least_squares_on_its_support():
    model = NaiveProjection(d_in=8, d_sae=20, k=3, epsilon=0.0, generator=generator()).double()
    y = torch.randn(9, 8, generator=generator(1), dtype=torch.double)
    F = model.decoder.detach().numpy()
    for target, y_hat in zip(y.numpy(), model(y).detach().numpy(), strict=True):
        X = F[np.argsort(-(F @ target))[:3]].T
        np.testing.assert_allclose(y_hat, X @ np.linalg.lstsq(X, target, rcond=None)[0], atol=1e-12)


def test_a_step_lowers_the_error_and_keeps_rows_at_norm_1():
    for kind in (DenseTopK, NaiveProjection):
        model = kind(d_in=8, d_sae=20, k=3, generator=generator())
        x = torch.randn(64, 8, generator=generator(1))
        before = (model(x) - x).square().mean().item()
        take = references.step(model, x)
        for _ in range(50):
            take()
        assert (model(x) - x).square().mean().item() < 0.95 * before
        torch.testing.assert_close(model.decoder.norm(dim=1), torch.ones(20))
