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
    """The folder of what is downloaded or computed once: superposition-studies in the user's cache folder."""
    from platformdirs import user_cache_path  # not there in the environment of the peers

    return user_cache_path("superposition-studies")


@contextlib.contextmanager
def whole(path: str | Path) -> Iterator[Path]:
    """A path to write a file or a folder to, which becomes `path` at the end of the block; never half of it.

    Where the block fails nothing is left behind, and what was at `path` stays. Its parent is made where needed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        yield part
        os.replace(part, path)
    finally:
        if part.is_dir():
            shutil.rmtree(part)
        else:
            part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Writes a text file in UTF-8, whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def sha256(*parts: str | bytes | np.ndarray) -> str:
    """One hash over texts, bytes and arrays, which no other cut into parts, shape or type shares."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            found.update(f"{part.shape}{part.dtype}".encode())
            found.update(np.ascontiguousarray(part).ravel())
        else:
            found.update(f"{len(part)}:".encode())
            found.update(part.encode() if isinstance(part, str) else part)
    return found.hexdigest()
