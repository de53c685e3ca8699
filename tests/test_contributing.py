"""What CONTRIBUTING says is so: its skeleton of a study runs to a page, and its map is the one that is asserted."""

import re
import shutil
from pathlib import Path

import pytest
import yaml

from helpers import tiny
from lib.pipeline import pages

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
# By file: the first line of a block says which.
BLOCKS = dict(re.findall(r"^```(?:python|yaml)\n# (\S+)\n(.*?)^```", TEXT, re.S | re.M))


@pytest.fixture(scope="module")
def skeleton(tmp_path_factory) -> Path:
    """The miniature project with the study that CONTRIBUTING spells out, not yet run."""
    blocks = dict(BLOCKS)
    batches, ledger = (yaml.safe_load(blocks.pop(name)) for name in ("batches.yaml", "claims.yaml"))
    project = tiny.project(tmp_path_factory.mktemp("skeleton") / "project", batches)
    theirs = {
        "sources": tiny.CLAIMS["sources"] | ledger["sources"],
        "claims": tiny.CLAIMS["claims"] + ledger["claims"],
    }
    (project / "claims.yaml").write_text(yaml.safe_dump(theirs, sort_keys=False))
    for name, text in blocks.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "notebooks" / "jupytext.toml", project / "notebooks")
    return project


def test_every_file_of_a_study_is_there():
    rooms = {Path(name).parts[0] for name in BLOCKS}
    assert rooms == {"claims.yaml", "batches.yaml", "lib", "tests", "notebooks"}
    assert len(re.findall(r"^```(?:python|yaml)$", TEXT, re.M)) == len(BLOCKS), "each block names its file"


@pytest.mark.pipeline
def test_the_evidence_of_the_skeleton_is_under_test(skeleton):
    command = ["pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", "tests"]
    assert "2 passed" in tiny.run(skeleton, *command).stdout
    evidence = skeleton / "lib" / "studies" / "random_directions" / "evidence.py"
    right = evidence.read_text()
    evidence.write_text(right.replace("(largest[256], largest[3])", "(largest[3], largest[256])"))
    assert "2 failed" in tiny.run(skeleton, *command, check=False).stdout, "values and control, swapped"
    evidence.write_text(right)


@pytest.mark.pipeline
def test_the_skeleton_runs_to_a_page(skeleton):
    tiny.run(skeleton, "jupytext", "--sync", "notebooks/random_directions.py")
    tiny.snakemake(skeleton)
    study = pages.read(skeleton / "reports" / "quick" / "random_directions.ipynb")
    (verdict,) = study.verdicts
    assert verdict["status"] == "supported" and verdict["n"] == 5
    assert verdict["control_mean"] > 0.9 > 0.3 > verdict["mean"] > 0.1, "about 0.2: sqrt(2 ln 190 / 256)"
    page = (skeleton / "reports" / "quick" / "random_directions.html").read_text()
    assert "Are random directions nearly orthogonal?" in page and study.cover
    assert "random_directions.html" in (skeleton / "reports" / "quick" / "index.html").read_text()


@pytest.mark.pipeline
def test_the_skeleton_is_formatted_as_the_rest(skeleton):
    shutil.copy(ROOT / "pyproject.toml", skeleton)
    files = [name for name in BLOCKS if name.endswith(".py")]
    tiny.run(skeleton, "ruff", "format", "--check", *files)
    tiny.run(skeleton, "ruff", "check", *files)
