"""Made-up tables of the MNIST study, and the statistics of its claims as their rules say them, one number at a time."""

import itertools
import math
import statistics

import numpy as np
import pandas as pd

from lib.studies.mnist_superposition import inner
from lib.studies.mnist_superposition.evaluation import COLUMNS, PREDICTION
from lib.studies.mnist_superposition.evidence import Tables
from lib.studies.mnist_superposition.toy import Measured

ALL, KEPT, INNER = (
    range(5),
    range(4),
    range(3),
)  # outer seeds, those with a bottleneck that varies, inner seeds
NOISE, DATA, TOY, REPETITIONS = (
    range(3),
    range(6),
    range(7),
    range(8),
)  # so many of each that no two may be taken
UNTRAINED = ("SAE, untrained", "PSAE, untrained", "DeePWAK, untrained")
BASELINES = ("k-means", "Gaussian mixture", "spectral")
FORMS = (0, 8, 16, 64, 128)


def tables(seed: int = 0, dataset: str = "mnist") -> Tables:
    """Random numbers, all of them different, in rows of no order; rows that belong to no claim would spoil a mean."""
    rng = np.random.default_rng(seed)

    def frame(rows, **numbers):
        """One line per row, a dict, with random numbers within the bounds of each column."""
        lines = [row | {name: rng.uniform(*bounds) for name, bounds in numbers.items()} for row in rows]
        return pd.DataFrame(lines).sample(frac=1, random_state=seed, ignore_index=True)

    def product(**values):
        return [dict(zip(values, row, strict=True)) for row in itertools.product(*values.values())]

    names = (*inner.NAMES, *UNTRAINED)
    more = ("hard_r2", "split_rank", "six_rank", "six_rank_shuffled", "opposition")
    pairs = [{"outer": i, "other": j} for i in KEPT for j in KEPT if i != j]
    own = [{"outer": i, "other": i} for i in KEPT]
    return Tables(
        dataset=dataset,
        classifiers=frame(
            product(arm=("decoder", "repaired", "as coded"), outer=ALL), accuracy=(0, 1), missing=(0, 9), dead=(0, 3)
        ),
        probes=frame(product(encoder=("other", "untrained", "trained"), outer=KEPT, digit=range(10)), auc=(0.8, 1)),
        models=frame(
            product(model=names, outer=KEPT, inner=INNER)
            + product(model=(*BASELINES, PREDICTION), outer=KEPT, inner=[0]),
            **dict.fromkeys((*COLUMNS, *more), (0, 1)),
        ),
        similar=frame(
            [{"compared": which} | pair for which in ("untrained", "classifiers") for pair in pairs]
            + [{"compared": "decoder"} | pair for pair in own],
            cka=(0, 1), ari=(0, 1),
        ),
        gaussians=frame(product(centres=(3, 1), model=names, seed=NOISE), fvu=(0, 2), used=(1, 12), leak=(0, 1)),
        denoised=frame(product(seed=NOISE, k=(1, 2, 5, 9, 20)), self=(1, 2), clean=(0, 1)),
        small=frame(
            product(sees=("view", "itself"), clusters=(0, 64), batch=(256, 16), forms=FORMS, seed=DATA),
            ari=(0, 1), fvu=(0, 2),
        ),
        times=frame(
            product(n=(1024, 16384, 4096), repetition=REPETITIONS), dense=(1, 9), factorised=(1, 9), ratio=(1, 9)
        ),
        toy=_toy(rng),
    )  # fmt: skip


def _toy(rng) -> Measured:
    shape = (len(TOY), 4, 9)
    return Measured(
        inverse_density=np.array([100.0, 1.0, 5.5, 4.0]),
        dimensionality=rng.uniform(size=shape),
        squared_norm=rng.uniform(size=shape),
        per_feature=rng.uniform(size=shape[:2]),
        random=rng.uniform(size=(len(TOY), 9)),
    )


class Plain:
    """The numbers of one unit, in Python's own arithmetic; `i` is an outer, noise, data or toy seed or a repetition."""

    def __init__(self, t: Tables, rows: dict[str, list[dict]], i: int):
        self.t, self.rows, self.i = t, rows, i

    @classmethod
    def all(cls, t: Tables) -> "list[Plain]":
        """All units, by their number."""
        names = ("classifiers", "probes", "models", "similar", "gaussians", "denoised", "small", "times")
        rows = {name: getattr(t, name).to_dict("records") for name in names}
        return [cls(t, rows, i) for i in range(max(map(len, (ALL, NOISE, DATA, TOY, REPETITIONS))))]

    def numbers(self, table, column, **where):
        return [row[column] for row in self.rows[table] if all(row[k] == v for k, v in where.items())]

    def one(self, table, column, **where):
        (found,) = self.numbers(table, column, **where)
        return found

    def arm(self, column, arm):
        return self.one("classifiers", column, arm=arm, outer=self.i)

    def readable(self, encoder):
        auc = self.numbers("probes", "auc", encoder=encoder, outer=self.i)
        assert len(auc) == 10
        return sum(value >= 0.9 for value in auc)

    def model(self, column, model):
        found = self.numbers("models", column, model=model, outer=self.i)
        return sum(found) / len(found)

    def similar(self, column, compared):
        found = self.numbers("similar", column, compared=compared, outer=self.i)
        return sum(found) / len(found)

    def noise(self, column, model, centres=1):
        return self.one("gaussians", column, model=model, centres=centres, seed=self.i)

    def error(self, k):
        clean = {row["k"]: row["clean"] for row in self.rows["denoised"] if row["seed"] == self.i}
        return clean[k] / min(clean.values())

    def chosen(self):
        to_self = {row["k"]: row["self"] for row in self.rows["denoised"] if row["seed"] == self.i}
        return min(to_self, key=to_self.get)

    def small(self, column, forms, batch=16, sees="itself", clusters=64):
        where = dict(forms=forms, batch=batch, sees=sees, clusters=clusters, seed=self.i)
        return self.one("small", column, **where)

    def exponent(self, kernel):
        large, small = (self.one("times", kernel, n=n, repetition=self.i) for n in (16384, 4096))
        return (math.log(large) - math.log(small)) / math.log(4)

    def median(self, inverse_density, above=-1.0):
        at = self.t.toy.inverse_density.tolist().index(inverse_density)
        pairs = zip(self.t.toy.dimensionality[self.i, at], self.t.toy.squared_norm[self.i, at], strict=True)
        return statistics.median(d for d, norm in pairs if norm > above)


def minus(column, model, control):
    """The rule of a difference between two inner models, whose control is the second."""
    return (
        KEPT,
        lambda u: u.model(column, model) - u.model(column, control),
        lambda u: u.model(column, control),
    )


def of(column, model, control, control_column=None):
    """The rule of a statistic of one inner model, with the same of another as its control."""
    return KEPT, lambda u: u.model(column, model), lambda u: u.model(control_column or column, control)


def arm(column, which, control):
    return ALL, lambda u: u.arm(column, which), lambda u: u.arm(column, control)


def ari(forms, sees="itself"):
    return (
        DATA,
        lambda u: u.small("ari", forms, sees=sees) - u.small("ari", 0, sees=sees),
        lambda u: u.small("ari", 0, sees=sees),
    )


def other_rank(u):
    return min(u.model("split_rank", "k-means"), u.model("split_rank", PREDICTION))


def lower_nmi(u):
    return min(u.model("nmi_prediction", "PSAE"), u.model("nmi_prediction", "DeePWAK"))


def lower_floor(u):
    return min(u.noise("fvu", "DeePWAK-view"), u.noise("fvu", "DeePWAK-complement"))


def over_labels(model):
    return lambda u: u.model("nmi_prediction", model) - u.model("nmi_label", PREDICTION)


# By claim: the units, the statistic of its rule, and the same of its control.
RULES = {
    "outer-superposition": (KEPT, lambda u: u.readable("trained"), lambda u: u.readable("untrained")),
    "outer-as-coded-accuracy": arm("accuracy", "as coded", "repaired"),
    "outer-as-coded-missing-digits": arm("missing", "as coded", "repaired"),
    "outer-repaired-accuracy": arm("accuracy", "repaired", "as coded"),
    "outer-repaired-no-dead": arm("dead", "repaired", "as coded"),
    "outer-same-information": (
        KEPT,
        lambda u: u.similar("cka", "decoder") - u.similar("cka", "classifiers"),
        lambda u: u.similar("cka", "classifiers"),
    ),
    "outer-same-clusters": (
        KEPT,
        lambda u: u.similar("ari", "decoder") - u.similar("ari", "classifiers"),
        lambda u: u.similar("ari", "classifiers"),
    ),
    "same-data-same-representation": (
        KEPT,
        lambda u: u.similar("cka", "classifiers"),
        lambda u: u.similar("cka", "untrained"),
    ),
    "sparsity-psae-over-sae": minus("hoyer", "PSAE", "SAE"),
    "sparsity-deepwak-over-psae": minus("hoyer", "DeePWAK", "PSAE"),
    "sparsity-deepwak-over-sae": minus("hoyer", "DeePWAK", "SAE"),
    "sparsity-from-diffusion": minus("hoyer", "DeePWAK", "Autoencoder"),
    "mended-sparsity": minus("hoyer", "DeePWAK-view", "Autoencoder"),
    "psae-copies": minus("copies", "PSAE", "SAE"),
    "interpretable-features": minus("selectivity", "DeePWAK", "SAE"),
    "interpretable-beyond-autoencoder": minus("selectivity", "DeePWAK", "Autoencoder"),
    "sparse-clusters-psae": of("spread", "PSAE", "PSAE, untrained"),
    "sparse-clusters-deepwak": of("spread", "DeePWAK", "DeePWAK, untrained"),
    "clusters-capture-features": (
        KEPT,
        lambda u: lower_nmi(u) - u.model("nmi_prediction", "DeePWAK, untrained"),
        lambda u: u.model("nmi_shuffled", "DeePWAK"),
    ),
    "psae-predicts-output": (KEPT, over_labels("PSAE"), over_labels("k-means")),
    "deepwak-more-general": minus("digits", "DeePWAK", "PSAE"),
    # The rule names chance, rank 18, as control; the report shows the better one of k-means and confusion, as below.
    "rounded-pointed-best": (KEPT, lambda u: u.model("split_rank", "DeePWAK"), other_rank),
    "rounded-pointed-specific": (
        KEPT,
        lambda u: other_rank(u) - u.model("split_rank", "DeePWAK"),
        other_rank,
    ),
    "six-least-confident": of("six_rank", "DeePWAK", "DeePWAK", "six_rank_shuffled"),
    "six-opposes-one": of("opposition", "DeePWAK", "k-means"),
    "bisemanticity": minus("bisemantic", "DeePWAK", "k-means"),
    "bisemantic-beyond-untrained": minus("bisemantic", "DeePWAK", "DeePWAK, untrained"),
    "j-invariant": of("leak", "DeePWAK", "DeePWAK-view"),
    "fewer-than-k-mnist": of("used", "DeePWAK", "DeePWAK, untrained"),
    "fewer-than-k-gaussian": (
        NOISE,
        lambda u: u.noise("used", "DeePWAK"),
        lambda u: u.noise("used", "DeePWAK-complement"),
    ),
    "leak-soft-assignment": of("r2", "DeePWAK", "DeePWAK", "hard_r2"),
    "leak-hard-assignment": minus("hard_fvu", "DeePWAK", "k-means"),
    "leak-noise-floor": (
        NOISE,
        lambda u: u.noise("fvu", "DeePWAK"),
        lambda u: u.noise("fvu", "DeePWAK-view"),
    ),
    "codebook-equals-deepwak": (
        KEPT,
        lambda u: u.model("fvu", "Codebook") - u.model("fvu", "DeePWAK"),
        lambda u: u.model("fvu", "Autoencoder"),
    ),
    "mended-noise-floor": (NOISE, lower_floor, lambda u: u.noise("fvu", "DeePWAK")),
    "noise2self-tunes-graphs": (NOISE, lambda u: u.error(u.chosen()), lambda u: u.error(20)),
    "pwak-quadratic": (REPETITIONS, lambda u: u.exponent("dense"), lambda u: u.exponent("factorised")),
    "small-batches-fail": (
        DATA,
        lambda u: u.small("ari", 0) - u.small("ari", 0, batch=256),
        lambda u: u.small("ari", 0, batch=256),
    ),
    "platonic-forms-help": ari(64),
    "platonic-forms-few": ari(8),
    "platonic-forms-mended": ari(64, sees="view"),
    "platonic-forms-leak": (
        DATA,
        lambda u: u.small("fvu", max(FORMS), clusters=0),
        lambda u: u.small("fvu", 0, clusters=0),
    ),
    "toy-plateau": (
        TOY,
        lambda u: u.median(5.5),
        lambda u: statistics.median(u.t.toy.random[u.i]),
    ),
    "toy-plateau-represented": (TOY, lambda u: u.median(5.5, above=0.5), lambda u: u.median(100, above=0.5)),
}
