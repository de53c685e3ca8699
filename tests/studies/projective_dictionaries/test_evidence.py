"""What each claim is judged by, from made-up tables: every statistic again, as its rule says it, number by number."""

import numpy as np
import pandas as pd
import pytest

from helpers.projective_rules import RULES, SEEDS, VARIANTS, by_seed
from helpers.projective_tables import made_up
from lib.reporting import claims
from lib.studies.projective_dictionaries import evidence
from lib.studies.projective_dictionaries.tables import Tables, per_seed


@pytest.fixture(scope="module")
def t():
    return made_up()


@pytest.fixture(scope="module")
def found(t):
    return evidence.of(t)


@pytest.fixture(scope="module")
def plain(t):
    return by_seed(t)


@pytest.mark.parametrize("name", RULES)
def test_a_claim_is_judged_by_the_statistic_of_its_rule(found, plain, name):
    for got, rule in zip(found[name][:2], RULES[name], strict=True):
        np.testing.assert_allclose(got, [rule(u) for u in plain], rtol=1e-9, atol=1e-12)


def test_every_claim_of_the_study_has_evidence_that_can_be_judged(found):
    ours = {name for name, claim in claims.load().items() if claim.study == "projective_dictionaries"}
    assert set(found) == set(RULES) == ours
    tested, not_tested = evidence.judged(found)
    verdicts = claims.judge_all("projective_dictionaries", tested, not_tested)
    assert set(verdicts) == ours and not not_tested
    assert {verdict.n for verdict in verdicts.values()} == {len(SEEDS)}
    for name, verdict in verdicts.items():
        assert verdict.mean == pytest.approx(np.mean(found[name][0])), name
        assert verdict.control_mean == pytest.approx(np.mean(found[name][1])), name


def test_values_and_controls_are_of_unlike_things(found):
    """Made-up numbers are all different, so that no two entries may be the same by mistake."""
    means = [round(float(np.mean(part)), 12) for entry in found.values() for part in entry[:2]]
    # Twice over: the gain of a refit, absorption by tied weights, and the latents that ridge uses.
    assert len(means) - len(set(means)) == 3


@pytest.mark.parametrize("seed", range(3))
def test_the_best_variant_is_chosen_on_the_other_seeds(seed):
    t = made_up(seed)
    plain = by_seed(t)
    choices = [u.chosen_on_others() for u in plain]
    assert len(set(choices)) > 1, "the choice must depend on the seed that is left out"
    values, control, note = evidence.of(t)["best-of-both"]
    np.testing.assert_allclose(values, [u.both(choice) for u, choice in zip(plain, choices, strict=True)])
    np.testing.assert_allclose(control, [u.both("top-k") for u in plain])
    best = min(VARIANTS, key=lambda method: sum(u.both(method) for u in plain))
    assert note == f"best over all seeds: {best}"


def test_a_variant_is_held_to_the_worse_of_both(t, plain):
    scores = evidence.scores_of_both(t)
    assert set(scores) == {*VARIANTS, "top-k"}
    for method, values in scores.items():
        np.testing.assert_allclose(values, [u.both(method) for u in plain])


def test_seeds_in_which_a_statistic_is_not_defined_are_left_out_and_said():
    nan = np.nan
    found = {
        "whole": (np.array([1.0, 2, 3]), np.array([4.0, 5, 6])),
        "part": (np.array([1.0, nan, 3]), np.array([nan, 5.0, 6]), "a note"),
        "none": (np.array([nan, nan, nan]), np.array([1.0, 2, 3])),
        "control": (np.array([1.0, 2, nan]), np.array([nan, nan, nan])),
    }
    tested, not_tested = evidence.judged(found)
    assert not_tested == {"none": "not defined in any seed at this length of training"}
    assert list(tested) == ["whole", "part", "control"]
    values, control, note = tested["whole"]
    assert (values.tolist(), control.tolist(), note) == ([1, 2, 3], [4, 5, 6], "")
    values, control, note = tested["part"]
    assert (values.tolist(), control.tolist()) == ([1, 3], [5, 6])
    assert note == "a note; defined in 2 of 3 seeds"
    assert tested["control"][0].tolist() == [1, 2] and tested["control"][1:] == (
        None,
        "defined in 2 of 3 seeds",
    )


def test_absorption_that_no_seed_defines_is_not_tested(t):
    """As after short training, where no child has a latent: the claims on absorption, and no others."""
    without = made_up()
    without.dictionaries["absorption"] = np.nan
    tested, not_tested = evidence.judged(evidence.of(without))
    assert set(not_tested) == {
        "tying-lowers-absorption",
        "projection-lowers-absorption",
        "projection-no-less-absorption",
        "penalty-lowers-absorption",
        "hybrid-doubles-absorption",
        "best-of-both",
    }
    verdicts = claims.judge_all("projective_dictionaries", tested, not_tested)
    assert claims.tally(verdicts)["not tested"] == 6


def test_one_value_per_seed_in_their_order():
    rows = [(2, "a", 30.0), (0, "a", 10.0), (1, "a", 20.0), (0, "b", 99.0)]
    table = pd.DataFrame(rows, columns=["seed", "method", "fvu"])
    assert per_seed(table, "fvu", method="a").tolist() == [10, 20, 30]
    with pytest.raises(KeyError, match="nothing was measured for method 'c'"):
        per_seed(table, "fvu", method="c")
    with pytest.raises(ValueError, match="more than one value per seed"):
        per_seed(table, "fvu")


def test_what_was_not_measured_is_missed(t):
    """A method or a seed that is missing is an error here and no mean over what is left."""
    fewer = Tables(**{**vars(t), "codes": t.codes[t.codes["method"] != "hybrid"]})
    with pytest.raises(KeyError, match="hybrid"):
        evidence.of(fewer)
    gone = (t.codes["method"] == "hybrid") & (t.codes["seed"] == 2)
    with pytest.raises(ValueError, match="shape"):
        evidence.of(Tables(**{**vars(t), "codes": t.codes[~gone]}))
