"""Text features: the definitions on tokens of every kind, and samples of which 20-50% are positive."""

import re

import numpy as np
import pytest

from lib.probes import text_features
from lib.probes.text_features import FEATURES, eligible, labels, sample

ORDER = """contains_digit all_digits contains_capital leading_capital all_capitals contains_whitespace has_leading_space
no_leading_space_and_loweralpha contains_all_whitespace is_not_alphanumeric is_not_ascii""".split()

# Of each token the numbers, in the order of the slides and from 0, of the features that it has.
KNOWN = {
    "": set(),
    " ": {5, 6, 8, 9},
    "\n\n": {5, 8, 9},
    "\u00a0": {5, 8, 9, 10},
    "the": {7},
    " the": {5, 6},
    "The": {2, 3},
    " The": {2, 3, 5, 6},
    "  The": {2, 5, 6},
    "\tThe": {2, 5},
    "iPhone": {2},
    "THE": {2, 3, 4},
    " THE": {2, 3, 4, 5, 6},
    "\n  THE": {2, 4, 5},
    "I": {2, 3},
    " I": {2, 3, 5, 6},
    "A": {2, 3},
    " A": {2, 3, 5, 6},
    " B": {2, 3, 4, 5, 6},
    "IA": {2, 3, 4},
    "7": {0, 1},
    " 2024": {0, 1, 5, 6},
    "  2024": {0, 5, 6},
    "\n7": {0, 1, 5},
    "x7": {0},
    "٣": {0, 1, 10},
    "...": {9},
    "_": set(),
    " (": {5, 6, 9},
    "łódź": {7, 10},
    " łódź": {5, 6, 10},
    "Łódź": {3, 10},
    "ŁÓ": {3, 10},
    "don't": set(),
    "\ufffd": {9, 10},
    "“": {9, 10},
}


def test_the_features_are_the_eleven_of_the_slides_in_their_order():
    assert list(FEATURES) == ORDER


@pytest.mark.parametrize("token", KNOWN)
def test_definitions(token):
    assert {i for i, has in enumerate(FEATURES.values()) if has(token)} == KNOWN[token]


def test_definitions_are_those_of_the_issue_on_all_short_strings():
    """Against the regular expressions as the issue writes them, on every string of up to three of these characters."""
    written = {
        "contains_digit": lambda s: bool(re.search(r"\d", s)),
        "all_digits": lambda s: bool(re.fullmatch(r"\s?\d+", s)),
        "contains_capital": lambda s: bool(re.search(r"[A-Z]", s)),
        "leading_capital": lambda s: s[0].isupper() or (s[0] == " " and s[1:2].isupper()),
        "all_capitals": lambda s: bool(re.fullmatch(r"\s*[A-Z]+", s)) and s not in ("I", " I", "A", " A"),
        "contains_whitespace": lambda s: bool(re.search(r"\s", s)),
        "has_leading_space": lambda s: s[0] == " ",
        "no_leading_space_and_loweralpha": lambda s: s[0] != " " and s.isalpha() and s.islower(),
        "contains_all_whitespace": lambda s: bool(re.fullmatch(r"\s+", s)),
        "is_not_alphanumeric": lambda s: bool(re.fullmatch(r"\W+", s)),
        "is_not_ascii": lambda s: any(ord(c) > 127 for c in s),
    }
    alphabet = " \nIAbxé7.É_"
    strings = [a + b + c for a in alphabet for b in ["", *alphabet] for c in ["", *alphabet]]
    found = labels([strings])[:, 0]
    for row, (name, has) in zip(found, written.items(), strict=True):
        assert row.tolist() == [has(s) for s in strings], name


def test_labels_look_at_each_distinct_string_once(monkeypatch):
    seen = []
    spy = {"seen": lambda token: seen.append(token) or token == "a", "other": lambda token: token == "b"}
    monkeypatch.setattr(text_features, "FEATURES", spy)
    found = labels([["a", "b", "a"], ["c", "a", "b"]] * 100)
    assert found.shape == (2, 200, 3) and sorted(seen) == ["a", "b", "c"]
    assert found[0, :2].tolist() == [[True, False, True], [False, True, False]]
    assert found[1, :2].tolist() == [[False, True, False], [False, False, True]]


@pytest.mark.parametrize("tokens", [[["a"], ["a", "b"]], []])
def test_ragged_sequences_are_refused(tokens):
    with pytest.raises(ValueError, match="must be of one length") as error:
        labels(tokens)
    assert "\n" not in str(error.value)


def test_the_first_ten_real_tokens_the_padding_and_special_tokens_are_not_probed():
    mask = np.ones((3, 15), bool)
    mask[1, 12:] = False  # padding on the right
    mask[2, :3] = False  # and on the left
    ids = np.arange(45).reshape(3, 15)
    found = eligible(mask, ids, special=[12, 44])
    expected = [[10, 11, 13, 14], [10, 11], [13]]
    assert [np.flatnonzero(row).tolist() for row in found] == expected
    assert eligible(mask, skip=0).tolist() == mask.tolist()


def drawn(shares, n=4000, seed=0, documents=40, **settings):
    rng = np.random.default_rng(seed)
    found = rng.random((len(shares), n)) < np.array(shares)[:, None]
    names = [f"f{i}" for i in range(len(shares))]
    settings = dict(maximum=1000, at_least=20) | settings
    return found, sample(found, rng.integers(documents, size=n), rng, names=names, **settings)


@pytest.mark.parametrize("maximum", [5, 101, 1000, 1001, 10**6])
def test_positives_are_clamped_to_between_a_fifth_and_a_half(maximum):
    shares = [0.01, 0.03, 0.19, 0.2, 0.35, 0.5, 0.55, 0.9, 0.99]
    found, (masks, kept, dropped) = drawn(shares, maximum=maximum)
    assert kept == [f"f{i}" for i in range(9)] and not dropped and masks.shape == found.shape
    for row, mask in zip(found, masks, strict=True):
        share, many = row[mask].mean(), mask.sum()
        assert 0.2 <= share <= 0.5 and many <= maximum
        positives, negatives = row.sum(), (~row).sum()
        if positives < 0.2 * len(row):
            assert many == min(5 * positives, maximum) and share == pytest.approx(0.2, abs=1 / many)
        elif positives > 0.5 * len(row):
            assert many == min(2 * negatives, maximum) and share == pytest.approx(0.5, abs=1 / many)
        else:
            assert many == min(len(row), maximum)
            assert share == pytest.approx(max(0.2, row.mean()), abs=1 / many)


def test_samples_are_drawn_at_random_and_shared_between_features():
    masks = drawn([0.3, 0.4, 0.3], maximum=500)[1][0]
    assert masks[:, :2000].mean() == pytest.approx(0.125, rel=0.2)
    assert masks.any(0).sum() < 0.6 * 1500, "independent draws would share next to nothing"
    again = drawn([0.3, 0.4, 0.3], maximum=500)[1][0]
    other = drawn([0.3, 0.4, 0.3], maximum=500, seed=1)[1][0]
    assert (again == masks).all() and (other != masks).any()


def test_features_with_too_few_samples_are_dropped_and_reported():
    n = 1000
    found = np.zeros((5, n), bool)
    found[1, :19] = True
    found[2, :981] = True
    found[3, :100] = True  # in the first document alone
    found[4, ::4] = True
    masks, kept, dropped = sample(
        found, np.arange(n) // 100, np.random.default_rng(0), at_least=20, names=list("abcde")
    )
    assert kept == ["e"] and masks.shape == (1, n)
    assert dropped == {
        "a": "0 positives, fewer than 20",
        "b": "19 positives, fewer than 20",
        "c": "19 negatives, fewer than 20",
        "d": "groups with positives: 1, fewer than 5",
    }
    none = sample(found[:1], np.arange(n) // 100, np.random.default_rng(0), names=["a"])
    assert none[0].shape == (0, n) and none[1] == []


def test_a_feature_of_nearly_the_same_tokens_as_an_earlier_one_is_dropped():
    found = np.random.default_rng(0).random((4, 1000)) < 0.4
    found[2] = found[0]
    found[2, 0] ^= True
    found[3, 20:] = found[0, 20:]  # a correlation of some .98 is enough to differ
    found[3, :20] = ~found[0, :20]
    _, kept, dropped = sample(
        found, np.arange(1000) // 100, np.random.default_rng(0), at_least=20, names=list("abcd")
    )
    assert kept == ["a", "b", "d"] and dropped == {"c": "nearly the same tokens as a"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (dict(groups=np.zeros(9)), r"groups \(9,\)"),
        (dict(names=["a"]), "names 1"),
        (dict(labels=np.zeros(10, bool)), r"labels are \(10,\)"),
        (dict(maximum=4), "maximum is 4"),
        (dict(at_least=0), "at_least 0"),
    ],
)
def test_bad_input_is_one_clear_line(change, said):
    settings = dict(labels=np.zeros((2, 10), bool), groups=np.zeros(10), names=["a", "b"]) | change
    with pytest.raises(ValueError, match=said) as error:
        sample(rng=np.random.default_rng(0), **settings)
    assert "\n" not in str(error.value)
