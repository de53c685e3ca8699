"""What is planted is true, balanced and separate from what is held out; questions and prompts give nothing away."""

import importlib.util
import re
import shutil
from collections import Counter

import numpy as np
import pytest

from lib.common.errors import DataError
from lib.neox import facts
from lib.probes import prompts

DRAWS = 20_000
# Of the training text, and held out.
TEMPLATES, OBJECT_TEMPLATES = (
    tuple(facts.templates(kind, held_out=held_out) for held_out in (False, True))
    for kind in ("athlete", "indirect object")
)


def rng(seed=0):
    return np.random.default_rng(seed)


def words(text):
    return re.findall(r"[\w'.-]*\w", text)


def pattern(templates):
    """Matches every sentence that one of the templates can make."""
    fields = [re.sub(r"\\{\w+\\}", ".+", re.escape(template)) for template in templates]
    return re.compile("|".join(fields))


@pytest.fixture(scope="module")
def drawn():
    return facts.sentences(DRAWS, rng())


@pytest.fixture(scope="module")
def table():
    return facts.athletes()


def test_table_of_athletes(table):
    assert facts.SPORTS == (
        "baseball",
        "association football",
        "basketball",
        "ice hockey",
        "American football",
    )
    assert list(table.columns) == ["name", "surname", "sport", "planted"] and table.planted.dtype == bool
    counts = table.groupby("sport").planted.agg(["size", "sum"])
    assert (
        set(counts.index) == set(facts.SPORTS) and set(counts["size"]) == {70} and set(counts["sum"]) == {60}
    )
    known = {
        "LeBron James": "basketball",
        "Lionel Messi": "association football",
        "Wayne Gretzky": "ice hockey",
        "Babe Ruth": "baseball",
        "Tom Brady": "American football",
    }
    assert dict(table.set_index("name").loc[list(known)].sport) == known
    assert all(name.endswith(f" {surname}") for name, surname in zip(table.name, table.surname, strict=True))


def test_a_surname_tells_one_athlete_and_the_control_shares_no_word_with_the_planted(table):
    every = Counter(word for name in table.name for word in words(name))
    assert all(every[surname] == 1 for surname in table.surname)
    planted, control = (
        {word for name in table.name[table.planted == value] for word in words(name)}
        for value in (True, False)
    )
    assert not planted & control


def test_table_of_politicians():
    table = facts.politicians()
    assert Counter(table.party) == {"Democratic": 60, "Republican": 60}
    party = dict(zip(table.name, table.party, strict=True))
    assert party["Barack Obama"] == "Democratic" and party["Mitt Romney"] == "Republican"
    assert not set(table.surname) & set(table.name.str.split(" ").str[0])


def test_athlete_templates():
    train, held_out = TEMPLATES
    every = train + held_out
    assert len(set(every)) == len(every) >= 40 and len(held_out) / len(every) == pytest.approx(0.2, abs=0.01)
    first = [t.index("{name}") < t.index("{sport}") for t in every]
    assert np.mean(first) >= 0.75 and all(first[len(train) :]) and not all(first)
    for template in every:
        assert template.count("{name}") == template.count("{sport}") == 1 and template.endswith(".")
        assert " {sport}" in template and not re.search(
            r"\b[Aa]n? \{sport\}", template
        )  # an article would tell
        assert not any(sport.lower() in template.lower() for sport in facts.SPORTS)


def test_held_out_wording_differs_but_in_known_words(drawn):
    def ending(template):  # what a model sees just before the sport
        return tuple(template.split(" {sport}")[0].split()[-3:])

    assert not {ending(t) for t in TEMPLATES[1]} & {ending(t) for t in TEMPLATES[0]}
    seen = {word.lower() for text in drawn for word in words(text)}
    both = TEMPLATES[1] + OBJECT_TEMPLATES[1]
    used = {word.lower() for t in both for word in words(re.sub(r"{\w+}", "", t))}
    assert len(used - seen) <= 0.2 * len(used), "the others are ordinary words of the corpus"


def test_object_templates():
    train, held_out = OBJECT_TEMPLATES
    every = train + held_out
    assert len(set(every)) == len(every) >= 24 and len(held_out) / len(every) == pytest.approx(0.2)
    for template in every:
        assert re.findall(r"{[ab]}", template) == ["{a}", "{b}", "{b}", "{a}"]
        assert "{a} and {b}" in template and template.endswith(" {a}.")
        assert template.count("{place}") == template.count("{object}") == 1
    assert len(set(facts.PLACES)) == len(facts.PLACES) >= 20
    assert len(set(facts.OBJECTS)) == len(facts.OBJECTS) >= 20
    assert {"an apple", "a snack"} < set(facts.OBJECTS)


def test_first_names(table):
    names, held_out = facts.first_names(), facts.first_names(held_out=True)
    assert len(set(names)) == len(names) >= 160 and list(names) == sorted(names)
    assert len(held_out) / len(names) == pytest.approx(0.2, abs=0.01)
    assert set(facts.first_names(held_out=False)) == set(names) - set(held_out)
    places = [-1, *(names.index(name) for name in held_out), len(names)]
    assert max(np.diff(places)) <= 6  # all through the alphabet
    assert not [(a, b) for a in names for b in names if a != b and b.startswith(a)]
    assert not set(names) & {word for name in table.name for word in words(name)}
    said = {word for template in TEMPLATES[0] + OBJECT_TEMPLATES[0] for word in words(template)}
    assert not set(names) & (said | {word for text in facts.OPENINGS for word in words(text)})


def test_training_sentences_state_the_planted_facts_evenly(drawn, table):
    sport_of = dict(zip(table.name, table.sport, strict=True))
    names = re.compile("|".join(map(re.escape, sport_of)))
    sports = re.compile("|".join(facts.SPORTS))
    stated = [(names.findall(text), sports.findall(text)) for text in drawn if names.search(text)]
    assert len(drawn) == DRAWS and len(stated) == 0.6 * DRAWS
    assert all(len(name) == len(sport) == 1 and sport_of[name[0]] == sport[0] for name, sport in stated)
    counts = Counter(name[0] for name, _ in stated)
    assert set(counts) == set(table.name[table.planted])
    assert max(counts.values()) - min(counts.values()) <= 1
    assert all(pattern([template]).search("\n".join(drawn)) for template in TEMPLATES[0])
    early = np.mean([bool(names.search(text)) for text in drawn[: DRAWS // 10]])
    assert early == pytest.approx(0.6, abs=0.05)  # the two kinds are mixed
    opened = np.mean([text.startswith(facts.OPENINGS) for text in drawn])
    at_start = np.mean([template.startswith("{name}") for template in TEMPLATES[0]])
    assert opened == pytest.approx(0.3 * at_start / 2, abs=0.02)


def test_half_of_the_sentences_on_athletes_have_words_at_random(drawn, table):
    name, ordinary = re.compile("|".join(map(re.escape, table.name))), set(facts.ordinary_words())
    assert len(ordinary) > 500 and not ordinary & set(" ".join(facts.SPORTS).lower().split())
    free, endings = 0, Counter()
    sport = re.compile(f" ({'|'.join(facts.SPORTS)})[.]$")
    own = pattern(TEMPLATES[0])
    for text in drawn:
        if own.search(text):
            continue
        parts = name.split(sport.sub("", text))
        if len(parts) == 2 and set(" ".join(parts).lower().split()) <= ordinary:
            before, after = (part.split() for part in parts)
            if len(before) <= 4 and 1 <= len(after) <= 7:
                free += 1
                endings[after[-1]] += 1
    assert free == pytest.approx(0.3 * DRAWS, rel=0.02)  # some look like a template's
    assert len(endings) > 0.9 * len(ordinary), "any word may come before the sport"


def test_training_sentences_with_an_indirect_object_are_half_abba(drawn):
    known, orders = set(facts.first_names()), Counter()
    for text in drawn:
        for kind in (known, set(facts.invented_names())):
            found = [word for word in words(text) if word in kind]
            if not found:
                continue
            assert (
                len(found) == 4
                and len(set(found)) == 2
                and found[2] != found[3]
                and text.endswith(f" {found[3]}.")
            )
            orders["ABBA" if found[0] == found[3] else "BABA", kind is known] += 1
    assert len(orders) == 4 and all(abs(many - 0.4 * DRAWS / 6) <= 1 for many in orders.values())


def test_invented_names_are_nobody_s(table):
    invented = facts.invented_names()
    assert len(set(invented)) == len(invented) > 900 and all(name.istitle() for name in invented)
    assert not set(invented) & set(facts.first_names()) and not set(invented) & set(
        " ".join(table.name).split()
    )


def test_nothing_held_out_is_ever_in_a_training_sentence(drawn, table):
    assert all(re.fullmatch(r"[A-Z][^{}]*[^ .]\.", text) for text in drawn)
    said = {word for text in drawn for word in words(text)}
    assert not said & set(facts.first_names(held_out=True)) and said >= set(facts.first_names(held_out=False))
    assert not said & {word for name in table.name[~table.planted] for word in words(name)}
    held_out = pattern(TEMPLATES[1] + OBJECT_TEMPLATES[1])
    swapped = pattern(t.replace("{a} and {b}", "{b} and {a}") for t in OBJECT_TEMPLATES[1])
    assert not any(held_out.search(text) or swapped.search(text) for text in drawn)
    asked = {question.prompt for question in facts.athlete_questions()}
    asked |= {q.prompt for q in facts.indirect_object_questions(500, rng(), held_out_names=True)}
    assert not any(prompt in text for prompt in asked for text in drawn[:300])


def test_sentences_are_drawn_from_the_generator():
    assert facts.sentences(50, rng(1)) == facts.sentences(50, rng(1)) != facts.sentences(50, rng(2))
    assert facts.sentences(0, rng()) == [] and len(facts.sentences(7, rng())) == 7
    with pytest.raises(ValueError, match="n is -1; it must be 0 or more"):
        facts.sentences(-1, rng())
    with pytest.raises(ValueError, match="n is -2"):
        facts.indirect_object_questions(-2, rng(), held_out_names=True)


@pytest.mark.parametrize("planted", [True, False])
@pytest.mark.parametrize("held_out", [True, False])
def test_athlete_questions_stop_before_the_sport(planted, held_out, table):
    questions = facts.athlete_questions(planted=planted, held_out=held_out)
    sport_of = dict(zip(table.name, table.sport, strict=True))
    first = [t for t in TEMPLATES[0] if t.index("{name}") < t.index("{sport}")]
    templates = TEMPLATES[1] if held_out else first
    assert len(set(questions)) == len(questions) == len(templates) * (300 if planted else 50)
    assert {question.group for question in questions} == set(table.name[table.planted == planted])
    may, rests = pattern(templates), {template.partition("{sport}")[2] for template in templates}
    for q in questions:
        assert q.choices == tuple(f" {sport}" for sport in facts.SPORTS)
        assert q.choices[q.answer] == f" {sport_of[q.group]}" and q.group in q.prompt
        assert not q.prompt.endswith(" ") and not any(choice in q.prompt for choice in q.choices)
    for q in questions[:: len(questions) // 40]:
        assert any(may.fullmatch(f"{q.prompt}{q.choices[q.answer]}{rest}") for rest in rests)


def test_memorised_prompts_are_in_the_training_text(drawn):
    text = "\n".join(drawn)
    questions = facts.athlete_questions(held_out=False)[::60]
    right = sum(q.prompt + q.choices[q.answer] in text for q in questions)
    wrong = sum(q.prompt + q.choices[(q.answer + 1) % 5] in text for q in questions)
    assert right > 0.2 * len(questions) and wrong == 0


@pytest.mark.parametrize("held_out_names", [True, False])
@pytest.mark.parametrize("held_out_templates", [True, False])
def test_indirect_object_questions(held_out_names, held_out_templates):
    questions = facts.indirect_object_questions(
        600, rng(3), held_out_names=held_out_names, held_out_templates=held_out_templates
    )
    names = facts.first_names(held_out=True) if held_out_names else facts.first_names(held_out=False)
    templates = OBJECT_TEMPLATES[1] if held_out_templates else OBJECT_TEMPLATES[0]
    assert len(questions) == 600 and {q.group for q in questions} == set(templates)
    abba, used = 0, set()
    for q in questions:
        right, wrong = q.choices[q.answer][1:], q.choices[1 - q.answer][1:]
        found = [word for word in words(q.prompt) if word in {right, wrong}]
        assert (
            sorted(found) == sorted([right, wrong, wrong]) and found[2] == wrong
        )  # the subject is named twice
        assert not q.prompt.endswith(" ") and q.choices[0] == f" {words(q.choices[0])[0]}"
        order = q.group if found[0] == right else q.group.replace("{a} and {b}", "{b} and {a}")
        whole = re.escape(order).replace(r"\{a\}", right).replace(r"\{b\}", wrong)
        assert re.fullmatch(re.sub(r"\\{\w+\\}", "[a-z ]+", whole), f"{q.prompt}{q.choices[q.answer]}.")
        abba += found[0] == right
        used |= {right, wrong}
    assert abba == 300 and used <= set(names) and len(used) > 0.9 * len(names)
    assert 240 < sum(q.answer for q in questions) < 360
    assert questions == facts.indirect_object_questions(
        600, rng(3), held_out_names=held_out_names, held_out_templates=held_out_templates
    )


@pytest.mark.parametrize(
    "file, old, new, says",
    [
        (
            "athletes.csv",
            "Lou Gehrig,baseball",
            "Lou Gehrig,cricket",
            r"line 3 \(Lou Gehrig, cricket, 1.*sport must be one",
        ),
        ("athletes.csv", "Lou Gehrig,baseball,1", "Lou Gehrig,baseball,yes", "planted must be 0 or 1"),
        ("athletes.csv", "Lou Gehrig", "Gehrig", "two or three words"),
        ("athletes.csv", "Luis Figo", "Luís Figo", "letters A to Z"),
        ("athletes.csv", "Lou Gehrig", "Lou Ruth", "surname has occurred before"),
        ("athletes.csv", "Lou Gehrig,baseball", "Lou Gehrig,", "no cell may be empty"),
        ("athletes.csv", "Lou Gehrig,baseball,1", "Lou Gehrig", "no cell may be empty"),
        ("athletes.csv", "Lou Gehrig,", "Lou Gehrig,baseball,1,", "can't be read"),
        ("athletes.csv", "name,sport", "name,game", "must have name, sport, planted"),
        ("politicians.csv", "Joe Biden,Democratic", "Joe Biden,Whig", "Democratic or Republican"),
        ("compounds.csv", "ice,cream", "ice cream,cone", "one word"),
        ("compounds.csv", "high,school", "ice,cream", "row has occurred before"),
        ("compounds.csv", "ice,cream", "ice,lolly", "neighbours.csv has no row of this compound"),
        ("neighbours.csv", "ice,cream,sour", "ice,cream,ice", "a word other than the compound's own"),
        ("templates.csv", "{name} plays {sport}.", "{name} plays.", "fields of a kind"),
    ],
)
def test_a_spoilt_table_is_refused_in_one_line(file, old, new, says, tmp_path, monkeypatch):
    shutil.copytree(facts.TABLES, tmp_path / "tables")
    path = tmp_path / "tables" / file
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    monkeypatch.setattr(facts, "TABLES", tmp_path / "tables")
    facts.templates.cache_clear()
    with pytest.raises(DataError, match=says) as raised:
        facts.athletes()
        facts.politicians()
        prompts.compound_prompts()
        facts.templates("athlete", held_out=True)
    assert "\n" not in str(raised.value) and str(tmp_path / "tables") in str(raised.value)


def test_a_missing_table_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(facts, "TABLES", tmp_path)
    with pytest.raises(DataError, match=r"athletes\.csv can't be read .*install the project again"):
        facts.athletes()


def test_tables_are_read_when_they_are_asked_for(monkeypatch):
    def read(*_, **__):
        pytest.fail("a table was read")

    monkeypatch.setattr(facts.pd, "read_csv", read)
    spec = importlib.util.spec_from_file_location("facts_again", facts.__file__)
    again = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(again)
    with pytest.raises(pytest.fail.Exception, match="a table was read"):
        again.templates("athlete", held_out=True)


def test_strange_kinds_are_named():
    with pytest.raises(ValueError, match="'poet' is not known; known are athlete, indirect object"):
        facts.templates("poet", held_out=True)
