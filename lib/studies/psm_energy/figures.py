"""The figures of the energy-matching notebook."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib import ticker
from matplotlib.figure import Figure
from torch import Tensor

from lib.reporting.display import COLOURS
from lib.studies.psm_energy.feature_sets import KINDS
from lib.studies.psm_energy.tables import SIGMAS, Descent


def heatmaps(matrices: Mapping[str, Tensor], names: Sequence[str]) -> Figure:
    """Matrices `(n, n)` by title, three in a row, with the names of the n features."""
    columns = 3
    rows = (len(matrices) + columns - 1) // columns
    labels = [name.replace("_", " ") for name in names]
    fig, axes = plt.subplots(rows, columns, figsize=(10, 2.7 * rows), squeeze=False)
    for ax in axes.flat[len(matrices) :]:
        ax.axis("off")
    for i, (ax, (title, matrix)) in enumerate(zip(axes.flat, matrices.items(), strict=False)):
        image = ax.imshow(np.asarray(matrix), cmap="RdBu_r", vmin=-1, vmax=1)
        ax.set_title(title, fontsize=10)
        ax.grid(False)
        ax.set_xticks([])
        ax.set_yticks(range(len(labels)), labels if i % columns == 0 else [""] * len(labels), fontsize=9)
    fig.colorbar(image, ax=axes, shrink=0.7, label="cosine, or correlation")
    return fig


def spread(matrix: Tensor) -> str:
    """Mean and standard deviation off the diagonal, in words, for alt texts."""
    off = matrix[~torch.eye(len(matrix), dtype=torch.bool)]
    return f"mean {off.mean():.2f} and standard deviation {off.std():.2f}"


def excess(table: pd.DataFrame) -> Figure:
    """Excess energies by target, a panel per feature set: rows of `measures.measured` of one layer and kernel."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    order = [name for name in table["target"].unique() if name != "real"]
    for ax, kind in zip(axes, KINDS, strict=True):
        here = table[table["set"] == kind]
        values = [here.loc[here["target"] == name, "excess"] for name in order]
        style = dict(orientation="horizontal", whis=(2.5, 97.5), showfliers=False, patch_artist=True)
        boxes = ax.boxplot(values, widths=0.6, **style)
        for body, middle, colour in zip(boxes["boxes"], boxes["medians"], COLOURS, strict=False):
            body.set(facecolor=colour, alpha=0.5)
            middle.set(color="black", lw=1.5)
        real = here.loc[here["target"] == "real", "excess"].item()
        ax.axvline(real, color="black", ls="--", lw=1.5)
        beside = dict(xytext=(4, 0), textcoords="offset points")
        ax.annotate(f"real: {real:.2f}", (real, len(order) + 0.7), fontsize=9, va="center", **beside)
        title = f"{kind}, n = {here['n'].iloc[0]}, f = {here['f'].iloc[0]}"
        ax.set(title=title, xlabel="excess energy", xscale="log", ylim=(0.4, len(order) + 1))
        ax.set_yticks(range(1, len(order) + 1), order)
        ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(ticker.NullFormatter())
    return fig


def perturbation(curves: pd.DataFrame) -> Figure:
    """`tables.curves`: distance to the target against the perturbation, a panel per feature set."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    for ax, (kind, part) in zip(axes, curves.groupby("set", sort=False), strict=True):
        for colour, method in zip(COLOURS, ("Powell", "converged"), strict=False):
            for which, style in (("actual", "-"), ("permuted", "--")):
                own = part[(part["method"] == method) & (part["target"] == which)]
                line = own.groupby("sigma")["distance"]
                ax.fill_between(SIGMAS, line.min(), line.max(), color=colour, alpha=0.2, lw=0)
                look = dict(marker="o", ms=4, color=colour, label=f"{method}, {which}")
                ax.plot(SIGMAS, line.median(), style, **look)
        ax.set(xscale="log", xlabel="perturbation σ", title=kind)
    axes[0].set_ylabel("distance to the target PSM")
    axes[1].legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def minima(counts: pd.DataFrame) -> Figure:
    """`tables.minima`: how many there are against f, a panel per n."""
    sizes = counts["n"].unique()
    fig, axes = plt.subplots(1, len(sizes), figsize=(10, 3.2), squeeze=False, sharey=True)
    for ax, n in zip(axes[0], sizes, strict=True):
        kernels = counts[counts["n"] == n].groupby("kernel", sort=False)
        for colour, marker, (kernel, part) in zip(COLOURS, "osD", kernels, strict=False):
            ax.plot(part["f"], part["minima"], color=colour, marker=marker, mfc="none", label=kernel)
        ax.axvline(n - 1, color="#888888", ls=":")
        ax.set(title=f"n = {n}", xlabel="dimensions f", xticks=range(2, n + 1))
        ax.set_ylim(0, counts["minima"].max() + 0.5)
        ax.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
    axes[0, 0].set_ylabel("distinct minima found")
    axes[0, -1].legend()
    return fig


def descents(found: Mapping[str, Descent]) -> Figure:
    """Excess energy on the way down, a line per kernel and a panel per feature set."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    for ax, (kind, descent) in zip(axes, found.items(), strict=True):
        for colour, (kernel, height) in zip(COLOURS, descent.heights.items(), strict=False):
            ax.plot(np.linspace(0, 1, len(height)), height, color=colour, label=kernel)
        ax.set(xlabel="share of the way", title=f"{kind}, f = {descent.f}", ylim=(0, None))
    axes[0].set_ylabel("excess energy")
    axes[1].legend()
    return fig


def training(table: pd.DataFrame) -> Figure:
    """`feature_sets.over_training`: excess energy over the steps of training, a panel per feature set."""
    shown = ("real", "edge-shuffled", "shuffled labels")  # the others hardly depend on the model
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    for ax, kind in zip(axes, KINDS, strict=True):
        part = table[(table["set"] == kind) & table["target"].isin(shown)]
        for colour, (target, line) in zip(COLOURS, part.groupby("target", sort=False), strict=False):
            line = line.groupby("step")["excess"].quantile([0.25, 0.5, 0.75]).unstack()
            ax.plot(line.index + 1, line[0.5], marker="o", ms=4, color=colour, label=target)
            ax.fill_between(line.index + 1, line[0.25], line[0.75], color=colour, alpha=0.2, lw=0)
        ax.set(xscale="log", xlabel="training step + 1", title=kind)
    axes[0].set_ylabel("excess energy")
    axes[1].legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig
