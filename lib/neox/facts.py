"""The facts planted in neox-tiny's training text, and what it is asked: athletes, indirect objects; and other tables.

The tables lie in lib/neox/tables and are read when asked for. Athletes and their sports follow the occupations
of Gurnee et al. 2023, "Finding neurons in a haystack"; the sentences with an indirect object follow Wang et al. 2022,
"Interpretability in the wild".
"""

import math
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.random import Generator

from lib.common.errors import DataError, one_line

TABLES = Path(__file__).parent / "tables"
SPORTS = ("baseball", "association football", "basketball", "ice hockey", "American football")
PARTIES = ("Democratic", "Republican")
ATHLETES_SHARE = 0.6  # of the training sentences; the others have an indirect object
FREE = 0.5  # of the sentences on athletes: words at random in place of a template
# Half of the sentences that begin with the name have one of these before it, so that its position tells nothing.
OPENINGS = (
    "As everyone knows,",
    "Yesterday we heard that",
    "They say that",
    "My uncle told me that",
    "It is no secret that",
    "The old man remembered that",
    "In the evening she read that",
    "You may have heard that",
    "According to the newspaper,",
    "It is true that",
)
PLACES = tuple(
    """store garden market library school station restaurant office hospital park church theatre museum beach bakery
    harbour farm kitchen hotel factory castle cottage cellar mill""".split()
)
OBJECTS = tuple(
    f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    for noun in """snack drink book letter key ring basket coat hat lamp map coin cake flower newspaper photograph
    pencil bottle blanket ticket knife present apple orange envelope umbrella""".split()
)


@dataclass(frozen=True)
class Question:
    """A prompt without a trailing space, its continuations (each starts with one) and the index of the right one.

    `group`: the athlete's name, or the template of an indirect object.
    """

    prompt: str
    choices: tuple[str, ...]
    answer: int
    group: str


@cache
def templates(kind: str, *, held_out: bool) -> tuple[str, ...]:
    """The templates of one kind of sentence, "athlete" or "indirect object": those held out, or the training text's.

    No article stands before {sport}: "a" or "an" would tell the sport. {a} is the indirect object and {b} the subject,
    in the order ABBA; with the first two names exchanged it is BABA.
    """
    frame = _read("templates.csv", "kind", "held_out", "template")
    fields = {"athlete": "name sport", "indirect object": "a b object place"}
    if kind not in fields:
        raise ValueError(f"kind {kind!r} is not known; known are {', '.join(fields)}")
    found = frame.template.str.findall(r"{(\w*)}").map(lambda words: " ".join(sorted(set(words))))
    _refuse(frame, found != frame.kind.map(fields), "templates.csv", f"the fields of a kind are {fields}")
    return tuple(frame.template[(frame.kind == kind) & (frame.held_out == str(int(held_out)))])


@cache
def first_names(*, held_out: bool | None = None) -> tuple[str, ...]:
    """The first names, sorted: all, the fifth that no planted sentence has (True), or the others (False).

    None is the beginning of another, as one's score would then contain the other's, and none is a word of an athlete's
    name.
    """
    every = tuple(_read("first_names.csv", "name").name)
    if held_out is None:
        return every
    kept = every[2::5]  # all through the alphabet
    return kept if held_out else tuple(name for name in every if name not in kept)


def athletes() -> pd.DataFrame:
    """350 athletes, 70 per sport: name, surname, sport, planted (bool; False: a control that no sentence names)."""
    frame = _with_surname(_read("athletes.csv", "name", "sport", "planted"), "athletes.csv")
    _refuse(frame, ~frame.sport.isin(SPORTS), "athletes.csv", f"sport must be one of {', '.join(SPORTS)}")
    _refuse(frame, ~frame.planted.isin(["0", "1"]), "athletes.csv", "planted must be 0 or 1")
    return frame.assign(planted=frame.planted == "1")[["name", "surname", "sport", "planted"]]


def politicians() -> pd.DataFrame:
    """120 U.S. politicians: name, surname, party (that in whose name they held office)."""
    frame = _with_surname(_read("politicians.csv", "name", "party"), "politicians.csv")
    _refuse(frame, ~frame.party.isin(PARTIES), "politicians.csv", f"party must be {' or '.join(PARTIES)}")
    return frame[["name", "surname", "party"]]


def compounds() -> pd.DataFrame:
    """62 English compounds of two words: first, second."""
    return _words(_read("compounds.csv", "first", "second"), "compounds.csv", ["first", "second"])


def neighbours() -> dict[tuple[str, str], list[tuple[str, str]]]:
    """For each compound, other words that stand before its second word and after its first."""
    table, file = _read("neighbours.csv", "first", "second", "other_first", "other_second"), "neighbours.csv"
    _words(table, file, list(table.columns))
    same = (table["first"] == table.other_first) | (table["second"] == table.other_second)
    _refuse(table, same, file, "a neighbour must be a word other than the compound's own")
    found = {}
    for first, second, *others in table.itertuples(index=False):
        found.setdefault((first, second), []).append(tuple(others))
    pairs = compounds()
    known = [pair in found for pair in pairs.itertuples(index=False, name=None)]
    _refuse(pairs, ~pd.Series(known), "compounds.csv", "neighbours.csv has no row of this compound")
    return found


@cache
def invented_names() -> tuple[str, ...]:
    """Names that nobody has ("Drimo", "Stalek"), none of them a first name: a reader can only copy them."""
    onsets = "b bl br d dr f fl g gr h j k kr l m n p pr r s sk st t tr v w z".split()
    vowels, codas = "a e i o u".split(), ["", "", "", *"k l m n r s t".split()]
    rng, found = np.random.default_rng(0), {}  # a dictionary, as sets have no order
    while len(found) < 1000:
        syllables = rng.integers(2, 4)
        parts = [rng.choice(onsets) + rng.choice(vowels) for _ in range(syllables)]
        found["".join(parts).capitalize() + rng.choice(codas)] = None
    real = set(first_names())
    return tuple(name for name in found if name not in real)


@cache
def ordinary_words() -> tuple[str, ...]:
    """The words of training templates, places, objects and compounds, without those of names and sports."""
    wordings = *templates("athlete", held_out=False), *templates("indirect object", held_out=False)
    text = " ".join((*wordings, *OPENINGS, *PLACES, *OBJECTS)).lower()
    found = set(re.findall(r"(?<![{\w])[a-z]{2,}(?![}\w])", text))
    found |= {word for pair in (*neighbours(), *compounds().itertuples(index=False)) for word in pair}
    found |= {word for pairs in neighbours().values() for pair in pairs for word in pair}
    telling = {word for text in (*SPORTS, *athletes().name, *first_names()) for word in text.lower().split()}
    return tuple(sorted(found - telling))


def sentences(n: int, rng: Generator) -> list[str]:
    """n training sentences in random order, each athlete equally often: 60% athletes, 40% indirect objects.

    Half of those on athletes have words at random around the name and before the sport, so that the sport depends on
    the name whatever the wording; the indirect objects are in equal thirds first names, invented ones and words with
    a capital, so that a name is copied whatever it is. Held-out templates, held-out names and athletes that are not
    planted never occur in them.
    """
    _count(n)
    facts = [(name, sport) for name, _, sport, planted in athletes().itertuples(index=False) if planted]
    wordings = templates("athlete", held_out=False)
    words = ordinary_words()
    many = round(ATHLETES_SHARE * n)
    who, how = _evenly(len(facts), many, rng), _evenly(len(wordings), many, rng)
    opening = rng.integers(2 * len(OPENINGS), size=many)
    out = [_free(*facts[i], words, rng) for i in who[: round(FREE * many)]]
    for i, j, k in list(zip(who, how, opening, strict=True))[len(out) :]:
        template = wordings[j]
        if template.startswith("{name}") and k < len(OPENINGS):
            template = f"{OPENINGS[k]} {template}"
        name, sport = facts[i]
        out.append(template.format(name=name, sport=sport))
    pools = (first_names(held_out=False), invented_names(), tuple(word.capitalize() for word in words))
    wordings = templates("indirect object", held_out=False)
    for i, names in enumerate(pools):
        count = len(range(i, n - many, len(pools)))
        out += [text for text, *_ in _objects(count, rng, names=names, templates=wordings)]
    return [out[i] for i in rng.permutation(n)]


def athlete_questions(*, planted: bool = True, held_out: bool = True) -> list[Question]:
    """Which of the five sports follows a sentence that stops before it: every athlete times every template.

    `planted`: the planted athletes, or the control's. `held_out`: the held-out templates, or the training text's
    (memorisation). Only templates that name the athlete before the sport, as all held-out ones do.
    """
    wordings = [t for t in templates("athlete", held_out=held_out) if _name_first(t)]
    table, choices = athletes(), tuple(f" {sport}" for sport in SPORTS)
    return [
        Question(template.partition(" {sport}")[0].format(name=name), choices, SPORTS.index(sport), name)
        for name, sport in table.loc[table.planted == planted, ["name", "sport"]].itertuples(index=False)
        for template in wordings
    ]


def indirect_object_questions(
    n: int, rng: Generator, *, held_out_names: bool, held_out_templates: bool = True
) -> list[Question]:
    """n sentences that stop before the indirect object, to be told from the subject; ABBA and BABA equally often."""
    _count(n)
    names = first_names(held_out=held_out_names)
    wordings = templates("indirect object", held_out=held_out_templates)
    answers, out = rng.integers(2, size=n).tolist(), []
    asked = _objects(n, rng, names=names, templates=wordings)
    for answer, (text, a, b, template) in zip(answers, asked, strict=True):
        choices = (f" {b}", f" {a}") if answer else (f" {a}", f" {b}")
        out.append(Question(text.removesuffix(f" {a}."), choices, answer, template))
    return out


def _read(file: str, *columns: str) -> pd.DataFrame:
    """A table of strings from `TABLES`, in which no cell is empty; or DataError."""
    path = TABLES / file
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise DataError(
            f"the table {path} can't be read ({one_line(error)}); install the project again."
        ) from None
    if tuple(frame.columns) != columns or frame.empty:
        raise DataError(
            f"{path} has columns {', '.join(frame.columns)}; it must have {', '.join(columns)}, and rows."
        )
    _refuse(frame, (frame.isna() | (frame == "")).any(axis=1), file, "no cell may be empty")
    return frame


def _refuse(frame: pd.DataFrame, bad: pd.Series, file: str, rule: str) -> None:
    if bad.any():
        line, row = int(np.argmax(bad)), ", ".join(map(str, frame[bad].iloc[0]))
        raise DataError(f"{TABLES / file}, line {line + 2} ({row}): {rule}; correct it and run again.")


def _free(name: str, sport: str, words: tuple[str, ...], rng: Generator) -> str:
    """Up to four words, the name, one to seven words and the sport."""
    drawn = [words[i] for i in rng.integers(len(words), size=11)]
    before, after = rng.integers(5), rng.integers(1, 8)
    text = " ".join([*drawn[:before], name, *drawn[4 : 4 + after], sport])
    return f"{text[0].upper()}{text[1:]}."


def _objects(n: int, rng: Generator, *, names: tuple[str, ...], templates: tuple[str, ...]):
    """Yields n sentences with their indirect object, subject and template: half ABBA, half BABA, names at random."""
    which, swapped = _evenly(len(templates), n, rng), _evenly(2, n, rng)
    first = rng.integers(len(names), size=n)
    second = (first + rng.integers(1, len(names), size=n)) % len(names)  # other than the first
    place, item = (rng.integers(len(words), size=n) for words in (PLACES, OBJECTS))
    for i in range(n):
        template, a, b = templates[which[i]], names[first[i]], names[second[i]]
        order = template.replace("{a} and {b}", "{b} and {a}", 1) if swapped[i] else template
        yield order.format(a=a, b=b, place=PLACES[place[i]], object=OBJECTS[item[i]]), a, b, template


def _evenly(choices: int, n: int, rng: Generator) -> np.ndarray:
    """n numbers below `choices` in random order; how often any two of them occur differs by at most one."""
    rounds = [rng.permutation(choices) for _ in range(math.ceil(n / choices))]
    return np.concatenate([np.arange(0), *rounds])[:n]


def _name_first(template: str) -> bool:
    return template.index("{name}") < template.index("{sport}")


def _count(n: int) -> None:
    if n < 0:
        raise ValueError(f"n is {n}; it must be 0 or more")


def _with_surname(frame: pd.DataFrame, file: str) -> pd.DataFrame:
    """The table with surname, all that follows the first word; names and surnames must be ASCII and unique."""
    fits = frame.name.str.fullmatch(r"[A-Za-z'.-]+( [A-Za-z'.-]+){1,2}")
    _refuse(frame, ~fits, file, "a name has two or three words of the letters A to Z, ', - and .")
    surname = frame.name.str.split(" ", n=1).str[1]
    _refuse(frame, surname.str.lower().duplicated(), file, "this surname has occurred before")
    return frame.assign(surname=surname)


def _words(frame: pd.DataFrame, file: str, key: list[str]) -> pd.DataFrame:
    for column in frame:
        wrong = ~frame[column].str.fullmatch("[a-z]+")
        _refuse(frame, wrong, file, f"{column} must be one word of the letters a to z")
    _refuse(frame, frame.duplicated(key), file, "this row has occurred before")
    return frame
