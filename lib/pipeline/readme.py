"""README's table of studies, made from the reports under reports/full and the choice of claims in findings.yaml.

python -m lib.pipeline.readme
"""

import sys
from pathlib import Path
from typing import Any

import yaml

from lib.common.errors import UserError
from lib.common.files import ROOT, write_text
from lib.pipeline import markup, pages
from lib.reporting import claims, display

MARKERS = ("<!-- studies:begin -->", "<!-- studies:end -->")


class ReadmeError(UserError, ValueError):
    """A README without markers, or findings that no report has; one line."""


def fill(path: Path, reports: Path, findings: Path) -> None:
    """Rewrites what stands between README's markers. Raises ReadmeError if there are none."""
    text = path.read_text(encoding="utf-8")
    if any(text.count(marker) != 1 for marker in MARKERS):
        raise ReadmeError(f"{path.name} must have the lines {' and '.join(MARKERS)}, each once")
    before, rest = text.split(MARKERS[0])
    after = rest.split(MARKERS[1])[1]
    write_text(path, f"{before}{MARKERS[0]}\n{table(reports, findings)}\n{MARKERS[1]}{after}")


def table(reports: Path, findings: Path) -> str:
    """A row for each executed notebook in a folder, as Markdown: title, question, counts of verdicts, chosen findings.

    `findings`: a YAML file that says, by study and claim, what the estimate is of. Raises ReadmeError if it names a
    claim on which the study's report has no verdict.
    """
    chosen = yaml.safe_load(findings.read_text(encoding="utf-8")) or {}
    studies = {path.stem: pages.read(path) for path in sorted(reports.glob("*.ipynb"))}
    rows = ["| Study | Verdicts | Findings: claim, verdict, estimate [95% interval] |", "|---|---|---|"]
    for name in sorted(studies, key=[*chosen, *studies].index):
        study, page = studies[name], f"{reports.relative_to(reports.parent.parent).as_posix()}/{name}.html"
        verdicts = {verdict["claim"]: verdict for verdict in study.verdicts}
        if strangers := [claim for claim in chosen.get(name, {}) if claim not in verdicts]:
            raise ReadmeError(f"{findings.name}: {name} has no verdict on {', '.join(strangers)}")
        cells = [
            f"[{study.title}]({page})<br>{study.claims['question']}",
            pages.counts(study.verdicts).replace(", ", ",<br>"),
            "<br>".join(_finding(verdicts[claim], of) for claim, of in chosen.get(name, {}).items()),
        ]
        rows.append(f"| {' | '.join(_cell(cell) for cell in cells)} |")
    return "\n".join(rows)


def _finding(verdict: dict[str, Any], of: str) -> str:
    estimate = claims.estimate(verdict["mean"], verdict["low"], verdict["high"])
    said = f"{display.SYMBOLS[verdict['status']]} *{verdict['statement'].strip()}*"
    return f"{said} {verdict['status'].capitalize()}: {of}, {estimate} (rule: {verdict['rule']['bounds']})"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def main() -> None:
    """The command line; ends with one line on stderr and status 1 if something is wrong."""
    try:
        fill(ROOT / "README.md", ROOT / "reports" / "full", ROOT / "findings.yaml")
    except (ReadmeError, markup.PageError, OSError, yaml.YAMLError) as error:
        sys.exit(" ".join(str(error).split()))


if __name__ == "__main__":
    main()
