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
