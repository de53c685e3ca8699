"""Errors that a user can do something about are one line: in text, and where IPython renders them."""

import pytest
from IPython.core.interactiveshell import InteractiveShell

from lib.common.errors import DataError, UserError, one_line
from lib.language.loading import ModelError
from lib.neox.model import NeoxError


def test_a_text_of_several_lines_becomes_one_of_bounded_length():
    assert one_line("a\n  b\t c \r\n") == "a b c"
    assert one_line(ValueError("x\ny")) == "x y"
    assert one_line(["a", "b"]) == "['a', 'b']" and one_line("") == ""
    assert one_line("word " * 100) == ("word " * 100)[:200]
    assert one_line("word\n" * 100, 7) == "word wo"


@pytest.mark.parametrize("error", [UserError, DataError, ModelError, NeoxError])
def test_a_user_error_is_rendered_as_its_message_alone(error, capsys):
    shell = InteractiveShell()
    name = error.__name__
    shell.user_ns[name] = error
    shell.run_cell(f"def f():\n    raise {name}('athletes.csv is missing; install the project again')\nf()")
    shown = capsys.readouterr()
    assert (shown.out + shown.err).strip() == "athletes.csv is missing; install the project again"


def test_another_error_keeps_its_frames(capsys):
    shell = InteractiveShell()
    shell.run_cell("def f():\n    raise RuntimeError('a bug')\nf()")
    shown = capsys.readouterr()
    assert "Traceback" in shown.out + shown.err and "RuntimeError" in shown.out + shown.err


def test_the_kinds_are_caught_as_what_they_are():
    assert issubclass(DataError, UserError) and issubclass(DataError, RuntimeError)
    with pytest.raises(UserError, match=r"^gone$"):
        raise DataError("gone")
