"""Labelled items in miniature, for the tests of probes and of the study that uses them."""

import numpy as np

from lib.probes.items import LabelledItems


def labelled(labels, groups, *, name="planted", use=None):
    """Items whose sequences are one token long; features are called a, b, c ..."""
    count = len(groups)
    return LabelledItems(
        name=name,
        texts=(),
        ids=np.zeros((count, 1), int),
        mask=np.ones((count, 1), bool),
        indices=np.stack([np.arange(count), np.zeros(count, int)], 1),
        owner=np.arange(count),
        features=tuple("abcdef"[: len(labels)]),
        labels=labels,
        use=np.ones_like(labels) if use is None else use,
        groups=groups,
    )


GROUPS, EACH = 24, 5


def planted_directions():
    """Three orthogonal directions in the first of two layers, noise alone in the second; and the directions."""
    rng = np.random.default_rng(0)
    directions = 3 * np.linalg.qr(rng.standard_normal((16, 3)))[0].T
    labels = rng.random((3, GROUPS * EACH)) < 0.5
    X = rng.standard_normal((2, GROUPS * EACH, 16))
    X[0] += labels.T @ directions
    return X, labelled(labels, np.repeat(np.arange(GROUPS), EACH)), directions
