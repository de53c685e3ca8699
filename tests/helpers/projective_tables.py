"""Made-up tables of the projective dictionaries' study, for its tests."""

import itertools

import numpy as np
import pandas as pd

from helpers.projective_rules import KINDS, SEEDS
from lib.studies.projective_dictionaries.tables import Tables

METHODS = (
    *(
        "top-k",
        "tied top-k",
        "BatchTopK",
        "tied projection",
        "OMP projection",
        "ridge",
        "tied ridge",
        "hybrid",
    ),
    *("ridge, normalised", "ridge, budget", "ridge, no quota"),
    *("tied hybrid", "penalised hybrid", "penalised tied hybrid"),
)
RELU = ("ReLU + L1, 0.1", "ReLU + L1, 0.2", "ReLU + L1, 0.4")
COEFFICIENTS = ("as trained", "amplitude", "least squares", "least squares, few", "ridge", "NNLS")
STATISTICS = (
    *("recovery", "found", "genuine", "splitting", "used", "dead", "bias", "slope", "slope_ls", "absorption"),
    *(
        "alone",
        "direction",
        "children",
        "stability",
        "square",
        "growth",
        "dimension_error",
        "conservative",
        "ranks",
    ),
    *("square, untrained", "dimension_error, untrained", "conservative, untrained", "ranks, untrained"),
)
SEARCHES = (
    *("learned rotation", "true direction", "random direction", "coefficient swap, true dictionary"),
    *("tied projection, span", "tied projection, coefficient swap", "top-k, span", "top-k, coefficient swap"),
    "learned rotation, untrained network",
)
BASELINES = ("MOD, OMP", "true dictionary, OMP", "random dictionary, OMP", "PCA, 8 components")
PAIRS = (
    *("learned rotation", "class means", "tied projection, by means", "tied projection, by correlation"),
    *("top-k, by means", "top-k, by correlation", "random directions", "learned rotation, untrained network"),
)
ARMS = ("peeking", "not peeking", "peeking, shuffled input", "not peeking, shuffled input")


def made_up(seed=0, every=False):
    """Tables in which everything is measured for everything, so that a wrong row is never missing; in no order.

    Claims need fewer methods, selections and k than figures, which need `every` one.
    """
    rng = np.random.default_rng(seed)

    def table(columns, **keys):
        rows = [dict(zip(keys, values, strict=True)) for values in itertools.product(*keys.values())]
        frame = pd.DataFrame(rows)
        for column in columns:
            frame[column] = rng.uniform(0.5, 2, len(frame))
        return frame.sample(frac=1, random_state=seed)

    planted = {"method": METHODS, "kind": KINDS, "k": (4, 8, 16), "seed": SEEDS}
    how = {"selection": ("own", "OMP"), "coefficients": COEFFICIENTS}
    if every:
        planted |= {"method": (*METHODS, *RELU), "k": (4, 8, 16, 32)}
        how["selection"] = ("own", "threshold", "OMP")
    some = {"method": ("top-k", "tied top-k", "tied projection", "ridge", "hybrid"), "seed": SEEDS}
    return Tables(
        codes=table(("fvu", "l0", "negative"), **planted, **how),
        dictionaries=table(STATISTICS, **planted),
        curves=table(("fvu", "recovery"), **planted, step=(2, 4, 12, 24, 48)),
        baselines=table(("fvu", "recovery", "found"), method=BASELINES, kind=KINDS, k=(8,), seed=SEEDS),
        layers=table(("fvu", "cross_entropy"), layer=("pixels", "layer 1", "layer 2"), **some, **how),
        transcoders=table(("fvu",), arm=ARMS, **some),
        swaps=table(
            ("error", "side", "accuracy"), method=SEARCHES, width=(1, 2, 4), active=(1, 4, 16), seed=SEEDS
        ),
        pairs=table(("accuracy",), method=PAIRS, width=(8, 16), seed=SEEDS),
        gradients=table(("difference",), dtype=("float64", "float32"), seed=SEEDS),
    )
