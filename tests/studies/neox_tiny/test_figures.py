"""The figure of the training: stages one after the other, a running mean, a line per source."""

import matplotlib.pyplot as plt
import numpy as np

from lib.studies.neox_tiny import figures

STAGES = [
    {
        "settings": {"steps": 100},
        "loss": [8.0, 4.0],
        "validation": [(50, {"english": 3.0, "python": 2.0}), (100, {"english": 2.0, "python": 1.0})],
    },
    {"settings": {"steps": 20}, "loss": [1.0], "validation": [(20, {"english": 1.5, "python": 0.5})]},
]


def test_stages_follow_each_other_and_the_loss_of_this_run_is_a_running_mean():
    fig = figures.training(STAGES, np.arange(1.0, 41.0))
    left, right = fig.axes
    first, second, recent = (line for line in left.lines if line.get_linestyle() == "-")
    assert list(first.get_xdata()) == [25, 75] and list(first.get_ydata()) == [8, 4]
    assert list(second.get_xdata()) == [110] and list(second.get_ydata()) == [1]
    assert list(recent.get_xdata()) == list(range(1, 41))
    assert recent.get_ydata()[0] == 1 and recent.get_ydata()[-1] == np.mean(np.arange(21, 41))
    for ax in fig.axes:
        ends = [line.get_xdata()[0] for line in ax.lines if line.get_linestyle() == ":"]
        assert ends == [100, 120]
    lines = {line.get_label(): line for line in right.lines if line.get_linestyle() == "-"}
    assert list(lines) == ["english", "python"]
    assert list(lines["python"].get_xdata()) == [50, 100, 120]
    assert list(lines["python"].get_ydata()) == [2, 1, 0.5]
    labels = [text.get_text() for text in left.get_legend().get_texts()]
    assert labels == ["training, shipped model", "training, in this run"]
    plt.close(fig)
