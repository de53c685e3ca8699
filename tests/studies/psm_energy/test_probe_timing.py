"""Both sides of the comparison reach the optimum, and the ratio is that of their times."""

import numpy as np

from lib.studies.psm_energy.probe_timing import compare


def test_the_comparison_with_scikit_learn_is_at_equal_accuracy():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((1, 300, 30)).astype(np.float32)
    y = X[0, :, :3].T + rng.standard_normal((3, 300)) > 1.5  # rare, so that balance counts
    use = rng.random(y.shape) < 0.8
    table = compare(X, y, use, repetitions=2, sklearn_tol=1e-6)
    assert table.repetition.tolist() == [0, 1] and (table[["batched", "sklearn"]] > 0).all(axis=None)
    np.testing.assert_allclose(table.ratio, table.sklearn / table.batched)
    assert table[["batched_cosine", "sklearn_cosine"]].min(axis=None) > 0.9999
