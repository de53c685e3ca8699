"""Every study is a pair in step, executed, and clean."""

import json
import re
import shutil
from pathlib import Path

import jupytext
import nbformat
import pytest

from helpers import tiny
from lib.pipeline import markup

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "notebooks"
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
