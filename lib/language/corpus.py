"""Text for the language model: novels and Python in four languages, and an embedded stand-in asked for by name."""

import gzip
import hashlib
import json
import os
import sysconfig
import tokenize
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import sklearn.datasets

from lib.common.errors import DataError

NAMES = ("corpus", "embedded")
SPLITS = ("train", "valid")
LENGTH = 8000  # characters of a document at most

_SHA256 = {
    "train": "eab74b85973657fb0534a10cef89e6ba03bc10fd792139ed0680712e65bb9381",
    "valid": "4f49edb9be6bfc11c56f385ed2c19118da27ae3f1c9f1305d1f63e5e3334ffea",
}
# The modules of the corpus's validation split: what "embedded" trains on is then never what "corpus" validates on.
VALID_MODULES = (
    "asyncio/base_events.py",
    "asyncio/mixins.py",
    "ctypes/macholib/framework.py",
    "distutils/archive_util.py",
    "distutils/command/__init__.py",
    "email/__init__.py",
    "encodings/big5hkscs.py",
    "encodings/cp1256.py",
    "encodings/cp861.py",
    "encodings/gb18030.py",
    "encodings/tis_620.py",
    "ftplib.py",
    "importlib/__init__.py",
    "importlib/resources/readers.py",
    "json/encoder.py",
    "lib2to3/fixes/fix_isinstance.py",
    "lib2to3/fixes/fix_nonzero.py",
    "multiprocessing/connection.py",
    "multiprocessing/popen_forkserver.py",
    "multiprocessing/util.py",
    "numbers.py",
    "opcode.py",
    "re/_compiler.py",
    "reprlib.py",
    "sqlite3/__init__.py",
    "timeit.py",
    "turtledemo/lindenmayer.py",
    "unittest/__init__.py",
    "warnings.py",
)
_VALID_DESCRIPTIONS = ("diabetes.rst", "kddcup99.rst", "olivetti_faces.rst")
_LEFT_OUT = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Document:
    """A piece of one work, of at most `LENGTH` characters; `source` is its language."""

    source: str
    work: str
    text: str


def load(name: str, split: str) -> list[Document]:
    """The documents of one split, "train" or "valid", of a corpus; no work is in both.

    "corpus": `$DATA_DIR/corpus/<split>.jsonl.gz`, checked against its SHA-256 (english, german, polish, python).
    "embedded": this Python's standard library and scikit-learn's descriptions of data sets (python, english); it
    needs no data, and its text differs between versions of the two.
    Raises `DataError` if the file is missing or damaged, and `ValueError` on any other name or split.
    """
    if name not in NAMES:
        raise ValueError(f"corpus {name!r} is not known; known are {', '.join(NAMES)}")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is not known; known are {', '.join(SPLITS)}")
    return _embedded(split) if name == "embedded" else _corpus(split)


def sha256(documents: Iterable[Document]) -> str:
    """One hash over every source, work and text, in this order."""
    digest = hashlib.sha256()
    for document in documents:
        digest.update(json.dumps([document.source, document.work, document.text]).encode())
    return digest.hexdigest()


def cut(text: str, length: int = LENGTH) -> list[str]:
    """Pieces of at most `length` characters that join to `text`, cut at the ends of lines if there are any."""
    pieces, start = [], 0
    while start < len(text):
        end = start + length
        if end < len(text):
            end = text.rfind("\n", start, end) + 1 or end
        pieces.append(text[start:end])
        start = end
    return pieces


def _corpus(split: str) -> list[Document]:
    folder = os.environ.get("DATA_DIR")
    path = Path(folder or "").expanduser() / "corpus" / f"{split}.jsonl.gz"
    if not folder or not path.is_file():
        where = path if folder else f"$DATA_DIR/corpus/{path.name}, but DATA_DIR is not set"
        raise DataError(
            f"corpus: the file {path.name} is missing; looked for {where}. There is no public download: set "
            'DATA_DIR to the folder that holds corpus/, or choose corpus "embedded", which works everywhere.'
        )
    packed = path.read_bytes()
    if hashlib.sha256(packed).hexdigest() != _SHA256[split]:
        raise DataError(
            f"{path} is damaged or another file: its SHA-256 is not that of the corpus. There is no public "
            'download: copy it again, or choose corpus "embedded", which works everywhere.'
        )
    # Bytes, as lines of text would also end at the novels' and modules' rarer separators.
    rows = map(json.loads, gzip.decompress(packed).splitlines())
    return [Document(row["source"], row["work"], row["text"]) for row in rows]


def _embedded(split: str) -> list[Document]:
    library = Path(sysconfig.get_path("stdlib"))
    descriptions = Path(sklearn.datasets.__file__).parent / "descr"
    works = [("python", path.relative_to(library)) for path in sorted(library.rglob("*.py"))]
    works = [(source, path) for source, path in works if not _LEFT_OUT & set(path.parts)]
    works += [("english", path.relative_to(descriptions)) for path in sorted(descriptions.glob("*.rst"))]
    documents = []
    for source, path in works:
        held_out = path.as_posix() in (VALID_MODULES if source == "python" else _VALID_DESCRIPTIONS)
        if held_out != (split == "valid"):
            continue
        text = _read(library / path) if source == "python" else (descriptions / path).read_text("utf-8")
        documents += [Document(source, path.as_posix(), piece) for piece in cut(text) if piece.strip()]
    return documents


def _read(path: Path) -> str:
    """A module's text by the encoding that it declares; empty if it has none that is readable."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError, OSError):
        return ""
