"""The eleven features of a decoded token that are probed, and which tokens each of them uses.

Definitions and sampling follow Gurnee et al. 2023, "Finding neurons in a haystack" (arXiv:2305.01610) and
probing_datasets/token_supervised.py of its repository, github.com/wesg52/sparse-probing-paper.
"""

import math
import re
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import chain

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped
from numpy import ndarray
from numpy.random import Generator

SKIP = 10  # tokens at the beginning of a sequence, whose activations are unlike the others'
LEAST, MOST = Fraction(1, 5), Fraction(1, 2)  # share of positives among the samples of a feature
TWIN = 0.99  # correlation of labels, above which two features count as one
_SINGLE = {"I", " I", "A", " A"}  # words, and no capitals


def _found(pattern: str) -> Callable[[str], bool]:
    search = re.compile(pattern).search
    return lambda token: search(token) is not None


def _whole(pattern: str) -> Callable[[str], bool]:
    match = re.compile(pattern).fullmatch
    return lambda token: match(token) is not None


_capitals = _whole(r"\s*[A-Z]+")

# In the order of the slides. An empty token has no feature; half a character decodes to U+FFFD, which is not ASCII.
FEATURES: dict[str, Callable[[str], bool]] = {
    "contains_digit": _found(r"\d"),
    "all_digits": _whole(r"\s?\d+"),
    "contains_capital": _found("[A-Z]"),
    "leading_capital": lambda token: token.removeprefix(" ")[:1].isupper(),
    "all_capitals": lambda token: token not in _SINGLE and _capitals(token),
    "contains_whitespace": _found(r"\s"),
    "has_leading_space": lambda token: token.startswith(" "),
    "no_leading_space_and_loweralpha": lambda token: token.isalpha() and token.islower(),
    "contains_all_whitespace": _whole(r"\s+"),
    "is_not_alphanumeric": _whole(r"\W+"),
    "is_not_ascii": lambda token: not token.isascii(),
}


def labels(tokens: Sequence[Sequence[str]]) -> Bool[ndarray, "features batch length"]:
    """Which tokens have which of `FEATURES`; each distinct string is looked at only once.

    Raises ValueError if the sequences differ in length.
    """
    lengths = {len(row) for row in tokens}
    if len(lengths) != 1:
        raise ValueError(
            f"the sequences have lengths {sorted(lengths)[:5]}; they must be of one length: pad them, and mask the rest"
        )
    codes, strings = pd.factorize(np.fromiter(chain.from_iterable(tokens), object))
    table = np.array([[has(token) for token in strings] for has in FEATURES.values()], bool)
    return table[:, codes].reshape(len(FEATURES), len(tokens), lengths.pop())


def eligible(
    mask: Bool[ndarray, "batch length"],
    ids: Int[ndarray, "batch length"] | None = None,
    *,
    special: Sequence[int] = (),
    skip: int = SKIP,
) -> Bool[ndarray, "batch length"]:
    """The tokens that may be probed: real ones (`mask`), not among the first `skip` of a sequence, not `special`."""
    mask = np.asarray(mask, bool)
    out = mask & (mask.cumsum(axis=1) > skip)
    return out if ids is None else out & ~np.isin(np.asarray(ids), list(special))


def sample(
    labels: Bool[ndarray, "features n"],
    groups: Shaped[ndarray, " n"],
    rng: Generator,
    *,
    maximum: int = 10_000,
    at_least: int = 500,
    groups_at_least: int = 5,
    names: Sequence[str] = tuple(FEATURES),
) -> tuple[Bool[ndarray, "kept n"], list[str], dict[str, str]]:
    """The samples each feature uses, the names of the features kept, and why each of the others was dropped.

    A feature uses at most `maximum` samples, 20-50% of them positive: a rarer one uses all its positives and four
    negatives for each, a more frequent one as many positives as there are negatives. All draw in one random order, so
    that they share their samples as far as they can. Dropped: a feature with fewer than `at_least` positives or
    negatives, or with either in fewer than `groups_at_least` groups (documents), as no grouped split could tell what
    its probe learnt; and one that has nearly the same tokens as an earlier feature (a correlation above `TWIN`).

    `labels` holds eligible tokens only (`eligible`). Raises ValueError on shapes that do not fit.
    """
    labels, groups = np.asarray(labels, bool), np.asarray(groups)
    if labels.ndim != 2 or groups.shape != labels.shape[1:] or len(names) != len(labels):
        raise ValueError(
            f"labels are {labels.shape}, groups {groups.shape} and names {len(names)}; "
            "they must be (features, n), (n,) and features"
        )
    if maximum < 5 or at_least < 1:
        raise ValueError(f"maximum is {maximum} and at_least {at_least}; they must be at least 5 and 1")
    order = rng.permutation(labels.shape[1])
    groups = pd.factorize(groups)[0]
    masks, kept, dropped = [], [], {}
    for name, row in zip(names, labels, strict=True):
        reason = _too_few(row, groups, at_least=at_least, groups_at_least=groups_at_least)
        reason = reason or _twin(row, labels, names, kept)
        if reason:
            dropped[name] = reason
            continue
        positive = row[order]
        many, positives = _counts(int(row.sum()), int((~row).sum()), maximum=maximum)
        mask = np.zeros(len(row), bool)
        mask[order[positive][:positives]] = True
        mask[order[~positive][: many - positives]] = True
        masks.append(mask)
        kept.append(name)
    return np.array(masks, bool).reshape(-1, labels.shape[1]), kept, dropped


def _too_few(row: ndarray, groups: ndarray, *, at_least: int, groups_at_least: int) -> str | None:
    for which, members in (("positives", row), ("negatives", ~row)):
        count, spread = int(members.sum()), len(np.unique(groups[members]))
        if count < at_least:
            return f"{count:,} {which}, fewer than {at_least:,}"
        if spread < groups_at_least:
            return f"groups with {which}: {spread}, fewer than {groups_at_least}"
    return None


def _twin(row: ndarray, labels: ndarray, names: Sequence[str], kept: list[str]) -> str | None:
    for name in kept:
        if np.corrcoef(row, labels[list(names).index(name)])[0, 1] > TWIN:
            return f"nearly the same tokens as {name}"
    return None


def _counts(positives: int, negatives: int, *, maximum: int) -> tuple[int, int]:
    """How many samples a feature uses, and how many of them are positive; fractions are exact, so the bounds hold."""
    both = positives + negatives
    many = min(maximum, both, math.floor(positives / LEAST), math.floor(negatives / (1 - MOST)))
    as_frequent = round(positives * many / both)
    return many, min(max(as_frequent, math.ceil(LEAST * many)), math.floor(MOST * many))
