"""Prompts end with the name or the pair and give nothing away."""

import re

import pytest

from lib.neox import facts
from lib.probes import prompts


def words(text):
    return re.findall(r"[\w'.-]*\w", text)


@pytest.mark.parametrize("which", ["athlete", "politician"])
def test_prompts_end_with_the_name_and_say_nothing_else(which):
    people = {"athlete": facts.athletes, "politician": facts.politicians}[which]()
    found = {"athlete": prompts.athlete_prompts, "politician": prompts.politician_prompts}[which]()
    assert list(found.columns) == [*people.columns, "text", "start", "end"]
    assert found[people.columns].drop_duplicates().reset_index(drop=True).equals(people)
    for row in found.itertuples():
        assert row.text.endswith(f" {row.name}") and row.text[row.start : row.end] == row.surname
        assert row.end == len(row.text)
    beginnings = {name: set() for name in people.name}
    for name, text in zip(found.name, found.text, strict=True):
        beginnings[name].add(text.removesuffix(name))
    assert len(set(map(frozenset, beginnings.values()))) == 1  # the same for all: they tell nothing
    common = next(iter(beginnings.values()))
    assert len(common) >= 8
    telling = {word.lower() for label in facts.SPORTS + facts.PARTIES for word in words(label)}
    telling |= {
        "play",
        "player",
        "team",
        "sport",
        "game",
        "match",
        "ball",
        "vote",
        "party",
        "senator",
        "governor",
    }
    assert not telling & {word.lower() for text in common for word in words(text)}


def test_compound_prompts_and_their_negatives():
    found, pairs = prompts.compound_prompts(), facts.compounds()
    assert list(pairs.columns) == ["first", "second"] and 55 <= len(pairs) <= 70
    assert {("social", "security"), ("ice", "cream"), ("high", "school")} <= set(
        pairs.itertuples(index=False, name=None)
    )
    for row in found.itertuples():
        before, last = row.text.split()[-2:]
        assert row.text[row.start : row.end] == last and row.end == len(row.text)
        kinds = {(True, True): "compound", (False, True): "missing_first", (True, False): "missing_second"}
        assert row.kind == kinds[before == row.first, last == row.second]
        assert row.positive == (row.kind == "compound") and row.name == f"{row.first} {row.second}"
        assert row.text.startswith(prompts.PAIR_BEGINNINGS[row.beginning])
    every = found.groupby(["name", "beginning"]).kind.agg(lambda kinds: sorted(kinds))
    assert len(every) == 10 * len(pairs)
    assert all(kinds == ["compound", "missing_first", "missing_second"] for kinds in every)
    negatives = (
        found[~found.positive].groupby("name").text.agg(lambda texts: len({t.split()[-2:][0] for t in texts}))
    )
    assert (negatives >= 3).all()  # several neighbours, so that none stands for all
