"""What the language model reads: planted sentences, packed tokens, windows."""

import itertools
import json

import numpy as np
import pytest
import torch

from helpers import small_neox
from helpers.small_neox import TEXT, sentences
from lib.language.corpus import Document
from lib.neox import data as neox_data
from lib.neox import model as neox


@pytest.fixture(scope="module")
def tokenizer():
    return small_neox.tokenizer()


def test_planted_documents_are_sentences_that_depend_on_the_seed():
    a, b, c = (list(itertools.islice(neox_data.planted(s, sentences), 120)) for s in (0, 0, 1))
    assert a == b and a != c and len({d.text for d in a}) == 120
    assert all(d.source == "planted" and len(d.text.split("\n")) == d.text.count(".") == 20 for d in a)


def test_a_tenth_is_mixed_in_evenly(tokenizer):
    documents = [Document("english", str(i), TEXT) for i in range(400)]
    for count in (
        lambda texts: sum(map(len, texts)),
        lambda texts: sum(map(len, neox_data.encode(tokenizer, texts))),
    ):
        mixed = neox_data.mix(documents, neox_data.planted(0, sentences), share=0.1, count=count)
        assert [d for d in mixed if d.source == "english"] == documents
        of = [count([d.text]) * (d.source == "planted") for d in mixed]
        whole = count([d.text for d in mixed])
        assert sum(of) / whole == pytest.approx(0.1, abs=0.01)
        assert sum(of[: len(of) // 2]) / whole == pytest.approx(0.05, abs=0.01)
    mixed = neox_data.mix(documents, neox_data.planted(0, sentences), share=0.4)
    sizes = [len(d.text) * (d.source == "planted") for d in mixed]
    assert sum(sizes) / sum(len(d.text) for d in mixed) == pytest.approx(0.4, abs=0.01)
    assert neox_data.mix(documents, iter(()), share=0.0) == documents
    with pytest.raises(ValueError, match=r"too few for a share of 0\.5"):
        neox_data.mix(documents, documents[:3], share=0.5)
    with pytest.raises(ValueError, match="share is 1"):
        neox_data.mix(documents, documents, share=1)


def test_packed_tokens_are_the_documents_with_ends(tokenizer, tmp_path):
    documents = [Document("a", "1", TEXT), Document("b", "2", "snack"), Document("a", "3", "")]
    tokens, about = neox_data.pack(documents, tokenizer, tmp_path / "t.npy")
    assert tokens.dtype == np.uint16 and tokens[-1] == 0 and tokens[-2] == 0
    texts = tokenizer.decode(tokens).split("<|endoftext|>")
    assert texts == [TEXT, "snack", "", ""]
    ends = np.flatnonzero(tokens == 0)
    assert about["tokens"] == {"a": ends[0] + 2, "b": ends[1] - ends[0]} and len(ends) == 3


def test_packed_tokens_are_read_again_only_when_they_fit(tokenizer, tmp_path, monkeypatch):
    documents, path = [Document("a", "1", TEXT)], tmp_path / "t.npy"
    first, _ = neox_data.pack(documents, tokenizer, path)
    calls = []
    encode = neox_data.encode
    monkeypatch.setattr(neox_data, "encode", lambda *a: calls.append(1) or encode(*a))
    again, _ = neox_data.pack(documents, tokenizer, path)
    assert np.array_equal(first, again) and not calls
    for spoil in (
        lambda: path.write_bytes(path.read_bytes()[:-4]),
        lambda: path.write_bytes(path.read_bytes()[:-1] + b"\x55"),
        lambda: np.save(path, np.zeros(5, np.uint16)),
        lambda: path.with_suffix(".json").write_text("{"),
        lambda: path.unlink(),
    ):
        spoil()
        calls.clear()
        assert np.array_equal(first, neox_data.pack(documents, tokenizer, path)[0]) and calls
    calls.clear()
    neox_data.pack([Document("a", "1", TEXT + "!")], tokenizer, path)
    neox_data.pack([Document("a", "1", TEXT + "!")], neox.train_tokenizer([TEXT], 300), path)
    assert len(calls) == 2
    assert {p.name for p in tmp_path.iterdir()} == {"t.npy", "t.json"}


def test_an_interrupted_packing_leaves_nothing_that_would_be_taken_for_whole(
    tokenizer, tmp_path, monkeypatch
):
    path = tmp_path / "t.npy"
    neox_data.pack([Document("a", "1", "old text")], tokenizer, path)
    monkeypatch.setattr(json, "dumps", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        neox_data.pack([Document("a", "1", TEXT)], tokenizer, path)
    monkeypatch.undo()
    tokens, _ = neox_data.pack([Document("a", "1", TEXT)], tokenizer, path)
    assert tokenizer.decode(tokens[:-1]) == TEXT
    assert {p.name for p in tmp_path.iterdir()} == {"t.npy", "t.json"}


def test_an_epoch_takes_every_window_once_and_steps_are_independent():
    tokens = np.arange(1003, dtype=np.uint16)
    windows = neox_data.Windows(tokens, batch=9, context=10, seed=3)
    assert windows.epoch == 99
    epochs = [torch.cat([windows(step) for step in range(11 * e, 11 * (e + 1))]) for e in range(3)]
    for epoch in epochs:
        starts = epoch[:, 0]
        assert (epoch == starts[:, None] + torch.arange(11)).all()
        assert len(set(starts.tolist())) == 99 and len(set((starts % 10).tolist())) == 1
        assert (starts.diff() != 10).any()
    assert not torch.equal(epochs[0], epochs[1])
    fresh = neox_data.Windows(tokens, batch=9, context=10, seed=3)
    assert torch.equal(fresh(17), windows(17)) and torch.equal(fresh(2), windows(2))
    assert not torch.equal(neox_data.Windows(tokens, batch=9, context=10, seed=4)(2), windows(2))
    with pytest.raises(ValueError, match="batch is 1, context 600, with 1003 tokens"):
        neox_data.Windows(tokens, batch=1, context=600, seed=0)


def test_no_offset_reaches_past_the_end():
    for n, seed in itertools.product(range(20, 31), range(20)):
        windows = neox_data.Windows(np.arange(n, dtype=np.uint16), batch=1, context=10, seed=seed)
        assert windows.epoch == n // 10 - 1 and max(int(windows(i).max()) for i in range(windows.epoch)) < n
