"""Every way a parameter can be wrong is one readable line."""

import math

import IPython
import pytest
from hypothesis import given
from hypothesis import strategies as st
from IPython.testing.globalipapp import start_ipython

from lib.reporting import parameters
from lib.reporting.parameters import ParameterError, check, integer, number, one_of, text

RULES = {
    "dataset": one_of("digits", "mnist"),
    "seeds": integer(at_least=1),
    "rate": number(above=0, at_most=1),
    "note": text(),
}
GOOD = {"dataset": "digits", "seeds": 3, "rate": 0.1, "note": "x"}


def refusal(**changed) -> str:
    with pytest.raises(ParameterError) as caught:
        check(GOOD | changed, **RULES)
    line = str(caught.value)
    assert "\n" not in line
    return line


def test_good_values_come_back_as_attributes():
    p = check(GOOD, **RULES)
    assert vars(p) == GOOD


def test_an_int_is_a_number_but_a_bool_is_neither():
    assert check(GOOD | {"rate": 1}, **RULES).rate == 1
    assert "truth value" in refusal(rate=True)
    assert "truth value" in refusal(seeds=True)
    assert "a number" in refusal(seeds=3.0)


def test_the_line_names_parameter_value_and_what_is_allowed():
    line = refusal(seeds="three")
    assert line == "parameter seeds: got 'three' (text); allowed: an integer of at least 1"


@pytest.mark.parametrize(
    ("changed", "parts"),
    [
        ({"seeds": 0}, ["seeds", "0", "at least 1"]),
        ({"seeds": "3"}, ["'3'", "write 3 without quotes"]),
        ({"rate": "1e-3"}, ["'1e-3'", "write 0.001"]),
        ({"rate": "nan"}, ["'nan'", "(text)"]),
        ({"rate": 0}, ["above 0"]),
        ({"rate": 1.5}, ["at most 1"]),
        ({"rate": math.nan}, ["nan", "a number"]),
        ({"rate": math.inf}, ["inf", "a number"]),
        ({"rate": None}, ["nothing"]),
        ({"dataset": "cifar"}, ["'cifar'", "'digits' or 'mnist'"]),
        ({"note": "  "}, ["not empty"]),
        ({"note": "long " * 100}, []),
        ({"seeds": [1, 2]}, ["a list"]),
    ],
)
def test_wrong_values(changed, parts):
    if "long" in str(changed):
        check(GOOD | changed, **RULES)
        return
    line = refusal(**changed)
    assert all(part in line for part in parts), line


def test_true_is_not_one():
    with pytest.raises(ParameterError):
        check({"flag": 1}, flag=one_of(True, False))
    assert check({"flag": True}, flag=one_of(True, False)).flag is True


def test_unknown_names_get_the_nearest_known_one():
    line = refusal(seedz=3)
    assert "seedz: unknown; did you mean seeds?" in line
    assert "did you mean" not in refusal(zzzzzz=3)


def test_a_missing_parameter_is_an_error():
    with pytest.raises(ParameterError, match="parameter seeds: missing"):
        check({k: v for k, v in GOOD.items() if k != "seeds"}, **RULES)


def test_what_a_kernel_has_of_its_own_is_no_parameter():
    shell = start_ipython() or IPython.get_ipython()
    own = {k: v for k, v in shell.user_ns.items() if k not in ("In", "Out")}
    assert check(own | {"In": [""], "Out": {}, "math": math} | GOOD, **RULES).seeds == 3


def test_in_jupyterlab_the_check_may_run_again_after_the_whole_notebook():
    literals = "dataset = 'digits'\nseeds = 3  # how many\nrate: float = 0.1\nnote = 'x'"
    # as papermill injects it, then the check
    fresh = GOOD | {"wrong": 1, "In": ["", literals, "# Parameters\nwrong = 1\n", "p = check(...)"]}
    with pytest.raises(ParameterError, match="wrong: unknown"):
        check(fresh, **RULES)
    later = GOOD | {"result": 5, "In": ["", literals, "p = check(...)", "result = f(3)", literals, "check"]}
    assert check(later, **RULES).seeds == 3
    typo = later | {"sedes": 5, "In": [*later["In"][:-2], literals + "\nsedes = 5", "check"]}
    with pytest.raises(ParameterError, match="did you mean seeds"):
        check(typo, **RULES)


def test_ipython_shows_the_line_alone():
    assert ParameterError("one line")._render_traceback_() == ["one line"]


@given(st.integers())
def test_integer_bounds_are_inside(value):
    rule = integer(at_least=-5, at_most=5)
    assert rule.holds(value) == (-5 <= value <= 5)


@given(st.one_of(st.none(), st.text(), st.lists(st.integers()), st.floats(), st.booleans()))
def test_a_refusal_is_always_one_short_line(value):
    try:
        parameters.check({"seeds": value}, seeds=integer(at_least=1))
    except ParameterError as error:
        assert len(str(error).splitlines()) == 1 and len(str(error)) < 250
    else:
        raise AssertionError("none of these is an integer")
