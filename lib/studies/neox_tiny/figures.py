"""The figure of the study of neox-tiny."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.reporting import display
from lib.studies.neox_tiny import measures

RECENT = 20  # steps that the curve of this run's training is a mean of


def training(stages: Sequence[Mapping], scratch: np.ndarray) -> Figure:
    """Left the training losses of the shipped model, from its records, and of this run; right its validation losses.

    `scratch`: nats per token of each step of this run, `(steps,)`.
    """
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    _shipped(axes, stages)
    recent = pd.Series(scratch, index=np.arange(1, len(scratch) + 1)).rolling(RECENT, min_periods=1).mean()
    axes[0].plot(recent.index, recent, color=display.COLOURS[1], label="training, in this run")
    axes[0].set(xlabel="step", ylabel="nats per token", xscale="log")
    axes[0].legend()
    curve = measures.validation_curve(stages)
    for colour, marker, source in zip(display.COLOURS, "osD^v", curve.columns, strict=False):
        axes[1].plot(curve.index, curve[source], color=colour, marker=marker, ms=3, label=source)
    axes[1].set(xlabel="step", ylabel="nats per byte", title="validation, shipped model")
    axes[1].legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return fig


def _shipped(axes: Sequence[Axes], stages: Sequence[Mapping]) -> None:
    """The training loss of all stages, means at the middle of what they are of; the ends of stages in both panels."""
    taken = 0
    for stage in stages:
        steps, losses = stage["settings"]["steps"], stage["loss"]
        middle = taken + (np.arange(len(losses)) + 0.5) * steps / len(losses)
        label = "training, shipped model" if taken == 0 else None
        axes[0].plot(middle, losses, color=display.COLOURS[0], label=label)
        taken += steps
        for ax in axes:
            ax.axvline(taken, color="#888888", ls=":", lw=1)
