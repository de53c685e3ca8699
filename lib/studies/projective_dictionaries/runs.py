"""Everything that the study trains and measures: jobs that run side by side, and the `Tables` that they make."""

import warnings
from collections.abc import Callable, Mapping

import joblib
import pandas as pd
import torch
from torch import Tensor

from lib.common.progress import progress
from lib.dictionaries.planted import KINDS
from lib.dictionaries.projection import project
from lib.dictionaries.references import NaiveProjection
from lib.networks.images import Images
from lib.studies.projective_dictionaries import alignment, factorial, hidden, transcoding
from lib.studies.projective_dictionaries.methods import CORE, MAIN, ON_IMAGES, QUOTAS, TRANSCODERS, VARIANTS
from lib.studies.projective_dictionaries.tables import Tables

RATES = (0.001, 0.003, 0.01)  # learning rates that are tried
ACTIVES = (1, 4, 16)  # variables active on average
MORE = {"independent": QUOTAS, "hierarchy": ("ridge, normalised", *VARIANTS)}  # methods beyond MAIN, at k = 8
SEEDS = dict(zip(KINDS, (11, 12, 13, 14), strict=True))  # of the planted dictionaries; the same at every k
LATENTS = {"pixels": 512, "layer 1": 256, "layer 2": 256}

Jobs = dict[object, tuple[Callable, dict]]  # by a name of its own: a function and its arguments
Layers = dict[str, tuple[Tensor, Tensor]]  # by name: training and test activations, each (seeds, n, d)


def parallel(jobs: Mapping[object, tuple[Callable, Mapping]], name: str) -> dict:
    """The results of jobs (a function and its arguments), in as many processes as there are cores, each on one."""
    run = joblib.Parallel(n_jobs=min(len(jobs), joblib.cpu_count()), return_as="generator")
    with warnings.catch_warnings():
        # joblib replaces workers that have grown, which is as it should be.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        results = run(joblib.delayed(_alone)(function, settings) for function, settings in jobs.values())
        return dict(zip(jobs, progress(results, name, total=len(jobs)), strict=True))


def _alone(function: Callable, settings: Mapping):
    torch.set_num_threads(1)
    return function(**settings)


def learning_rates(*, steps: int) -> pd.DataFrame:
    """FVU after `steps` minibatches of every method at each of RATES, on hierarchies of seeds used nowhere else.

    A row per method, a column per rate.
    """
    settings = {"kind": "hierarchy", "k": 8, "rates": RATES, "seeds": 1, "steps": steps, "seed": 91}
    halves = {"one": (*MAIN, *QUOTAS[:1]), "other": (*QUOTAS[1:], *VARIANTS)}
    jobs = {half: (factorial.tune, {**settings, "methods": methods}) for half, methods in halves.items()}
    return pd.concat(parallel(jobs, "learning rates").values())


def tables(
    images: Images,
    rates: Mapping[str, float],
    *,
    seeds: int,
    steps: int,
    layer_steps: int,
    network_steps: int,
    alignment_steps: int,
    samples: int,
) -> Tables:
    """All that is measured, with the notebook's parameters and the learning rate of each method."""
    network = hidden.train(images, seeds=seeds, steps=network_steps, seed=3)
    layers = _layers(images, network, seeds)
    labels = images.test_labels[: layers["pixels"][1].shape[1]]
    jobs = (
        {"variables": _variables(seeds=seeds, steps=alignment_steps)}
        | _on_planted(rates, seeds=seeds, steps=steps, samples=samples)
        | _on_layers(layers, rates, network=network, labels=labels, steps=layer_steps)
        | {"transcoders": _transcoders(layers, rates, steps=layer_steps)}
        | {"pairs": _pairs(images, seeds=seeds, steps=alignment_steps, network_steps=network_steps)}
        | _baselines(seeds=seeds, samples=samples)
    )
    results = parallel(jobs, "dictionaries")
    planted = [found for found in results.values() if isinstance(found, dict)]
    return Tables(
        **{
            part: pd.concat([found[part] for found in planted])
            for part in ("codes", "dictionaries", "curves")
        },
        baselines=pd.concat([results["baselines", kind] for kind in KINDS]),
        layers=pd.concat([results[layer].assign(layer=layer) for layer in layers]),
        transcoders=results["transcoders"],
        swaps=results["variables"],
        pairs=results["pairs"],
        gradients=gradients(seeds),
    )


def _layers(images: Images, network: hidden.Network, seeds: int) -> Layers:
    """Pixels, the same for all seeds, and the hidden layers of each seed's network."""
    parts = (images.train_images[:20000], images.test_images[:4000])
    pixels = tuple(hidden.pixels(part)[None].expand(seeds, -1, -1) for part in parts)
    with torch.no_grad():
        inside = {name: tuple(network.layer(part, name) for part in pixels) for name in hidden.LAYERS}
    return {"pixels": pixels, **inside}


def _on_planted(rates: Mapping[str, float], *, seeds: int, steps: int, samples: int) -> Jobs:
    """All methods at k = 8 on every kind; those of CORE at other k, from two starts where k is twice too large."""
    common = {"rates": rates, "seeds": seeds, "steps": steps, "samples": samples}
    jobs = {}
    for kind in KINDS:
        methods = [*MAIN, *MORE.get(kind, ())]
        settings = {"kind": kind, "k": 8, "methods": methods, "seed": SEEDS[kind], **common}
        jobs[kind, 8] = factorial.planted, settings
    for kind in ("coherent", "hierarchy"):
        for k in (4, 16, 32):
            settings = {"kind": kind, "k": k, "methods": CORE, "seed": SEEDS[kind], **common}
            starts = 2 if (kind, k) == ("coherent", 16) else 1
            jobs[kind, k] = factorial.planted, {**settings, "selections": ("own",), "starts": starts}
    return jobs


def _baselines(*, seeds: int, samples: int) -> Jobs:
    settings = {"k": 8, "seeds": seeds, "samples": samples, "train": 2 * samples}
    return {
        ("baselines", kind): (factorial.baselines, {"kind": kind, "seed": SEEDS[kind], **settings})
        for kind in KINDS
    }


def _on_layers(
    layers: Layers, rates: Mapping[str, float], *, network: hidden.Network, labels: Tensor, steps: int
) -> Jobs:
    """Dictionaries of pixels and hidden layers; those of layers are also put in their place in the network."""
    jobs = {}
    for layer, (train, test) in layers.items():
        recovered = None if layer == "pixels" else hidden.Recovered(network, layer, labels=labels)
        data = {"train": train, "test": test, "recovered": recovered}
        settings = {"k": 8, "latents": LATENTS[layer], "steps": steps, "rates": rates, "seed": 21}
        jobs[layer] = hidden.compare, {"methods": ON_IMAGES, **data, **settings}
    return jobs


def _transcoders(layers: Layers, rates: Mapping[str, float], *, steps: int) -> tuple[Callable, dict]:
    """From the image to layer 2."""
    a, test_a = transcoding.standardise_together(*layers["pixels"])
    y, test_y = transcoding.standardise_together(*layers["layer 2"])
    data = {"a": a, "y": y, "test_a": test_a, "test_y": test_y}
    settings = {"k": 8, "latents": 256, "steps": steps, "rates": rates, "seed": 22}
    return transcoding.compare, {"methods": TRANSCODERS, **data, **settings}


def _variables(*, seeds: int, steps: int) -> tuple[Callable, dict]:
    return alignment.superposed, {
        "actives": ACTIVES,
        "seeds": seeds,
        "steps": steps,
        "network_steps": 10 * steps,
        "seed": 31,
    }


def _pairs(images: Images, *, seeds: int, steps: int, network_steps: int) -> tuple[Callable, dict]:
    return alignment.digit_pairs, {
        "images": hidden.pixels(images.train_images),
        "labels": images.train_labels,
        "test_images": hidden.pixels(images.test_images),
        "test_labels": images.test_labels,
        "seeds": seeds,
        "steps": 4 * steps,
        "network_steps": network_steps,
        "seed": 32,
    }


def gradients(seeds: int) -> pd.DataFrame:
    """The closed-form gradient of the projection against autograd's through the solve, on random dictionaries.

    Tidy: seed, dtype ("float64" or "float32"), difference (the largest, over the largest entry).
    """
    rows = [
        {
            "seed": seed,
            "dtype": str(dtype).removeprefix("torch."),
            "difference": _gradient_difference(seed, dtype),
        }
        for dtype in (torch.float64, torch.float32)
        for seed in range(seeds)
    ]
    return pd.DataFrame(rows)


def _gradient_difference(seed: int, dtype: torch.dtype) -> float:
    generator = torch.Generator().manual_seed(seed)
    naive = NaiveProjection(d_in=24, d_sae=96, k=8, epsilon=0.0, generator=generator).to(dtype)
    sample = torch.randn(32, 24, generator=generator).to(dtype)
    index = (sample @ naive.decoder.detach().mT).topk(8).indices
    through_solve, closed_form = (
        torch.autograd.grad((y_hat.sin() * sample).sum(), naive.decoder)[0]
        for y_hat in (naive(sample), project(naive.decoder, index, sample).y_hat)
    )
    return float((through_solve - closed_form).abs().max() / through_solve.abs().max())
