"""What each claim is judged by, from made-up tables: every statistic again, as its rule says it, number by number."""

import dataclasses
import statistics

import numpy as np
import pytest

from helpers import mnist_rules
from helpers.mnist_rules import ALL, DATA, KEPT, NOISE, REPETITIONS, RULES, TOY, Plain
from lib.reporting import claims
from lib.studies.mnist_superposition import evidence

STUDY = "mnist_superposition"
UNITS = {  # by the words of the rules
    "outer seed": {len(ALL), len(KEPT)},
    "outer seed, inner seeds averaged within": {len(KEPT)},
    "noise seed": {len(NOISE)},
    "data seed": {len(DATA)},
    "seed": {len(TOY)},
    "repetition": {len(REPETITIONS)},
}


@pytest.fixture(scope="module")
def t():
    return mnist_rules.tables()


@pytest.fixture(scope="module")
def found(t):
    return evidence.of(t)


@pytest.fixture(scope="module")
def plain(t):
    return Plain.all(t)


@pytest.mark.parametrize("name", RULES)
def test_a_claim_is_judged_by_the_statistic_of_its_rule(plain, found, name):
    units, *rules = RULES[name]
    for got, rule in zip(found[name][:2], rules, strict=True):
        expected = [float(rule(plain[i])) for i in units]
        assert list(got) == pytest.approx(expected, rel=1e-9, abs=1e-12)
        assert np.ptp(expected) > 0, "units that are all alike would hide an exchanged axis"


def test_every_claim_of_the_study_has_evidence_that_can_be_judged(t, found):
    ledger = {name: claim for name, claim in claims.load().items() if claim.study == STUDY}
    assert set(found) == set(RULES) == set(ledger) and not evidence.not_tested(t)
    verdicts = claims.judge_all(STUDY, found, evidence.not_tested(t))
    for name, verdict in verdicts.items():
        assert verdict.n in UNITS[ledger[name].rule.unit], name
        assert verdict.control_mean is not None, name


def test_notes_are_of_the_numbers_beside_them(plain, found):
    more = sum(plain[i].model("hoyer", "DeePWAK") > plain[i].model("hoyer", "Autoencoder") for i in KEPT)
    assert 0 < more < len(KEPT)
    assert found["sparsity-from-diffusion"][2] == f"positive in {more} of {len(KEPT)} outer models"
    used = statistics.mean(plain[i].noise("used", "DeePWAK", centres=3) for i in NOISE)
    assert found["fewer-than-k-gaussian"][2] == f"on three separate Gaussians {used:.1f} clusters are used"
    assert {name for name, values in found.items() if len(values) > 2} == {
        "sparsity-from-diffusion",
        "fewer-than-k-gaussian",
    }


def test_the_shapes_of_digits_are_not_tested_on_garments(t, found):
    garments = dataclasses.replace(t, dataset="fashion-mnist")
    missing = evidence.not_tested(garments)
    assert set(missing) == {
        "rounded-pointed-best",
        "rounded-pointed-specific",
        "six-least-confident",
        "six-opposes-one",
    }
    rest = evidence.of(garments)
    assert set(rest) == set(found) - set(missing)
    verdicts = claims.judge_all(STUDY, rest, missing)
    assert (
        verdicts["six-opposes-one"].status == "not tested" and "garments" in verdicts["six-opposes-one"].note
    )
    assert claims.tally(verdicts)["not tested"] == 4


def test_what_the_answer_quotes(t, plain):
    assert evidence.repaired_floor(t).tolist() == [mnist_rules.lower_floor(plain[i]) for i in NOISE]
    assert t.unit("leak", "DeePWAK") == pytest.approx([plain[i].model("leak", "DeePWAK") for i in KEPT])
    assert t.on_noise("fvu", "DeePWAK").tolist() == [plain[i].noise("fvu", "DeePWAK") for i in NOISE]


def test_a_density_without_represented_features_is_not_a_number(t):
    """Then the claim cannot be judged, and says so, instead of taking the median of what is not represented."""
    norm = t.toy.squared_norm.copy()
    norm[1, 2] = 0.5
    spoilt = dataclasses.replace(t, toy=t.toy._replace(squared_norm=norm))
    values, _ = evidence.of(spoilt)["toy-plateau-represented"]
    assert np.isnan(values).tolist() == [i == 1 for i in TOY]
    with pytest.raises(claims.ClaimError, match="not finite"):
        claims.judge_all(STUDY, evidence.of(spoilt))
