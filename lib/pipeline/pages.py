"""Pages made from executed notebooks: one for each run, and a batch's index.

python -m lib.pipeline.pages render --batch full --run mnist_superposition
python -m lib.pipeline.pages index --batch full
"""

import argparse
import html
import re
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nbformat
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from lib.common.files import ROOT, write_text
from lib.pipeline import batch, markup
from lib.reporting import claims, display

TEMPLATES = Path(__file__).resolve().parent / "templates"


@dataclass
class Study:
    """What an executed notebook says, taken apart for a page or an index."""

    record: dict[str, Any]
    title: str
    body: list[str] = field(default_factory=list)
    contents: list[tuple[int, str, str]] = field(default_factory=list)
    claims: dict[str, Any] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)
    cover: str = ""

    @property
    def verdicts(self) -> list[dict[str, Any]]:
        """The verdicts, each with the claim it is on."""
        return self.claims.get("verdicts", [])


def read(path: Path) -> Study:
    """Takes an executed notebook apart. Raises markup.PageError, with the cell, if it is not a report."""
    notebook = nbformat.read(path, as_version=4)
    study = Study(notebook.metadata.get(batch.RECORD, {}), title=path.stem)
    paths = markup.machine_paths()
    for number, cell in enumerate(notebook.cells, 1):
        try:
            _read_cell(study, cell, paths)
        except markup.PageError as error:
            raise markup.PageError(f"{path.name}, cell {number}: {error}") from None
    for name in ("claims", "provenance"):
        if not getattr(study, name):
            raise markup.PageError(f"{path.name}: shows no {name} table: a report needs a {name} table")
    return study


def render(executed: Path, page: Path, run: batch.Run) -> None:
    """Renders an executed notebook as one self-contained HTML file."""
    study = read(executed)
    made_from = study.record.get("digest", "")
    write_text(
        page,
        _template("page.html.j2").render(
            study=study,
            run=run,
            digest=batch.render_digest(made_from, run.title),
            provenance_keys=[key for key in display.PROVENANCE_KEYS if key in study.provenance],
            script=f"../../notebooks/{run.notebook}.py",
            notebook=executed.name,
        ),
    )


def index(name: str, runs: list[batch.Run], output: Path) -> None:
    """Renders a batch's index: its studies, missing ones marked as such, and the whole ledger of claims."""
    cards, evidence, digests, stale = [], {}, [], []
    for run in runs:
        digests.append(batch.page_digest(ROOT / run.page))
        stale.append(batch.changes(run))
        study = read(ROOT / run.report) if digests[-1] and (ROOT / run.report).exists() else None
        cards.append({"run": run, "study": study, "stale": stale[-1]})
        for verdict in study.verdicts if study else []:
            evidence.setdefault(verdict["claim"], (verdict, run))
    grouped: dict[str, list] = {}
    sources = {}
    for claim in claims.load(ROOT / "claims.yaml").values():
        sources[claim.source.id] = claim.source
        verdict, run = evidence.get(claim.id, (None, None))
        grouped.setdefault(claim.source.id, []).append((claim, verdict, run))
    write_text(
        output,
        _template("index.html.j2").render(
            batch=name,
            cards=cards,
            notes="NOTES.md" if (output.parent / "NOTES.md").exists() else "",
            ledger=[(sources[key], rows) for key, rows in grouped.items()],
            digest=batch.index_digest(name, digests, stale),
        ),
    )


def counts(verdicts: list[dict[str, Any]]) -> str:
    """`2 supported, 1 contradicted`."""
    return claims.counts(Counter(verdict["status"] for verdict in verdicts))


def _read_cell(study: Study, cell, paths: tuple[str, ...]) -> None:
    if cell.cell_type == "markdown":
        source = cell.source
        title = re.match(r"\s*#\s+(.+)", source)
        if title and not study.body:
            study.title = title.group(1).strip()
            source = source[title.end() :]
        if source.strip():
            shown = markup.markdown(source, study.contents, cell.get("attachments"))
            markup.check_loaded(shown)
            study.body.append(shown)
        return
    if cell.cell_type != "code":
        return
    if cell.source.strip():
        study.body.append(markup.code(cell.source))
    for out in cell.outputs:
        shown = markup.output(out, study.contents, paths)
        data = out.get("data", {})
        if display.CLAIMS in data:
            study.claims = data[display.CLAIMS]
            shown = '<p class="faint">The claims and their verdicts are <a href="#claims">at the top</a>.</p>'
        elif display.PROVENANCE in data:
            study.provenance = data[display.PROVENANCE]
            shown = (
                '<p class="faint">Where these numbers come from is <a href="#provenance">at the end</a>.</p>'
            )
        elif display.FIGURE in data and (data[display.FIGURE]["cover"] or not study.cover):
            study.cover = re.search(r"<img[^>]*>", shown).group(0)
        study.body.append(shown)


def _template(name: str):
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "inline": lambda text: Markup(markup.inline(text)),
        "estimate": _estimate,
        "counts": counts,
        "duration": _duration,
        "flat": display.flat,
        "first_sentence": lambda text: re.split(r"(?<=[.!?])\s+(?=[A-Z*$`])", text.strip(), maxsplit=1)[0],
        "slug": lambda text: re.sub(r"[^\w-]+", "-", text),
    }
    environment.globals |= {
        "css": Markup((TEMPLATES / "page.css").read_text(encoding="utf-8")),
        "code_style": Markup(markup.code_style()),
        "symbols": display.SYMBOLS,
    }
    return environment.get_template(name)


def _estimate(verdict: dict[str, Any]) -> str:
    return claims.estimate(verdict["mean"], verdict["low"], verdict["high"])


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def main(arguments: list[str] | None = None) -> None:
    """The command line; ends with one line on stderr and status 1 if something is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.pipeline.pages", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("command", choices=("render", "index"))
    parser.add_argument("--batch", default="quick")
    parser.add_argument("--run", help="the run to render")
    chosen = parser.parse_args(arguments)
    try:
        runs = {run.name: run for run in batch.load(batch=chosen.batch)}
        if chosen.command == "index":
            index(chosen.batch, list(runs.values()), ROOT / "reports" / chosen.batch / "index.html")
        elif chosen.run in runs:
            run = runs[chosen.run]
            render(ROOT / run.report, ROOT / run.page, run)
        else:
            raise batch.BatchError(f"no run {chosen.run!r} in batch {chosen.batch}")
    except (batch.BatchError, markup.PageError, claims.ClaimError) as error:
        sys.exit(html.unescape(str(error)))


if __name__ == "__main__":
    main()
