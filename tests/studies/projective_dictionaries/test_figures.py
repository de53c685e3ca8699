"""Each figure is drawn from made-up tables, and its alt text has the numbers that are seen."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from helpers.projective_tables import made_up
from lib.studies.projective_dictionaries import evidence, figures


@pytest.fixture(scope="module")
def t():
    t = made_up(every=True)
    ridges = t.transcoders["method"] == "ridge"
    t.transcoders.loc[ridges, "fvu"] *= 10  # told apart from the others at a glance
    return t


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


def mean(table, column, **where):
    """Over all rows that have these values."""
    for key, value in where.items():
        table = table[table[key] == value]
    assert len(table)
    return table[column].mean()


def lines(ax, label):
    """The line that is called so, as points."""
    (found,) = [line for line in ax.get_lines() if line.get_label() == label]
    return dict(zip(*found.get_data(), strict=True))


def test_training(t):
    fig, alt = figures.training(t)
    where = {"method": "ridge", "kind": "clusters", "k": 8}
    top, bottom = (fig.axes[i] for i in (2, 6))
    assert top.get_title() == "clusters"
    assert lines(top, "ridge")[12] == pytest.approx(mean(t.curves, "recovery", step=12, **where))
    assert lines(bottom, "ridge")[48] == pytest.approx(mean(t.curves, "fvu", step=48, **where))
    where = {"method": "top-k", "kind": "independent", "k": 8}
    gain = mean(t.dictionaries, "recovery", **where) - mean(t.curves, "recovery", step=12, **where)
    assert f"rises by {gain:.2f} over the last three quarters" in alt


def test_heat_map_has_training_down_and_coefficients_along(t):
    fig, alt = figures.selections_and_coefficients(t)
    ax = fig.axes[0]
    rows = [label.get_text() for label in ax.get_yticklabels()]
    written = {text.get_position(): text.get_text() for text in ax.texts}
    where = {"method": "tied ridge", "kind": "hierarchy", "k": 8}
    for column, selection, how in (
        (1, "own", "least squares"),
        (4, "threshold", "amplitude"),
        (11, "OMP", "NNLS"),
    ):
        value = mean(t.codes, "fvu", selection=selection, coefficients=how, **where)
        text = f"{value:.3f}" if value < 0.9995 else f"{value:.1f}"
        assert written[column, rows.index("tied ridge")] == text
    assert "OMP projection" not in rows and len(rows) == 13
    trained = {
        "method": "hybrid",
        "kind": "hierarchy",
        "k": 8,
        "selection": "own",
        "coefficients": "as trained",
    }
    assert f"hybrid {mean(t.codes, 'fvu', **trained):.3f}" in alt


def test_fvu_by_l0(t):
    fig, _ = figures.fvu_by_l0(t)
    assert [ax.get_title() for ax in fig.axes] == ["coherent", "hierarchy"]
    bars = {bar.get_label(): bar for bar in fig.axes[1].containers}
    assert [name for name in bars if "refitted" in name] == ["top-k, refitted", "tied top-k, refitted"]
    x, y = bars["tied top-k, refitted"].lines[0].get_data()
    own = {"method": "tied top-k", "kind": "hierarchy", "selection": "own", "coefficients": "least squares"}
    assert x[2] == pytest.approx(mean(t.codes, "l0", k=16, **own))
    assert y[2] == pytest.approx(mean(t.codes, "fvu", k=16, **own))


def test_absorption(t):
    fig, alt = figures.absorption(t)
    rates = {}
    for part in alt.split("; "):
        method, _, rate = part.rpartition(" absorption ")
        rates[method] = rate
    assert len(rates) == 13
    for method, rate in rates.items():
        assert rate == f"{mean(t.dictionaries, 'absorption', method=method, kind='hierarchy', k=8):.2f}"
    assert [ax.get_xlabel().split()[0] for ax in fig.axes] == ["absorption", "missed", "cosine,", "children"]


def test_fvu_and_absorption(t):
    fig, alt = figures.fvu_and_absorption(t)
    at = {text.get_text(): text.xy for text in fig.axes[0].texts}
    assert len(at) == 13
    where = {"method": "tied hybrid", "kind": "hierarchy", "k": 8}
    x = mean(t.codes, "fvu", selection="own", coefficients="as trained", **where)
    assert at["tied hybrid"] == pytest.approx((x, mean(t.dictionaries, "absorption", **where)))
    scores = evidence.scores_of_both(t)
    best = evidence.best_of_pool(scores)
    assert f"{best} with a score of {scores[best].mean():.2f}" in alt


def test_layers(t):
    fig, alt = figures.layers(t)
    assert [ax.get_title() for ax in fig.axes] == ["pixels", "layer 1", "layer 2"]
    names = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    assert names[:4] == ["top-k", "top-k, refitted", "tied top-k", "tied top-k, refitted"] and len(names) == 7
    where = {"layer": "layer 2", "method": "top-k", "selection": "own"}
    values = t.layers.query("layer == 'layer 2' and method == 'top-k' and selection == 'own'")
    refitted = values.query("coefficients == 'least squares'")["fvu"]
    dots = [line.get_xdata() for line in fig.axes[2].get_lines() if len(line.get_xdata()) == 4]
    assert sorted(dots[1]) == pytest.approx(sorted(refitted))
    own = mean(t.layers, "fvu", coefficients="as trained", **{**where, "layer": "layer 1"})
    assert f"top-k {own:.3f}" in alt


def test_transcoders(t):
    fig, alt = figures.transcoders(t)
    order = [label.get_text() for label in fig.axes[0].get_yticklabels()]
    diamonds = [
        line for line in fig.axes[0].get_lines() if line.get_marker() == "D" and len(line.get_xdata()) == 1
    ]
    heights = [round(float(line.get_ydata()[0])) for line in diamonds]
    assert [order[i] for i in heights] == ["top-k", "ridge", "hybrid"] * 4
    shuffled = mean(t.transcoders, "fvu", method="ridge", arm="peeking, shuffled input")
    assert f"peeking with shuffled input {shuffled:.2f};" in alt and shuffled > 4
    assert f"shuffled {mean(t.transcoders, 'fvu', method='top-k', arm='peeking, shuffled input'):.2f}" in alt


def test_alignment_search(t):
    fig, alt = figures.alignment_search(t)
    bars = {bar.get_label(): bar for bar in fig.axes[0].containers}
    x, y = bars["top-k, span"].lines[0].get_data()
    assert list(x) == [1, 4, 16]
    assert y[1] == pytest.approx(mean(t.swaps, "error", method="top-k, span", width=1, active=4))
    rotation = mean(t.swaps, "error", method="learned rotation", width=1, active=4)
    pair = mean(t.pairs, "accuracy", method="learned rotation", width=16)
    assert f"learned rotation {rotation:.2f}," in alt and f"pairs: learned rotation {pair:.2f}," in alt
    names = [label.get_text() for label in fig.axes[1].get_yticklabels()]
    assert set(names) == {f"{m}, {w}" for m in set(t.pairs["method"]) for w in (8, 16)}
    assert len(names) == len(set(names))


def test_every_alignment_method_has_its_style():
    assert set(figures.STYLES) == set(figures.SEARCHES)


def test_plain_ticks_are_those_in_view():
    _, ax = plt.subplots()
    ax.set(yscale="log", ylim=(0.04, 3))
    figures._plain_ticks(ax.yaxis)
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "0.05",
        "0.1",
        "0.2",
        "0.3",
        "0.5",
        "1",
        "2",
    ]
    np.testing.assert_allclose(ax.get_yticks(), [0.05, 0.1, 0.2, 0.3, 0.5, 1, 2])
