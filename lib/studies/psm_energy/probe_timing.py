"""Probes fitted as one batch against a loop over scikit-learn's, on the same activations."""

import itertools
import time
from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float
from numpy import ndarray
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from lib.common.timing import threads
from lib.probes.fit import fit


def compare(
    X: Float[ndarray, "layers n d"],
    y: Bool[ndarray, "features n"],
    use: Bool[ndarray, "features n"] | None = None,
    strengths: float | Sequence[float] = 1.0,
    repetitions: int = 3,
    tol: float = 1e-2,
    sklearn_tol: float = 1e-4,
) -> pd.DataFrame:
    """CPU seconds of `fit` and of a loop over scikit-learn's, one thread each: repetition, batched, sklearn, ratio.

    `batched_cosine` and `sklearn_cosine` are the worst with the optimum (`fit` in float64 to 1e-8): the ratio counts
    where the batched fit is at least as accurate, as it is with the default tolerances; scikit-learn's is its own.
    """
    use = np.ones_like(y) if use is None else use
    optimum = fit(np.asarray(X, np.float64), y, use, strengths, tol=1e-8, device="cpu").weights

    def loop():
        found = []
        for C, x, (v, u) in itertools.product(np.atleast_1d(strengths), X, list(zip(y, use, strict=True))):
            model = LogisticRegression(C=C, class_weight="balanced", tol=sklearn_tol, max_iter=100_000)
            found.append(model.fit(x[u], v[u]).coef_[0])
        return np.reshape(found, optimum.shape)

    rows = []
    with threads(1), threadpool_limits(1):
        for repetition in range(repetitions):
            row: dict[str, float] = dict(repetition=repetition)
            for key, run in (
                ("batched", lambda: fit(X, y, use, strengths, tol=tol, device="cpu").weights),
                ("sklearn", loop),
            ):
                start = time.process_time()
                w = run()
                row[key] = time.process_time() - start
                cosines = (
                    (w * optimum).sum(-1) / np.linalg.norm(w, axis=-1) / np.linalg.norm(optimum, axis=-1)
                )
                row[f"{key}_cosine"] = float(cosines.min())
            rows.append(row)
    return pd.DataFrame(rows).assign(ratio=lambda table: table["sklearn"] / table["batched"])
