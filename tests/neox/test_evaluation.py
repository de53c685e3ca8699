"""Losses by source and choices, beside the plain computation one by one."""

import itertools

import numpy as np
import pytest
import torch

from helpers import small_neox
from helpers.small_neox import TEXT
from helpers.small_neox import model as tiny
from lib.language.corpus import Document
from lib.neox import evaluation as neox_evaluation
from lib.neox import training as neox_training
from lib.neox.facts import Question
from lib.neox.ngram import KneserNey


@pytest.fixture(scope="module")
def tokenizer():
    return small_neox.tokenizer()


def question(prompt, choices, answer=0):
    return Question(prompt, choices, answer, group="")


def one_by_one(model, ids: list[int]) -> torch.Tensor:
    """ln p of every token after the end of text, with as much context as there is."""
    logits = model(torch.tensor([[0, *ids]])).logits[0, :-1].double().log_softmax(-1)
    return logits[torch.arange(len(ids)), torch.tensor(ids)].detach()


def strided(model, ids: list[int], context: int) -> list[float]:
    """ln p of every token, from the first window of half-window stride that reads it."""
    out, half = [], context // 2
    for i in range(len(ids)):  # token i is preceded by the end of text and i tokens
        start = 0 if i < context else half * -(-(i + 1 - context) // half)
        before = [0, *ids][start : i + 1]
        assert len(before) <= context and (start == 0 or len(before) > context - half)
        logits = model(torch.tensor([before])).logits[0, -1].double().log_softmax(-1)
        out.append(float(logits[ids[i]].detach()))
    return out


@pytest.mark.parametrize("context", [2, 7, 16, 64])
def test_loss_counts_every_token_once(tokenizer, context):
    model = tiny()
    documents = [Document("pl", "1", TEXT), Document("en", "2", "the store"), Document("pl", "3", "é" * 3)]
    table = neox_evaluation.loss_per_byte(model, tokenizer, documents, context=context, batch=2)
    ids = [tokenizer(d.text).input_ids for d in documents]
    assert len(ids[0]) > 64 > len(ids[1])
    nats = [-sum(strided(model, i, context)) for i in ids]
    assert table.nats["pl"] == pytest.approx(nats[0] + nats[2], rel=1e-5)
    assert table.nats["en"] == pytest.approx(nats[1], rel=1e-5)
    assert table.tokens.to_dict() == {
        "pl": len(ids[0]) + len(ids[2]),
        "en": len(ids[1]),
        "all": sum(map(len, ids)),
    }
    assert table.bytes["pl"] == len(TEXT.encode()) + 6 and table.bytes["all"] == table.bytes["pl"] + 9
    assert table.nats["all"] == pytest.approx(table.nats["pl"] + table.nats["en"])
    assert table.nats_per_byte["en"] == pytest.approx(nats[1] / 9, rel=1e-5)
    assert table.nats_per_token["en"] == pytest.approx(nats[1] / len(ids[1]), rel=1e-5)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 12, 13, 30])
def test_windows_stride_by_half(length):
    ids = np.arange(1, length + 1, dtype=np.uint16)
    windows = list(neox_evaluation._windows(ids, 5, 8))
    counted = [w[-n:].tolist() for _, w, n in windows]
    assert counted == [part.tolist() for part in np.split(ids, np.arange(8, length, 4))]
    assert all(document == 5 and len(w) <= 9 for document, w, _ in windows)
    assert all(w[0] % 4 == 0 for _, w, _ in windows) and windows[0][1][0] == 0


def test_the_ngrams_loss_is_over_the_same_tokens(tokenizer):
    documents = [Document("a", "1", "the store, the snack"), Document("b", "2", "the end")]
    tokens = np.concatenate([[*tokenizer(TEXT).input_ids, 0]])
    ngram = KneserNey.fit(tokens, 320)
    table = neox_evaluation.ngram_loss_per_byte(ngram, tokenizer, documents)
    model = neox_evaluation.loss_per_byte(tiny(), tokenizer, documents, context=32)
    assert table.tokens.equals(model.tokens) and table.bytes.equals(model.bytes)
    ids = np.array([*tokenizer("the end").input_ids, 0])
    assert table.nats["b"] == pytest.approx(-ngram.log_probability(ids)[:-1].sum())


QUESTIONS = [
    question("Then, Alice and Bob went to the store. Alice gave a snack to", (" Bob", " Alice")),
    question("Bob", (" snack", " the store", " zażółć gęślą jaźń")),
    question("1,234", (" x", " return x + 1")),
    question("", (" a", " the end")),
]


def test_choices_are_scored_as_one_by_one(tokenizer):
    model = tiny()
    for batch in (1, 3, 64):
        scores = neox_evaluation.score(model, tokenizer, QUESTIONS, batch=batch)
        for question, got in zip(QUESTIONS, scores, strict=True):
            prompt = tokenizer(question.prompt).input_ids
            for choice, log_p in zip(question.choices, got, strict=True):
                ids = tokenizer(question.prompt + choice).input_ids
                assert ids[: len(prompt)] == prompt and tokenizer.decode(ids[len(prompt) :]) == choice
                assert log_p == pytest.approx(float(one_by_one(model, ids)[len(prompt) :].sum()), abs=1e-4)
        chosen = neox_evaluation.choose(model, tokenizer, QUESTIONS, batch=batch)
        assert chosen.tolist() == [int(s.argmax()) for s in scores]
    assert len(set(chosen.tolist())) > 1 and neox_evaluation.choose(model, tokenizer, []).shape == (0,)


def test_choices_that_do_not_stand_alone_are_refused(tokenizer):
    model = tiny()
    with pytest.raises(ValueError, match="does not begin a token of its own after 'the sto'"):
        neox_evaluation.choose(model, tokenizer, [question("the sto", ("re", "p"))])
    with pytest.raises(ValueError, match="has no choices"):
        neox_evaluation.choose(model, tokenizer, [question("the", ())])
    with pytest.raises(ValueError, match="the model reads at most 64"):
        neox_evaluation.choose(model, tokenizer, [question("gęślą " * 30 + "x", (" a",))])
    with pytest.raises(ValueError, match="context is 65"):
        neox_evaluation.loss_per_byte(model, tokenizer, [Document("a", "b", "c")], context=65)


def test_a_model_taught_to_answer_answers(tokenizer):
    """Trained on who gets the snack, it chooses right; before, at chance."""
    names = ["Alice", "Bob", "Zoe", "Max"]
    pairs = list(itertools.permutations(names, 2))
    sentences = [f"Then, {a} and {b} went to the store. {a} gave a snack to {b}." for a, b in pairs]
    questions = [
        question(s[: s.rindex(" ")], (f" {a}", f" {b}"), 1)
        for s, (a, b) in zip(sentences, pairs, strict=True)
    ]
    tokens = np.concatenate([[*tokenizer(s).input_ids, 0] for s in sentences * 20]).astype(np.uint16)
    model = tiny()
    before = np.mean(neox_evaluation.choose(model, tokenizer, questions))
    neox_training.train(model, tokens, steps=300, batch=8, context=48, learning_rate=1e-2, warm_up=10)
    assert np.mean(neox_evaluation.choose(model, tokenizer, questions)) > 0.9 > before
