"""The methods that are compared, by name, and which of them each comparison takes."""

import torch
from torch import Generator, Tensor

from lib.dictionaries.base import Dictionary
from lib.dictionaries.projective import Hybrid, Projective, Ridge
from lib.dictionaries.sae import L1, BatchTopK, TopK

DEAD = 20_000  # samples without use after which a latent is dead, some 600 times the mean interval
ALPHA = 0.005  # weight of the penalty on the effective dimension
IMPORTANCE = 30.0  # mean e^2 to which "ridge, normalised" brings each sample
BUDGET = 0.8  # of "ridge, budget", as a share of k
METHODS: dict[str, tuple[type[Dictionary], dict]] = {
    "top-k": (TopK, {"dead_after": DEAD}),
    "tied top-k": (TopK, {"dead_after": DEAD, "tied": True}),
    "BatchTopK": (BatchTopK, {"dead_after": DEAD}),
    "ReLU + L1, 0.1": (L1, {"penalty": 0.1}),
    "ReLU + L1, 0.2": (L1, {"penalty": 0.2}),
    "ReLU + L1, 0.4": (L1, {"penalty": 0.4}),
    "tied projection": (Projective, {}),
    "OMP projection": (Projective, {"support": "omp"}),
    "ridge": (Ridge, {"strength": ALPHA}),
    "tied ridge": (Ridge, {"strength": ALPHA, "tied": True}),
    "ridge, normalised": (Ridge, {"quota": "normalised", "strength": IMPORTANCE}),
    "ridge, budget": (Ridge, {"quota": "budget"}),
    "ridge, no quota": (Ridge, {"quota": "none"}),
    "hybrid": (Hybrid, {"dead_after": DEAD}),
    "tied hybrid": (Hybrid, {"dead_after": DEAD, "tied": True}),
    "penalised hybrid": (Hybrid, {"dead_after": DEAD, "penalty": ALPHA}),
    "penalised tied hybrid": (Hybrid, {"dead_after": DEAD, "penalty": ALPHA, "tied": True}),
}
CORE = ("top-k", "tied top-k", "tied projection", "ridge", "tied ridge", "hybrid")
RELU = ("ReLU + L1, 0.1", "ReLU + L1, 0.2", "ReLU + L1, 0.4")
# On every kind of planted data; the quotas on independent features; the variants on the hierarchy.
MAIN = ("top-k", "tied top-k", "BatchTopK", *RELU, "tied projection", "ridge", "tied ridge", "hybrid")
QUOTAS = ("ridge, normalised", "ridge, budget", "ridge, no quota")
VARIANTS = ("OMP projection", "tied hybrid", "penalised hybrid", "penalised tied hybrid")
ON_IMAGES = ("top-k", "tied top-k", "tied projection", "ridge", "hybrid")
TRANSCODERS = ("top-k", "ridge", "hybrid")
AMPLITUDES = ("top-k", "tied top-k")  # those whose refit by least squares is shown beside them


def build(
    name: str, *, d_in: int, d_sae: int, k: int, replicas: int, generator: Generator, **options
) -> Dictionary:
    """The untrained dictionary of a method, by its name in METHODS, with the sizes of `Dictionary`."""
    kind, extra = METHODS[name]
    extra = dict(extra)
    if name == "ridge, budget":
        extra["strength"] = BUDGET * k
    if kind is L1:
        k = min(d_sae, d_in) - 1  # every active latent, as far as a code can be refitted
    return kind(d_in=d_in, d_sae=d_sae, k=k, replicas=replicas, generator=generator, **extra, **options)


@torch.no_grad()
def initialise(model: Dictionary, x: Tensor) -> None:
    """Sets the centre to the mean of a first batch, `(replicas, batch, d)`."""
    model.centre.copy_(x.mean(1).expand_as(model.centre))
