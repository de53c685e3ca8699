"""The statistics of the energy-matching study's claims as their rules say them, one number at a time, for its tests."""

import math
import statistics

from lib.studies.psm_energy import layers as of_layer
from lib.studies.psm_energy.feature_sets import ATHLETES, TEXT

SETS, KERNELS = (TEXT, ATHLETES), ("exp", "log", "riesz")
LAYERS = {"small": (1, 3, 4), "large": (0, 2, 5, 6)}  # of trained models
N = {TEXT: 6, ATHLETES: 5}
NULLS = ("edge-shuffled", "shuffled labels", "random weights", "coordinate-permuted", "random directions")
METHODS = ("Powell", "Powell, norms held", "converged", "converged, other perturbation")


class Plain:
    """One layer of one model with one seed; statistics in Python's own arithmetic."""

    def __init__(self, t, model, layer, seed):
        self.t, self.model, self.layer, self.seed = t, model, layer, seed
        self.index = LAYERS[model].index(layer)
        self.rows = {
            name: [
                row
                for row in getattr(t, name).to_dict("records")
                if (row["model"], row["layer"], row["seed"]) == (model, layer, seed)
            ]
            for name in ("measured", "simplices", "slides", "rbf", "details")
        }

    def numbers(self, table, column, **where):
        return [row[column] for row in self.rows[table] if all(row[k] == v for k, v in where.items())]

    def median(self, table, column, **where):
        return statistics.median(self.numbers(table, column, **where))

    def one(self, table, column, **where):
        (found,) = self.numbers(table, column, **where)
        return found

    def features(self, kind):
        return self.t.sets[self.model, self.seed, kind]

    def moved(self, target, over, kind, kernel="exp", table="measured"):
        a, b = (
            self.median(table, "distance", target=which, set=kind, kernel=kernel) for which in (target, over)
        )
        return a / b

    def largest_p(self, kind):
        real = self.one("measured", "excess", target="real", set=kind, kernel="exp")
        found = []
        for null in NULLS[:3]:
            draws = self.numbers("measured", "excess", target=null, set=kind, kernel="exp")
            found.append((1 + sum(x <= real for x in draws)) / (1 + len(draws)))
        return max(found)

    def best(self, table, kind):
        return min(
            KERNELS, key=lambda kernel: self.one(table, "distance", target="real", set=kind, kernel=kernel)
        )

    def ended(self, method, sigma, kind, like="cosine", column="distance"):
        where = dict(method=method, sigma=sigma, set=kind, similarity=like, kernel="exp")
        return self.one("slides", column, **where)

    def decrease(self, method, kind, like="cosine"):
        far, near = (self.ended(method, sigma, kind, like) for sigma in (0.1, 0.01))
        return (far - near) / far

    def detail(self, column, kind):
        return self.one("details", column, set=kind)

    def excess(self, target, kind):
        return self.median("measured", "excess", target=target, set=kind, kernel="exp")

    def furthest(self, table, kind):
        to = of_layer.to_simplex(self.features(kind), self.index)
        ratios = [self.one(table, "distance", target="real", set=kind, kernel=k) / to for k in KERNELS]
        return max(ratios, key=lambda ratio: abs(ratio - 1))

    def relative(self, a, b):
        return abs(a - b) / b

    def layers(self, name, kind):
        return getattr(of_layer, name)(self.features(kind), self.index)


def mean(function, kinds=SETS):
    return sum(map(function, kinds)) / len(kinds)


def mean_of_kernels(function):
    return mean(lambda kernel: mean(lambda kind: function(kernel, kind)), KERNELS)


def per_pair(u, target):
    root = {kind: math.sqrt(n * (n - 1)) for kind, n in N.items()}
    text, athletes = (
        u.median("measured", "distance", target=target, set=kind, kernel="exp") / root[kind] for kind in SETS
    )
    return text / athletes


def weight(u, column):
    found = [x for x in u.numbers("slides", column) if not math.isnan(x)]
    return sum(found) / len(found)


# By claim: the statistic of its rule and the control, for one layer and seed.
RULES = {
    "reoptimisation-keeps-psm": (
        lambda u: mean(lambda kind: u.moved("real", "random directions", kind)),
        lambda u: mean(lambda kind: u.moved("edge-shuffled", "random directions", kind)),
    ),
    "text-minimises-energy": (lambda u: u.largest_p(TEXT), None),
    "athletes-minimise-energy": (lambda u: u.largest_p(ATHLETES), None),
    "random-target-moves-cosine": (
        lambda u: mean_of_kernels(lambda k, kind: u.moved("coordinate-permuted", "real", kind, k)),
        lambda u: mean_of_kernels(lambda k, kind: u.moved("shuffled labels", "real", kind, k)),
    ),
    "random-target-stays-rbf": (
        lambda u: mean_of_kernels(lambda k, kind: u.moved("coordinate-permuted", "real", kind, k, "rbf")),
        lambda u: mean_of_kernels(lambda k, kind: u.moved("coordinate-permuted", "real", kind, k)),
    ),
    "best-kernel-not-robust": (lambda u: u.best("measured", TEXT) == u.best("measured", ATHLETES), None),
    "importance-ignored": (lambda u: weight(u, "weight"), lambda u: weight(u, "kept")),
    "smaller-perturbation-powell": (
        lambda u: mean(lambda kind: u.decrease("Powell", kind)),
        lambda u: mean(lambda kind: u.decrease("converged", kind)),
    ),
    "smaller-perturbation-converged": (
        lambda u: mean(lambda kind: u.decrease("converged", kind)),
        lambda u: mean(lambda kind: u.decrease("Powell", kind)),
    ),
    "text-best-kernel-rbf": (
        lambda u: u.best("rbf", TEXT) == "exp",
        lambda u: u.best("rbf", ATHLETES) == "exp",
    ),
    "athletes-best-kernel-rbf": (
        lambda u: u.best("rbf", ATHLETES) == "log",
        lambda u: u.best("rbf", TEXT) == "log",
    ),
    "perturbation-rbf-more": (
        lambda u: u.decrease("Powell", TEXT, "rbf") - u.decrease("Powell", TEXT),
        lambda u: u.decrease("converged", TEXT, "rbf") - u.decrease("converged", TEXT),
    ),
    "athletes-match-better": (
        lambda u: per_pair(u, "real"),
        lambda u: per_pair(u, "random directions"),
    ),
    "permuted-orthogonal": (
        lambda u: u.layers("permuted_cosine", TEXT),
        lambda u: u.layers("mean_cosine", TEXT),
    ),
    "geometry-same-in-layers": (
        lambda u: mean(lambda kind: u.layers("agreement_with_layers", kind)),
        lambda u: mean(lambda kind: u.layers("shuffled_agreement_with_layers", kind)),
    ),
    "rbf-scale-is-norm": (
        lambda u: u.layers("spread_by_norms", ATHLETES),
        lambda u: u.layers("spread_by_cosines", ATHLETES),
    ),
    "simplexes-exist": (
        lambda u: u.layers("to_simplex", ATHLETES) / u.layers("shuffled_to_simplex", ATHLETES),
        lambda u: u.layers("random_to_simplex", ATHLETES) / u.layers("shuffled_to_simplex", ATHLETES),
    ),
    "optimiser-sensitive": (
        lambda u: mean(
            lambda kind: u.relative(u.ended("Powell", 0.1, kind), u.ended("converged", 0.1, kind))
        ),
        lambda u: mean(
            lambda kind: u.relative(u.ended(METHODS[3], 0.1, kind), u.ended("converged", 0.1, kind))
        ),
    ),
    "regularisation-sensitive": (
        lambda u: u.relative(u.detail("λ 10", ATHLETES), u.detail("λ 1000", ATHLETES)),
        lambda u: u.relative(u.detail("λ 100, other start", ATHLETES), u.detail("λ 100", ATHLETES)),
    ),
    "random-weights-differ": (
        lambda u: mean(lambda kind: u.excess("real", kind) - u.excess("random weights", kind)),
        lambda u: mean(lambda kind: u.excess("shuffled labels", kind) - u.excess("random weights", kind)),
    ),
    "geometry-predicts-correlation": (
        lambda u: u.layers("agreement_with_labels", TEXT) - u.layers("random_agreement_with_labels", TEXT),
        lambda u: u.layers("random_agreement_with_labels", TEXT),
    ),
    "powell-stops-short": (
        lambda u: mean(lambda kind: u.ended("Powell", 0.1, kind, column="left")),
        lambda u: mean(lambda kind: u.ended("Powell, norms held", 0.1, kind, column="left")),
    ),
    "weights-collapse": (
        lambda u: mean(lambda kind: u.detail("left out", kind)),
        lambda u: mean(lambda kind: u.detail("kept", kind)),
    ),
    "weights-uniform": (
        lambda u: mean(lambda kind: u.detail("kept", kind) * N[kind]),
        lambda u: mean(lambda kind: u.detail("left out", kind) * N[kind]),
    ),
    "cosine-scale-drifts": (
        lambda u: mean(lambda kind: min(u.detail("drift, log", kind), u.detail("drift, riesz", kind))),
        lambda u: mean(lambda kind: u.detail("drift, exp", kind)),
    ),
    "exp-norms-inert": (
        lambda u: mean(lambda kind: u.detail("inert, exp", kind)),
        lambda u: mean(lambda kind: u.detail("inert, log", kind)),
    ),
    "one-minimum-simplex": (
        lambda u: mean(lambda kind: u.furthest("simplices", kind)),
        lambda u: mean(lambda kind: u.furthest("measured", kind)),
    ),
    "shuffled-labels-tighter": (
        lambda u: u.layers("to_simplex", ATHLETES) - u.layers("shuffled_to_simplex", ATHLETES),
        lambda u: u.layers("random_to_simplex", ATHLETES) - u.layers("shuffled_to_simplex", ATHLETES),
    ),
    "weights-sum-to-zero": (
        lambda u: u.layers("sum_length", ATHLETES),
        lambda u: u.layers("sum_length", TEXT),
    ),
    "text-psm-is-label-correlation": (
        lambda u: u.layers("agreement_with_labels", TEXT),
        lambda u: u.layers("shuffled_agreement_with_labels", TEXT),
    ),
    "text-psm-survives-random-weights": (
        lambda u: u.layers("agreement_with_random", TEXT),
        lambda u: u.layers("shuffled_agreement_with_random", TEXT),
    ),
}


def one_per_group(t, matrix):
    """The mean ratio over trained models, by group of tokens."""
    rows = [row for row in t.embeddings.to_dict("records") if row["model"] in LAYERS]
    found = {}
    for row in rows:
        if row["matrix"] == matrix:
            found.setdefault(row["group"], []).append(row["ratio"])
    return [sum(ratios) / len(ratios) for ratios in found.values()]


def one_per_repetition(table, column, **where):
    rows = table.to_dict("records")
    return [row[column] for row in rows if all(row[key] == value for key, value in where.items())]


def one_per_comparison(t, column):
    """The mean over repetitions of each of scipy's comparisons."""
    found = {}
    for row in t.speed.to_dict("records"):
        found.setdefault((row["step"], row["n"], row["problems"]), []).append(row[column])
    return [sum(shares) / len(shares) for shares in found.values()]


JOINT = {
    name: dict(step="joint", n=n, problems=problems)
    for name, n, problems in (("96", 5, 96), ("largest", 5, 960), ("11", 11, 480))
}
POWELL = {n: dict(step="re-optimisation", n=n, problems=problems) for n, problems in ((5, 108), (11, 54))}
FIRST_ROW = {"labels": "real, all layers", "C": 0.1, "tol": 1e-4}

# By claim: the statistic of its rule and the control, one number per unit in any order, from all tables.
OTHER_RULES = {
    "simplexes-in-embeddings": (
        lambda t: one_per_group(t, "embedding"),
        lambda t: one_per_group(t, "unembedding"),
    ),
    "planted-minimiser-found": (
        lambda t: one_per_repetition(t.planted, "p", kind="planted"),
        lambda t: one_per_repetition(t.planted, "p", kind="random"),
    ),
    "joint-speed-96": (
        lambda t: one_per_repetition(t.speed, "ratio", **JOINT["96"]),
        lambda t: one_per_repetition(t.speed, "alone", **JOINT["96"]),
    ),
    "joint-speed-3840": (
        lambda t: one_per_repetition(t.speed, "ratio", **JOINT["largest"]),
        lambda t: one_per_repetition(t.speed, "ratio", **JOINT["96"]),
    ),
    "joint-speed-11": (
        lambda t: one_per_repetition(t.speed, "ratio", **JOINT["11"]),
        lambda t: one_per_repetition(t.speed, "ratio", **JOINT["96"]),
    ),
    "reoptimisation-speed-5": (
        lambda t: one_per_repetition(t.speed, "ratio", **POWELL[5]),
        lambda t: one_per_repetition(t.speed, "alone", **POWELL[5]),
    ),
    "reoptimisation-speed-11": (
        lambda t: one_per_repetition(t.speed, "ratio", **POWELL[11]),
        lambda t: one_per_repetition(t.speed, "alone", **POWELL[11]),
    ),
    "optimum-not-above-scipy": (
        lambda t: one_per_comparison(t, "not above"),
        lambda t: one_per_comparison(t, "below"),
    ),
    "probes-speed": (
        lambda t: one_per_repetition(t.probes, "ratio", **FIRST_ROW),
        lambda t: one_per_repetition(t.probes, "batched_cosine", **FIRST_ROW),
    ),
}
