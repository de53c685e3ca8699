"""Planted dictionaries have the geometry and the statistics that their kinds promise."""

import pytest
import torch

from helpers.plain import generator
from lib.dictionaries.planted import (
    CHILD_RATE,
    CHILDREN_PER_PARENT,
    CLUSTER_SIZE,
    GROUP_COSINE,
    GROUP_SIZE,
    KINDS,
    NOISE,
    Planted,
)


def planted(kind, seed=0, **options):
    return Planted(kind, **{"replicas": 2, "generator": generator(seed), "n": 64, "d": 32, "l0": 4} | options)


@pytest.mark.parametrize("kind", KINDS)
def test_features_are_unit_and_each_replica_s_own(kind):
    F = planted(kind).features
    assert F.shape == (2, 64, 32) and planted(kind).replicas == 2
    torch.testing.assert_close(F.norm(dim=-1), torch.ones(2, 64))
    assert (F[0] * F[1]).sum(-1).abs().mean() < 0.3
    default = Planted(kind, replicas=1, generator=generator())
    assert (default.n, default.d, default.l0) == (256, 64, 8.0)


@pytest.mark.parametrize("kind", KINDS)
def test_cosines(kind):
    F = planted(kind, n=128, d=400).features  # in many dimensions random directions are nearly orthogonal
    cosine = F @ F.mT
    same = torch.arange(128) // GROUP_SIZE
    same = (same[:, None] == same) & ~torch.eye(128, dtype=torch.bool)
    inside, outside = cosine[:, same], cosine[:, ~same & ~torch.eye(128, dtype=torch.bool)]
    expected = GROUP_COSINE if kind == "coherent" else 0.0
    assert inside.mean() == pytest.approx(expected, abs=0.02)
    assert (inside - expected).abs().max() < 0.25
    assert outside.mean() == pytest.approx(0, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_as_many_are_active_as_is_said(kind):
    data = planted(kind)
    x, z = data.sample(8000, generator(1))
    assert x.shape == (2, 8000, 32) and z.shape == (2, 8000, 64)
    assert (z > 0).float().sum(-1).mean().item() == pytest.approx(4, abs=0.15)
    on = z[z > 0]
    assert on.min() >= 0.5 and on.max() <= 1.5 and on.mean().item() == pytest.approx(1, abs=0.01)
    noise = x - z @ data.features
    assert noise.std().item() == pytest.approx(NOISE, rel=0.02)


def test_independent_features_are_independent():
    on = planted("independent").active(20000, generator(1)).float()
    covariance = torch.cov(on[0].T)
    assert (covariance - covariance.diag().diag()).abs().max() < 0.003
    assert (on.mean(1) - 4 / 64).abs().max() < 0.01


def test_children_are_active_only_where_their_parent_is():
    data = planted("hierarchy")
    on = data.active(20000, generator(1))
    child = (data.parent >= 0).nonzero()[:, 0]
    assert len(child) == 32 and (data.parent[child].bincount(minlength=16) == CHILDREN_PER_PARENT).all()
    assert data.parent[child].max() < 16, "parents have none"
    assert (on[..., child] <= on[..., data.parent[child]]).all()
    share = on[..., child].sum(1) / on[..., data.parent[child]].sum(1)
    assert (share - CHILD_RATE).abs().max() < 0.1 and share.mean().item() == pytest.approx(
        CHILD_RATE, abs=0.01
    )
    free = on[..., data.parent < 0].float().mean(1)
    assert free.std() < 0.1 * free.mean()
    for kind in KINDS[:3]:
        assert (planted(kind).parent == -1).all()


def test_features_of_a_cluster_occur_together():
    on = planted("clusters").active(20000, generator(1)).float()[0]
    together = on.T @ on / len(on)
    group = torch.arange(64) // CLUSTER_SIZE
    same = (group[:, None] == group) & ~torch.eye(64, dtype=torch.bool)
    p = 4 / 64  # each; in an active cluster (2 p) with probability 1/2
    assert together[same].mean().item() == pytest.approx(2 * p / 4, rel=0.05)
    assert together[group[:, None] != group].mean().item() == pytest.approx(p * p, rel=0.1)
    assert together.diag().mean().item() == pytest.approx(p, rel=0.05)


def test_a_run_is_reproducible_from_its_generators():
    for kind in KINDS:
        one, other = planted(kind), planted(kind)
        assert torch.equal(one.features, other.features)
        assert not torch.equal(one.features, planted(kind, seed=1).features)
        for a, b in zip(one.sample(5, generator(1)), other.sample(5, generator(1)), strict=True):
            assert torch.equal(a, b)
        batches = [next(data.stream(5, generator(1))) for data in (one, other)]
        assert torch.equal(*batches)
        assert torch.equal(batches[0], one.sample(5, generator(1))[0] / one.scale)


def test_the_scale_is_a_root_mean_square():
    """E|x|^2 = l0 E z^2 for features orthogonal on average, and that of the noise."""
    data = planted("independent", n=256, d=400, l0=6)
    x, _ = data.sample(4000, generator(1))
    assert data.scale == pytest.approx(x.square().mean().sqrt().item(), rel=0.03)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"kind": "fractal"},
            "kind is 'fractal'; allowed: 'independent', 'coherent', 'clusters', 'hierarchy'",
        ),
        ({"n": 60}, "n is 60 and l0 4; n must be a multiple of 8"),
        ({"l0": 0}, "l0 between 0 and n/4"),
        ({"l0": 16}, "l0 between 0 and n/4"),
    ],
)
def test_what_can_not_be_planted_is_refused(options, said):
    with pytest.raises(ValueError, match=said) as error:
        planted(**{"kind": "independent"} | options)
    assert "\n" not in str(error.value)
