"""What neox-tiny is asked and how its answers are told: works, losses, sports and indirect objects."""

import numpy as np
import pandas as pd
import pytest

from lib.language.corpus import Document
from lib.neox import evaluation, facts
from lib.neox import model as neox
from lib.neox.ngram import END
from lib.studies.neox_tiny import measures


@pytest.fixture(scope="module")
def shipped():
    return neox.load_pretrained()


def answering(monkeypatch, rule):
    """Models that answer as rule(model, question) says; no weights are needed."""
    monkeypatch.setattr(
        evaluation,
        "choose",
        lambda model, tokenizer, questions: np.array([rule(model, question) for question in questions]),
    )


def test_settings_of_the_stages():
    stage = {
        "settings": {"steps": 10, "batch": 3, "context": 5, "learning_rate": 0.1},
        "data": {"tokens": {"english": 30, "planted": 10}},
        "tokens_per_second": 7,
    }
    record = stage | {"before": None}
    assert measures.stages_of(record) == [record]
    second = stage | {"before": record, "settings": stage["settings"] | {"steps": 2}}
    assert measures.stages_of(second) == [record, second]
    table = measures.training_settings([record, second])
    assert list(table.loc["tokens read"]) == [150, 30] and list(table.loc["steps"]) == [10, 2]
    assert table.loc["different tokens", "stage 1"] == 40 and table.loc["% planted", "stage 2"] == 25


def test_works_of_a_few_lines_are_left_out():
    documents = [
        Document("english", "long", "a" * 600),
        Document("python", "long", "b" * 999),
        Document("english", "short", "c"),
        Document("english", "long", "d" * 400),
    ]
    found = measures.works(documents)
    assert {work: [d.text[0] for d in parts] for work, parts in found.items()} == {
        "english: long": ["a", "d"]
    }


def test_training_tokens_hold_all_documents_and_a_tenth_planted(shipped):
    _, tokenizer = shipped
    texts = [f"Chapter {i}. " + "It was a dark and stormy night. " * 20 for i in range(60)]
    packed = measures.training_tokens([Document("english", "w", text) for text in texts], tokenizer)
    assert packed.dtype == np.uint16 and packed[-1] == END
    ends = np.flatnonzero(packed == END)
    read = [tokenizer.decode(part[part != END]) for part in np.split(packed, ends + 1)[:-1]]
    assert set(texts) <= set(read), "every document, whole"
    planted = sum(len(tokenizer.encode(text)) for text in read if text not in texts)
    assert planted / len(packed) == pytest.approx(0.1, abs=0.03)


def test_losses_are_of_all_of_a_work_but_those_of_random_weights_of_its_first_document(monkeypatch):
    def table(size):
        return pd.DataFrame({"nats_per_byte": [-1.0, size]}, index=["english", "all"])

    monkeypatch.setattr(
        evaluation, "loss_per_byte", lambda model, _, parts: table(model * sum(len(d.text) for d in parts))
    )
    monkeypatch.setattr(evaluation, "ngram_loss_per_byte", lambda ngram, _, parts: table(ngram * len(parts)))
    works = {
        "english: a": [Document("english", "a", "xx"), Document("english", "a", "x")],
        "python: b": [Document("python", "b", "xxxx")],
    }
    found = measures.losses(works, None, model=1, blank=100, trigram=10)
    assert list(found.index) == list(works) and list(found["source"]) == ["english", "python"]
    assert list(found["neox-tiny"]) == [3, 4]
    assert list(found["random weights"]) == [200, 400]
    assert list(found["trigram"]) == [20, 10]


def test_sports_are_told_by_kind_of_question_sport_and_wording(monkeypatch):
    """A model that always says basketball is right on the basketball players, in every wording."""
    answering(monkeypatch, lambda model, question: facts.SPORTS.index("basketball"))
    found = measures.sports(None, None, athletes=60, rng=np.random.default_rng(0))
    assert (found["right"] == (found["sport"] == "basketball")).all()
    sizes = found.groupby("asked", sort=False).size()
    wordings = facts.templates("athlete", held_out=True)
    assert list(sizes) == [60 * len(wordings), 60 * len(wordings), 50 * len(wordings)]
    assert list(sizes.index) == [
        "planted, held-out wordings",
        "planted, training wordings",
        "never stated, held-out wordings",
    ]
    beginnings = {wording.partition(" {sport}")[0] for wording in wordings}
    for asked in sizes.index[[0, 2]]:
        assert set(found.loc[found["asked"] == asked, "template"]) == beginnings
    training = set(found.loc[found["asked"] == sizes.index[1], "template"])
    assert not training & beginnings


def test_the_planted_and_the_never_stated_are_not_mixed_up(monkeypatch):
    table = facts.athletes().set_index("name")
    answering(
        monkeypatch,
        lambda model, question: question.answer if table.planted[question.group] else 1 - question.answer,
    )
    found = measures.sports(None, None, athletes=30, rng=np.random.default_rng(0))
    share = found.groupby("asked")["right"].mean()
    assert share["planted, held-out wordings"] == share["planted, training wordings"] == 1
    assert share["never stated, held-out wordings"] == 0


def test_objects_are_told_by_kind_and_model(monkeypatch):
    """One model is always right, the other always wrong."""
    answering(
        monkeypatch,
        lambda model, question: question.answer if model == "right" else 1 - question.answer,
    )
    found = measures.objects({"neox-tiny": "right", "random weights": "wrong"}, None, questions=40)
    assert (found["right"] == (found["model"] == "neox-tiny")).all()
    assert (found.groupby(["asked", "model"]).size() == 40).all()
    assert list(dict.fromkeys(found["asked"])) == list(measures.KINDS)


@pytest.mark.parametrize("asked", measures.KINDS)
def test_a_kind_of_question_has_the_names_and_wordings_that_it_is_called_by(monkeypatch, asked):
    names = set()

    def rule(model, question):
        names.update(choice.strip() for choice in question.choices)
        return question.answer

    answering(monkeypatch, rule)
    monkeypatch.setattr(measures, "KINDS", {asked: measures.KINDS[asked]})
    found = measures.objects({"neox-tiny": None}, None, questions=40)
    held_out = asked.startswith("held-out wordings")
    assert set(found["template"]) <= set(facts.templates("indirect object", held_out=held_out))
    assert names <= set(facts.first_names(held_out=asked == "held-out wordings and names"))
