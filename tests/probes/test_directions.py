"""Probes of planted directions, against scikit-learn and Hugging Face's activations; splits that nothing crosses."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from helpers import small_neox
from helpers.small_items import EACH, GROUPS, labelled, planted_directions
from lib.common.precision import matrix_products
from lib.language import model as language_model
from lib.language.loading import ModelError
from lib.neox import model as neox
from lib.probes import directions as probe_directions
from lib.probes import fit
from lib.probes.directions import item_activations, probe, random_weights, shuffled, split
from lib.probes.items import LabelledItems


@pytest.fixture(scope="module")
def planted():
    return planted_directions()


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
    tokens = dict(name="names", texts=(), ids=ids, mask=mask, indices=indices, owner=indices[:, 0])
    groups = np.arange(12) // 2
    return LabelledItems(**tokens, features=("a", "b"), labels=labels, use=labels | True, groups=groups)


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
    found = labelled(found.labels, found.groups, use=use)
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
    found = labelled((rng.random((4, 60)) < 0.5)[:, groups], groups)
    got = probe(X, found, np.random.default_rng(0))
    assert 0.2 < got.auc.mean() < 0.8 and (got.high - got.low).min() > 0.2


def test_a_split_keeps_groups_whole_and_both_classes_on_both_sides():
    groups = np.repeat(np.arange(12), 3)
    labels = np.stack([np.isin(groups, (2, 7)), groups % 2 == 0])
    found = labelled(labels, groups)
    for seed in range(20):
        train, test = split(found, np.random.default_rng(seed))
        assert (train != test).all() and not set(groups[train]) & set(groups[test])
        for side in (train, test):
            assert (labels[:, side].any(1) & ~labels[:, side].all(1)).all()
    # A feature's classes are those of the items that it uses.
    use = np.stack([~np.isin(groups, (7,)) | (np.arange(36) % 3 == 0), labels[1] | True])
    for seed in range(5):
        for side in split(labelled(labels, groups, use=use), np.random.default_rng(seed)):
            assert (labels[0] & use[0] & side).any()


def test_a_feature_of_one_group_is_refused_by_name():
    groups = np.repeat(np.arange(8), 2)
    found = labelled(np.stack([groups % 2 == 0, groups == 5]), groups, name="mine")
    for refused in (
        lambda rng: split(found, rng),
        lambda rng: probe(np.zeros((1, 16, 4)), found, rng),
        lambda rng: shuffled(np.zeros((1, 16, 4)), found, rng, draws=2),
    ):
        with pytest.raises(
            ValueError, match=r"mine: no split by groups gives .* both classes on both"
        ) as error:
            refused(np.random.default_rng(0))
        assert "\n" not in str(error.value) and "give more groups" in str(error.value)


@pytest.mark.parametrize("whole_groups", [False, True])
def test_shuffled_directions_are_of_shuffled_labels_in_the_order_of_draws(planted, whole_groups):
    X, found, directions = planted
    got = shuffled(X, found, np.random.default_rng(5), draws=4, whole_groups=whole_groups)
    assert got.shape == (2, 4, 3, 16) and got.dtype == torch.float64
    rng = np.random.default_rng(5)
    for draw in range(4):
        train, _ = split(found, rng)
        kept = found.groups if whole_groups else None
        y, use = fit.shuffled(found.labels, found.use & train, rng, groups=kept)
        assert (use.sum(1) == train.sum()).all(), "as many as a probe trains on"
        weights = fit.fit(X, y, use, strengths=probe_directions.STRENGTH).weights[0]
        np.testing.assert_allclose(got[:, draw], weights, rtol=1e-4, atol=1e-5)
    real = probe(X, found, np.random.default_rng(5)).directions[0]
    assert got[0].norm(dim=-1).mean() < 0.7 * real.norm(dim=-1).mean(), (
        "labels that tell nothing, small weights"
    )
    assert abs(np.mean([np.diag(cosines(x, directions)) for x in got[0]])) < 0.3


def test_whole_groups_keep_one_label(planted, monkeypatch):
    X, found, _ = planted
    one = labelled((np.random.default_rng(0).random((3, GROUPS)) < 0.5)[:, found.groups], found.groups)
    given, plain = [], fit.fit

    def spied(X, y, use, **settings):
        given.append((y, use))
        return plain(X, y, use, **settings)

    monkeypatch.setattr(fit, "fit", spied)
    for whole, mixed in ((True, 0), (False, 10)):
        shuffled(X, one, np.random.default_rng(0), draws=2, whole_groups=whole)
        y, use = (part.reshape(-1, GROUPS, EACH) for part in given.pop())
        used = use.all(-1)
        inside = y.any(-1) & ~y.all(-1) & used
        assert used.any() and (inside.sum() == 0 if whole else inside.sum() > mixed)


@pytest.mark.parametrize("cached", [False, True])
def test_items_are_the_largest_of_hugging_faces_activations(folder, model, names, tmp_path, cached):
    got = item_activations(model, names, [1, 0], folder=tmp_path, cached=cached)
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
        item_activations(model, names, [0, 2])


def test_random_weights_are_probed_as_the_model_is(folder, model, names, monkeypatch):
    seen = []

    def spied(*given, **how):
        seen.append(given)
        return item_activations(*given, **how)

    monkeypatch.setattr(probe_directions, "item_activations", spied)
    other = replace(names, labels=~names.labels)
    sets = {"one": names, "other": other, "one again": names}
    got = random_weights(str(folder), sets, [0, 1], seeds=[4, 9], rng=np.random.default_rng(0))
    assert list(got) == list(sets) and len(seen) == 4, "each of two models harvests each of two sets once"
    rng = np.random.default_rng(0)
    for draw, seed in enumerate((4, 9)):
        drawn = language_model.load(str(folder), random=seed)
        with matrix_products("bfloat16"):
            X = item_activations(drawn, names, [0, 1], cached=False)
        exact = item_activations(drawn, names, [0, 1], cached=False)
        assert abs(X - exact).max() < 0.02 * abs(exact).max()
        assert not np.allclose(
            X, item_activations(model, names, [0, 1], cached=False), atol=0.1 * abs(X).max()
        )
        for key, found in sets.items():
            directions, auc = got[key]
            assert directions.shape == (2, 2, 2, model.d_mlp) and auc.shape == (2, 2, 2)
            expected = probe(X, found, rng, bootstrap=0)
            torch.testing.assert_close(directions[:, draw], expected.directions, rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(auc[:, draw], expected.auc)
    assert not torch.allclose(got["one"][0][:, 0], got["one"][0][:, 1])
