"""What README shows of the language models runs as it stands."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_example_of_language_models_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    block = next(
        part for part in re.findall(r"```python\n(.*?)```", README, re.S) if "language_model.load" in part
    )
    found = {}
    exec(block, found)
    assert found["X"].shape[0] == 2 and found["fitted"].weights.shape[:3] == (2, 2, 5)
    assert found["fitted"].converged.all() and found["near"].x.shape == (1, 5, 3)


def test_it_is_short():
    assert len(README.splitlines()) <= 150


def test_its_links_and_files_are_there():
    prose = re.sub(r"```.*?```", "", README, flags=re.S)
    for link in re.findall(r"\]\(([^)#]+)\)", prose):
        assert (ROOT / link).exists(), link
    for name in re.findall(r"^    (\w+\.yaml|Snakefile|\w+/) ", README, re.M):
        assert (ROOT / name).exists(), name


def test_its_commands_are_those_of_the_makefile():
    targets = set(re.findall(r"^make (\w+)", README, re.M))
    assert targets <= set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M))
    assert {"reports", "test", "status", "lab", "benchmark"} <= targets
