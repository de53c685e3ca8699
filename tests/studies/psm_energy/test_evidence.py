"""What each claim is judged by, from made-up tables: every statistic again, as its rule says it, number by number."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.energy_rules import KERNELS, LAYERS, METHODS, NULLS, OTHER_RULES, RULES, SETS, N, Plain
from lib.energy.objective import similarity
from lib.probes.directions import Directions
from lib.reporting import claims
from lib.studies.psm_energy import evidence
from lib.studies.psm_energy import layers as of_layer
from lib.studies.psm_energy.evidence import Tables
from lib.studies.psm_energy.feature_sets import TEXT, FeatureSet

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


def feature_set(rng, kind, layers):
    n = N[kind]
    x, means = (torch.from_numpy(rng.standard_normal((layers, n, 16))) for _ in range(2))
    shuffled, random = (torch.from_numpy(rng.standard_normal((layers, k, n, 16))) for k in (5, 3))
    return FeatureSet(
        items=None,
        dropped={},
        probed=Directions(directions=x, means=means, auc=None, low=None, high=None),
        shuffled=shuffled,
        random=random,
        random_auc=None,
        labels=torch.from_numpy(np.corrcoef(rng.standard_normal((n, 40)))),
    )


def of_models(rng, chosen):
    """Feature sets, and the tables that have a row for each of their layers."""
    sets, tables = {}, {name: [] for name in ("measured", "simplices", "slides", "rbf", "details")}
    for (model, layers), seed, kind in itertools.product(chosen.items(), SEEDS, SETS):
        sets[model, seed, kind] = feature_set(rng, kind, len(layers))
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
                    kept = number() if kernel == "exp" else math.nan
                    weights = {"similarity": like, "weight": number(), "kept": kept}
                    for sigma, method in itertools.product((0.1, 0.01), METHODS):
                        numbers = {"distance": number(), "left": number()}
                        tables["slides"].append(row | weights | {"sigma": sigma, "method": method} | numbers)
            tables["details"].append(at | {name: number() for name in DETAILS})
    return sets, tables


def of_the_rest(rng, chosen):
    """The tables that are not of layers."""

    def numbers(*names):
        return {name: rng.uniform(0.5, 2) for name in names}

    comparisons = (("joint", 5, 96), ("joint", 5, 960), ("joint", 11, 480), ("joint", 11, 2000))
    comparisons += (("re-optimisation", 5, 108), ("re-optimisation", 11, 54))
    labels = ("real, all layers", "20 times shuffled, last layer")
    return {
        "embeddings": [
            {"model": model, "matrix": matrix, "group": group, **numbers("ratio", "distance")}
            for model, matrix, group in itertools.product(chosen, ("embedding", "unembedding"), "abcd")
        ],
        "planted": [
            {"kind": kind, **numbers("p", "excess")} for kind in ("planted", "random") for _ in range(5)
        ],
        "speed": [
            {"step": step, "n": n, "problems": problems, "repetition": repetition}
            | numbers("ours", "scipy", "ratio", "alone", "not above", "below")
            for step, n, problems in comparisons
            for repetition in range(3)
        ],
        "probes": [
            {"labels": label, "C": C, "tol": tol, "repetition": repetition}
            | numbers("batched", "sklearn", "ratio", "batched_cosine", "sklearn_cosine")
            for label, C, tol in itertools.product(labels, (0.1, 1.0), (1e-4, 1e-6))
            for repetition in range(3)
        ],
    }


@pytest.fixture(scope="module")
def t():
    """Two trained models, and one with random weights whose numbers would spoil every mean."""
    rng = np.random.default_rng(0)
    chosen = LAYERS | {"random": (0, 1)}
    sets, tables = of_models(rng, chosen)
    tables |= of_the_rest(rng, chosen)
    # Rows in no order that anything may rely on.
    frames = {name: pd.DataFrame(rows).sample(frac=1, random_state=0) for name, rows in tables.items()}
    return Tables(sets=sets, layers=LAYERS, **frames)


@pytest.fixture(scope="module")
def found(t):
    return evidence.of(t)


KEYS = [(model, layer, seed) for model, layers in LAYERS.items() for layer in layers for seed in SEEDS]


@pytest.fixture(scope="module")
def plain(t):
    return {key: Plain(t, *key) for key in KEYS}


@pytest.mark.parametrize("name", RULES)
def test_a_claim_is_judged_by_the_statistic_of_its_rule(found, plain, name):
    for got, rule in zip(found[name], RULES[name], strict=True):
        if rule is None:
            continue
        assert got.index.names == ["model", "layer", "seed"] and sorted(got.index) == sorted(KEYS)
        assert got.dtype == float
        for key, u in plain.items():
            assert got[key] == pytest.approx(float(rule(u)), rel=1e-9, abs=1e-12), key


@pytest.mark.parametrize("name", OTHER_RULES)
def test_a_claim_that_is_not_of_layers_too(t, found, name):
    for got, rule in zip(found[name][:2], OTHER_RULES[name], strict=True):
        expected = rule(t)
        assert len(set(expected)) == len(expected) >= 3, "values that tell each other apart"
        assert sorted(got) == pytest.approx(sorted(expected), rel=1e-12)


def test_every_claim_of_the_study_has_evidence_that_can_be_judged(t, found):
    ours = {name: claim.rule for name, claim in claims.load().items() if claim.study == "psm_energy"}
    assert set(found) == set(ours) == set(RULES) | set(OTHER_RULES) | {"early-late-layers-differ"}
    units = {"layer and seed": len(KEYS), "model and seed": 6, "group of tokens": 4}
    units |= {"planted configuration": 5, "repetition": 3, "comparison": 6}
    verdicts = claims.judge_all("psm_energy", found, evidence.not_tested(t))
    for name, verdict in verdicts.items():
        assert verdict.control_mean is not None, name
        assert verdict.n == units[ours[name].unit], name
    assert verdicts["joint-speed-3840"].note == "960 problems"
    assert all(verdict.note == "" for name, verdict in verdicts.items() if name != "joint-speed-3840")


@pytest.mark.parametrize("count, lacking", [(1, {2, 3}), (2, {3}), (3, set())])
def test_claims_that_compare_layers_need_them(t, count, lacking):
    least = {"geometry-same-in-layers": 2, "rbf-scale-is-norm": 2, "early-late-layers-differ": 3}
    small = LAYERS["small"][:count]
    tables = {
        name: table[(table["model"] != "small") | table["layer"].isin(small)]
        for name, table in vars(t).items()
        if name in ("measured", "simplices", "slides", "rbf", "details")
    }
    fewer = replace(t, layers={"small": small, "large": LAYERS["large"]}, **tables)
    expected = {name: f"needs at least {n} layers" for name, n in least.items() if n in lacking}
    assert evidence.not_tested(fewer) == expected
    verdicts = claims.judge_all("psm_energy", evidence.of(fewer), evidence.not_tested(fewer))
    untested = {name: verdict.note for name, verdict in verdicts.items() if verdict.status == "not tested"}
    assert untested == expected


def test_the_control_of_minimising_is_the_planted_minimiser(t, found):
    p = sorted(row["p"] for row in t.planted.to_dict("records") if row["kind"] == "planted")
    for name in ("text-minimises-energy", "athletes-minimise-energy"):
        assert sorted(found[name][1]) == p


def test_the_same_kernel_between_two_seeds_of_one_set(plain, found):
    """Of each model, layer and feature set, the share of the three pairs of seeds."""
    expected = []
    for kind, (model, layers) in itertools.product(SETS, LAYERS.items()):
        for layer in layers:
            best = [plain[model, layer, seed].best("measured", kind) for seed in SEEDS]
            expected.append(sum(a == b for a, b in itertools.combinations(best, 2)) / 3)
    control = found["best-kernel-not-robust"][1]
    assert sorted(control) == pytest.approx(sorted(expected)) and 0 < np.mean(expected) < 1


def test_early_and_late_layers_by_model_and_seed(t, found):
    real, random = found["early-late-layers-differ"]
    keys = [(model, seed) for model in LAYERS for seed in SEEDS]
    assert sorted(real.index) == sorted(random.index) == sorted(keys)
    for model, seed in keys:
        features = t.sets[model, seed, TEXT]
        expected = of_layer.apart(similarity(features.probed.directions)[:, None])
        assert real[model, seed] == pytest.approx(expected, abs=1e-12)
        draws = [of_layer.apart(similarity(features.random[:, k])[:, None]) for k in range(3)]
        assert random[model, seed] == pytest.approx(np.mean(draws))


def test_values_and_controls_are_of_unlike_things(found):
    """Made-up numbers are all different, so that no two entries may be the same by mistake."""
    means = [round(float(np.mean(part)), 12) for values in found.values() for part in values[:2]]
    shared = len(means) - len(set(means))
    # Twice: Powell's and converged decrease, the cosine ratio, weights and agreements; thrice: p values of what is
    # planted, the ratio on 96 problems.
    assert shared <= 11


def test_rows_of_trained_models_and_of_values_of_columns(t):
    own = t.own(t.measured, kernel="log", target="real")
    assert (
        set(own["model"]) == set(LAYERS) and set(own["kernel"]) == {"log"} and set(own["target"]) == {"real"}
    )
    assert len(own) == len(KEYS) * len(SETS)
    assert len(t.own(t.details)) == len(KEYS) * 2 < len(t.details)


def test_what_was_not_measured_is_missed(t):
    """A feature set, a target or a comparison that is missing is an error and no mean over what is left."""
    fewer = {key: value for key, value in t.sets.items() if key != ("small", 1, TEXT)}
    with pytest.raises(KeyError):
        evidence.of(replace(t, sets=fewer))
    with pytest.raises(KeyError, match="random weights"):
        evidence.of(replace(t, measured=t.measured[t.measured["target"] != "random weights"]))
    with pytest.raises(KeyError, match="no comparison of the step joint on 96 problems of 5 features"):
        evidence.of(replace(t, speed=t.speed[t.speed["problems"] != 96]))
