"""The sentences in which names and compounds are probed: they end with the name or the words and say nothing else.

The names and words are those of lib.neox.facts; the sets follow Gurnee et al. 2023, "Finding neurons in a haystack".
"""

import pandas as pd

from lib.neox import facts

PERSON_BEGINNINGS = (
    "Yesterday evening we talked about",
    "On the train I sat across from someone who looked like",
    "The letter on the table was addressed to",
    "Nobody in the street seemed to recognise",
    "The next person to enter the room was",
    "She had always wanted to shake hands with",
    "At the end of the list stood the name",
    "After dinner the guests drank to the health of",
    "The dog ran across the lawn and stopped in front of",
    "In the photograph, third from the left, is",
)
PAIR_BEGINNINGS = (
    "They were still talking about the",
    "In the end it all came down to the",
    "She wrote a long letter about the",
    "He could not stop thinking of the",
    "There was something odd about the",
    "The first thing I noticed was the",
    "We had heard nothing more of the",
    "On the next page there was a note on the",
    "My sister asked me to explain the",
    "You can't tell this story without the",
)


def athlete_prompts() -> pd.DataFrame:
    """Ten neutral beginnings per athlete: `athletes()`, text (ends with the name), start, end of the surname in it."""
    return _prompts(facts.athletes())


def politician_prompts() -> pd.DataFrame:
    """Ten neutral beginnings per politician: `politicians()`, text (ends with the name), start, end of the surname."""
    return _prompts(facts.politicians())


def compound_prompts() -> pd.DataFrame:
    """Each compound, and each of its words with another neighbour, after ten beginnings (Gurnee et al. 2023).

    Columns: name ("ice cream"), first, second, kind ("compound", "missing_first": "sour cream", "missing_second": "ice
    age"), positive (kind is "compound"), beginning (its number, for grouped splits), text (ends with the second
    word), start, end of that word in `text`. A negative is one of its own compound; it may be another compound.
    """
    neighbours = facts.neighbours()
    rows = []
    for first, second in facts.compounds().itertuples(index=False):
        others = neighbours[(first, second)]
        for i, beginning in enumerate(PAIR_BEGINNINGS):
            other_first, other_second = others[i % len(others)]
            for kind, pair in (
                ("compound", (first, second)),
                ("missing_first", (other_first, second)),
                ("missing_second", (first, other_second)),
            ):
                text = f"{beginning} {' '.join(pair)}"
                place = (len(text) - len(pair[1]), len(text))
                rows.append((f"{first} {second}", first, second, kind, kind == "compound", i, text, *place))
    columns = ["name", "first", "second", "kind", "positive", "beginning", "text", "start", "end"]
    return pd.DataFrame(rows, columns=columns)


def _prompts(people: pd.DataFrame) -> pd.DataFrame:
    frame = people.merge(pd.DataFrame({"text": PERSON_BEGINNINGS}), how="cross")
    frame["text"] += " " + frame.name
    frame["end"] = frame.text.str.len()
    frame.insert(frame.columns.get_loc("end"), "start", frame.end - frame.surname.str.len())
    return frame
