"""The speed of diffusion and of replicas, as ratios measured in one run.

Factorised diffusion against the dense kernel, forward and backward on one core, with peak memory; and
a training step of 32 inner replicas against one.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch

from lib.common.timing import peak_memory, threads
from lib.studies.mnist_superposition import inner
from lib.studies.mnist_superposition.affinity import diffuse, pwak

SIZES = (1024, 4096, 16384)
CLUSTERS, LATENTS = 12, 27  # the study's sizes


def _seconds(step: Callable[[], None], at_least: float = 0.3) -> float:
    """Least wall time of `step`, in seconds, among calls that together last `at_least` seconds.

    The least and not the mean: warming up and other processes can only add to it.
    """
    best, start = float("inf"), time.perf_counter()
    while best == float("inf") or time.perf_counter() - start < at_least:
        before = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - before)
    return best


def _step(kernel: str, n: int) -> Callable[[], None]:
    """A forward and backward pass of PWAK(K) E, float32, by the "dense" or the "factorised" kernel."""
    g = torch.Generator().manual_seed(0)
    K = torch.randn(CLUSTERS, n, generator=g).softmax(0).requires_grad_()
    E = torch.randn(n, LATENTS, generator=g).requires_grad_()
    gradient = torch.randn(n, LATENTS, generator=g)
    apply = {"dense": lambda: pwak(K) @ E, "factorised": lambda: diffuse(K, E)}[kernel]

    def step():
        K.grad = E.grad = None
        apply().backward(gradient)

    return step


def diffusion(sizes: Sequence[int] = SIZES, *, repetitions: int = 3) -> pd.DataFrame:
    """Time of both kernels on one core: n, repetition, dense and factorised (seconds), ratio."""
    rows = []
    with threads(1):
        for kernel in ("dense", "factorised"):
            _step(kernel, 64)()  # torch chooses and loads its own kernels at the first call
        for repetition in range(repetitions):
            for n in sizes:
                dense, factorised = (_seconds(_step(kernel, n)) for kernel in ("dense", "factorised"))
                rows.append(dict(n=n, repetition=repetition, dense=dense, factorised=factorised))
    table = pd.DataFrame(rows)
    return table.assign(ratio=table["dense"] / table["factorised"])


def summary(times: pd.DataFrame) -> pd.DataFrame:
    """`diffusion` as a report shows it, by n: medians over repetitions, and the least and the largest ratio."""
    by_n = times.groupby("n")
    table = by_n[["dense", "factorised", "ratio"]].median()
    table["ratio, least"], table["ratio, most"] = by_n["ratio"].min(), by_n["ratio"].max()
    return table.rename(columns={"dense": "dense, s", "factorised": "factorised, s"})


def exponents(times: pd.DataFrame, kernel: str) -> np.ndarray:
    """Exponent of n in the time of `kernel` between the two largest sizes, one per repetition."""
    wide = times.pivot(index="repetition", columns="n", values=kernel)
    small, large = sorted(wide.columns)[-2:]
    return (np.log(wide[large] / wide[small]) / np.log(large / small)).to_numpy()


def memory(sizes: Sequence[int] = SIZES) -> pd.DataFrame:
    """Peak resident memory, in MB, that one pass adds in a process of its own: n, dense, factorised."""
    rows = []
    for n in sizes:
        peak = {}
        for kernel in ("dense", "factorised"):
            command = [sys.executable, "-m", "lib.studies.mnist_superposition.timing", kernel, str(n)]
            peak[kernel] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        rows.append(dict(n=n, **peak))
    return pd.DataFrame(rows)


def _added_memory(kernel: str, n: int) -> float:
    with threads(1):
        _step(kernel, 64)()  # what torch itself allocates at the first call is not the kernel's
        step = _step(kernel, n)
        before = peak_memory()
        step()
        return peak_memory() - before


def replicas(*, many: int = 32, batch: int = 256, repetitions: int = 3) -> pd.DataFrame:
    """Time of a DeePWAK training step with 1 and with `many` replicas, all cores: repetition, one, many, ratio."""
    rows = []
    for repetition in range(repetitions):
        seconds = {}
        for count in (1, many):
            model = inner.build("DeePWAK", count)
            optimiser = torch.optim.Adam(model.parameters())
            x = torch.randn(count, batch, 3, generator=torch.Generator().manual_seed(repetition))

            def step(model=model, optimiser=optimiser, x=x):
                optimiser.zero_grad()
                model.loss(x).sum().backward()
                optimiser.step()

            seconds[count] = _seconds(step, 1.0)
        rows.append(dict(repetition=repetition, one=seconds[1], many=seconds[many]))
    table = pd.DataFrame(rows)
    return table.assign(ratio=table["many"] / table["one"])


if __name__ == "__main__":  # for `memory`
    print(_added_memory(sys.argv[1], int(sys.argv[2])))
