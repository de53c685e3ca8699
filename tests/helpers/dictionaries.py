"""All kinds of dictionaries, with the options that change what they compute."""

import pytest

from lib.dictionaries import L1, BatchTopK, Hybrid, Projective, Ridge, TopK

ALL = [
    (TopK, {}),
    (TopK, {"tied": True}),
    (BatchTopK, {}),
    (L1, {}),
    (Projective, {}),
    (Projective, {"support": "omp"}),
    (Ridge, {}),
    (Ridge, {"quota": "normalised", "strength": 3.0, "tied": True}),
    (Ridge, {"quota": "budget", "strength": 1.5}),
    (Hybrid, {}),
    (Hybrid, {"penalty": 0.1, "tied": True}),
]
NAMES = [f"{kind.__name__} {' '.join(map(str, options.values()))}".strip() for kind, options in ALL]
every = pytest.mark.parametrize(("kind", "options"), ALL, ids=NAMES)
