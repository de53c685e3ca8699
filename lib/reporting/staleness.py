"""What makes a report stale: every file that can change what a notebook computes, with its hash.

These are the notebook's cells; the modules of lib that they reach, directly or through each other; the `__init__`s on
the way; the package data (tables, weights) that lie beside those modules; and the study's claims. A report records the
hashes, so that whoever looks later can tell which file has changed. Titles, outputs and times of files do not count.

What can't be read counts as everything: a cell or module that is not Python, a shell line, a magic that runs a file, or
an import by a computed name makes the whole of lib count.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

from lib.common.files import ROOT

_HARMLESS = {
    "matplotlib",
    "config",
    "precision",
    "pprint",
    "autosave",
    "automagic",
}  # line magics that run no code
_TIMERS = {"time", "timeit", "prun", "capture"}  # magics that run the Python after them
_NAME = re.compile(r"lib(?:\.\w+)+")


def made_from(notebook: str, root: Path | None = None) -> dict[str, str]:
    """The SHA-256, by path in the project, of all that can change what notebooks/`notebook`.ipynb shows.

    Of the notebook, the cells count; of the ledger, the study's claims and their sources; of other files, every byte.
    """
    root = root or ROOT
    cells = notebook_cells(root / "notebooks" / f"{notebook}.ipynb")
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    found = {f"notebooks/{notebook}.ipynb": combine([[cell["cell_type"], cell["source"]] for cell in cells])}
    for path in files(code, root):
        found[path.relative_to(root).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
    found["claims.yaml"] = combine(_claims(notebook, root / "claims.yaml"))
    return found


def digest(notebook: str, root: Path | None = None) -> str:
    """One hash over `made_from`."""
    return combine(made_from(notebook, root))


def changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """The keys whose values differ, then those that are new, then those that are gone, each marked as such."""
    differ = sorted(key for key in before.keys() & now.keys() if before[key] != now[key])
    new, gone = sorted(now.keys() - before.keys()), sorted(before.keys() - now.keys())
    return [*differ, *(f"{key} (new)" for key in new), *(f"{key} (gone)" for key in gone)]


def combine(parts: object) -> str:
    """SHA-256 of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def notebook_cells(path: Path) -> list[dict]:
    """The cells of an .ipynb, their sources as text; plain JSON, as this runs before anything else does."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def files(code: Iterable[str], root: Path | None = None) -> list[Path]:
    """The files of lib on which these sources (of cells) depend: modules, `__init__`s on the way, package data."""
    root = root or ROOT
    found = modules(code, root)
    folders = {path.parent for path in found} - {root / "lib"}
    return sorted({*found, *(path for folder in folders for path in _data(folder))})


def modules(code: Iterable[str], root: Path | None = None) -> list[Path]:
    """The Python files of lib that these sources import, directly or through each other, in order of path."""
    root = root or ROOT
    found: set[Path] = set()
    waiting = set().union(*(_reached(_python(source), "", root) for source in code))
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        package = ".".join(path.relative_to(root).with_suffix("").parts[:-1])
        waiting |= _reached(path.read_text(encoding="utf-8"), package, root)
    return sorted(found)


def _data(folder: Path) -> list[Path]:
    """What lies in a package beside its modules, and in folders of it that hold no modules."""
    inner = [path for path in folder.iterdir() if path.is_dir() and not any(path.rglob("*.py"))]
    found = [*folder.iterdir(), *(path for place in inner for path in place.rglob("*"))]
    return [path for path in found if path.is_file() and path.suffix not in (".py", ".pyc")]


def _claims(study: str, path: Path) -> list:
    """The study's own claims of a ledger and what they cite; of a malformed ledger, its text."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    try:
        ledger = yaml.safe_load(text)
        ours = [claim for claim in ledger["claims"] if claim["study"] == study]
        return [ours, [ledger["sources"][source] for source in sorted({claim["source"] for claim in ours})]]
    except (yaml.YAMLError, TypeError, KeyError):
        return [text]


def _python(cell: str) -> str | None:
    """The Python of a cell; None if a magic or shell line may run what can't be read."""
    lines = []
    for i, line in enumerate(cell.splitlines()):
        indent, text = line[: len(line) - len(line.lstrip())], line.strip()
        cell_magic = (
            re.match(r"%%(\w+)", text) if not any(part.strip() for part in cell.splitlines()[:i]) else None
        )
        line_magic = re.match(r"%(\w+)\s*(.*)", text)
        if cell_magic:
            if cell_magic[1] not in _TIMERS:
                return None
            lines.append("pass")
        elif line_magic and line_magic[1] in _HARMLESS:
            lines.append(f"{indent}pass")
        elif line_magic and line_magic[1] in _TIMERS:
            lines.append(f"{indent}{line_magic[2] or 'pass'}")
        else:
            lines.append(line)  # shell lines and other magics are not Python: the cell can't be parsed
    return "\n".join(lines)


def _reached(source: str | None, package: str, root: Path) -> set[Path]:
    """The files of lib that a source imports itself; all of them if it can't be read."""
    try:
        tree = ast.parse(source) if source is not None else None
    except (SyntaxError, ValueError):
        tree = None
    if tree is None:
        return set((root / "lib").rglob("*.py"))
    found: set[Path] = set()
    texts = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}  # docstrings
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found |= _files(alias.name, root)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                found |= _files(f"{module}.{alias.name}", root)
        elif isinstance(node, ast.Call) and _name(node.func) in ("import_module", "__import__", "run_module"):
            if not (node.args and isinstance(node.args[0], ast.Constant)):
                return set((root / "lib").rglob("*.py"))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in texts:
            found |= _named(node.value, root)
    return found


def _name(function: ast.expr) -> str:
    return getattr(function, "attr", getattr(function, "id", ""))


def _named(text: str, root: Path) -> set[Path]:
    """What is named by a string handed to another process: `lib.a.b` (after -m), or code that imports it."""
    if _NAME.fullmatch(text):
        return _files(text, root) | _files(f"{text}.__main__", root)
    if re.search(r"^\s*(from|import) lib\b", text, re.MULTILINE):
        return _reached(text, "", root)
    return set()


def _files(name: str, root: Path) -> set[Path]:
    """The file of a dotted name, the longest prefix of it that is one, and the `__init__`s on the way; "*" is all."""
    first, *rest = name.split(".")
    if first != "lib":
        return set()
    folder, found = root / "lib", {root / "lib" / "__init__.py"}
    for part in rest:
        if part == "*":
            return found | set(folder.glob("*.py"))
        if (folder / part).is_dir():
            folder = folder / part
            found.add(folder / "__init__.py")
            continue
        if (folder / f"{part}.py").is_file():
            found.add(folder / f"{part}.py")
        break
    return {path for path in found if path.is_file()}
