"""Tables become tokens, surnames and labels; what is pooled is the largest over a surname's tokens."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from lib.common.errors import DataError
from lib.probes.items import ProbeSet, athletes, compounds, politicians, pool, text
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


def spelt(found: ProbeSet, tokenizer) -> list[str]:
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
    pytest.importorskip("lib.neox.facts")
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


def probe_set(**change):
    settings = dict(
        name="mine",
        texts=(),
        ids=np.zeros((2, 4), int),
        mask=np.array([[True] * 4, [True] * 3 + [False]]),
        indices=np.array([[0, 1], [0, 2], [1, 2]]),
        owner=np.array([0, 0, 1]),
        features=("f",),
        labels=np.array([[True, False]]),
        use=np.ones((1, 2), bool),
        groups=np.arange(2),
    )
    return ProbeSet(**settings | change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            dict(indices=np.array([[0, 1], [0, 2], [1, 4]])),
            r"out of range or padding; the sequences are \(2, 4\)",
        ),
        (dict(indices=np.array([[0, 1], [0, 2], [2, 0]])), "out of range or padding"),
        (dict(indices=np.array([[0, -1], [0, 2], [1, 0]])), "out of range or padding"),
        (dict(indices=np.array([[0, 1], [0, 2], [1, 3]])), "out of range or padding"),
        (dict(indices=np.array([[0, 2], [0, 1], [1, 2]])), "must be in order, once each"),
        (dict(indices=np.array([[0, 1], [0, 1], [1, 2]])), "must be in order, once each"),
        (dict(owner=np.array([0, 0, 0])), "every item must have one"),
        (dict(owner=np.array([1, 0, 1])), "must be in order"),
        (dict(use=np.array([[True, False]])), "feature f has one class, 1 of its 1"),
    ],
)
def test_a_probe_set_that_does_not_fit_is_one_clear_line(change, said):
    assert probe_set().select.tolist() == [[False, True, True, False], [False, False, True, False]]
    with pytest.raises(DataError, match=said) as error:
        probe_set(**change)
    assert "\n" not in str(error.value)


def test_pooled_is_the_largest_over_the_tokens_of_an_item(tmp_path):
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(50), rng.integers(1, 5, size=50))
    activations = (rng.standard_normal((len(owner), 7)) - 3).astype(np.float16)
    np.save(tmp_path / "a.npy", activations)
    found = pool(np.load(tmp_path / "a.npy", mmap_mode="r"), owner)
    assert found.shape == (50, 7) and found.dtype == np.float16
    for i in range(50):
        assert (found[i] == activations[owner == i].max(0)).all()
    for bad in (owner[:-1], owner + 1, owner[::-1], np.where(owner == 3, 2, owner), owner[:0]):
        with pytest.raises(ValueError, match="owners; these must be 0, 0"):
            pool(activations, bad)


def test_text_features_of_single_tokens():
    rng = np.random.default_rng(0)
    words = np.array(["the", " the", " The", " 7a", "x7", "\n", " é", "(", " IBM", "<end>", "iOS"])
    ids = rng.integers(len(words), size=(60, 40))
    mask = np.arange(40) < rng.integers(20, 41, size=60)[:, None]
    tokens = words[ids].tolist()
    documents = np.arange(60) // 2
    found, dropped = text(
        ids, mask, tokens, rng, documents=documents, special=[9], maximum=300, at_least=40, groups_at_least=10
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
        text(ids, mask, tokens, rng, at_least=10_000)
    with pytest.raises(DataError, match="they must fit the ids"):
        text(ids[:, 1:], mask[:, 1:], tokens, rng)
