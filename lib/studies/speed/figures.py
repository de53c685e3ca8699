"""The figures of the speed study."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.reporting import display, figures
from lib.studies.speed.measures import OURS, PEERS, REFERENCES, Size

KINDS = {"ours": OURS, "plain": REFERENCES, "peers": PEERS}


def step_times(ratio: Mapping[str, pd.DataFrame], sizes: Mapping[str, Size], *, names: list[str]) -> Figure:
    """A panel per size: the ratios of `evidence.step_ratios` of these methods to our top-k, with 95% intervals."""
    kind = {name: kind for kind, methods in KINDS.items() for name in methods}
    colour = dict(zip(KINDS, display.COLOURS, strict=False))
    fig, axes = plt.subplots(1, len(sizes), figsize=(10, 0.36 * len(names) + 1.6), sharey=True)
    for ax, (label, size) in zip(axes, sizes.items(), strict=True):
        groups = {name: ratio[label][name].to_numpy() for name in names}
        figures.intervals(ax, groups, {name: colour[kind[name]] for name in names})
        ax.axvline(1, color="#555555", lw=1, ls="--")
        ax.set(xlabel="CPU time of a step over our top-k's", title=str(size), xlim=(0, None))
    for shown in dict.fromkeys(kind[name] for name in names):
        axes[-1].plot([], [], "D", color=colour[shown], label=shown)
    axes[-1].legend(loc="center right")
    return fig
