"""The peak memory that training adds, each method in a process of its own."""

import json
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict

import pandas as pd
import torch

from lib.common import timing
from lib.common.files import ROOT
from lib.studies.speed import measures
from lib.studies.speed.measures import PEERS, Size
from lib.studies.speed.peers import Peers

_TINY = Size(d=16, n=64, k=4, batch=32)


def peak(
    size: Size, *, repetitions: int = 2, with_peers: bool = False, names: Iterable[str] | None = None
) -> pd.DataFrame:
    """Peak memory in MB as of `lib.common.timing.added_memory`: method, repetition, training, step.

    `names` chooses among `measures.methods`. Raises peers.PeersError where the peers have no environment.
    """
    names = measures.methods(with_peers) if names is None else list(names)
    jobs = [(name, repetition) for repetition in range(repetitions) for name in names]
    ours = [job for job in jobs if job[0] not in PEERS]
    found = dict(zip(ours, _of_ours([name for name, _ in ours], size), strict=True))
    found |= {job: _of_peer(job[0], size) for job in jobs if job[0] in PEERS}
    return pd.DataFrame([dict(method=job[0], repetition=job[1]) | found[job] for job in jobs])


def _of_peer(name: str, size: Size) -> dict[str, float]:
    with Peers(timing.FREED) as pipe:
        return pipe.ask("memory", peer=PEERS[name], small=asdict(_TINY), size=asdict(size))


def _of_ours(names: list[str], size: Size) -> list[dict[str, float]]:
    """Starts a process (with an environment of its own) that starts one for each method: importing takes seconds."""
    run = subprocess.run(
        [sys.executable, "-m", "lib.studies.speed.memory", json.dumps([names, asdict(size)])],
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | timing.FREED | {"OMP_NUM_THREADS": "1"},
    )
    return json.loads(run.stdout)


def _print_added(names: list[str], size: dict[str, int]) -> None:
    # The first step of an optimiser imports what takes longer than all the rest; no backward pass before a fork.
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)
    torch.optim.Adam([weight], fused=True).step()
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        print(json.dumps(pool.starmap(_added, [(name, size) for name in names], chunksize=1)))


def _added(name: str, size: dict[str, int]) -> dict[str, float]:
    with timing.threads(1):
        return timing.added_memory(
            lambda **s: measures.training_step(name, Size(**s)), small=asdict(_TINY), size=size
        )


if __name__ == "__main__":  # the process that `peak` starts
    _print_added(*json.loads(sys.argv[1]))
