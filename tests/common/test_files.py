"""Files and folders are written whole or not at all; hashes are of all that they are said to be of."""

import hashlib
import os

import numpy as np
import pytest

from lib.common import files
from lib.common.files import sha256, whole, write_text


def contents(folder):
    """By path all files, hidden ones too, and their text."""
    return {
        path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()
    }


def write(part, kind, text):
    """A file, or a folder of a file and one in a folder."""
    if kind == "file":
        part.write_text(text)
        return
    (part / "inner").mkdir(parents=True)
    (part / "a").write_text(text)
    (part / "inner" / "b").write_text(text * 2)


WRITTEN = {"file": {"x": "new"}, "folder": {"x/a": "new", "x/inner/b": "newnew"}}


@pytest.mark.parametrize("before", [None, "file", "folder"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_is_written_appears_at_the_end_in_the_place_of_what_was_there(tmp_path, kind, before):
    if before:
        write(tmp_path / "x", before, "old")
        if before == "folder":
            (tmp_path / "x" / "only in the old one").write_text("old")
    was = contents(tmp_path)
    with whole(tmp_path / "x") as part:
        write(part, kind, "new")
        assert part.parent == tmp_path, "on the same disk, or it could not be renamed"
        assert {k: v for k, v in contents(tmp_path).items() if not k.startswith(".")} == was
    assert contents(tmp_path) == WRITTEN[kind]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x"]


@pytest.mark.parametrize("before", [None, "file", "folder"])
@pytest.mark.parametrize("kind", ["file", "folder", None])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(tmp_path, kind, before, error):
    if before:
        write(tmp_path / "x", before, "old")
    was = contents(tmp_path)
    with pytest.raises(error, match="half way"), whole(tmp_path / "x") as part:
        if kind:
            write(part, kind, "new")
        raise error("half way")
    assert contents(tmp_path) == was
    assert [path.name for path in tmp_path.iterdir()] == (["x"] if before else [])


def test_a_block_that_writes_nothing_is_an_error_and_leaves_what_was_there(tmp_path):
    for kind in (None, "file", "folder"):
        place = tmp_path / str(kind)
        place.mkdir()
        if kind:
            write(place / "x", kind, "old")
        was = contents(place)
        with pytest.raises(FileNotFoundError), whole(place / "x"):
            pass
        assert contents(place) == was and len(list(place.iterdir())) == bool(kind)


def test_a_folder_that_can_not_take_its_place_leaves_the_old_one(tmp_path, monkeypatch):
    """As on a disk that fails between the two renames."""
    write(tmp_path / "x", "folder", "old")
    was, replace = contents(tmp_path), os.replace

    def fails(source, target):
        if str(source).endswith(".part"):
            raise OSError("no space left on device")
        replace(source, target)

    monkeypatch.setattr(files.os, "replace", fails)
    with pytest.raises(OSError, match="no space left"), whole(tmp_path / "x") as part:
        write(part, "folder", "new")
    assert contents(tmp_path) == was and [path.name for path in tmp_path.iterdir()] == ["x"]


def test_what_a_killed_process_of_the_same_number_left_is_not_mixed_in(tmp_path):
    left = [tmp_path / f".x.{os.getpid()}.{end}" for end in ("part", "old")]
    for folder in left:
        write(folder, "folder", "dead")
    write(tmp_path / "x", "folder", "old")
    with whole(tmp_path / "x") as part:
        part.mkdir()
        (part / "c").write_text("new")
    assert contents(tmp_path) == {"x/c": "new"}


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path):
    write(tmp_path / "elsewhere", "folder", "other")
    was = contents(tmp_path / "elsewhere")
    (tmp_path / "x").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with whole(tmp_path / "x") as part:
        write(part, "folder", "new")
    assert not (tmp_path / "x").is_symlink() and (tmp_path / "x" / "a").read_text() == "new"
    assert contents(tmp_path / "elsewhere") == was
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "x"]


def test_parents_are_made_and_text_is_utf_8(tmp_path):
    write_text(str(tmp_path / "a" / "b" / "c.txt"), "Łódź\n")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "Łódź\n".encode()
    with pytest.raises(UnicodeEncodeError):
        write_text(tmp_path / "a" / "b" / "c.txt", "half a character: \ud800")
    assert contents(tmp_path) == {"a/b/c.txt": "Łódź\n"}


def test_a_hash_tells_texts_arrays_and_their_cuts_apart():
    x = np.arange(6, dtype=np.int32)
    different = [
        (),
        ("",),
        ("ab",),
        ("a", "b"),
        ("", "ab"),
        ("ba",),
        ("éé0:",),
        ("éé", ""),
        (x,),
        (x.reshape(2, 3),),
        (x.reshape(3, 2),),
        (x.astype(np.int64),),
        (x.view(np.float32),),
        (x[:3], x[3:]),
        (x[::-1],),
        (x.tobytes(),),
    ]
    assert len({sha256(*parts) for parts in different}) == len(different)
    assert all(len(sha256(*parts)) == 64 for parts in different)


def test_a_hash_is_of_what_is_there_and_not_of_how_it_lies_in_memory():
    x = np.arange(12).reshape(3, 4)
    assert sha256(x) == sha256(x.copy()) == sha256(np.asfortranarray(x)) == sha256(np.tile(x, 2)[:, :4])
    assert sha256("Łódź") == sha256("Łódź".encode()), "a text is its UTF-8"
    assert sha256("ab") == hashlib.sha256(b"2:ab").hexdigest(), "kept in caches, so it must not change"
    assert sha256(np.array([1], np.uint8)) == hashlib.sha256(b"(1,)uint8\x01").hexdigest()
