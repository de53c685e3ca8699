"""Every study is a pair in step, executed, and clean."""

import ast
import io
import json
import re
import shutil
import tokenize
from pathlib import Path

import jupytext
import nbformat
import pytest

from helpers import tiny
from lib.pipeline import markup

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
STRINGS = (tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING))
NAMES = sorted({path.stem for path in FOLDER.iterdir() if path.suffix in (".py", ".ipynb")})


def test_jupytext_pairs_the_notebooks_and_nothing_else():
    config = jupytext.config.load_jupytext_config(str(FOLDER / "x.ipynb"))
    assert config.default_formats(str(FOLDER / "x.ipynb")) == "ipynb,py:percent"
    assert jupytext.config.load_jupytext_config(str(ROOT / "reports" / "full" / "x.ipynb")) is None


@pytest.mark.parametrize("name", NAMES)
def test_pair_is_in_step(name):
    def cells(path):
        assert path.exists(), f"{name} is no pair: there is no {path.name}; run: jupytext --sync"
        read = jupytext.read(path)
        return [(c.cell_type, c.source.strip(), c.metadata.get("tags", [])) for c in read.cells if c.source]

    script, notebook = cells(FOLDER / f"{name}.py"), cells(FOLDER / f"{name}.ipynb")
    for number, (one, other) in enumerate(zip(script, notebook, strict=False), 1):
        assert one == other, f"cell {number} of {name} differs; run: jupytext --sync notebooks/{name}.py"
    assert len(script) == len(notebook)


@pytest.mark.parametrize("name", NAMES)
def test_notebook_is_executed_and_clean(name):
    path = FOLDER / f"{name}.ipynb"
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code" and cell.source.strip()]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1)), "run all, in order"
    assert "widgets" not in notebook.metadata and "papermill" not in notebook.metadata
    for cell in code:
        for out in cell.outputs:
            markup.output(out, [], markup.machine_paths())
    text = re.sub(r"data:image[^\"\\]*", "", json.dumps(notebook))
    assert not [found for found in markup.machine_paths() if found in text]


@pytest.mark.parametrize("name", NAMES)
def test_notebook_has_the_shape_of_a_study(name):
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.cells[0].cell_type == "markdown" and notebook.cells[0].source.startswith("# ")
    assert code[0].metadata.get("tags") == ["parameters"]
    assert code[1].metadata.get("tags") == ["check-parameters"]


def code_cells(name):
    notebook = jupytext.read(FOLDER / f"{name}.py")
    return [
        (number, cell.source) for number, cell in enumerate(notebook.cells, 1) if cell.cell_type == "code"
    ]


def python(source):
    """A cell without its magics and shell lines."""
    return "\n".join("pass" if line.lstrip()[:1] in ("%", "!") else line for line in source.splitlines())


@pytest.mark.parametrize("name", NAMES)
def test_no_cell_is_long(name):
    lines = {
        number: sum(bool(line.strip()) for line in text.splitlines()) for number, text in code_cells(name)
    }
    long = [f"cell {number}: {n}" for number, n in lines.items() if n > 25]
    assert not long, f"{name}, lines of code; what is over 25 moves to lib/studies/{name}: {', '.join(long)}"


def crowded(source):
    """Lines of captions and alt texts that have more than one sentence: (line, text).

    A text that fits on one line may have several, as ruff would join them; so each piece of a longer one counts.
    """
    calls = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("figure", "table")
    ]
    texts = [
        (node.lineno, node.end_lineno)
        for call in calls
        for node in ast.walk(call)
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))
    ]
    lines = source.splitlines()
    long = [(a, b) for a, b in texts if b > a or len(lines[a - 1]) > 110]
    return [
        (token.start[0], token.string)
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type in STRINGS
        and any(a <= token.start[0] <= b for a, b in long)
        and re.search(r"[.!?] +[A-Z]", token.string.rstrip("\"' "))
    ]


@pytest.mark.parametrize("name", NAMES)
def test_captions_have_a_sentence_on_a_line(name):
    """So that a change of one sentence is a change of one line."""
    found = [
        f"cell {number}, line {line}: {text[:60]}"
        for number, source in code_cells(name)
        for line, text in crowded(python(source))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        (f'display.figure(fig, "One{"." * 100} Two.", "Alt")', 1),
        ('display.figure(fig, ("One. "\n"Two."), f"A {x}. "\nf"B. C.")', 1),
        ('display.figure(fig, (\n"One. Two. "\n"Three."),\n"Alt. It fits.")', 1),
        (f'display.table(t, "One{"." * 100} 1.5 a. m. and $x. y$ (e.g. b).")', 0),
        ('display.table(t, "One. Two.")', 0),
        (f'print("One{"." * 100} Two.")', 0),
    ],
)
def test_what_is_a_crowded_caption(source, found):
    assert len(crowded(source)) == found


def test_jupyterlab_keeps_a_pair_in_step(tmp_path):
    """As `make lab` has it: opened from the root, saved in the browser, both files change."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    shutil.copy(FOLDER / "jupytext.toml", folder)
    manager = jupytext.TextFileContentsManager(root_dir=str(tmp_path))
    notebook = tiny.notebook(tiny.NOTEBOOK)
    manager.save(
        {"type": "notebook", "content": notebook, "path": "notebooks/tiny.ipynb"}, "notebooks/tiny.ipynb"
    )
    script = folder / "tiny.py"
    assert '# %% tags=["parameters"]\nunits = 4' in script.read_text()
    script.write_text(script.read_text().replace("units = 4", "units = 5"))
    opened = manager.get("notebooks/tiny.ipynb", content=True)["content"]
    assert "units = 5" in opened["cells"][1]["source"], "what was edited in the script is what opens"
    (tmp_path / "reports").mkdir()
    manager.save(
        {"type": "notebook", "content": notebook, "path": "reports/tiny.ipynb"}, "reports/tiny.ipynb"
    )
    assert not (tmp_path / "reports" / "tiny.py").exists(), "a report is no pair"
