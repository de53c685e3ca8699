"""A batch: the runs that batches.yaml names, checked before the first one starts, executed one by one.

What a report was made from is recorded in the executed notebook itself, as a digest; a run is done when the
digest in its report is that of the sources as they are now.

    python -m lib.pipeline.batch check --batch full
    python -m lib.pipeline.batch execute --batch full --run mnist_superposition
"""

import argparse
import json
import os
import re
import sys
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lib.common import progress
from lib.common.errors import UserError, one_line
from lib.common.files import ROOT, whole
from lib.reporting import parameters, staleness

PARAMETERS = "parameters"  # the key in `made_from` that is not a file
RECORD = "superposition_studies"  # where an executed notebook's metadata holds what it was made from


class BatchError(UserError, ValueError):
    """A batch file, or a batch, that can't be run; one line."""


@dataclass(frozen=True)
class Run:
    """One notebook with the parameters that one batch gives it."""

    batch: str
    name: str
    notebook: str
    title: str = field(default="", kw_only=True)
    parameters: dict[str, Any] = field(default_factory=dict, kw_only=True)

    @property
    def report(self) -> Path:
        """The executed notebook, relative to the project."""
        return Path("reports") / self.batch / f"{self.name}.ipynb"

    @property
    def page(self) -> Path:
        """The rendered page, beside the executed notebook."""
        return self.report.with_suffix(".html")

    @property
    def partial(self) -> Path:
        """The notebook while it runs, and what is left of it when it fails."""
        return Path("logs") / self.batch / f"{self.name}.ipynb"

    @property
    def log(self) -> Path:
        """What happened, beside the partial notebook."""
        return self.partial.with_suffix(".log")


def load(path: str | Path = "batches.yaml", batch: str = "quick") -> list[Run]:
    """The runs of a batch, all checked: keys, names, notebooks, parameters by the notebook's own rules.

    Raises BatchError, in one line, on the first thing that is wrong anywhere in the batch.
    """
    path = ROOT / path
    batches = _read(path)
    if batch not in batches:
        raise BatchError(f"no batch {batch!r} in {path.name} (there are: {', '.join(map(str, batches))})")
    if not isinstance(batches[batch], list) or not batches[batch]:
        raise BatchError(f"{path.name}: batch {batch} must be a list of runs")
    runs = [_run(batch, entry) for entry in batches[batch]]
    names = [run.name for run in runs]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BatchError(f"batch {batch}: two runs named {twice[0]}")
    for run in runs:
        _check_parameters(run)
    return runs


def names(path: str | Path = "batches.yaml") -> list[str]:
    """The batches that a file names."""
    return list(_read(ROOT / path))


def made_from(run: Run) -> dict[str, str]:
    """Hashes of all that can change what the run's notebook shows: of files, by path, and of its parameters.

    The title is not among them; it belongs to the page alone.
    """
    return staleness.made_from(run.notebook) | {PARAMETERS: staleness.combine(run.parameters)}


def run_digest(run: Run) -> str:
    """One hash over `made_from`."""
    return staleness.combine(made_from(run))


def changes(run: Run) -> list[str]:
    """What makes a run's report stale: files (or its parameters) that have changed, appeared or gone since it was made.

    Empty if the report is current; if there is none, or it does not say what it was made from, one line says so.
    """
    if not (ROOT / run.report).exists():
        return ["there is no report"]
    before = record(ROOT / run.report).get("made_from")
    if not isinstance(before, dict):
        return ["the report does not say what it was made from"]
    return staleness.changed(before, made_from(run))


def render_digest(made_from: str, title: str = "") -> str:
    """Hash of all that can change a page: the digest of its executed notebook, its title, and what renders it."""
    files = staleness.files(["from lib.pipeline import pages"], ROOT)
    return staleness.combine([made_from, title, [path.read_text(encoding="utf-8") for path in files]])


def index_digest(batch: str, pages: list[str], stale: list[list[str]]) -> str:
    """Hash of all that can change an index: its pages' digests ("" for one that isn't there), `changes`, the ledger."""
    ledger = (ROOT / "claims.yaml").read_text(encoding="utf-8")
    return render_digest(staleness.combine([batch, pages, stale, ledger]))


def record(report: Path) -> dict[str, Any]:
    """What an executed notebook says it was made from; empty if there is no such notebook."""
    try:
        return json.loads(report.read_text(encoding="utf-8"))["metadata"].get(RECORD, {})
    except (OSError, ValueError, KeyError):
        return {}


def page_digest(page: Path) -> str:
    """The digest that a page of ours carries in its head; empty if there is no such page."""
    try:
        with page.open(encoding="utf-8") as file:
            found = re.search(r'<meta name="digest" content="(\w+)">', file.read(4096))
    except (OSError, ValueError):
        return ""
    return found.group(1) if found else ""


def outdated(path: str | Path, made_from: str) -> list[str]:
    """Nothing, or a file newer than `path` if that exists but was made from something else.

    The digests in the reports decide what is up to date, not the times of files, nor a record beside them: a
    fresh clone knows as much as the machine that made them.
    """
    path = Path(path)
    full = ROOT / path
    if not full.exists():
        return []
    found = record(full).get("digest", "") if path.suffix == ".ipynb" else page_digest(full)
    if found == made_from:
        return []
    mark = Path("logs") / path.parent.name / f"{path.name}.outdated"
    (ROOT / mark).parent.mkdir(parents=True, exist_ok=True)
    # Never the same twice: Snakemake takes no notice of a newer file that holds what it held before.
    (ROOT / mark).write_text(f"{time.time_ns()}: {path} was made from {found or 'something unknown'}\n")
    return [str(mark)]


def execute(run: Run) -> None:
    """Runs the notebook; its report appears, or is replaced, only when it is whole.

    Raises BatchError, saying where the partial notebook and the log are, when it fails.
    """
    import nbformat
    import papermill

    partial, report = ROOT / run.partial, ROOT / run.report
    partial.parent.mkdir(parents=True, exist_ok=True)
    hashes = made_from(run)
    watched = sys.stderr.isatty()
    # A kernel of ours is not in JupyterLab, even when the batch was started from there.
    os.environ.pop("JPY_SESSION_NAME", None)
    os.environ[progress.TERMINAL] = os.ttyname(sys.stderr.fileno()) if watched else ""
    started = time.time()
    try:
        papermill.execute_notebook(
            str(ROOT / "notebooks" / f"{run.notebook}.ipynb"),
            str(partial),
            parameters=run.parameters,
            cwd=str(ROOT),
            progress_bar=watched,
            kernel_name="python3",
            # The kernel's notices about itself would go to the terminal.
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except (Exception, KeyboardInterrupt) as error:
        (ROOT / run.log).write_text(traceback.format_exc(), encoding="utf-8")
        raise BatchError(
            f"run {run.name} of batch {run.batch} failed: {_cause(error)}\n"
            f"  partial notebook: {run.partial}\n  log: {run.log}"
        ) from None
    notebook = nbformat.read(partial, as_version=4)
    _tidy(notebook)
    notebook.metadata[RECORD] = {
        "batch": run.batch,
        "run": run.name,
        "notebook": run.notebook,
        "parameters": run.parameters,
        "digest": staleness.combine(hashes),
        "made_from": hashes,
        "duration": round(time.time() - started, 1),
    }
    with whole(report) as part:
        nbformat.write(notebook, part)
    partial.unlink()
    print(f"run {run.name} of batch {run.batch}: done in {time.time() - started:.0f} s", file=sys.stderr)
    (ROOT / run.log).unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any]:
    try:
        batches = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BatchError(f"there is no {path.name}") from None
    except yaml.YAMLError as error:
        raise BatchError(f"{path.name}: not YAML: {one_line(error)}") from None
    if not isinstance(batches, dict) or not batches:
        raise BatchError(f"{path.name}: must map the name of each batch to its list of runs")
    return batches


def _run(batch: str, entry: Any) -> Run:
    if not isinstance(entry, dict):
        raise BatchError(f"batch {batch}: a run must be a mapping, not {entry!r}")
    name = entry.get("name")
    where = f"batch {batch}: run {name!r}"
    known = ("name", "notebook", "title", "parameters")
    for key in entry:
        if key not in known:
            raise BatchError(f"{where}: unknown key {key!r} (known: {', '.join(known)})")
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name) or name == "index":
        raise BatchError(
            f"{where}: a name is letters, digits, - and _, as it names files (and is not 'index')"
        )
    notebook = entry.get("notebook", name)
    if not isinstance(notebook, str) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", notebook):
        raise BatchError(f"{where}: notebook is the name of a file in notebooks/, without .ipynb")
    if not (ROOT / "notebooks" / f"{notebook}.ipynb").exists():
        raise BatchError(f"{where}: there is no notebooks/{notebook}.ipynb")
    title, values = entry.get("title", ""), entry.get("parameters") or {}
    if not isinstance(title, str):
        raise BatchError(f"{where}: title must be text")
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise BatchError(f"{where}: parameters must map names to values")
    return Run(batch, name, notebook, title=title, parameters=values)


def _check_parameters(run: Run) -> None:
    """Runs the notebook's own check, as papermill would: defaults, then the run's values, then the check."""
    where = f"batch {run.batch}: run {run.name!r}"
    cells = staleness.notebook_cells(ROOT / "notebooks" / f"{run.notebook}.ipynb")
    tagged = {tag: cell["source"] for cell in cells for tag in cell["metadata"].get("tags", [])}
    for tag in ("parameters", "check-parameters"):
        if tag not in tagged:
            raise BatchError(f"{where}: notebooks/{run.notebook}.ipynb has no cell tagged {tag}")
    namespace: dict[str, Any] = {}
    try:
        exec(tagged["parameters"], namespace)
        exec(tagged["check-parameters"], namespace | run.parameters)
    except parameters.ParameterError as error:
        raise BatchError(f"{where}: {error}") from None
    except Exception as error:
        raise BatchError(f"{where}: {run.notebook}'s own check fails: {_cause(error)}") from None


def _cause(error: BaseException) -> str:
    """The first line of an error; for one in a kernel, as papermill reports it. A wrong parameter speaks for itself."""
    name = getattr(error, "ename", "") or type(error).__name__
    text = str(getattr(error, "evalue", "") or error).strip()
    first = text.splitlines()[0] if text else ""
    return first if name == "ParameterError" else f"{name}: {first}".rstrip(": ")


def _tidy(notebook) -> None:
    """Takes out what is not part of a report: its pairing with a script, widgets, this machine's paths."""
    for key in ("jupytext", "widgets", "papermill"):
        notebook.metadata.pop(key, None)
    for cell in notebook.cells:
        cell.metadata.pop("papermill", None)
        cell.metadata.pop("execution", None)


def main(arguments: list[str] | None = None) -> None:
    """The command line; ends with one line on stderr and status 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.pipeline.batch", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("command", choices=("check", "execute"))
    parser.add_argument("--batch", default="quick")
    parser.add_argument("--run", help="the run to execute")
    chosen = parser.parse_args(arguments)
    try:
        runs = {run.name: run for run in load(batch=chosen.batch)}
        if chosen.command == "execute":
            if chosen.run not in runs:
                raise BatchError(
                    f"no run {chosen.run!r} in batch {chosen.batch} (there are: {', '.join(runs)})"
                )
            execute(runs[chosen.run])
    except BatchError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
