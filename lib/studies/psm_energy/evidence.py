"""From the tables of the energy-matching study to the numbers that judge each of its claims: one value per unit.

A unit is a layer of a trained model with one seed, unless the rule says otherwise. Every entry is (values, the same of
the control), by claim, and perhaps a note. Where a rule names no kernel, it is exp, and where it names no similarity,
the cosine. For what is measured on both feature sets, the mean of the two is taken last.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.energy.objective import similarity
from lib.probes.directions import STRENGTH
from lib.studies.psm_energy import layers as of_layer
from lib.studies.psm_energy.feature_sets import ATHLETES, KINDS, TEXT, FeatureSet
from lib.studies.psm_energy.measures import AGAIN, p_values
from lib.studies.psm_energy.tables import ALL_LAYERS

KEYS = ["model", "layer", "seed"]
THREE = ["edge-shuffled", "shuffled labels", "random weights"]
# Claims that compare layers, and how many they need.
LEAST_LAYERS = {"geometry-same-in-layers": 2, "rbf-scale-is-norm": 2, "early-late-layers-differ": 3}
Evidence = dict[str, tuple]


@dataclass(frozen=True)
class Tables:
    """What the notebook measured; rows of models with random weights are left out here.

    `sets`: feature sets by (model, seed, kind); `layers`: by trained model, those that were probed. Of the tables, the
    first five have the columns model, layer, seed and set, and `embeddings` has model:

    `measured`: target, kernel, n, distance, excess; a row per draw; in f dimensions
    `simplices`: the same in n - 1 dimensions, of the target "real" alone
    `slides`: kernel, similarity, sigma, method, distance, left, weight, kept (`measures.as_in_slides`)
    `rbf`: target, kernel, distance (`measures.rbf_distances`)
    `details`: n, left out, kept, drift, inert and λ by kernel or strength; a row per unit and set (`tables.details`)
    `embeddings`: matrix, group, ratio (`embeddings.simplices`)
    `planted`: kind ("planted" or "random"), p; a row per configuration (`tables.planted`)
    `speed`: step, n, problems, ratio, alone, not above, below; a row per repetition (`timing.against_scipy`)
    `probes`: labels, C, tol, ratio, batched_cosine; a row per repetition (`tables.probe_times`)
    """

    sets: Mapping[tuple[str, int, str], FeatureSet]
    layers: Mapping[str, Sequence[int]]
    measured: pd.DataFrame
    simplices: pd.DataFrame
    slides: pd.DataFrame
    rbf: pd.DataFrame
    details: pd.DataFrame
    embeddings: pd.DataFrame
    planted: pd.DataFrame
    speed: pd.DataFrame
    probes: pd.DataFrame

    def own(self, table: pd.DataFrame, **which) -> pd.DataFrame:
        """The rows of trained models, and of these values of columns."""
        return _where(table[table["model"].isin(self.layers)], **which)

    def per_unit(
        self, function: Callable[[FeatureSet, int], float], kinds: Sequence[str] = KINDS
    ) -> pd.Series:
        """The mean over feature sets of function(features, index of the layer)."""
        seeds = sorted({seed for _, seed, _ in self.sets})
        values = {
            (model, layer, seed): float(
                np.mean([function(self.sets[model, seed, kind], i) for kind in kinds])
            )
            for model, layers in self.layers.items()
            for seed in seeds
            for i, layer in enumerate(layers)
        }
        return pd.Series(values).rename_axis(KEYS)

    def planted_p(self, kind: str) -> pd.Series:
        """p values of the planted, or of the random, configurations."""
        return _where(self.planted, kind=kind)["p"]


def of(t: Tables) -> Evidence:
    """Every claim of the study that these tables can test."""
    untested = not_tested(t)
    found = of_slides(t) | of_trial(t) | of_bars(t)
    return {name: values for name, values in found.items() if name not in untested}


def not_tested(t: Tables) -> dict[str, str]:
    """The claims that these tables cannot test, with why."""
    fewest = min(len(layers) for layers in t.layers.values())
    return {name: f"needs at least {least} layers" for name, least in LEAST_LAYERS.items() if fewest < least}


def of_slides(t: Tables) -> Evidence:
    """The claims of the slides."""
    exp = t.own(t.measured, kernel="exp")
    moved = _median(exp, "distance")
    per_random = moved.div(moved["random directions"], axis=0).groupby(KEYS).mean()
    cosine, rbf = (_moved_over_real(t.own(table)) for table in (t.measured, t.rbf))
    best, best_rbf = (
        {kind: _best(t.own(table, set=kind)) for kind in KINDS} for table in (t.measured, t.rbf)
    )
    excess = _median(exp, "excess").groupby(KEYS).mean()
    agreement = t.per_unit(of_layer.agreement_with_labels, (TEXT,))
    random = t.per_unit(of_layer.random_agreement_with_labels, (TEXT,))
    weights = t.own(t.slides).groupby(KEYS)[["weight", "kept"]].mean()
    far = t.own(t.details, set=ATHLETES).set_index(KEYS)
    embedded = t.own(t.embeddings).groupby(["matrix", "group"])["ratio"].mean()
    shuffled = t.per_unit(of_layer.shuffled_to_simplex, (ATHLETES,))
    return {
        "reoptimisation-keeps-psm": (per_random["real"], per_random["edge-shuffled"]),
        "text-minimises-energy": (_largest_p(exp[exp["set"] == TEXT]), t.planted_p("planted")),
        "athletes-minimise-energy": (_largest_p(exp[exp["set"] == ATHLETES]), t.planted_p("planted")),
        "random-target-moves-cosine": (cosine["coordinate-permuted"], cosine["shuffled labels"]),
        "random-target-stays-rbf": (rbf["coordinate-permuted"], cosine["coordinate-permuted"]),
        "best-kernel-not-robust": ((best[TEXT] == best[ATHLETES]) * 1.0, _same_between_seeds(best)),
        "importance-ignored": (weights["weight"], weights["kept"]),
        "smaller-perturbation-powell": (_decrease(t, "Powell"), _decrease(t, "converged")),
        "smaller-perturbation-converged": (_decrease(t, "converged"), _decrease(t, "Powell")),
        "text-best-kernel-rbf": ((best_rbf[TEXT] == "exp") * 1.0, (best_rbf[ATHLETES] == "exp") * 1.0),
        "athletes-best-kernel-rbf": ((best_rbf[ATHLETES] == "log") * 1.0, (best_rbf[TEXT] == "log") * 1.0),
        "perturbation-rbf-more": tuple(
            _decrease(t, method, similarity="rbf", kinds=(TEXT,)) - _decrease(t, method, kinds=(TEXT,))
            for method in ("Powell", "converged")
        ),
        "athletes-match-better": _text_over_athletes(exp),
        "permuted-orthogonal": (
            t.per_unit(of_layer.permuted_cosine, (TEXT,)),
            t.per_unit(of_layer.mean_cosine, (TEXT,)),
        ),
        "geometry-same-in-layers": (
            t.per_unit(of_layer.agreement_with_layers),
            t.per_unit(of_layer.shuffled_agreement_with_layers),
        ),
        "rbf-scale-is-norm": (
            t.per_unit(of_layer.spread_by_norms, (ATHLETES,)),
            t.per_unit(of_layer.spread_by_cosines, (ATHLETES,)),
        ),
        "early-late-layers-differ": _early_and_late(t),
        "simplexes-exist": (
            t.per_unit(of_layer.to_simplex, (ATHLETES,)) / shuffled,
            t.per_unit(of_layer.random_to_simplex, (ATHLETES,)) / shuffled,
        ),
        "optimiser-sensitive": (_from_converged(t, "Powell"), _from_converged(t, AGAIN)),
        "regularisation-sensitive": (
            (far["λ 10"] - far["λ 1000"]).abs() / far["λ 1000"],
            (far["λ 100"] - far["λ 100, other start"]).abs() / far["λ 100"],
        ),
        "simplexes-in-embeddings": (embedded["embedding"], embedded["unembedding"]),
        "random-weights-differ": (
            excess["real"] - excess["random weights"],
            excess["shuffled labels"] - excess["random weights"],
        ),
        "geometry-predicts-correlation": (agreement - random, random),
    }


def of_trial(t: Tables) -> Evidence:
    """What our trial found, claim by claim."""
    details = t.own(t.details).set_index([*KEYS, "set"])
    mean = details.groupby(KEYS).mean()
    drift = details[["drift, log", "drift, riesz"]].min(axis=1)
    shuffled = t.per_unit(of_layer.shuffled_to_simplex, (ATHLETES,))
    return {
        "powell-stops-short": tuple(
            _mean(_slides(t, method, sigma=0.1, column="left")) for method in ("Powell", "Powell, norms held")
        ),
        "weights-collapse": (mean["left out"], mean["kept"]),
        "weights-uniform": (
            _mean(details["kept"] * details["n"]),
            _mean(details["left out"] * details["n"]),
        ),
        "cosine-scale-drifts": (_mean(drift), mean["drift, exp"]),
        "exp-norms-inert": (mean["inert, exp"], mean["inert, log"]),
        "one-minimum-simplex": (_simplex_ratio(t, t.simplices), _simplex_ratio(t, t.measured)),
        "shuffled-labels-tighter": (
            t.per_unit(of_layer.to_simplex, (ATHLETES,)) - shuffled,
            t.per_unit(of_layer.random_to_simplex, (ATHLETES,)) - shuffled,
        ),
        "weights-sum-to-zero": (
            t.per_unit(of_layer.sum_length, (ATHLETES,)),
            t.per_unit(of_layer.sum_length, (TEXT,)),
        ),
        "text-psm-is-label-correlation": (
            t.per_unit(of_layer.agreement_with_labels, (TEXT,)),
            t.per_unit(of_layer.shuffled_agreement_with_labels, (TEXT,)),
        ),
        "text-psm-survives-random-weights": (
            t.per_unit(of_layer.agreement_with_random, (TEXT,)),
            t.per_unit(of_layer.shuffled_agreement_with_random, (TEXT,)),
        ),
    }


def of_bars(t: Tables) -> Evidence:
    """The positive control, and the bars of speed."""
    largest = int(_where(t.speed, step="joint", n=5)["problems"].max())
    small, large, wide = (
        _comparison(t, "joint", n=n, problems=problems) for n, problems in ((5, 96), (5, largest), (11, 480))
    )
    powell, powell_wide = (
        _comparison(t, "re-optimisation", n=n, problems=problems) for n, problems in ((5, 108), (11, 54))
    )
    # One value per comparison: the repetitions of one grid differ in their targets alone.
    comparisons = t.speed.groupby(["step", "n", "problems"])
    probes = _where(t.probes, labels=ALL_LAYERS, C=STRENGTH, tol=1e-4)
    return {
        "planted-minimiser-found": (t.planted_p("planted"), t.planted_p("random")),
        "joint-speed-96": (small["ratio"], small["alone"]),
        "joint-speed-3840": (large["ratio"], small["ratio"], f"{largest:,} problems"),
        "joint-speed-11": (wide["ratio"], small["ratio"]),
        "reoptimisation-speed-5": (powell["ratio"], powell["alone"]),
        "reoptimisation-speed-11": (powell_wide["ratio"], powell_wide["alone"]),
        "optimum-not-above-scipy": (comparisons["not above"].mean(), comparisons["below"].mean()),
        "probes-speed": (probes["ratio"], probes["batched_cosine"]),
    }


def _where(table: pd.DataFrame, **which) -> pd.DataFrame:
    """The rows with these values of columns."""
    for column, value in which.items():
        table = table[table[column] == value]
    return table


def _comparison(t: Tables, step: str, *, n: int, problems: int) -> pd.DataFrame:
    """The repetitions of one comparison with scipy; KeyError where there are none."""
    found = _where(t.speed, step=step, n=n, problems=problems)
    if found.empty:
        raise KeyError(f"no comparison of the step {step} on {problems} problems of {n} features")
    return found


def _mean(values: pd.Series, kinds: Sequence[str] = KINDS) -> pd.Series:
    """One value per unit, of one per unit and feature set."""
    return values[values.index.isin(kinds, level="set")].groupby(KEYS).mean()


def _median(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Medians over draws: a column per target, a row per unit and feature set."""
    return table.groupby([*KEYS, "set", "target"])[column].median().unstack("target")


def _largest_p(table: pd.DataFrame) -> pd.Series:
    found = {key: p_values(part)[THREE].max() for key, part in table.groupby(KEYS)}
    return pd.Series(found).rename_axis(KEYS)


def _moved_over_real(table: pd.DataFrame) -> pd.DataFrame:
    """Converged distance of each target over the real one's, mean over kernels and feature sets."""
    moved = table.groupby([*KEYS, "set", "kernel", "target"])["distance"].median().unstack("target")
    return moved.div(moved["real"], axis=0).groupby(KEYS).mean()


def _best(table: pd.DataFrame) -> pd.Series:
    """The kernel with the lowest converged distance."""
    real = table[table["target"] == "real"]
    return real.set_index([*KEYS, "kernel"])["distance"].unstack("kernel").idxmin(axis=1)


def _same_between_seeds(best: Mapping[str, pd.Series]) -> pd.Series:
    """Of pairs of seeds, the share with the same best kernel, by layer, for one feature set and then the other."""
    wide = pd.concat([kernels.unstack("seed") for kernels in best.values()])
    same = [wide[a] == wide[b] for a, b in itertools.combinations(wide.columns, 2)]
    return pd.Series(np.mean(same, axis=0), wide.index)


def _slides(
    t: Tables, method: str, *, sigma: float, similarity: str = "cosine", column: str = "distance"
) -> pd.Series:
    """A column of the table `slides`, kernel exp, by unit and feature set."""
    table = t.own(t.slides, method=method, sigma=sigma, similarity=similarity, kernel="exp")
    return table.set_index([*KEYS, "set"])[column]


def _decrease(
    t: Tables, method: str, *, similarity: str = "cosine", kinds: Sequence[str] = KINDS
) -> pd.Series:
    """Of the distance to the target, from sigma = 0.1 to 0.01, relative."""
    far, near = (_slides(t, method, sigma=sigma, similarity=similarity) for sigma in (0.1, 0.01))
    return _mean((far - near) / far, kinds)


def _from_converged(t: Tables, method: str) -> pd.Series:
    """Relative difference of the distance that a method ends at from that of converged optimisation."""
    there, converged = (_slides(t, each, sigma=0.1) for each in (method, "converged"))
    return _mean((there - converged).abs() / converged)


def _text_over_athletes(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    per_pair = table["distance"] / np.sqrt(table["n"] * (table["n"] - 1))
    medians = _median(table.assign(per_pair=per_pair), "per_pair")
    ratio = medians.xs(TEXT, level="set") / medians.xs(ATHLETES, level="set")
    return ratio["real"], ratio["random directions"]


def _simplex_ratio(t: Tables, table: pd.DataFrame) -> pd.Series:
    """Converged distance over the target's distance from the simplex: of the three kernels the one furthest from 1."""
    real = t.own(table, target="real").set_index([*KEYS, "set", "kernel"])["distance"].unstack("kernel")
    to = pd.concat({kind: t.per_unit(of_layer.to_simplex, (kind,)) for kind in KINDS}, names=["set"])
    ratio = real.div(to.reorder_levels([*KEYS, "set"]), axis=0)
    return _mean(ratio.apply(lambda row: row.iloc[(row - 1).abs().argmax()], axis=1))


def _early_and_late(t: Tables) -> tuple[pd.Series, pd.Series]:
    """`layers.apart` by model and seed, and of random weights."""
    real, random = {}, {}
    for (model, seed, kind), features in t.sets.items():
        if kind == TEXT and model in t.layers:
            real[model, seed] = of_layer.apart(similarity(features.probed.directions)[:, None])
            random[model, seed] = of_layer.apart(similarity(features.random))
    return tuple(pd.Series(part).rename_axis(["model", "seed"]) for part in (real, random))
