"""The files that tools and hosts read: the citation, continuous integration, git's attributes."""

import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from lib.reporting import claims

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def git(*arguments: str) -> list[str]:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    if done.returncode or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    return done.stdout.splitlines()


def test_the_citation_is_of_this_version_and_names_the_sources():
    """By the schema of CFF 1.2.0: what it requires, and how a person and a group are named."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["type"] == "software" and citation["message"]
    assert citation["version"] == PROJECT["version"] and citation["license"] == PROJECT["license"]
    assert citation["title"].lower().replace(" ", "-") == PROJECT["name"]
    authors = [citation["authors"], *(work["authors"] for work in citation["references"])]
    for person in (person for group in authors for person in group):
        assert person.keys() in ({"name"}, {"family-names", "given-names"})
    cited = {
        (work["authors"][0].get("family-names", "anonymous"), work["year"]) for work in citation["references"]
    }
    assert all(work["type"] in ("report", "slides") and work["title"] for work in citation["references"])
    own = {"Superposition Studies", "Nelson Elhage and others"}  # what the sources cite is not ours to list
    sources = {claim.source for claim in claims.load().values() if claim.source.authors not in own}
    assert {(source.authors.split()[-1], source.year) for source in sources} <= cited and len(cited) == 4


def test_continuous_integration_runs_what_everybody_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))
    assert workflow[True].keys() == {"push", "pull_request"}  # YAML 1.1 reads `on` as true
    assert workflow["permissions"] == {"contents": "read"}
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    (python,) = [step["with"] for step in job["steps"] if "setup-python" in step.get("uses", "")]
    assert f">={python['python-version']}" == PROJECT["requires-python"] and job["timeout-minutes"] == 90
    run = ROOT / ".ci" / "run"
    assert run.stat().st_mode & 0o100 and "make test" in run.read_text().splitlines()


def test_line_endings_are_as_attributes_say():
    """So that nobody's checkout, and no renormalisation, changes a file."""
    endings = [line.split(maxsplit=3) for line in git("ls-files", "--eol")]
    assert not [path for index, _, *_, path in endings if index in ("i/crlf", "i/mixed")]


@pytest.mark.parametrize(
    ("path", "attributes"),
    [
        ("notebooks/speed.ipynb", {"diff": "jupyternotebook", "text": "auto"}),
        ("reports/full/speed.html", {"diff": "unset", "linguist-generated": "set"}),
        ("reports/full/speed.ipynb", {"diff": "jupyternotebook", "linguist-generated": "set"}),
        ("lib/language/neox-tiny/model.safetensors", {"binary": "set", "text": "unset", "diff": "unset"}),
        ("lib/common/files.py", {"text": "auto", "eol": "lf"}),
    ],
)
def test_attributes(path, attributes):
    found = dict(line.split(": ")[1:] for line in git("check-attr", "--all", "--", path))
    assert found.items() >= attributes.items()
