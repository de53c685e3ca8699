"""What `pytest --shapes` checks at every call of lib: the annotations that have shapes, by jaxtyping and beartype.

Other annotations are not checked, so that a stand-in may take a model's place in a test.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, get_args

import jaxtyping
import pytest
from beartype import BeartypeConf, beartype
from jaxtyping import AbstractArray

CHECK = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int is a float, as to everybody


def install() -> None:
    """From now on; before anything imports lib. Other processes (kernels, Snakemake's) are not reached."""
    jaxtyping.install_import_hook("lib", f"{__name__}.checked")
    pytest.raises = unchecked(pytest.raises)


def checked(function: Callable) -> Callable:
    """The type checker that jaxtyping calls, on functions that it made for this and that have the annotations alone."""
    hints = function.__annotations__
    if not any(map(has_shape, hints.values())):
        return function
    function.__annotations__ = {name: hint if has_shape(hint) else Any for name, hint in hints.items()}
    return CHECK(function)


def has_shape(hint: Any) -> bool:
    """Whether an annotation is, or contains, an array with a shape."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(has_shape, get_args(hint)))


def unchecked(raises: Callable) -> Callable:
    """`pytest.raises` in which nothing is checked: what lib itself says to a wrong input is what is asked there."""

    @contextlib.contextmanager
    def inside(*expected: Any, **how: Any) -> Iterator[Any]:
        with raises(*expected, **how) as caught:
            jaxtyping.config.update("jaxtyping_disable", True)
            try:
                yield caught
            finally:
                jaxtyping.config.update("jaxtyping_disable", False)

    return inside
