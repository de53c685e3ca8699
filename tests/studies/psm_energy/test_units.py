"""A unit holds the probes of one set and their nulls, each by the function that makes it; layers; checkpoints."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers import small_neox
from helpers.plain import close
from lib.energy import nulls
from lib.language import model as language_model
from lib.language.corpus import Document
from lib.neox import model as neox
from lib.probes import directions
from lib.probes.items import ProbeSet
from lib.studies.psm_energy import measures
from lib.studies.psm_energy import units as energy_units
from lib.studies.psm_energy.units import (
    SETS,
    athletes,
    feature_sets,
    layers_of,
    over_training,
    steps_of,
    units,
)

TEXT, ATHLETES = SETS


def small_set(name, features=4):
    """Ten groups of as many items as there are features, two tokens each; every group has each feature once."""
    rng = np.random.default_rng(0)
    count = 10 * features
    ids = rng.integers(1, 250, (count, 6))
    indices = np.argwhere(np.ones((count, 6), bool) & (np.arange(6) >= 4))
    which = np.concatenate([rng.permutation(features) for _ in range(10)])
    labels = which == np.arange(features)[:, None]
    use = np.ones_like(labels)
    use[0, -1] = False
    mask, groups = np.ones_like(ids, bool), np.repeat(np.arange(10), features)
    owner, names = indices[:, 0], tuple("abcdef"[:features])
    return ProbeSet(name, (), ids, mask, indices, owner, names, labels, use, groups)


@pytest.fixture(scope="module")
def tokenizer():
    return small_neox.tokenizer()


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer):
    folder = tmp_path_factory.mktemp("units") / "model"
    neox.save_pretrained(small_neox.model(len(tokenizer), max_position_embeddings=128), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return language_model.load(str(folder))


def given_sets(monkeypatch):
    """Small sets in the place of text and athletes."""
    monkeypatch.setattr(energy_units, "athletes", lambda model, beginnings: small_set(ATHLETES))
    monkeypatch.setattr(
        energy_units,
        "feature_sets",
        lambda *given: {TEXT: (small_set(TEXT), {"x": "too few"}), ATHLETES: (given[-1], {})},
    )


@pytest.fixture
def found(model, tmp_path, monkeypatch):
    given_sets(monkeypatch)
    return units(model, [], [0, 1], 2, 1, 1, 1, 3, 2, tmp_path)


def test_layers_are_evenly_spread_and_end_with_the_last():
    def chosen(layers, count):
        return layers_of(SimpleNamespace(layers=layers), count)

    assert [chosen(6, count) for count in (1, 2, 3, 6, 9)] == [
        [5],
        [2, 5],
        [1, 3, 5],
        [*range(6)],
        [*range(6)],
    ]
    assert chosen(16, 4) == [3, 7, 11, 15]
    for layers in range(1, 25):
        for count in range(1, layers + 1):
            got = chosen(layers, count)
            gaps = np.diff([-1, *got])
            assert len(set(got)) == count and got[-1] == layers - 1 and got == sorted(got) and got[0] >= 0
            assert abs(gaps - layers / count).max() <= 1


def test_a_unit_holds_what_each_function_makes(model, folder, found):
    """The same calls one after the other, with a generator a seed and one for random weights."""
    assert list(found) == [(seed, kind) for seed in (0, 1) for kind in SETS]
    sets = {(seed, kind): small_set(kind) for seed, kind in found}
    random = directions.random_weights(str(folder), sets, [0, 1], [1, 2], np.random.default_rng(2))
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        for kind in SETS:
            unit, items = found[seed, kind], sets[seed, kind]
            X = directions.items(model, items, [0, 1], cached=False)
            probed = directions.probe(X, items, rng)
            close(unit.probed.directions, probed.directions, 1e-5)
            np.testing.assert_allclose(unit.probed.auc, probed.auc)
            shuffled = directions.shuffled(X, items, 3, rng, whole_groups=kind == ATHLETES)
            close(unit.shuffled, shuffled, 1e-5)
            close(unit.random, random[seed, kind][0], 1e-5)
            np.testing.assert_allclose(unit.random_auc, random[seed, kind][1])
            assert unit.features == ("a", "b", "c", "d")
            assert unit.dropped == ({"x": "too few"} if kind == TEXT else {})


def test_shapes_and_labels_of_a_unit(model, found):
    unit, d = found[0, ATHLETES], model.d_mlp
    assert unit.probed.directions.shape == (2, 4, d)
    assert unit.shuffled.shape == (2, 3, 4, d)
    assert unit.random.shape == (2, 2, 4, d) and unit.random_auc.shape == (2, 2, 4)
    items = small_set(ATHLETES)
    expected = nulls.label_correlation(torch.tensor(items.labels), torch.tensor(items.use))
    assert torch.equal(unit.labels, expected)
    # Four exclusive classes as frequent as each other have correlations of -1/3, but for the item left out.
    assert nulls.off_diagonal(unit.labels)[-1].item() == pytest.approx(-1 / 3)
    assert not torch.allclose(unit.random[:, 0], unit.random[:, 1])


def test_an_athlete_keeps_one_sport_when_labels_are_shuffled(model, tmp_path, monkeypatch):
    given = []
    whole = directions.shuffled

    def spied(*arguments, **settings):
        given.append((arguments[1].name, settings["whole_groups"]))
        return whole(*arguments, **settings)

    given_sets(monkeypatch)
    monkeypatch.setattr(directions, "shuffled", spied)
    units(model, [], [1], 2, 1, 1, 1, 2, 1, tmp_path)
    assert given == [(TEXT, False), (ATHLETES, True)] * 2


def test_athletes_after_some_of_the_beginnings(model):
    one, three = (athletes(model, beginnings) for beginnings in (1, 3))
    assert len(three.groups) == 3 * len(one.groups) == 3 * len(set(one.groups))
    assert set(one.texts) < set(three.texts) and one.features == three.features


def documents():
    text = "".join(f"A b{i} C.\n" for i in range(120))
    return [Document("english", f"work {i}", text.replace("b", "bdfh"[i % 4])) for i in range(8)]


def test_feature_sets_by_name(model):
    given = small_set(ATHLETES)
    found = feature_sets(model, documents(), np.random.default_rng(0), 12, 400, given)
    assert tuple(found) == SETS
    (text, dropped), (people, none) = found.values()
    assert text.name == TEXT and people is given
    assert text.ids.shape == (12, 128) and set(text.groups) <= {f"work {i}" for i in range(8)}
    assert text.use.sum(1).max() <= 400 and (text.labels & text.use).sum(1).min() >= 20
    assert dropped and none == {} and not set(dropped) & set(text.features)
    again = feature_sets(model, documents(), np.random.default_rng(0), 12, 400, given)[TEXT][0]
    assert (again.ids == text.ids).all() and (again.use == text.use).all()


def test_few_samples_ask_for_twenty_of_each_class(model, monkeypatch):
    asked = []
    monkeypatch.setattr(directions, "text_set", lambda *_, **settings: asked.append(settings))
    for samples in (100, 1000):
        feature_sets(model, documents(), np.random.default_rng(0), 12, samples, None)
    assert asked == [dict(maximum=100, at_least=20), dict(maximum=1000, at_least=50)]


def test_excess_energy_at_every_step_that_is_kept(tmp_path, tokenizer, monkeypatch):
    steps = {0: 1, 7: 2}
    for step, seed in steps.items():
        neox.keep(small_neox.model(len(tokenizer), seed), tmp_path / "kept", step)
    sets = {kind: (small_set(kind, 5), {}) for kind in SETS}
    asked = []

    def given(model, *settings):
        asked.append(settings)
        return sets

    monkeypatch.setattr(neox, "load_pretrained", lambda: (None, tokenizer))
    monkeypatch.setattr(energy_units, "feature_sets", given)
    table = over_training(str(tmp_path / "kept"), ["documents"], 11, 22, 1, 3)
    assert {name: asked[0][i] for i, name in ((0, "documents"), (2, "sequences"), (3, "samples"))} == {
        "documents": ["documents"],
        "sequences": 11,
        "samples": 22,
    }
    assert set(table["step"]) == set(steps) and set(table["set"]) == set(SETS)
    assert (table["kernel"] == "exp").all() and (table["n"] == 5).all() and (table["f"] == 3).all()
    targets = ["real", "edge-shuffled", "shuffled labels", "coordinate-permuted", "random directions"]
    for step, seed in steps.items():
        neox.save_pretrained(small_neox.model(len(tokenizer), seed), tokenizer, tmp_path / "again")
        model = language_model.load(str(tmp_path / "again"))
        rng = np.random.default_rng(0)
        for kind in SETS:
            own = table[(table["step"] == step) & (table["set"] == kind)]
            assert list(own["target"].unique()) == targets
            assert own.groupby("target")["draw"].count().tolist().count(3) == 4
            X = directions.items(model, sets[kind][0], [1], cached=False)
            real = directions.probe(X, sets[kind][0], rng).directions[0]
            shuffled = directions.shuffled(X, sets[kind][0], 3, rng, whole_groups=kind == ATHLETES)[0]
            found = measures.targets(real, {"shuffled labels": shuffled}, 3, torch.Generator().manual_seed(0))
            expected = measures.measured(found, kernels=("exp",))
            np.testing.assert_allclose(own["excess"], expected["excess"], atol=1e-4)


def test_no_checkpoints_and_an_empty_folder(tmp_path):
    assert over_training("", [], 1, 1, 1, 1) is None and steps_of("") == []
    for folder in (tmp_path, tmp_path / "absent"):
        for refuses in (lambda: over_training(str(folder), [], 1, 1, 1, 1), lambda: steps_of(str(folder))):  # noqa: B023
            with pytest.raises(
                ValueError, match=r"holds no step-<n>\.safetensors; `python -m lib.neox train"
            ) as error:
                refuses()
            assert "\n" not in str(error.value) and str(folder) in str(error.value)
