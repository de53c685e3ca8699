"""Which row of a table is of which layer, seed and set, and that each is what one measure gives of it."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.plain import close, draw, generator
from lib.energy import excess_energy, matching, nulls
from lib.energy.objective import KERNELS, similarity
from lib.probes import directions, fit
from lib.probes.directions import Directions
from lib.studies.psm_energy import measures, tables, timing
from lib.studies.psm_energy.feature_sets import ATHLETES, TEXT, FeatureSet

LAYERS = {"small": (2, 5)}


def feature_set(n, seed, items=None):
    """n features in two layers, three draws of shuffled labels and two random models."""
    auc = np.arange(2 * n).reshape(2, n) / 10 + seed
    x = draw(2, n, 16, seed=seed)
    return FeatureSet(
        items=items or SimpleNamespace(features=tuple("abcdef"[:n])),
        dropped={"x": "too few"} if n == 5 else {},
        probed=Directions(directions=x, means=x, auc=auc, low=auc - 1, high=auc + 1),
        shuffled=draw(2, 3, n, 16, seed=seed + 10),
        random=draw(2, 2, n, 16, seed=seed + 20),
        random_auc=np.stack([auc + 2, auc + 4], 1),
        labels=similarity(x[0]),
    )


@pytest.fixture(scope="module")
def sets():
    return {
        ("small", seed, kind): feature_set(n, seed)
        for seed in (0, 1)
        for kind, n in ((TEXT, 5), (ATHLETES, 4))
    }


def at(table, seed, kind, layer):
    return table[(table["seed"] == seed) & (table["set"] == kind) & (table["layer"] == layer)]


def test_every_layer_of_every_set_once_and_in_order(sets):
    seen = []

    def measure(features, i, seed):
        seen.append((features, i, seed))
        return pd.DataFrame({"value": [10 * len(seen), 10 * len(seen) + 1]})

    table = tables.over_layers(sets, LAYERS, measure)
    assert seen == [(features, i, seed) for (_, seed, _), features in sets.items() for i in (0, 1)]
    assert table["value"].tolist() == [10 * k + j for k in range(1, 9) for j in (0, 1)]
    assert table["layer"].tolist() == [2, 2, 5, 5] * 4 and (table["model"] == "small").all()
    assert table["seed"].tolist() == [0] * 8 + [1] * 8
    assert table["set"].tolist() == ([TEXT] * 4 + [ATHLETES] * 4) * 2


def test_ranks_are_of_the_last_layer_and_means_over_seeds(sets):
    table = tables.ranks(sets)
    assert list(table.index) == [("small", TEXT, name) for name in "abcde"] + [
        ("small", ATHLETES, name) for name in "abcd"
    ]
    # In the last layer feature i of n has (n + i) / 10 with seed 0, and 1 more with seed 1.
    for (_, kind, name), row in table.iterrows():
        n = 5 if kind == TEXT else 4
        auc = (n + "abcde".index(name)) / 10 + 0.5
        assert row.to_dict() == pytest.approx(
            {"AUC": auc, "low": auc - 1, "high": auc + 1, "random": auc + 3}
        )


def test_what_is_dropped_by_model_and_feature(sets):
    table = tables.dropped(sets)
    assert table.index.names == ["model", "feature"] and list(table.index) == [("small", "x")]
    assert table["why it is left out"].tolist() == ["too few"]


def test_excess_energy_in_f_and_in_one_dimension_less_than_features(sets):
    sets = {key: features for key, features in sets.items() if key[1] == 1}
    measured, simplices = tables.measured(sets, LAYERS, draws=2)
    assert set(simplices["target"]) == {"real"} and (simplices["f"] == simplices["n"] - 1).all()
    assert (measured["f"] == (measured["n"] + 1) // 2).all()
    for (_, seed, kind), features in sets.items():
        for i, layer in enumerate(LAYERS["small"]):
            got = at(measured, seed, kind, layer)
            others = {"shuffled labels": features.shuffled[i], "random weights": features.random[i]}
            found = measures.targets(
                features.probed.directions[i], others, draws=2, generator=generator(seed)
            )
            expected = measures.measured(found)
            assert got["target"].tolist() == expected["target"].tolist()
            np.testing.assert_allclose(got["excess"], expected["excess"], rtol=1e-9)
            alone = measures.measured({"real": found["real"]}, f=len(features.names) - 1)
            np.testing.assert_allclose(at(simplices, seed, kind, layer)["distance"], alone["distance"])


def test_the_slides_perturbations(sets, monkeypatch):
    asked = []

    def as_in_slides(x, sigmas, *, seed):
        asked.append((x, sigmas, seed))
        return pd.DataFrame({"distance": [0.0]})

    monkeypatch.setattr(measures, "as_in_slides", as_in_slides)
    tables.perturbed(sets, LAYERS)
    expected = [
        (features.probed.directions[i], seed) for (_, seed, _), features in sets.items() for i in (0, 1)
    ]
    assert all(sigmas == (0.1, 0.01) for _, sigmas, _ in asked)
    for (x, _, seed), (wanted, own) in zip(asked, expected, strict=True):
        assert torch.equal(x, wanted) and seed == own


def test_curves_of_actual_and_of_permuted_directions(sets, monkeypatch):
    asked = []

    def as_in_slides(x, sigmas, *, seed, kinds, kernels):
        asked.append((x, seed))
        assert (sigmas, kinds, kernels) == (tables.SIGMAS, ("cosine",), ("exp",))
        return pd.DataFrame({"distance": [0.0]})

    monkeypatch.setattr(measures, "as_in_slides", as_in_slides)
    features = sets["small", 1, TEXT]
    table = tables.curves({TEXT: features}, repetitions=2)
    assert table["target"].tolist() == ["actual"] * 2 + ["permuted"] * 2 and (table["set"] == TEXT).all()
    assert [seed for _, seed in asked] == [0, 1, 0, 1]
    last = features.probed.directions[-1]
    assert torch.equal(asked[0][0], last) and torch.equal(asked[2][0], asked[3][0])
    close(asked[2][0].sort(-1).values, last.sort(-1).values)
    assert not torch.equal(asked[2][0], last)


def test_minima_for_every_dimension_and_kernel():
    table = tables.minima([3, 4])
    rows = list(zip(table["n"], table["f"], table["kernel"], strict=True))
    assert rows == [(n, f, kernel) for n in (3, 4) for f in range(2, n + 1) for kernel in KERNELS]
    assert (table[table["f"] >= table["n"] - 1]["minima"] == 1).all()
    for row in table.to_dict("records"):
        found = excess_energy.minima(row["n"], f=row["f"], kernel=row["kernel"])
        assert row["minima"] == len(found.values) and row["restarts"] == found.counts.sum()
        assert row["lowest reached by"] == pytest.approx(found.counts[0].item() / row["restarts"])
        assert row["largest gradient"] == found.gradient and row["converged"] == found.converged


def test_the_descent_leads_from_the_fitted_target_to_the_minimum_below(sets):
    features = sets["small", 0, TEXT]
    found = tables.descent(features)
    target = similarity(features.probed.directions[-1])
    assert found.f == 3 and list(found.psms) == [
        "target",
        "fitted, f = 3",
        "minimum below, exp",
        "minimum below, log",
        "lowest minimum, exp",
    ]
    close(found.psms["target"], target)
    measured = {kernel: excess_energy.measure(target[None], 3, kernel=kernel) for kernel in KERNELS}
    for kernel, heights in found.heights.items():
        assert heights[0].item() == pytest.approx(measured[kernel].excess.item(), abs=1e-6)
        assert -1e-6 <= heights[-1] < heights[0]
    assert found.moved == pytest.approx(measured["exp"].distance.item(), abs=1e-3)
    apart = matching.distance(found.psms["minimum below, exp"], found.psms["fitted, f = 3"])
    assert found.moved == pytest.approx(apart.item())


def test_details_are_of_one_layer_each(sets, monkeypatch):
    asked = []

    def by_kernel(name, offset):
        def measure(target, *, seed):
            asked.append((name, target, seed))
            return pd.Series({kernel: offset + k + seed for k, kernel in enumerate(KERNELS)})

        return measure

    def importance(target, *, seed):
        asked.append(("importance", target, seed))
        return pd.DataFrame({"diagonal": [True, False], "largest": [0.25, 0.75 + seed]})

    def regularised(target, strengths):
        rows = [(strength, start, strength + start) for start in (0, 1) for strength in strengths]
        return pd.DataFrame(rows, columns=["strength", "start", "distance"])

    monkeypatch.setattr(measures, "importance", importance)
    monkeypatch.setattr(measures, "drift", by_kernel("drift", 10))
    monkeypatch.setattr(measures, "norms_inert", by_kernel("inert", 20))
    monkeypatch.setattr(measures, "regularised", regularised)
    table = tables.details(sets, LAYERS)
    assert len(table) == 8
    row = at(table, 1, ATHLETES, 5).iloc[0].to_dict()
    expected = {"n": 4, "left out": 1.75, "kept": 0.25}
    expected |= {f"drift, {kernel}": 11 + k for k, kernel in enumerate(KERNELS)}
    expected |= {f"inert, {kernel}": 21 + k for k, kernel in enumerate(KERNELS)}
    expected |= {"λ 0.1": 0.1, "λ 1": 1, "λ 10": 10, "λ 100": 100, "λ 100, other start": 101, "λ 1000": 1000}
    assert list(row.items())[: len(expected)] == list(expected.items()), (
        "in the order of the table that is shown"
    )
    layers = [(features, i, seed) for (_, seed, _), features in sets.items() for i in (0, 1)]
    for k, (_, target, seed) in enumerate(asked):
        features, i, own = layers[k // 3]
        close(target, similarity(features.probed.directions[i]))
        assert seed == own


def test_rbf_distances_at_one_scale_for_all_layers(sets, monkeypatch):
    asked = []

    def rbf_distances(found):
        asked.append(found)
        return pd.DataFrame({"distance": [0.0]})

    monkeypatch.setattr(measures, "rbf_distances", rbf_distances)
    tables.rbf(sets, LAYERS, draws=3)
    for i in (0, 1):
        x = measures.scaled(sets["small", 0, TEXT].probed.directions)
        close(asked[i]["real"], x[i][None])
        close(asked[i]["coordinate-permuted"], nulls.coordinate_permuted(x[i], 3, generator=generator(0)))
    first, second = (found["real"].square().sum(-1).mean() for found in asked[:2])
    assert abs(first - second) > 1e-3 and (first + second).item() / 2 == pytest.approx(measures.LENGTH**2)


def test_planted_minimisers_have_no_excess_and_random_directions_have():
    table = tables.planted(19, count=2, d=64)
    assert table["kind"].tolist() == ["planted"] * 2 + ["random"] * 2
    low, high = (table.loc[table["kind"] == kind, "excess"] for kind in ("planted", "random"))
    assert low.max() < high.min() and low.max() < 0.1
    assert table["p"].between(1 / 20, 1).all() and (table["p"] * 20 % 1).abs().max() < 1e-9
    pd.testing.assert_frame_equal(table, tables.planted(19, count=2, d=64))


def test_probes_are_timed_on_all_layers_and_on_shuffled_labels(monkeypatch):
    X = np.arange(24.0).reshape(2, 3, 4)
    items = SimpleNamespace(labels=np.eye(3, dtype=bool), use=np.ones((3, 3), bool))
    asked = []
    monkeypatch.setattr(directions, "item_activations", lambda model, items, layers: X[list(layers)])

    def against_sklearn(X, y, **settings):
        asked.append((X, y, settings))
        return pd.DataFrame({"ratio": [1.0] * settings["repetitions"]})

    monkeypatch.setattr(timing, "against_sklearn", against_sklearn)
    table = tables.probe_times(SimpleNamespace(layers=2), SimpleNamespace(items=items), repetitions=2)
    settings = [(C, tol) for C in (0.1, 1.0, 10.0) for tol in (1e-4, 1e-6)]
    assert len(asked) == 7 and len(table) == 14
    for i, (C, tol) in enumerate(settings):
        got, y, given = asked[i]
        assert got is not X and (got == X).all() and y is items.labels and given["use"] is items.use
        assert (given["strength"], given["sklearn_tol"], given["repetitions"]) == (C, tol, 2)
        rows = table.iloc[2 * i : 2 * i + 2]
        assert (rows["C"] == C).all() and (rows["tol"] == tol).all()
        assert (rows["labels"] == tables.ALL_LAYERS).all()
    got, y, given = asked[-1]
    assert (got == X[-1:]).all() and y.shape == given["use"].shape == (60, 3) and given["strength"] == 0.1
    rng = np.random.default_rng(0)
    shuffled = [fit.shuffled(items.labels, items.use, rng)[0] for _ in range(20)]
    assert (y == np.concatenate(shuffled)).all()
    assert (table["labels"].iloc[-2:] == tables.LAST_LAYER).all()


def test_four_sets_of_features_over_strengths(monkeypatch):
    asked = []
    made = {
        name: SimpleNamespace(features=("a", "b")) for name in (TEXT, ATHLETES, "politicians", "compounds")
    }
    monkeypatch.setattr(directions, "item_activations", lambda model, items, layers: (items, tuple(layers)))
    monkeypatch.setattr(tables.labelled, "politicians", lambda tokenizer: made["politicians"])
    monkeypatch.setattr(tables.labelled, "compounds", lambda tokenizer: made["compounds"])

    def over_strengths(X, items, *, rng, whole_groups):
        assert X == (items, (5,))
        asked.append((items, whole_groups))
        return pd.DataFrame({"C": [0.1], "AUC": [float(len(asked))]})

    monkeypatch.setattr(tables, "over_strengths", over_strengths)
    sets = {
        ("small", seed, kind): feature_set(4, seed, items=made[kind] if seed == 0 else None)
        for seed in (0, 1)
        for kind in (TEXT, ATHLETES)
    }
    model = SimpleNamespace(tokenizer=None)
    table = tables.regularisation({"small": model}, sets, layers=LAYERS)
    assert asked == [
        (made[TEXT], False),
        (made[ATHLETES], True),
        (made["politicians"], True),
        (made["compounds"], False),
    ], "of the first seed; people keep one label"
    kinds = (TEXT, ATHLETES, "politicians", "compound words")
    assert list(table.index) == [("small", kind, 2, 0.1) for kind in kinds]
    assert table["AUC"].tolist() == [1, 2, 3, 4]


def test_simplices_of_every_model(monkeypatch):
    def simplices(model, *, draws, rng):
        return pd.DataFrame({"ratio": [model + draws, rng.random()]})

    monkeypatch.setattr(tables.embeddings, "simplices", simplices)
    table = tables.simplices({"a": 1, "b": 2}, draws=10)
    first = np.random.default_rng(0).random()
    assert table["ratio"].tolist() == [11, first, 12, first] and table["model"].tolist() == [
        "a",
        "a",
        "b",
        "b",
    ]
