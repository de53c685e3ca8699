"""What the tests share: the project in miniature, built once, and copies of it to spoil."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
os.environ.setdefault("MPLBACKEND", "agg")

import tiny

BIN = Path(sys.executable).parent


def run(project: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess:
    """A command of the environment in a project, its lib before any other."""
    environment = {**os.environ, "PYTHONPATH": str(project), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, env=environment)
    if check and done.returncode:
        raise AssertionError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return done


def snakemake(project: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """Snakemake as the Makefile calls it."""
    return run(project, "snakemake", "--cores", "all", *arguments, check=check)


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The miniature project with its quick batch done; for reading only."""
    project = tiny.project(tmp_path_factory.mktemp("built") / "project")
    snakemake(project)
    return project


@pytest.fixture
def spoilable(built, tmp_path) -> Path:
    """A copy of the built project, to edit."""
    return Path(shutil.copytree(built, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """A project that has not run, which lib.batch, lib.claims and lib.sources take for theirs."""
    project = tiny.project(tmp_path / "project")
    from lib import batch, claims, pages, sources

    for module in (batch, claims, pages, sources):
        monkeypatch.setattr(module, "ROOT", project)
    return project
