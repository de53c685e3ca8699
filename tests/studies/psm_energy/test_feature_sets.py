"""A feature set holds its probes and their nulls, each by the function that makes it; layers; checkpoints."""

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers import small_neox
from helpers.plain import close, generator
from lib.common.errors import DataError
from lib.energy import nulls
from lib.language import model as language_model
from lib.language.corpus import Document
from lib.neox import model as neox
from lib.probes import directions, sets
from lib.probes.items import LabelledItems
from lib.studies.psm_energy import feature_sets, measures
from lib.studies.psm_energy.feature_sets import (
    ATHLETES,
    KINDS,
    TEXT,
    athletes,
    items_of,
    layers_of,
    over_training,
    probed,
    steps_of,
)

SIZES = dict(seeds=2, sequences=1, samples=1, beginnings=1)


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
    found = dict(name=name, texts=(), ids=ids, mask=mask, indices=indices, owner=owner, features=names)
    return LabelledItems(**found, labels=labels, use=use, groups=groups)


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
    monkeypatch.setattr(feature_sets, "athletes", lambda model, beginnings: small_set(ATHLETES))
    monkeypatch.setattr(
        feature_sets,
        "items_of",
        lambda *_, people, **__: {TEXT: (small_set(TEXT), {"x": "too few"}), ATHLETES: (people, {})},
    )


@pytest.fixture
def found(model, tmp_path, monkeypatch):
    given_sets(monkeypatch)
    return probed(model, [], layers=[0, 1], **SIZES, draws=3, random_models=2, folder=tmp_path)


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


def test_a_feature_set_holds_what_each_function_makes(model, folder, found):
    """The same calls one after the other, with a generator per seed and one for random weights."""
    assert list(found) == [(seed, kind) for seed in (0, 1) for kind in KINDS]
    sets = {(seed, kind): small_set(kind) for seed, kind in found}
    random = directions.random_weights(str(folder), sets, [0, 1], seeds=[1, 2], rng=np.random.default_rng(2))
    for seed in (0, 1):
        rng = np.random.default_rng(seed)
        for kind in KINDS:
            features, items = found[seed, kind], sets[seed, kind]
            X = directions.item_activations(model, items, [0, 1], cached=False)
            real = directions.probe(X, items, rng)
            close(features.probed.directions, real.directions, 1e-5)
            np.testing.assert_allclose(features.probed.auc, real.auc)
            shuffled = directions.shuffled(X, items, rng, draws=3, whole_groups=kind == ATHLETES)
            close(features.shuffled, shuffled, 1e-5)
            close(features.random, random[seed, kind][0], 1e-5)
            np.testing.assert_allclose(features.random_auc, random[seed, kind][1])
            assert features.names == ("a", "b", "c", "d")
            assert features.dropped == ({"x": "too few"} if kind == TEXT else {})


def test_shapes_and_labels_of_a_feature_set(model, found):
    features, d = found[0, ATHLETES], model.d_mlp
    assert features.probed.directions.shape == (2, 4, d)
    assert features.shuffled.shape == (2, 3, 4, d)
    assert features.random.shape == (2, 2, 4, d) and features.random_auc.shape == (2, 2, 4)
    items = small_set(ATHLETES)
    expected = nulls.label_correlation(torch.tensor(items.labels), use=torch.tensor(items.use))
    assert torch.equal(features.labels, expected)
    # Four exclusive classes as frequent as each other have correlations of -1/3, but for the item left out.
    assert nulls.off_diagonal(features.labels)[-1].item() == pytest.approx(-1 / 3)
    assert not torch.allclose(features.random[:, 0], features.random[:, 1])


def test_an_athlete_keeps_one_sport_when_labels_are_shuffled(model, tmp_path, monkeypatch):
    given = []
    whole = directions.shuffled

    def spied(*arguments, **settings):
        given.append((arguments[1].name, settings["whole_groups"]))
        return whole(*arguments, **settings)

    given_sets(monkeypatch)
    monkeypatch.setattr(directions, "shuffled", spied)
    probed(model, [], layers=[1], **SIZES, draws=2, random_models=1, folder=tmp_path)
    assert given == [(TEXT, False), (ATHLETES, True)] * 2


def test_athletes_after_some_of_the_beginnings(model):
    one, three = (athletes(model, beginnings) for beginnings in (1, 3))
    assert len(three.groups) == 3 * len(one.groups) == 3 * len(set(one.groups))
    assert set(one.texts) < set(three.texts) and one.features == three.features


def documents():
    text = "".join(f"A b{i} C.\n" for i in range(120))
    return [Document("english", f"work {i}", text.replace("b", "bdfh"[i % 4])) for i in range(8)]


def test_items_by_kind(model):
    given = small_set(ATHLETES)
    found = items_of(
        model, documents(), rng=np.random.default_rng(0), sequences=12, samples=400, people=given
    )
    assert tuple(found) == KINDS
    (text, dropped), (people, none) = found.values()
    assert text.name == TEXT and people is given
    assert text.ids.shape == (12, 128) and set(text.groups) <= {f"work {i}" for i in range(8)}
    assert text.use.sum(1).max() <= 400 and (text.labels & text.use).sum(1).min() >= 20
    assert dropped and none == {} and not set(dropped) & set(text.features)
    again = items_of(
        model, documents(), rng=np.random.default_rng(0), sequences=12, samples=400, people=given
    )[TEXT][0]
    assert (again.ids == text.ids).all() and (again.use == text.use).all()


def test_few_samples_ask_for_twenty_of_each_class(model, monkeypatch):
    asked = []

    def text(*_, rng, sequences, **settings):
        asked.append(settings)

    monkeypatch.setattr(sets, "text", text)
    for samples in (100, 1000):
        items_of(model, documents(), rng=np.random.default_rng(0), sequences=12, samples=samples, people=None)
    assert asked == [dict(maximum=100, at_least=20), dict(maximum=1000, at_least=50)]


def test_excess_energy_at_every_step_that_is_kept(tmp_path, tokenizer, monkeypatch):
    steps = {0: 1, 7: 2}
    for step, seed in steps.items():
        neox.keep(small_neox.model(len(tokenizer), seed), tmp_path / "kept", step)
    sets = {kind: (small_set(kind, 5), {}) for kind in KINDS}
    asked = []

    def given(model, documents, **settings):
        asked.append((documents, settings["sequences"], settings["samples"]))
        return sets

    monkeypatch.setattr(neox, "load_pretrained", lambda: (None, tokenizer))
    monkeypatch.setattr(feature_sets, "items_of", given)
    sizes = dict(sequences=11, samples=22, beginnings=1, draws=3)
    table = over_training(str(tmp_path / "kept"), ["documents"], **sizes)
    assert asked == [(["documents"], 11, 22)] * len(steps)
    assert set(table["step"]) == set(steps) and set(table["set"]) == set(KINDS)
    assert (table["kernel"] == "exp").all() and (table["n"] == 5).all() and (table["f"] == 3).all()
    targets = ["real", "edge-shuffled", "shuffled labels", "coordinate-permuted", "random directions"]
    for step, seed in steps.items():
        neox.save_pretrained(small_neox.model(len(tokenizer), seed), tokenizer, tmp_path / "again")
        model = language_model.load(str(tmp_path / "again"))
        rng = np.random.default_rng(0)
        for kind in KINDS:
            own = table[(table["step"] == step) & (table["set"] == kind)]
            assert list(own["target"].unique()) == targets
            assert own.groupby("target")["draw"].count().tolist().count(3) == 4
            X = directions.item_activations(model, sets[kind][0], [1], cached=False)
            real = directions.probe(X, sets[kind][0], rng).directions[0]
            shuffled = directions.shuffled(X, sets[kind][0], rng, draws=3, whole_groups=kind == ATHLETES)[0]
            found = measures.targets(real, {"shuffled labels": shuffled}, draws=3, generator=generator())
            expected = measures.measured(found, kernels=("exp",))
            np.testing.assert_allclose(own["excess"], expected["excess"], atol=1e-4)


def test_no_checkpoints_and_an_empty_folder(tmp_path):
    sizes = dict(sequences=1, samples=1, beginnings=1, draws=1)
    assert over_training("", [], **sizes) is None and steps_of("") == []
    for folder in map(str, (tmp_path, tmp_path / "absent")):
        for refuses in (partial(over_training, folder, [], **sizes), partial(steps_of, folder)):
            with pytest.raises(
                DataError, match=r"without any step-<n>\.safetensors; `python -m lib.neox train"
            ) as error:
                refuses()
            assert "\n" not in str(error.value) and folder in str(error.value)
