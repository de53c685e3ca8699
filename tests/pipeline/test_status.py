"""`make status` names every stale report with the files that made it so; the index shows the same."""

import pytest

from helpers.tiny import edit, run
from lib.pipeline import batch, status


def told(project, *options):
    """The report's line -> what is said under it."""
    found: dict[str, list[str]] = {}
    for line in run(project, "python", "-m", "lib.pipeline.status", *options).stdout.splitlines():
        if line.startswith(" "):
            found[list(found)[-1]].append(line.strip())
        else:
            found[" ".join(line.split())] = []
    return found


@pytest.mark.pipeline
def test_what_has_just_run_is_current(built):
    assert told(built) == {
        "current reports/quick/tiny.ipynb": [],
        "current reports/quick/shifted.ipynb": [],
    }


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("name", "old", "new", "which"),
    [
        ("lib/reporting/claims.py", "import math\n", "import math  # changed\n", {"tiny", "shifted"}),
        ("notebooks/tiny.ipynb", "x**2", "x**3", {"tiny", "shifted"}),
        ("claims.yaml", "The mean is *larger*", "The mean is *smaller*", {"tiny", "shifted"}),
        ("batches.yaml", "shift: 2.5", "shift: 3.5", {"shifted"}),
        ("batches.yaml", "title: Shifted", "title: Moved", set()),
        ("lib/pipeline/markup.py", "import re\n", "import re  # changed\n", set()),
    ],
)
def test_the_file_that_made_a_report_stale_is_named(spoilable, name, old, new, which):
    edit(spoilable / name, old, new)
    named = "parameters" if name == "batches.yaml" else name
    found = told(spoilable)
    for run_name in ("tiny", "shifted"):
        state, said = ("stale", [named]) if run_name in which else ("current", [])
        if name == "lib/pipeline/markup.py" or ("Moved" in new and run_name == "shifted"):
            said = ["its page must be rendered again"]
        assert found[f"{state} reports/quick/{run_name}.ipynb"] == said
    index = run(spoilable, "python", "-m", "lib.pipeline.pages", "index", "--batch", "quick")
    assert index.returncode == 0
    text = (spoilable / "reports" / "quick" / "index.html").read_text()
    assert text.count("Out of date.") == len(which) and text.count(f"<code>{named}</code>") >= len(which)


@pytest.mark.pipeline
def test_a_report_without_a_record_or_a_run(spoilable):
    report = spoilable / "reports" / "quick" / "tiny.ipynb"
    (report.parent / "left.ipynb").write_text(report.read_text())
    edit(report, '"made_from"', '"made"')
    found = told(spoilable)
    assert found["stale reports/quick/tiny.ipynb"] == ["the report does not say what it was made from"]
    assert found["stale reports/quick/left.ipynb"] == ["no run of batches.yaml makes it"]


@pytest.mark.pipeline
def test_a_long_list_is_cut_unless_all_is_asked_for(spoilable):
    for i in range(status.SHOWN + 2):
        (spoilable / "lib" / "reporting" / f"t{i}.csv").write_text("1")
    short, long = told(spoilable), told(spoilable, "--all")
    name = "stale reports/quick/tiny.ipynb"
    assert len(short[name]) == status.SHOWN + 1 and short[name][-1] == "and 2 more (--all lists them)"
    assert len(long[name]) == status.SHOWN + 2 and "lib/reporting/t0.csv (new)" in long[name]


def test_without_reports_one_line_says_so(bare, capsys):
    status.main([])
    assert capsys.readouterr().out.startswith("no report has been made yet")
    with pytest.raises(SystemExit, match="no batch 'nonsense'"):
        status.main(["--batch", "nonsense"])
    assert batch.changes(batch.load()[0]) == ["there is no report"]
