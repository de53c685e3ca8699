"""Figures draw what they are given."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lib.reporting import figures


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def test_intervals_are_t_intervals():
    values = np.array([1.0, 2.0, 4.0, 5.0])
    _, ax = plt.subplots()
    figures.intervals(ax, {"one": values, "two": values + 1})
    (bar,) = ax.containers[0].lines[2]
    low, high = bar.get_segments()[0][:, 0]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (low, high) == pytest.approx((expected.low, expected.high))
    assert [t.get_text() for t in ax.get_yticklabels()] == ["one", "two"]


def test_intervals_of_one_unit_show_the_dot_only():
    _, ax = plt.subplots()
    figures.intervals(ax, {"one": np.array([3.0, np.nan])})
    assert not ax.containers


def test_dots_are_units_and_diamonds_their_means():
    values = np.array([[1.0, 3.0], [2.0, 8.0], [0.0, 1.0]])  # three places, two units
    _, ax = plt.subplots()
    figures.dots(ax, [10, 20, 30], values, colour="C0", label="a", line=True)
    *units, means = ax.lines
    assert [line.get_ydata().tolist() for line in units] == values.T.tolist()
    assert means.get_ydata().tolist() == [2, 5, 0.5] and means.get_xdata().tolist() == [10, 20, 30]
    assert means.get_label() == "a" and means.get_linestyle() == "-"
    figures.dots(ax, [10, 20, 30], values, colour="C0")
    assert ax.lines[-1].get_linestyle() == "None"


def test_heatmap_splits_rows_in_order():
    rng = np.random.default_rng(0)
    split = np.array([1, 0, 1, 0, 2])
    fig = figures.heatmap(
        {"a": rng.random((5, 3)), "b": rng.random((5, 6))},
        split,
        split_name="label",
        sort="b",
        colour_label="value",
    )
    labels = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert labels == ["0", "1", "2"] and fig.axes[0].get_title() == "a"


def test_dotplot_has_no_outlines_and_larger_dots_for_smaller_fdr():
    table = pd.DataFrame(
        dict(
            row="digit",
            row_class=[0, 0, 1, 1],
            column="cluster",
            column_class=[0, 1, 0, 1],
            log2_odds=[3.0, -3.0, -1.0, 1.0],
            fdr=[0.0, 1e-50, 0.5, 1.0],
        )
    )
    dots = figures.dotplot(table).axes[0].collections[0]
    assert (np.array(dots.get_linewidths()) == 0).all()
    sizes = dots.get_sizes()
    assert sizes[0] > sizes[1] > sizes[2] > sizes[3] == 0


def test_empty_pictures_stay_empty():
    pictures = np.stack([np.ones((2, 4, 4)), np.full((2, 4, 4), np.nan)])
    fig = figures.image_grid(pictures, row_names=["a", "b"], column_names=["1", "2"])
    assert [len(ax.images) for ax in fig.axes] == [1, 1, 0, 0]
