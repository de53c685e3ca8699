"""The speed of a training step, as ratios measured in one run: our dictionaries, plain references and the peers.

A step is a whole one: forward, backward, clipping, Adam, decoder rows back to norm 1; float32, one thread, CPU time.
The methods take their steps in turn, so that what else the machine does meets them alike; what is compared is the
ratio within a repetition.

    python -m lib.studies.speed.measures reports/benchmark/speed.ipynb      prints the tables of an executed notebook
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from lib.common import timing
from lib.common.files import ROOT
from lib.common.timing import threads
from lib.dictionaries import coding, references, training
from lib.dictionaries.base import Dictionary, TopK
from lib.dictionaries.projective import Hybrid, Projective, Ridge
from lib.studies.speed import peers


@dataclass(frozen=True)
class Size:
    """Width d, latents n, active latents k and samples in a batch. Raises ValueError where k is not below d and n."""

    d: int
    n: int
    k: int
    batch: int

    def __post_init__(self):
        if not 1 <= self.k < min(self.d, self.n) or self.batch < 1:
            raise ValueError(f"size {self}: k must be at least 1 and below d and n, and batch at least 1")

    def __str__(self) -> str:
        return f"d={self.d:,} n={self.n:,} k={self.k} batch={self.batch:,}"


LARGE, SMALL = Size(512, 8192, 32, 1024), Size(64, 256, 16, 1024)  # those of the issue
_TINY = Size(16, 64, 4, 32)

OURS: dict[str, Callable[..., Dictionary]] = {
    "top-k": TopK,
    "top-k, tied": lambda *size, **options: TopK(*size, tied=True, **options),
    "projective": Projective,
    "ridge": Ridge,
    "hybrid": Hybrid,
}
REFERENCES = {"dense top-k": references.DenseTopK, "naive projection": references.NaiveProjection}
PEERS = {
    "SAELens": "saelens",
    "SAELens, sparse": "saelens_sparse",
    "dictionary_learning": "dictionary_learning",
}


def methods(with_peers: bool = False) -> list[str]:
    """The names of what is compared."""
    return [*OURS, *REFERENCES, *(PEERS if with_peers else ())]


def steps(
    sizes: Mapping[str, Size],
    repetitions: int = 3,
    with_peers: bool = False,
    rounds: int | None = None,
    names: Iterable[str] | None = None,
) -> pd.DataFrame:
    """CPU seconds of a training step: method, size, repetition, seconds (the median over `rounds` steps in turn).

    Without `rounds` there are 3, and up to 25 where steps are short. Raises peers.PeersError where the peers have no
    environment.
    """
    names = methods(with_peers) if names is None else list(names)
    rows = []
    with threads(1), peers.Peers() if set(names) & set(PEERS) else nullcontext() as pipe:
        for label, size in sizes.items():
            takes = {name: _timed(name, size, pipe) for name in names}
            for take in takes.values():  # the first steps also allocate, and choose their kernels
                take()
            shortest = min(take() for take in takes.values())
            turns = min(max(3, round(0.1 / shortest)), 25) if rounds is None else rounds
            for repetition in range(repetitions):
                seconds = {name: [] for name in names}
                for _ in range(turns):
                    for name, take in takes.items():
                        seconds[name].append(take())
                rows += [
                    dict(method=name, size=label, repetition=repetition, seconds=float(pd.Series(s).median()))
                    for name, s in seconds.items()
                ]
    return pd.DataFrame(rows)


def memory(
    size: Size, repetitions: int = 2, with_peers: bool = False, names: Iterable[str] | None = None
) -> pd.DataFrame:
    """Peak memory in MB, each in a process of its own: method, repetition, training, step (`lib.common.timing.added_memory`)."""
    names = methods(with_peers) if names is None else list(names)
    jobs = [(name, repetition) for repetition in range(repetitions) for name in names]
    ours = iter(_memory_of_ours([name for name, _ in jobs if name not in PEERS], size))
    rows = [
        dict(method=name, repetition=repetition)
        | (_memory_of_peer(name, size) if name in PEERS else next(ours))
        for name, repetition in jobs
    ]
    return pd.DataFrame(rows)


def omp_coding(size: Size, repetitions: int = 3) -> pd.DataFrame:
    """CPU seconds to code a batch: repetition; encoder (top-k), encoder with projection, threshold, OMP."""
    g = torch.Generator().manual_seed(0)
    topk, hybrid = (kind(size.d, size.n, size.k, generator=g).eval() for kind in (TopK, Hybrid))
    x = torch.randn(1, size.batch, size.d, generator=g)
    codes = {
        "encoder": lambda: topk.select(x),
        "encoder, projection": lambda: hybrid.reconstruct(hybrid.select(x), x),
        "threshold": lambda: coding.threshold(topk.decoder, x, size.k),
        "OMP": lambda: coding.omp(topk.decoder, x, size.k),
    }
    with threads(1), torch.no_grad():
        for code in codes.values():
            code()
        rows = [
            {"repetition": repetition} | {name: _cpu_seconds(code) for name, code in codes.items()}
            for repetition in range(repetitions)
        ]
    return pd.DataFrame(rows)


def ratios(table: pd.DataFrame, over: str = "top-k", column: str = "seconds") -> pd.DataFrame:
    """Each method's `column` over that of the method `over`, paired within the repetition: `(repetitions, methods)`."""
    wide = table.pivot(index="repetition", columns="method", values=column)
    return wide.div(wide[over], axis=0)[list(dict.fromkeys(table["method"]))]


def summary(ratio: pd.DataFrame) -> pd.DataFrame:
    """A row a method: median, least and largest ratio over the repetitions."""
    return pd.DataFrame({"ratio": ratio.median(), "least": ratio.min(), "largest": ratio.max()})


def training_step(name: str, size: Size) -> Callable[[], None]:
    """The training step of a method of ours, or of a reference, on one fixed batch of standard normal numbers."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(size.batch, size.d, generator=g)
    if name in OURS:
        step = training.Step(OURS[name](size.d, size.n, size.k, generator=g))
        return lambda: step(x)
    if name not in REFERENCES:
        raise ValueError(f"method {name!r}; known: {', '.join(methods())}")
    return references.step(REFERENCES[name](size.d, size.n, size.k, generator=g), x)


def _timed(name: str, size: Size, pipe: peers.Peers | None) -> Callable[[], float]:
    if name in PEERS:
        return lambda: pipe.ask("step", peer=PEERS[name], **asdict(size))["seconds"][0]
    step = training_step(name, size)
    return lambda: _cpu_seconds(step)


def _cpu_seconds(step: Callable[[], Tensor | None]) -> float:
    before = time.process_time()
    step()
    return time.process_time() - before


def _memory_of_peer(name: str, size: Size) -> dict[str, float]:
    with peers.Peers(timing.FREED) as pipe:
        return pipe.ask("memory", peer=PEERS[name], small=asdict(_TINY), size=asdict(size))


def _memory_of_ours(names: list[str], size: Size) -> list[dict[str, float]]:
    """Starts a process (with an environment of its own) that starts one for each method: importing takes seconds."""
    command = [
        sys.executable,
        "-m",
        "lib.studies.speed.measures",
        "--memory-of",
        json.dumps([names, asdict(size)]),
    ]
    run = subprocess.run(
        command,
        check=True,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | timing.FREED | {"OMP_NUM_THREADS": "1"},
    )
    return json.loads(run.stdout)


def _print_memory(names: list[str], size: dict) -> None:
    # The first step of an optimiser imports what takes longer than all the rest; no backward pass before a fork.
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)
    torch.optim.Adam([weight], fused=True).step()
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    with context.Pool(1, maxtasksperchild=1) as pool:
        print(json.dumps(pool.starmap(_added_memory, [(name, size) for name in names], chunksize=1)))


def _added_memory(name: str, size: dict) -> dict[str, float]:
    with threads(1):
        return timing.added_memory(lambda **s: training_step(name, Size(**s)), small=asdict(_TINY), size=size)


def _print_tables(path: Path) -> None:
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if "<table" in "".join(data.get("text/html", "")):
                print("".join(data["text/plain"]), end="\n\n")


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m lib.studies.speed.measures", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("notebook", type=Path, nargs="?", help="an executed notebook: prints its tables")
    parser.add_argument("--memory-of", metavar="METHODS_AND_SIZE", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory_of:
        _print_memory(*json.loads(arguments.memory_of))
    elif arguments.notebook is None or not arguments.notebook.exists():
        sys.exit(f"there is no {arguments.notebook or 'notebook named'}; `make benchmark` makes one")
    else:
        _print_tables(arguments.notebook)


if __name__ == "__main__":
    main()
