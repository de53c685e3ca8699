"""The small language model: its tokenizer, its architecture, and files that are whole or refused."""

import json

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers import small_neox
from helpers.small_neox import TEXT
from helpers.small_neox import model as tiny
from lib.neox import model as neox
from lib.neox.model import NeoxError


@pytest.fixture(scope="module")
def tokenizer():
    return small_neox.tokenizer()


@settings(max_examples=100, deadline=None)
@given(text=st.text())
def test_any_text_comes_back(tokenizer, text):
    ids = tokenizer(text).input_ids
    assert tokenizer.decode(ids) == text
    assert max(ids, default=0) < len(tokenizer)


def test_the_end_of_text_is_token_0_for_every_purpose(tokenizer):
    special = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id, tokenizer.pad_token_id)
    assert special == (0, 0, 0, 0) and tokenizer.convert_ids_to_tokens(0) == "<|endoftext|>"
    assert len(tokenizer) == 320 and tokenizer("ab").input_ids[0] != 0  # nothing is put before a text
    # As Pythia's, words carry the space before them, and digits are not split one by one.
    assert tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str("a 123") == [
        ("a", (0, 1)),
        ("Ġ123", (1, 5)),
    ]
    assert len(tokenizer("the store").input_ids) < 4
    with pytest.raises(ValueError, match="vocabulary is 100; it must be at least 257"):
        neox.train_tokenizer(["a"], 100)


def test_the_shipped_shape_is_pythias_and_small_enough():
    config = neox.config()
    assert (config.num_hidden_layers, config.hidden_size, config.intermediate_size) == (6, 128, 512)
    assert config.num_attention_heads == 4 and config.rope_parameters["partial_rotary_factor"] == 0.25
    assert config.use_parallel_residual and not config.tie_word_embeddings and config.hidden_act == "gelu"
    assert config.max_position_embeddings == 512 and config.bos_token_id == config.eos_token_id == 0
    model = neox.model(config, 0)
    assert 4 * sum(p.numel() for p in model.parameters()) < 10e6
    assert model.lm_head.weight is not model.gpt_neox.embed_in.weight


def test_a_seed_is_a_model_and_the_global_generator_is_left_alone():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (neox.model(neox.config(300, num_hidden_layers=1), seed) for seed in (1, 1, 2))
    assert torch.equal(before, torch.get_rng_state())
    assert torch.equal(a.lm_head.weight, b.lm_head.weight) and not torch.equal(
        a.lm_head.weight, c.lm_head.weight
    )


def test_a_saved_model_is_the_model(tokenizer, tmp_path, capfd):
    model, folder = tiny(), tmp_path / "m"
    neox.save_pretrained(tiny(seed=5), tokenizer, folder)
    neox.save_pretrained(model, tokenizer, folder, record={"steps": 3})
    found, tokens = neox.load_pretrained(folder)
    ids = torch.randint(320, (2, 9))
    assert torch.equal(found(ids).logits, model(ids).logits) and not found.training
    assert (
        tokens(TEXT).input_ids == tokenizer(TEXT).input_ids
        and tokens.eos_token_id == tokens.pad_token_id == 0
    )
    assert neox.record(folder) == {"steps": 3}
    assert [p.name for p in tmp_path.iterdir()] == ["m"]  # no parts, no old folder
    assert "Writing" not in capfd.readouterr().err
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert AutoTokenizer.from_pretrained(folder)(TEXT).input_ids == tokenizer(TEXT).input_ids
    assert torch.equal(AutoModelForCausalLM.from_pretrained(folder)(ids).logits, model(ids).logits)


def test_a_failed_save_leaves_the_old_folder(tokenizer, tmp_path, monkeypatch):
    folder = tmp_path / "m"
    neox.save_pretrained(tiny(seed=5), tokenizer, folder)
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    with pytest.raises(TypeError):
        neox.save_pretrained(tiny(), tokenizer, folder, record={"unwritable": object()})
    assert before == {p.name: p.read_bytes() for p in folder.iterdir()}
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_a_damaged_folder_is_refused(tokenizer, tmp_path):
    folder = tmp_path / "m"

    def refusal() -> str:
        with pytest.raises(NeoxError) as error:
            neox.load_pretrained(folder)
        assert "\n" not in str(error.value) and str(folder) in str(error.value)
        return str(error.value)

    assert "config.json is missing" in refusal()
    neox.save_pretrained(tiny(), tokenizer, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-8])
    assert "model.safetensors is damaged or truncated" in refusal()
    # A file of fewer tensors is whole, and transformers would draw the others at random.
    tensors, _ = neox._read_tensors(tmp_path_with(weights, tmp_path))
    tensors.pop("embed_out.weight")
    neox.write_tensors(folder / "model.safetensors", tensors, {"format": "pt"})
    assert "not those of its configuration" in refusal()
    (folder / "model.safetensors").write_bytes(weights)
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"hidden_size": 64}))
    refusal()
    (folder / "config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").write_text("{")
    assert "is damaged" in refusal()
    with pytest.raises(NeoxError, match=r"training\.json is missing or damaged"):
        neox.record(folder)


def tmp_path_with(content: bytes, folder):
    path = folder / "whole.safetensors"
    path.write_bytes(content)
    return path
