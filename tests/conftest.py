"""What the tests share: the project in miniature, built once, and copies of it to spoil; `--shapes`."""

import os
import shutil
from pathlib import Path

import pytest

os.environ.setdefault("MPLBACKEND", "agg")

from helpers import tiny


def pytest_addoption(parser):
    parser.addoption(
        "--shapes",
        action="store_true",
        help="check the shapes in the annotations of lib at every call (jaxtyping and beartype)",
    )


def pytest_configure(config):
    if config.getoption("--shapes"):
        from helpers import shapes

        shapes.install()


@pytest.fixture(scope="session")
def built(tmp_path_factory) -> Path:
    """The miniature project with its quick batch done; for reading only."""
    project = tiny.project(tmp_path_factory.mktemp("built") / "project")
    tiny.snakemake(project)
    return project


@pytest.fixture
def spoilable(built, tmp_path) -> Path:
    """A copy of the built project, to edit."""
    return Path(shutil.copytree(built, tmp_path / "project", ignore=shutil.ignore_patterns("__pycache__")))


@pytest.fixture
def bare(tmp_path, monkeypatch) -> Path:
    """A project that has not run, which the modules of lib.reporting and lib.pipeline take for theirs."""
    project = tiny.project(tmp_path / "project")
    from lib.pipeline import batch, pages
    from lib.reporting import claims, display, staleness

    for module in (batch, claims, pages, staleness, display):
        monkeypatch.setattr(module, "ROOT", project)
    return project
