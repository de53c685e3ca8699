"""The command that prints the tables of an executed notebook."""

import json

import pytest

from lib.studies.speed.__main__ import main


def test_tables_of_an_executed_notebook_are_printed(tmp_path, capsys, monkeypatch):
    output = {
        "data": {"text/html": ["<div><table>", "</table></div>"], "text/plain": ["Ratios\n", "\n", "1"]}
    }
    other = {"data": {"text/html": "<figure>", "text/plain": "not this"}}
    cells = [
        {"cell_type": "markdown"},
        {"cell_type": "code", "outputs": [output, other, {"text": "nor this"}]},
    ]
    path = tmp_path / "speed.ipynb"
    path.write_text(json.dumps({"cells": cells}))
    monkeypatch.setattr("sys.argv", ["speed", str(path)])
    main()
    assert capsys.readouterr().out == "Ratios\n\n1\n\n"
    monkeypatch.setattr("sys.argv", ["speed", str(tmp_path / "missing")])
    with pytest.raises(SystemExit, match="make benchmark"):
        main()
