"""A project in miniature: the real lib, Snakefile and profile around a notebook that runs in a second."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
import yaml

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

NOTEBOOK = r"""
# %% [markdown]
# # A tiny study of *means*
#
# One paragraph with a formula in the line, $\hat{x}_i = \frac{1}{n}\sum_{j \ne i} x_j$, and `code`.

# %% tags=["parameters"]
units = 4  # how many numbers
shift = 1.0  # what is added to each
word = "fine"  # "fail" makes the notebook fail

# %% tags=["check-parameters"]
from lib.reporting import parameters

p = parameters.check(
    globals(),
    units=parameters.integer(at_least=1),
    shift=parameters.number(at_least=0),
    word=parameters.one_of("fine", "fail"),
)

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.reporting import claims
from lib.reporting import display as report

started = report.clock()
report.style()

# %% [markdown]
# ## Method
#
# The mean of the others, displayed:
#
# $$
# \mathrm{FVU} = \frac{\sum_i \lVert x_i - \hat{x}_i \rVert^2}{\sum_i \lVert x_i - \bar{x} \rVert^2}
# $$
#
# and derived over two lines:
#
# \begin{align}
# s &= \sum_j K_j, \qquad q_i = \lVert K_i \rVert^2 \\
# c_i &= K_i \cdot s - q_i \geq 0
# \end{align}
#
# and one that is wider than a phone:
#
# $$ x_1 + x_2 + x_3 + x_4 + x_5 + x_6 + x_7 + x_8 + x_9 + x_{10} + x_{11} + x_{12} + x_{13} + x_{14} = s $$
#
# | measure | range |
# |---|---|
# | FVU | $[0, \infty)$ |
#
# ### A closer look
#
# With $a < b$ and $\mathbb{E}[x] = \mu$, **nothing** surprising.

# %%
if p.word == "fail":
    raise RuntimeError("asked to fail")
x = np.arange(p.units) + p.shift
fig, ax = plt.subplots()
ax.plot(x, x**2, "o-", label="squares")
ax.set(xlabel="x", ylabel="x squared")
ax.legend()
report.figure(fig, "Squares of $x_i$, *as they are*.", "A curve that rises ever faster", cover=True)

# %% [markdown]
# **How to read it.** The curve rises.

# %%
report.table(
    pd.DataFrame(np.outer(x, np.arange(1, 15)) / 3, columns=[f"column {i}" for i in range(14)]),
    "Multiples of $x / 3$ & more.",
)

# %%
ledger = claims.load()
print("the mean is", x.mean())

# %%
report.claims(
    [claims.judge(ledger["tiny-mean"], x, control=x - p.shift), claims.judge(ledger["tiny-big"], x)],
    answer="The mean of $x$ is small. It has a second sentence.",
    question="How large is the mean?",
)

# %%
data = {"name": "none", "sha256": "0" * 64}
report.provenance(p, notebook="tiny", data=data, seeds="none", started=started)
"""

RULE = {"statistic": "mean of $x$", "unit": "number", "control": "unshifted"}
CLAIMS = {
    "sources": {
        "tiny2024": {"title": "On means", "authors": "A. Author", "year": 2024, "cite": "Author 2024"},
    },
    "claims": [
        {
            "id": "tiny-mean",
            "source": "tiny2024",
            "where": "p. 1",
            "statement": "The mean of $x$ is at least $0$.",
            "study": "tiny",
            "rule": RULE | {"supported_within": [0, float("inf")]},
        },
        {
            "id": "tiny-big",
            "source": "tiny2024",
            "where": "p. 2",
            "statement": "The mean is *larger* than 1000.",
            "study": "tiny",
            "rule": RULE | {"supported_within": [1000, float("inf")]},
        },
        {
            "id": "tiny-untested",
            "source": "tiny2024",
            "where": "p. 3",
            "statement": "Medians are better.",
            "study": None,
            "why_not": "There are no medians here.",
        },
    ],
}


def notebook(text: str) -> nbformat.NotebookNode:
    """The notebook of a percent script."""
    made = jupytext.reads(text.lstrip(), fmt="py:percent")
    made.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    for i, cell in enumerate(made.cells):
        cell["id"] = f"cell-{i}"  # jupytext draws ids at random
    return made


def project(root: Path, batches: dict | None = None) -> Path:
    """A project in `root` with its own copy of lib, so that a test may edit anything."""
    shutil.copytree(ROOT / "lib", root / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "profiles", root / "profiles")
    shutil.copy(ROOT / "Snakefile", root / "Snakefile")
    (root / "notebooks").mkdir()
    nbformat.write(notebook(NOTEBOOK), root / "notebooks" / "tiny.ipynb")
    (root / "notebooks" / "tiny.py").write_text(NOTEBOOK.lstrip())
    (root / "claims.yaml").write_text(yaml.safe_dump(CLAIMS, sort_keys=False))
    if batches is None:
        batches = {
            "quick": [
                {"name": "tiny", "notebook": "tiny", "title": "As it comes"},
                {"name": "shifted", "notebook": "tiny", "title": "Shifted", "parameters": {"shift": 2.5}},
            ]
        }
    (root / "batches.yaml").write_text(yaml.safe_dump(batches, sort_keys=False))
    return root


def run(project: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess:
    """A command of the environment in a project, its lib before any other."""
    environment = {**os.environ, "PYTHONPATH": str(project), "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, env=environment)
    if check and done.returncode:
        raise AssertionError(f"{command} failed:\n{done.stdout}\n{done.stderr}")
    return done


def snakemake(project: Path, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
    """Snakemake as the Makefile calls it."""
    return run(project, "snakemake", "--cores", "all", *arguments, check=check)


def edit(path: Path, old: str, new: str) -> None:
    """Replaces text in a file, where it must be."""
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
