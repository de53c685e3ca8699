"""The ledger of claims (claims.yaml) and the rule by which numbers settle one.

A decision rule is written before the numbers are seen: a statistic, its unit of replication, a control, and
the range that the whole 95% interval must lie in for the claim to be supported.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from lib.common.errors import UserError, one_line
from lib.common.files import ROOT

STATUSES = ("supported", "contradicted", "inconclusive", "not tested")
CONFIDENCE = 0.95


class ClaimError(UserError, ValueError):
    """A ledger, or numbers for it, that can't be used; says which claim."""


@dataclass(frozen=True)
class Rule:
    """What is measured, on what, against what, and within which bounds it supports the claim."""

    statistic: str
    unit: str
    control: str
    low: float
    high: float

    @property
    def bounds(self) -> str:
        """The range in words, as the tables show it."""
        if math.isinf(self.low):
            return f"≤ {self.high:g}"
        return f"≥ {self.low:g}" if math.isinf(self.high) else f"{self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Source:
    """A document whose claims are in the ledger."""

    id: str
    title: str
    authors: str
    year: int
    cite: str


@dataclass(frozen=True)
class Claim:
    """One statement of a source, the study that tests it (or why none does), and its decision rule."""

    id: str
    source: Source
    where: str
    statement: str
    study: str | None
    why_not: str | None
    rule: Rule | None


@dataclass(frozen=True)
class Verdict:
    """What the numbers say about one claim: the estimate with its 95% interval over n units.

    `p` and `effect` (Cohen's d) are against `bound`, the finite bound nearest to the mean; they are None
    if the units do not vary or there are fewer than two.
    """

    claim: str
    status: str
    n: int
    mean: float | None
    low: float | None = None
    high: float | None = None
    bound: float | None = None
    p: float | None = None
    effect: float | None = None
    control_mean: float | None = None
    control_low: float | None = None
    control_high: float | None = None
    note: str = ""

    @property
    def interval(self) -> str:
        """Mean and interval as the tables show them."""
        return estimate(self.mean, self.low, self.high)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


def estimate(mean: float | None, low: float | None, high: float | None) -> str:
    """`0.512 [0.431, 0.593]`, with as many digits as the width of the interval warrants."""
    if mean is None:
        return "–"
    if low is None or high is None:
        return f"{mean:.3g}"
    width = high - low
    digits = 3 if width == 0 else min(max(1 - math.floor(math.log10(width)), 0), 6)
    return f"{mean:z.{digits}f} [{low:z.{digits}f}, {high:z.{digits}f}]"


def load(path: str | Path | None = None) -> dict[str, Claim]:
    """Every claim of the ledger by its id, in the order of the file (default: claims.yaml of the project).

    Raises ClaimError, naming the claim, on anything that is malformed.
    """
    path = ROOT / "claims.yaml" if path is None else Path(path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ClaimError(f"there is no ledger {path.name}") from None
    except yaml.YAMLError as error:
        raise ClaimError(f"{path.name}: not YAML: {one_line(error)}") from None
    _keys(path.name, raw, {"sources", "claims"})
    sources = {}
    for key, entry in (raw["sources"] or {}).items():
        _keys(f"source {key}", entry, {"title", "authors", "year", "cite"})
        sources[key] = Source(id=key, **entry)
    claims: dict[str, Claim] = {}
    for entry in raw["claims"] or []:
        claim = _claim(entry, sources)
        if claim.id in claims:
            raise ClaimError(f"claim {claim.id}: the id occurs twice")
        claims[claim.id] = claim
    return claims


def judge(claim: Claim, values: Collection, *, control: Collection | None = None, note: str = "") -> Verdict:
    """The verdict on a claim from one number per unit of replication, `values` of shape `(n,)`.

    *supported* if the whole Student t interval lies within the rule's bounds, *contradicted* if it lies
    wholly outside, else *inconclusive*, as always with fewer than two units. `control` holds the same statistic
    in the control arm; it is reported, not judged. Raises ClaimError on values that are not finite.
    """
    from scipy import stats

    if claim.rule is None:
        raise ClaimError(f"claim {claim.id}: has no decision rule to judge by")
    rule = claim.rule
    x = _units(claim, values, "values")
    mean, low, high = _interval(x)
    found = {"n": len(x), "mean": mean, "low": low, "high": high, "note": note}
    if control is not None:
        names = ("control_mean", "control_low", "control_high")
        found |= dict(zip(names, _interval(_units(claim, control, "control")), strict=True))
    if low is None or high is None:
        return Verdict(claim.id, "inconclusive", **found)
    if rule.low <= low and high <= rule.high:
        status = "supported"
    elif high < rule.low or low > rule.high:
        status = "contradicted"
    else:
        status = "inconclusive"
    bound = min((b for b in (rule.low, rule.high) if math.isfinite(b)), key=lambda b: abs(mean - b))
    if x.min() < x.max():
        found["p"] = float(stats.ttest_1samp(x, bound).pvalue)
        found["effect"] = (mean - bound) / float(x.std(ddof=1))
    return Verdict(claim.id, status, bound=bound, **found)


def judge_all(
    study: str,
    evidence: Mapping[str, tuple],
    not_tested: Mapping[str, str] | None = None,
    *,
    path: str | Path | None = None,
) -> dict[str, Verdict]:
    """The verdicts on all claims of a study, by id, in the order of the ledger.

    `evidence`: by claim, (values, the same for the control or None) and perhaps a note, as for `judge`; `not_tested`:
    by claim, why this run cannot test it. Raises ClaimError if a claim of the study is in neither or in both, or if
    either names something that is not a claim of the study.
    """
    not_tested = not_tested or {}
    ours = {name: claim for name, claim in load(path).items() if claim.study == study}
    if strangers := sorted({*evidence, *not_tested} - set(ours)):
        raise ClaimError(f"evidence on what is not a claim of {study}: {', '.join(strangers)}")
    if missing := [name for name in ours if name not in evidence and name not in not_tested]:
        raise ClaimError(f"claims of {study} without evidence: {', '.join(missing)}")
    if both := sorted(set(evidence) & set(not_tested)):
        raise ClaimError(f"claims with evidence that count as not tested: {', '.join(both)}")
    verdicts = {}
    for name, claim in ours.items():
        if name in evidence:
            values, control, *note = evidence[name]
            verdicts[name] = judge(claim, values, control=control, note="".join(note))
        else:
            verdicts[name] = Verdict(name, "not tested", n=0, mean=None, note=not_tested[name])
    return verdicts


def tally(
    verdicts: Mapping[str, Verdict], source: str | None = None, *, path: str | Path | None = None
) -> dict[str, int]:
    """How many verdicts (given by claim) have each of `STATUSES`, among all claims or those of one source."""
    if source is not None:
        ledger = load(path)
        verdicts = {name: verdict for name, verdict in verdicts.items() if ledger[name].source.id == source}
    found = [verdict.status for verdict in verdicts.values()]
    return {status: found.count(status) for status in STATUSES}


def counts(statuses: Mapping[str, int]) -> str:
    """`2 supported, 1 contradicted`, of a tally."""
    return ", ".join(f"{statuses[status]} {status}" for status in STATUSES if statuses.get(status))


def _units(claim: Claim, values: Collection, what: str):
    import numpy as np

    x = np.asarray(values, dtype=float)
    if x.ndim != 1 or len(x) == 0:
        raise ClaimError(f"claim {claim.id}: {what} must be one number per unit, not of shape {x.shape}")
    if not np.isfinite(x).all():
        raise ClaimError(f"claim {claim.id}: {what} has {(~np.isfinite(x)).sum()} of {len(x)} not finite")
    return x


def _interval(x) -> tuple[float, float | None, float | None]:
    from scipy import stats

    mean = float(x.mean())
    if len(x) < 2:
        return mean, None, None
    if x.min() == x.max():
        return float(x[0]), float(x[0]), float(x[0])
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(x) - 1) * stats.sem(x))
    return mean, mean - half, mean + half


def _claim(entry: Any, sources: Mapping[str, Source]) -> Claim:
    name = f"claim {entry.get('id', '(without id)')}" if isinstance(entry, dict) else "a claim"
    _keys(name, entry, {"id", "source", "where", "statement", "study"}, optional={"why_not", "rule"})
    if entry["source"] not in sources:
        raise ClaimError(f"{name}: unknown source {entry['source']!r} (there are: {', '.join(sources)})")
    for key in ("id", "where", "statement"):
        if not isinstance(entry[key], str) or not entry[key].strip():
            raise ClaimError(f"{name}: {key} must be text")
    tested = entry["study"] is not None
    if tested and entry.get("rule") is None:
        raise ClaimError(f"{name}: missing rule")
    if tested == bool(entry.get("why_not")):
        raise ClaimError(f"{name}: why_not belongs to the claims without a study, and to all of those")
    rule = _rule(name, entry["rule"]) if entry.get("rule") is not None else None
    return Claim(
        id=entry["id"],
        source=sources[entry["source"]],
        where=entry["where"],
        statement=entry["statement"].strip(),
        study=entry["study"],
        why_not=entry.get("why_not"),
        rule=rule,
    )


def _rule(name: str, entry: Any) -> Rule:
    _keys(f"{name}: rule", entry, {"statistic", "unit", "control", "supported_within"})
    bounds = entry["supported_within"]
    numeric = isinstance(bounds, list) and len(bounds) == 2 and all(type(b) in (int, float) for b in bounds)
    if not numeric or not bounds[0] < bounds[1]:
        raise ClaimError(f"{name}: supported_within must be [low, high] with low below high, not {bounds}")
    if all(math.isinf(b) for b in bounds):
        raise ClaimError(f"{name}: supported_within has no finite bound, so nothing could contradict it")
    return Rule(entry["statistic"], entry["unit"], entry["control"], float(bounds[0]), float(bounds[1]))


def _keys(name: str, entry: Any, required: set[str], optional: frozenset | set = frozenset()) -> None:
    if not isinstance(entry, dict):
        raise ClaimError(f"{name}: must be a mapping with {', '.join(sorted(required))}")
    for key in entry:
        if key not in required | optional:
            raise ClaimError(f"{name}: unknown key {key!r} (known: {', '.join(sorted(required | optional))})")
    for key in sorted(required - entry.keys()):
        raise ClaimError(f"{name}: missing {key}")
