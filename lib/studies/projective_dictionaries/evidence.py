"""From the tables of the study to what each of its claims is judged by: one value per seed.

Every entry is (values, the same of the control, perhaps a note), by claim. Where a rule names no k, it is 8; a *refit*
is the FVU with least-squares coefficients on a method's own support.
"""

from collections.abc import Mapping

import numpy as np

from lib.dictionaries.planted import KINDS
from lib.studies.projective_dictionaries.hidden import LAYERS
from lib.studies.projective_dictionaries.tables import Tables, Values, geometric

TOP_K, TIED, PROJECTION = "top-k", "tied top-k", "tied projection"
RIDGE, HYBRID = "ridge", "hybrid"
ON = ("pixels", *LAYERS)  # what dictionaries of images are trained on
# Among these a variant with both the hybrid's FVU and the ridge's absorption is looked for.
POOL = ("penalised hybrid", "tied hybrid", "penalised tied hybrid", "tied ridge", "OMP projection")
MARGIN = 0.01  # added to absorption rates before they are divided
Evidence = dict[str, tuple[Values, Values] | tuple[Values, Values, str]]


def of(t: Tables) -> Evidence:
    """All claims of the study. A value is NaN where a statistic is not defined (see `judged`)."""
    parts = (
        of_reconstruction(t),
        of_tying(t),
        of_absorption(t),
        of_gradients(t),
        of_importances(t),
        of_interventions(t),
        of_refits(t),
        of_training(t),
    )
    return {claim: entry for part in parts for claim, entry in part.items()}


def judged(evidence: Evidence) -> tuple[dict[str, tuple], dict[str, str]]:
    """What `claims.judge_all` takes: evidence in the seeds where it is defined, and why the rest is not tested.

    Absorption, for instance, is not defined where no child has a latent of its own, as after short training. A control
    without any defined value is None.
    """
    tested, not_tested = {}, {}
    for claim, (values, control, *notes) in evidence.items():
        defined, control = np.isfinite(values), control[np.isfinite(control)]
        if not defined.any():
            not_tested[claim] = "not defined in any seed at this length of training"
            continue
        if not defined.all():
            notes = [*notes, f"defined in {defined.sum()} of {len(values)} seeds"]
        tested[claim] = (values[defined], control if len(control) else None, "; ".join(notes))
    return tested, not_tested


def of_reconstruction(t: Tables) -> Evidence:
    """Purpose 3 of the source: variance explained at a given number of latents."""
    return {
        "projection-explains-more": (
            geometric(lambda kind: t.fvu(PROJECTION, kind) / t.fvu(TOP_K, kind)),
            geometric(lambda kind: t.refit(TOP_K, kind) / t.fvu(TOP_K, kind)),
        ),
        "projection-beyond-refit": (
            geometric(lambda kind: t.fvu(PROJECTION, kind) / t.refit(TOP_K, kind)),
            geometric(lambda kind: t.refit(TIED, kind) / t.refit(TOP_K, kind)),
        ),
        "projection-on-mnist": (
            geometric(lambda layer: t.layer_fvu(PROJECTION, layer) / t.layer_refit(TOP_K, layer), ON),
            geometric(lambda layer: t.layer_refit(TOP_K, layer) / t.layer_fvu(TOP_K, layer), ON),
        ),
        "sae-misses-strengths": (
            geometric(lambda kind: t.refit(TOP_K, kind) / t.fvu(TOP_K, kind)),
            geometric(lambda kind: t.refit(PROJECTION, kind) / t.fvu(PROJECTION, kind)),
        ),
        "sae-shrinks": (t.of("slope", TOP_K, "independent"), t.of("slope_ls", TOP_K, "independent")),
    }


def of_tying(t: Tables) -> Evidence:
    """Purpose 4: what tied weights cost, and where projection pays with them."""
    return {
        "tying-costs-reconstruction": (
            t.fvu(TIED, "coherent") / t.fvu(TOP_K, "coherent"),
            t.fvu(TIED, "independent") / t.fvu(TOP_K, "independent"),
        ),
        "tying-tolerable": (
            geometric(lambda kind: t.fvu(PROJECTION, kind) / t.fvu(HYBRID, kind)),
            geometric(lambda kind: t.fvu(TIED, kind) / t.fvu(TOP_K, kind)),
        ),
        "projection-pays-tied": (
            t.fvu(PROJECTION, "hierarchy") - t.refit(TIED, "hierarchy"),
            t.fvu(PROJECTION, "hierarchy") - t.fvu(TIED, "hierarchy"),
        ),
        "projection-pays-coherent": (
            t.difference("recovery", PROJECTION, TIED, kind="coherent", k=16),
            t.difference("recovery", TOP_K, TIED, kind="coherent", k=16),
        ),
        "projection-stable-coherent": (
            t.of("stability", PROJECTION, "coherent", k=16),
            t.of("stability", TIED, "coherent", k=16),
        ),
    }


def of_absorption(t: Tables) -> Evidence:
    """Purpose 5: absorption, splitting and recovery."""

    def less(method: str, other: str) -> Values:
        return t.difference("absorption", method, other, kind="hierarchy")

    def ratio(method: str) -> Values:
        return t.of("absorption", method, "hierarchy") / t.of("absorption", TOP_K, "hierarchy")

    scores = scores_of_both(t)
    best = best_of_pool(scores)
    return {
        "tying-lowers-absorption": (less(TIED, TOP_K), t.of("absorption", TOP_K, "hierarchy")),
        "projection-lowers-absorption": (less(PROJECTION, TOP_K), less(TIED, TOP_K)),
        "projection-lowers-splitting": (
            t.difference("splitting", PROJECTION, TOP_K, kind="coherent", k=16),
            t.difference("splitting", TIED, TOP_K, kind="coherent", k=16),
        ),
        "projection-improves-dictionary": (
            t.over_kinds("recovery", PROJECTION) - t.over_kinds("recovery", TOP_K),
            t.over_kinds("recovery", TIED) - t.over_kinds("recovery", TOP_K),
        ),
        "projection-no-less-absorption": (less(PROJECTION, TIED), less(TOP_K, TIED)),
        "penalty-lowers-absorption": (less(RIDGE, TOP_K), less("ridge, normalised", TOP_K)),
        "hybrid-doubles-absorption": (ratio(HYBRID), ratio("tied hybrid")),
        "best-of-both": (chosen_on_others(scores), scores[TOP_K], f"best over all seeds: {best}"),
    }


def of_gradients(t: Tables) -> Evidence:
    """Section 4: what is learned through a projection, and the biases that are not."""
    return {
        "biases-get-no-gradient": (
            t.of("bias", PROJECTION, "independent"),
            t.of("bias", "tied ridge", "independent"),
        ),
        "projection-backpropagates": (t.gradient("float64"), t.gradient("float32")),
        "ridge-mends-biases": (
            t.over_kinds("recovery", "tied ridge") - t.over_kinds("recovery", PROJECTION),
            t.over_kinds("recovery", TIED) - t.over_kinds("recovery", PROJECTION),
        ),
    }


def of_importances(t: Tables) -> Evidence:
    """Sections 5 and 6: what the importances learn, and what keeps them from growing."""

    def independent(column: str, method: str) -> Values:
        return t.of(column, method, "independent")

    quotas = [t.fvu(method, "independent") for method in (RIDGE, "ridge, normalised", "ridge, budget")]
    return {
        "importance-is-learned": (independent("ranks", RIDGE), independent("ranks, untrained", RIDGE)),
        "importance-races": (independent("growth", "ridge, no quota"), independent("growth", RIDGE)),
        "quotas-alike": (
            np.max(quotas, axis=0) / np.min(quotas, axis=0),
            t.fvu("ridge, no quota", "independent") / t.fvu(RIDGE, "independent"),
        ),
        "effective-dimension-close": (
            t.over_kinds("dimension_error", RIDGE),
            t.over_kinds("dimension_error, untrained", RIDGE),
        ),
        "effective-dimension-conservative": (
            t.over_kinds("conservative", RIDGE),
            independent("conservative", "ridge, normalised"),
        ),
        "no-quota-collapses": (independent("used", "ridge, no quota"), independent("used", RIDGE)),
        "budget-collapses": (independent("used", "ridge, budget"), independent("used", RIDGE)),
    }


def of_interventions(t: Tables) -> Evidence:
    """Purposes 1 and 2: alignment search; and transcoders."""
    span, rotation, shuffled = f"{PROJECTION}, span", "learned rotation", "peeking, shuffled input"

    def beyond_rotation(method: str, active: int) -> Values:
        return t.swap(method, active) - t.swap(rotation, active)

    return {
        "ridge-transcoder": (
            t.transcoder(RIDGE, "not peeking") / t.transcoder(TOP_K, "peeking"),
            t.transcoder(RIDGE, shuffled) / t.transcoder(TOP_K, "peeking"),
        ),
        "shuffled-input-transcoder": (t.transcoder(RIDGE, shuffled), t.transcoder(TOP_K, shuffled)),
        "das-footprint": (beyond_rotation(span, 4), beyond_rotation("random direction", 4)),
        "das-scalability": (beyond_rotation(span, 16), beyond_rotation("random direction", 16)),
        "das-swap-exact": (t.swap("coefficient swap, true dictionary", 4), t.swap("true direction", 4)),
        "das-pair-tie": (
            t.pair(f"{PROJECTION}, by means") - t.pair(rotation),
            t.pair(f"{rotation}, untrained network") - t.pair(rotation),
        ),
    }


def of_refits(t: Tables) -> Evidence:
    """Which share of the hybrid's gain over top-k a refit alone has."""

    def share(kind: str) -> Values:
        start, end = t.fvu(TOP_K, kind), t.fvu(HYBRID, kind)
        return (start - t.refit(TOP_K, kind)) / (start - end)

    def share_of_nnls(kind: str) -> Values:
        # The hybrid on the samples that NNLS was solved for.
        start, end = t.fvu(TOP_K, kind), t.fvu(HYBRID, kind, how="least squares, few")
        return (start - t.fvu(TOP_K, kind, how="NNLS")) / (start - end)

    def share_on(layer: str) -> Values:
        start, end = t.layer_fvu(TOP_K, layer), t.layer_fvu(HYBRID, layer)
        return (start - t.layer_refit(TOP_K, layer)) / (start - end)

    return {
        "refit-share-planted": (
            np.mean([share(kind) for kind in KINDS], axis=0),
            np.mean([share_of_nnls(kind) for kind in KINDS], axis=0),
        ),
        "refit-share-mnist": (
            np.mean([share_on(layer) for layer in LAYERS], axis=0),
            share_on("pixels"),
        ),
    }


def of_training(t: Tables) -> Evidence:
    """What a short training would have told."""

    def late_gain(method: str) -> Values:
        return t.of("recovery", method, "independent") - t.quarter("recovery", method, "independent")

    return {"short-runs-mislead": (late_gain(TOP_K), late_gain(PROJECTION))}


def scores_of_both(t: Tables) -> Mapping[str, Values]:
    """For each variant of POOL, and top-k: the larger of its FVU over the hybrid's and its absorption over the ridge's.

    On the hierarchy; absorption rates plus MARGIN. 1 or less: as good as the best in both.
    """
    floor = t.of("absorption", RIDGE, "hierarchy") + MARGIN
    return {
        method: np.maximum(
            t.fvu(method, "hierarchy") / t.fvu(HYBRID, "hierarchy"),
            (t.of("absorption", method, "hierarchy") + MARGIN) / floor,
        )
        for method in (*POOL, TOP_K)
    }


def best_of_pool(scores: Mapping[str, Values]) -> str:
    """The variant with the lowest mean score."""
    return min(POOL, key=lambda method: scores[method].mean())


def chosen_on_others(scores: Mapping[str, Values]) -> Values:
    """For each seed the score of the variant that is best on the other seeds: a choice that has not seen the seed."""
    chosen = []
    for seed in range(len(scores[TOP_K])):
        others = {method: np.delete(values, seed) for method, values in scores.items()}
        chosen.append(scores[best_of_pool(others)][seed])
    return np.array(chosen)
