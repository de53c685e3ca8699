"""Time and memory as the reports measure them: threads, CPU seconds, peak memory; and the device that models run on."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

# For the environment of a process whose memory is measured: glibc otherwise keeps larger blocks that were freed.
FREED = {"MALLOC_MMAP_THRESHOLD_": str(2**16)}


def device() -> torch.device:
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Torch on n cores inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def cpu_seconds(function: Callable[[], Any]) -> tuple[Any, float]:
    """What the function returns, and the CPU time of this process that it took, in seconds."""
    before = time.process_time()
    found = function()
    return found, time.process_time() - before


def peak_memory() -> float:
    """Peak resident memory of this process, in MB, so far or (on Linux) since `forget_peak`."""
    status = _status("VmHWM")
    if status is not None:  # getrusage would count what the parent process held before exec
        return status
    unit = 2**20 if sys.platform == "darwin" else 2**10  # bytes on macOS, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def forget_peak() -> float | None:
    """Resets the peak to what is resident now, and returns that, in MB; None if the system can't."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return None
    return _status("VmRSS")


def added_memory(step: Callable[..., Callable[[], None]], *, small: dict, size: dict) -> dict[str, float]:
    """Peak memory, in MB, that a model adds to a fresh process; `step(**size)` builds it and returns its step.

    `training` is all that it takes: parameters, gradients, Adam's moments, activations. `step` is what a step needs on
    top of what stays between steps; only Linux can tell, and elsewhere it is NaN. A model of size `small` runs first,
    so that what torch itself allocates at the first call is not counted.
    """
    step(**small)()
    before = peak_memory()
    take = step(**size)
    take()
    take()
    training = peak_memory() - before
    kept = forget_peak()
    take()
    return {"training": training, "step": float("nan") if kept is None else peak_memory() - kept}


def _status(key: str) -> float | None:
    status = Path("/proc/self/status")
    if not status.exists():
        return None
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) / 2**10
