"""One list of dependencies: the environment file, the pins and the imports all agree with pyproject.toml."""

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
DECLARED = {canonicalize_name(Requirement(r).name) for r in [*PROJECT["dependencies"], *EXTRAS["dev"]]}
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


def test_every_import_is_declared():
    """Of lib, tests and notebooks; what a dependency happens to bring along is not relied on."""
    providers = metadata.packages_distributions()
    own = {"lib", "helpers"}
    undeclared = {}
    for path in [p for room in ("lib", "tests", "notebooks") for p in (ROOT / room).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            for name in {name.split(".")[0] for name in names} - own - set(sys.stdlib_module_names):
                if not {canonicalize_name(d) for d in providers.get(name, [name])} & DECLARED:
                    undeclared.setdefault(name, path.name)
    assert not undeclared
