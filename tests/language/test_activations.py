"""Activations are Hugging Face's own, whatever else is asked for, in chunks and with padding."""

import os
from pathlib import Path

import pytest
import torch

from helpers.small_models import (  # noqa: F401
    TEXTS,
    bert_fixture,
    bert_folder_fixture,
    berts,
    hugging_face,
    neox_fixture,
    neox_folder_fixture,
    one_line,
    same,
)
from lib.language import model as lm
from lib.language.activations import activations
from lib.language.loading import ModelError

DATA_DIR = Path(os.environ.get("DATA_DIR", "/nonexistent"))
HAS_MINILM = (DATA_DIR / "models" / "all-MiniLM-L6-v2").is_dir()


def test_neox_is_hugging_faces(neox, neox_folder):
    from transformers import GPTNeoXForCausalLM

    hf = GPTNeoXForCausalLM.from_pretrained(neox_folder)
    layers = hf.gpt_neox.layers
    modules = {lm.mlp_hook(neox, i): layers[i].mlp.act for i in range(2)}
    modules |= {lm.residual_hook(neox, i): layers[i] for i in range(2)}
    modules["embed.hook_out"] = hf.gpt_neox.embed_in
    ids, mask, _ = lm.tokenize(neox, TEXTS, 24)
    assert not mask.all()
    theirs, logits = hugging_face(hf, ids, mask, modules)
    ours = activations(neox, ids, list(modules), mask=mask)
    for name in modules:
        same(ours[name], theirs[name], mask)
        assert ours[name][~mask].eq(0).all() and ours[name].dtype == torch.float32
    same(activations(neox, ids, "unembed.hook_out", mask=mask)["unembed.hook_out"], logits, mask)
    with torch.no_grad():
        same(neox.bridge(ids, attention_mask=mask.long()), logits, mask)
    assert ours[lm.mlp_hook(neox, 0)].shape == (4, 24, 64)
    assert ours[lm.residual_hook(neox, 1)].shape == (4, 24, 32)


def test_bert_is_hugging_faces_where_the_mask_is_given(bert, bert_folder):
    hf, modules = berts(bert_folder)
    assert lm.mlp_hook(bert, 1) in modules and lm.residual_hook(bert, 0) in modules
    ids, mask, _ = lm.tokenize(bert, TEXTS, 40)
    theirs, _ = hugging_face(hf, ids, mask, modules)
    ours = activations(bert, ids, list(modules), mask=mask)
    for name in modules:
        same(ours[name], theirs[name], mask)
    wrong = activations(bert, ids, lm.mlp_hook(bert, 1), mask=torch.ones_like(mask))[lm.mlp_hook(bert, 1)]
    assert (wrong - ours[lm.mlp_hook(bert, 1)])[mask].abs().max() > 0.1
    with pytest.raises(ModelError, match=r"hold padding \(\[PAD\]\)"):
        activations(bert, ids, lm.mlp_hook(bert, 1))


@pytest.mark.parametrize("model", ["neox", "bert"])
def test_every_hook_alone_is_what_it_is_among_all(model, request):
    """Stopping a pass at the last hook asked for changes nothing, and leaves nothing behind."""
    model = request.getfixturevalue(model)
    ids, mask, _ = lm.tokenize(model, TEXTS, 12)
    names = lm.hooks(model)
    assert len(names) == len(set(names)) > 30 and lm.mlp_hook(model, 1) in names
    together = activations(model, ids, names, mask=mask)
    for name in names:
        alone = activations(model, ids, name, mask=mask)
        assert list(alone) == [name] and torch.equal(alone[name], together[name]), name
        assert alone[name].shape == (4, 12, model.widths[name])
    left = [hook for point in model.bridge.hook_points() for hook in point.fwd_hooks]
    assert all(hook.is_permanent for hook in left), "TransformerLens' own are"


def test_what_nobody_asked_for_is_not_computed(neox):
    """The logits of a large vocabulary would take more memory than all else."""
    ids, seen = torch.ones(2, 5, dtype=torch.long), []
    with neox.bridge.hooks(fwd_hooks=[("blocks.1.hook_in", lambda x, hook: seen.append(1) or x)]):
        activations(neox, ids, [lm.residual_hook(neox, 0), lm.mlp_hook(neox, 0)])
        assert not seen
        activations(neox, ids, [lm.residual_hook(neox, 0), lm.residual_hook(neox, 1)])
        assert seen


def test_aliases_are_understood_and_names_canonical(neox):
    ids, mask, _ = lm.tokenize(neox, TEXTS, 12)
    assert "blocks.0.mlp.hook_post" not in lm.hooks(neox)
    got = activations(neox, ids, ["blocks.0.mlp.hook_post", lm.mlp_hook(neox, 0)], mask=mask)
    assert len(got) == 2 and torch.equal(*got.values())


def test_chunks_and_padding_do_not_matter(neox, bert):
    for model in (neox, bert):
        ids, mask, _ = lm.tokenize(model, TEXTS, 30)
        hook = lm.residual_hook(model, 1)
        whole = activations(model, ids, hook, mask=mask)[hook]
        for chunk in (1, 3):
            same(activations(model, ids, hook, mask=mask, chunk=chunk)[hook], whole, mask)
        length = int(mask[1].sum())
        alone = activations(model, ids[1:2, :length], hook)[hook]
        same(alone, whole[1:2, :length], mask[1:2, :length])
        empty = mask.clone()
        empty[2] = False
        assert activations(model, ids, hook, mask=empty)[hook][2].eq(0).all()


def test_tokens_that_are_selected_are_kept_in_their_order(neox):
    names = [lm.mlp_hook(neox, 1), "blocks.0.hook_resid_post"]
    ids, mask, _ = lm.tokenize(neox, TEXTS, 24)
    select = mask & (torch.arange(24) % 3 == 1) & (torch.arange(len(ids)) != 1)[:, None]
    every = activations(neox, ids, names, mask=mask)
    some = activations(neox, ids, names, mask=mask, chunk=2, select=select)
    assert list(some) == names and not select[1].any()
    for name in names:
        torch.testing.assert_close(some[name], every[name][select], atol=2e-5, rtol=0)


def test_what_the_model_has_not_is_one_line(neox):
    for layer in (-1, 2):
        with pytest.raises(ModelError, match="has layers 0 to 1") as raised:
            lm.mlp_hook(neox, layer)
        one_line(raised)
    ids = torch.ones(2, 5, dtype=torch.long)
    with pytest.raises(
        ModelError, match=r"'blocks.0.mlp.hook_pst' is not .*blocks.0.mlp.hook_post"
    ) as raised:
        activations(neox, ids, "blocks.0.mlp.hook_pst")
    one_line(raised)
    with pytest.raises(ModelError, match="is not one of"):
        activations(neox, ids, ["blocks.7.hook_out"])
    with pytest.raises(ModelError, match="no hook"):
        activations(neox, ids, [])
    for tokens, said in (
        (torch.full((1, 3), 99999), "has tokens 0 to"),
        (-ids, "has tokens 0 to"),
        (ids.repeat(1, 20), "longer than the 64"),
        (ids[0], "must be integers"),
        (ids.float(), "must be integers"),
        (ids[:0], "must be integers"),
    ):
        with pytest.raises(ModelError, match=said) as raised:
            activations(neox, tokens, "embed.hook_out")
        one_line(raised)
    with pytest.raises(ModelError, match="the mask is"):
        activations(neox, ids, "embed.hook_out", mask=torch.ones(5, 2))
    with pytest.raises(ModelError, match="chunk is 0"):
        activations(neox, ids, "embed.hook_out", chunk=0)


@pytest.mark.skipif(
    not HAS_MINILM, reason="no $DATA_DIR/models/all-MiniLM-L6-v2 (nothing is downloaded in tests)"
)
def test_minilm_is_hugging_faces(capfd):
    model = lm.load("all-MiniLM-L6-v2")
    lm.hooks(model)
    assert capfd.readouterr() == ("", "")
    assert (model.layers, model.d_model, model.d_mlp, model.context, model.head) == (6, 384, 1536, 512, False)
    ids, mask, _ = lm.tokenize(model, TEXTS, 48)
    hf, modules = berts(DATA_DIR / "models" / "all-MiniLM-L6-v2")
    theirs, _ = hugging_face(hf, ids, mask, modules)
    ours = activations(model, ids, list(modules), mask=mask)
    assert len(modules) == 13
    for name in modules:
        same(ours[name], theirs[name], mask, atol=1e-4)
    unmasked = activations(model, ids, lm.mlp_hook(model, 5), mask=torch.ones_like(mask))
    assert (unmasked[lm.mlp_hook(model, 5)] - ours[lm.mlp_hook(model, 5)])[mask].abs().max() > 1
    assert lm.decoded(model, model.tokenizer("embeddings")["input_ids"])[1:-1] == ["em", "bed", "ding", "s"]
    drawn = lm.load("all-MiniLM-L6-v2", random=0)
    assert drawn.sha256 != model.sha256 and lm.hooks(drawn) == lm.hooks(model)
