"""Language models: weights as they are in the folder or drawn by seed, a hash of them, tokens as the tokenizer's."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from helpers.small_models import (  # noqa: F401
    TEXTS,
    bert_fixture,
    bert_folder_fixture,
    copied_fixture,
    neox_fixture,
    neox_folder_fixture,
)
from lib.language import model as lm
from lib.language.activations import activations
from lib.language.loading import ModelError

DATA_DIR = Path(os.environ.get("DATA_DIR", "/nonexistent"))
HAS_PYTHIA = (DATA_DIR / "pythia-tokenizer").is_dir()


def test_a_folder_is_loaded_for_reading(neox):
    assert (neox.layers, neox.d_model, neox.d_mlp, neox.context) == (2, 32, 64, 64)
    assert neox.head and neox.random is None and not neox.bridge.training
    parameters = list(neox.bridge.original_model.parameters())
    assert all(p.dtype == torch.float32 and not p.requires_grad for p in parameters)
    assert not any(m.training for m in neox.bridge.modules())


def test_loading_is_silent_and_draws_nothing(bert_folder, neox_folder, capfd, recwarn):
    state = torch.get_rng_state()
    for folder in (bert_folder, neox_folder):
        lm.hooks(lm.load(str(folder)))
    lm.load(str(bert_folder), random=3)
    out = capfd.readouterr()
    assert (out.out, out.err) == ("", "") and not len(recwarn)
    assert torch.equal(state, torch.get_rng_state())


def test_the_hash_is_of_the_weights(neox, neox_folder, copied):
    assert neox.sha256 == lm.load(str(neox_folder)).sha256 == lm.load(str(copied)).sha256
    tensors = load_file(copied / "model.safetensors")
    tensors["gpt_neox.layers.1.mlp.dense_h_to_4h.bias"][7] += 1e-3
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    assert lm.load(str(copied)).sha256 != neox.sha256
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 1e-3}))
    assert lm.load(str(copied)).config_sha256 != neox.config_sha256


def test_a_body_says_that_its_head_is_missing(bert, bert_folder, tmp_path):
    from transformers import BertModel

    assert not bert.head and type(bert.bridge.original_model).__name__ == "BertForMaskedLM"
    other = shutil.copytree(bert_folder, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"initializer_range": 1.0}))
    assert bert.sha256 == lm.load(str(other)).sha256, "the head that was drawn is not hashed"
    body = BertModel.from_pretrained(bert_folder).state_dict()
    ours = {
        key.replace("_original_component.", ""): v
        for key, v in bert.bridge.original_model.state_dict().items()
    }
    for key, value in body.items():
        if "pooler" not in key:
            assert any(value.shape == other.shape and torch.equal(value, other) for other in ours.values()), (
                key
            )


@pytest.mark.parametrize("folder", ["neox_folder", "bert_folder"])
def test_random_weights_are_drawn_by_seed(folder, request):
    folder = str(request.getfixturevalue(folder))
    one, again, two, real = (lm.load(folder, random=seed) for seed in (1, 1, 2, None))
    assert one.sha256 == again.sha256 and len({one.sha256, two.sha256, real.sha256}) == 3
    assert one.config_sha256 == real.config_sha256 and one.random == 1 and not one.bridge.training
    assert all(p.dtype == torch.float32 for p in one.bridge.original_model.parameters())
    matrices = [p for p in one.bridge.original_model.parameters() if p.ndim == 2]
    assert torch.cat([p.flatten() for p in matrices]).std() == pytest.approx(0.02, rel=0.05)
    for seed in (-1, 1.5, True):
        with pytest.raises(ModelError, match="an integer of at least 0"):
            lm.load(folder, random=seed)


def test_a_hook_that_fires_twice_is_none_of_them(neox):
    """As in models whose layers share a module: which of its activations would it be?"""

    class Twice:
        cfg, hooks = neox.bridge.cfg, neox.bridge.hooks

        def __call__(self, *arguments, **options):
            neox.bridge(*arguments, **options)
            neox.bridge(*arguments, **options)

    assert lm.hooks(neox) and not lm.hooks(dataclasses.replace(neox, bridge=Twice()))


def test_tokens_are_the_texts(neox, bert):
    for model in (neox, bert):
        ids, mask, offsets = lm.tokenize(model, TEXTS * 300, 20)  # beyond one piece of 1,024 texts
        assert ids.shape == mask.shape == (1200, 20) and mask.dtype == torch.bool
        assert ids.dtype == torch.long and offsets[~mask].eq(0).all()
        assert (
            torch.equal(ids, ids[:4].repeat(300, 1))
            and mask[:4].any(1).all()
            and (mask.int().diff() <= 0).all()
        ), "padding is on the right"
        specials = 2 if model is bert else 0
        for text, i, m, o in zip(TEXTS, ids, mask, offsets, strict=False):
            i, o = i[m], o[m]
            direct = model.tokenizer(text, truncation=True, max_length=20)["input_ids"]
            assert i.tolist() == direct
            assert o[:, 1].max() == len(text) or m.all()
            assert (o[:, 0] == o[:, 1]).sum() == specials
    ids, mask, _ = lm.tokenize(neox, TEXTS, 64)
    for text, row, m in zip(TEXTS, ids, mask, strict=True):
        assert neox.tokenizer.decode(row[m]) == text
    direct = neox.tokenizer("the house")["input_ids"]
    assert neox.bridge.to_tokens("the house")[0].tolist() == direct
    with pytest.raises(ModelError, match="from 1 to 64"):
        lm.tokenize(neox, TEXTS, 65)
    for texts in ("a text", []):
        with pytest.raises(ModelError, match="list of at least one"):
            lm.tokenize(neox, texts, 8)


def test_tokens_are_decoded_as_they_are_read(neox, bert):
    ids, mask, _ = lm.tokenize(neox, ["the house by the sea"], 30)
    tokens = lm.decoded(neox, ids)
    assert np.shape(tokens) == (1, 30) and "".join(np.array(tokens[0])[mask[0]]) == "the house by the sea"
    assert any(token.startswith(" ") and len(token) > 1 for token in tokens[0])
    assert lm.decoded(neox, ids[0]) == tokens[0]
    ids, mask, _ = lm.tokenize(bert, ["the house is zys"], 12)
    tokens = lm.decoded(bert, ids[0][mask[0]])
    assert tokens[0] == "[CLS]" and "".join(tokens[1:-1]) == "thehouseiszys" and len(tokens) > 6


@pytest.mark.skipif(not HAS_PYTHIA, reason="no $DATA_DIR/pythia-tokenizer (nothing is downloaded in tests)")
def test_pythia_70m_with_random_weights():
    model = lm.load("pythia-70m-random")
    assert (model.layers, model.d_model, model.d_mlp, model.context) == (6, 512, 2048, 2048)
    assert (model.vocabulary, model.random, model.head) == (50304, 0, True)
    cfg = model.bridge.original_model.config
    assert cfg.num_attention_heads == 8 and cfg.rope_parameters["partial_rotary_factor"] == 0.25
    assert sum(p.numel() for p in model.bridge.original_model.parameters()) >= 70_426_624
    ids, mask, _ = lm.tokenize(model, [" superposition of Łódź"], 16)
    assert lm.decoded(model, ids[0])[:2] == [" superposition", " of"]
    theirs = model.bridge.tokenizer("superposition")["input_ids"]
    assert theirs == model.tokenizer("superposition")["input_ids"], "the bridge puts no token before a text"
    hook = lm.mlp_hook(model, 5)
    assert activations(model, ids, hook, mask=mask)[hook].shape == (1, 16, 2048)
