"""The speed figures: ratios that the design promises, with room for a busy machine."""

import numpy as np
import pandas as pd
import pytest

from lib.studies.mnist_superposition import timing


@pytest.mark.slow
def test_factorised_diffusion_is_many_times_faster_and_smaller():
    times = timing.diffusion((1024, 4096), repetitions=3)  # a cold start may spoil the first repetition
    ratio = times.groupby("n")["ratio"].median()
    assert ratio[1024] > 10 and ratio[4096] > 60
    dense, factorised = (np.median(timing.exponents(times, kernel)) for kernel in ("dense", "factorised"))
    assert dense > 1.5 * factorised
    memory = timing.memory((4096,)).iloc[0]
    assert memory["factorised"] < 30 < memory["dense"]


@pytest.mark.slow
def test_many_replicas_cost_far_less_than_many_models():
    ratios = timing.replicas(repetitions=3)["ratio"]
    assert ratios.min() < 12  # for 32 times the work; a busy moment may spoil a repetition


def test_exponents_are_slopes_between_the_two_largest_sizes():
    rows = [
        dict(n=n, repetition=r, dense=(r + 1) * n**2.0, factorised=(r + 1) * n**1.0 * (1 if n > 2 else 50))
        for n in (16, 2, 8)
        for r in (1, 0)
    ]
    times = pd.DataFrame(rows)
    assert timing.exponents(times, "dense") == pytest.approx([2, 2])
    assert timing.exponents(times, "factorised") == pytest.approx([1, 1])


def test_the_summary_has_medians_and_the_range_of_ratios():
    times = pd.DataFrame(dict(n=8, repetition=range(3), dense=[9.0, 4.0, 1.0], factorised=[1.0, 2.0, 1.0]))
    row = timing.summary(times.assign(ratio=times["dense"] / times["factorised"])).loc[8]
    assert row["dense, s"] == 4 and row["factorised, s"] == 1 and row["ratio"] == 2
    assert row["ratio, least"] == 1 and row["ratio, most"] == 9
