"""Errors that a user can do something about: one line, in a terminal and in a notebook."""


class UserError(Exception):
    """The base class of such errors in this project; its message says what was given, what is allowed, what to do."""

    def _render_traceback_(self) -> list[str]:
        # IPython asks an exception for its own rendering: the reader needs the line, not the frames.
        return [str(self)]


class DataError(UserError, RuntimeError):
    """Data that cannot be obtained, or that is not as it should be; the message says what is wrong and how to go on."""


def one_line(error: object, length: int = 200) -> str:
    """The text of an error, or of anything else, on one line of at most `length` characters."""
    return " ".join(str(error).split())[:length]
