"""What was measured, as claims and figures ask for it, and the tables of it that the notebook shows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.dictionaries.planted import KINDS
from lib.studies.projective_dictionaries.methods import AMPLITUDES, CORE, TRANSCODERS

Values = np.ndarray  # (seeds,), in the order of the seeds
# The methods of alignment search that swap one dimension, or one coefficient.
SEARCHES = (
    "learned rotation",
    "true direction",
    "random direction",
    "tied projection, span",
    "top-k, span",
    "coefficient swap, true dictionary",
    "tied projection, coefficient swap",
    "top-k, coefficient swap",
)
KNOWING = ("true direction", "random direction", "coefficient swap, true dictionary")  # need no search
# Whose use is weighed up at the end: all with k latents.
CANDIDATES = ("top-k", "tied top-k", "BatchTopK", "tied projection", "ridge", "tied ridge", "hybrid")


def per_seed(table: pd.DataFrame, column: str, **where) -> Values:
    """A column in the rows where other columns have the given values: one value per seed, in the order of the seeds.

    Raises KeyError where no row has them, ValueError where a seed has more than one.
    """
    for key, value in where.items():
        table = table[table[key] == value]
    wanted = ", ".join(f"{key} {value!r}" for key, value in where.items())
    if table.empty:
        raise KeyError(f"{column}: nothing was measured for {wanted}")
    table = table.sort_values("seed")
    if table["seed"].duplicated().any():
        raise ValueError(f"{column}: more than one value per seed for {wanted}; say which one is meant")
    return table[column].to_numpy()


@dataclass(frozen=True)
class Tables:
    """What was measured, as tidy tables with a column `seed`.

    `codes`, `dictionaries` and `curves`: those of `factorial.planted` for all kinds of planted data and all k.
    `baselines`: that of `factorial.baselines` for all kinds.
    `layers`: that of `hidden.compare`, with a column layer ("pixels" or a name of `hidden.LAYERS`).
    `transcoders`: that of `transcoding.compare`.
    `swaps`: that of `alignment.superposed`; `pairs`: that of `alignment.digit_pairs`.
    `gradients`: that of `runs.gradients`: dtype ("float64" or "float32") and difference.
    """

    codes: pd.DataFrame
    dictionaries: pd.DataFrame
    curves: pd.DataFrame
    baselines: pd.DataFrame
    layers: pd.DataFrame
    transcoders: pd.DataFrame
    swaps: pd.DataFrame
    pairs: pd.DataFrame
    gradients: pd.DataFrame

    def fvu(self, method: str, kind: str, *, k: int = 8, how: str = "as trained") -> Values:
        """FVU of a method's own selection; `how` names the coefficients."""
        return self.own(method, kind, column="fvu", k=k, how=how)

    def refit(self, method: str, kind: str, *, k: int = 8) -> Values:
        """FVU of a method's own selection with least-squares coefficients."""
        return self.fvu(method, kind, k=k, how="least squares")

    def own(self, method: str, kind: str, *, column: str, k: int = 8, how: str = "as trained") -> Values:
        """A column of `codes` for a method's own selection."""
        where = {"method": method, "kind": kind, "k": k, "selection": "own", "coefficients": how}
        return per_seed(self.codes, column, **where)

    def of(self, column: str, method: str, kind: str, *, k: int = 8) -> Values:
        """A column of `dictionaries`."""
        return per_seed(self.dictionaries, column, method=method, kind=kind, k=k)

    def over_kinds(self, column: str, method: str) -> Values:
        """The mean of a column of `dictionaries` over the kinds of planted data, at k = 8."""
        return np.mean([self.of(column, method, kind) for kind in KINDS], axis=0)

    def difference(self, column: str, method: str, other: str, *, kind: str, k: int = 8) -> Values:
        """A column of `dictionaries` for one method minus that for another."""
        return self.of(column, method, kind, k=k) - self.of(column, other, kind, k=k)

    def layer_fvu(self, method: str, layer: str, *, how: str = "as trained") -> Values:
        """FVU of a method's own selection on pixels or a hidden layer."""
        where = {"method": method, "layer": layer, "selection": "own", "coefficients": how}
        return per_seed(self.layers, "fvu", **where)

    def layer_refit(self, method: str, layer: str) -> Values:
        """The same with least-squares coefficients."""
        return self.layer_fvu(method, layer, how="least squares")

    def transcoder(self, method: str, arm: str) -> Values:
        """FVU of a transcoder in one of `transcoding.ARMS`."""
        return per_seed(self.transcoders, "fvu", method=method, arm=arm)

    def swap(self, method: str, active: int, *, width: int = 1) -> Values:
        """Error of interchanges by how many variables are active and how many dimensions are swapped."""
        return per_seed(self.swaps, "error", method=method, active=active, width=width)

    def pair(self, method: str, *, width: int = 16) -> Values:
        """Interchange accuracy on pairs of digits."""
        return per_seed(self.pairs, "accuracy", method=method, width=width)

    def quarter(self, column: str, method: str, kind: str) -> Values:
        """A column of `curves` after a quarter of the training, at k = 8."""
        step = self.curves["step"].max() // 4
        return per_seed(self.curves, column, method=method, kind=kind, k=8, step=step)

    def gradient(self, dtype: str) -> Values:
        """Largest relative difference of the closed-form gradient from autograd's."""
        return per_seed(self.gradients, "difference", dtype=dtype)


def geometric(function: Callable[[str], Values], names: Iterable[str] = KINDS) -> Values:
    """Geometric mean of function(name) over kinds of planted data, or over other names; one value per seed."""
    return np.exp(np.mean([np.log(function(name)) for name in names], axis=0))


def of_methods(t: Tables) -> pd.DataFrame:
    """All methods at k = 8, means over seeds: FVU by kind of planted data; other statistics also over kinds."""
    own = t.codes[(t.codes["k"] == 8) & (t.codes["selection"] == "own")]
    trained, refitted = (own[own["coefficients"] == how] for how in ("as trained", "least squares"))
    at_8 = t.dictionaries[t.dictionaries["k"] == 8].groupby("method", sort=False)
    table = _by_kind(trained).add_prefix("FVU, ")
    table["refit, mean"] = refitted.groupby("method", sort=False)["fvu"].mean()
    table["L0"] = trained.groupby("method", sort=False)["l0"].mean()
    table = table.join(at_8[["recovery", "found", "genuine", "splitting", "dead"]].mean())
    table["negative"] = refitted.groupby("method", sort=False)["negative"].mean()
    return table


def of_baselines(t: Tables) -> pd.DataFrame:
    """What needs no gradient descent: FVU by kind, recovery and share found over kinds."""
    found = t.baselines.groupby("method")[["recovery", "found"]].mean()
    return _by_kind(t.baselines).join(found)


def _by_kind(table: pd.DataFrame) -> pd.DataFrame:
    return table.pivot_table(index="method", columns="kind", values="fvu", sort=False)[list(KINDS)]


def of_ridges(t: Tables) -> pd.DataFrame:
    """Importances of ridge dictionaries at k = 8 by kind and method, means over seeds."""
    # Only ridge dictionaries have importances.
    ridges = t.dictionaries[(t.dictionaries["k"] == 8) & t.dictionaries["square"].notna()]
    statistics = ["used", "square", "growth", "dimension_error", "conservative", "ranks", "recovery"]
    table = ridges.groupby(["kind", "method"], sort=False)[statistics].mean()
    codes = t.codes[(t.codes["k"] == 8) & (t.codes["selection"] == "own")]
    trained = codes[codes["coefficients"] == "as trained"]
    table["FVU"] = trained.groupby(["kind", "method"], sort=False)["fvu"].mean()
    return table


def of_cross_entropy(t: Tables) -> pd.DataFrame:
    """Cross entropy recovered on the two hidden layers, means over seeds."""
    own = t.layers[(t.layers["coefficients"] == "as trained") & (t.layers["layer"] != "pixels")]
    table = own.pivot_table(index="method", columns="layer", values="cross_entropy", sort=False)
    return table.add_prefix("recovered, ")


def of_swaps(t: Tables) -> pd.DataFrame:
    """Interchanges by method and dimensions swapped, and by how many variables are active; means over seeds."""
    values = ["error", "side", "accuracy"]
    return t.swaps.pivot_table(index=["method", "width"], columns="active", values=values, sort=False)


def needs(t: Tables) -> dict[str, dict[str, Values]]:
    """For each thing that one may want, the statistic of each method that may give it; the lower the better."""

    def with_target(method: str) -> Values:
        return geometric(lambda kind: np.minimum(t.refit(method, kind), t.fvu(method, kind)))

    def as_trained(method: str) -> Values:
        return geometric(lambda kind: t.fvu(method, kind))

    coherent = {"kind": "coherent", "k": 16}
    return {
        "lowest FVU at k = 8, target at hand": {m: with_target(m) for m in CANDIDATES},
        "lowest FVU at k = 8, amplitudes only": {m: as_trained(m) for m in (*AMPLITUDES, "BatchTopK")},
        "best dictionary (1 - recovery)": {m: 1 - t.over_kinds("recovery", m) for m in CANDIDATES},
        "lowest absorption (hierarchy)": {m: t.of("absorption", m, "hierarchy") for m in CANDIDATES},
        "coherent features, k twice too large (1 - recovery)": {
            m: 1 - t.of("recovery", m, **coherent) for m in CORE
        },
        "same dictionary from another start (1 - stability)": {
            m: 1 - t.of("stability", m, **coherent) for m in CORE
        },
        "transcoder without the target": {m: t.transcoder(m, "not peeking") for m in TRANSCODERS},
        "one variable in superposition, 4 active": {m: t.swap(m, 4) for m in SEARCHES if m not in KNOWING},
    }


def of_choices(t: Tables) -> pd.DataFrame:
    """For each of `needs` the method with the lowest mean, and the next."""
    rows = []
    for need, values in needs(t).items():
        first, second = sorted(values, key=lambda method: values[method].mean())[:2]
        gap = values[second] - values[first]
        ahead = f"in {(gap > 0).sum()} of {len(gap)} seeds"
        rows.append((need, first, values[first].mean(), second, values[second].mean(), ahead))
    columns = ["for", "use", "value", "next best", "its value", "ahead"]
    return pd.DataFrame(rows, columns=columns).set_index("for")
