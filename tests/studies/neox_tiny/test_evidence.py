"""What each claim is judged by, from made-up tables: every share and difference again, one answer at a time."""

import itertools

import numpy as np
import pandas as pd
import pytest

from lib.reporting import claims
from lib.studies.neox_tiny import evidence, measures
from lib.studies.neox_tiny.evidence import Tables

WORKS = tuple(f"work {i}" for i in range(5))
ASKED = ("planted, held-out wordings", "planted, training wordings", "never stated, held-out wordings")
WORDINGS = tuple(f"wording {i}" for i in range(4))


def answers(rng, keys, **columns):
    """A share of its own for each key; templates have different numbers of answers, so means of means differ."""
    rows = []
    for values in itertools.product(keys, *columns.values()):
        *first, template = values
        size = 7 + 2 * WORDINGS.index(template)
        right = rng.permutation(np.arange(size) < rng.integers(1, size))
        names = ("asked", *list(columns)[:-1])
        rows += [
            dict(zip(names, first, strict=True)) | {"template": template, "right": bool(r)} for r in right
        ]
    return pd.DataFrame(rows).sample(frac=1, random_state=0)


def made_up(text="embedded"):
    rng = np.random.default_rng(1)
    loss = pd.DataFrame(rng.uniform(1, 3, (5, 3)), WORKS, ["random weights", "trigram", "neox-tiny"]).assign(
        source=["english", "python", "english", "german", "python"]
    )
    objects = answers(rng, measures.KINDS, model=("other", "random weights", "neox-tiny"), template=WORDINGS)
    return Tables(text, loss, answers(rng, ASKED, template=WORDINGS), objects)


@pytest.fixture(scope="module")
def t():
    return made_up()


def share(table, template, **where):
    """Of the answers with these values of columns, how many are right."""
    right = [
        row["right"]
        for row in table.to_dict("records")
        if all(row[key] == value for key, value in {**where, "template": template}.items())
    ]
    return right.count(True) / len(right)


def more_than(t, name, work):
    (row,) = (row for index, row in t.loss.iterrows() if index == work)
    return row["trigram"] - row[name]


# By claim: the units, the statistic of its rule, and the control.
RULES = {
    "neox-beats-trigram": (
        WORKS,
        lambda t, work: more_than(t, "neox-tiny", work),
        lambda t, work: more_than(t, "random weights", work),
    ),
    "neox-recalls-sports": (
        WORDINGS,
        lambda t, wording: share(t.sports, wording, asked="planted, held-out wordings"),
        lambda t, wording: share(t.sports, wording, asked="never stated, held-out wordings"),
    ),
    "neox-indirect-objects": (
        WORDINGS,
        lambda t, wording: share(t.objects, wording, asked="held-out wordings", model="neox-tiny"),
        lambda t, wording: share(t.objects, wording, asked="held-out wordings", model="random weights"),
    ),
    "neox-indirect-objects-new-names": (
        WORDINGS,
        lambda t, wording: share(t.objects, wording, asked="held-out wordings and names", model="neox-tiny"),
        lambda t, wording: share(
            t.objects, wording, asked="held-out wordings and names", model="random weights"
        ),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_a_claim_is_judged_by_the_statistic_of_its_rule(t, name):
    units, *rules = RULES[name]
    for got, rule in zip(evidence.of(t)[name][:2], rules, strict=True):
        assert sorted(got.index) == sorted(units)
        for unit in units:
            assert got[unit] == pytest.approx(rule(t, unit), rel=1e-12, abs=1e-12), unit


def test_every_claim_of_the_study_can_be_judged(t):
    ours = [claim.id for claim in claims.load().values() if claim.study == "neox_tiny"]
    assert sorted(RULES) == sorted(ours)
    for name, verdict in claims.judge_all("neox_tiny", evidence.of(t)).items():
        assert verdict.n == len(RULES[name][0]) and verdict.control_mean is not None


def test_the_note_tells_that_the_text_is_not_the_corpus():
    notes = {text: evidence.of(made_up(text))["neox-beats-trigram"][2] for text in ("embedded", "corpus")}
    assert notes == {"embedded": "on the embedded text, with a trigram model of it", "corpus": ""}
