"""Where files are, and how they are written: whole or not at all."""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]  # of the project


def cache_dir() -> Path:
    """The folder for what is downloaded or computed once: superposition-studies in the user's cache folder."""
    from platformdirs import user_cache_path  # not installed in the peers' environment

    return user_cache_path("superposition-studies")


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path to write a file or a folder to, which takes the place of `path` at the end of the block; never half of it.

    If the block fails, nothing is left behind, and what was at `path`, file or folder, stays. Its parent is made
    if needed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part, aside = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("part", "old"))
    _remove(part)  # left by a killed process that had this one's number
    try:
        yield part
        _take_place(part, path, aside)
    finally:
        _remove(part)


def _take_place(part: Path, path: Path, aside: Path) -> None:
    """Renames `part` to `path`. The system replaces a file at once, but a folder must be moved `aside` first."""
    if not (path.is_dir() or (part.is_dir() and path.exists())):
        os.replace(part, path)
        return
    _remove(aside)
    os.replace(path, aside)
    try:
        os.replace(part, path)
    except BaseException:
        os.replace(aside, path)
        raise
    _remove(aside)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256(*parts: str | bytes | np.ndarray) -> str:
    """One hash over texts, bytes and arrays; another division into parts, shape or type gives another hash."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.shape}{part.dtype}".encode())
            found.update(np.ascontiguousarray(part).ravel())
        else:
            data = part.encode() if isinstance(part, str) else part
            found.update(f"{len(data)}:".encode())
            found.update(data)
    return found.hexdigest()
