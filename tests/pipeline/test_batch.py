"""The batch file is checked before anything runs, and only what is missing or outdated is run."""

import json
import os
import random
import re
import time

import nbformat
import pytest
import yaml

from helpers.tiny import edit, run, snakemake
from lib.pipeline import batch
from lib.pipeline.batch import BatchError, Run


def write(project, runs, name="quick"):
    (project / "batches.yaml").write_text(yaml.safe_dump({name: runs}, sort_keys=False))


def planned(project, *arguments) -> set[str]:
    """What a call would make, by a dry run."""
    shown = snakemake(project, "--dry-run", "--quiet", "host", *arguments)
    return set(re.findall(r"output: reports/quick/(\S+)", shown.stdout + shown.stderr))


EVERYTHING = {"tiny.ipynb", "shifted.ipynb", "tiny.html", "shifted.html", "index.html"}


# --- the batch file ---------------------------------------------------------------------------------------


def test_load(bare):
    first, second = batch.load()
    assert (first.name, first.notebook, first.title, first.parameters) == ("tiny", "tiny", "As it comes", {})
    assert second.parameters == {"shift": 2.5}
    assert str(second.report) == "reports/quick/shifted.ipynb" and str(second.log) == "logs/quick/shifted.log"


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([{"name": "a", "notebook": "tiny", "wrong": 1}], "unknown key 'wrong'"),
        ([{"name": "../a", "notebook": "tiny"}], "a name is letters"),
        ([{"name": "index", "notebook": "tiny"}], "not 'index'"),
        ([{"notebook": "tiny"}], "a name is letters"),
        ([{"name": "a", "notebook": "nowhere"}], "there is no notebooks/nowhere"),
        ([{"name": "a", "notebook": "../tiny"}], "without .ipynb"),
        ([{"name": "a", "notebook": "tiny"}] * 2, "two runs named a"),
        ([{"name": "a", "notebook": "tiny", "parameters": ["x"]}], "must map names to values"),
        ([{"name": "a", "notebook": "tiny", "title": 3}], "title must be text"),
        ([], "must be a list of runs"),
        (["a"], "must be a mapping"),
        ([{"name": "a", "notebook": "tiny", "parameters": {"unitz": 3}}], "did you mean units"),
        (
            [{"name": "a", "notebook": "tiny", "parameters": {"units": "three"}}],
            r"units: got 'three' \(text\)",
        ),
        ([{"name": "a", "notebook": "tiny", "parameters": {"units": 0}}], "at least 1"),
        ([{"name": "a", "notebook": "tiny", "parameters": {"shift": "1e-3"}}], "write 0.001"),
        ([{"name": "a", "notebook": "tiny", "parameters": {"word": "none"}}], "'fine' or 'fail'"),
    ],
)
def test_a_batch_that_is_wrong_is_one_line(bare, runs, message):
    write(bare, runs)
    with pytest.raises(BatchError, match=message) as caught:
        batch.load()
    assert "\n" not in str(caught.value)


def test_the_file_itself(bare):
    with pytest.raises(BatchError, match=r"no batch 'full' in batches.yaml \(there are: quick\)"):
        batch.load(batch="full")
    (bare / "batches.yaml").write_text("quick: [")
    with pytest.raises(BatchError, match="not YAML") as caught:
        batch.load()
    assert "\n" not in str(caught.value)
    (bare / "batches.yaml").unlink()
    with pytest.raises(BatchError, match=r"there is no batches\.yaml"):
        batch.load()


def test_a_notebook_without_a_check_is_refused(bare):
    edit(bare / "notebooks" / "tiny.ipynb", "check-parameters", "something-else")
    with pytest.raises(BatchError, match="no cell tagged check-parameters"):
        batch.load()


def test_digest_follows_the_run(bare):
    one = Run("quick", "a", "tiny", title="T", parameters={"shift": 1.0})
    assert batch.run_digest(one) == batch.run_digest(
        Run("quick", "a", "tiny", title="T", parameters={"shift": 1.0})
    )
    assert batch.run_digest(one) != batch.run_digest(
        Run("quick", "a", "tiny", title="T", parameters={"shift": 2.0})
    )
    assert batch.run_digest(one) == batch.run_digest(
        Run("quick", "a", "tiny", title="U", parameters={"shift": 1.0})
    ), "not the title"


@pytest.mark.parametrize("name", ["pages.py", "markup.py", "templates/page.css", "templates/page.html.j2"])
def test_what_renders_changes_the_page_alone(bare, name):
    a_run = Run("quick", "a", "tiny")
    before = batch.run_digest(a_run), batch.render_digest("x")
    with (bare / "lib" / "pipeline" / name).open("a") as file:
        file.write("\n")
    assert batch.run_digest(a_run) == before[0] and batch.render_digest("x") != before[1]


# --- one run ----------------------------------------------------------------------------------------------


@pytest.mark.pipeline
def test_an_executed_notebook_is_clean(built):
    text = (built / "reports" / "quick" / "shifted.ipynb").read_text()
    notebook = json.loads(text)
    assert {"jupytext", "papermill", "widgets"}.isdisjoint(notebook["metadata"])
    assert str(built) not in text
    record = notebook["metadata"][batch.RECORD]
    assert record["parameters"] == {"shift": 2.5} and record["run"] == "shifted"
    tags = [cell["metadata"].get("tags") for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert tags[:3] == [["parameters"], ["injected-parameters"], ["check-parameters"]]
    outputs = [out for cell in notebook["cells"] for out in cell.get("outputs", [])]
    assert not [out for out in outputs if out.get("name") == "stderr"]
    assert not (built / "logs" / "quick" / "shifted.ipynb").exists()


@pytest.mark.pipeline
@pytest.mark.parametrize(("name", "value"), [("units", "three"), ("wrong", "1"), ("word", "cifar")])
def test_papermill_by_itself_stops_at_once_with_one_line(built, tmp_path, name, value):
    out = tmp_path / "out.ipynb"
    done = run(built, "papermill", "notebooks/tiny.ipynb", str(out), "-p", name, value, check=False)
    assert done.returncode
    line = f"parameter {name}: got {value!r}" if name != "wrong" else "parameter wrong: unknown"
    assert [shown for shown in done.stderr.splitlines() if shown.startswith(line)]
    notebook = nbformat.read(out, as_version=4)
    failed = [o for c in notebook.cells for o in c.get("outputs", []) if o.output_type == "error"]
    assert len(failed) == 1 and failed[0].traceback == [failed[0].evalue]
    assert failed[0].evalue.startswith(line) and "\n" not in failed[0].evalue
    assert not [c for c in notebook.cells if "plt" in c.source and c.execution_count], "nothing ran after it"


@pytest.mark.pipeline
def test_papermill_by_itself_from_the_notebooks_folder(built, tmp_path):
    done = run(
        built,
        "bash",
        "-c",
        f"cd notebooks && papermill tiny.ipynb {tmp_path}/out.ipynb -p units 3 -p shift 2",
    )
    assert done.returncode == 0 and "the mean is 3.0" in (tmp_path / "out.ipynb").read_text()


# --- the whole batch --------------------------------------------------------------------------------------


@pytest.mark.pipeline
def test_the_batch_makes_everything_and_a_second_call_does_nothing(spoilable):
    assert {path.name for path in (spoilable / "reports" / "quick").iterdir()} == EVERYTHING
    before = {p: p.stat().st_mtime_ns for p in (spoilable / "reports").rglob("*.*")}
    started = time.time()
    shown = snakemake(spoilable)
    assert time.time() - started < 20
    assert "Nothing to be done" in shown.stdout + shown.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (spoilable / "reports").rglob("*.*")}


@pytest.mark.pipeline
def test_touching_files_and_losing_snakemakes_memory_rerun_nothing(spoilable):
    """As in a fresh clone: every time is arbitrary, and there is no .snakemake."""
    files = [path for path in spoilable.rglob("*") if path.is_file() and ".snakemake" not in path.parts]
    random.Random(0).shuffle(files)
    now = time.time()
    for age, path in enumerate(files):
        os.utime(path, (now - age, now - age))
    assert planned(spoilable) == set()
    (spoilable / ".snakemake").rename(spoilable / "forgotten")
    assert planned(spoilable) == set()
    edit(spoilable / "lib" / "reporting" / "display.py", "import re\n", "import re  # changed\n")
    assert planned(spoilable) == EVERYTHING, "and what is outdated is known without it"


@pytest.mark.pipeline
@pytest.mark.parametrize(
    ("name", "old", "new", "made"),
    [
        ("batches.yaml", "shift: 2.5", "shift: 3.5", {"shifted.ipynb", "shifted.html", "index.html"}),
        ("batches.yaml", "title: Shifted", "title: Moved", {"shifted.html", "index.html"}),
        ("notebooks/tiny.ipynb", "x**2", "x**3", EVERYTHING),
        ("lib/reporting/claims.py", "import math\n", "import math  # changed\n", EVERYTHING),
        (
            "lib/pipeline/pages.py",
            "import re\n",
            "import re  # changed\n",
            {"tiny.html", "shifted.html", "index.html"},
        ),
    ],
)
def test_an_edit_reruns_what_depends_on_it(spoilable, name, old, new, made):
    edit(spoilable / name, old, new)
    assert planned(spoilable) == made


@pytest.mark.pipeline
def test_what_was_lost_is_made_again_alone(spoilable):
    (spoilable / "reports" / "quick" / "tiny.html").unlink()
    assert planned(spoilable) == {"tiny.html", "index.html"}


@pytest.mark.pipeline
def test_a_run_that_fails(spoilable):
    """The others finish, what failed leaves no page, and the next call does only what is missing."""
    reports, logs = spoilable / "reports" / "quick", spoilable / "logs" / "quick"
    older = (reports / "shifted.ipynb").read_bytes(), (reports / "shifted.html").read_bytes()
    runs = yaml.safe_load((spoilable / "batches.yaml").read_text())["quick"]
    runs[1]["parameters"] = {"word": "fail"}
    runs.append({"name": "new", "notebook": "tiny", "parameters": {"word": "fail"}})
    runs.append({"name": "other", "notebook": "tiny", "parameters": {"units": 5}})
    write(spoilable, runs)
    done = snakemake(spoilable, check=False)
    assert done.returncode
    assert "run new of batch quick failed: RuntimeError: asked to fail" in done.stderr
    assert "partial notebook: logs/quick/new.ipynb" in done.stderr and "Traceback" not in done.stderr
    assert "log: logs/quick/new.log" in done.stderr

    assert (logs / "new.ipynb").exists() and "asked to fail" in (logs / "new.log").read_text()
    assert not (reports / "new.ipynb").exists() and not (reports / "new.html").exists()
    assert (reports / "other.html").exists(), "the other runs finish"
    # An older report stays, and says on the index that it is old.
    assert older == ((reports / "shifted.ipynb").read_bytes(), (reports / "shifted.html").read_bytes())
    index = (reports / "index.html").read_text()
    assert index.count("There is no report of this run.") == 1 and "logs/quick/new.log" in index
    assert index.count("Out of date.") == 1 and "logs/quick/shifted.log" in index

    left = {"new.ipynb", "new.html", "shifted.ipynb", "shifted.html", "index.html"}
    assert planned(spoilable) == left
    runs[1]["parameters"], runs[2]["parameters"] = {"shift": 4.5}, {}
    write(spoilable, runs)
    assert planned(spoilable) == left
    snakemake(spoilable)
    assert planned(spoilable) == set()
    index = (reports / "index.html").read_text()
    assert "There is no report" not in index and "Out of date" not in index
    assert not (logs / "new.ipynb").exists() and not (logs / "new.log").exists()


@pytest.mark.pipeline
def test_nothing_starts_when_a_later_run_is_wrong(bare):
    runs = yaml.safe_load((bare / "batches.yaml").read_text())["quick"]
    write(bare, [*runs, {"name": "late", "notebook": "tiny", "parameters": {"units": 0}}])
    done = snakemake(bare, check=False)
    assert done.returncode and "parameter units: got 0" in done.stderr and not (bare / "reports").exists()
    done = run(bare, "python", "-m", "lib.pipeline.batch", "check", check=False)
    assert done.returncode == 1 and len(done.stderr.strip().splitlines()) == 1


@pytest.mark.pipeline
def test_an_unknown_batch_is_one_line(built):
    done = run(built, "python", "-m", "lib.pipeline.batch", "check", "--batch", "nonsense", check=False)
    assert done.returncode == 1
    assert done.stderr == "no batch 'nonsense' in batches.yaml (there are: quick)\n"
    shown = snakemake(built, "--config", "batch=nonsense", check=False)
    assert shown.returncode and "no batch 'nonsense'" in shown.stderr
