"""The ledger is checked, and a verdict follows from the interval and the bounds alone."""

import copy
import json
import math

import numpy as np
import pytest
import yaml
from scipy import stats

from lib.reporting import claims
from lib.reporting.claims import ClaimError, Verdict, judge

LEDGER = {
    "sources": {"s": {"title": "T", "authors": "A", "year": 2024, "cite": "A 2024"}},
    "claims": [
        {
            "id": "high",
            "source": "s",
            "where": "p. 1",
            "statement": "It is high.",
            "study": "x",
            "rule": {"statistic": "m", "unit": "seed", "control": "c", "supported_within": [0.5, math.inf]},
        },
        {
            "id": "between",
            "source": "s",
            "where": "p. 2",
            "statement": "It is between.",
            "study": "x",
            "rule": {"statistic": "m", "unit": "seed", "control": "c", "supported_within": [0, 1]},
        },
        {
            "id": "later",
            "source": "s",
            "where": "p. 3",
            "statement": "?",
            "study": None,
            "why_not": "no data",
        },
    ],
}


def write(path, ledger):
    path.write_text(yaml.safe_dump(ledger, sort_keys=False))
    return path


@pytest.fixture
def ledger(tmp_path):
    return claims.load(write(tmp_path / "claims.yaml", LEDGER))


def test_load(ledger):
    assert list(ledger) == ["high", "between", "later"]
    assert ledger["high"].rule.low == 0.5 and ledger["high"].rule.high == math.inf
    assert ledger["high"].rule.bounds == "≥ 0.5" and ledger["between"].rule.bounds == "0 to 1"
    assert ledger["later"].rule is None and ledger["later"].source.year == 2024
    with pytest.raises(AttributeError):
        ledger["high"].where = "elsewhere"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: c[1].update(id="high"), "claim high: the id occurs twice"),
        (lambda c: c[0].pop("rule"), "claim high: missing rule"),
        (lambda c: c[0]["rule"].pop("control"), "claim high: rule: missing control"),
        (lambda c: c[0]["rule"].update(supported_within=[1, 1]), "low below high"),
        (lambda c: c[0]["rule"].update(supported_within=[2, 1]), "low below high"),
        (lambda c: c[0]["rule"].update(supported_within=["0", 1]), "low below high"),
        (lambda c: c[0]["rule"].update(supported_within=[-math.inf, math.inf]), "no finite bound"),
        (lambda c: c[0].update(source="t"), "claim high: unknown source 't'"),
        (lambda c: c[0].update(extra=1), "claim high: unknown key 'extra'"),
        (lambda c: c[0].update(statement=""), "claim high: statement must be text"),
        (lambda c: c[2].pop("why_not"), "claim later: why_not"),
        (lambda c: c[0].update(why_not="lazy"), "claim high: why_not"),
        (lambda c: c.append("text"), "must be a mapping"),
    ],
)
def test_a_ledger_that_is_wrong_says_where(tmp_path, spoil, message):
    spoilt = copy.deepcopy(LEDGER)
    spoil(spoilt["claims"])
    with pytest.raises(ClaimError, match=message):
        claims.load(write(tmp_path / "claims.yaml", spoilt))


def test_interval_is_students(ledger):
    x = np.array([0.7, 0.9, 0.8, 1.1])
    verdict = judge(ledger["high"], x)
    expected = stats.ttest_1samp(x, 0.5)
    low, high = expected.confidence_interval(0.95)
    assert (verdict.low, verdict.high) == pytest.approx((low, high))
    assert verdict.p == pytest.approx(expected.pvalue)
    assert verdict.effect == pytest.approx((x.mean() - 0.5) / x.std(ddof=1))
    assert verdict.n == 4 and verdict.bound == 0.5 and verdict.status == "supported"


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([0.8, 0.9, 0.85], "supported"),
        ([0.1, 0.2, 0.15], "contradicted"),
        ([0.3, 0.8, 0.6], "inconclusive"),  # the mean is within, the interval is not
        ([0.2, 0.6, 0.4], "inconclusive"),  # and the other way round
        ([0.9], "inconclusive"),
        ([0.5, 0.5, 0.5], "supported"),  # no spread: the interval is the point, and bounds count as inside
        ([0.4, 0.4], "contradicted"),
    ],
)
def test_status(ledger, values, status):
    assert judge(ledger["high"], values).status == status


def test_contradicted_from_above_and_the_nearest_bound(ledger):
    verdict = judge(ledger["between"], [1.5, 1.6, 1.55])
    assert verdict.status == "contradicted" and verdict.bound == 1
    assert judge(ledger["between"], [0.2, 0.3, 0.25]).bound == 0


def test_an_interval_wider_than_the_bounds_is_inconclusive(ledger):
    assert judge(ledger["between"], [-3, 4, 0.5]).status == "inconclusive"


def test_one_unit_has_no_interval_and_no_spread_has_no_test(ledger):
    one = judge(ledger["high"], [0.9])
    assert one.low is None and one.p is None and one.n == 1
    same = judge(ledger["high"], [0.7, 0.7, 0.7])
    assert (same.low, same.high, same.p, same.effect) == (0.7, 0.7, None, None)


def test_control_is_reported_not_judged(ledger):
    alone = judge(ledger["high"], [0.8, 0.9, 0.85])
    beside = judge(ledger["high"], [0.8, 0.9, 0.85], control=[0.1, 0.2])
    assert beside.status == alone.status and beside.p == alone.p
    assert beside.control_mean == pytest.approx(0.15) and beside.control_low < 0.15 < beside.control_high


@pytest.mark.parametrize("values", [[0.1, math.nan], [math.inf, 1], [], [[1, 2], [3, 4]]])
def test_values_that_can_not_be_judged(ledger, values):
    with pytest.raises(ClaimError, match="claim high: values"):
        judge(ledger["high"], values)
    with pytest.raises(ClaimError, match="claim high: control"):
        judge(ledger["high"], [1, 2], control=values)


def test_an_untested_claim_can_not_be_judged(ledger):
    with pytest.raises(ClaimError, match="no decision rule"):
        judge(ledger["later"], [1, 2])


def test_a_verdict_survives_json(ledger):
    verdict = judge(ledger["high"], [0.8, 0.9, 0.85], control=[0.1, 0.2], note="so")
    assert Verdict(**json.loads(json.dumps(verdict.to_dict()))) == verdict


def judged(path, evidence, not_tested=None):
    return claims.judge_all("x", evidence, not_tested, path=path)


def test_all_claims_of_a_study_are_judged_in_the_order_of_the_ledger(tmp_path):
    path = write(tmp_path / "claims.yaml", LEDGER)
    evidence = {"between": ([-3, 4, 0.5], None, "wide"), "high": ([0.8, 0.9, 0.85], [0.1, 0.2])}
    found = judged(path, evidence)
    assert list(found) == ["high", "between"]
    assert [v.status for v in found.values()] == ["supported", "inconclusive"]
    assert found["between"].note == "wide" and found["between"].control_mean is None
    assert found["high"].control_mean == pytest.approx(0.15), "values and control are not swapped"
    known = claims.load(path)
    assert found["high"] == judge(known["high"], [0.8, 0.9, 0.85], control=[0.1, 0.2])


def test_a_claim_that_a_run_can_not_test_says_why(tmp_path):
    path = write(tmp_path / "claims.yaml", LEDGER)
    found = judged(path, {"high": ([0.8, 0.9, 0.85], None)}, {"between": "no time"})
    assert found["between"].status == "not tested" and found["between"].note == "no time"
    assert claims.tally(found) == {"supported": 1, "contradicted": 0, "inconclusive": 0, "not tested": 1}
    assert claims.counts(claims.tally(found)) == "1 supported, 1 not tested"


@pytest.mark.parametrize(
    ("evidence", "not_tested", "said"),
    [
        ({"high": ([1, 2], None)}, {}, "claims of x without evidence: between"),
        ({"high": ([1, 2], None), "later": ([1], None)}, {"between": "x"}, "not a claim of x: later"),
        ({"high": ([1, 2], None)}, {"between": "x", "nobodys": "y"}, "not a claim of x: nobodys"),
        ({"high": ([1, 2], None)}, {"high": "x", "between": "y"}, "count as not tested: high"),
    ],
)
def test_evidence_must_be_that_of_the_study(tmp_path, evidence, not_tested, said):
    path = write(tmp_path / "claims.yaml", LEDGER)
    with pytest.raises(ClaimError, match=said):
        judged(path, evidence, not_tested)


def test_a_tally_may_be_of_one_source(tmp_path):
    more = copy.deepcopy(LEDGER)
    more["sources"]["other"] = more["sources"]["s"] | {"title": "Another"}
    more["claims"][1]["source"] = "other"
    path = write(tmp_path / "claims.yaml", more)
    found = judged(path, {"high": ([0.8, 0.9, 0.85], None), "between": ([5, 6, 5.5], None)})
    assert claims.tally(found, "other", path=path)["contradicted"] == 1
    assert claims.tally(found, "other", path=path)["supported"] == 0
    assert sum(claims.tally(found, path=path).values()) == 2


def test_coverage_of_the_interval(ledger):
    """95 of 100 intervals hold the true mean: the verdicts are worth what they claim."""
    rng = np.random.default_rng(0)
    verdicts = [judge(ledger["between"], rng.normal(0.3, 1, 6)) for _ in range(2000)]
    assert np.mean([v.low <= 0.3 <= v.high for v in verdicts]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize(
    ("numbers", "shown"),
    [
        ((0.51234, 0.43, 0.59), "0.51 [0.43, 0.59]"),
        ((0.51234, 0.5122, 0.5125), "0.51234 [0.51220, 0.51250]"),
        ((123.4, 100, 150), "123 [100, 150]"),
        ((0.9, None, None), "0.9"),
        ((1.0, 1.0, 1.0), "1.000 [1.000, 1.000]"),
    ],
)
def test_an_estimate_shows_the_digits_its_interval_bears(numbers, shown):
    assert claims.estimate(*numbers) == shown
