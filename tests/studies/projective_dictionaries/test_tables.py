"""The tables that the notebook shows, number by number from made-up ones."""

import itertools

import numpy as np
import pytest

from helpers.projective_rules import KINDS, SEEDS
from helpers.projective_tables import made_up
from lib.studies.projective_dictionaries import tables


@pytest.fixture(scope="module")
def t():
    return made_up()


def mean(table, column, **where):
    """Over all rows that have these values."""
    for key, value in where.items():
        table = table[table[key] == value]
    assert len(table)
    return table[column].mean()


def test_methods(t):
    table = tables.of_methods(t)
    own = {"selection": "own", "k": 8}
    for method in ("top-k", "ridge, budget"):
        row = table.loc[method]
        trained = {"method": method, "coefficients": "as trained", **own}
        refitted = {"method": method, "coefficients": "least squares", **own}
        for kind in KINDS:
            assert row[f"FVU, {kind}"] == pytest.approx(mean(t.codes, "fvu", kind=kind, **trained))
        assert row["refit, mean"] == pytest.approx(mean(t.codes, "fvu", **refitted))
        assert row["L0"] == pytest.approx(mean(t.codes, "l0", **trained))
        assert row["negative"] == pytest.approx(mean(t.codes, "negative", **refitted))
        for column in ("recovery", "found", "genuine", "splitting", "dead"):
            assert row[column] == pytest.approx(mean(t.dictionaries, column, method=method, k=8))
    assert list(table.columns[:4]) == [f"FVU, {kind}" for kind in KINDS]


def test_baselines(t):
    table = tables.of_baselines(t)
    for kind in KINDS:
        assert table.loc["MOD, OMP", kind] == pytest.approx(
            mean(t.baselines, "fvu", method="MOD, OMP", kind=kind)
        )
    assert table.loc["MOD, OMP", "recovery"] == pytest.approx(
        mean(t.baselines, "recovery", method="MOD, OMP")
    )


def test_ridges_are_those_with_importances():
    t = made_up()
    t.dictionaries.loc[~t.dictionaries["method"].str.contains("ridge"), "square"] = np.nan
    table = tables.of_ridges(t)
    assert {method for _, method in table.index} == {
        "ridge", "tied ridge", "ridge, normalised", "ridge, budget", "ridge, no quota"
    }  # fmt: skip
    where = {"method": "tied ridge", "kind": "clusters", "k": 8}
    row = table.loc["clusters", "tied ridge"]
    assert row["growth"] == pytest.approx(mean(t.dictionaries, "growth", **where))
    trained = {"selection": "own", "coefficients": "as trained"}
    assert row["FVU"] == pytest.approx(mean(t.codes, "fvu", **where, **trained))


def test_cross_entropy_of_hidden_layers(t):
    table = tables.of_cross_entropy(t)
    assert set(table.columns) == {"recovered, layer 1", "recovered, layer 2"}
    own = t.layers[t.layers["coefficients"] == "as trained"]
    expected = mean(own, "cross_entropy", method="hybrid", layer="layer 2")
    assert table.loc["hybrid", "recovered, layer 2"] == pytest.approx(expected)


def test_swaps(t):
    where = {"method": "top-k, span", "width": 2, "active": 16}
    for column in ("error", "side", "accuracy"):
        found = tables.of_swaps(t).loc[("top-k, span", 2), (column, 16)]
        assert found == pytest.approx(mean(t.swaps, column, **where))


def test_each_choice_is_the_lowest_mean_and_the_next(t):
    chosen = tables.of_choices(t)
    for need, values in tables.needs(t).items():
        row, means = chosen.loc[need], {method: np.mean(each) for method, each in values.items()}
        assert row["value"] == pytest.approx(min(means.values())) == means[row["use"]]
        del means[row["use"]]
        assert row["its value"] == pytest.approx(min(means.values())) == means[row["next best"]]
        ahead = sum(a < b for a, b in zip(values[row["use"]], values[row["next best"]], strict=True))
        assert row["ahead"] == f"in {ahead} of {len(SEEDS)} seeds"


def test_what_is_wanted_is_measured_by_its_statistic(t):
    needs = tables.needs(t)
    at = dict(k=8, selection="own")
    for seed, method in itertools.product(SEEDS, ("top-k", "tied top-k")):
        fvu = [
            mean(t.codes, "fvu", method=method, kind=kind, seed=seed, coefficients="as trained", **at)
            for kind in KINDS
        ]
        refit = [
            mean(t.codes, "fvu", method=method, kind=kind, seed=seed, coefficients="least squares", **at)
            for kind in KINDS
        ]
        best = [min(pair) for pair in zip(fvu, refit, strict=True)]
        assert needs["lowest FVU at k = 8, amplitudes only"][method][seed] == pytest.approx(
            np.prod(fvu) ** 0.25
        )
        assert needs["lowest FVU at k = 8, target at hand"][method][seed] == pytest.approx(
            np.prod(best) ** 0.25
        )
        where = {"method": method, "seed": seed}
        recovery = mean(t.dictionaries, "recovery", k=8, **where)
        assert needs["best dictionary (1 - recovery)"][method][seed] == pytest.approx(1 - recovery)
        stability = mean(t.dictionaries, "stability", kind="coherent", k=16, **where)
        of_starts = needs["same dictionary from another start (1 - stability)"]
        assert of_starts[method][seed] == pytest.approx(1 - stability)
    assert not {m for m in needs["one variable in superposition, 4 active"] if "true" in m or "random" in m}
