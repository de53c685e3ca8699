"""How probes depend on the strength of their regularisation: planted directions, rare features, labels of groups."""

import numpy as np
import pytest
import torch

from helpers.small_items import labelled, planted_directions
from lib.probes import fit
from lib.probes.directions import probe
from lib.studies.psm_energy.strengths import over_strengths


@pytest.fixture(scope="module")
def planted():
    return planted_directions()


def cosines(a, b):
    a, b = (np.asarray(x) / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    return a @ b.T


def test_over_strengths_on_planted_directions(planted):
    X, found, _ = planted
    table = over_strengths(X[:1], found, rng=np.random.default_rng(1), strengths=(0.01, 0.1, 10.0))
    assert table["C"].tolist() == [0.01, 0.1, 10]
    got = probe(X[:1], found, np.random.default_rng(1))
    row = table.iloc[1]
    for column, value in (("AUC", got.auc), ("low", got.low), ("high", got.high)):
        assert row[column] == pytest.approx(value.mean(), abs=0.02 if column != "AUC" else 1e-9)
    assert row["cosine"] == pytest.approx(
        torch.cosine_similarity(got.directions, got.means, dim=-1).mean().item()
    )
    x, y = (cosines(x[0], x[0])[np.triu_indices(3, 1)] for x in (got.directions, got.means))
    assert row["agreement"] == pytest.approx(np.corrcoef(x, y)[0, 1], abs=1e-6)
    assert (table["AUC"] > 0.95).all() and ((table["shuffled"] - 0.5).abs() < 0.15).all()
    # The weaker the penalty, the further weights are from the class means.
    assert table["cosine"].is_monotonic_decreasing and table["cosine"].iloc[0] > 0.9


def test_over_strengths_of_groups_that_share_a_label(monkeypatch):
    """Labels of whole groups change places whole where that is asked; held-out groups can't be ranked by them."""
    drawn, shuffle = [], fit.shuffled
    monkeypatch.setattr(
        fit, "shuffled", lambda *given, **how: drawn.append(shuffle(*given, **how)) or drawn[-1]
    )
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 4)
    labels = np.stack([groups % 2 == 0, groups % 2 == 1])
    X = rng.standard_normal((1, 40, 30))[:, groups] + 0.01 * rng.standard_normal((1, 160, 30))
    table = over_strengths(
        X,
        labelled(labels, groups),
        rng=np.random.default_rng(0),
        strengths=(1.0,),
        shuffles=20,
        whole_groups=True,
    )
    assert abs(table["shuffled"].item() - 0.5) < 0.1 and np.isnan(table["agreement"].item())
    assert len(drawn) == 20 and all(
        (y.reshape(2, 40, 4) == y.reshape(2, 40, 4)[..., :1]).all() for y, _ in drawn
    )


def test_over_strengths_of_rare_features():
    """Labels that are shuffled may leave a rare feature with one class on a side; the others are ranked."""
    rng = np.random.default_rng(0)
    groups = np.tile(np.arange(10), 12)
    labels = np.stack([np.arange(120) // 10 == i for i in range(5)])
    X = rng.standard_normal((1, 120, 20)) + 3 * labels.T @ rng.standard_normal((1, 5, 20))
    use = labels | (rng.random(labels.shape) < 0.2)
    table = over_strengths(
        X, labelled(labels, groups, use=use), rng=np.random.default_rng(0), strengths=(1.0,), shuffles=20
    )
    assert table["AUC"].item() > 0.9 and abs(table["shuffled"].item() - 0.5) < 0.15
