"""Labelled items fit together, or are refused; what is pooled is the largest over an item's tokens."""

import numpy as np
import pytest

from lib.common.errors import DataError
from lib.probes.items import LabelledItems, pool


def labelled(**change):
    settings = dict(
        name="mine",
        texts=(),
        ids=np.zeros((2, 4), int),
        mask=np.array([[True] * 4, [True] * 3 + [False]]),
        indices=np.array([[0, 1], [0, 2], [1, 2]]),
        owner=np.array([0, 0, 1]),
        features=("f",),
        labels=np.array([[True, False]]),
        use=np.ones((1, 2), bool),
        groups=np.arange(2),
    )
    return LabelledItems(**settings | change)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            dict(indices=np.array([[0, 1], [0, 2], [1, 4]])),
            r"out of range or padding; the sequences are \(2, 4\)",
        ),
        (dict(indices=np.array([[0, 1], [0, 2], [2, 0]])), "out of range or padding"),
        (dict(indices=np.array([[0, -1], [0, 2], [1, 0]])), "out of range or padding"),
        (dict(indices=np.array([[0, 1], [0, 2], [1, 3]])), "out of range or padding"),
        (dict(indices=np.array([[0, 2], [0, 1], [1, 2]])), "must be in order, once each"),
        (dict(indices=np.array([[0, 1], [0, 1], [1, 2]])), "must be in order, once each"),
        (dict(owner=np.array([0, 0, 0])), "every item must have one"),
        (dict(owner=np.array([1, 0, 1])), "must be in order"),
        (dict(use=np.array([[True, False]])), "feature f has one class, 1 of its 1"),
    ],
)
def test_items_that_do_not_fit_are_one_clear_line(change, said):
    assert labelled().select.tolist() == [[False, True, True, False], [False, False, True, False]]
    with pytest.raises(DataError, match=said) as error:
        labelled(**change)
    assert "\n" not in str(error.value)


def test_pooled_is_the_largest_over_the_tokens_of_an_item(tmp_path):
    rng = np.random.default_rng(0)
    owner = np.repeat(np.arange(50), rng.integers(1, 5, size=50))
    activations = (rng.standard_normal((len(owner), 7)) - 3).astype(np.float16)
    np.save(tmp_path / "a.npy", activations)
    found = pool(np.load(tmp_path / "a.npy", mmap_mode="r"), owner)
    assert found.shape == (50, 7) and found.dtype == np.float16
    for i in range(50):
        assert (found[i] == activations[owner == i].max(0)).all()
    for bad in (owner[:-1], owner + 1, owner[::-1], np.where(owner == 3, 2, owner), owner[:0]):
        with pytest.raises(ValueError, match="owners; these must be 0, 0"):
            pool(activations, bad)
