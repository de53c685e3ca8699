"""Published probing data of Gurnee et al. 2023, "Finding neurons in a haystack" (arXiv:2305.01610), as labelled items.

The format is what github.com/wesg52/sparse-probing-paper writes in probing_datasets/token_supervised.py, wikidata.py
and ngrams.py: a Hugging Face data set saved to disk, with `tokens`, ids of one length, and these columns.

- Text features: ragged `FEATURE|probe_indices` and `FEATURE|probe_classes` (-1 or 0, and 1); groups are sequences.
- Wikidata: `class`, `name`, `surname_index_start` and `surname_index_end` (its last token); groups are names.
- Compound words: `feature_name` and `label` ("bigram" is positive), at the last token; groups are sequences.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import ndarray

from lib.common.errors import DataError, one_line
from lib.probes.items import LabelledItems


def load(folder: str | Path, *, pad: int | None = None) -> LabelledItems:
    """The data set in `folder`; raises DataError if it is none of the three kinds or its columns do not fit.

    `pad` is the id that pads sequences on the right. Without it, all tokens count as text, which makes no difference
    to a causal model; what follows a surname counts as padding anyway.
    """
    import datasets  # takes seconds

    folder = Path(folder)
    try:
        table = datasets.load_from_disk(str(folder)).with_format("arrow")[:]
    except Exception as error:  # datasets and pyarrow raise unrelated types; a DatasetDict has no rows
        raise DataError(
            f"{folder} can't be read as one data set saved to disk ({type(error).__name__}: {one_line(error)})"
        ) from None
    columns = {name: table.column(name).combine_chunks() for name in table.column_names}
    lengths, ids = _lists(folder, columns, "tokens")
    if len(set(lengths.tolist())) != 1 or not lengths[0]:
        found = sorted(set(lengths.tolist()))[:5]
        raise DataError(f"{folder}: tokens have lengths {found}; they must be of one length")
    ids = ids.reshape(len(lengths), -1)
    mask = np.ones(ids.shape, bool)
    if pad is not None:
        mask = np.logical_or.accumulate((ids != pad)[:, ::-1], axis=1)[:, ::-1]
    if any(name.endswith("|probe_indices") for name in columns):
        found = _text_features(folder, columns, ids.shape)
    elif "class" in columns:
        found = _wikidata(folder, columns, ids.shape)
    elif "feature_name" in columns:
        found = _compounds(folder, columns, ids.shape)
    else:
        raise DataError(
            f"{folder} has columns {', '.join(columns)}; besides tokens it must have FEATURE|probe_indices and "
            "FEATURE|probe_classes, or class, name, surname_index_start and _end, or feature_name and label"
        )
    texts = tuple(columns["text"].to_pylist()) if "text" in columns else ()
    return LabelledItems(**(dict(name=folder.name, texts=texts, ids=ids, mask=mask) | found))


def _text_features(folder: Path, columns: Mapping, shape: tuple[int, int]) -> dict:
    features = tuple(n.removesuffix("|probe_indices") for n in columns if n.endswith("|probe_indices"))
    places, classes = [], []
    for feature in features:
        lengths, at = _lists(folder, columns, f"{feature}|probe_indices")
        others, label = _lists(folder, columns, f"{feature}|probe_classes")
        known = set(np.unique(label).tolist())
        if (lengths != others).any() or not (known <= {-1, 1} or known <= {0, 1}):
            raise DataError(
                f"{folder}: feature {feature} must have a class, -1 or 0, or 1, for each index of a sequence; it has "
                f"{len(label):,} classes for {len(at):,} indices, with values {sorted(known)[:5]}"
            )
        if len(at) and not (at.min() >= 0 and at.max() < shape[1]):
            raise DataError(
                f"{folder}: feature {feature} has indices from {at.min()} to {at.max()}; "
                f"sequences have {shape[1]} tokens"
            )
        flat = np.repeat(np.arange(shape[0]), lengths) * shape[1] + at
        if len(np.unique(flat)) < len(flat):
            raise DataError(f"{folder}: feature {feature} names a token twice")
        places.append(flat)
        classes.append(label == 1)
    union = np.unique(np.concatenate(places))
    labels, use = np.zeros((2, len(features), len(union)), bool)
    for f, (flat, label) in enumerate(zip(places, classes, strict=True)):
        found = np.searchsorted(union, flat)
        use[f, found], labels[f, found] = True, label
    indices = np.stack(np.divmod(union, shape[1]), axis=1)
    groups = indices[:, 0]
    owner = np.arange(len(union))
    return dict(indices=indices, owner=owner, features=features, labels=labels, use=use, groups=groups)


def _wikidata(folder: Path, columns: Mapping, shape: tuple[int, int]) -> dict:
    wanted = ("class", "name", "surname_index_start", "surname_index_end")
    kinds, names, start, end = (np.array(_column(folder, columns, name).to_pylist()) for name in wanted)
    if not ((start >= 0) & (start <= end) & (end < shape[1])).all():
        raise DataError(
            f"{folder}: surnames lie at tokens {start.min()} to {end.max()}; each must begin before it ends, "
            f"within {shape[1]} tokens"
        )
    features = tuple(sorted(set(kinds.tolist())))
    labels = kinds == np.array(features)[:, None]
    place = np.arange(shape[1])
    mask = place <= end[:, None]
    indices = np.argwhere(mask & (place >= start[:, None]))
    found = dict(features=features, labels=labels, use=np.ones_like(labels), groups=names)
    return found | dict(mask=mask, indices=indices, owner=indices[:, 0])


def _compounds(folder: Path, columns: Mapping, shape: tuple[int, int]) -> dict:
    names, label = (
        np.array(_column(folder, columns, name).to_pylist()) for name in ("feature_name", "label")
    )
    features = tuple(dict.fromkeys(names.tolist()))
    use = names == np.array(features)[:, None]
    sequences = np.arange(shape[0])
    indices = np.stack([sequences, np.full(shape[0], shape[1] - 1)], axis=1)
    labels = use & (label == "bigram")
    found = dict(features=features, labels=labels, use=use, groups=sequences)
    return found | dict(indices=indices, owner=sequences)


def _column(folder: Path, columns: Mapping, name: str) -> pa.Array:
    if name not in columns:
        raise DataError(f"{folder} has no column {name}; it has {', '.join(columns)}")
    if columns[name].null_count or not len(columns[name]):
        raise DataError(f"{folder}: column {name} is empty in some rows, or has none")
    return columns[name]


def _lists(folder: Path, columns: Mapping, name: str) -> tuple[ndarray, ndarray]:
    """The lengths of a column of lists of whole numbers, and everything that they hold."""
    column = _column(folder, columns, name)
    try:
        lengths, flat = pc.list_value_length(column), pc.list_flatten(column)
        if not pa.types.is_integer(flat.type) or flat.null_count:
            raise pa.ArrowTypeError("not integers")
    except pa.ArrowException:
        raise DataError(
            f"{folder}: column {name} must hold lists of whole numbers, not {column.type}"
        ) from None
    return tuple(part.to_numpy(zero_copy_only=False).astype(np.int64) for part in (lengths, flat))
