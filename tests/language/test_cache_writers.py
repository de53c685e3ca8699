"""The cache of activations when several processes write it, or one was killed while it did."""

import fcntl
import multiprocessing
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from helpers.small_models import TEXTS, folders, neox_fixture, neox_folder_fixture  # noqa: F401
from lib.language import cache
from lib.language import model as lm
from lib.language.cache import harvest
from lib.language.loading import ModelError


def part(neox, hook, shape, tmp_path, dtype=np.float32):
    file = cache._file(neox, hook, "text", np.dtype(dtype), tmp_path)
    return cache._Part(file, shape, np.dtype(dtype))


def test_a_file_system_without_locks_will_do(neox, tmp_path, monkeypatch):
    def fails(*_):
        raise OSError("no locks available")

    monkeypatch.setattr(cache.fcntl, "flock", fails)
    hook = lm.mlp_hook(neox, 0)
    ids, mask, _ = lm.tokenize(neox, TEXTS, 20)
    with part(neox, hook, (3, 2), tmp_path) as other:
        assert len(harvest(neox, ids, hook, mask=mask, folder=tmp_path)[hook]) == int(mask.sum())
        part(neox, hook, (3, 2), tmp_path)
        assert other.folder.exists()


def test_what_a_killed_process_left_is_swept_and_what_lives_is_not(neox, tmp_path):
    hook = lm.mlp_hook(neox, 0)
    dead, alive = (part(neox, hook, (3, 2), tmp_path) for _ in range(2))
    fcntl.flock(dead.file, fcntl.LOCK_UN)  # as the system does when a process ends
    with part(neox, hook, (3, 2), tmp_path) as mine:
        assert not dead.folder.exists() and alive.folder.exists() and mine.folder.exists()
        other = part(neox, lm.mlp_hook(neox, 1), (3, 2), tmp_path)
        assert mine.folder.exists() and other.folder.exists()


def test_a_part_that_is_swept_before_it_is_locked_is_made_again(neox, tmp_path, monkeypatch):
    lock, first = fcntl.flock, []

    def late(file, kind):
        if kind == fcntl.LOCK_EX and not first:
            first.append(Path(file.name).parent)
            shutil.rmtree(first[0])
        lock(file, kind)

    monkeypatch.setattr(cache.fcntl, "flock", late)
    with part(neox, lm.mlp_hook(neox, 0), (3, 2), tmp_path) as mine:
        assert mine.folder.exists() and mine.folder != first[0]


def test_who_comes_second_leaves_what_is_there(neox, tmp_path):
    """Somebody may be reading it."""
    nodes = []
    for _ in range(2):
        with part(neox, lm.mlp_hook(neox, 0), (3, 2), tmp_path) as mine:
            mine.write(np.zeros((3, 2), np.float32))
            mine.publish()
        nodes.append((mine.target.path / "activations.npy").stat().st_ino)
    assert nodes[0] == nodes[1] and len(folders(tmp_path)) == 1


def test_a_part_that_is_not_whole_is_not_published(neox, tmp_path):
    with part(neox, lm.mlp_hook(neox, 0), (3, 2), tmp_path) as mine:
        mine.write(np.zeros((2, 2), np.float32))
        with pytest.raises(ModelError, match="bytes were written"):
            mine.publish()
    assert folders(tmp_path) == []


def _many(file, values, rounds, damage):
    for _ in range(rounds):
        with cache._Part(file, values.shape, values.dtype) as mine:
            for row in values:
                mine.write(row)
            mine.publish()
        if damage:
            data = file.path / "activations.npy"
            try:
                os.truncate(data, 100)
            except FileNotFoundError:
                pass


def test_processes_that_write_the_same_do_not_harm_each_other(neox, tmp_path):
    values = np.random.default_rng(0).standard_normal((40, 8)).astype(np.float32)
    file = cache._file(neox, lm.mlp_hook(neox, 0), "text", values.dtype, tmp_path)
    fork = multiprocessing.get_context("fork")
    running = [fork.Process(target=_many, args=(file, values, 30, damage)) for damage in (True, False, False)]
    for process in running:
        process.start()
    for process in running:
        process.join()
    assert [process.exitcode for process in running] == [0, 0, 0]
    _many(file, values, 1, False)
    assert cache._whole(file) and np.array_equal(np.load(file.path / "activations.npy"), values)
    assert folders(tmp_path) == [file.path.name], "nothing is left beside it"
