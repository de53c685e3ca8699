"""The speed figures: ratios that the design promises, with room for a busy machine."""

import pytest

from lib import benchmark


@pytest.mark.slow
def test_factorised_diffusion_is_many_times_faster_and_smaller():
    times = benchmark.diffusion((1024, 4096), repetitions=1).set_index("n")
    assert times.loc[1024, "ratio"] > 10 and times.loc[4096, "ratio"] > 60
    assert (
        benchmark.exponents(times.reset_index(), "dense")[0]
        > 1.5 * benchmark.exponents(times.reset_index(), "factorised")[0]
    )
    memory = benchmark.memory((4096,)).iloc[0]
    assert memory["factorised"] < 30 < memory["dense"]


@pytest.mark.slow
def test_many_replicas_cost_far_less_than_many_models():
    ratios = benchmark.replicas(repetitions=3)["ratio"]
    assert ratios.min() < 12  # for 32 times the work; a busy moment may spoil a repetition
