"""Representatives are samples to everyone else, and are not predicted themselves."""

import pytest
import torch

from lib.studies.mnist_superposition import platonic
from lib.studies.mnist_superposition.affinity import pwak


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_forward_is_the_dense_kernel_over_samples_and_forms():
    model = platonic.Platonic(2, 4, 6, forms=5, generator=generator())
    x = torch.randn(2, 9, 4, generator=generator(1), dtype=torch.float64)
    everyone = torch.cat([x, model.forms], 1)
    expected = (pwak(model.assign(everyone), "rows") @ everyone)[:, :9]
    torch.testing.assert_close(model(x), expected, rtol=1e-8, atol=1e-10)


def test_mixture_views_share_their_cluster_and_nothing_else():
    x, view, labels = platonic.mixture(5, 4000, 3, 0.1, generator())
    noise, other = x - view, (x + view) / 2
    assert float(noise.std()) == pytest.approx(0.1 * 2**0.5, rel=0.05)
    for c in range(5):
        assert other[labels == c].std(0).max() < 0.1
    x, view, _ = platonic.mixture(0, 4000, 3, 0.1, generator())
    assert abs(float((x * view).mean())) < 0.05 and float(x.std()) == pytest.approx(1, abs=0.05)


@pytest.mark.slow
def test_clusters_are_found_with_room_and_not_from_noise():
    settings = [dict(batch=128, forms=0), dict(batch=16, forms=0, clusters=0)]
    table = platonic.small_batches(settings, clusters=4, d=3, spread=0.05, seeds=2, steps=300, lr=1e-2)
    assert list(table["clusters"]) == [4, 4, 0, 0]
    assert (table[table["clusters"] == 4]["ari"] > 0.6).all()
    assert (table[table["clusters"] == 0]["ari"].abs() < 1e-6).all()
