"""Each figure is drawn from the columns that its axes name, and its text has the numbers of what it shows."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from helpers import mnist_rules
from helpers.mnist_rules import DATA, KEPT, NOISE, Plain
from helpers.plain import draw
from lib.networks.training import Trained
from lib.studies.mnist_superposition import evaluation, figures
from lib.studies.mnist_superposition.denoising import noise2self


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture(scope="module")
def t():
    return mnist_rules.tables()


@pytest.fixture(scope="module")
def units(t):
    return Plain.all(t)


def means(ax, names=None):
    """The diamonds of `intervals`: the mean of each row, by the row's name (of axes that share it, as given)."""
    names = names or [label.get_text() for label in ax.get_yticklabels()]
    return dict(zip(names, (bars.lines[0].get_xdata()[0] for bars in ax.containers), strict=False))


def mean(units, which, rule):
    return np.mean([rule(units[i]) for i in which])


def test_classifiers(t, units):
    curves = pd.DataFrame({0: [0.1, 0.5, 0.9], 1: [0.2, 0.6, 0.8]}, index=[0, 10, 100])
    fig, caption, alt = figures.classifiers(t.classifiers, {"as coded": curves, "repaired": curves / 2})
    for line, expected in zip(fig.axes[0].lines, ([10, 50, 90], [20, 60, 80]), strict=False):
        assert line.get_ydata() == pytest.approx(expected)
    assert fig.axes[0].lines[0].get_xdata().tolist() == [1, 10, 100]
    for ax, column in zip(fig.axes[1:], ("accuracy", "missing", "dead"), strict=True):
        assert means(ax) == pytest.approx(
            {
                label: mean(units, range(5), lambda u, column=column, arm=arm: u.arm(column, arm))
                for label, arm in (("as\ncoded", "as coded"), ("re-\npaired", "repaired"))
            }
        )
    coded = mean(units, range(5), lambda u: u.arm("missing", "as coded"))
    assert f"{coded:.1f} digits never predicted" in alt and "checkpoints" in caption


def test_bottleneck(t):
    z, labels = draw(40, 3), torch.arange(40) % 10
    fig, _, alt = figures.bottleneck(z, labels, t.probes)
    assert len(fig.axes[0].texts) == 10
    lines = {line.get_label(): line.get_ydata() for line in fig.axes[1].lines}
    for encoder in ("trained", "untrained"):
        part = t.probes[t.probes["encoder"] == encoder]
        for digit in range(10):
            expected = part[part["digit"] == digit]["auc"].mean()
            assert lines[encoder][digit] == pytest.approx(expected)
        assert f"{part['auc'].mean():.2f} for {encoder}" in alt


def test_toy_model(t):
    fig, _, alt = figures.toy_model(t.toy)
    dots = [line.get_ydata() for line in fig.axes[0].lines[:4]]
    for i, values in enumerate(dots):
        np.testing.assert_array_equal(values, t.toy.dimensionality[:, i].ravel())
    median = np.mean([np.median(seed[2]) for seed in t.toy.dimensionality])  # at 1 / (1 - S) = 5.5
    assert alt.endswith(f"is {median:.2f}")


def test_losses():
    """Inner models have two replicas for each of three outer models, replicas of one beside each other."""
    outer = {
        arm: Trained(torch.nn.Identity(), [1, 2], torch.ones(2, 5) * i)
        for i, arm in enumerate(figures.ARM_COLOURS, 1)
    }
    loss = torch.tensor([[1.0, 3, 10, 20, 0, 2], [1, 1, 3, 3, 8, 8]])
    fig, _, alt = figures.losses(outer, {"SAE": Trained(torch.nn.Identity(), [5, 9], loss)}, kept=3)
    (band,) = fig.axes[1].collections
    assert fig.axes[1].lines[0].get_ydata() == pytest.approx([6, 4])
    assert set(np.round(band.get_paths()[0].vertices[:, 1], 5)) == {
        1,
        8,
        15,
    }  # the least and the largest outer model
    assert "1 inner models that end at SAE 4" in alt


def test_kernel():
    K = draw(12, 10).softmax(0)
    fig, *_ = figures.kernel(K)
    panels = [ax.images[0].get_array() for ax in fig.axes if ax.images][:3]
    np.testing.assert_allclose(panels[0], K)
    np.testing.assert_allclose(panels[1], K.T @ K)
    assert np.diag(panels[2]).max() == 0
    np.testing.assert_allclose(panels[2].sum(0), 1)


def test_denoising():
    clean = torch.rand(60, 784, generator=torch.Generator().manual_seed(0))
    runs = [noise2self(clean, sigma=0.4, ks=[1, 3, 9], seed=seed) for seed in range(2)]
    fig, _, alt = figures.denoising(runs, clean, first=[7, 1, 2, 3, 4, 5])
    lines = fig.axes[0].lines
    np.testing.assert_allclose(lines[0].get_ydata(), runs[0].curve["self"] - 0.16)
    np.testing.assert_allclose(lines[1].get_ydata(), runs[0].curve["clean"])
    pictures = [ax.images[0].get_array() for ax in fig.axes[1:]]
    assert len(pictures) == 15
    for at, shown in ((0, clean), (5, runs[0].noisy), (10, runs[0].denoised)):
        np.testing.assert_array_equal(pictures[at].ravel(), shown[7])
    assert f"chooses {sorted({run.chosen for run in runs})}" in alt


def test_leak(t, units):
    fig, _, alt = figures.leak(t.models, t.gaussians)
    names = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert names == [*figures.DIFFUSING, "k-means"]
    for ax, column in zip(fig.axes, ("leak", "r2", "hard_fvu"), strict=False):
        shown = names if column == "hard_fvu" else names[:-1]
        expected = {
            name: mean(units, KEPT, lambda u, name=name, column=column: u.model(column, name))
            for name in shown
        }
        assert means(ax, names) == pytest.approx(expected)
    expected = {name: mean(units, NOISE, lambda u, name=name: u.noise("fvu", name)) for name in names[:-1]}
    assert means(fig.axes[3], names) == pytest.approx(expected)
    assert f"DeePWAK: {mean(units, KEPT, lambda u: u.model('leak', 'DeePWAK')):.2f}, " in alt


def test_sparsity_and_splits(t, units):
    fig, _, alt = figures.sparsity_and_splits(t.models)
    for ax, column in zip(fig.axes, ("hoyer", "split_rank", "bisemantic"), strict=True):
        for name, got in means(ax).items():
            model = evaluation.PREDICTION if name == "confusion" else name
            expected = mean(units, KEPT, lambda u, model=model, column=column: u.model(column, model))
            assert got == pytest.approx(expected), name
    assert "confusion" in means(fig.axes[1])
    assert f"k-means {mean(units, KEPT, lambda u: u.model('bisemantic', 'k-means')):.2f}" in alt


def test_similarity(t, units):
    fig, _, alt = figures.similarity(t.similar)
    names = {
        "classifier, decoder": "decoder",
        "between classifiers": "classifiers",
        "between untrained": "untrained",
    }
    expected = {
        (column, name): mean(
            units, KEPT, lambda u, column=column, compared=compared: u.similar(column, compared)
        )
        for column in ("cka", "ari")
        for name, compared in names.items()
    }
    assert means(fig.axes[0]) == pytest.approx({name: expected["cka", name] for name in names})
    assert means(fig.axes[1]) == pytest.approx({name: expected["ari", name] for name in list(names)[:2]})
    assert f"classifier and decoder {expected['cka', 'classifier, decoder']:.2f}" in alt
    assert alt.endswith(f"and {expected['ari', 'between classifiers']:.2f}")


def test_small_batches(t, units):
    fig, _, alt = figures.small_batches(t.small)
    lines = {line.get_label(): line.get_ydata() for line in fig.axes[0].lines}
    for label, sees in (("partitioner sees the sample", "itself"), ("partitioner sees another view", "view")):
        expected = [
            mean(units, DATA, lambda u, m=m, sees=sees: u.small("ari", m, sees=sees)) for m in figures.FORMS
        ]
        assert lines[label] == pytest.approx(expected)
        assert str(np.round(expected, 2).tolist()) in alt
    large = mean(units, DATA, lambda u: u.small("ari", 0, batch=256))
    assert lines["batch 256, no representatives"] == pytest.approx([large, large])
    floor = [mean(units, DATA, lambda u, m=m: u.small("fvu", m, clusters=0)) for m in figures.FORMS]
    assert alt.endswith(str(np.round(floor, 2).tolist()))
    assert fig.axes[1].lines[-2].get_ydata() == pytest.approx(floor)
