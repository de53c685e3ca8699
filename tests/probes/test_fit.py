"""Probes are scikit-learn's, found at once; their AUC, intervals, splits and controls are what they say."""

import warnings

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from lib.probes import fit as fit_module
from lib.probes import logistic
from lib.probes.fit import auc, class_means, fit, scores, shuffled, split


def problem(seed=0, n=400, d=30, features=3, layers=2, used=0.8, noise=0.7):
    """Activations as a model's: a falling spectrum, a mean, one outlying dimension; labels from noisy directions."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((layers, n, d)) / np.sqrt(np.arange(1, d + 1))
    X = X @ np.linalg.qr(rng.standard_normal((d, d)))[0] + rng.standard_normal(d)
    X[:, :, 3] *= 10
    logits = X[0] @ rng.standard_normal((d, features))
    logits = (logits - logits.mean(0)) / logits.std(0) + noise * rng.standard_normal((n, features))
    return X, (logits > [1, 0.5, 0][:features]).T, rng.random((features, n)) < used


def sklearn(X, y, use, C, solver="newton-cholesky", tol=1e-12):
    """The loop: coefficients `(layers, features, d)` and intercepts."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = LogisticRegression(C=C, class_weight="balanced", solver=solver, tol=tol, max_iter=10_000)
        fitted = [
            [
                (m.coef_[0], m.intercept_[0])
                for v, u in zip(y, use, strict=True)
                if (m := model.fit(x[u], v[u]))
            ]
            for x in X
        ]
    return (np.array([[pair[i] for pair in layer] for layer in fitted]) for i in (0, 1))


def cosine(a, b):
    return (a * b).sum(-1) / np.linalg.norm(a, axis=-1) / np.linalg.norm(b, axis=-1)


@pytest.mark.parametrize("d", [30, 500], ids=["n > d", "n < d"])
def test_equal_to_scikit_learn_in_float64(d):
    X, y, use = problem(d=d)
    strengths = [1e-3, 1.0, 100.0]
    found = fit(X, y, use, strengths=strengths, tol=1e-10)
    assert found.weights.shape == (3, 2, 3, d) and found.bias.shape == (3, 2, 3)
    assert found.weights.dtype == np.float64 and found.converged.all()
    for i, C in enumerate(strengths):
        w, b = sklearn(X, y, use, C)
        np.testing.assert_allclose(found.weights[i], w, rtol=0, atol=1e-7 * np.abs(w).max())
        np.testing.assert_allclose(found.bias[i], b, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_close_to_scikit_learn_in_half_and_single_precision(dtype):
    X, y, use = problem(d=60)
    found = fit(X.astype(dtype), y, use, strengths=[0.1, 10.0])
    assert found.weights.dtype == np.float32 and found.converged.all()
    for i, C in enumerate((0.1, 10.0)):
        w, b = sklearn(X.astype(dtype).astype(np.float64), y, use, C, "lbfgs", 1e-8)
        assert cosine(found.weights[i], w).min() > 0.99999
        np.testing.assert_allclose(found.bias[i], b, rtol=1e-3, atol=1e-3)


def test_separable_classes_and_an_outlying_mean():
    X, y, use = problem(noise=0.0)
    X += 50.0
    found = fit(X, y, use, strengths=1e4, tol=1e-9)
    assert ((scores(found, X)[0, 0] > 0) == y).mean() > 0.99 and found.converged.all()
    assert cosine(found.weights[0], next(sklearn(X, y, use, 1e4))).min() > 1 - 1e-9


def test_the_gradient_of_the_written_objective_vanishes_and_is_what_is_reported():
    X, y, use = problem()
    C = 3.0
    for tol, near in ((1e-10, True), (0.3, False)):
        found = fit(X, y, use, strengths=C, tol=tol)
        for layer, feature in np.ndindex(2, 3):
            u = use[feature]
            x, t = torch.from_numpy(X[layer, u]), torch.from_numpy(np.where(y[feature, u], 1.0, -1.0))
            a = torch.where(
                t > 0, len(t) / (2 * (t > 0).sum().double()), len(t) / (2 * (t < 0).sum().double())
            )
            w = torch.from_numpy(found.weights[0, layer, feature]).requires_grad_()
            b = torch.tensor(found.bias[0, layer, feature]).requires_grad_()
            losses = torch.log1p(torch.exp(-t * (x @ w + b)))
            objective = (w @ w / 2 + C * (a * losses).sum()) / (C * len(t))
            norm = torch.cat([g.reshape(-1) for g in torch.autograd.grad(objective, (w, b))]).norm()
            assert (norm < 1e-10) == near
            assert found.gradient_norm[0, layer, feature] == pytest.approx(float(norm), rel=1e-4, abs=1e-12)


def test_tol_is_the_relative_error_and_steps_a_bound():
    X, y, use = problem(d=60)
    exact = fit(X, y, use, strengths=[1.0, 1e3], tol=1e-12).weights
    for tol in (1e-2, 1e-4, 1e-6):
        found = fit(X, y, use, strengths=[1.0, 1e3], tol=tol)
        error = np.linalg.norm(found.weights - exact, axis=-1) / np.linalg.norm(exact, axis=-1)
        assert found.converged.all() and error.max() < 3 * tol
    short = fit(X, y, use, strengths=1e3, steps=2)
    assert not short.converged.any() and (short.iterations < found.iterations[1]).all()


def test_iterations_do_not_grow_with_the_condition_of_the_activations():
    """The change of basis: on raw activations lbfgs takes thousands."""
    X, y, _ = problem(n=600, d=40, layers=1, noise=2.0)
    X = X * np.logspace(2, -2, 40)
    found = fit(X, y, None, strengths=1.0)
    assert found.converged.all() and found.iterations.max() < 80
    assert cosine(found.weights[0], next(sklearn(X, y, np.ones_like(y), 1.0))).min() > 1 - 1e-9


def test_rounding_that_lets_it_get_no_further_ends_it():
    X, y, use = problem()
    found = fit(X.astype(np.float32), y, use, strengths=1.0, tol=1e-12)
    assert not found.converged.any() and found.iterations.max() < 300
    assert cosine(found.weights[0], next(sklearn(X, y, use, 1.0))).min() > 0.99999


def test_samples_that_a_feature_does_not_use_do_not_count():
    X, y, use = problem()
    before = fit(X, y, use, strengths=1.0)
    rng = np.random.default_rng(1)
    flipped = np.where(use, y, rng.random(y.shape) < 0.5)
    np.testing.assert_allclose(
        fit(X, flipped, use, strengths=1.0).weights, before.weights, rtol=1e-5, atol=1e-7
    )
    unused = np.pad(use, ((0, 0), (0, 50)))
    more = np.concatenate([X, np.full((2, 50, 30), np.nan)], axis=1)
    np.testing.assert_array_equal(
        fit(more, np.pad(y, ((0, 0), (0, 50))), unused, strengths=1.0).weights, before.weights
    )


def test_layers_may_be_memory_maps_and_problems_solved_in_parts(tmp_path, monkeypatch):
    X, y, use = problem(n=900)
    for layer, x in enumerate(X):
        np.save(tmp_path / f"{layer}.npy", x.astype(np.float16))
    maps = [np.load(tmp_path / f"{layer}.npy", mmap_mode="r") for layer in range(2)]
    whole = fit(X.astype(np.float16).astype(np.float32), y, use, strengths=[0.1, 10.0])
    monkeypatch.setattr(fit_module, "_NUMBERS", 2 * 900)
    monkeypatch.setattr(fit_module, "_ROWS", 128)
    monkeypatch.setattr(logistic, "_ROWS", 128)
    parts = fit(maps, y, use, strengths=[0.1, 10.0])
    np.testing.assert_allclose(parts.weights, whole.weights, rtol=0, atol=2e-4 * np.abs(whole.weights).max())
    expected = np.einsum("slfd,lnd->slfn", whole.weights, X) + whole.bias[..., None]
    np.testing.assert_allclose(scores(parts, maps), expected, rtol=0, atol=2e-2)
    assert cosine(class_means(maps, y, use), class_means(X, y, use)).min() > 0.99999


def test_one_hot_labels_are_one_against_the_rest():
    X, _, _ = problem()
    sport = np.random.default_rng(0).integers(5, size=X.shape[1])
    y = sport == np.arange(5)[:, None]
    w, _ = sklearn(X, y, np.ones_like(y), 1.0)
    np.testing.assert_allclose(fit(X, y, tol=1e-9).weights[0], w, rtol=0, atol=1e-6)


def test_class_means_are_differences_of_means():
    X, y, use = problem()
    found = class_means(X, y, use)
    for layer, f in np.ndindex(2, 3):
        up, down = X[layer, y[f] & use[f]], X[layer, ~y[f] & use[f]]
        np.testing.assert_allclose(found[layer, f], up.mean(0) - down.mean(0), rtol=1e-10, atol=1e-12)


def test_strong_regularisation_points_along_the_class_means():
    """As C falls to 0, w / C tends to a multiple of the difference of means: all p are a half there."""
    X, y, use = problem()
    w = fit(X, y, use, strengths=1e-9).weights[0]
    assert cosine(w, class_means(X, y, use)).min() > 1 - 1e-6


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            lambda p: p | {"y": p["y"] & np.array([[1], [0], [1]], bool)},
            "feature b has one class: 0 of its 3",
        ),
        (lambda p: p | {"use": p["use"] & p["y"]}, "feature a has one class"),
        (
            lambda p: p | {"X": np.where(np.arange(30) == 7, np.nan, p["X"])},
            "layer 0: the activations are not fin",
        ),
        (
            lambda p: p | {"X": [p["X"][0], np.where(p["X"][0] > 2, np.inf, 0)]},
            "layer 1: the activations are not",
        ),
        (
            lambda p: p | {"X": p["X"][:, :-1]},
            r"activations are \[\(399, 30\), \(399, 30\)\] and labels \(3, 400\)",
        ),
        (lambda p: p | {"X": p["X"][0]}, "must be .n, d. and .features, n."),
        (lambda p: p | {"X": []}, r"activations are \[\]"),
        (lambda p: p | {"use": p["use"][:2]}, r"use bool \(2, 400\)"),
        (lambda p: p | {"y": p["y"].astype(int)}, "y is int64"),
        (lambda p: p | {"strengths": [1.0, 0.0]}, "must be finite and above 0"),
        (lambda p: p | {"strengths": np.inf}, "must be finite and above 0"),
    ],
)
def test_bad_input_is_one_clear_line(change, said):
    X, y, use = problem()
    with pytest.raises(ValueError, match=said) as error:
        fit(**change(dict(X=X, y=y, use=use, strengths=1.0)), names=list("abc"))
    assert "\n" not in str(error.value)


def test_scores_need_the_layers_of_the_probes():
    X, y, use = problem()
    with pytest.raises(
        ValueError, match=r"of layers and dimensions \(2, 30\), the activations are \[\(400, 30\)\]"
    ):
        scores(fit(X, y, use), X[:1])


def test_auc_is_scikit_learns_with_ties_and_for_every_probe():
    _, y, use = problem()
    rng = np.random.default_rng(0)
    s = rng.standard_normal((2, 2, *y.shape)) + y
    s[1] = s[1].round()  # many ties
    found = auc(s, y, use, rng=rng, draws=50)
    assert found.value.shape == found.low.shape == (2, 2, 3)
    for i, layer, f in np.ndindex(2, 2, 3):
        expected = roc_auc_score(y[f, use[f]], s[i, layer, f, use[f]])
        assert found.value[i, layer, f] == pytest.approx(expected, abs=1e-12)
    assert (found.low < found.value).all() and (found.value < found.high).all()
    none = auc(s, y, use, rng=rng, draws=0)
    assert (none.value == found.value).all() and np.isnan(none.low).all() and np.isnan(none.high).all()


def test_draws_are_of_whole_groups():
    """Every column of weights gives scikit-learn's AUC of the samples drawn, each as often as its group."""
    rng = np.random.default_rng(0)
    groups, y = np.repeat(np.arange(20), 5), rng.random(100) < 0.4
    s = (rng.standard_normal(100) + y).round(1)
    weight = rng.multinomial(20, np.full(20, 0.05), size=30).T[groups]
    drawn = fit_module._auc(s, y, weight)
    for i in range(30):
        again = np.repeat(np.arange(100), weight[:, i])
        assert drawn[i] == pytest.approx(roc_auc_score(y[again], s[again]), abs=1e-12)


def test_intervals_cover_and_are_wider_where_samples_come_in_groups():
    """Samples of a group share their score: 1,000 samples in 50 groups are worth 50, and covered as 50 are."""
    true, covered, width = 0.7602, [], []  # P(N(1, 1) > N(0, 1)) = Phi(1 / sqrt 2)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        label = np.arange(50) < 25
        s, y, groups = (np.repeat(v, 20) for v in (rng.standard_normal(50) + label, label, np.arange(50)))
        by_group = auc(s[None], y[None], groups=groups, rng=rng, draws=200)
        by_sample = auc(s[None], y[None], rng=rng, draws=200)
        covered.append([a.low[0] <= true <= a.high[0] for a in (by_group, by_sample)])
        width.append([a.high[0] - a.low[0] for a in (by_group, by_sample)])
    grouped, single = np.mean(covered, axis=0)
    assert grouped > 0.85 and single < 0.6
    assert np.divide(*np.mean(width, axis=0)) == pytest.approx(20**0.5, rel=0.15)


def test_auc_refuses_what_has_no_interval():
    s, y, rng = (
        np.zeros((1, 6)),
        np.array([[True, True, False, False, True, False]]),
        np.random.default_rng(0),
    )
    with pytest.raises(ValueError, match="feature x has samples of 1 group"):
        auc(s, y, groups=np.zeros(6), rng=rng, names=["x"])
    with pytest.raises(ValueError, match="feature x has one class: 3 of its 3"):
        auc(s, y, use=y, rng=rng, names=["x"])
    with pytest.raises(ValueError, match=r"scores are \(1, 5\)"):
        auc(s[:, 1:], y, rng=rng)


def test_splits_keep_groups_together():
    groups = np.random.default_rng(0).integers(50, size=1000)
    train, test = split(groups, np.random.default_rng(1))
    assert (train ^ test).all() and not set(groups[train]) & set(groups[test])
    assert len(set(groups[test])) == 10
    other = split(groups, np.random.default_rng(2))[1]
    assert (split(groups, np.random.default_rng(1))[1] == test).all() and (other != test).any()
    names = np.array(["Ann", "Bob", "Cy"])[groups % 3]
    train, test = split(names, np.random.default_rng(0), test=0.3)
    assert len(set(names[test])) == 1 and set(names[train]) | set(names[test]) == set(names)
    for bad in (dict(test=1.0), dict(groups=np.zeros(9))):
        with pytest.raises(ValueError, match="between 0 and 1"):
            split(**(dict(groups=groups, rng=np.random.default_rng(0)) | bad))


def test_shuffled_labels_keep_all_but_the_activations():
    X, y, use = problem(n=1500, used=0.9)
    use[:, :100] = False
    rng = np.random.default_rng(0)
    y_s, use_s = shuffled(y, use, rng)
    assert not use_s[:, :100].any() and (y_s[:, :100] == y[:, :100]).all()
    assert (use_s.sum(1) == use.sum(1)).all() and ((y_s & use_s).sum(1) == (y & use).sum(1)).all()
    joint = lambda y, use: (y & use).astype(int) @ (y & use).T  # noqa: E731
    assert (joint(y_s, use_s) == joint(y, use)).all(), "features stay as correlated as they were"
    assert 0.4 < (y_s == y).mean() < 0.75
    train, test = split(np.arange(1500), rng, test=0.5)
    for labels, mask, low, high in ((y, use, 0.7, 1.0), (y_s, use_s, 0.43, 0.57)):
        probe = fit(X, labels, mask & train, strengths=0.1)
        value = auc(scores(probe, X), labels, mask & test, rng=rng, draws=10).value[0, 0]
        assert (low < value).all() and (value < high).all()


def test_shuffled_groups_stay_together():
    groups = np.random.default_rng(0).permutation(np.repeat(np.arange(30), 4))
    y = (groups % 5) == np.arange(5)[:, None]
    new, use = shuffled(y, None, np.random.default_rng(1), groups=groups)
    assert use.all() and (new.sum(0) == 1).all() and (new != y).any()
    for group in range(30):
        assert len(np.unique(new[:, groups == group], axis=1).T) == 1
    with pytest.raises(ValueError, match="groups have 3 to 4 used samples"):
        shuffled(y[:, 1:], None, np.random.default_rng(1), groups=groups[1:])
