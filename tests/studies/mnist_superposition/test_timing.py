"""The speed figures: ratios that the design promises, with room for a busy machine."""

import numpy as np
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
