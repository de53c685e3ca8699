"""The figures of the study: each function draws one of `Tables`, and says in words what is seen (the alt text)."""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure

from lib.dictionaries.planted import KINDS
from lib.reporting import figures
from lib.reporting.display import COLOURS
from lib.studies.projective_dictionaries.evidence import ON, POOL, best_of_pool, scores_of_both
from lib.studies.projective_dictionaries.factorial import SELECTIONS
from lib.studies.projective_dictionaries.methods import (
    AMPLITUDES,
    CORE,
    MAIN,
    METHODS,
    ON_IMAGES,
    RELU,
    TRANSCODERS,
    VARIANTS,
)
from lib.studies.projective_dictionaries.tables import SEARCHES, Tables
from lib.studies.projective_dictionaries.transcoding import ARMS

COLOUR = dict(zip(CORE, COLOURS, strict=False))
ON_HIERARCHY = (
    "top-k",
    "tied top-k",
    "BatchTopK",
    "ReLU + L1, 0.2",
    "tied projection",
    "OMP projection",
    "ridge",
    "tied ridge",
    "ridge, normalised",
    "hybrid",
    "tied hybrid",
    "penalised hybrid",
    "penalised tied hybrid",
)
# Of the scatter plot: whose names stand on the left of their points, where they hide no other.
NAMED_LEFT = (
    "ridge, normalised",
    "tied ridge",
    "penalised tied hybrid",
    "top-k",
    "penalised hybrid",
    "tied projection",
)
# Of the alignment search: dashed circles swap a coefficient, dotted squares a given direction.
COEFFICIENT, GIVEN, SUBSPACE = "o--", "s:", "D-"
STYLES = {
    "learned rotation": SUBSPACE,
    "true direction": GIVEN,
    "random direction": GIVEN,
    "tied projection, span": SUBSPACE,
    "top-k, span": SUBSPACE,
    "coefficient swap, true dictionary": COEFFICIENT,
    "tied projection, coefficient swap": COEFFICIENT,
    "top-k, coefficient swap": COEFFICIENT,
}
Drawn = tuple[Figure, str]


def training(t: Tables) -> Drawn:
    """Recovery and FVU through training at k = 8, by kind of planted data and method."""
    fig, axes = plt.subplots(2, len(KINDS), figsize=(11, 5.6), sharex=True, sharey="row")
    curves = t.curves[t.curves["k"] == 8]
    for column, kind in enumerate(KINDS):
        for method in CORE:
            rows = curves[(curves["kind"] == kind) & (curves["method"] == method)]
            for ax, statistic in zip(axes[:, column], ("recovery", "fvu"), strict=True):
                by = rows.pivot(index="step", columns="seed", values=statistic)
                colour = COLOUR[method]
                ax.plot(by.index, by.mean(axis=1), "o-", ms=3.5, color=colour, label=method)
                ax.fill_between(by.index, by.min(axis=1), by.max(axis=1), color=colour, alpha=0.15, lw=0)
        axes[0, column].set_title(kind)
        axes[1, column].set(xscale="log", yscale="log", xlabel="minibatches")
        _plain_ticks(axes[1, column].xaxis, (10, 30, 100, 300, 1000, 3000, 10000))
    _plain_ticks(axes[1, 0].yaxis)
    axes[0, 0].set_ylabel("recovery")
    axes[1, 0].set_ylabel("FVU")
    fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=10)
    gain = t.of("recovery", "top-k", "independent") - t.quarter("recovery", "top-k", "independent")
    return fig, (
        "Eight panels of curves, two statistics by four kinds of data, six methods; "
        f"top-k recovery on independent features rises by {gain.mean():.2f} over the last three quarters of training"
    )


def selections_and_coefficients(t: Tables) -> Drawn:
    """Heat map of FVU on the hierarchy at k = 8: training by selection and coefficients."""
    shown = [m for m in METHODS if m in (*MAIN, *VARIANTS) and m != "OMP projection"]
    hows = ("amplitude", "least squares", "ridge", "NNLS")
    codes = t.codes[(t.codes["kind"] == "hierarchy") & (t.codes["k"] == 8)]
    mean = codes.groupby(["method", "selection", "coefficients"])["fvu"].mean()
    grid = np.array([[mean[m, s, h] for s in SELECTIONS for h in hows] for m in shown])
    fig, ax = plt.subplots(figsize=(10, 0.36 * len(shown) + 1.6))
    logarithm = np.log10(np.clip(grid, 0.01, 1))
    image = ax.imshow(logarithm, cmap="viridis", aspect="auto")
    for (i, j), value in np.ndenumerate(grid):
        text = f"{value:.3f}" if value < 0.9995 else f"{value:.1f}"
        colour = "white" if logarithm[i, j] < -1 else "black"
        ax.text(j, i, text, ha="center", va="center", fontsize=8.5, color=colour)
    ax.set_yticks(range(len(shown)), shown)
    ax.set_xticks(range(12), ["ampl.", "l. sq.", "ridge", "NNLS"] * 3, fontsize=9)
    for j, name in enumerate(("own selection", "threshold", "OMP")):
        ax.text(4 * j + 1.5, -0.75, name, ha="center", fontsize=11)
        ax.axvline(4 * j - 0.5, color="white", lw=3)
    ax.grid(False)
    fig.colorbar(image, ax=ax, ticks=[-2, -1, 0], format=lambda v, _: f"{10.0**v:g}", label="FVU", shrink=0.8)
    return fig, (
        f"Heat map of FVU: top-k as trained {t.fvu('top-k', 'hierarchy').mean():.3f}, "
        f"refitted {t.refit('top-k', 'hierarchy').mean():.3f}; "
        f"tied projection {t.fvu('tied projection', 'hierarchy').mean():.3f}; "
        f"hybrid {t.fvu('hybrid', 'hierarchy').mean():.3f}"
    )


def fvu_by_l0(t: Tables) -> Drawn:
    """FVU against the number of latents in use, for k from 4 to 32, on coherent features and the hierarchy."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
    for ax, kind in zip(axes, ("coherent", "hierarchy"), strict=True):
        for method in CORE:
            _fvu_curve(ax, t, method, kind, how="as trained", style="o-", label=method)
            if method in AMPLITUDES:
                label = f"{method}, refitted"
                _fvu_curve(ax, t, method, kind, how="least squares", style="s:", label=label)
        for i, method in enumerate(RELU):
            l0, error = t.own(method, kind, column="l0").mean(), t.fvu(method, kind).mean()
            ax.plot(l0, error, "x", color="black", label="ReLU + L1" if i == 0 else None)
        ax.set(xscale="log", yscale="log", xlabel="latents in use per sample, L0", title=kind)
        ax.axvline(8, color="#999999", lw=1, ls="--")
        ax.set_xticks([4, 8, 16, 32, 64], [4, 8, 16, 32, 64])
        _plain_ticks(ax.yaxis)
        ax.xaxis.minorticks_off()
    axes[0].set_ylabel("FVU")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=9)
    return fig, (
        "Falling curves of FVU against L0 for six methods with refits of the top-k autoencoders dotted, "
        "and three points of ReLU + L1"
    )


def _fvu_curve(ax: Axes, t: Tables, method: str, kind: str, *, how: str, style: str, label: str) -> None:
    """Means over seeds at each k, with bars from the lowest to the highest seed."""
    ks = (4, 8, 16, 32)
    l0 = np.array([t.own(method, kind, column="l0", k=k, how=how) for k in ks])
    error = np.array([t.fvu(method, kind, k=k, how=how) for k in ks])
    spread = np.abs(np.stack([error.min(1), error.max(1)]) - error.mean(1))
    about = {"ms": 4.5, "lw": 1.5, "capsize": 2, "color": COLOUR[method], "label": label}
    ax.errorbar(l0.mean(1), error.mean(1), yerr=spread, fmt=style, **about)


def absorption(t: Tables) -> Drawn:
    """Absorption on the hierarchy at k = 8, and what it has to be compared with."""
    fig, axes = plt.subplots(1, 4, figsize=(11, 4.6), sharey=True)
    titles = {
        "absorption": "absorption",
        "alone": "missed when alone",
        "direction": "cosine, child's latent\nand parent",
        "children": "children with\na latent",
    }
    for ax, (column, title) in zip(axes, titles.items(), strict=True):
        groups = {m: t.of(column, m, "hierarchy") for m in ON_HIERARCHY}
        figures.intervals(ax, groups, dict.fromkeys(ON_HIERARCHY, COLOURS[0]))
        ax.set(xlabel=title, xlim=(-0.04, 1.04))
    rates = (f"{m} absorption {t.of('absorption', m, 'hierarchy').mean():.2f}" for m in ON_HIERARCHY)
    return fig, "; ".join(rates)


def fvu_and_absorption(t: Tables) -> Drawn:
    """Reconstruction against absorption on the hierarchy at k = 8."""
    fig, ax = plt.subplots(figsize=(8, 4.6))
    for method in ON_HIERARCHY:
        error, absorbed = t.fvu(method, "hierarchy"), t.of("absorption", method, "hierarchy")
        at = error.mean(), absorbed.mean()
        style = {"fmt": "s", "color": COLOURS[1]}
        if method in POOL:
            style = {"fmt": "o", "color": COLOURS[0]}
        ax.errorbar(*at, xerr=error.std(ddof=1), yerr=absorbed.std(ddof=1), capsize=2, lw=1, **style)
        place = {"xytext": (6, 5), "ha": "left"}
        if method in NAMED_LEFT:
            place = {"xytext": (-6, -3), "ha": "right"}
        ax.annotate(method, at, textcoords="offset points", fontsize=9, **place)
    ax.set(xlabel="FVU as trained", ylabel="absorption")
    scores = scores_of_both(t)
    best = best_of_pool(scores)
    return fig, (
        f"Scatter of thirteen methods; the best variant by the rule is {best} "
        f"with a score of {scores[best].mean():.2f}, where 1 would be both at once"
    )


def layers(t: Tables) -> Drawn:
    """Test FVU on pixels and hidden layers, top-k autoencoders also refitted."""
    fig, axes = plt.subplots(1, 3, figsize=(11, 4), sharey=True)
    for ax, layer in zip(axes, ON, strict=True):
        groups, colours = {}, {}
        for method in ON_IMAGES:
            groups[method], colours[method] = t.layer_fvu(method, layer), COLOUR[method]
            if method in AMPLITUDES:
                name = f"{method}, refitted"
                groups[name], colours[name] = t.layer_refit(method, layer), COLOUR[method]
        figures.intervals(ax, groups, colours)
        ax.set(xlabel="test FVU", title=layer)
    return fig, (
        f"FVU on layer 1: top-k {t.layer_fvu('top-k', 'layer 1').mean():.3f}, "
        f"hybrid {t.layer_fvu('hybrid', 'layer 1').mean():.3f}"
    )


def transcoders(t: Tables) -> Drawn:
    """Test FVU of transcoders in four arms, with PCA and linear regression."""
    order = [*TRANSCODERS, "PCA, 8 components", "linear regression"]
    fig, ax = plt.subplots(figsize=(9, 3.8))
    for i, arm in enumerate(ARMS):
        shift, colour = 0.18 * (i - 1.5), COLOURS[i]
        rows = t.transcoders[t.transcoders["arm"] == arm]
        for j, method in enumerate(order):
            values = rows[rows["method"] == method]["fvu"].to_numpy()
            if len(values) == 0:  # PCA and the regression have one arm each
                continue
            height = np.full(len(values), j + shift)
            ax.plot(values, height, "o", ms=4, color=colour, alpha=0.6, mec="none")
            ax.plot(values.mean(), j + shift, "D", ms=6, color=colour)
        ax.plot([], [], "D", color=colour, label=arm)
    ax.set_yticks(range(len(order)), order)
    ax.invert_yaxis()
    ax.axvline(1, color="#555555", ls="--", lw=1)
    ax.set(xscale="log", xlabel="test FVU of layer 2 (dashed: its mean)")
    fig.legend(loc="outside upper center", ncols=4, fontsize=9)
    return fig, (
        f"FVU of ridge: peeking {t.transcoder('ridge', 'peeking').mean():.2f}, "
        f"not peeking {t.transcoder('ridge', 'not peeking').mean():.2f}, "
        f"peeking with shuffled input {t.transcoder('ridge', 'peeking, shuffled input').mean():.2f}; "
        f"top-k {t.transcoder('top-k', 'peeking').mean():.2f}, "
        f"shuffled {t.transcoder('top-k', 'peeking, shuffled input').mean():.2f}"
    )


def alignment_search(t: Tables) -> Drawn:
    """Interchange errors in superposition by how many variables are active; accuracies on pairs of digits."""
    fig, axes = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=[1.2, 1])
    _errors_by_active(axes[0], t)
    _pair_accuracies(axes[1], t)
    return fig, (
        f"At 4 active: learned rotation {t.swap('learned rotation', 4).mean():.2f}, "
        f"span of the tied projection {t.swap('tied projection, span', 4).mean():.2f}, "
        f"coefficient swap on the true dictionary {t.swap('coefficient swap, true dictionary', 4).mean():.3f}; "
        f"pairs: learned rotation {t.pair('learned rotation').mean():.2f}, "
        f"dictionary {t.pair('tied projection, by means').mean():.2f}"
    )


def _errors_by_active(ax: Axes, t: Tables) -> None:
    actives = (1, 4, 16)
    for i, method in enumerate(SEARCHES):
        values = np.stack([t.swap(method, n) for n in actives])
        about = {"capsize": 2, "lw": 1.5, "ms": 5, "color": COLOURS[i % 7], "label": method}
        ax.errorbar(actives, values.mean(1), yerr=values.std(1, ddof=1), fmt=STYLES[method], **about)
    ax.axhline(1, color="#555555", lw=1, ls="--")
    ax.set(
        xscale="log",
        xlabel="variables active on average, of 64 in 24 dimensions",
        ylabel="interchange error (1: nothing done)",
    )
    ax.set_yscale("symlog", linthresh=0.1)
    _plain_ticks(ax.yaxis, (0, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100))
    ax.set_ylim(bottom=0)
    ax.set_xticks(actives, actives)
    ax.minorticks_off()
    ax.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)


def _pair_accuracies(ax: Axes, t: Tables) -> None:
    """A row for each method and width; all widths of a method have one colour."""
    settings = list(t.pairs[["method", "width"]].drop_duplicates().itertuples(index=False))
    methods = dict.fromkeys(method for method, _ in settings)
    colour = {method: COLOURS[i % 7] for i, method in enumerate(methods)}
    groups = {f"{method}, {width}": t.pair(method, width=width) for method, width in settings}
    figures.intervals(ax, groups, {f"{method}, {width}": colour[method] for method, width in settings})
    ax.set(xlabel="interchange accuracy, left digit of a pair", xlim=(-0.03, 1.03))
    ax.tick_params(axis="y", labelsize=8.5)


def _plain_ticks(
    axis: Axis,
    ticks: tuple[float, ...] = (0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20, 50),
) -> None:
    """A logarithmic axis with plain numbers, those of `ticks` that it shows."""
    low, high = sorted(axis.get_view_interval())
    shown = [t for t in ticks if low <= t <= high]
    axis.set_ticks(shown, [f"{t:g}" for t in shown])
    axis.minorticks_off()
