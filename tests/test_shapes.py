"""`pytest --shapes` checks annotations at every call, and only then; inside `pytest.raises` nothing is checked."""

import jaxtyping
import pytest
import torch

from lib.common import metrics

COUNTS = torch.ones(2, 3, dtype=torch.int64)  # `live` promises nothing of them, but happens to work


def test_annotations_are_checked_where_asked(request):
    try:
        found = metrics.live(COUNTS)
    except jaxtyping.TypeCheckError as error:
        found = error
    assert isinstance(found, jaxtyping.TypeCheckError) == request.config.getoption("--shapes")


def test_what_lib_says_to_a_wrong_input_is_heard():
    with pytest.raises(ValueError, match="must agree"):
        metrics.fvu(torch.zeros(4, 2), torch.zeros(4, 3))
    with pytest.raises(ZeroDivisionError):
        metrics.live(COUNTS)
        raise ZeroDivisionError


def test_checks_go_on_after_an_error_that_was_expected(request):
    with pytest.raises(ValueError, match="asked for"):
        raise ValueError("asked for")
    test_annotations_are_checked_where_asked(request)
