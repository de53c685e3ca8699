"""How probes depend on the strength of their regularisation."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from lib.energy import nulls
from lib.energy.objective import similarity
from lib.probes import directions, fit
from lib.probes.items import LabelledItems

STRENGTHS = (0.01, 0.1, 1.0, 10.0)  # C of scikit-learn


def over_strengths(
    X: Float[ndarray, "1 items d"],
    found: LabelledItems,
    *,
    rng: np.random.Generator,
    strengths: Sequence[float] = STRENGTHS,
    shuffles: int = 5,
    whole_groups: bool = False,
) -> pd.DataFrame:
    """How probes on one layer depend on C: a row for each of `strengths`, means over features.

    `AUC`, `low`, `high`: on held-out groups, with bounds; `shuffled`: AUC of probes on shuffled labels, as those are
    ranked (`whole_groups` as in `directions.shuffled`); `cosine`: with the difference of the class means; `agreement`:
    correlation over pairs of the two PSMs, NaN for fewer than three features.
    """

    def ranked(items: LabelledItems, train: ndarray, test: ndarray, draws: int):
        both = directions.both_classes(items, train) & directions.both_classes(items, test)
        labels, use = items.labels[both], items.use[both]
        fitted = fit.fit(X, labels, use & train, strengths=strengths)
        ranks = fit.scores(fitted, X)[:, 0]
        groups = items.groups if draws else None
        auc = fit.auc(ranks, labels, use & test, groups=groups, rng=rng, draws=draws)
        means = fit.class_means(X, labels, use & train)[0]
        return _tensor(fitted.weights[:, 0]), _tensor(means), auc

    probed, means, auc = ranked(found, *directions.split(found, rng), 1000)
    controls = []
    for _ in range(shuffles):
        y, use = fit.shuffled(found.labels, found.use, rng, groups=found.groups if whole_groups else None)
        # Where a rare feature has one class on a side, the others do.
        control = replace(found, labels=y, use=use)
        controls.append(ranked(control, *fit.split(found.groups, rng), 0)[2].value.mean(1))
    enough = len(found.features) > 2
    agreement = nulls.agreement(similarity(probed), similarity(means)) if enough else np.nan
    return pd.DataFrame(
        {
            "C": strengths,
            "AUC": auc.value.mean(1),
            "low": auc.low.mean(1),
            "high": auc.high.mean(1),
            "shuffled": np.mean(controls, 0),
            "cosine": torch.cosine_similarity(probed, means, dim=-1).mean(1),
            "agreement": agreement,
        }
    )


def _tensor(values: ndarray) -> Tensor:
    return torch.from_numpy(np.asarray(values, np.float64))
