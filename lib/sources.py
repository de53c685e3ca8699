"""What a result was made from: one hash over a notebook, the lib modules it imports and its claims."""

import ast
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent


def digest(notebook: str, root: Path | None = None) -> str:
    """SHA-256 over the cells of notebooks/`notebook`.ipynb, what they import of lib, and its claims.

    Outputs, execution counts and file times do not count, nor do the claims of other studies: only what
    could change what the notebook shows does.
    """
    root = root or ROOT
    cells = notebook_cells(root / "notebooks" / f"{notebook}.ipynb")
    code = [cell["source"] for cell in cells if cell["cell_type"] == "code"]
    parts = [[cell["cell_type"], cell["source"]] for cell in cells]
    parts += [[path.name, path.read_text(encoding="utf-8")] for path in modules(code, root)]
    return combine([*parts, _claims(notebook, root / "claims.yaml")])


def combine(parts: object) -> str:
    """SHA-256 of plain values, independent of the order of keys."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def notebook_cells(path: Path) -> list[dict]:
    """The cells of an .ipynb, their sources as text; plain JSON, as this runs before anything else does."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in cells]


def modules(code: Iterable[str], root: Path | None = None) -> list[Path]:
    """The files of lib that these sources import, directly or through each other, in order of name."""
    root = root or ROOT
    waiting = set().union(*(_imported(source) for source in code))
    found: dict[str, Path] = {}
    while waiting:
        name = waiting.pop()
        path = root / "lib" / f"{name}.py"
        if name not in found and path.exists():
            found[name] = path
            waiting |= _imported(path.read_text(encoding="utf-8"))
    return [found[name] for name in sorted(found)]


def _claims(study: str, path: Path) -> list:
    """The study's own claims of a ledger and what they cite; of one that is not as it should be, its text."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    try:
        ledger = yaml.safe_load(text)
        ours = [claim for claim in ledger["claims"] if claim["study"] == study]
        return [ours, [ledger["sources"][source] for source in sorted({claim["source"] for claim in ours})]]
    except (yaml.YAMLError, TypeError, KeyError):
        return [text]


def _imported(source: str) -> set[str]:
    # Magics and shell lines are no Python; they can't import lib either.
    lines = ["pass" if line.lstrip().startswith(("%", "!")) else line for line in source.splitlines()]
    try:
        tree = ast.parse("\n".join(lines))
    except SyntaxError:
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("lib.")}
        elif isinstance(node, ast.ImportFrom) and node.module == "lib":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib."):
            names.add(node.module.split(".")[1])
        elif isinstance(node, ast.ImportFrom) and node.level == 1:
            names |= {node.module.split(".")[0]} if node.module else {alias.name for alias in node.names}
    return names
