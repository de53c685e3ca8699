"""The CPU time of training steps and of coding: our dictionaries, plain references and the peers.

A step is a whole one: forward, backward, clipping, Adam, decoder rows back to norm 1; float32, one thread, CPU time.
The methods take their steps in turn, so that background load affects all equally; what is compared is the ratio within
a repetition (`lib.studies.speed.evidence`).
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial

import pandas as pd
import torch

from lib.common.timing import cpu_seconds, threads
from lib.dictionaries import coding, references, training
from lib.dictionaries.base import Dictionary
from lib.dictionaries.projective import Hybrid, Projective, Ridge
from lib.dictionaries.sae import TopK
from lib.studies.speed.peers import Peers


@dataclass(frozen=True, kw_only=True)
class Size:
    """Width d, latents n, active latents k and samples per batch. Raises ValueError where k is not below d and n."""

    d: int
    n: int
    k: int
    batch: int

    def __post_init__(self):
        if not 1 <= self.k < min(self.d, self.n) or self.batch < 1:
            raise ValueError(f"size {self}: k must be at least 1 and below d and n, and batch at least 1")

    def __str__(self) -> str:
        return f"d={self.d:,} n={self.n:,} k={self.k} batch={self.batch:,}"


LARGE, SMALL = Size(d=512, n=8192, k=32, batch=1024), Size(d=64, n=256, k=16, batch=1024)  # of the claims

OURS: dict[str, Callable[..., Dictionary]] = {
    "top-k": TopK,
    "top-k, tied": partial(TopK, tied=True),
    "projective": Projective,
    "ridge": Ridge,
    "hybrid": Hybrid,
}
REFERENCES = {"dense top-k": references.DenseTopK, "naive projection": references.NaiveProjection}
PEERS = {  # as `lib.studies.speed.peers.STEPS` calls them
    "SAELens": "saelens",
    "SAELens, sparse": "saelens_sparse",
    "dictionary_learning": "dictionary_learning",
}
ABOUT = {
    "top-k": "top-k SAE (Gao et al. 2024), decode by gathering, sparse gradients for encoder and decoder",
    "top-k, tied": "the same with the decoder's rows as encoder: half the parameters",
    "projective": "tied, exact projection, coefficients held fixed in the backward pass (envelope theorem)",
    "ridge": "untied, ridge with importances from the encoder, gradients from one Cholesky factor",
    "hybrid": "top-k loss for the encoder, projection loss for the decoder",
    "dense top-k": "plain: code written into n numbers per sample, dense products, autograd",
    "naive projection": "plain: exact projection, autograd through a linear solve",
    "SAELens": "its TopKTrainingSAE in its SAETrainer's step, as they come",
    "SAELens, sparse": (
        "the same with use_sparse_activations=True (and without rescaling by decoder norms, which then fails)"
    ),
    "dictionary_learning": "its TopKTrainer's update",
}


def methods(with_peers: bool = False) -> list[str]:
    """The names of what is compared."""
    return [*OURS, *REFERENCES, *(PEERS if with_peers else ())]


def steps(
    sizes: Mapping[str, Size],
    *,
    repetitions: int = 3,
    with_peers: bool = False,
    rounds: int | None = None,
    names: Iterable[str] | None = None,
) -> pd.DataFrame:
    """CPU seconds of a training step: method, size (its label), repetition, seconds (the median over `rounds` steps).

    Without `rounds` there are 3, and up to 25 where steps are short. `names` chooses among `methods`. Raises
    peers.PeersError where the peers have no environment.
    """
    names = methods(with_peers) if names is None else list(names)
    rows = []
    with threads(1), Peers() if set(names) & set(PEERS) else nullcontext() as pipe:
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


def omp_coding(size: Size, *, repetitions: int = 3) -> pd.DataFrame:
    """CPU seconds to code a batch, a row per repetition: encoder (top-k); encoder, projection; threshold; OMP."""
    g = torch.Generator().manual_seed(0)
    topk, hybrid = (kind(d_in=size.d, d_sae=size.n, k=size.k, generator=g).eval() for kind in (TopK, Hybrid))
    x = torch.randn(1, size.batch, size.d, generator=g)
    codes = {
        "encoder": lambda: topk.select(x),
        "encoder, projection": lambda: hybrid.reconstruct(hybrid.select(x), x),
        "threshold": lambda: coding.threshold(topk.decoder, x, k=size.k),
        "OMP": lambda: coding.omp(topk.decoder, x, k=size.k),
    }
    with threads(1), torch.no_grad():
        for code in codes.values():
            code()
        rows = [{name: cpu_seconds(code)[1] for name, code in codes.items()} for _ in range(repetitions)]
    return pd.DataFrame(rows).rename_axis("repetition")


def training_step(name: str, size: Size) -> Callable[[], object]:
    """The training step of a method of ours, or of a reference, on one fixed batch of standard normal numbers."""
    g = torch.Generator().manual_seed(0)
    x = torch.randn(size.batch, size.d, generator=g)
    sizes = {"d_in": size.d, "d_sae": size.n, "k": size.k}
    if name in OURS:
        step = training.Step(OURS[name](**sizes, generator=g))
        return lambda: step(x)
    if name not in REFERENCES:
        raise ValueError(f"method {name!r}; known: {', '.join([*OURS, *REFERENCES])}")
    return references.step(REFERENCES[name](**sizes, generator=g), x)


def _timed(name: str, size: Size, pipe: Peers | None) -> Callable[[], float]:
    """A function that takes one step and returns its CPU time in seconds."""
    if name in PEERS:
        return lambda: pipe.ask("step", peer=PEERS[name], **asdict(size))["seconds"][0]
    step = training_step(name, size)
    return lambda: cpu_seconds(step)[1]
