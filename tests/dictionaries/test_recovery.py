"""Statistics of recovery on dictionaries whose faults are made by hand."""

import pytest
import torch
import torch.nn.functional as F

from helpers.plain import generator
from lib.dictionaries import recovery
from lib.dictionaries.planted import Planted


def hierarchy():
    """Orthonormal features, the first 4 parents of two children each, and who is active."""
    data = Planted("hierarchy", replicas=2, generator=generator(), n=16, d=16, l0=3)
    data.features = torch.linalg.qr(torch.randn(2, 16, 16, generator=generator())).Q
    _, z = data.sample(2000, generator(1))
    return data, z


def test_a_perfect_dictionary_recovers_everything():
    data, z = hierarchy()
    on = z > 0
    found = recovery.recovered(data.features, data.features)
    for key, value in {"recovery": 1, "found": 1, "genuine": 1, "splitting": 0}.items():
        torch.testing.assert_close(found[key], torch.full((2,), float(value)), msg=key)
    absorbed = recovery.absorption(on, data.features, data.features, strengths=z, parent=data.parent)
    for key, value in {"absorption": 0, "alone": 0, "direction": 0, "children": 1}.items():
        torch.testing.assert_close(absorbed[key], torch.full((2,), float(value)), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        recovery.shrinkage(z, data.features, data.features, strengths=z), torch.ones(2)
    )


def test_an_absorbing_dictionary_is_found_out():
    """A child's latent points at child + parent and is used in place of the parent's."""
    data, z = hierarchy()
    D, on = data.features.clone(), z > 0
    child = data.parent >= 0
    D[:, child] = F.normalize(D[:, child] + D[:, data.parent[child]], dim=-1)
    absorbed_parents = torch.zeros_like(on)
    for c in child.nonzero()[:, 0].tolist():
        absorbed_parents[..., data.parent[c]] |= on[..., c]
    used = on & ~absorbed_parents
    result = recovery.absorption(used, D, data.features, strengths=z, parent=data.parent)
    torch.testing.assert_close(result["absorption"], torch.ones(2))
    torch.testing.assert_close(result["alone"], torch.zeros(2))
    torch.testing.assert_close(result["direction"], torch.full((2,), 0.5**0.5))
    torch.testing.assert_close(result["children"], torch.ones(2))
    # The order of the latents does not matter, nor do idle ones.
    g = torch.randperm(20, generator=generator())
    more = F.normalize(torch.randn(2, 4, 16, generator=generator()), dim=-1)
    wide = torch.cat([used, torch.zeros(2, 2000, 4, dtype=torch.bool)], -1)[..., g]
    again = recovery.absorption(
        wide, torch.cat([D, more], 1)[:, g], data.features, strengths=z, parent=data.parent
    )
    for key in result:
        torch.testing.assert_close(again[key], result[key])


def test_absorption_is_a_share_and_of_each_replica():
    data, z = hierarchy()
    on = z > 0
    c = 4  # child of parent 0
    on[0, ::2, 0] = False  # in half of the samples of one replica the parent's latent is missing
    result = recovery.absorption(on, data.features, data.features, strengths=z, parent=data.parent)
    both = [(z[0, :, i] > 0) for i in (c, 5)]
    missing = sum((~on[0, b, 0]).float().mean() for b in both) / 8
    torch.testing.assert_close(result["absorption"], torch.tensor([missing, 0.0]))
    assert data.parent[c] == data.parent[5] == 0
    here = (z[0, :, 0] > 0) & ~both[0] & ~both[1]
    torch.testing.assert_close(result["alone"], torch.tensor([(~on[0, here, 0]).float().mean() / 4, 0.0]))


def test_a_child_without_a_latent_of_its_own_does_not_count():
    data, z = hierarchy()
    D, on = data.features.clone(), z > 0
    D[:, 4] = 0.5 * D[:, 4] + 0.75**0.5 * torch.linalg.svd(D[:, 4:5]).Vh[:, -1]  # cosine .5
    D[:, 5] = D[:, 0]  # another one is the parent's
    on[..., 0] = False
    result = recovery.absorption(on, D, data.features, strengths=z, parent=data.parent)
    torch.testing.assert_close(result["children"], torch.full((2,), 6 / 8))
    assert (result["absorption"] == 0).all(), "the parent that is missing has no eligible child"
    D = data.features.clone()
    D[:, 0] = D[:, 15]  # both children have one, the parent has not
    result = recovery.absorption(on, D, data.features, strengths=z, parent=data.parent)
    torch.testing.assert_close(result["children"], torch.full((2,), 6 / 8))
    assert (result["absorption"] == 0).all()
    nothing = recovery.absorption(
        on, torch.zeros_like(D) + 1e-3, data.features, strengths=z, parent=data.parent
    )
    assert nothing["absorption"].isnan().all() and (nothing["children"] == 0).all()


def test_order_and_sign_of_the_latents_do_not_matter():
    D, truth = (F.normalize(torch.randn(2, 24, 8, generator=generator(s)), dim=-1) for s in (0, 1))
    truth[:, :6] = F.normalize(D[:, :6] + 0.05 * truth[:, :6], dim=-1)
    other = -3 * D[:, torch.randperm(24, generator=generator())]
    for key, value in recovery.recovered(D, truth).items():
        torch.testing.assert_close(recovery.recovered(other, truth)[key], value)
        torch.testing.assert_close(recovery.recovered(D, truth.flip(1))[key], value)
    found = recovery.recovered(D, truth)
    assert (found["found"] >= 6 / 24).all() and (found["found"] < 0.5).all()
    assert (found["recovery"] > found["found"]).all() and (found["recovery"] < 1).all()


def test_recovery_by_hand():
    truth = torch.eye(4)[None, :3]  # the third is not found
    D = torch.tensor([[[1.0, 0, 0, 0], [-1, 0, 0, 0], [0, 0.95, 0, 0.31225], [0.6, 0, 0, 0.8], [0, 0, 0, 1]]])
    found = recovery.recovered(D, truth)
    torch.testing.assert_close(found["recovery"], torch.tensor([(1 + 0.95 + 0) / 3]), atol=1e-5, rtol=0)
    torch.testing.assert_close(found["found"], torch.tensor([2 / 3]))
    torch.testing.assert_close(found["genuine"], torch.tensor([3 / 5]))
    torch.testing.assert_close(found["splitting"], torch.tensor([1 / 2]))


@pytest.mark.parametrize("copies", [1, 2, 4])
def test_a_latent_that_is_split_is_counted(copies):
    data, _ = hierarchy()
    D = torch.cat([data.features] + [data.features[:, :8]] * (copies - 1), 1)
    found = recovery.recovered(D, data.features)
    torch.testing.assert_close(found["splitting"], torch.full((2,), (copies - 1) / 2))
    assert (found["recovery"] > 0.999).all()


def test_stability_is_of_another_start():
    D, other = (F.normalize(torch.randn(2, 24, 8, generator=generator(s)), dim=-1) for s in (0, 1))
    torch.testing.assert_close(recovery.stability(D, -D.flip(1)), torch.ones(2))
    half = torch.cat([D[:, :12], other[:, 12:]], 1)
    assert (recovery.stability(half, D) < 0.95).all()
    assert (recovery.stability(half, D) > recovery.stability(other, D) + 0.05).all()
    by_hand = torch.stack([(D[0] @ row).abs().max() for row in half[0]]).mean()
    torch.testing.assert_close(recovery.stability(half, D)[0], by_hand)


def test_halved_codes_shrink_by_half():
    data, z = hierarchy()
    truth, order = data.features, torch.randperm(16, generator=generator())
    slope = recovery.shrinkage(0.5 * z[..., order], truth[:, order], truth, strengths=z)
    torch.testing.assert_close(slope, torch.full((2,), 0.5))
    # Where either is 0 it is no shrinkage; latents that are nobody's do not count.
    codes = 0.5 * z
    codes[:, ::3] = 0
    codes[:, 1::3] += 9.0 * (z[:, 1::3] == 0)
    codes[..., 7] = 99
    D = truth.clone()
    D[:, 7] = F.normalize(truth[:, 7] + truth[:, 8], dim=-1)
    codes[..., 8] = 0.5 * z[..., 8]
    torch.testing.assert_close(recovery.shrinkage(codes, D, truth, strengths=z), torch.full((2,), 0.5))
    assert recovery.shrinkage(z, torch.roll(truth, 1, -1), truth, strengths=z).isnan().all()
