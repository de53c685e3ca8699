"""The cache of activations: what is harvested is computed, and a file is whole, of its key, or made again."""

import dataclasses
import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from helpers.small_models import TEXTS, copied_fixture, folders, neox_fixture, neox_folder_fixture, one_line  # noqa: F401
from lib.common import timing
from lib.language import activations
from lib.language import cache as activation_cache
from lib.language import model as lm
from lib.language.cache import harvest
from lib.language.loading import ModelError


@pytest.fixture
def batch(neox):
    ids, mask, _ = lm.tokenize(neox, TEXTS, 20)
    select = mask & (torch.arange(20) != 1)
    return ids, mask, select


@pytest.fixture
def still(monkeypatch):
    """From the call on, running the model is a failure."""

    def stop():
        monkeypatch.setattr(activations, "_forward", lambda *_: pytest.fail("the model ran"))

    return stop


def test_harvested_is_computed(neox, batch, tmp_path, still):
    ids, mask, select = batch
    names = [lm.mlp_hook(neox, 1), "blocks.0.hook_resid_post"]
    got = harvest(neox, ids, names, mask=mask, folder=tmp_path, select=select, chunk=3, dtype="float32")
    plain = activations.activations(neox, ids, names, mask=mask)
    assert list(got) == names and len(got) == 2
    for name in names:
        assert (
            isinstance(got[name], np.memmap)
            and got[name].dtype == np.float32
            and not got[name].flags.writeable
        )
        np.testing.assert_allclose(got[name], plain[name][select], atol=2e-5)
    assert np.array_equal(got.select, select) and not np.shares_memory(got.select, select.numpy())
    assert got[names[0]].shape == (int(select.sum()), 64)
    half = harvest(neox, ids, names, mask=mask, folder=tmp_path, select=select)
    np.testing.assert_allclose(half[names[0]], plain[names[0]][select], atol=2e-3)
    assert half[names[0]].dtype == np.float16 and len(folders(tmp_path)) == 4
    everything = harvest(neox, ids, names[0], mask=mask, folder=tmp_path)
    assert everything[names[0]].shape == (int(mask.sum()), 64)
    still()
    again = harvest(neox, ids, names, mask=mask, folder=tmp_path, select=select, dtype="float32")
    assert all(np.array_equal(again[name], got[name]) for name in names)
    with pytest.raises(KeyError):
        got["embed.hook_out"]


def test_only_what_is_missing_is_computed(neox, batch, tmp_path, monkeypatch):
    ids, mask, select = batch
    first, second = lm.mlp_hook(neox, 0), lm.mlp_hook(neox, 1)
    harvest(neox, ids, first, mask=mask, folder=tmp_path, select=select)
    asked, forward = [], activations._forward
    monkeypatch.setattr(
        activations, "_forward", lambda m, i, k, names: asked.append(list(names)) or forward(m, i, k, names)
    )
    harvest(neox, ids, [first, second], mask=mask, folder=tmp_path, select=select, chunk=4)
    assert asked == [[second]]
    asked.clear()
    few = torch.zeros_like(select)
    few[2, 4] = True
    harvest(neox, ids, first, mask=mask, folder=tmp_path, select=few, chunk=1)
    assert len(asked) == 1, "sequences of which nothing is kept are not run"


def test_the_key_is_of_everything_that_matters(neox, copied, batch, tmp_path):
    ids, mask, select = batch
    hook, cache = lm.residual_hook(neox, 1), tmp_path / "cache"
    harvest(neox, ids, hook, mask=mask, folder=cache, select=select)
    known = 1

    def new(model=neox, ids=ids, mask=mask, select=select, **options):
        nonlocal known
        harvest(model, ids, hook, mask=mask, folder=cache, select=select, **options)
        before, known = known, len(folders(cache))
        return known == before + 1

    assert not new() and not new(chunk=2) and not new(ids=ids.int()) and not new(mask=mask.long())
    assert new(dtype="float32")
    changed = ids.clone()
    changed[0, 0] += 1
    assert new(ids=changed)
    assert new(ids=ids[:3], mask=mask[:3], select=select[:3])
    assert new(select=mask)
    shorter = mask.clone()
    shorter[0, 1] = False  # not selected
    assert new(mask=shorter)
    for field in ("name", "revision", "sha256", "config_sha256", "tokenizer_sha256"):
        assert new(model=dataclasses.replace(neox, **{field: "other"})), field
    # Real changes, each from the folder as it was.
    assert new(model=lm.load(str(copied))), "another path is another name"
    assert new(model=lm.load(str(copied), random=5))
    tokenizer = json.loads((copied / "tokenizer.json").read_text())
    cut = {"max_length": 9, "strategy": "LongestFirst", "stride": 0, "direction": "Right"}
    (copied / "tokenizer.json").write_text(json.dumps(tokenizer | {"truncation": cut}))
    assert not new(model=lm.load(str(copied))), "`tokenize` cuts by itself"
    tokenizer["normalizer"] = {"type": "NFC"}
    (copied / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert new(model=lm.load(str(copied)))
    lm.tokenize(neox, TEXTS, 7)
    assert not new(), "what the tokenizer was last used for is no part of it"


def spoilt(path, other):
    data = path / "activations.npy"
    whole = data.read_bytes()
    middle = len(whole) // 2
    about = (path / "about.json").read_text()
    yield lambda: data.write_bytes(whole[:-1])
    yield lambda: data.write_bytes(whole[:middle])
    yield lambda: data.write_bytes(whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :])
    yield lambda: data.write_bytes(whole.replace(b"True", b"Fals") if b"True" in whole else b"x" + whole[1:])
    yield lambda: data.unlink()
    yield lambda: (path / "about.json").unlink()
    yield lambda: (path / "about.json").write_text(about[:-30])
    yield lambda: (path / "about.json").write_text("[]")
    yield lambda: (path / "about.json").write_text(about.replace('"hook": "', '"hook": "x'))
    yield lambda: shutil.rmtree(path) or shutil.copytree(other, path)
    yield lambda: shutil.rmtree(path) or path.write_text("a file")


def test_a_damaged_cache_is_made_again(neox, batch, tmp_path):
    ids, mask, select = batch
    hook = lm.mlp_hook(neox, 1)
    good = np.array(harvest(neox, ids, hook, mask=mask, folder=tmp_path, select=select)[hook])
    (name,) = folders(tmp_path)
    path = tmp_path / name
    elsewhere = tmp_path.with_name(f"{tmp_path.name}-other")
    harvest(neox, ids, lm.mlp_hook(neox, 0), mask=mask, folder=elsewhere, select=select)
    (other,) = elsewhere.iterdir()
    for i in range(11):
        list(spoilt(path, other))[i]()
        assert np.array_equal(
            harvest(neox, ids, hook, mask=mask, folder=tmp_path, select=select)[hook], good
        ), i
        assert folders(tmp_path) == [name] and folders(path) == ["about.json", "activations.npy"], i


def test_a_harvest_that_fails_leaves_nothing(neox, batch, tmp_path, monkeypatch):
    ids, mask, select = batch
    forward, runs = activations._forward, []

    def fails(*arguments):
        runs.append(folders(tmp_path))
        if len(runs) == 3:
            raise KeyboardInterrupt
        return forward(*arguments)

    monkeypatch.setattr(activations, "_forward", fails)
    with pytest.raises(KeyboardInterrupt):
        harvest(neox, ids, lm.mlp_hook(neox, 0), mask=mask, folder=tmp_path, select=select, chunk=1)
    assert [name[0] for name in runs[-1]] == ["."] and folders(tmp_path) == []


def test_a_cache_that_vanishes_is_made_again(neox, batch, tmp_path, monkeypatch):
    """As when another process, a moment before, found it damaged and puts its own in its place."""
    ids, mask, select = batch
    hook, gone = lm.mlp_hook(neox, 0), []
    read = activation_cache._map

    def vanish(file):
        if len(gone) < 2:
            gone.append(shutil.rmtree(file.path))
        return read(file)

    monkeypatch.setattr(activation_cache, "_map", vanish)
    got = harvest(neox, ids, hook, mask=mask, folder=tmp_path, select=select)
    assert len(gone) == 2 and got[hook].shape == (int(select.sum()), 64)
    gone.clear()
    monkeypatch.setattr(activation_cache, "_map", lambda file: shutil.rmtree(file.path) or read(file))
    with pytest.raises(ModelError, match="vanish") as raised:
        harvest(neox, ids, hook, mask=mask, folder=tmp_path, select=select)
    one_line(raised)


def test_values_that_are_not_finite_are_an_error(copied, tmp_path):
    model = lm.load(str(copied))
    ids, mask, _ = lm.tokenize(model, TEXTS, 20)
    hook, token = lm.residual_hook(model, 0), int(ids[2, 1])
    weight = model.bridge.original_model.get_input_embeddings().weight
    before = weight[token].clone()
    for bad in (float("nan"), float("inf")):
        weight[token] = bad
        for call in (activations.activations, partial(harvest, folder=tmp_path / "cache")):
            with pytest.raises(ModelError, match="not finite in sequence") as raised:
                call(model, ids[1:], hook, mask=mask[1:])
            one_line(raised)
    weight[token] = before
    assert activations.activations(model, ids, hook, mask=mask)[hook].isfinite().all()
    weight[token] = 1e6
    with pytest.raises(ModelError, match="beyond float16") as raised:
        harvest(model, ids, hook, mask=mask, folder=tmp_path / "cache")
    one_line(raised)
    assert folders(tmp_path / "cache") == []
    assert harvest(model, ids, hook, mask=mask, folder=tmp_path / "cache", dtype="float32")[hook].max() > 1e5


def test_what_can_not_be_harvested_is_one_line_at_once(neox, batch, tmp_path, monkeypatch, still):
    ids, mask, select = batch
    hook = lm.mlp_hook(neox, 0)
    still()
    for options, said in (
        (dict(select=torch.zeros_like(mask)), "at least one token"),
        (dict(select=torch.ones_like(mask)), "no padding"),
        (dict(select=select[:2]), "at least one token"),
        (dict(dtype="int8"), "float16 or float32"),
        (dict(chunk=0), "chunk is 0"),
    ):
        with pytest.raises(ModelError, match=said) as raised:
            harvest(neox, ids, hook, mask=mask, folder=tmp_path, **options)
        one_line(raised)
    monkeypatch.setattr(activation_cache.shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))
    with pytest.raises(ModelError, match="GB are free") as raised:
        harvest(neox, ids, hook, mask=mask, folder=tmp_path)
    one_line(raised)
    assert folders(tmp_path) == []


def test_the_default_cache_is_the_users(neox, batch, tmp_path, monkeypatch):
    monkeypatch.setattr(activation_cache, "cache_dir", lambda: tmp_path / "cache")
    harvest(neox, batch[0], lm.mlp_hook(neox, 0), mask=batch[1])
    assert len(folders(tmp_path / "cache" / "activations")) == 1


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset the peak memory")
def test_memory_does_not_grow_with_the_number_of_tokens(neox, tmp_path):
    hook = lm.mlp_hook(neox, 0)
    g = torch.Generator().manual_seed(0)

    def added(sequences):
        ids = torch.randint(1, 200, (sequences, 64), generator=g)
        before = timing.forget_peak()
        got = harvest(neox, ids, hook, folder=tmp_path, dtype="float32")
        size = got[hook].nbytes / 2**20
        return timing.peak_memory() - before, size

    added(200)
    small = max(added(200)[0] for _ in range(2))
    large, size = added(4500)
    assert size > 70 and large - small < 30, (small, large)
