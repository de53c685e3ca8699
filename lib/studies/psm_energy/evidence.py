"""From the tables of the energy-matching study to what each of its claims is judged by: one value a unit.

A unit is a layer of a trained model with one seed. Every entry is (values, the same of the control), by claim. Where a
rule names no kernel, it is exp, and where it names no similarity, the cosine. What is measured of both feature sets is
the mean of the two, taken last.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.energy.objective import similarity
from lib.studies.psm_energy import layers as energy_layers
from lib.studies.psm_energy.measures import AGAIN, p_values
from lib.studies.psm_energy.units import SETS, Unit

KEYS = ["model", "layer", "seed"]
TEXT, ATHLETES = SETS
THREE = ["edge-shuffled", "shuffled labels", "random weights"]
Evidence = dict[str, tuple[pd.Series, pd.Series | None]]


@dataclass(frozen=True)
class Tables:
    """What the notebook measured: units by (model, seed, set), layers by trained model, a table of each section.

    `planted`: p values of planted minimisers, the control of the claims that features minimise the energy, which have
    none without it.
    """

    units: Mapping[tuple[str, int, str], Unit]
    layers: Mapping[str, Sequence[int]]
    measured: pd.DataFrame
    simplices: pd.DataFrame
    slides: pd.DataFrame
    rbf: pd.DataFrame
    details: pd.DataFrame
    planted: pd.Series | None = None

    def own(self, table: pd.DataFrame, **which) -> pd.DataFrame:
        """The rows of trained models, and of these values of columns."""
        table = table[table["model"].isin(self.layers)]
        for column, value in which.items():
            table = table[table[column] == value]
        return table

    def per_unit(self, function: Callable[[Unit, int], float], kinds: Sequence[str] = SETS) -> pd.Series:
        """The mean over feature sets of function(unit, index of the layer)."""
        seeds = sorted({seed for _, seed, _ in self.units})
        values = {
            (model, layer, seed): float(
                np.mean([function(self.units[model, seed, kind], i) for kind in kinds])
            )
            for model, layers in self.layers.items()
            for seed in seeds
            for i, layer in enumerate(layers)
        }
        return pd.Series(values).rename_axis(KEYS)


def of_slides(t: Tables) -> Evidence:
    """The claims of the slides, but those on embeddings."""
    exp = t.own(t.measured, kernel="exp")
    moved = _median(exp, "distance")
    per_random = moved.div(moved["random directions"], axis=0).groupby(KEYS).mean()
    cosine, rbf = (_moved_over_real(t.own(table)) for table in (t.measured, t.rbf))
    best, best_rbf = ({kind: _best(t.own(table, set=kind)) for kind in SETS} for table in (t.measured, t.rbf))
    excess = _median(exp, "excess").groupby(KEYS).mean()
    agreement = t.per_unit(energy_layers.agreement_with_labels, (TEXT,))
    random = t.per_unit(energy_layers.random_agreement_with_labels, (TEXT,))
    weights = t.own(t.slides).groupby(KEYS)[["weight", "kept"]].mean()
    far = t.own(t.details, set=ATHLETES).set_index(KEYS)
    shuffled = t.per_unit(energy_layers.shuffled_to_simplex, (ATHLETES,))
    return {
        "reoptimisation-keeps-psm": (per_random["real"], per_random["edge-shuffled"]),
        "text-minimises-energy": (_largest_p(exp[exp["set"] == TEXT]), t.planted),
        "athletes-minimise-energy": (_largest_p(exp[exp["set"] == ATHLETES]), t.planted),
        "random-target-moves-cosine": (cosine["coordinate-permuted"], cosine["shuffled labels"]),
        "random-target-stays-rbf": (rbf["coordinate-permuted"], cosine["coordinate-permuted"]),
        "best-kernel-not-robust": ((best[TEXT] == best[ATHLETES]) * 1.0, _same_between_seeds(best)),
        "importance-ignored": (weights["weight"], weights["kept"]),
        "smaller-perturbation-powell": (_decrease(t, "Powell"), _decrease(t, "converged")),
        "smaller-perturbation-converged": (_decrease(t, "converged"), _decrease(t, "Powell")),
        "text-best-kernel-rbf": ((best_rbf[TEXT] == "exp") * 1.0, (best_rbf[ATHLETES] == "exp") * 1.0),
        "athletes-best-kernel-rbf": ((best_rbf[ATHLETES] == "log") * 1.0, (best_rbf[TEXT] == "log") * 1.0),
        "perturbation-rbf-more": tuple(
            _decrease(t, method, "rbf", (TEXT,)) - _decrease(t, method, kinds=(TEXT,))
            for method in ("Powell", "converged")
        ),
        "athletes-match-better": _text_over_athletes(exp),
        "permuted-orthogonal": (
            t.per_unit(energy_layers.permuted_cosine, (TEXT,)),
            t.per_unit(energy_layers.mean_cosine, (TEXT,)),
        ),
        "geometry-same-in-layers": (
            t.per_unit(energy_layers.agreement_with_layers),
            t.per_unit(energy_layers.shuffled_agreement_with_layers),
        ),
        "rbf-scale-is-norm": (
            t.per_unit(energy_layers.spread_by_norms, (ATHLETES,)),
            t.per_unit(energy_layers.spread_by_cosines, (ATHLETES,)),
        ),
        "early-late-layers-differ": _early_and_late(t),
        "simplexes-exist": (
            t.per_unit(energy_layers.to_simplex, (ATHLETES,)) / shuffled,
            t.per_unit(energy_layers.random_to_simplex, (ATHLETES,)) / shuffled,
        ),
        "optimiser-sensitive": (_from_converged(t, "Powell"), _from_converged(t, AGAIN)),
        "regularisation-sensitive": (
            (far["λ 10"] - far["λ 1000"]).abs() / far["λ 1000"],
            (far["λ 100"] - far["λ 100, other start"]).abs() / far["λ 100"],
        ),
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
    shuffled = t.per_unit(energy_layers.shuffled_to_simplex, (ATHLETES,))
    return {
        "powell-stops-short": tuple(
            _mean(_slides(t, method, 0.1, column="left")) for method in ("Powell", "Powell, norms held")
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
            t.per_unit(energy_layers.to_simplex, (ATHLETES,)) - shuffled,
            t.per_unit(energy_layers.random_to_simplex, (ATHLETES,)) - shuffled,
        ),
        "weights-sum-to-zero": (
            t.per_unit(energy_layers.sum_length, (ATHLETES,)),
            t.per_unit(energy_layers.sum_length, (TEXT,)),
        ),
        "text-psm-is-label-correlation": (
            t.per_unit(energy_layers.agreement_with_labels, (TEXT,)),
            t.per_unit(energy_layers.shuffled_agreement_with_labels, (TEXT,)),
        ),
        "text-psm-survives-random-weights": (
            t.per_unit(energy_layers.agreement_with_random, (TEXT,)),
            t.per_unit(energy_layers.shuffled_agreement_with_random, (TEXT,)),
        ),
    }


def _mean(values: pd.Series, kinds: Sequence[str] = SETS) -> pd.Series:
    """One value a unit, of one a unit and feature set."""
    return values[values.index.isin(kinds, level="set")].groupby(KEYS).mean()


def _median(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Medians over draws, a column a target, a row a unit and feature set."""
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
    t: Tables, method: str, sigma: float, similarity: str = "cosine", column: str = "distance"
) -> pd.Series:
    """A column of the table `slides`, kernel exp, by unit and feature set."""
    table = t.own(t.slides, method=method, sigma=sigma, similarity=similarity, kernel="exp")
    return table.set_index([*KEYS, "set"])[column]


def _decrease(t: Tables, method: str, similarity: str = "cosine", kinds: Sequence[str] = SETS) -> pd.Series:
    far, near = (_slides(t, method, sigma, similarity) for sigma in (0.1, 0.01))
    return _mean((far - near) / far, kinds)


def _from_converged(t: Tables, method: str) -> pd.Series:
    """Relative difference of the distance that a method ends at from that of converged optimisation."""
    there, converged = (_slides(t, each, 0.1) for each in (method, "converged"))
    return _mean((there - converged).abs() / converged)


def _text_over_athletes(table: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    a_pair = table["distance"] / np.sqrt(table["n"] * (table["n"] - 1))
    medians = _median(table.assign(a_pair=a_pair), "a_pair")
    ratio = medians.xs(TEXT, level="set") / medians.xs(ATHLETES, level="set")
    return ratio["real"], ratio["random directions"]


def _simplex_ratio(t: Tables, table: pd.DataFrame) -> pd.Series:
    """Converged distance over the target's distance from the simplex: of the three kernels the one furthest from 1."""
    real = t.own(table, target="real").set_index([*KEYS, "set", "kernel"])["distance"].unstack("kernel")
    to = pd.concat({kind: t.per_unit(energy_layers.to_simplex, (kind,)) for kind in SETS}, names=["set"])
    ratio = real.div(to.reorder_levels([*KEYS, "set"]), axis=0)
    return _mean(ratio.apply(lambda row: row.iloc[(row - 1).abs().argmax()], axis=1))


def _early_and_late(t: Tables) -> tuple[pd.Series, pd.Series]:
    """`energy_layers.apart` by model and seed, and of random weights."""
    real, random = {}, {}
    for (model, seed, kind), unit in t.units.items():
        if kind == TEXT and model in t.layers:
            real[model, seed] = energy_layers.apart(similarity(unit.probed.directions)[:, None])
            random[model, seed] = energy_layers.apart(similarity(unit.random))
    return tuple(pd.Series(part).rename_axis(["model", "seed"]) for part in (real, random))
