"""Activations of a language model, kept on disk: each file is whole, and checked, or made again."""

import contextlib
import fcntl
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lib.common.files import cache_dir, sha256
from lib.language.activations import checked, passes
from lib.language.loading import ModelError
from lib.language.model import LanguageModel, canonical

FORMAT = 1  # of the files; part of their keys


class Activations(Mapping[str, np.memmap]):
    """Harvested activations: hook -> read-only memory map `(n_selected, d)`.

    Row k belongs to the k-th token that is True in `select` `(batch, length)`, one sequence after the other.
    """

    def __init__(self, maps: dict[str, np.memmap], select: np.ndarray):
        self._maps, self.select = maps, select

    def __getitem__(self, hook: str) -> np.memmap:
        return self._maps[hook]

    def __iter__(self) -> Iterator[str]:
        return iter(self._maps)

    def __len__(self) -> int:
        return len(self._maps)


def harvest(
    model: LanguageModel,
    ids: Tensor,
    hooks: str | Sequence[str],
    *,
    mask: Tensor | None = None,
    select: Tensor | None = None,
    folder: str | Path | None = None,
    chunk: int | None = None,
    dtype: str | np.dtype = "float16",
) -> Activations:
    """Activations at the hooks of the tokens in `select` `(batch, length)`, by default all those of the mask, cached.

    Each hook has a folder in `folder` (by default in the user's cache), named by a hash of model, revision, weights,
    hook, tokens, tokenizer, dtype and format. It appears whole or not at all and is checked against its SHA-256 before
    it is read; a damaged one is made again. What is missing is made in one pass, in memory that does not grow with the
    number of tokens. Raises ModelError on hooks and tokens that the model does not have, on values that are not finite,
    and if the disk is too small.
    """
    dtype = np.dtype(dtype)
    if dtype not in (np.float16, np.float32):
        raise ModelError(f"dtype is {dtype}; activations are kept as float16 or float32")
    names = canonical(model, hooks)
    ids, mask = checked(model, ids, mask)
    select = mask if select is None else torch.as_tensor(select).bool().cpu()
    if select.shape != ids.shape or (select & ~mask).any() or not select.any():
        raise ModelError(
            f"select {tuple(select.shape)} must choose at least one token of {tuple(ids.shape)}, and no padding"
        )
    folder = Path(folder) if folder is not None else cache_dir() / "activations"
    folder.mkdir(parents=True, exist_ok=True)
    text = sha256(ids.numpy(), *(np.packbits(part.numpy()) for part in (mask, select)))
    files = {name: _file(model, name, text, dtype, folder) for name in dict.fromkeys(names.values())}
    for _ in range(3):
        wanted = {name: file for name, file in files.items() if not _whole(file)}
        if wanted:
            _write(model, ids, mask, select=select, files=wanted, chunk=chunk, dtype=dtype)
        with contextlib.suppress(FileNotFoundError):  # another process was replacing a damaged one just then
            maps = {name: _map(file) for name, file in files.items()}
            return Activations({asked: maps[name] for asked, name in names.items()}, select.clone().numpy())
    raise ModelError(f"the activations in {folder} vanish as soon as they are written; name another folder")


class _File(NamedTuple):
    path: Path
    key: dict


def _file(model: LanguageModel, hook: str, text: str, dtype: np.dtype, folder: Path) -> _File:
    key = {
        "format": FORMAT,
        "model": model.name,
        "revision": model.revision,
        "weights": model.sha256,
        "config": model.config_sha256,
        "tokenizer": model.tokenizer_sha256,
        "text": text,
        "hook": hook,
        "dtype": dtype.name,
    }
    slug = re.sub(r"[^\w.-]+", "-", f"{Path(model.name).name}-{hook}")
    return _File(folder / f"{slug}-{sha256(json.dumps(key, sort_keys=True))[:20]}", key)


def _whole(file: _File) -> bool:
    """Whether the folder holds what its key says, to the last bit."""
    data = file.path / "activations.npy"
    try:
        about = json.loads((file.path / "about.json").read_text(encoding="utf-8"))
        if about["key"] != file.key or data.stat().st_size != about["bytes"]:
            return False
        with data.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == about["sha256"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _map(file: _File) -> np.memmap:
    return np.load(file.path / "activations.npy", mmap_mode="r", allow_pickle=False)


def _write(model, ids, mask, *, select, files: dict[str, _File], chunk, dtype: np.dtype) -> None:
    n = int(select.sum())
    need = sum(n * model.widths[name] * dtype.itemsize for name in files)
    folder = next(iter(files.values())).path.parent
    free = shutil.disk_usage(folder).free
    if need > free:
        raise ModelError(
            f"the activations need {need / 1e9:,.1f} GB in {folder}, where {free / 1e9:,.1f} GB are free; "
            "select fewer tokens or hooks, or name another folder"
        )
    with contextlib.ExitStack() as stack:
        parts = {
            name: stack.enter_context(_Part(file, (n, model.widths[name]), dtype))
            for name, file in files.items()
        }
        kept = torch.float16 if dtype == np.float16 else torch.float32
        for rows, got in passes(model, ids, mask, names=list(files), rows=select.any(1), chunk=chunk):
            for name, x in got.items():
                chosen = x[select[rows, : x.shape[1]].to(x.device)]
                top = float(torch.stack(chosen.aminmax()).abs().max())
                if top > float(np.finfo(dtype).max):
                    raise ModelError(
                        f"activations at {name} reach {top:.3g}, beyond float16; keep them as float32"
                    )
                parts[name].write(chosen.to(kept).cpu().numpy())
        for part in parts.values():
            part.publish()


class _Part:
    """A cache folder in the making, beside its final place; removed on leaving the context unless published."""

    def __init__(self, file: _File, shape: tuple[int, int], dtype: np.dtype):
        self.target = file
        self._sweep()
        while True:
            self.folder = Path(tempfile.mkdtemp(".part", f".{file.path.name}.", file.path.parent))
            self.file = (self.folder / "activations.npy").open("wb")
            # What a killed process left has no lock. Some file systems have no locks; there nothing is swept away.
            with contextlib.suppress(OSError):
                fcntl.flock(self.file, fcntl.LOCK_EX)
            if (self.folder / "activations.npy").exists():  # else it was swept away before it was locked
                break
            self.file.close()
        header = io.BytesIO()
        described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(header, described)
        self.bytes, self.sha256 = 0, hashlib.sha256()
        self.expected = len(header.getvalue()) + shape[0] * shape[1] * dtype.itemsize
        self.write(np.frombuffer(header.getvalue(), np.uint8))

    def __enter__(self) -> "_Part":
        return self

    def __exit__(self, *_) -> None:
        self.file.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def write(self, block: np.ndarray) -> None:
        data = np.ascontiguousarray(block).ravel()
        self.file.write(data)  # not through a memory map, whose pages would count as this process's memory
        self.sha256.update(data)
        self.bytes += data.nbytes

    def publish(self) -> None:
        """Puts everything on disk, then its description, then the folder under its name."""
        if self.bytes != self.expected:
            raise ModelError(
                f"{self.bytes} bytes were written for {self.target.path.name}, not {self.expected}"
            )
        self.file.flush()
        os.fsync(self.file.fileno())
        about = {"key": self.target.key, "bytes": self.bytes, "sha256": self.sha256.hexdigest()}
        with (self.folder / "about.json").open("w", encoding="utf-8") as stream:
            json.dump(about, stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        _sync(self.folder)
        self._take_place()
        _sync(self.folder.parent)

    def _take_place(self) -> None:
        for attempt in range(9):
            try:
                os.rename(self.folder, self.target.path)
                return
            except OSError:
                if _whole(self.target):  # another process was first
                    return
                if attempt == 8:
                    raise
            with contextlib.suppress(OSError):  # a damaged one goes aside, where readers can still read it
                aside = self.folder.with_name(f"{self.folder.name}.{attempt}.part")
                os.rename(self.target.path, aside)
                shutil.rmtree(aside) if aside.is_dir() else aside.unlink()

    def _sweep(self) -> None:
        """Removes what killed processes left of this folder; what is being written is locked."""
        for left in self.target.path.parent.glob(f".{self.target.path.name}.*.part"):
            with contextlib.suppress(OSError), (left / "activations.npy").open("r+b") as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
