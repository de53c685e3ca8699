"""The files of a language model: what is damaged or missing is told in one line; a snapshot of the hub will do."""

import logging
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.small_models import (  # noqa: F401
    bert_folder_fixture,
    copied_fixture,
    neox_fixture,
    neox_folder_fixture,
    one_line,
)
from lib.language import loading
from lib.language import model as lm
from lib.language.loading import ModelError


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_truncated_weights_are_refused(share, copied):
    whole = (copied / "model.safetensors").read_bytes()
    (copied / "model.safetensors").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ModelError, match="damaged or incomplete") as raised:
        lm.load(str(copied))
    assert str(copied) in one_line(raised)


def test_weights_that_lack_a_tensor_are_refused(copied, bert_folder, tmp_path):
    tensors = load_file(copied / "model.safetensors")
    for lost in ("gpt_neox.layers.1.mlp.dense_h_to_4h.bias", "lm_head.weight", "embed_out.weight"):
        if lost in tensors:
            save_file(
                {k: v for k, v in tensors.items() if k != lost},
                copied / "model.safetensors",
                {"format": "pt"},
            )
            with pytest.raises(ModelError, match="are incomplete: they lack ") as raised:
                lm.load(str(copied))
            one_line(raised)
    body = shutil.copytree(bert_folder, tmp_path / "body")
    tensors = load_file(body / "model.safetensors")
    tensors.pop("encoder.layer.1.intermediate.dense.weight")
    save_file(tensors, body / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lack bert\.encoder.layer.1.intermediate\.dense\.weight"):
        lm.load(str(body))


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / "config.json").unlink(), "has no config.json"),
        (lambda f: (f / "config.json").write_text('{"model_type": "gpt_ne'), "can't be loaded"),
        (lambda f: (f / "config.json").write_text('{"model_type": "perceptron"}'), "can't be loaded"),
        (lambda f: (f / "tokenizer.json").unlink(), "has no tokenizer"),
        (lambda f: (f / "model.safetensors").unlink(), "no file named model.safetensors"),
        (pickled, "no file named model.safetensors"),
    ],
)
def test_a_folder_that_is_no_model_is_refused(spoil, said, copied):
    spoil(copied)
    with pytest.raises(ModelError, match=said) as raised:
        lm.load(str(copied))
    assert str(copied) in one_line(raised)


def test_what_can_not_be_had_says_where_it_was_looked_for(monkeypatch, tmp_path, neox_folder):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    shutil.copytree(neox_folder, tmp_path / "models" / "mine")
    with pytest.raises(ModelError) as raised:
        lm.load("EleutherAI/pythia-1b-deduped", revision="step1000")
    text = one_line(raised)
    for said in ("at revision step1000", str(tmp_path / "models" / "EleutherAI"), "huggingface.co", "mine"):
        assert said in text, said
    with pytest.raises(
        ModelError, match=r"pythia-70m-random cannot be had: its tokenizer .*pythia-tokenizer"
    ):
        lm.load("pythia-70m-random")
    with pytest.raises(ModelError, match="no such/folder/at all"):
        lm.load("no such/folder/at all")
    assert lm.load("mine").layers == 2, "found in $DATA_DIR/models"
    with pytest.raises(ModelError, match=r"revision is 'step1', but .*mine is a folder"):
        lm.load("mine", revision="step1")


def test_the_shipped_model_needs_nothing_else(monkeypatch, neox, neox_folder, tmp_path):
    monkeypatch.delenv("DATA_DIR", raising=False)
    monkeypatch.setattr(loading, "SHIPPED", tmp_path / "neox-tiny")
    with pytest.raises(
        ModelError, match=r"neox-tiny cannot be had: it was looked for in .*neox-tiny"
    ) as raised:
        lm.load("neox-tiny")
    one_line(raised)
    shutil.copytree(neox_folder, tmp_path / "neox-tiny")
    assert lm.load("neox-tiny").sha256 == neox.sha256


def test_a_hub_id_is_loaded_from_its_snapshot(monkeypatch, neox, neox_folder, capfd, caplog):
    import huggingface_hub

    asked = []

    def snapshot(repo, revision, allow_patterns, ignore_patterns):
        asked.append((repo, revision, "*.safetensors" in allow_patterns))
        logging.getLogger("huggingface_hub").warning("You are sending unauthenticated requests")
        print("Fetching 7 files")
        return str(neox_folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    model = lm.load("somebody/neox", revision="step3")
    assert (model.name, model.revision, model.sha256) == ("somebody/neox", "step3", neox.sha256)
    lm.load("somebody/neox", random=0)
    assert asked == [("somebody/neox", "step3", True), ("somebody/neox", None, False)]
    assert capfd.readouterr() == ("", "") and not caplog.records
