"""The rule of the rooms (CONTRIBUTING.md): who may import whom, how large a room is, where a thing's tests are."""

import ast
import re
from graphlib import CycleError, TopologicalSorter

import pytest

from helpers.tiny import ROOT
from lib.reporting import staleness

LIB = ROOT / "lib"
MODULES = sorted(LIB.rglob("*.py"))
ROOMS = {  # a room -> the rooms that it may import
    "common": set(),
    "networks": {"common"},
    "dictionaries": {"common"},
    "energy": {"common"},
    "language": {"common"},
    "neox": {"language", "common"},
    "probes": {"neox", "language", "common"},
    "reporting": {"common"},
    "pipeline": {"reporting", "common"},
}
STUDIES = {path.stem for path in (ROOT / "notebooks").glob("*.py")}


def name(path):
    """`lib.energy.objective`, `lib.energy` for its `__init__`."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(path):
    """The modules of lib that a file imports itself, with no `__init__` on the way; and the lines it does so in."""
    found = {}
    known = {name(module) for module in MODULES}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: imports are absolute"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for each in names:
            if each.split(".")[0] == "lib":
                found[each if each in known else each.rpartition(".")[0]] = node.lineno
    return found


def room(module):
    """`energy` of lib.energy.objective; `studies/speed` of lib.studies.speed.peers."""
    parts = module.split(".")
    return "/".join(parts[1:3]) if parts[1:2] == ["studies"] else parts[1] if len(parts) > 1 else ""


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_room_imports_only_what_it_may(path):
    own = room(name(path))
    for module, line in imports(path).items():
        other = room(module)
        if other == own or not own:
            continue
        if own.startswith("studies"):
            allowed = other in ROOMS and other != "pipeline"
        else:
            allowed = other in ROOMS[own]
        assert allowed, f"{path.relative_to(ROOT)}, line {line}: {own} may not import {module}"


def test_probes_know_of_neox_the_facts_alone():
    for path in (LIB / "probes").glob("*.py"):
        assert {m for m in imports(path) if room(m) == "neox"} <= {"lib.neox.facts"}, path.name


def test_there_are_no_circles():
    graph = {name(path): set(imports(path)) - {name(path)} for path in MODULES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_every_folder_is_a_known_room():
    folders = {path.name for path in LIB.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert folders == {*ROOMS, "studies"}
    studies = {path.name for path in (LIB / "studies").iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert studies == STUDIES, "a folder for each notebook, and a notebook for each folder"
    assert [path.name for path in LIB.glob("*.py")] == ["__init__.py"], "modules are in rooms"
    assert {len(path.relative_to(LIB).parts) for path in MODULES} <= {1, 2, 3}
    deep = [path for path in MODULES if len(path.relative_to(LIB).parts) == 3]
    assert all(path.relative_to(LIB).parts[0] == "studies" for path in deep)


@pytest.mark.parametrize("folder", sorted({path.parent for path in MODULES}), ids=lambda path: path.name)
def test_a_room_is_small_and_has_a_map(folder):
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    assert len(modules) <= 12
    tree = ast.parse((folder / "__init__.py").read_text())
    first = [line.split() for line in (ast.get_docstring(tree) or "").splitlines() if line.strip()]
    named = {words[0] for words in first if words}
    inner = {path.name for path in folder.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    wanted = inner if folder == LIB else {*modules} - {"__main__"}
    if folder != LIB / "studies":
        assert not (missing := wanted - named), f"its docstring leaves out {missing}"
    if folder != LIB / "dictionaries":
        assert len(tree.body) == 1, "an `__init__` holds its docstring alone, so that digests stay fine"


def test_nothing_imports_the_pipeline():
    for path in [*MODULES, *(ROOT / "notebooks").glob("*.py")]:
        if room(name(path)) != "pipeline":
            assert not any(room(module) == "pipeline" for module in imports(path)), path


def test_a_study_keeps_evidence():
    for study in STUDIES:
        assert (LIB / "studies" / study / "evidence.py").is_file(), study


def test_tests_mirror_lib():
    """Folder for folder; a test file is called after a module, or after one and what of it is tested.

    Two are about what lib.dictionaries exports as a whole: how it looks, and what others do with it.
    """
    whole = {"dictionaries/test_interface.py", "dictionaries/test_outsiders.py"}
    for path in (ROOT / "tests").rglob("test_*.py"):
        inside = path.relative_to(ROOT / "tests")
        if len(inside.parts) == 1 or inside.as_posix() in whole:
            continue
        folder = LIB / inside.parent
        assert folder.is_dir(), inside
        modules = {module.stem.strip("_") for module in folder.glob("*.py")}
        subject = path.stem.removeprefix("test_")
        assert any(subject == module or subject.startswith(f"{module}_") for module in modules), inside


def test_the_arrows_are_those_of_contributing():
    rows = re.findall(r"^\| `(\w+)` \|[^|]*\| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.M)
    allowed = {own: set(re.sub(r" \(.*?\)", "", other).split(", ")) - {"nothing"} for own, other in rows}
    assert allowed == ROOMS


def test_the_digest_and_the_layout_see_the_same_imports():
    for path in MODULES:
        package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
        seen = {name(p) for p in staleness._reached(path.read_text(), package, ROOT)}
        assert set(imports(path)) <= seen, path
