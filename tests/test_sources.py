"""The digest follows what could change the numbers, and nothing else."""

import json
import os

import nbformat
import pytest
import tiny

from lib import sources


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
        ("lib/report.py", "import re\n", "import re  # changed\n"),
        ("lib/parameters.py", "import re\n", "import re  # changed\n"),
        ("claims.yaml", "The mean is *larger*", "The mean is *much larger*"),
    ],
)
def test_what_counts(project, name, old, new):
    before = sources.digest("tiny", project)
    edit(project / name, old, new)
    assert sources.digest("tiny", project) != before


def test_what_does_not_count(project):
    before = sources.digest("tiny", project)
    edit(project / "lib" / "pages.py", "import re\n", "import re  # changed\n")
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
    os.utime(project / "lib" / "report.py")
    assert sources.digest("tiny", project) == before


def test_modules_are_found_through_each_other(project):
    (project / "lib" / "one.py").write_text("def f():\n    import lib.two\n")
    (project / "lib" / "two.py").write_text("from . import three\nfrom lib.four import x\n")
    (project / "lib" / "three.py").write_text("from lib import one  # a circle\n")
    (project / "lib" / "four.py").write_text("x = 1\n")
    found = sources.modules(["%matplotlib inline\n!ls\nfrom lib import one as o, nonexistent"], project)
    assert [path.stem for path in found] == ["four", "one", "three", "two"]


def test_every_lib_module_a_notebook_names_counts():
    cells = [cell.source for cell in tiny.notebook(tiny.NOTEBOOK).cells if cell.cell_type == "code"]
    names = {path.stem for path in sources.modules(cells)}
    assert {"parameters", "claims", "report", "sources"} <= names
    assert not {"batch", "pages"} & names, "editing what renders must not rerun what was computed"


def test_sources_of_cells_may_be_lists_or_text(tmp_path):
    cells = [{"cell_type": "code", "source": ["a\n", "b"], "metadata": {}}]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert sources.notebook_cells(path)[0]["source"] == "a\nb"
