"""Prints the tables of an executed notebook: `python -m lib.studies.speed reports/benchmark/speed.ipynb`."""

import argparse
import json
import sys
from pathlib import Path


def main() -> None:
    """The command line; ends with a message where the notebook is not there."""
    parser = argparse.ArgumentParser(
        prog="python -m lib.studies.speed", description="Prints the tables of an executed notebook."
    )
    parser.add_argument("notebook", type=Path)
    path = parser.parse_args().notebook
    if not path.is_file():
        sys.exit(f"there is no notebook {path}; `make benchmark` makes reports/benchmark/speed.ipynb")
    for table in tables(json.loads(path.read_text(encoding="utf-8"))):
        print(table, end="\n\n")


def tables(notebook: dict) -> list[str]:
    """The tables that a notebook's cells have shown, as plain text, each with its caption."""
    shown = [output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return ["".join(data["text/plain"]) for data in shown if "<table" in "".join(data.get("text/html", ""))]


if __name__ == "__main__":
    main()
