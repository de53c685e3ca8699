"""The table of models: averages within units, AUCs against scikit-learn, ranks on known cases."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import roc_auc_score

from lib.studies.mnist_superposition import evaluation, inner


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LABELS = torch.arange(300) % 10


def test_inner_seeds_are_averaged_within_the_outer_seed():
    table = pd.DataFrame(
        dict(model=["a"] * 4 + ["b"], outer=[1, 1, 0, 0, 0], fvu=[1.0, 3.0, 5.0, 7.0, 100.0])
    )
    assert evaluation.by_outer(table, "fvu", "a").tolist() == [6.0, 2.0]


def test_standardise_keeps_geometry():
    train, test = 3 * draw(2, 500, 3) + 7, 3 * draw(2, 50, 3, seed=1) + 7
    a, b = evaluation.standardise(train, test)
    assert a.mean(1).abs().max() < 1e-5
    torch.testing.assert_close(a.square().mean((1, 2)), torch.ones(2))
    ratio = torch.cdist(test, test) / torch.cdist(b, b).clamp_min(1e-9)
    off = ~torch.eye(50, dtype=torch.bool)
    assert (ratio[0][off].std() / ratio[0][off].mean()) < 1e-3


def test_selectivity_against_scikit_learn():
    E = draw(1, 300, 4).relu()
    E[0, :, 3] = (LABELS == 7).float()
    expected = []
    for unit in range(4):
        aucs = [roc_auc_score(LABELS == d, E[0, :, unit]) for d in range(10)]
        expected.append(max(max(a, 1 - a) for a in aucs))
    assert float(evaluation.selectivity(E, LABELS)[0]) == pytest.approx(np.mean(expected), abs=1e-9)
    assert expected[3] == 1


def test_rank_of_six():
    K = torch.full((2, 300), 0.5)
    K[0] = torch.where(LABELS == 6, 0.6, 0.9)
    assert evaluation._rank_of_six(K, LABELS) == 1
    K[0] = torch.where(LABELS == 6, 0.99, 0.9)
    assert evaluation._rank_of_six(K, LABELS) == 10
    assert np.isnan(evaluation._rank_of_six(K, torch.zeros(300, dtype=torch.long)))


def test_perfect_clusters_and_shuffled_ones():
    K = torch.nn.functional.one_hot(LABELS, 12).float().T
    values = evaluation.cluster_statistics(K, LABELS, LABELS)
    assert values["nmi_label"] == pytest.approx(1) and values["ari_prediction"] == 1
    assert values["used"] == 10 and values["effective"] == pytest.approx(10, rel=1e-4)
    assert values["nmi_shuffled"] < 0.25 and values["digits"] == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("name", ["SAE", "DeePWAK-view"])
def test_the_table_has_a_row_a_replica(name):
    x, view = draw(2, 300, 3), draw(2, 300, 3, seed=1)
    predictions = LABELS.expand(2, 300)
    table = evaluation.replica_table(
        name, inner.build(name, 6), x, view, LABELS, predictions, 3, leak_samples=2
    )
    assert len(table) == 6 and table["outer"].tolist() == [0, 0, 0, 1, 1, 1]
    assert ("hard_fvu" in table) == (name != "SAE")
    assert table.drop(columns="model").notna().all().all()


def test_agreement_between_inner_seeds():
    K = torch.nn.functional.one_hot(LABELS, 10).float().T
    twins, strangers = torch.stack([K, K.flip(0)]), torch.stack([K, K[:, torch.randperm(300)]])
    assert evaluation.seed_agreement(torch.cat([twins, strangers]), 2) == pytest.approx([1, 0], abs=0.05)
    assert np.isnan(evaluation.seed_agreement(K[None], 1)).all()


@pytest.mark.slow
def test_noise_floor_is_broken_by_the_source_and_kept_by_the_mends():
    names = ["DeePWAK", "DeePWAK-view", "DeePWAK-complement"]
    fvu = evaluation.gaussian_table(names, 1, 2, steps=400, batch=256, lr=5e-3).groupby("model")["fvu"].mean()
    assert fvu["DeePWAK"] < 0.8
    assert fvu["DeePWAK-view"] > 0.97 and fvu["DeePWAK-complement"] > 0.97


def test_linear_probe():
    z = draw(600, 3)
    labels = torch.arange(600) % 10
    z[labels == 3, 0] += 4
    auc = evaluation.probe_auc(z[:300], labels[:300], z[300:], labels[300:])
    assert auc[3] > 0.95 and np.delete(auc, 3).max() < 0.75
