"""The command line: it makes a model, and goes on where it was stopped."""

import subprocess
import sys
from collections import Counter

import pytest
import torch

from helpers.small_neox import TEXT, sentences
from lib.common.files import ROOT
from lib.language.corpus import Document
from lib.neox import __main__ as command_line
from lib.neox import data as neox_data
from lib.neox import model as neox


@pytest.fixture
def little(monkeypatch):
    """Little text and few athletes; the tokenizer and model of the command line are the real ones, but small."""
    documents = [Document("english", str(i), TEXT * 4) for i in range(12)]
    monkeypatch.setattr(
        command_line.corpus, "load", lambda name, split: documents[: 12 if split == "train" else 2]
    )
    planted = neox_data.planted
    monkeypatch.setattr(neox_data, "planted", lambda seed: planted(seed, sentences))
    config = neox.config
    sizes = dict(num_hidden_layers=1, hidden_size=32, intermediate_size=32)
    monkeypatch.setattr(neox, "config", lambda vocabulary: config(vocabulary, **sizes))


def test_the_command_makes_a_folder_and_goes_on_with_it(little, tmp_path, capsys):
    command = ["train", "--folder", str(tmp_path / "f"), "--steps", "120", "--batch", "2", "--context", "16"]
    command += ["--vocabulary", "300", "--precision", "float32"]
    command_line.main(command)
    first = capsys.readouterr().out
    assert "step     50 of 120" in first and "tokens/s" in first and "validation {" in first
    assert neox.kept(tmp_path / "f") == [0, 100, 120]
    model, tokenizer = neox.load_pretrained(tmp_path / "f" / "neox-tiny")
    record = neox.record(tmp_path / "f" / "neox-tiny")
    assert len(tokenizer) == 300 and record["settings"]["steps"] == 120 and len(record["loss"]) == 2
    share = Counter(record["data"]["tokens"])
    assert share["planted"] / share.total() == pytest.approx(0.1, abs=0.06)
    command_line.main(command)
    again = capsys.readouterr().out
    assert "tokenizer of" not in again and "step     50" not in again and "wrote" in again
    torch.testing.assert_close(
        neox.load_pretrained(tmp_path / "f" / "neox-tiny")[0].lm_head.weight, model.lm_head.weight
    )
    assert neox.record(tmp_path / "f" / "neox-tiny") == record
    with pytest.raises(SystemExit, match=r"has (seed|tokens)"):
        command_line.main([*command, "--seed", "1"])


def test_a_second_stage_goes_on_with_the_weights_and_counts_its_steps_on(little, tmp_path):
    settings = dict(batch=2, context=16, vocabulary=300, precision="float32", log=lambda line: None)
    one = command_line.make(tmp_path / "one", steps=60, **settings)
    two = command_line.make(
        tmp_path / "two", steps=40, share=0.5, seed=1, start=tmp_path / "one" / "neox-tiny", **settings
    )
    assert neox.kept(tmp_path / "one") == [0, 60, 100] and neox.kept(tmp_path / "two") == []
    assert two.loss[:5].mean() < one.loss[:5].mean() - 0.5, "it begins where the first stage ended"
    record = neox.record(tmp_path / "two" / "neox-tiny")
    assert record["before"] == neox.record(tmp_path / "one" / "neox-tiny")
    assert record["before"]["before"] is None and record["settings"]["share"] == 0.5
    share = Counter(record["data"]["tokens"])
    assert share["planted"] / share.total() == pytest.approx(0.5, abs=0.1)
    tokenizers = [neox.load_pretrained(tmp_path / name / "neox-tiny")[1] for name in ("one", "two")]
    assert tokenizers[0].get_vocab() == tokenizers[1].get_vocab()


def test_no_more_documents_than_will_be_read():
    documents = [Document("english", str(i), "word " * 50) for i in range(100)]

    def words(texts):
        return sum(len(text.split()) for text in texts)

    assert command_line._enough(documents, 5000, words) == documents
    some = command_line._enough(documents, 1000, words)
    assert [int(d.work) for d in some] == pytest.approx(list(range(0, 100, 5)), abs=5) and len(some) == 20


def test_the_command_is_the_package_and_its_errors_are_one_line(tmp_path):
    command = [sys.executable, "-m", "lib.neox", "evaluate", "--folder", str(tmp_path / "none")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout == ""
    assert (
        done.stderr.count("\n") == 1
        and f"{tmp_path / 'none' / 'neox-tiny'} holds no whole model" in done.stderr
    )
