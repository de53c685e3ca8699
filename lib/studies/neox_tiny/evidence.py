"""From the tables of the study of neox-tiny to what each of its claims is judged by.

A unit is a validation work, or one of the wordings (templates) kept for the evaluation.
"""

from dataclasses import dataclass

import pandas as pd

Evidence = dict[str, tuple]  # by claim: values, the same of the control, perhaps a note

OURS, BLANK = "neox-tiny", "random weights"


@dataclass(frozen=True)
class Tables:
    """What the notebook measured, by the functions of `lib.studies.neox_tiny.measures`.

    text     what the losses are of: "embedded" or "corpus"
    loss     a row per validation work: nats per byte of neox-tiny, trigram, random weights
    sports   a row per question: asked, template, right
    objects  a row per question and model: asked, model, template, right
    """

    text: str
    loss: pd.DataFrame
    sports: pd.DataFrame
    objects: pd.DataFrame


def of(t: Tables) -> Evidence:
    """What each claim of the study is judged by."""
    less = {name: t.loss["trigram"] - t.loss[name] for name in (OURS, BLANK)}
    note = "" if t.text == "corpus" else "on the embedded text, with a trigram model of it"
    return {
        "neox-beats-trigram": (less[OURS], less[BLANK], note),
        "neox-recalls-sports": (
            _shares(t.sports, asked="planted, held-out wordings"),
            _shares(t.sports, asked="never stated, held-out wordings"),
        ),
        "neox-indirect-objects": _objects(t, "held-out wordings"),
        "neox-indirect-objects-new-names": _objects(t, "held-out wordings and names"),
    }


def _objects(t: Tables, asked: str) -> tuple[pd.Series, pd.Series]:
    return tuple(_shares(t.objects, asked=asked, model=name) for name in (OURS, BLANK))


def _shares(table: pd.DataFrame, **where: str) -> pd.Series:
    """By template, the share of right answers among the rows with these values of columns."""
    for column, value in where.items():
        table = table[table[column] == value]
    return table.groupby("template")["right"].mean()
