"""Figures show what they are given: lines, boxes and titles read back from the axes."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch

from helpers.plain import draw
from lib.energy.objective import KERNELS, similarity
from lib.studies.psm_energy import figures
from lib.studies.psm_energy.feature_sets import KINDS
from lib.studies.psm_energy.tables import SIGMAS, Descent


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines() if not line.get_label().startswith("_")}


def test_heatmaps_by_title_with_the_names_of_the_features():
    matrices = {f"layer {i}": similarity(draw(3, 8, seed=i)) for i in range(4)}
    fig = figures.heatmaps(matrices, ["is_a", "is_b", "c"])
    axes = fig.axes[:6]
    assert [ax.get_title() for ax in axes] == [*matrices, "", ""]
    for ax, matrix in zip(axes, matrices.values(), strict=False):
        np.testing.assert_allclose(ax.images[0].get_array(), matrix)
        assert ax.images[0].get_clim() == (-1, 1)
    labels = [[text.get_text() for text in ax.get_yticklabels()] for ax in axes[:4]]
    assert labels == [["is a", "is b", "c"], ["", "", ""], ["", "", ""], ["is a", "is b", "c"]]
    assert not axes[4].axison and not axes[5].axison


def test_the_spread_off_the_diagonal():
    matrix = torch.tensor([[9.0, 0.1, 0.2], [0.1, 9, 0.6], [0.2, 0.6, 9]])
    values = np.array([0.1, 0.2, 0.6] * 2)
    assert figures.spread(matrix) == f"mean 0.30 and standard deviation {values.std(ddof=1):.2f}"


def test_excess_energies_by_target_and_the_real_one():
    rows = [
        {"set": kind, "target": target, "excess": 0.1 * (k + 1) + draws / 100, "n": 5 + k, "f": 3}
        for k, kind in enumerate(KINDS)
        for target, count in (("real", 1), ("null", 9), ("other", 9))
        for draws in range(count)
    ]
    fig = figures.excess(pd.DataFrame(rows))
    for k, (ax, kind) in enumerate(zip(fig.axes, KINDS, strict=True)):
        assert ax.get_title() == f"{kind}, n = {5 + k}, f = 3"
        labels = [text.get_text() for text in ax.get_yticklabels()]
        assert labels == ([] if k else ["null", "other"]), "the panels share their rows"
        assert ax.texts[0].get_text() == f"real: {0.1 * (k + 1):.2f}" and len(ax.patches) == 2
        real = next(line for line in ax.get_lines() if line.get_linestyle() == "--")
        assert real.get_xdata()[0] == pytest.approx(0.1 * (k + 1))


def test_a_line_per_method_and_target_at_the_median():
    rows = [
        {
            "set": kind,
            "target": target,
            "method": method,
            "sigma": sigma,
            "distance": sigma + seed + len(method),
        }
        for kind in KINDS
        for target in ("actual", "permuted")
        for method in ("Powell", "converged", "Powell, norms held")
        for sigma in SIGMAS
        for seed in (0, 1, 5)
    ]
    fig = figures.perturbation(pd.DataFrame(rows).sample(frac=1, random_state=0))
    for ax in fig.axes:
        found = lines(ax)
        assert set(found) == {f"{m}, {t}" for m in ("Powell", "converged") for t in ("actual", "permuted")}
        for name, line in found.items():
            expected = np.array(SIGMAS) + 1 + len(name.split(",")[0])
            np.testing.assert_allclose(line.get_ydata(), expected)
            assert line.get_linestyle() == ("-" if name.endswith("actual") else "--")


def test_counts_of_minima_and_where_the_simplex_fits():
    rows = [
        {"n": n, "f": f, "kernel": kernel, "minima": n + f + k}
        for n in (4, 5)
        for f in range(2, n + 1)
        for k, kernel in enumerate(KERNELS)
    ]
    fig = figures.minima(pd.DataFrame(rows))
    for ax, n in zip(fig.axes, (4, 5), strict=True):
        found = lines(ax)
        assert list(found) == list(KERNELS) and ax.get_title() == f"n = {n}"
        for k, line in enumerate(found.values()):
            np.testing.assert_array_equal(line.get_xdata(), range(2, n + 1))
            np.testing.assert_array_equal(line.get_ydata(), [n + f + k for f in range(2, n + 1)])
        dotted = next(line for line in ax.get_lines() if line.get_linestyle() == ":")
        assert dotted.get_xdata()[0] == n - 1


def test_the_way_down_by_kernel():
    heights = {kernel: torch.linspace(k + 1, 0, 5) for k, kernel in enumerate(KERNELS)}
    fig = figures.descents({kind: Descent(3, {}, heights, 0.1) for kind in KINDS})
    for ax, kind in zip(fig.axes, KINDS, strict=True):
        assert ax.get_title() == f"{kind}, f = 3" and list(lines(ax)) == list(KERNELS)
        for kernel, line in lines(ax).items():
            np.testing.assert_allclose(line.get_ydata(), heights[kernel])
            np.testing.assert_allclose(line.get_xdata(), [0, 0.25, 0.5, 0.75, 1])


def test_excess_energy_over_training_at_the_median():
    rows = [
        {"set": kind, "step": step, "target": target, "excess": value + step}
        for kind in KINDS
        for step in (0, 9)
        for target, values in (("real", (1,)), ("edge-shuffled", (2, 3, 7)), ("random directions", (8, 8)))
        for value in values
    ]
    fig = figures.training(pd.DataFrame(rows))
    for ax in fig.axes:
        found = lines(ax)
        assert list(found) == ["real", "edge-shuffled"], "what hardly depends on the model is left out"
        np.testing.assert_allclose(found["real"].get_xdata(), [1, 10])
        np.testing.assert_allclose(found["real"].get_ydata(), [1, 10])
        np.testing.assert_allclose(found["edge-shuffled"].get_ydata(), [3, 12])
