"""The figure of the steps' ratios: each method's numbers in its own row, and a legend of what is there."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.studies.speed import figures, measures


@pytest.mark.parametrize("with_peers", [False, True])
def test_every_method_has_its_row_in_both_panels(with_peers):
    names = measures.methods(with_peers)
    rng = np.random.default_rng(0)
    ratio = {
        label: pd.DataFrame(rng.uniform(1, 2, (3, len(names))), columns=names)
        for label in ("chosen", "small")
    }
    fig = figures.step_times(ratio, {"chosen": measures.LARGE, "small": measures.SMALL}, names=names)
    for ax, label, size in zip(fig.axes, ratio, (measures.LARGE, measures.SMALL), strict=True):
        assert ax.get_title() == str(size)
        for i, name in enumerate(names):
            rows = [line.get_xdata() for line in ax.lines if np.allclose(line.get_ydata(), i + 0.16)]
            assert any(np.array_equal(row, ratio[label][name]) for row in rows if len(row) == 3), name
    said = [text.get_text() for text in fig.axes[1].get_legend().get_texts()]
    assert said == ["ours", "plain", *(["peers"] if with_peers else [])]
    plt.close(fig)
