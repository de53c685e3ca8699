"""The rules that a notebook's parameters must keep, checked before anything is trained.

A study's first code cell (tagged `parameters`) assigns plain literals; papermill injects, in a cell
after it, what a batch changes; the second cell (tagged `check-parameters`) calls `check(globals(), name=rule, ...)`.
"""

import ast
import difflib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

from lib.common.errors import UserError


class ParameterError(UserError, ValueError):
    """A parameter that a study can't run with; one line, in a notebook too."""


@dataclass(frozen=True)
class Rule:
    """What a value must satisfy, and how to say so."""

    allowed: str
    holds: Callable[[Any], bool]
    numeric: bool = False


def one_of(*values: Any) -> Rule:
    """One of the values given, of the same type (True is not 1)."""
    shown = [repr(value) for value in values]
    allowed = shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} or {shown[-1]}"
    return Rule(allowed, lambda v: any(type(v) is type(value) and v == value for value in values))


def integer(at_least: int | None = None, at_most: int | None = None) -> Rule:
    """An int within bounds, which are inclusive."""
    return _bounded("an integer", lambda v: type(v) is int, at_least, at_most, None)


def number(
    at_least: float | None = None, at_most: float | None = None, *, above: float | None = None
) -> Rule:
    """A finite int or float; `above` is a lower bound, which is exclusive."""
    return _bounded(
        "a number", lambda v: type(v) in (int, float) and math.isfinite(v), at_least, at_most, above
    )


def text() -> Rule:
    """A string with something in it."""
    return Rule("text that is not empty", lambda v: type(v) is str and bool(v.strip()))


def check(namespace: Mapping[str, Any], **rules: Rule) -> SimpleNamespace:
    """The parameters in `namespace` (a notebook's globals()), as attributes of one object.

    Raises ParameterError, in one line, on the first parameter that is unknown, missing, of the wrong type or
    impossible.
    """
    for name in _candidates(namespace):
        if name not in rules:
            near = difflib.get_close_matches(name, rules, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise ParameterError(f"parameter {name}: unknown{hint} (there are: {', '.join(rules)})")
    for name, rule in rules.items():
        if name not in namespace:
            raise ParameterError(f"parameter {name}: missing; allowed: {rule.allowed}")
        value = namespace[name]
        if not rule.holds(value):
            raise ParameterError(
                f"parameter {name}: got {_shown(value)} ({_kind(value, rule)}); allowed: {rule.allowed}"
            )
    return SimpleNamespace(**{name: namespace[name] for name in rules})


def _bounded(kind: str, typed: Callable[[Any], bool], at_least, at_most, above) -> Rule:
    bounds = []
    if at_least is not None:
        bounds.append(f"of at least {at_least}")
    if above is not None:
        bounds.append(f"above {above}")
    if at_most is not None:
        bounds.append(f"of at most {at_most}" if not bounds else f"at most {at_most}")
    return Rule(
        " ".join([kind, " and ".join(bounds)]).strip(),
        lambda v: (
            typed(v)
            and (at_least is None or v >= at_least)
            and (above is None or v > above)
            and (at_most is None or v <= at_most)
        ),
        numeric=True,
    )


def _shown(value: Any) -> str:
    shown = re.sub(r"\s+", " ", repr(value))
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _kind(value: Any, rule: Rule) -> str:
    if isinstance(value, bool):
        return "a truth value"
    if isinstance(value, str):
        return "text" + (_as_number(value) if rule.numeric else "")
    if value is None:
        return "nothing"
    return {int: "an integer", float: "a number"}.get(type(value), f"a {type(value).__name__}")


def _as_number(value: str) -> str:
    # YAML reads 1e-3 as text: a trap that deserves more than "wrong type".
    try:
        meant = float(value)
    except ValueError:
        return ""
    if not math.isfinite(meant):
        return ""
    written = int(meant) if meant.is_integer() else meant
    return f"; write {written} without quotes"


def _candidates(namespace: Mapping[str, Any]) -> list[str]:
    """The names that somebody set as parameters: plain values, in the cells just before the check."""
    names = [
        name
        for name, value in namespace.items()
        if not name.startswith("_")
        and name not in ("In", "Out")
        and not isinstance(value, ModuleType)
        and not callable(value)
    ]
    history = namespace.get("In")
    if not isinstance(history, list) or len(history) < 2:
        return names
    # In JupyterLab the check may be run again when the whole notebook has left its variables behind: then
    # only the cells of plain assignments that ran directly before it (In[-1] is the check itself) count.
    recent: set[str] = set()
    for source in reversed(history[:-1]):
        assigned = _plain_assignments(source)
        if assigned is None:
            break
        recent |= assigned
    return [name for name in names if name in recent]


def _plain_assignments(source: str) -> set[str] | None:
    """The names assigned in a cell that does nothing but assign literals; None for any other cell."""
    try:
        body = ast.parse(source).body
    except SyntaxError:
        return None
    names = set()
    for statement in body:
        if isinstance(statement, ast.Assign):
            targets = statement.targets
        elif isinstance(statement, ast.AnnAssign):
            targets = [statement.target]
        elif isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        else:
            return None
        # papermill writes nan and infinities as float('nan'); any other call is not a parameter.
        calls = [n for n in ast.walk(statement) if isinstance(n, ast.Call)]
        if not all(isinstance(target, ast.Name) for target in targets) or any(
            not (isinstance(call.func, ast.Name) and call.func.id == "float") for call in calls
        ):
            return None
        names |= {target.id for target in targets}
    return names
