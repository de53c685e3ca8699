"""How good the small language model is: loss by source, beside an n-gram's, and the choices that it makes."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from lib.language.corpus import Document
from lib.neox import data as neox_data
from lib.neox.facts import Question
from lib.neox.ngram import END, KneserNey


def loss_per_byte(
    model: GPTNeoXForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    documents: list[Document],
    *,
    context: int = 256,
    batch: int = 32,
) -> pd.DataFrame:
    """Cross-entropy by source, and over all: nats, tokens, bytes (UTF-8), nats_per_byte, nats_per_token.

    Every token of a document is predicted once, from an end of text and the tokens before it; the end that follows the
    document is not. Windows of `context` tokens stride by half: every token is read with at least half a window before
    it, if there is that much.
    """
    if not 2 <= context <= model.config.max_position_embeddings or batch < 1:
        raise ValueError(
            f"context is {context}, batch {batch}; context must be from 2 to "
            f"{model.config.max_position_embeddings}, batch at least 1"
        )

    def nats(tokens: list[np.ndarray]) -> list[float]:
        windows = [window for i, ids in enumerate(tokens) for window in _windows(ids, i, context)]
        sums = [0.0] * len(tokens)
        windows.sort(key=lambda window: len(window[1]))  # so that most batches have one length
        for start in range(0, len(windows), batch):
            some = windows[start : start + batch]
            rows = [torch.from_numpy(ids.astype(np.int64)) for _, ids, _ in some]
            scores = _log_probabilities(model, rows)
            for (i, _, counted), score in zip(some, scores, strict=True):
                sums[i] -= float(score[-counted:].double().sum())
        return sums

    return _by_source(tokenizer, documents, nats)


def ngram_loss_per_byte(
    ngram: KneserNey, tokenizer: PreTrainedTokenizerFast, documents: list[Document]
) -> pd.DataFrame:
    """The same for an n-gram model, over the same tokens."""

    def nats(tokens: list[np.ndarray]) -> list[float]:
        ended = [np.append(ids, END) for ids in tokens]
        scores = ngram.log_probability(np.concatenate(ended))
        return [-s[:-1].sum() for s in np.split(scores, np.cumsum([len(ids) for ids in ended])[:-1])]

    return _by_source(tokenizer, documents, nats)


def score(
    model: GPTNeoXForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[Question],
    *,
    batch: int = 64,
) -> list[np.ndarray]:
    """The log-probability of each choice of every question, over all the choice's tokens, after the prompt.

    Prompt and choice are encoded together, which by GPT-2's rule is the same as encoding them apart, as choices begin
    with a space; raises ValueError if it is not.
    """
    rows, counted = [], []
    for question in questions:
        if not question.choices:
            raise ValueError(f"the question {question.prompt!r} has no choices")
        prompt = _ids(tokenizer, question.prompt)
        for choice in question.choices:
            ids = _ids(tokenizer, question.prompt + choice)
            if ids[: len(prompt)] != prompt or len(ids) == len(prompt):
                raise ValueError(
                    f"the choice {choice!r} does not begin a token of its own after {question.prompt!r}; a prompt must "
                    "end without a space and a choice begin with one"
                )
            rows.append(torch.tensor([END, *ids]))
            counted.append(len(ids) - len(prompt))
    longest = model.config.max_position_embeddings
    if rows and max(map(len, rows)) - 1 > longest:
        raise ValueError(
            f"a question has {max(map(len, rows)) - 1} tokens; the model reads at most {longest}"
        )
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))  # little padding
    sums = np.empty(len(rows))
    for start in range(0, len(rows), batch):
        some = order[start : start + batch]
        for i, scores in zip(some, _log_probabilities(model, [rows[i] for i in some]), strict=True):
            sums[i] = scores[-counted[i] :].double().sum()
    ends = np.cumsum([len(question.choices) for question in questions])
    return [sums[end - len(q.choices) : end] for q, end in zip(questions, ends, strict=True)]


def choose(
    model: GPTNeoXForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    questions: Sequence[Question],
    *,
    batch: int = 64,
) -> np.ndarray:
    """The index of the choice with the highest log-probability, for every question: int64 `(questions,)`."""
    return np.array([s.argmax() for s in score(model, tokenizer, questions, batch=batch)], dtype=np.int64)


@torch.no_grad()
def _log_probabilities(model: GPTNeoXForCausalLM, rows: list[Tensor]) -> list[Tensor]:
    """ln p of every token of each row `(length,)` but the first, given those before; padded on the right."""
    width = max(map(len, rows))
    ids = torch.full((len(rows), width), END)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    ids = ids.to(model.device)
    # No token sees what comes after it, so padding on the right needs no mask.
    logits = model.eval()(ids[:, :-1]).logits
    scores = -torch.nn.functional.cross_entropy(logits.mT, ids[:, 1:], reduction="none").cpu()
    return [s[: len(row) - 1] for s, row in zip(scores, rows, strict=True)]


def _windows(ids: np.ndarray, document: int, context: int) -> Iterable[tuple[int, np.ndarray, int]]:
    """Document, tokens of a window (one more than is read) and how many of its last tokens count."""
    whole, start, counted = np.append(np.uint16(END), ids), 0, 0
    while counted < len(ids):
        window = whole[start : start + context + 1]
        new = start + len(window) - 1 - counted
        yield document, window, new
        counted += new
        start += context // 2


def _by_source(
    tokenizer: PreTrainedTokenizerFast,
    documents: list[Document],
    nats: Callable[[list[np.ndarray]], list[float]],
) -> pd.DataFrame:
    if not documents:
        raise ValueError("there are no documents to evaluate on")
    tokens = list(neox_data.encode(tokenizer, (document.text for document in documents)))
    table = pd.DataFrame(
        {
            "source": [document.source for document in documents],
            "nats": nats(tokens),
            "tokens": [len(ids) for ids in tokens],
            "bytes": [len(document.text.encode()) for document in documents],
        }
    )
    table = pd.concat([table, table.assign(source="all")]).groupby("source", sort=False).sum()
    table["nats_per_byte"] = table.nats / table.bytes
    table["nats_per_token"] = table.nats / table.tokens
    return table


def _ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    return tokenizer.backend_tokenizer.encode(text, add_special_tokens=False).ids
