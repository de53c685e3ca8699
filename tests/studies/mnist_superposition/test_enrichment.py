"""The hypergeometric test against Fisher's, and the false discovery rate against its definition."""

import numpy as np
import pytest
from scipy.stats import fisher_exact

from lib.studies.mnist_superposition.enrichment import enrichment

RNG = np.random.default_rng(0)
A = RNG.integers(0, 3, 300)
B = np.where(RNG.random(300) < 0.5, A, RNG.integers(0, 3, 300))


def test_tails_are_fishers():
    for _, line in enrichment({"a": A}, {"b": B}).iterrows():
        inside, other = line.row_class == A, line.column_class == B
        table = [[(x & y).sum() for y in (other, ~other)] for x in (inside, ~inside)]
        tails = [fisher_exact(table, alternative=side)[1] for side in ("less", "greater")]
        assert line.p == pytest.approx(min(1, 2 * min(tails)), rel=1e-9)
        assert line.overlap == table[0][0]


def test_fdr_is_over_the_whole_table():
    table = enrichment({"a": A}, {"b": B, "c": RNG.integers(0, 4, 300)})
    assert len(table) == 9 + 12
    p = table["p"].to_numpy()
    order = np.argsort(p)
    stepped = p[order] * len(p) / np.arange(1, len(p) + 1)
    expected = np.minimum.accumulate(stepped[::-1])[::-1].clip(max=1)
    np.testing.assert_allclose(table["fdr"].to_numpy()[order], expected, rtol=1e-9)


def test_what_belongs_together_is_enriched_and_what_is_shuffled_is_not():
    table = enrichment({"a": A}, {"b": B, "shuffled": RNG.permutation(A)})
    same = table[(table["column"] == "b") & (table["row_class"] == table["column_class"])]
    assert (same["log2_odds"] > 1).all() and (same["fdr"] < 1e-6).all()
    assert (table[table["column"] == "shuffled"]["fdr"] > 0.05).all()


def test_empty_cells_stay_finite():
    table = enrichment({"a": np.array([0] * 50 + [1] * 50)}, {"b": np.array([0] * 50 + [1] * 50)})
    assert np.isfinite(table["log2_odds"]).all() and (table["p"] > 0).all()


def test_lengths_must_agree():
    with pytest.raises(ValueError, match=r"\[10, 300\]"):
        enrichment({"a": A}, {"b": A[:10]})
