"""Text: what is embedded, what is checked, and what is said when it cannot be had."""

import gzip
import hashlib
import json
import os
from pathlib import Path

import pytest

from lib.common.errors import DataError
from lib.language import corpus

FOLDER = Path(os.environ.get("DATA_DIR", "/nonexistent")) / "corpus"
needs_corpus = pytest.mark.skipif(not FOLDER.is_dir(), reason="the corpus is not in $DATA_DIR/corpus")


@pytest.fixture(scope="module")
def embedded():
    return {split: corpus.load("embedded", split) for split in corpus.SPLITS}


def test_embedded_text_is_the_standard_library_and_descriptions(embedded):
    for documents in embedded.values():
        assert {d.source for d in documents} == {"python", "english"}
        assert all(0 < len(d.text) <= 8000 and d.text.strip() for d in documents)
        assert not any(
            {"test", "tests", "idle_test", "site-packages"} & set(d.work.split("/")) for d in documents
        )
    works = {d.work for d in embedded["train"]}
    assert {"argparse.py", "json/decoder.py", "iris.rst"} <= works
    whole = "".join(d.text for d in embedded["train"] if d.work == "argparse.py")
    import argparse

    assert whole == Path(argparse.__file__).read_text(encoding="utf-8")
    assert sum(len(d.text) for d in embedded["train"]) > 5_000_000


def test_embedded_splits_share_no_work(embedded):
    train, valid = ({d.work for d in embedded[split]} for split in corpus.SPLITS)
    assert not train & valid
    assert "warnings.py" in valid and "json/encoder.py" in valid and len(valid) > 15
    assert embedded["train"] == corpus.load("embedded", "train")


def test_a_cut_loses_nothing_and_ends_at_lines():
    text = "".join(f"line {i}\n" for i in range(50)) + "x" * 75
    pieces = corpus.cut(text, 30)
    assert "".join(pieces) == text and max(map(len, pieces)) <= 30
    assert all(piece.endswith("\n") for piece in pieces if "line" in piece and "x" not in piece)
    assert [len(p) for p in corpus.cut("y" * 60, 30)] == [30, 30] and corpus.cut("") == []


def test_the_hash_is_of_every_field_and_the_order():
    documents = [corpus.Document("a", "b", "c"), corpus.Document("d", "e", "f")]
    hashes = {
        corpus.sha256(documents),
        corpus.sha256(documents[::-1]),
        corpus.sha256(documents[:1]),
        corpus.sha256([corpus.Document("ab", "", "c"), documents[1]]),
        corpus.sha256([corpus.Document("a", "b", "c\n"), documents[1]]),
    }
    assert len(hashes) == 5


def test_strangers_are_named():
    with pytest.raises(ValueError, match="'pile' is not known; known are corpus, embedded"):
        corpus.load("pile", "train")
    with pytest.raises(ValueError, match="'test' is not known; known are train, valid"):
        corpus.load("embedded", "test")


def refusal(split="valid") -> str:
    with pytest.raises(DataError) as error:
        corpus.load("corpus", split)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_is_missing_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    message = refusal()
    assert str(tmp_path / "corpus" / "valid.jsonl.gz") in message
    assert "no public download" in message and '"embedded"' in message
    monkeypatch.delenv("DATA_DIR")
    assert "DATA_DIR is not set" in refusal()


def test_damaged_files_are_refused_and_whole_ones_read(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    rows = [
        {"source": "polish", "work": "w", "text": "zażółć\u2028\x85 gęślą"},
        {"source": "german", "work": "v", "text": "ü"},
    ]
    packed = gzip.compress("\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode())
    path = tmp_path / "corpus" / "valid.jsonl.gz"
    path.parent.mkdir()
    path.write_bytes(packed)
    assert "damaged or another file" in refusal()
    monkeypatch.setitem(corpus._SHA256, "valid", hashlib.sha256(packed).hexdigest())
    assert corpus.load("corpus", "valid") == [corpus.Document(**row) for row in rows]
    path.write_bytes(packed[:-5])
    assert str(path) in refusal()


@needs_corpus
def test_the_corpus_is_the_published_one():
    documents = corpus.load("corpus", "valid")
    assert {d.source for d in documents} == {"english", "german", "polish", "python"} and len(
        documents
    ) == 227
    assert {d.work for d in documents if d.source == "python"} == set(corpus.VALID_MODULES)
    assert max(len(d.text) for d in documents) <= corpus.LENGTH
