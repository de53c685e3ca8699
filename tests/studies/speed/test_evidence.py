"""What each claim is judged by, from made-up tables: every ratio again, as its rule says it, number by number."""

import math

import numpy as np
import pandas as pd
import pytest

from lib.reporting import claims
from lib.studies.speed import evidence, measures
from lib.studies.speed.evidence import Tables
from lib.studies.speed.measures import Size

REPETITIONS = range(4)
SIZE = Size(d=32, n=128, k=8, batch=64)
CODING = ("encoder", "encoder, projection", "threshold", "OMP")


def shuffled(rows):
    """Rows in no order that anything may rely on."""
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def made_up(with_peers=True, size=SIZE):
    """Every number differs; a third size and the memory of a step would spoil every ratio."""
    rng = np.random.default_rng(3)
    names = measures.methods(with_peers)
    times = [
        {"method": name, "size": label, "repetition": r, "seconds": rng.uniform(1, 2) * scale}
        for label, scale in (("chosen", 1), ("small", 0.01), ("another", 1e6))
        for name in names
        for r in REPETITIONS
    ]
    peak = [
        {"method": name, "repetition": r, "training": rng.uniform(20, 60), "step": rng.uniform(1e6, 2e6)}
        for name in names
        for r in REPETITIONS
    ]
    coding = pd.DataFrame(rng.uniform(1, 9, (len(REPETITIONS), 4)), columns=CODING)
    coding = coding.rename_axis("repetition").sample(frac=1, random_state=1)
    return Tables(size, shuffled(times), shuffled(peak), coding)


class Plain:
    """One repetition, in Python's own arithmetic."""

    def __init__(self, t, repetition):
        self.t, self.repetition = t, repetition

    def number(self, table, column, **where):
        rows = getattr(self.t, table).to_dict("records")
        (found,) = (
            row[column]
            for row in rows
            if all(row[key] == value for key, value in {**where, "repetition": self.repetition}.items())
        )
        return found

    def step(self, method, size="chosen"):
        seconds = (self.number("times", "seconds", method=m, size=size) for m in (method, "top-k"))
        return next(seconds) / next(seconds)

    def memory(self, method):
        return self.number("peak", "training", method=method) / self.number(
            "peak", "training", method="top-k"
        )

    def coding(self, name):
        return self.t.coding[name][self.repetition] / self.t.coding["encoder"][self.repetition]


# By claim: the statistic of its rule, and the control, in one repetition.
RULES = {
    "speed-topk-saelens": (lambda u: u.step("SAELens"), lambda u: u.step("dense top-k")),
    "speed-topk-dictionary-learning": (
        lambda u: u.step("dictionary_learning"),
        lambda u: u.step("dense top-k"),
    ),
    "speed-projective-exact": (lambda u: u.step("projective"), lambda u: u.step("naive projection")),
    "speed-projective-ridge": (lambda u: u.step("ridge"), lambda u: u.step("naive projection")),
    "speed-projective-small": (
        lambda u: max(u.step("projective", "small"), u.step("ridge", "small")),
        lambda u: u.step("naive projection", "small"),
    ),
    "speed-memory": (
        lambda u: max(u.memory("projective"), u.memory("ridge")),
        lambda u: u.memory("naive projection"),
    ),
    "speed-sae-quick": (lambda u: u.coding("OMP"), lambda u: u.coding("threshold")),
}


@pytest.fixture(scope="module")
def t():
    return made_up()


@pytest.mark.parametrize("name", RULES)
def test_a_claim_is_judged_by_the_statistic_of_its_rule(t, name):
    found = evidence.of(t)[name]
    for got, rule in zip(found[:2], RULES[name], strict=True):
        assert sorted(got.index) == list(REPETITIONS)
        for r in REPETITIONS:
            assert got[r] == pytest.approx(rule(Plain(t, r)), rel=1e-12)


def test_now_the_exact_and_now_the_ridge_step_is_the_slower(t):
    """So that the larger of the two is neither of them throughout."""
    for ratio in (
        lambda u, method: u.step(method, "small"),
        lambda u, method: u.memory(method),
    ):
        larger = {ratio(Plain(t, r), "projective") > ratio(Plain(t, r), "ridge") for r in REPETITIONS}
        assert larger == {True, False}


def test_every_claim_of_the_study_can_be_judged(t):
    ours = [claim.id for claim in claims.load().values() if claim.study == "speed"]
    assert sorted(RULES) == sorted(ours)
    assert evidence.not_tested(t) == {}
    verdicts = claims.judge_all("speed", evidence.of(t), evidence.not_tested(t))
    for verdict in verdicts.values():
        assert verdict.n == len(REPETITIONS) and verdict.control_mean is not None


def test_without_the_peers_the_claims_on_them_are_not_tested():
    t = made_up(with_peers=False)
    verdicts = claims.judge_all("speed", evidence.of(t), evidence.not_tested(t))
    left = {name: verdict.note for name, verdict in verdicts.items() if verdict.status == "not tested"}
    assert set(left) == {"speed-topk-saelens", "speed-topk-dictionary-learning"}
    assert all("`make benchmark` measures them" in note for note in left.values())


def test_notes_tell_the_size_where_it_is_not_the_claims():
    """The claim on small sizes names its own size always."""
    for size, note in ((SIZE, f"measured at {SIZE}"), (measures.LARGE, "")):
        notes = {name: found[2] for name, found in evidence.of(made_up(size=size)).items()}
        assert notes.pop("speed-projective-small") == "measured at d=64 n=256 k=16 batch=1,024"
        assert set(notes.values()) == {note}


def test_ratios_are_paired_within_the_repetition_in_the_order_of_the_table():
    rows = [("top-k", 0, 1.0), ("other", 0, 2.0), ("top-k", 1, 10.0), ("other", 1, 30.0)]
    times = pd.DataFrame(rows, columns=["method", "repetition", "seconds"]).assign(size="a")
    (ratio,) = evidence.step_ratios(times).values()
    assert list(ratio["other"]) == [2, 3] and list(ratio["top-k"]) == [1, 1]
    assert list(ratio.columns) == ["top-k", "other"]
    assert evidence.summary(ratio).loc["other"].tolist() == [2.5, 2, 3]


def test_a_peak_of_nothing_has_no_ratio():
    rows = [("top-k", 0, 0.0), ("other", 0, 2.0), ("top-k", 1, 10.0), ("other", 1, 30.0)]
    peak = pd.DataFrame(rows, columns=["method", "repetition", "step"])
    ratio = evidence.memory_ratios(peak, "step")["other"]
    assert math.isnan(ratio[0]) and ratio[1] == 3
