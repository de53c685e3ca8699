"""Hypergeometric enrichment of one classification in another, with the false discovery rate."""

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control, hypergeom


def enrichment(rows: dict[str, np.ndarray], columns: dict[str, np.ndarray]) -> pd.DataFrame:
    """Two-sided hypergeometric test of every class of every row labelling in every class of every column labelling.

    `rows` and `columns` map a name to integer labels of the same n samples. One line a pair of classes:
    row, row_class, column, column_class, overlap, log2_odds (with 1/2 added to the four counts, so that
    empty cells stay finite), p (twice the smaller tail, at most 1) and fdr (Benjamini-Hochberg over the
    whole table). Raises ValueError where lengths differ. Wiechecki 2024, section 3.1.5.
    """
    sizes = {len(labels) for labels in (*rows.values(), *columns.values())}
    if len(sizes) != 1:
        raise ValueError(f"labellings of the same samples are needed; got lengths {sorted(sizes)}")
    n = sizes.pop()
    tables = []
    for row, a in rows.items():
        for column, b in columns.items():
            a_classes, a_index = np.unique(a, return_inverse=True)
            b_classes, b_index = np.unique(b, return_inverse=True)
            both = np.zeros((len(a_classes), len(b_classes)), dtype=int)
            np.add.at(both, (a_index, b_index), 1)
            i, j = (grid.ravel() for grid in np.indices(both.shape))
            overlap, in_a, in_b = both.ravel(), both.sum(1)[i], both.sum(0)[j]
            only_a, only_b = in_a - overlap, in_b - overlap
            neither = n - in_a - in_b + overlap
            odds = (overlap + 0.5) * (neither + 0.5) / ((only_a + 0.5) * (only_b + 0.5))
            tails = (
                hypergeom.cdf(overlap, n, in_a, in_b),
                hypergeom.sf(overlap - 1, n, in_a, in_b),
            )
            tables.append(
                pd.DataFrame(
                    dict(
                        row=row,
                        row_class=a_classes[i],
                        column=column,
                        column_class=b_classes[j],
                        overlap=overlap,
                        log2_odds=np.log2(odds),
                        p=np.clip(2 * np.minimum(*tails), 0, 1),
                    )
                )
            )
    table = pd.concat(tables, ignore_index=True)
    table["fdr"] = false_discovery_control(table["p"])
    return table
