"""README's table of studies: what it takes from the reports, and that ours is in step with them."""

import re

import pytest
import yaml

from helpers import tiny
from lib.pipeline import pages, readme

ROOT = tiny.ROOT
FULL = ROOT / "reports" / "full"
FINDINGS = ROOT / "findings.yaml"
COMMITTED = sorted(path.stem for path in FULL.glob("*.ipynb"))
BEGIN, END = readme.MARKERS


@pytest.fixture
def findings(tmp_path):
    (tmp_path / "findings.yaml").write_text("shifted: {tiny-big: the mean}\n")
    return tmp_path / "findings.yaml"


def test_it_is_filled_from_the_reports(built, tmp_path, findings):
    page = tmp_path / "README.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    readme.fill(page, built / "reports" / "quick", findings)
    made = page.read_text()
    assert made.startswith(f"before\n{BEGIN}\n") and made.endswith(f"\n{END}\nafter\n") and "old" not in made
    shifted, plain = (line for line in made.splitlines() if line.startswith("| ["))
    assert shifted.startswith(
        "| [A tiny study of *means*](reports/quick/shifted.html)<br>How large is the mean? |"
    )
    # The numbers are 2.5 to 5.5.
    assert "| 1 supported,<br>1 contradicted |" in shifted
    assert (
        "✕ *The mean is *larger* than 1000.* Contradicted: the mean, 4.0 [1.9, 6.1] (rule: ≥ 1000) |"
        in shifted
    )
    assert plain.endswith("|  |"), "no finding was chosen of it"
    readme.fill(page, built / "reports" / "quick", findings)
    assert page.read_text() == made


def test_a_finding_that_no_report_has(built, findings):
    findings.write_text("shifted: {tiny-big: the mean, tiny-nobody: nothing}\n")
    with pytest.raises(readme.ReadmeError, match=r"findings\.yaml: shifted has no verdict on tiny-nobody$"):
        readme.table(built / "reports" / "quick", findings)


@pytest.mark.parametrize("text", ["nothing", f"{BEGIN}", f"{BEGIN} {BEGIN} {END}"])
def test_a_readme_without_its_markers_is_left_alone(built, tmp_path, findings, text):
    (tmp_path / "README.md").write_text(text)
    with pytest.raises(readme.ReadmeError, match="each once"):
        readme.fill(tmp_path / "README.md", built / "reports" / "quick", findings)
    assert (tmp_path / "README.md").read_text() == text


@pytest.mark.skipif(not COMMITTED, reason="nothing is rendered under reports/full yet")
def test_ours_is_in_step():
    text = (ROOT / "README.md").read_text()
    found = text.split(BEGIN)[1].split(END)[0].strip()
    assert found == readme.table(FULL, FINDINGS), "run: .venv/bin/python -m lib.pipeline.readme"


@pytest.mark.parametrize("name", COMMITTED)
def test_two_or_three_findings_stand_for_each_study(name):
    assert 2 <= len(yaml.safe_load(FINDINGS.read_text())[name]) <= 3


@pytest.mark.skipif(not COMMITTED, reason="nothing is rendered under reports/full yet")
def test_the_notes_are_on_the_verdicts_there_are():
    """reports/full/NOTES.md: each note names a claim and its verdict, as the report has it."""
    notes = re.findall(r"^- `([\w-]+)` \(([a-z ]+)\)", (FULL / "NOTES.md").read_text(), re.M)
    verdicts = {
        v["claim"]: v["status"] for name in COMMITTED for v in pages.read(FULL / f"{name}.ipynb").verdicts
    }
    assert notes and dict(notes) == {claim: verdicts[claim] for claim, _ in notes}
