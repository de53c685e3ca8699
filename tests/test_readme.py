"""README is short, its links are there, and its examples run as they stand, one after the other."""

import re
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_examples_run_one_after_the_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    blocks = re.findall(r"```python\n(.*?)```", README, re.S)
    assert len(blocks) == 2, "of dictionaries, and of language models, whose activations go into one"
    shown: dict = {}
    torch.manual_seed(0)
    exec(compile(blocks[0], "README.md", "exec"), shown)
    codes, x, run = shown["codes"], shown["x"], shown["run"]
    assert codes.shape == (len(x), 512) and ((codes != 0).sum(1) <= 8).all()
    torch.testing.assert_close(shown["x_hat"], shown["sae"](x), atol=1e-4, rtol=1e-4)
    assert all(fvu[-1] < 0.5 * fvu[0] for fvu in run.fvu.values()), "both learnt something"
    assert {"run.safetensors", "top-k.safetensors", "folder"} <= {path.name for path in tmp_path.iterdir()}
    exec(compile(blocks[1], "README.md", "exec"), shown)
    assert shown["x"].shape == (int(shown["mask"].sum()), 128) and shown["x"].isfinite().all()
    assert shown["X"].shape[0] == 2 and shown["fitted"].weights.shape[:3] == (2, 2, 5)
    assert shown["fitted"].converged.all() and shown["near"].x.shape == (1, 5, 3)


def test_the_first_example_needs_the_core_alone():
    first = re.search(r"```python\n(.*?)```", README, re.S)[1]
    assert set(re.findall(r"^(?:from|import) (\S+)", first, re.M)) == {"torch", "lib.dictionaries"}


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
