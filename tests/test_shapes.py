"""`pytest --shapes` checks shapes at every call, and only then; inside `pytest.raises` nothing is checked."""

import jaxtyping
import pytest
import torch
from jaxtyping import Float
from torch import Tensor

from helpers import shapes
from lib.common import metrics

COUNTS = torch.ones(2, 3, dtype=torch.int64)  # `live` promises nothing of them, but happens to work


def refused(function, *arguments):
    try:
        function(*arguments)
    except jaxtyping.TypeCheckError:
        return True
    return False


@jaxtyping.jaxtyped(typechecker=shapes.checked)
def columns(
    x: Float[Tensor, "n d"], model: int, weight: Float[Tensor, " d"] | None = None
) -> Float[Tensor, " d"]:
    return x.sum(model)


def test_what_is_checked():
    """Shapes of what goes in and of what comes out, together; and nothing else."""
    assert not refused(columns, torch.zeros(2, 3), 0)
    assert not refused(columns, torch.zeros(2, 3), torch.tensor(0)), "a stand-in for an int"
    assert refused(columns, torch.zeros(2, 3), 1), "(2,) is returned for (3,)"
    assert refused(columns, torch.zeros(3), 0) and refused(columns, COUNTS, 0)
    assert not refused(columns, torch.zeros(2, 3), 0, torch.zeros(3))
    assert refused(columns, torch.zeros(2, 3), 0, torch.zeros(2)), "a shape in a union"


def test_lib_is_checked_where_asked(request):
    assert refused(metrics.live, COUNTS) == request.config.getoption("--shapes")


def test_what_lib_says_to_a_wrong_input_is_heard():
    with pytest.raises(ValueError, match="must agree"):
        metrics.fvu(torch.zeros(4, 2), torch.zeros(4, 3))


def test_checks_go_on_after_an_error_that_was_expected(request):
    with pytest.raises(ValueError, match="asked for"):
        raise ValueError("asked for")
    test_lib_is_checked_where_asked(request)
