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
    assert evaluation.by_outer(table, "fvu", model="a").tolist() == [6.0, 2.0]


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
    values = evaluation.cluster_statistics(K, labels=LABELS, predictions=LABELS)
    assert values["nmi_label"] == pytest.approx(1) and values["ari_prediction"] == 1
    assert values["used"] == 10 and values["effective"] == pytest.approx(10, rel=1e-4)
    assert values["nmi_shuffled"] < 0.25 and values["digits"] == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("name", ["SAE", "DeePWAK-view"])
def test_the_table_has_one_row_per_replica(name):
    x, view = draw(2, 300, 3), draw(2, 300, 3, seed=1)
    predictions = LABELS.expand(2, 300)
    table = evaluation.replica_table(
        name,
        inner.build(name, 6),
        x=x,
        view=view,
        labels=LABELS,
        predictions=predictions,
        inner=3,
        leak_samples=2,
    )
    assert len(table) == 6 and table["outer"].tolist() == [0, 0, 0, 1, 1, 1]
    assert ("hard_fvu" in table) == (name != "SAE")
    assert table.drop(columns="model").notna().all().all()


def test_agreement_between_inner_seeds():
    K = torch.nn.functional.one_hot(LABELS, 10).float().T
    twins, strangers = torch.stack([K, K.flip(0)]), torch.stack([K, K[:, torch.randperm(300)]])
    assert evaluation.seed_agreement(torch.cat([twins, strangers]), inner=2) == pytest.approx(
        [1, 0], abs=0.05
    )
    assert np.isnan(evaluation.seed_agreement(K[None], inner=1)).all()


@pytest.mark.slow
def test_noise_floor_is_broken_by_the_source_and_kept_by_the_repaired_variants():
    names = ["DeePWAK", "DeePWAK-view", "DeePWAK-complement"]
    table = evaluation.gaussian_table(names, centres=1, seeds=2, steps=400, batch=256, lr=5e-3)
    fvu = {name: evaluation.by_seed(table, "fvu", model=name).mean() for name in names}
    assert fvu["DeePWAK"] < 0.8
    assert fvu["DeePWAK-view"] > 0.97 and fvu["DeePWAK-complement"] > 0.97


def test_the_predictions_are_a_clustering_too():
    table = evaluation.prediction_table(torch.stack([LABELS, LABELS.flip(0)]), LABELS)
    assert table["outer"].tolist() == [0, 1] and set(table["model"]) == {evaluation.PREDICTION}
    assert table["nmi_label"].tolist() == pytest.approx([1, 1]) and table["ari_label"].tolist() == [1, 1]
    mixed = torch.where(LABELS == 3, 8, torch.where(LABELS == 6, 0, LABELS))  # takes 3 for 8 and 6 for 0
    confused = evaluation.prediction_table(mixed[None], LABELS)
    assert confused["split_rank"].item() < table["split_rank"][0] == 18


def test_the_summary_is_of_means():
    columns = {column: [1.0, 3.0, 10.0] for column in evaluation.COLUMNS}
    K = torch.nn.functional.one_hot(LABELS, 10).float().T
    table = pd.DataFrame({"model": ["b", "b", "a"]} | columns)
    found = evaluation.summary(table, {"b": torch.stack([K, K.flip(0)])}, inner=2)
    assert found.columns.tolist() == ["b", "a"] and found.index[-1] == "ari_seeds"
    assert (found.loc[list(evaluation.COLUMNS), "b"] == 2).all() and found.loc["ari_seeds", "b"] == 1
    assert np.isnan(found.loc["ari_seeds", "a"])


def test_statistics_by_seed_are_of_one_model_and_number_of_gaussians():
    table = pd.DataFrame(
        dict(centres=[1, 1, 3, 1], model=["a", "a", "a", "b"], seed=[1, 0, 0, 0], used=[1, 2, 30, 400])
    )
    assert evaluation.by_seed(table, "used", model="a").tolist() == [2, 1]
    assert evaluation.by_seed(table, "used", model="a", centres=3).tolist() == [30]
