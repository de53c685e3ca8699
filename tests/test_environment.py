"""One list of dependencies, in three parts; the environment file, the pins and the imports agree with it."""

import ast
import re
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(r).name) for r in requirements} - {PROJECT["name"]}


# What may be imported where: the dictionaries install alone, the notebooks without the tests.
CORE = names(PROJECT["dependencies"])
STUDIES = CORE | names(EXTRAS["studies"])
DECLARED = STUDIES | names(EXTRAS["dev"])
ELSEWHERE = [ROOT / "tests" / "helpers" / "outsiders.py"]  # peers.txt lists what it imports
ROOMS = {  # the first that a file is in counts
    "lib/common": CORE,
    "lib/dictionaries": CORE,
    "lib": STUDIES,
    "notebooks": STUDIES,
    "tests": DECLARED,
}
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if line and not line.startswith("#")
)


def test_conda_and_binder_get_the_same_environment():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["name"] == PROJECT["name"]
    *conda, pip = environment["dependencies"]
    assert pip["pip"] == ["-c constraints.txt", "-e .[dev]"], "pip reads the one list, with the pins"
    assert conda == ["python=3.11", "pip"], "and conda adds nothing but python itself"
    assert PROJECT["requires-python"] == ">=3.11"


def test_the_makefile_installs_that_too():
    makefile = (ROOT / "Makefile").read_text()
    assert "install --quiet -c constraints.txt -e .[dev]" in makefile
    assert "READY): pyproject.toml constraints.txt" in makefile


@pytest.mark.parametrize("name", sorted(DECLARED))
def test_every_dependency_is_pinned_to_what_is_tested(name):
    assert name in PINS
    assert metadata.version(name).split("+")[0] == PINS[name]


def test_pins_are_plain():
    assert all(re.fullmatch(r"[a-z0-9-]+", name) for name in PINS), "canonical names"
    assert not any("+" in pin for pin in PINS.values()), "no local builds"
    assert canonicalize_name(PROJECT["name"]) not in PINS


def test_the_three_parts_have_nothing_twice_and_the_last_has_all():
    parts = [names(PROJECT["dependencies"]), names(EXTRAS["studies"]), names(EXTRAS["dev"])]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert "superposition-studies[studies]" in EXTRAS["dev"]
    assert not CORE & {"jupyterlab", "snakemake", "transformers", "transformer-lens", "pandas", "matplotlib"}


def imported(path: Path) -> set[str]:
    """Packages that a file imports anywhere in it, but the standard library and our own."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module)
    return {name.split(".")[0] for name in found} - {"lib", "helpers"} - set(sys.stdlib_module_names)


def test_every_import_is_declared_where_it_is_needed():
    """What a dependency happens to bring along is not relied on; lib.dictionaries asks for nothing of the studies."""
    providers = metadata.packages_distributions()
    seen, undeclared = set(), {}
    for room, declared in ROOMS.items():
        for path in sorted(set((ROOT / room).rglob("*.py")) - seen):
            seen.add(path)
            for name in imported(path) if path not in ELSEWHERE else ():
                if not {canonicalize_name(d) for d in providers.get(name, [name])} & declared:
                    undeclared.setdefault(name, str(path.relative_to(ROOT)))
    assert not undeclared


def test_the_core_imports_none_of_the_studies():
    """Nor by way of other rooms."""
    for room in ("common", "dictionaries"):
        for path in (ROOT / "lib" / room).rglob("*.py"):
            for name in re.findall(r"^\s*(?:from|import) lib\.(\w+)", path.read_text(encoding="utf-8"), re.M):
                assert name in ("common", "dictionaries"), (path, name)


def test_no_core_dependency_is_idle():
    used = set().union(
        *(
            imported(path)
            for room in ("common", "dictionaries")
            for path in (ROOT / "lib" / room).rglob("*.py")
        )
    )
    providers = metadata.packages_distributions()
    assert CORE == {canonicalize_name(d) for name in used for d in providers[name]} & CORE


def test_the_one_file_that_runs_elsewhere_is_the_peers():
    assert all(
        path.is_file() and "environment of the peers" in path.read_text(encoding="utf-8")
        for path in ELSEWHERE
    )
