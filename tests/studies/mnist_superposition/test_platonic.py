"""Representatives are samples to everyone else, and are not predicted themselves."""

import pandas as pd
import pytest
import torch

from helpers.plain import generator
from lib.studies.mnist_superposition import platonic
from lib.studies.mnist_superposition.affinity import pwak


def test_forward_is_the_dense_kernel_over_samples_and_forms():
    model = platonic.Platonic(2, d_in=4, clusters=6, forms=5, generator=generator())
    x = torch.randn(2, 9, 4, generator=generator(1), dtype=torch.float64)
    everyone = torch.cat([x, model.forms], 1)
    expected = (pwak(model.assign(everyone), normalise="rows") @ everyone)[:, :9]
    torch.testing.assert_close(model(x), expected, rtol=1e-8, atol=1e-10)


def test_mixture_views_share_their_cluster_and_nothing_else():
    x, view, labels = platonic.mixture(5, n=4000, d=3, spread=0.1, generator=generator())
    noise, other = x - view, (x + view) / 2
    assert float(noise.std()) == pytest.approx(0.1 * 2**0.5, rel=0.05)
    for c in range(5):
        assert other[labels == c].std(0).max() < 0.1
    x, view, _ = platonic.mixture(0, n=4000, d=3, spread=0.1, generator=generator())
    assert abs(float((x * view).mean())) < 0.05 and float(x.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_clusters_are_found_with_room_and_not_from_noise():
    settings = [dict(batch=128, forms=0), dict(batch=16, forms=0, clusters=0)]
    table = platonic.small_batches(settings, clusters=4, d=3, spread=0.05, seeds=2, steps=300, lr=1e-2)
    assert list(table["clusters"]) == [4, 4, 0, 0]
    assert (table[table["clusters"] == 4]["ari"] > 0.6).all()
    assert (table[table["clusters"] == 0]["ari"].abs() < 1e-6).all()


def test_one_setting_is_chosen_by_all_that_defines_it():
    settings = dict(batch=16, forms=8, sees="itself", clusters=64)
    others = [settings | {name: other} for name, other in
              (("batch", 256), ("forms", 0), ("sees", "view"), ("clusters", 0))]  # fmt: skip
    rows = [
        row | dict(seed=seed, ari=10 * i + seed)
        for i, row in enumerate([settings, *others])
        for seed in (2, 0, 1)
    ]
    assert platonic.by_seed(pd.DataFrame(rows), "ari", batch=16, forms=8).tolist() == [0, 1, 2]
    assert platonic.by_seed(pd.DataFrame(rows), "ari", **others[2]).tolist() == [30, 31, 32]
