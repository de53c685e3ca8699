"""What each claim is judged by, from made-up tables: every statistic again, as its rule says it, number by number."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.energy_rules import KERNELS, LAYERS, METHODS, NULLS, RULES, SETS, N, Plain
from lib.energy.objective import similarity
from lib.probes.directions import Directions
from lib.reporting import claims
from lib.studies.psm_energy import layers as energy_layers
from lib.studies.psm_energy.evidence import TEXT, Tables, of_slides, of_trial
from lib.studies.psm_energy.units import Unit

SEEDS = (0, 1, 2)
DETAILS = (
    "left out",
    "kept",
    "drift, exp",
    "drift, log",
    "drift, riesz",
    "inert, exp",
    "inert, log",
    "inert, riesz",
    "λ 10",
    "λ 1000",
    "λ 100",
    "λ 100, other start",
)
NOTEBOOKS_OWN = {
    "simplexes-in-embeddings",
    "planted-minimiser-found",
    "joint-speed-96",
    "joint-speed-3840",
    "joint-speed-11",
    "reoptimisation-speed-5",
    "reoptimisation-speed-11",
    "optimum-not-above-scipy",
    "probes-speed",
}


def unit(rng, kind, layers):
    n = N[kind]
    x, means = (torch.from_numpy(rng.standard_normal((layers, n, 16))) for _ in range(2))
    shuffled, random = (torch.from_numpy(rng.standard_normal((layers, k, n, 16))) for k in (5, 3))
    labels = torch.from_numpy(np.corrcoef(rng.standard_normal((n, 40))))
    return Unit(
        None,
        {},
        Directions(directions=x, means=means, auc=None, low=None, high=None),
        shuffled,
        random,
        None,
        labels,
    )


@pytest.fixture(scope="module")
def t():
    """Two trained models, and one with random weights whose numbers would spoil every mean."""
    rng = np.random.default_rng(0)
    chosen = LAYERS | {"random": (0, 1)}
    units, tables = {}, {name: [] for name in ("measured", "simplices", "slides", "rbf", "details")}
    for (model, layers), seed, kind in itertools.product(chosen.items(), SEEDS, SETS):
        units[model, seed, kind] = unit(rng, kind, len(layers))
        for layer in layers:
            at = {"model": model, "seed": seed, "set": kind, "layer": layer, "n": N[kind]}
            number = (lambda: 1e9) if model == "random" else (lambda: rng.uniform(0.5, 2))
            for kernel in KERNELS:
                row = at | {"kernel": kernel}
                for target in ("real", *NULLS):
                    for draw in range(1 if target == "real" else 5):
                        numbers = {"distance": number(), "excess": number(), "draw": draw}
                        tables["measured"].append(row | {"target": target} | numbers)
                        if target in ("real", "coordinate-permuted"):
                            tables["rbf"].append(row | {"target": target, "distance": number()})
                tables["simplices"].append(row | {"target": "real", "distance": number()})
                for like in ("cosine", "rbf"):
                    weights = {
                        "similarity": like,
                        "weight": number(),
                        "kept": number() if kernel == "exp" else math.nan,
                    }
                    for sigma, method in itertools.product((0.1, 0.01), METHODS):
                        numbers = {"distance": number(), "left": number()}
                        tables["slides"].append(row | weights | {"sigma": sigma, "method": method} | numbers)
            tables["details"].append(at | {name: number() for name in DETAILS})
    # Rows in no order that anything may rely on.
    frames = {name: pd.DataFrame(rows).sample(frac=1, random_state=0) for name, rows in tables.items()}
    return Tables(units, LAYERS, planted=pd.Series([0.02, 0.04]), **frames)


@pytest.fixture(scope="module")
def evidence(t):
    return of_slides(t) | of_trial(t)


KEYS = [(model, layer, seed) for model, layers in LAYERS.items() for layer in layers for seed in SEEDS]


@pytest.fixture(scope="module")
def plain(t):
    return {key: Plain(t, *key) for key in KEYS}


@pytest.mark.parametrize("name", RULES)
def test_a_claim_is_judged_by_the_statistic_of_its_rule(evidence, plain, name):
    for got, rule in zip(evidence[name], RULES[name], strict=True):
        if rule is None:
            continue
        assert got.index.names == ["model", "layer", "seed"] and sorted(got.index) == sorted(KEYS)
        assert got.dtype == float
        for key, u in plain.items():
            assert got[key] == pytest.approx(float(rule(u)), rel=1e-9, abs=1e-12), key


def test_every_claim_of_the_study_has_evidence_that_can_be_judged(evidence):
    ledger = {name: claim for name, claim in claims.load().items() if claim.study == "psm_energy"}
    assert not set(evidence) & NOTEBOOKS_OWN
    assert set(evidence) | NOTEBOOKS_OWN == set(ledger)
    assert set(evidence) == set(RULES) | {"early-late-layers-differ"}
    for name, values in evidence.items():
        verdict = claims.judge(ledger[name], *values)
        assert verdict.control_mean is not None, name
        expected = 6 if ledger[name].rule.unit == "model and seed" else len(KEYS)
        assert verdict.n == expected and ledger[name].rule.unit in ("model and seed", "layer and seed")


def test_the_control_of_minimising_is_the_planted_minimiser(t, evidence):
    for name in ("text-minimises-energy", "athletes-minimise-energy"):
        assert evidence[name][1] is t.planted
    without = of_slides(Tables(t.units, t.layers, t.measured, t.simplices, t.slides, t.rbf, t.details))
    assert without["text-minimises-energy"][1] is None


def test_the_same_kernel_between_two_seeds_of_one_set(plain, evidence):
    """Of each model, layer and feature set, the share of the three pairs of seeds."""
    expected = []
    for kind, (model, layers) in itertools.product(SETS, LAYERS.items()):
        for layer in layers:
            best = [plain[model, layer, seed].best("measured", kind) for seed in SEEDS]
            expected.append(sum(a == b for a, b in itertools.combinations(best, 2)) / 3)
    control = evidence["best-kernel-not-robust"][1]
    assert sorted(control) == pytest.approx(sorted(expected)) and 0 < np.mean(expected) < 1


def test_early_and_late_layers_by_model_and_seed(t, evidence):
    real, random = evidence["early-late-layers-differ"]
    keys = [(model, seed) for model in LAYERS for seed in SEEDS]
    assert sorted(real.index) == sorted(random.index) == sorted(keys)
    for model, seed in keys:
        unit = t.units[model, seed, TEXT]
        expected = energy_layers.apart(similarity(unit.probed.directions)[:, None])
        assert real[model, seed] == pytest.approx(expected, abs=1e-12)
        draws = [energy_layers.apart(similarity(unit.random[:, k])[:, None]) for k in range(3)]
        assert random[model, seed] == pytest.approx(np.mean(draws))
    assert abs(real["large"]).max() < 1e-12 < abs(real["small"]).min(), "two layers can't differ so"


def test_values_and_controls_are_of_unlike_things(evidence):
    """Made-up numbers are all different, so that no two entries may be the same by mistake."""
    means = [round(float(np.mean(part)), 12) for values in evidence.values() for part in values]
    shared = len(means) - len(set(means))
    # Powell's and converged decrease, the cosine ratio and planted p values stand twice; so do weights and agreements.
    assert shared <= 8


def test_rows_of_trained_models_and_of_values_of_columns(t):
    own = t.own(t.measured, kernel="log", target="real")
    assert (
        set(own["model"]) == set(LAYERS) and set(own["kernel"]) == {"log"} and set(own["target"]) == {"real"}
    )
    assert len(own) == len(KEYS) * len(SETS)
    assert len(t.own(t.details)) == len(KEYS) * 2 < len(t.details)


def test_what_was_not_measured_is_missed(t):
    """A unit or a target that is missing is an error here and no mean over what is left."""
    units = {key: value for key, value in t.units.items() if key != ("small", 1, TEXT)}
    spoilt = Tables(units, t.layers, t.measured, t.simplices, t.slides, t.rbf, t.details)
    with pytest.raises(KeyError):
        of_slides(spoilt)
    fewer = t.measured[t.measured["target"] != "random weights"]
    with pytest.raises(KeyError, match="random weights"):
        of_slides(Tables(t.units, t.layers, fewer, t.simplices, t.slides, t.rbf, t.details))
