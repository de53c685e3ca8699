"""The digest follows what can change the numbers, and nothing else; and says which file has changed."""

import ast
import json
import os

import nbformat
import pytest

from helpers import tiny
from helpers.tiny import edit
from lib.reporting import staleness


@pytest.fixture
def project(bare):
    return bare


def reached(code, root):
    """Paths in lib of the modules that a cell reaches."""
    return {path.relative_to(root / "lib").as_posix() for path in staleness.modules([code], root)}


def write(root, path, text):
    path = root / "lib" / path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# --- what counts -----------------------------------------------------------------------------------------------------


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
def test_an_edit_is_named(project, name, old, new):
    before = staleness.made_from("tiny", project)
    edit(project / name, old, new)
    assert staleness.changed(before, staleness.made_from("tiny", project)) == [name]


KINDS = [
    "lib/__init__.py",
    "lib/energy/__init__.py",  # on the way
    "lib/energy/objective.py",  # imported
    "lib/common/errors.py",  # imported by what is imported
    "lib/neox/facts.py",  # imported under a magic
    "lib/neox/tables/athletes.csv",  # package data
    "lib/language/neox-tiny/model.safetensors",
    "lib/language/neox-tiny/tokenizer.json",
    "lib/studies/mnist_superposition/affinity.py",  # two levels down
    "claims.yaml",
    "notebooks/deep.ipynb",
]
DEEP = """
%matplotlib inline
from lib.energy.objective import similarity
from lib.language import loading
from lib.studies.mnist_superposition import affinity
""", "%%time\nfrom lib.neox import facts\n"  # fmt: skip


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    """A project with a notebook that reaches every kind of file."""
    root = tiny.project(tmp_path_factory.mktemp("deep") / "project")
    made = tiny.notebook(tiny.NOTEBOOK)
    made.cells += [nbformat.v4.new_code_cell(source) for source in DEEP]
    nbformat.write(made, root / "notebooks" / "deep.ipynb")
    edit(root / "claims.yaml", "study: tiny", "study: deep")
    return root


@pytest.mark.parametrize("name", KINDS)
def test_one_byte_of_every_kind_of_file_counts(deep, name):
    before, path = staleness.made_from("deep", deep), deep / name
    whole = path.read_bytes()
    spoilt = bytearray(whole)
    # A letter in a docstring, a cell, a statement, a table; any byte of weights.
    place = whole.rindex(b"m") if path.suffix in (".py", ".ipynb") else len(whole) // 2
    if name == "claims.yaml":
        place = whole.index(b"The mean") + 1
    if path.suffix == ".ipynb":
        place = whole.index(b"x**2")
    spoilt[place] ^= 1
    try:
        path.write_bytes(spoilt)
        assert staleness.changed(before, staleness.made_from("deep", deep)) == [name]
    finally:
        path.write_bytes(whole)
    assert staleness.made_from("deep", deep) == before


def test_what_does_not_count(project):
    before = staleness.made_from("tiny", project)
    edit(project / "lib" / "pipeline" / "pages.py", "import re\n", "import re  # changed\n")
    edit(project / "lib" / "neox" / "__main__.py", "import argparse\n", "import argparse  # help texts\n")
    edit(project / "claims.yaml", "Medians are better", "Medians are worse")  # a claim of no study
    write(project, "reporting/unused.py", "x = 1\n")
    write(project, "reporting/__pycache__/display.cpython-311.pyc", "x")
    (project / "notebooks" / "tiny.py").write_text("# changed\n")
    path = project / "notebooks" / "tiny.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = 7
            cell.outputs = [nbformat.v4.new_output("stream", text="shown")]
    nbformat.write(notebook, path)
    os.utime(project / "lib" / "reporting" / "display.py")
    assert staleness.made_from("tiny", project) == before


def test_what_came_and_went_is_said_to_have(project):
    before = staleness.made_from("tiny", project)
    write(project, "reporting/table.csv", "1,2\n")
    edit(
        project / "lib" / "reporting" / "display.py",
        "import re\n",
        "import re\nfrom lib.reporting import more\n",
    )
    (project / "lib" / "reporting" / "claims.py").rename(project / "lib" / "reporting" / "more.py")
    assert staleness.changed(before, staleness.made_from("tiny", project)) == [
        "lib/reporting/display.py",
        "lib/reporting/more.py (new)",
        "lib/reporting/table.csv (new)",
        "lib/reporting/claims.py (gone)",
    ]


# --- what is reached -------------------------------------------------------------------------------------------------


@pytest.fixture
def house(tmp_path):
    """A lib of five modules in two rooms."""
    for name in ("", "a/", "b/", "b/c/"):
        write(tmp_path, f"{name}__init__.py", '"""A room."""\n')
    for name in ("a/one", "a/two", "b/three", "b/c/four", "top"):
        write(tmp_path, f"{name}.py", "x = 1\n")
    return tmp_path


ROOM_A = {"__init__.py", "a/__init__.py"}
ROOM_C = {"__init__.py", "b/__init__.py", "b/c/__init__.py"}
ALL = ROOM_A | ROOM_C | {"a/one.py", "a/two.py", "b/three.py", "b/c/four.py", "top.py"}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import lib.a.one", ROOM_A | {"a/one.py"}),
        ("import lib.a.one as o, lib.top", ROOM_A | {"a/one.py", "top.py"}),
        ("from lib.a import one, two as t", ROOM_A | {"a/one.py", "a/two.py"}),
        ("from lib.a.one import x", ROOM_A | {"a/one.py"}),
        ("from lib.a import nonexistent", ROOM_A),
        ("from lib.a import *", ROOM_A | {"a/one.py", "a/two.py"}),
        ("from lib.b.c import four", ROOM_C | {"b/c/four.py"}),
        ("from lib.b.c.four import x", ROOM_C | {"b/c/four.py"}),
        ("from lib import top", {"__init__.py", "top.py"}),
        ("def f():\n    from lib.a import one", ROOM_A | {"a/one.py"}),
        ("%matplotlib inline\nfrom lib.a import one", ROOM_A | {"a/one.py"}),
        ("%%time\nfrom lib.a import one", ROOM_A | {"a/one.py"}),
        ("%time from lib.a import one", ROOM_A | {"a/one.py"}),
        ("%timeit -n 3 import lib.a.one", ALL),  # options are no Python
        ("%%bash\npython -m lib.a.one", ALL),
        ("!python -m lib.a.one", ALL),
        ("%run elsewhere.py", ALL),
        ("x = !ls", ALL),
        ("from lib.a import (one", ALL),  # can't be parsed
        ("import importlib\nimportlib.import_module(name)", ALL),
        ("import importlib\nimportlib.import_module('lib.a.one')", ROOM_A | {"a/one.py"}),
        ("run(['python', '-m', 'lib.a.one'])", ROOM_A | {"a/one.py"}),
        ("run(['python', '-c', 'from lib.a import one'])", ROOM_A | {"a/one.py"}),
        ('"""Prose about lib.a.one, which is elsewhere."""', set()),
        ("print('see lib.a.one')", set()),
        ("import numpy, library.a.one", set()),
    ],
)
def test_what_a_cell_reaches(house, code, found):
    assert reached(code, house) == found


def test_modules_are_found_through_each_other(house):
    write(house, "a/one.py", "def f():\n    import lib.a.two\n")
    write(house, "a/two.py", "from . import five\nfrom ..b.c import four\n")
    write(house, "a/five.py", "from lib.a import one  # a circle\n")
    write(house, "b/__init__.py", "from lib.b import three\n")  # an `__init__` on the way imports too
    assert reached("from lib.a import one", house) == ALL - {"top.py"} | {"a/five.py"}
    write(house, "a/five.py", "not Python at all")
    assert "top.py" in reached("from lib.a import one", house)


def test_data_counts_with_the_modules_beside_it(house):
    write(house, "a/tables/x.csv", "1")
    write(house, "a/tables/deep/y.csv", "1")
    write(house, "a/z.json", "1")
    write(house, "a/tables/__pycache__/y.pyc", "1")
    write(house, "b/tables/w.csv", "1")
    found = {
        path.relative_to(house / "lib").as_posix() for path in staleness.files(["import lib.a.one"], house)
    }
    assert found == ROOM_A | {"a/one.py", "a/tables/x.csv", "a/tables/deep/y.csv", "a/z.json"}


def test_every_lib_module_a_notebook_names_counts():
    cells = [cell.source for cell in tiny.notebook(tiny.NOTEBOOK).cells if cell.cell_type == "code"]
    names = {path.stem for path in staleness.modules(cells)}
    assert {"parameters", "claims", "display", "staleness"} <= names
    assert not {"batch", "pages"} & names, "editing what renders must not rerun what was computed"


@pytest.mark.parametrize(
    "path", sorted((tiny.ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem
)
def test_the_notebooks_reach_what_python_imports(path):
    """Against the imports of every cell, resolved by Python's own finder; and no help texts, pages or other studies."""
    import importlib.util

    cells = [c["source"] for c in staleness.notebook_cells(path) if c["cell_type"] == "code"]
    found = {p.relative_to(tiny.ROOT).as_posix() for p in staleness.modules(cells)}
    for source in cells:
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("lib."):
                for name in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names)):
                    try:
                        spec = importlib.util.find_spec(name)
                    except ModuleNotFoundError:  # a function, not a module
                        continue
                    if spec is not None:
                        assert os.path.relpath(spec.origin, tiny.ROOT) in found, name
    assert not {name for name in found if name.startswith("lib/pipeline") or name.endswith("__main__.py")}
    studies = {
        name.split("/")[2] for name in found if name.startswith("lib/studies/") and name.count("/") > 2
    }
    assert studies <= {path.stem}


def test_sources_of_cells_may_be_lists_or_text(tmp_path):
    cells = [{"cell_type": "code", "source": ["a\n", "b"], "metadata": {}}]
    path = tmp_path / "n.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    assert staleness.notebook_cells(path)[0]["source"] == "a\nb"
