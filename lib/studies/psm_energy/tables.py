"""The notebook's tables: each measure over every feature set, layer and seed.

`sets`: feature sets by (model, seed, kind); `layers`: by model, those that are probed. Every row says its model, seed,
set and layer.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.energy import excess_energy, matching, nulls
from lib.energy.objective import KERNELS, equal_weights, similarity
from lib.language.model import LanguageModel
from lib.neox import facts
from lib.probes import directions, fit
from lib.probes import sets as labelled
from lib.studies.psm_energy import embeddings, measures, timing
from lib.studies.psm_energy.feature_sets import ATHLETES, FeatureSet
from lib.studies.psm_energy.layers import psm
from lib.studies.psm_energy.strengths import over_strengths

Sets = Mapping[tuple[str, int, str], FeatureSet]
Layers = Mapping[str, Sequence[int]]
SIGMAS = (0.003, 0.01, 0.03, 0.1, 0.3)
ALL_LAYERS, LAST_LAYER = "real, all layers", "20 times shuffled, last layer"  # whose probes are timed


def over_layers(
    sets: Sets, layers: Layers, measure: Callable[[FeatureSet, int, int], pd.DataFrame]
) -> pd.DataFrame:
    """One table of `measure(features, index of the layer, seed)` over every layer of every feature set."""
    parts = []
    for (model, seed, kind), features in sets.items():
        for i, layer in enumerate(layers[model]):
            part = measure(features, i, seed)
            parts.append(part.assign(model=model, seed=seed, set=kind, layer=layer))
    return pd.concat(parts, ignore_index=True)


def ranks(sets: Sets) -> pd.DataFrame:
    """AUC of the probes in the last layer, by model, set and feature, mean over seeds; and with random weights."""
    rows = []
    for (model, _, kind), features in sets.items():
        probed = features.probed
        for i, feature in enumerate(features.names):
            row = {"model": model, "set": kind, "feature": feature}
            row |= {"AUC": probed.auc[-1, i], "low": probed.low[-1, i], "high": probed.high[-1, i]}
            rows.append(row | {"random": features.random_auc[-1, :, i].mean()})
    return pd.DataFrame(rows).groupby(["model", "set", "feature"], sort=False).mean()


def dropped(sets: Sets) -> pd.DataFrame:
    """Why features were left out, by model and feature."""
    found = {
        (model, feature): why
        for (model, _, _), features in sets.items()
        for feature, why in features.dropped.items()
    }
    return pd.DataFrame({"why it is left out": found}).rename_axis(["model", "feature"])


def regularisation(models: Mapping[str, LanguageModel], sets: Sets, *, layers: Layers) -> pd.DataFrame:
    """`over_strengths` for four kinds of features, in the last layer that is probed of every model."""
    parts = []
    for name, model in models.items():
        asked = {
            kind: features.items for (of, seed, kind), features in sets.items() if (of, seed) == (name, 0)
        }
        asked["politicians"] = labelled.politicians(model.tokenizer)
        asked["compound words"] = labelled.compounds(model.tokenizer)
        for kind, items in asked.items():
            X = directions.item_activations(model, items, layers=layers[name][-1:])
            people = kind in (ATHLETES, "politicians")  # who keep one label, also when labels are shuffled
            part = over_strengths(X, items, rng=np.random.default_rng(0), whole_groups=people)
            parts.append(part.assign(model=name, set=kind, features=len(items.features)))
    return pd.concat(parts).set_index(["model", "set", "features", "C"])


def measured(sets: Sets, layers: Layers, *, draws: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """`measures.measured`: of the real PSM and its nulls in f dimensions; and of the real one alone in n - 1."""

    def both(features: FeatureSet, i: int, seed: int) -> pd.DataFrame:
        others = {"shuffled labels": features.shuffled[i], "random weights": features.random[i]}
        real = features.probed.directions[i]
        found = measures.targets(real, others, draws=draws, generator=_generator(seed))
        simplex = measures.measured({"real": found["real"]}, f=len(features.names) - 1)
        return pd.concat([measures.measured(found).assign(at="f"), simplex.assign(at="n - 1")])

    table = over_layers(sets, layers, both)
    return table[table["at"] == "f"], table[table["at"] == "n - 1"]


def perturbed(sets: Sets, layers: Layers) -> pd.DataFrame:
    """`measures.as_in_slides` at the slides' two perturbations."""
    return over_layers(
        sets,
        layers,
        lambda features, i, seed: measures.as_in_slides(
            features.probed.directions[i], (0.1, 0.01), seed=seed
        ),
    )


def curves(sets: Mapping[str, FeatureSet], *, repetitions: int = 5) -> pd.DataFrame:
    """Re-optimisation from SIGMAS, exp kernel, last layer, by set: of the actual and of the permuted directions."""
    parts = []
    for kind, features in sets.items():
        actual = features.probed.directions[-1]
        permuted = nulls.coordinate_permuted(actual, 1, generator=_generator(0))[0]
        for which, x in (("actual", actual), ("permuted", permuted)):
            for seed in range(repetitions):
                part = measures.as_in_slides(x, SIGMAS, seed=seed, kinds=("cosine",), kernels=("exp",))
                parts.append(part.assign(set=kind, target=which))
    return pd.concat(parts)


def minima(sizes: Sequence[int]) -> pd.DataFrame:
    """How many minima n vectors have in f dimensions, for n in `sizes`, f from 2 to n, and every kernel."""
    rows = []
    for n in sizes:
        for f, kernel in itertools.product(range(2, n + 1), KERNELS):
            found = excess_energy.minima(n, f=f, kernel=kernel)
            row = {"n": n, "f": f, "kernel": kernel, "minima": len(found.values)}
            reached = found.counts[0].item() / found.counts.sum().item()
            row |= {"restarts": int(found.counts.sum()), "lowest reached by": reached}
            rows.append(row | {"largest gradient": found.gradient, "converged": found.converged})
    return pd.DataFrame(rows)


@dataclass(frozen=True)
class Descent:
    """From a target PSM in its last layer, through the configuration fitted in f dimensions, to the minima below.

    `psms`: by what it is of, `(n, n)`; `heights`: by kernel, the excess energy on the way, `(steps,)`; `moved`: the
    distance from the fitted PSM to that of the minimum of the exp energy.
    """

    f: int
    psms: dict[str, Tensor]
    heights: dict[str, Tensor]
    moved: float


def descent(features: FeatureSet) -> Descent:
    """The descent from a feature set's directions in its last layer."""
    target = psm(features, -1)
    n = len(target)
    f = measures.dimensions(n)
    start = matching.fit(target[None], f)
    fitted, psms, heights = matching.psm(start)[0], {}, {}
    for kernel in KERNELS:
        end = matching.reoptimise(start.x, equal_weights(n), kernel=kernel)
        psms[kernel] = matching.psm(end)[0]
        least = excess_energy.minima(n, f=f, kernel=kernel).values[0]
        height = excess_energy.path(start.x[0], end.x[0], kernel=kernel)
        heights[kernel] = (height - least) / (excess_energy.random_energy(n, f=f, kernel=kernel) - least)
    shown = {"target": target, f"fitted, f = {f}": fitted}
    shown |= {f"minimum below, {kernel}": psms[kernel] for kernel in ("exp", "log")}
    shown["lowest minimum, exp"] = similarity(excess_energy.minima(n, f=f).x[0])
    return Descent(f, shown, heights, matching.distance(psms["exp"], fitted).item())


def details(sets: Sets, layers: Layers) -> pd.DataFrame:
    """The converged joint step, one row per layer: importance, drift, inert norms, and distances by lambda_d."""
    strengths = (0.1, 1.0, 10.0, 100.0, 1000.0)

    def one(features: FeatureSet, i: int, seed: int) -> pd.DataFrame:
        target = psm(features, i)
        weights = measures.importance(target, seed=seed).set_index("diagonal")["largest"]
        row = {"n": len(target), "left out": weights[False], "kept": weights[True]}
        row |= {f"drift, {kernel}": x for kernel, x in measures.drift(target, seed=seed).items()}
        row |= {f"inert, {kernel}": x for kernel, x in measures.norms_inert(target, seed=seed).items()}
        table = measures.regularised(target, strengths)
        far = table.set_index(["strength", "start"])["distance"]
        for strength in strengths:
            row[f"λ {strength:g}"] = far[strength, 0]
            if strength == 100:
                row["λ 100, other start"] = far[strength, 1]
        return pd.DataFrame([row])

    return over_layers(sets, layers, one)


def rbf(sets: Sets, layers: Layers, *, draws: int) -> pd.DataFrame:
    """`measures.rbf_distances` of the real directions and of those with permuted coordinates."""

    def one(features: FeatureSet, i: int, seed: int) -> pd.DataFrame:
        # One scale for all layers, so that their norms still differ.
        x = measures.scaled(features.probed.directions)[i]
        permuted = nulls.coordinate_permuted(x, draws, generator=_generator(seed))
        return measures.rbf_distances({"real": x[None], "coordinate-permuted": permuted})

    return over_layers(sets, layers, one)


def simplices(models: Mapping[str, LanguageModel], *, draws: int) -> pd.DataFrame:
    """`embeddings.simplices` of every model."""
    parts = [
        embeddings.simplices(model, draws=draws, rng=np.random.default_rng(0)).assign(model=name)
        for name, model in models.items()
    ]
    return pd.concat(parts, ignore_index=True)


def planted(draws: int, *, count: int = 10, d: int = 512) -> pd.DataFrame:
    """Planted minimisers and random directions, as many features as the athletes': rows kind, p, excess.

    `p`: of the excess energy (exp kernel) against `draws` edge-shuffled PSMs; noise is a tenth of a direction's length.
    """
    n = len(facts.SPORTS)
    f = measures.dimensions(n)
    generator = _generator(1)
    configurations = {
        "planted": excess_energy.planted_minimiser(n, f=f, d=d, noise=0.1, count=count, generator=generator),
        "random": torch.randn(count, n, d, generator=generator, dtype=torch.float64),
    }
    rows = []
    for kind, x in configurations.items():
        for configuration in x:
            found = measures.targets(configuration, {}, draws=draws, generator=generator)
            chosen = {name: found[name] for name in ("real", "edge-shuffled")}
            got = measures.measured(chosen, f=f, kernels=("exp",))
            p = measures.p_values(got)["edge-shuffled"]
            rows.append({"kind": kind, "p": p, "excess": got["excess"].iloc[0]})
    return pd.DataFrame(rows)


def probe_times(model: LanguageModel, features: FeatureSet, *, repetitions: int) -> pd.DataFrame:
    """`timing.against_sklearn`, on real labels in all layers and on shuffled ones in the last: also labels, C, tol."""
    items = features.items
    X = directions.item_activations(model, items, layers=range(model.layers))
    parts = []
    for strength, tol in itertools.product((directions.STRENGTH, 1.0, 10.0), (1e-4, 1e-6)):
        settings = dict(use=items.use, strength=strength, repetitions=repetitions, sklearn_tol=tol)
        part = timing.against_sklearn(X, items.labels, **settings)
        parts.append(part.assign(labels=ALL_LAYERS, C=strength, tol=tol))
    rng = np.random.default_rng(0)
    drawn = [fit.shuffled(items.labels, items.use, rng) for _ in range(20)]
    y, use = (np.concatenate(part) for part in zip(*drawn, strict=True))
    part = timing.against_sklearn(X[-1:], y, use=use, strength=directions.STRENGTH, repetitions=repetitions)
    parts.append(part.assign(labels=LAST_LAYER, C=directions.STRENGTH, tol=1e-4))
    return pd.concat(parts)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
