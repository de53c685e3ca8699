"""The digest follows what could change the numbers, and nothing else."""

import json
import os

import nbformat
import pytest

from helpers import tiny
from lib.reporting import digest


def edit(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.fixture
def project(bare):
    return bare


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("notebooks/tiny.ipynb", "x**2", "x**3"),
        ("notebooks/tiny.ipynb", "The curve rises", "The curve climbs"),
        ("lib/reporting/display.py", "import re\n", "import re  # changed\n"),
        ("lib/reporting/parameters.py", "import re\n", "import re  # changed\n"),
        ("claims.yaml", "The mean is *larger*", "The mean is *much larger*"),
    ],
)
def test_what_counts(project, name, old, new):
    before = digest.made_from("tiny", project)
    edit(project / name, old, new)
    assert digest.changed(before, digest.made_from("tiny", project)) == [name]


def test_what_does_not_count(project):
    before = digest.made_from("tiny", project)
    edit(project / "lib" / "pipeline" / "pages.py", "import re\n", "import re  # changed\n")
    edit(project / "claims.yaml", "Medians are better", "Medians are worse")  # a claim of no study
    (project / "lib" / "unused.py").write_text("x = 1\n")
    (project / "notebooks" / "tiny.py").write_text("# changed\n")
    path = project / "notebooks" / "tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 7
            cell.outputs = [nbformat.v4.new_output("stream", text="shown")]
    nbformat.write(notebook, path)
    os.utime(project / "lib" / "reporting" / "display.py")
    assert digest.made_from("tiny", project) == before


def test_modules_are_found_through_each_other(project):
    (project / "lib" / "one.py").write_text("def f():\n    import lib.two\n")
    (project / "lib" / "two.py").write_text("from . import three\nfrom lib.four import x\n")
    (project / "lib" / "three.py").write_text("from lib import one  # a circle\n")
    (project / "lib" / "four.py").write_text("x = 1\n")
    found = digest.modules(["%matplotlib inline\nfrom lib import one as o, nonexistent"], project)
    assert [path.stem for path in found] == ["__init__", "four", "one", "three", "two"]


def test_every_lib_module_a_notebook_names_counts():
    cells = [cell.source for cell in tiny.notebook(tiny.NOTEBOOK).cells if cell.cell_type == "code"]
    names = {path.stem for path in digest.modules(cells)}
    assert {"parameters", "claims", "display", "digest"} <= names
    assert not {"batch", "pages"} & names, "editing what renders must not rerun what was computed"


def test_sources_of_cells_may_be_lists_or_text(tmp_path):
    cells = [{"cell_type": "code", "source": ["a\n", "b"], "metadata": {}}]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert digest.notebook_cells(path)[0]["source"] == "a\nb"
