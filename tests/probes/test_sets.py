"""Tables become tokens, surnames and labels; text becomes tokens with features, in passages drawn at random."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from helpers import small_neox
from lib.common.errors import DataError
from lib.language import model as language_model
from lib.language.corpus import Document
from lib.neox import model as neox
from lib.probes.items import LabelledItems
from lib.probes.sets import athletes, compounds, politicians, text, text_of_tokens
from lib.probes.text_features import FEATURES

DATA = Path(os.environ.get("DATA_DIR", "/nonexistent"))
REAL = {"pythia": DATA / "pythia-tokenizer", "bert": DATA / "models" / "all-MiniLM-L6-v2"}


@pytest.fixture(scope="module")
def tokenizer():
    """Byte-level and so small that every surname has several tokens."""
    bare = Tokenizer(models.BPE())
    bare.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bare.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<end>"], initial_alphabet=alphabet, show_progress=False
    )
    bare.train_from_iterator(["Yesterday we talked about someone"] * 3, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bare, bos_token="<end>", eos_token="<end>")


def people(label="sport", kinds=("baseball", "ice hockey", "baseball")):
    names = ["Babe Ruth", "Jaromír Jágr", "Cal Ripken Jr."]
    beginnings = ["Yesterday we talked about ", ""]
    rows = []
    for name, kind in zip(names, kinds, strict=True):
        surname = name.split(" ", 1)[1]
        for beginning in beginnings:
            sentence = beginning + name
            rows.append((name, surname, kind, sentence, len(sentence) - len(surname), len(sentence)))
    return pd.DataFrame(rows, columns=["name", "surname", label, "text", "start", "end"])


def spelt(found: LabelledItems, tokenizer) -> list[str]:
    """What the tokens of every item say."""
    ids = found.ids[tuple(found.indices.T)]
    return [tokenizer.decode(ids[found.owner == i]).strip() for i in range(len(found.groups))]


def check_surnames(tokenizer, said=lambda surname: surname):
    frame = people()
    found = athletes(tokenizer, frame)
    assert spelt(found, tokenizer) == [said(surname) for surname in frame.surname]
    assert found.features == ("baseball", "ice hockey") and found.use.all()
    assert found.labels.tolist() == [[1, 1, 0, 0, 1, 1], [0, 0, 1, 1, 0, 0]]
    assert found.groups.tolist() == frame.name.tolist() and found.texts == tuple(frame.text)
    assert found.mask.sum(1).max() == found.ids.shape[1] and (np.diff(found.mask.astype(int)) <= 0).all()
    assert (found.ids[:, 0] == found.ids[0, 0]).all() and len(set(found.ids[:, 1])) > 1
    return found


def test_surnames_by_the_offsets_of_the_tokenizer(tokenizer):
    found = check_surnames(tokenizer)
    assert (found.ids[:, 0] == tokenizer.bos_token_id).all(), "the beginning of text, as in Gurnee et al."
    assert np.bincount(found.owner).min() > 1
    last = found.mask.sum(1) - 1
    assert all(last[i] == found.indices[found.owner == i, 1].max() for i in range(6)), "the text ends there"
    assert found.select.sum() == len(found.owner)


@pytest.mark.parametrize("kind", REAL)
def test_surnames_by_real_tokenizers(kind):
    if not REAL[kind].is_dir():
        pytest.skip(f"{REAL[kind]} is missing: it needs DATA_DIR")
    real = AutoTokenizer.from_pretrained(REAL[kind])
    said = {"bert": lambda s: {"Jágr": "jagr", "Ruth": "ruth", "Ripken Jr.": "ripken jr."}[s]}
    found = check_surnames(real, said.get(kind, lambda s: s))
    assert found.ids[0, 0] == (real.cls_token_id if kind == "bert" else real.bos_token_id)


def test_what_touches_a_surname_is_not_part_of_it(tokenizer):
    """The beginning of "(Ruth" ends where the surname starts, and what follows starts where it ends."""
    before = people().assign(text="of (Ruth, they say", start=4, end=8)
    found = athletes(tokenizer, before)
    assert spelt(found, tokenizer) == ["Ruth"] * 6


def test_parties(tokenizer):
    found = politicians(tokenizer, people("party", ("Democratic", "Republican", "Democratic")))
    assert found.name == "politicians" and found.features == ("Democratic", "Republican")
    assert (found.labels[0] == ~found.labels[1]).all()


def pairs():
    rows = []
    for name in ("high school", "ice cream"):
        first, second = name.split()
        for i, beginning in enumerate(["the", "a very"]):
            for kind, pair in (
                ("compound", name),
                ("missing_first", f"old {second}"),
                ("missing_second", f"{first} end"),
            ):
                sentence = f"{beginning} {pair}"
                start = len(sentence) - len(pair.split()[1])
                rows.append((name, kind, kind == "compound", i, sentence, start, len(sentence)))
    return pd.DataFrame(rows, columns=["name", "kind", "positive", "beginning", "text", "start", "end"])


def test_compounds_are_each_their_own_feature(tokenizer):
    found = compounds(tokenizer, pairs())
    assert found.features == ("high school", "ice cream") and found.groups.tolist() == [0, 0, 0, 1, 1, 1] * 2
    assert found.use.tolist() == [[True] * 6 + [False] * 6, [False] * 6 + [True] * 6]
    assert found.labels[0, :6].tolist() == found.labels[1, 6:].tolist() == [True, False, False] * 2
    assert not (found.labels & ~found.use).any()
    assert spelt(found, tokenizer)[:4] == ["school", "school", "end", "school"]


def test_the_tables_of_the_project(tokenizer):
    found = athletes(tokenizer)
    assert found.features == (
        "baseball",
        "association football",
        "basketball",
        "ice hockey",
        "American football",
    )
    assert (
        found.labels.sum(0).max() == 1 and len(set(found.groups.tolist())) == found.labels.sum(1).sum() / 10
    )
    assert [s.split()[-1] for s in spelt(found, tokenizer)] == [name.split()[-1] for name in found.groups]
    assert len(politicians(tokenizer).features) == 2
    assert len(compounds(tokenizer).features) > 50


def test_other_tokenizers_and_tables_are_refused(tokenizer):
    class Slow:
        is_fast = False

    with pytest.raises(DataError, match="Slow gives no character offsets"):
        athletes(Slow(), people())
    for frame, said in (
        (people().drop(columns="start"), "it must have rows of name, sport, text, start, end"),
        (people().iloc[:0], "has 0 rows"),
        (people().assign(start=500, end=510), "no token lies at the offsets given in 'Yesterday we"),
        (people(kinds=("a", "a", "a")), "athletes: feature a has one class, 6 of its 6"),
    ):
        with pytest.raises(DataError, match=said) as error:
            athletes(tokenizer, frame)
        assert "\n" not in str(error.value)


def test_text_features_of_single_tokens():
    rng = np.random.default_rng(0)
    words = np.array(["the", " the", " The", " 7a", "x7", "\n", " é", "(", " IBM", "<end>", "iOS"])
    ids = rng.integers(len(words), size=(60, 40))
    mask = np.arange(40) < rng.integers(20, 41, size=60)[:, None]
    tokens = words[ids].tolist()
    documents = np.arange(60) // 2
    found, dropped = text_of_tokens(
        ids,
        mask,
        tokens=tokens,
        rng=rng,
        documents=documents,
        special=[9],
        maximum=300,
        at_least=40,
        groups_at_least=10,
    )
    assert set(dropped) == {"all_digits"} and set(found.features) == set(FEATURES) - set(dropped)
    assert (found.indices[:, 1] >= 10).all() and found.mask[tuple(found.indices.T)].all()
    at = ids[tuple(found.indices.T)]
    assert not (at == 9).any() and found.use.any(0).all()
    assert (found.groups == documents[found.indices[:, 0]]).all()
    for feature, labels, use in zip(found.features, found.labels, found.use, strict=True):
        assert labels.tolist() == [FEATURES[feature](words[i]) for i in at]
        assert 0.2 <= labels[use].mean() <= 0.5 and use.sum() <= 300
    with pytest.raises(DataError, match="no text feature is left: contains_digit: "):
        text_of_tokens(ids, mask, tokens=tokens, rng=rng, at_least=10_000)
    with pytest.raises(DataError, match="they must fit the ids"):
        text_of_tokens(ids[:, 1:], mask[:, 1:], tokens=tokens, rng=rng)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("sets") / "model", small_neox.tokenizer()
    neox.save_pretrained(small_neox.model(len(tokenizer)), tokenizer, folder)
    return language_model.load(str(folder))


def documents():
    """Eight works of one letter each, which no other has; a special token in every line."""
    return [
        Document(
            "english", letter * 3, "".join(f"{letter} {letter.upper()}{i}.<|endoftext|>\n" for i in range(60))
        )
        for letter in "abcdefgh"
    ]


def texts(model, seed=0, **change):
    settings = dict(maximum=400, at_least=5, groups_at_least=2)
    rng = np.random.default_rng(seed)
    return text(model, documents(), rng=rng, sequences=10, length=32, **settings | change)


def test_text_features_in_passages_whose_works_are_the_groups(model):
    found, dropped = texts(model)
    assert found.ids.shape == (10, 32) and len(np.unique(found.ids, axis=0)) == 10, "no passage twice"
    tokens = np.array(language_model.decoded(model, torch.from_numpy(found.ids)), object)
    at = tokens[tuple(found.indices.T)]
    for place, work in zip(found.indices[:, 0], found.groups, strict=True):
        letters = {c.lower() for token in tokens[place][found.ids[place] != 0] for c in token if c.isalpha()}
        assert letters == {work[0]}
    assert len(set(found.groups)) > 3
    assert {"contains_capital", "contains_digit"} <= set(found.features) and "is_not_ascii" in dropped
    for feature, labels in zip(found.features, found.labels, strict=True):
        assert labels.tolist() == [FEATURES[feature](token) for token in at]
    assert (found.ids[found.mask] == 0).any() and not (found.ids[tuple(found.indices.T)] == 0).any()


def test_passages_are_drawn_at_random_by_the_generator_alone(model):
    first, again, other = (texts(model, seed)[0] for seed in (0, 0, 1))
    assert (first.ids == again.ids).all() and (first.labels == again.labels).all()
    assert not np.array_equal(first.ids, other.ids)
    dropped, more = (set(texts(model, at_least=least)[1]) for least in (5, 55))
    assert more > dropped, "settings go on to the sample"


def test_no_text_is_one_clear_line(model):
    for given in ([], [Document("english", "w", "")]):
        with pytest.raises(ValueError, match="no documents with text to draw passages from"):
            text(model, given, rng=np.random.default_rng(0), sequences=10)
