"""A bar where somebody watches, and nothing anywhere else."""

import os
import pty
import subprocess
import sys
import termios

import pytest

from lib.common import progress

LOOP = "from lib.common.progress import progress\nprint(sum(progress(range(5), 'adding')))"


def what_is_shown(terminal: int) -> str:
    """What has reached a terminal so far, without waiting for more."""
    os.set_blocking(terminal, False)
    try:
        return os.read(terminal, 65536).decode()
    except OSError:
        return ""


@pytest.fixture(autouse=True)
def nobody_watches(monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    monkeypatch.delenv(progress.TERMINAL, raising=False)


def test_silent_when_stderr_is_no_terminal():
    done = subprocess.run([sys.executable, "-c", LOOP], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("10\n", "")


def test_a_bar_in_a_terminal():
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 80))
    done = subprocess.run([sys.executable, "-c", LOOP], stdout=subprocess.PIPE, stderr=side, text=True)
    os.close(side)
    shown = what_is_shown(main)
    assert done.stdout == "10\n" and "adding" in shown


def test_a_widget_in_jupyterlab(monkeypatch):
    import tqdm.notebook

    made = {}

    def bar(iterable, **options):
        made.update(options)
        return iterable

    monkeypatch.setenv("JPY_SESSION_NAME", "study.ipynb")
    monkeypatch.setattr(tqdm.notebook, "tqdm", bar)
    assert list(progress.progress(range(3), "adding", total=3)) == [0, 1, 2]
    assert made == {"desc": "adding", "total": 3, "leave": False}


def test_a_notebook_without_widgets_is_no_error(monkeypatch):
    """The dictionaries install without them."""
    monkeypatch.setenv("JPY_SESSION_NAME", "study.ipynb")
    monkeypatch.setattr(progress, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "tqdm.notebook", None)
    assert list(progress.progress(range(3), "adding")) == [0, 1, 2]


def test_a_watched_kernel_writes_to_the_terminal_itself(monkeypatch):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    assert progress._terminal() is None
    main, side = pty.openpty()
    termios.tcsetwinsize(side, (24, 80))
    monkeypatch.setenv(progress.TERMINAL, os.ttyname(side))
    assert list(progress.progress(range(3), "adding")) == [0, 1, 2]
    assert "adding" in what_is_shown(main)
    os.close(main)
    os.close(side)


def test_a_watched_kernel_without_a_terminal_is_silent(monkeypatch, capfd):
    monkeypatch.setitem(sys.modules, "ipykernel", object())
    monkeypatch.setenv(progress.TERMINAL, "/nonexistent/terminal")
    assert list(progress.progress(range(3), "adding")) == [0, 1, 2]
    assert capfd.readouterr() == ("", "")
