"""From the tables of the speed study to what each of its claims is judged by: one ratio per repetition.

Every ratio is of two numbers of one repetition: a method's over that of our top-k, or over the encoder's for coding.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.studies.speed.measures import LARGE, PEERS, SMALL, Size

Evidence = dict[str, tuple[pd.Series, pd.Series, str]]  # by claim: values, the same of the control, a note

PROJECTIVE = ["projective", "ridge"]
OF_PEERS = {"speed-topk-saelens": "SAELens", "speed-topk-dictionary-learning": "dictionary_learning"}


@dataclass(frozen=True)
class Tables:
    """What the notebook measured.

    size    the chosen one; steps at `measures.SMALL` are measured too
    times   `measures.steps` at the sizes labelled chosen and small: method, size, repetition, seconds
    peak    `memory.peak` at the chosen size: method, repetition, training and step in MB
    coding  `measures.omp_coding` at the chosen size: a row per repetition; seconds of encoder, threshold, OMP ...
    """

    size: Size
    times: pd.DataFrame
    peak: pd.DataFrame
    coding: pd.DataFrame

    @property
    def with_peers(self) -> bool:
        """Whether the peers were measured."""
        return set(PEERS) <= set(self.times["method"])


def of(t: Tables) -> Evidence:
    """What each claim is judged by; those on the peers only where these were measured (`not_tested`)."""
    step, training = step_ratios(t.times), memory_ratios(t.peak, "training")
    at, small, coding = step["chosen"], step["small"], coding_ratios(t.coding)
    note = "" if t.size == LARGE else f"measured at {t.size}"
    evidence = {
        "speed-projective-exact": (at["projective"], at["naive projection"], note),
        "speed-projective-ridge": (at["ridge"], at["naive projection"], note),
        "speed-projective-small": (
            small[PROJECTIVE].max(axis=1),
            small["naive projection"],
            f"measured at {SMALL}",
        ),
        "speed-memory": (training[PROJECTIVE].max(axis=1), training["naive projection"], note),
        "speed-sae-quick": (coding["OMP"], coding["threshold"], note),
    }
    if t.with_peers:
        evidence |= {claim: (at[peer], at["dense top-k"], note) for claim, peer in OF_PEERS.items()}
    return evidence


def not_tested(t: Tables) -> dict[str, str]:
    """By claim, why this run cannot test it: those on the peers where they were not measured."""
    why = "the peers were not measured (peers=False); `make benchmark` measures them"
    return {} if t.with_peers else dict.fromkeys(OF_PEERS, why)


def step_ratios(times: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """By size, CPU time of each method's training step over our top-k's: a row per repetition, a column per method."""
    return {size: _over_top_k(part, "seconds") for size, part in times.groupby("size")}


def memory_ratios(peak: pd.DataFrame, column: str) -> pd.DataFrame:
    """`training` or `step` of each method over our top-k's: a row per repetition, a column per method.

    A peak of 0 (less than a page) has no ratio: NaN.
    """
    return _over_top_k(peak.replace({column: {0.0: np.nan}}), column)


def coding_ratios(coding: pd.DataFrame) -> pd.DataFrame:
    """CPU time of coding a batch over the encoder's: a row per repetition, a column per way of coding."""
    return coding.div(coding["encoder"], axis=0)


def summary(ratio: pd.DataFrame) -> pd.DataFrame:
    """A row per method: median, least and largest ratio over the repetitions."""
    return pd.DataFrame({"ratio": ratio.median(), "least": ratio.min(), "largest": ratio.max()})


def _over_top_k(table: pd.DataFrame, column: str) -> pd.DataFrame:
    """Each method's `column` over that of top-k in the same repetition, methods in the order of the table."""
    wide = table.pivot(index="repetition", columns="method", values=column)
    return wide.div(wide["top-k"], axis=0)[list(dict.fromkeys(table["method"]))]
