"""Which reports are current, and what made the others stale.

python -m lib.pipeline.status [--batch full] [--all]
"""

import argparse
import sys
from collections.abc import Iterator

from lib.common.files import ROOT
from lib.pipeline import batch

SHOWN = 8  # of what made a report stale, unless all is asked for


def status(names: list[str], *, every: bool = False) -> Iterator[str]:
    """A line for each existing report of these batches; under a stale one, what made it so, one name per line."""
    for name in names:
        runs = {run.report.name: run for run in batch.load(batch=name)}
        for report in sorted((ROOT / "reports" / name).glob("*.ipynb")):
            run = runs.get(report.name)
            found = batch.changes(run) if run else ["no run of batches.yaml makes it"]
            yield f"{'stale  ' if found else 'current'}  reports/{name}/{report.name}"
            if not found and batch.page_digest(ROOT / run.page) != batch.render_digest(
                batch.run_digest(run), run.title
            ):
                found = ["its page must be rendered again"]
            shown = found if every else found[:SHOWN]
            yield from (f"           {what}" for what in shown)
            if len(found) > len(shown):
                yield f"           and {len(found) - len(shown)} more (--all lists them)"


def main(arguments: list[str] | None = None) -> None:
    """The command line; ends with one line on stderr and status 1 if a batch can't be read."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.pipeline.status", description=__doc__.split("\n\n")[0]
    )
    parser.add_argument("--batch", help="one batch of batches.yaml (default: all that have reports)")
    parser.add_argument("--all", action="store_true", help="everything that made a report stale")
    chosen = parser.parse_args(arguments)
    try:
        lines = list(status([chosen.batch] if chosen.batch else batch.names(), every=chosen.all))
    except batch.BatchError as error:
        sys.exit(str(error))
    print("\n".join(lines) or "no report has been made yet: `make reports` makes those of the quick batch")


if __name__ == "__main__":
    main()
