"""Peak memory is what was allocated, threads are set and given back, CPU seconds are those of the work."""

import json
import os
import subprocess
import sys

import pytest
import torch

from lib.common import timing
from lib.common.files import ROOT


def test_added_memory_is_what_was_allocated():
    """In a process of its own: 40 MB that stay, and 80 more while the step runs."""
    code = """
import json
import torch
from lib.common import timing
def step(megabytes):
    kept = torch.ones(megabytes, 2**18)
    def take():
        return kept.sum() + torch.ones(2 * megabytes, 2**18).sum()
    return take
print(json.dumps(timing.added_memory(step, small=dict(megabytes=1), size=dict(megabytes=40))))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | timing.FREED,
        cwd=ROOT,
    )
    found = json.loads(run.stdout)
    assert found["training"] == pytest.approx(120, abs=4)
    if sys.platform == "linux":
        assert found["step"] == pytest.approx(80, abs=4)


def test_threads_are_set_inside_and_given_back_even_after_an_error():
    before = torch.get_num_threads()
    with pytest.raises(KeyError), timing.threads(before + 1):
        assert torch.get_num_threads() == before + 1
        raise KeyError
    assert torch.get_num_threads() == before


def test_cpu_seconds_count_work_and_not_waiting():
    found, busy = timing.cpu_seconds(lambda: sum(range(2_000_000)))
    _, asleep = timing.cpu_seconds(lambda: __import__("time").sleep(0.2))
    assert found == 1999999000000 and busy > 0.01 and asleep < 0.1
