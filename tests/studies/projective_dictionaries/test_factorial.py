"""The factorial comparison in miniature: what must be equal is, what can't be worse isn't."""

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA

from lib.common.metrics import fvu
from lib.dictionaries import coding
from lib.dictionaries.planted import Planted
from lib.dictionaries.selection import dense
from lib.studies.projective_dictionaries import factorial, methods

NAMES = ("top-k", "tied projection", "ridge", "hybrid", "ReLU + L1, 0.2")


@pytest.fixture(scope="module")
def run():
    rates = dict.fromkeys(NAMES, 3e-3)
    settings = {"seeds": 2, "starts": 2, "steps": 48, "samples": 250, "rates": rates}
    return factorial.planted("hierarchy", NAMES, k=4, **settings)


def of(run, **keys):
    """FVU by seed of one cell of the table of codes."""
    frame = run["codes"]
    for key, value in keys.items():
        frame = frame[frame[key] == value]
    assert frame["seed"].tolist() == [0, 1]
    return frame["fvu"].to_numpy()


def test_the_frames_have_their_columns(run):
    kinds = {"kind", "k", "method", "seed"}
    assert set(run["codes"]) == kinds | {"selection", "coefficients", "fvu", "l0", "negative"}
    assert set(run["curves"]) == kinds | {"step", "fvu", "recovery"}
    wanted = "recovery found genuine splitting stability absorption alone direction children"
    wanted = kinds | set(wanted.split()) | {"used", "dead", "bias", "slope", "slope_ls"}
    assert wanted <= set(run["dictionaries"])
    ridge = run["dictionaries"].query("method == 'ridge'")
    assert ridge[["square", "growth", "ranks", "square, untrained"]].notna().all(axis=None)
    other = run["dictionaries"].query("method == 'top-k'")
    assert other["square"].isna().all() and run["dictionaries"]["stability"].between(0.2, 0.95).all()
    assert len(run["dictionaries"]) == 2 * len(NAMES)
    assert len(run["codes"]) == 2 * len(NAMES) * (3 * 5 + 1)
    assert sorted(set(run["curves"]["step"])) == [2, 4, 12, 24, 48]


def test_least_squares_is_never_worse_on_the_same_support(run):
    for method in NAMES:
        for selection in factorial.SELECTIONS:
            error = {
                how: of(run, method=method, selection=selection, coefficients=how)
                for how in (*factorial.COEFFICIENTS, "least squares, few")
            }
            for how in ("amplitude", "ridge", "NNLS"):
                assert (error["least squares"] <= error[how] + 1e-6).all(), (method, selection, how)
            assert (error["NNLS"] <= error["amplitude"] + 1e-6).all()
            np.testing.assert_allclose(error["least squares, few"], error["least squares"], atol=1e-6)
        omp, threshold = (
            of(run, method=method, selection=s, coefficients="least squares") for s in ("OMP", "threshold")
        )
        assert (omp < threshold).all()


@pytest.mark.parametrize(
    ("method", "how"),
    [
        ("top-k", "amplitude"),
        ("tied projection", "least squares"),
        ("hybrid", "least squares"),
        ("ridge", "ridge"),
    ],
)
def test_a_refit_with_a_model_s_own_coefficients_changes_nothing(run, method, how):
    own = of(run, method=method, selection="own", coefficients="as trained")
    np.testing.assert_allclose(of(run, method=method, selection="own", coefficients=how), own, rtol=1e-4)
    other = "amplitude" if how != "amplitude" else "least squares"
    assert (np.abs(of(run, method=method, selection="own", coefficients=other) - own) > 1e-3).all()


def test_counts(run):
    codes = run["codes"].query("coefficients in ['amplitude', 'least squares', 'NNLS']")
    assert (codes.query("selection != 'own' and method != 'ReLU + L1, 0.2'")["l0"] == 4).all()
    assert (codes.query("selection == 'own' and method == 'ridge'")["l0"] <= 4).all()
    negative = codes.groupby("coefficients")["negative"].max()
    assert negative["NNLS"] == negative["amplitude"] == 0 < negative["least squares"] < 0.7
    l1 = codes.query("method == 'ReLU + L1, 0.2' and selection == 'own'")
    assert (l1["l0"] > 8).all(), "every active latent counts"


def test_curves_fall_and_end_at_the_trained_model(run):
    for method in NAMES:
        curve = run["curves"].query("method == @method").pivot(index="step", columns="seed", values="fvu")
        own = of(run, method=method, selection="own", coefficients="as trained")
        np.testing.assert_allclose(curve.loc[48], own, rtol=1e-4)
        assert (curve.loc[48] < curve.loc[2]).all()
        last = run["curves"].query("method == @method and step == 48")["recovery"]
        np.testing.assert_allclose(
            last, run["dictionaries"].query("method == @method")["recovery"], rtol=1e-5
        )


def test_a_run_is_reproducible():
    settings = {"seeds": 1, "steps": 5, "samples": 50, "rates": {"top-k": 1e-3}, "selections": ("own",)}
    one, other, third = (factorial.planted("coherent", ["top-k"], k=4, seed=s, **settings) for s in (3, 3, 4))
    for key in one:
        pd.testing.assert_frame_equal(one[key], other[key])
    assert one["codes"]["fvu"][0] != third["codes"]["fvu"][0]
    assert "stability" not in one["dictionaries"] and "absorption" not in one["dictionaries"]


def true_model(name="top-k", k=8):
    """A dictionary that knows the features, its targets, and the truth."""
    data = Planted("independent", replicas=2, generator=torch.Generator().manual_seed(0), n=32, d=32, l0=3)
    data.features = torch.linalg.qr(data.features).Q
    x, z = data.sample(300, torch.Generator().manual_seed(1))
    model = methods.build(
        name, d_in=32, d_sae=32, k=k, replicas=2, generator=torch.Generator().manual_seed(2)
    )
    with torch.no_grad():
        for parameter in (model.decoder, *([] if model.encoder is None else [model.encoder])):
            parameter.copy_(data.features)
        model.bias.sub_(0.2)
    return model, x, z, data


def test_the_truth_measures_as_such():
    model, x, z, data = true_model()
    found = factorial.measure(model, x, z=z, features=data.features, parent=data.parent)
    for key in ("recovery", "found", "genuine"):
        torch.testing.assert_close(found[key], torch.ones(2))
    assert (found["slope"] < 0.9).all() and (found["slope"] > 0.7).all(), "the bias shrinks"
    torch.testing.assert_close(found["slope_ls"], torch.ones(2), atol=0.01, rtol=0)
    torch.testing.assert_close(found["bias"], torch.full((2,), 0.2))
    assert (found["used"] == 32).all() and (found["dead"] == 0).all() and "absorption" not in found
    with torch.no_grad():
        model.bias[1, :8] = -99
    found = factorial.measure(model, x, z=z, features=data.features, parent=data.parent)
    assert found["used"].tolist() == [32, 24] and found["dead"].tolist() == [0, 0.25]


def test_codes_of_the_truth():
    model, x, _, _ = true_model()
    table = factorial.code_table(model, x, k=8).set_index(["selection", "coefficients", "replica"])["fvu"]
    error = table.groupby(["selection", "coefficients"]).mean()
    assert error["own", "least squares"] < 0.02 < error["own", "amplitude"]
    assert error["own", "as trained"] == pytest.approx(error["own", "amplitude"], rel=1e-4)
    few = factorial.code_table(model, x, k=8, few=40).set_index(["selection", "coefficients"])["fvu"]
    index = coding.omp(model.decoder.detach(), x[:, :40], k=8)
    beta = coding.nnls(model.decoder.detach(), index, x[:, :40])
    y_hat = dense(index, beta, n=32) @ model.decoder
    np.testing.assert_allclose(few["OMP", "NNLS"], fvu(x[:, :40], y_hat.detach()), rtol=1e-4)
    assert (few["OMP", "least squares, few"].to_numpy() != few["OMP", "least squares"].to_numpy()).all()


def test_tuning_tells_the_rates_apart():
    settings = {"k": 4, "seeds": 2, "steps": 60, "seed": 0}
    table = factorial.tune("independent", ["top-k", "hybrid"], rates=[1e-6, 1e-2], **settings)
    assert table.index.tolist() == ["top-k", "hybrid"]
    np.testing.assert_allclose(table.columns, [1e-6, 1e-2], rtol=1e-5)
    assert (table.iloc[:, 1] < table.iloc[:, 0] - 0.02).all()
    flipped = factorial.tune("independent", ["top-k", "hybrid"], rates=[1e-2, 1e-6], **settings)
    np.testing.assert_allclose(flipped.columns, [1e-2, 1e-6], rtol=1e-5)
    assert (flipped.iloc[:, 0] < flipped.iloc[:, 1] - 0.02).all()


def test_baselines():
    frame = factorial.baselines("independent", k=4, seeds=1, samples=150, train=300).set_index("method")
    true, random = frame.loc["true dictionary, OMP"], frame.loc["random dictionary, OMP"]
    assert true["fvu"] < random["fvu"] - 0.1 and true["recovery"] == pytest.approx(1) and true["found"] == 1
    assert random["recovery"] < 0.6
    g = torch.Generator().manual_seed(17)
    data = Planted("independent", replicas=1, generator=g)
    x, y = (data.sample(n, g)[0][0].numpy() for n in (150, 300))
    pca = PCA(4).fit(y)
    left = x - pca.inverse_transform(pca.transform(x))
    wanted = (left**2).sum() / ((x - x.mean(0)) ** 2).sum()
    assert frame.loc["PCA, 4 components", "fvu"] == pytest.approx(wanted, rel=1e-3)
    assert frame.loc["MOD, OMP", "fvu"] < 1 and set(frame["seed"]) == {0}


def test_every_rate_is_tried_on_every_seed_s_data(monkeypatch):
    seen = {}

    def fit(models, stream, *, lr, **settings):
        seen.update(x=next(stream), lr=lr["top-k"])

    monkeypatch.setattr(factorial, "fit", fit)
    factorial.tune("independent", ["top-k"], k=4, rates=[1e-3, 1e-2, 0.1], seeds=2, steps=1, seed=0)
    for rate in (1e-3, 1e-2, 0.1):
        x = seen["x"][seen["lr"] == rate]
        assert len(x) == 2 and not torch.equal(x[0], x[1])
    assert torch.equal(seen["x"][0], seen["x"][2]) and not torch.equal(seen["x"][0], seen["x"][3])


def test_growth_is_of_the_last_half(monkeypatch):
    monkeypatch.setattr(factorial.importance, "mean_square", lambda model, x: torch.full((1,), 4.0))
    run = factorial.planted("clusters", ["ridge"], k=4, seeds=1, steps=4, samples=50, rates={"ridge": 1e-3})
    row = run["dictionaries"].iloc[0]
    assert row["growth"] == pytest.approx(row["square"] / 4)
    assert row["square"] != row["square, untrained"]


@pytest.mark.parametrize("name", ["tied projection", "OMP projection"])
def test_amplitudes_of_a_projection_are_its_scores(name):
    model, x, _, _ = true_model(name)
    table = factorial.code_table(model, x, k=8, selections=("own",)).set_index("coefficients")["fvu"]
    index = model.eval().select(model.prepare(x)[0]).index
    scores = (x @ model.decoder.mT + model.bias[:, None]).relu()
    assert (scores.gather(2, index) == 0).any()
    y_hat = dense(index, scores.gather(2, index), n=32) @ model.decoder
    np.testing.assert_allclose(table["amplitude"], fvu(x, y_hat).detach(), rtol=1e-4)
