"""Progress bars when somebody is watching, and none when a page is rendered."""

import os
import sys
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from typing import TypeVar

T = TypeVar("T")

# The terminal on which somebody watches a batch: lib.pipeline.batch names it to its kernels, which have none.
TERMINAL = "SUPERPOSITION_TERMINAL"


def progress(iterable: Iterable[T], desc: str, *, total: int | None = None) -> Iterator[T]:
    """`iterable`, with a bar in JupyterLab or a terminal, silent otherwise; `total`: how many items, if len fails."""
    # Set by Jupyter's server for the kernels of its notebooks, which may lack the widgets.
    if os.environ.get("JPY_SESSION_NAME") and find_spec("ipywidgets"):
        from tqdm.notebook import tqdm

        yield from tqdm(iterable, desc=desc, total=total, leave=False)
        return
    stream = _terminal()
    if stream is None:
        yield from iterable
        return
    from tqdm import tqdm

    try:
        yield from tqdm(iterable, desc=desc, total=total, leave=False, file=stream, dynamic_ncols=True)
    finally:
        if stream is not sys.stderr:
            stream.close()


def _terminal():
    """A stream that reaches whoever started this, and not a notebook; None if there is none."""
    if "ipykernel" not in sys.modules:
        return sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None
    # A kernel's stderr ends up in the notebook, even when written to by number; the terminal itself doesn't.
    name = os.environ.get(TERMINAL)
    if not name:
        return None
    try:
        # Without O_NOCTTY it would become the kernel's own, and Ctrl-C would reach it behind papermill's back.
        return os.fdopen(os.open(name, os.O_WRONLY | os.O_NOCTTY), "w")
    except OSError:
        return None
