"""Transcoders with and without sight of the target: a planted linear relation, PCA, and the shuffled control."""

import numpy as np
import pytest
import torch

from helpers.plain import generator
from lib.common.metrics import pca_fvu
from lib.dictionaries.projective import Hybrid
from lib.dictionaries.sae import TopK
from lib.studies.projective_dictionaries import transcoding
from lib.studies.projective_dictionaries.transcoding import ARMS, Calibrated


def planted(kind=Hybrid, noise=0.0):
    """A transcoder, inputs, and targets whose coefficients are a line in each latent's score."""
    model = kind(d_in=6, d_out=10, d_sae=14, k=3, replicas=2, generator=generator())
    with torch.no_grad():
        model.bias += 0.3 * torch.randn(2, 14, generator=generator(1))
        model.centre += torch.randn(2, 10, generator=generator(2))
    a = torch.randn(2, 500, 6, generator=generator(3))
    slope, offset = torch.randn(2, 2, 14, generator=generator(4))
    scores = a @ model.encoder.mT + model.bias[:, None]
    index = scores.topk(3, dim=-1).indices
    on = torch.zeros_like(scores, dtype=torch.bool).scatter(-1, index, True) & (scores > 0)
    code = torch.where(on, slope[:, None] * scores + offset[:, None], 0.0)
    y = code @ model.decoder + model.centre[:, None]
    return model, a, (y + noise * torch.randn(y.shape, generator=generator(5))).detach(), slope, offset, on


def test_a_linear_relation_is_recovered():
    model, a, y, slope, offset, on = planted()
    assert not on.sum(-1).eq(3).all()
    found = Calibrated(model, a, y)
    used = on.sum(1) > 20
    assert used.sum() > 15
    torch.testing.assert_close(found.slope[used].float(), slope[used], atol=0.02, rtol=0)
    torch.testing.assert_close(found.offset[used].float(), offset[used], atol=0.02, rtol=0)
    torch.testing.assert_close(found(a), y, atol=0.02, rtol=0)
    assert not found.model.training


def test_the_lines_are_those_of_least_squares():
    model, a, y, *_ = planted(noise=0.5)
    found = Calibrated(model, a, y)
    inputs, target = model.prepare(a, y)
    code = model.select(inputs)
    beta = model.project(code, target).coefficients.view(code.index.shape)
    for r in range(2):
        for j in range(14):
            mine = (code.index[r] == j) & code.valid[r]
            if mine.sum() > 5:
                wanted = np.polyfit(code.strength[r][mine].detach(), beta[r][mine].detach(), 1)
                np.testing.assert_allclose([found.slope[r, j], found.offset[r, j]], wanted, atol=2e-3)


def test_a_latent_with_one_score_has_a_constant():
    model, a, y, *_ = planted()
    a = a[:, :1].expand(-1, 50, -1)
    y = model.centre[:, None] + torch.randn(y[:, :50].shape, generator=generator(6))
    found = Calibrated(model, a, y.detach())
    assert (found.slope == 0).all()
    inputs, target = model.prepare(a, y)
    code = model.select(inputs)
    beta = model.project(code, target).coefficients.view(code.index.shape)
    wanted = torch.where(code.valid[:, 0], beta.mean(1), 0.0)
    torch.testing.assert_close(found.offset.gather(1, code.index[:, 0]).float(), wanted)


def test_amplitudes_are_already_what_they_are():
    model, a, y, _, _, on = planted(TopK)
    found = Calibrated(model, a, y)
    used = on.sum(1) > 20
    torch.testing.assert_close(found.slope[used], torch.ones_like(found.slope[used]), atol=1e-2, rtol=0)
    torch.testing.assert_close(found(a), model(a, y), atol=1e-2, rtol=0)


def test_arms():
    g = generator()
    a, test_a = (torch.randn(2, n, 8, generator=g) for n in (1500, 300))
    W = torch.randn(2, 8, 10, generator=g)
    y, test_y = ((part @ W).abs() + 2 for part in (a, test_a))
    names = ["top-k", "hybrid"]
    frame = transcoding.compare(
        names,
        a=a,
        y=y,
        test_a=test_a,
        test_y=test_y,
        k=4,
        latents=48,
        steps=250,
        rates=dict.fromkeys(names, 1e-2),
        seed=0,
    )
    assert sorted(set(frame["seed"])) == [0, 1]
    error = frame.groupby(["method", "arm"])["fvu"].mean()
    assert set(frame.query("method == 'top-k'")["arm"]) == set(ARMS)
    assert error["top-k", "peeking"] == error["top-k", "not peeking"] < 0.9
    shuffled = error["top-k", "peeking, shuffled input"]
    assert shuffled == error["top-k", "not peeking, shuffled input"] > error["top-k", "peeking"] + 0.3
    assert error["hybrid", "peeking"] < error["hybrid", "not peeking"] - 0.05
    assert error["hybrid", "peeking"] < error["hybrid", "peeking, shuffled input"] < 0.9 < shuffled
    assert error["hybrid", "not peeking, shuffled input"] > error["hybrid", "not peeking"] + 0.1
    assert error["PCA, 4 components", "peeking"] == pytest.approx(pca_fvu(test_y, train=y, k=4).mean().item())
    assert 1.2 > error["linear regression", "not peeking"] > 0.8, "|x| has no linear part"


def test_linear_regression_copes_with_columns_that_do_not_vary():
    """As pixels at the rim of an image: the plainest solver (gelsy) gives up on them."""
    a = torch.randn(1, 400, 30, generator=generator())
    a[..., :12] = 0.5
    a[..., 12] = 0
    a[0, 7, 12] = 1e-3
    y = a @ torch.randn(1, 30, 5, generator=generator(1))
    frame = transcoding.compare(
        ["top-k"], a=a, y=y, test_a=a, test_y=y, k=2, latents=8, steps=2, rates={"top-k": 1e-3}, seed=0
    )
    assert frame.query("method == 'linear regression'")["fvu"].item() < 1e-6
