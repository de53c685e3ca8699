"""The kinds of figures that reports share: intervals, dots, split heatmaps, dot plots, image grids."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats


def intervals(ax: Axes, groups: Mapping[str, np.ndarray], colours: Mapping[str, str] | None = None) -> None:
    """One row per group: a dot for each unit of replication, and the mean with its 95% t interval beside them."""
    cycle = plt.rcParams["axes.prop_cycle"].by_key()["color"]
    for i, (name, values) in enumerate(groups.items()):
        values = np.asarray(values, float)
        values = values[np.isfinite(values)]
        colour = cycle[i % len(cycle)] if colours is None else colours[name]
        ax.plot(values, np.full(len(values), i) + 0.16, "o", ms=4.5, alpha=0.45, color=colour, mec="none")
        if len(values) > 1:
            half = stats.t.ppf(0.975, len(values) - 1) * stats.sem(values)
            ax.errorbar(values.mean(), i - 0.14, xerr=half, fmt="D", ms=5, color=colour, capsize=3, lw=1.8)
    ax.set_yticks(range(len(groups)), list(groups))
    ax.set_ylim(len(groups) - 0.5, -0.5)
    ax.grid(axis="y", visible=False)


def dots(
    ax: Axes,
    x: Sequence[float],
    values: np.ndarray,
    *,
    colour: str,
    label: str | None = None,
    line: bool = False,
) -> None:
    """At each x, a dot for each unit of replication in `values` `(x, units)`, and a diamond for their mean.

    `line` joins the means.
    """
    ax.plot(x, values, "o", color=colour, alpha=0.4, mec="none")
    ax.plot(x, values.mean(1), "D-" if line else "D", ms=None if line else 5, color=colour, label=label)


def heatmap(
    blocks: Mapping[str, np.ndarray], split: np.ndarray, *, split_name: str, sort: str, colour_label: str
) -> Figure:
    """Samples as rows, split by a labelling; units as columns, split by model.

    Each block `(n, d)` is divided by its largest absolute value; within a split, rows are ordered by the
    largest unit in block `sort`. `split_name` and `colour_label` name the rows and the colours.
    """
    order = np.lexsort((np.abs(blocks[sort]).argmax(1), split))
    fig, axes = plt.subplots(
        1,
        len(blocks),
        figsize=(9, 5.4),
        sharey=True,
        width_ratios=[max(4, block.shape[1]) for block in blocks.values()],
    )
    signed = any((block < 0).any() for block in blocks.values())
    cmap, low = ("RdBu_r", -1) if signed else ("viridis", 0)
    borders = np.flatnonzero(np.diff(split[order])) + 1
    for ax, (name, block) in zip(axes, blocks.items(), strict=True):
        scaled = block[order] / np.abs(block).max()
        image = ax.imshow(scaled, aspect="auto", cmap=cmap, vmin=low, vmax=1, interpolation="nearest")
        for border in borders:
            ax.axhline(border - 0.5, color="white" if low == 0 else "black", lw=0.7)
        ax.set_title(name, fontsize=10)
        ax.set_xticks([0, block.shape[1] - 1])
        ax.grid(False)
    edges = np.concatenate([[0], borders, [len(split)]])
    axes[0].set_yticks((edges[:-1] + edges[1:]) / 2, split[order][edges[:-1]])
    axes[0].set_ylabel(f"samples, by {split_name}")
    fig.supxlabel("unit", fontsize=11)
    fig.colorbar(image, ax=axes, shrink=0.6, label=colour_label)
    return fig


def dotplot(table: pd.DataFrame, *, cap: float = 100) -> Figure:
    """Enrichment of row classes in column classes: colour is the log2 odds ratio, area -log10 FDR up to `cap`.

    `table` has the columns row, row_class, column, column_class, log2_odds and fdr.
    """
    rows = list(dict.fromkeys(zip(table["row"], table["row_class"], strict=True)))
    columns = list(dict.fromkeys(zip(table["column"], table["column_class"], strict=True)))
    y = [rows.index(key) for key in zip(table["row"], table["row_class"], strict=True)]
    x = [columns.index(key) for key in zip(table["column"], table["column_class"], strict=True)]
    strength = np.minimum(-np.log10(table["fdr"].clip(lower=1e-300)), cap)
    fig, ax = plt.subplots(figsize=(9, 0.3 * len(rows) + 1.7))
    dots = ax.scatter(
        x,
        y,
        s=130 * strength / cap,
        c=table["log2_odds"].clip(-8, 8),
        cmap="PuOr",
        vmin=-8,
        vmax=8,
        linewidths=0,
    )
    ax.set_yticks(range(len(rows)), [str(name) for _, name in rows])
    ax.set_xticks(range(len(columns)), [str(name) for _, name in columns])
    names = [name for name, _ in columns]
    for name in dict.fromkeys(names):
        at = [i for i, other in enumerate(names) if other == name]
        ax.text(np.mean(at), -1.0, name, ha="center", va="bottom", fontsize=11)
        ax.axvline(max(at) + 0.5, color="#999999", lw=0.8)
    ax.set(ylabel=" and ".join(dict.fromkeys(name for name, _ in rows)), xlabel="class or cluster")
    ax.set_ylim(len(rows) - 0.5, -0.7)
    ax.set_xlim(-0.6, len(columns) - 0.4)
    fig.colorbar(dots, ax=ax, label="log2 odds ratio", shrink=0.8, extend="both")
    sizes = [cap / 10, cap / 2, cap]
    handles = [plt.scatter([], [], s=130 * v / cap, color="#555555", linewidths=0) for v in sizes]
    labels = [f"{v:g}" for v in sizes[:-1]] + [f"≥ {cap:g}"]
    fig.legend(handles, labels, title="−log10 FDR", loc="outside lower right", ncols=3)
    return fig


def image_grid(images: np.ndarray, *, row_names: Sequence[str], column_names: Sequence[str]) -> Figure:
    """Pictures `(rows, columns, height, width)`, with names on the left and on top; one with a NaN is left empty."""
    rows, columns = images.shape[:2]
    fig, axes = plt.subplots(rows, columns, figsize=(9, 9 * rows / columns * 0.92 + 0.3), squeeze=False)
    for i in range(rows):
        for j in range(columns):
            ax = axes[i, j]
            if np.isfinite(images[i, j]).all():
                ax.imshow(images[i, j], cmap="gray_r", vmin=0, vmax=max(images[i, j].max(), 1e-6))
            ax.set(xticks=[], yticks=[])
            for side in ax.spines.values():
                side.set_visible(False)
        axes[i, 0].set_ylabel(row_names[i], rotation=0, ha="right", va="center", fontsize=9)
    for j, name in enumerate(column_names):
        axes[0, j].set_title(name, fontsize=9)
    return fig
