"""Probes of planted directions, against scikit-learn and Hugging Face's activations; splits that nothing crosses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from helpers import small_neox
from lib.language import model as language_model
from lib.language.corpus import Document
from lib.language.loading import ModelError
from lib.neox import model as neox
from lib.neox.training import matrix_products
from lib.probes import directions as probe_geometry
from lib.probes import fit as probes
from lib.probes.directions import items, probe, random_weights, shuffled, split, text_set
from lib.probes.items import ProbeSet
from lib.probes.text_features import FEATURES

GROUPS, EACH = 24, 5


def probe_set(labels, groups, name="planted", use=None):
    """A set whose sequences are one token long."""
    count = len(groups)
    return ProbeSet(
        name,
        (),
        np.zeros((count, 1), int),
        np.ones((count, 1), bool),
        np.stack([np.arange(count), np.zeros(count, int)], 1),
        np.arange(count),
        tuple("abcdef"[: len(labels)]),
        labels,
        np.ones_like(labels) if use is None else use,
        groups,
    )


@pytest.fixture(scope="module")
def planted():
    """Three orthogonal directions in the first of two layers, noise alone in the second; and the directions."""
    rng = np.random.default_rng(0)
    directions = 3 * np.linalg.qr(rng.standard_normal((16, 3)))[0].T
    labels = rng.random((3, GROUPS * EACH)) < 0.5
    X = rng.standard_normal((2, GROUPS * EACH, 16))
    X[0] += labels.T @ directions
    return X, probe_set(labels, np.repeat(np.arange(GROUPS), EACH)), directions


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probed") / "model"
    tokenizer = small_neox.tokenizer()
    neox.save_pretrained(small_neox.model(len(tokenizer)), tokenizer, folder)
    return folder


@pytest.fixture(scope="module")
def model(folder):
    return language_model.load(str(folder))


@pytest.fixture(scope="module")
def names(model):
    """Twelve names in sentences of unlike lengths, most of several tokens; two features."""
    rng = np.random.default_rng(3)
    lengths = rng.integers(5, 12, 12)
    mask = np.arange(12) < lengths[:, None]
    ids = np.where(mask, rng.integers(1, 250, mask.shape), 0)
    last = mask & (np.arange(12) >= lengths[:, None] - rng.integers(1, 4, 12)[:, None])
    indices = np.argwhere(last)
    labels = np.stack([np.arange(12) % 2 == 0, np.arange(12) % 3 == 0])
    return ProbeSet(
        "names", (), ids, mask, indices, indices[:, 0], ("a", "b"), labels, labels | True, np.arange(12) // 2
    )


def cosines(a, b):
    a, b = (np.asarray(x) / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b))
    return a @ b.T


def test_planted_directions_are_found_where_they_are(planted):
    X, found, directions = planted
    got = probe(X, found, np.random.default_rng(1))
    assert got.directions.shape == got.means.shape == (2, 3, 16)
    assert got.directions.dtype == got.means.dtype == torch.float64
    assert got.auc.shape == got.low.shape == got.high.shape == (2, 3)
    for x in (got.directions[0], got.means[0]):
        own = cosines(x, directions)
        assert own.diagonal().min() > 0.85 and abs(own - np.diag(own.diagonal())).max() < 0.4
    assert got.auc[0].min() > 0.95 and abs(got.auc[1] - 0.5).max() < 0.35
    assert (got.low <= got.auc).all() and (got.auc <= got.high).all() and (got.low[1] < 0.5).all()


def test_probes_are_scikit_learns_on_the_training_groups_and_ranked_on_the_others(planted):
    X, found, _ = planted
    use = np.random.default_rng(2).random(found.labels.shape) < 0.8
    found = probe_set(found.labels, found.groups, use=use)
    got = probe(X, found, np.random.default_rng(1))
    train, test = split(found, np.random.default_rng(1))
    for layer in range(2):
        for f, (y, used) in enumerate(zip(found.labels, use, strict=True)):
            seen, rest = X[layer][used & train], used & test
            plain = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-10, max_iter=10_000)
            plain.fit(seen, y[used & train])
            np.testing.assert_allclose(got.directions[layer, f], plain.coef_[0], rtol=1e-4, atol=1e-5)
            auc = roc_auc_score(y[rest], plain.decision_function(X[layer][rest]))
            assert got.auc[layer, f] == pytest.approx(auc, abs=1e-9)
            of = y[used & train]
            np.testing.assert_allclose(got.means[layer, f], seen[of].mean(0) - seen[~of].mean(0), atol=1e-10)
    other = probe(X, found, np.random.default_rng(1), strength=1.0)
    assert (other.directions.norm(dim=-1) > 1.1 * got.directions.norm(dim=-1)).all()


def test_what_groups_have_by_heart_is_no_knowledge():
    """Each group has a direction of its own, and labels drawn for it: learnt exactly, and of no use on the others."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(60), 3)
    X = np.eye(60)[groups][None] * 10 + 0.01 * rng.standard_normal((1, 180, 60))
    found = probe_set((rng.random((4, 60)) < 0.5)[:, groups], groups)
    got = probe(X, found, np.random.default_rng(0))
    assert 0.2 < got.auc.mean() < 0.8 and (got.high - got.low).min() > 0.2


def test_a_split_keeps_groups_whole_and_both_classes_on_both_sides():
    groups = np.repeat(np.arange(12), 3)
    labels = np.stack([np.isin(groups, (2, 7)), groups % 2 == 0])
    found = probe_set(labels, groups)
    for seed in range(20):
        train, test = split(found, np.random.default_rng(seed))
        assert (train != test).all() and not set(groups[train]) & set(groups[test])
        for side in (train, test):
            assert (labels[:, side].any(1) & ~labels[:, side].all(1)).all()
    # A feature's classes are those of the items that it uses.
    use = np.stack([~np.isin(groups, (7,)) | (np.arange(36) % 3 == 0), labels[1] | True])
    for seed in range(5):
        for side in split(probe_set(labels, groups, use=use), np.random.default_rng(seed)):
            assert (labels[0] & use[0] & side).any()


def test_a_feature_of_one_group_is_refused_by_name():
    groups = np.repeat(np.arange(8), 2)
    found = probe_set(np.stack([groups % 2 == 0, groups == 5]), groups, name="mine")
    for refused in (
        lambda rng: split(found, rng),
        lambda rng: probe(np.zeros((1, 16, 4)), found, rng),
        lambda rng: shuffled(np.zeros((1, 16, 4)), found, 2, rng),
    ):
        with pytest.raises(
            ValueError, match=r"mine: no split by groups gives .* both classes on both"
        ) as error:
            refused(np.random.default_rng(0))
        assert "\n" not in str(error.value) and "give more groups" in str(error.value)


@pytest.mark.parametrize("whole_groups", [False, True])
def test_shuffled_directions_are_of_shuffled_labels_in_the_order_of_draws(planted, whole_groups):
    X, found, directions = planted
    got = shuffled(X, found, 4, np.random.default_rng(5), whole_groups=whole_groups)
    assert got.shape == (2, 4, 3, 16) and got.dtype == torch.float64
    rng = np.random.default_rng(5)
    for draw in range(4):
        train, _ = split(found, rng)
        y, use = probes.shuffled(found.labels, found.use & train, rng, found.groups if whole_groups else None)
        assert (use.sum(1) == train.sum()).all(), "as many as a probe trains on"
        weights = probes.fit(X, y, use, probe_geometry.STRENGTH).weights[0]
        np.testing.assert_allclose(got[:, draw], weights, rtol=1e-4, atol=1e-5)
    real = probe(X, found, np.random.default_rng(5)).directions[0]
    assert got[0].norm(dim=-1).mean() < 0.7 * real.norm(dim=-1).mean(), (
        "labels that tell nothing, small weights"
    )
    assert abs(np.mean([np.diag(cosines(x, directions)) for x in got[0]])) < 0.3


def test_whole_groups_keep_one_label(planted, monkeypatch):
    X, found, _ = planted
    one = probe_set((np.random.default_rng(0).random((3, GROUPS)) < 0.5)[:, found.groups], found.groups)
    given = []
    fit = probes.fit
    monkeypatch.setattr(
        probes, "fit", lambda X, y, use, *rest: given.append((y, use)) or fit(X, y, use, *rest)
    )
    for whole, mixed in ((True, 0), (False, 10)):
        shuffled(X, one, 2, np.random.default_rng(0), whole_groups=whole)
        y, use = (part.reshape(-1, GROUPS, EACH) for part in given.pop())
        used = use.all(-1)
        inside = y.any(-1) & ~y.all(-1) & used
        assert used.any() and (inside.sum() == 0 if whole else inside.sum() > mixed)


@pytest.mark.parametrize("cached", [False, True])
def test_items_are_the_largest_of_hugging_faces_activations(folder, model, names, tmp_path, cached):
    got = items(model, names, [1, 0], tmp_path, cached=cached)
    hf, _ = neox.load_pretrained(folder)
    seen = {}
    for layer, block in enumerate(hf.gpt_neox.layers):
        block.mlp.act.register_forward_hook(lambda _, __, out, layer=layer: seen.update({layer: out}))
    with torch.no_grad():
        hf(torch.from_numpy(names.ids), attention_mask=torch.from_numpy(names.mask).long())
    assert got.shape == (2, 12, model.d_mlp) and got.dtype == np.float32
    assert np.bincount(names.owner).max() > 1
    for rows, layer in zip(got, (1, 0), strict=True):
        for item in range(12):
            places = names.indices[names.owner == item]
            expected = seen[layer][tuple(places.T)].amax(0)
            np.testing.assert_allclose(rows[item], expected, atol=2e-5)
    assert any(tmp_path.iterdir()) == cached


def test_a_layer_that_is_not_there_is_refused(model, names):
    with pytest.raises(ModelError, match=r"layer is 2; .* has layers 0 to 1"):
        items(model, names, [0, 2])


def documents():
    """Eight works of one letter each, which no other has; a special token in every line."""
    return [
        Document(
            "english", letter * 3, "".join(f"{letter} {letter.upper()}{i}.<|endoftext|>\n" for i in range(60))
        )
        for letter in "abcdefgh"
    ]


def texts(model, seed=0, **change):
    settings = dict(maximum=400, at_least=5, groups_at_least=2)
    return text_set(model, documents(), np.random.default_rng(seed), 10, 32, **settings | change)


def test_text_features_in_passages_whose_works_are_the_groups(model):
    found, dropped = texts(model)
    assert found.ids.shape == (10, 32) and len(np.unique(found.ids, axis=0)) == 10, "no passage twice"
    tokens = np.array(language_model.decoded(model, torch.from_numpy(found.ids)), object)
    at = tokens[tuple(found.indices.T)]
    for place, work in zip(found.indices[:, 0], found.groups, strict=True):
        letters = {c.lower() for token in tokens[place][found.ids[place] != 0] for c in token if c.isalpha()}
        assert letters == {work[0]}
    assert len(set(found.groups)) > 3
    assert {"contains_capital", "contains_digit"} <= set(found.features) and "is_not_ascii" in dropped
    for feature, labels in zip(found.features, found.labels, strict=True):
        assert labels.tolist() == [FEATURES[feature](token) for token in at]
    assert (found.ids[found.mask] == 0).any() and not (found.ids[tuple(found.indices.T)] == 0).any()


def test_passages_are_drawn_at_random_by_the_generator_alone(model):
    first, again, other = (texts(model, seed)[0] for seed in (0, 0, 1))
    assert (first.ids == again.ids).all() and (first.labels == again.labels).all()
    assert not np.array_equal(first.ids, other.ids)
    dropped, more = (set(texts(model, at_least=least)[1]) for least in (5, 55))
    assert more > dropped, "settings go on to the sample"


def test_no_text_is_one_clear_line(model):
    for given in ([], [Document("english", "w", "")]):
        with pytest.raises(ValueError, match="no documents with text to draw passages from"):
            text_set(model, given, np.random.default_rng(0), 10)


def test_random_weights_are_probed_as_the_model_is(folder, model, names, monkeypatch):
    seen = []
    monkeypatch.setattr(
        probe_geometry, "items", lambda *given, **how: seen.append(given) or items(*given, **how)
    )
    other = replace(names, labels=~names.labels)
    sets = {"one": names, "other": other, "one again": names}
    got = random_weights(str(folder), sets, [0, 1], [4, 9], np.random.default_rng(0))
    assert list(got) == list(sets) and len(seen) == 4, "each of two models harvests each of two sets once"
    rng = np.random.default_rng(0)
    for draw, seed in enumerate((4, 9)):
        drawn = language_model.load(str(folder), random=seed)
        with matrix_products("bfloat16"):
            X = items(drawn, names, [0, 1], cached=False)
        exact = items(drawn, names, [0, 1], cached=False)
        assert abs(X - exact).max() < 0.02 * abs(exact).max()
        assert not np.allclose(X, items(model, names, [0, 1], cached=False), atol=0.1 * abs(X).max())
        for key, found in sets.items():
            directions, auc = got[key]
            assert directions.shape == (2, 2, 2, model.d_mlp) and auc.shape == (2, 2, 2)
            expected = probe(X, found, rng, bootstrap=0)
            torch.testing.assert_close(directions[:, draw], expected.directions, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(auc[:, draw], expected.auc)
    assert not torch.allclose(got["one"][0][:, 0], got["one"][0][:, 1])
