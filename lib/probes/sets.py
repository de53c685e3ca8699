"""Sets of labelled items: athletes' sports, politicians' parties, compound words, and features of text.

They follow Gurnee et al. 2023, "Finding neurons in a haystack" (arXiv:2305.01610); that paper's own data sets are read
by lib.probes.gurnee.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Bool, Int, Shaped
from numpy import ndarray
from numpy.random import Generator

from lib.common.errors import DataError
from lib.language import model as language_model
from lib.language.corpus import Document, cut
from lib.language.model import LanguageModel
from lib.probes import prompts, text_features
from lib.probes.items import LabelledItems


def athletes(tokenizer, frame: pd.DataFrame | None = None) -> LabelledItems:
    """The five sports, one against the rest, at the surnames of athletes; groups are athletes.

    `frame`: rows of `prompts.athlete_prompts()`, all by default: name, sport, text that ends with the name, and the
    surname's character offsets start and end in it.
    """
    if frame is None:
        frame = prompts.athlete_prompts()
    return _people("athletes", tokenizer, frame, "sport")


def politicians(tokenizer, frame: pd.DataFrame | None = None) -> LabelledItems:
    """The two parties at the surnames of politicians; as `athletes`, from `prompts.politician_prompts()`."""
    if frame is None:
        frame = prompts.politician_prompts()
    return _people("politicians", tokenizer, frame, "party")


def compounds(tokenizer, frame: pd.DataFrame | None = None) -> LabelledItems:
    """Compound words at their second word, each against its words with other neighbours; groups are the beginnings.

    `frame`: rows of `prompts.compound_prompts()`, all by default: name of the compound, positive, beginning, text and
    the second word's offsets start and end.
    """
    if frame is None:
        frame = prompts.compound_prompts()
    _columns("compounds", frame, "name", "positive", "beginning", "text", "start", "end")
    names = tuple(frame.name.unique())
    use = frame.name.to_numpy() == np.array(names, object)[:, None]
    labels = use & frame.positive.to_numpy(bool)
    groups = frame.beginning.to_numpy()
    tokens = _tokens(tokenizer, frame)
    return LabelledItems(name="compounds", features=names, labels=labels, use=use, groups=groups, **tokens)


def text(
    model: LanguageModel,
    documents: Sequence[Document],
    *,
    rng: Generator,
    sequences: int,
    length: int = 128,
    **settings,
) -> tuple[LabelledItems, dict[str, str]]:
    """The text features in `sequences` passages drawn at random, with works as groups; and what was dropped, and why.

    Passages are cut to `length` tokens; `settings` as `text_features.sample`.
    """
    passages = [(piece, document.work) for document in documents for piece in cut(document.text, 6 * length)]
    if not passages:
        raise ValueError("there are no documents with text to draw passages from; give at least one")
    chosen = rng.permutation(len(passages))[:sequences]
    texts, works = zip(*(passages[i] for i in chosen), strict=True)
    ids, mask, _ = language_model.tokenize(model, texts, length)
    return text_of_tokens(
        ids.numpy(),
        mask.numpy(),
        tokens=language_model.decoded(model, ids),
        rng=rng,
        documents=np.array(works),
        special=model.tokenizer.all_special_ids,
        **settings,
    )


def text_of_tokens(
    ids: Int[ndarray, "sequences length"],
    mask: Bool[ndarray, "sequences length"],
    *,
    tokens: Sequence[Sequence[str]],
    rng: Generator,
    documents: Shaped[ndarray, " sequences"] | None = None,
    special: Sequence[int] = (),
    **settings,
) -> tuple[LabelledItems, dict[str, str]]:
    """`text_features.FEATURES` at single tokens, with the features that were dropped and why.

    `tokens`: the decoded `ids`; `documents`: the document of each sequence, which is its group (by default each
    sequence is its own); `special`: ids that are never probed; `settings` as `text_features.sample`.
    """
    ids, mask = np.asarray(ids), np.asarray(mask, bool)
    places = np.argwhere(text_features.eligible(mask, ids, special=special))
    documents = np.arange(len(ids)) if documents is None else np.asarray(documents)
    labels = text_features.labels(tokens)
    if labels.shape[1:] != ids.shape or len(documents) != len(ids):
        raise DataError(
            f"tokens are {labels.shape[1:]} and documents {documents.shape}; they must fit the ids {ids.shape}"
        )
    labels, groups = labels[:, *places.T], documents[places[:, 0]]
    use, kept, dropped = text_features.sample(labels, groups, rng, **settings)
    if not kept:
        raise DataError(
            f"no text feature is left: {'; '.join(f'{k}: {v}' for k, v in dropped.items())}; give more text"
        )
    rows = use.any(0)
    labels = labels[[list(text_features.FEATURES).index(name) for name in kept]][:, rows]
    found = LabelledItems(
        name="text features",
        texts=(),
        ids=ids,
        mask=mask,
        indices=places[rows],
        owner=np.arange(rows.sum()),
        features=tuple(kept),
        labels=labels,
        use=use[:, rows],
        groups=groups[rows],
    )
    return found, dropped


def _people(kind: str, tokenizer, frame: pd.DataFrame, label: str) -> LabelledItems:
    _columns(kind, frame, "name", label, "text", "start", "end")
    features = tuple(frame[label].unique())
    labels = frame[label].to_numpy() == np.array(features, object)[:, None]
    use, groups = np.ones_like(labels), frame.name.to_numpy()
    tokens = _tokens(tokenizer, frame)
    return LabelledItems(name=kind, features=features, labels=labels, use=use, groups=groups, **tokens)


def _columns(kind: str, frame: pd.DataFrame, *columns: str) -> None:
    missing = [name for name in columns if name not in frame]
    if missing or frame.empty:
        raise DataError(
            f"{kind}: the table has {len(frame)} rows of {', '.join(frame)}; it must have rows of {', '.join(columns)}"
        )


def _tokens(tokenizer, frame: pd.DataFrame) -> dict:
    """Texts, ids, mask, indices and owner: the tokens that share a character with [start, end) of their row's text.

    The tokenizer's beginning of text comes first, if it has one and doesn't put it there itself, as in Gurnee et al.
    """
    if not getattr(tokenizer, "is_fast", False):
        raise DataError(f"{type(tokenizer).__name__} gives no character offsets; a fast tokenizer is needed")
    texts = tuple(frame.text)
    out = tokenizer(list(texts), return_offsets_mapping=True)
    ids, spans = out["input_ids"], out["offset_mapping"]
    first = tokenizer.bos_token_id
    if first is not None and ids[0][:1] != [first]:
        ids, spans = [[first, *row] for row in ids], [[(0, 0), *row] for row in spans]
    lengths = np.array([len(row) for row in ids])
    mask = np.arange(lengths.max()) < lengths[:, None]
    padded = np.full(mask.shape, tokenizer.pad_token_id or 0)
    padded[mask] = np.concatenate(ids)
    offsets = np.zeros((*mask.shape, 2), int)
    offsets[mask] = np.concatenate(spans)
    start, end = (frame[name].to_numpy(int)[:, None] for name in ("start", "end"))
    chosen = (offsets[..., 0] < end) & (offsets[..., 1] > np.maximum(start, offsets[..., 0]))
    lost = ~chosen.any(1)
    if lost.any():
        raise DataError(f"no token lies at the offsets given in {texts[int(np.argmax(lost))]!r}")
    indices = np.argwhere(chosen)
    return dict(texts=texts, ids=padded, mask=mask, indices=indices, owner=indices[:, 0])
