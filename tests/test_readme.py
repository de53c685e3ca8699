"""What README shows of the language models runs as it stands."""

import re
from pathlib import Path

README = (Path(__file__).resolve().parent.parent / "README.md").read_text(encoding="utf-8")


def test_the_example_of_language_models_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    block = next(
        part for part in re.findall(r"```python\n(.*?)```", README, re.S) if "language_model.load" in part
    )
    found = {}
    exec(block, found)
    assert found["X"].shape[0] == 2 and found["fitted"].weights.shape[:3] == (2, 2, 5)
    assert found["fitted"].converged.all() and found["near"].x.shape == (1, 5, 3)
