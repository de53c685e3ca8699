"""The interpolated Kneser-Ney trigram model over token ids, the peer of a language model (Chen & Goodman 1999)."""

from dataclasses import dataclass

import numpy as np

END = 0  # the token that ends a document


@dataclass(frozen=True)
class _Order:
    """The n-grams of one order: sorted `keys`, the last token the lowest digit in base V, and their counts.

    `contexts` are the sorted keys without the last token; `totals` sums the counts of a context, `types` counts its
    distinct successors; `discount` is D = n1 / (n1 + 2 n2), n1 and n2 the numbers of n-grams of count 1 and 2.
    """

    keys: np.ndarray
    counts: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    types: np.ndarray
    discount: float

    @classmethod
    def of(cls, keys: np.ndarray, counts: np.ndarray, vocabulary: int) -> "_Order":
        before = keys // vocabulary
        starts = _starts(before)
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        # With no n-gram of count 1 the estimate is 0, and what was never seen would be impossible.
        discount = once / (once + 2 * twice) if once else 0.5
        types = np.diff(np.append(starts, len(keys)))
        totals = np.add.reduceat(counts, starts) if len(keys) else counts
        return cls(keys, counts, before[starts], totals, types, discount)

    def interpolate(self, keys: np.ndarray, vocabulary: int, lower: np.ndarray) -> np.ndarray:
        """max(c - D, 0) / total + D types / total * lower; `lower` where the context was never seen."""
        counts = _look_up(self.keys, self.counts, keys)
        totals = _look_up(self.contexts, self.totals, keys // vocabulary)
        types = _look_up(self.contexts, self.types, keys // vocabulary)
        mass = np.maximum(counts - self.discount, 0) + self.discount * types * lower
        return np.where(totals > 0, mass / np.maximum(totals, 1), lower)


class KneserNey:
    """p(w | u, v), interpolated: trigrams by their counts, lower orders by the number of distinct tokens before them.

    The unigrams are interpolated with the uniform distribution, so that every token has a probability. A document
    ends with `END`, which is predicted; the first token of a document has the context (END, END), and no context
    reaches into the previous document.
    """

    def __init__(self, vocabulary: int, *, trigrams: _Order, bigrams: _Order, unigrams: _Order):
        self.vocabulary = vocabulary
        self.trigrams, self.bigrams, self.unigrams = trigrams, bigrams, unigrams

    @classmethod
    def fit(cls, tokens: np.ndarray, vocabulary: int) -> "KneserNey":
        """Counts `tokens` `(n,)`, ids below `vocabulary`; raises ValueError on other ids or none."""
        trigrams = _trigrams(tokens, vocabulary)
        trigrams.sort()
        starts = _starts(trigrams)
        order3 = _Order.of(
            trigrams[starts], np.diff(np.append(starts, len(trigrams))).astype(np.float64), vocabulary
        )
        # Each distinct trigram is one token before its bigram, each distinct bigram one before its unigram.
        order2 = _Order.of(*_counted(order3.keys % vocabulary**2), vocabulary)
        order1 = _Order.of(*_counted(order2.keys % vocabulary), vocabulary)
        return cls(vocabulary, trigrams=order3, bigrams=order2, unigrams=order1)

    def log_probability(self, tokens: np.ndarray, *, block: int = 1_000_000) -> np.ndarray:
        """ln p `(n,)` of every one of `tokens` `(n,)` after the two before it in its document."""
        keys, out = _trigrams(tokens, self.vocabulary), np.empty(len(tokens))
        for start in range(0, len(keys), block):
            some = keys[start : start + block]
            p = np.full(len(some), 1 / self.vocabulary)
            p = self.unigrams.interpolate(some % self.vocabulary, self.vocabulary, p)
            p = self.bigrams.interpolate(some % self.vocabulary**2, self.vocabulary, p)
            out[start : start + block] = np.log(self.trigrams.interpolate(some, self.vocabulary, p))
        return out


def _trigrams(tokens: np.ndarray, vocabulary: int) -> np.ndarray:
    """The key (u V + v) V + w of every token w with its context."""
    tokens = np.asarray(tokens)
    if tokens.ndim != 1 or not len(tokens) or not np.issubdtype(tokens.dtype, np.integer):
        raise ValueError(
            f"tokens are {tokens.dtype} {tokens.shape}; they must be one row of integers, and not empty"
        )
    if vocabulary**3 >= 2**63:
        raise ValueError(f"vocabulary is {vocabulary}; it must be below {2**21} (trigrams are 64-bit keys)")
    if int(tokens.min()) < 0 or int(tokens.max()) >= vocabulary:
        raise ValueError(
            f"tokens are from {tokens.min()} to {tokens.max()}; with a vocabulary of {vocabulary} they must be "
            f"from 0 to {vocabulary - 1}"
        )
    last = np.full(len(tokens), END, dtype=np.int64)
    last[1:] = tokens[:-1]
    keys = np.full(len(tokens), END, dtype=np.int64)
    keys[1:] = np.where(last[1:] == END, END, last[:-1])
    keys *= vocabulary
    keys += last
    keys *= vocabulary
    keys += tokens
    return keys


def _counted(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    values, counts = np.unique(keys, return_counts=True)
    return values, counts.astype(np.float64)


def _starts(keys: np.ndarray) -> np.ndarray:
    """Where each run of equal values begins."""
    return np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))


def _look_up(keys: np.ndarray, values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The value of each wanted key; 0 where it is not among the sorted keys."""
    at = np.searchsorted(keys, wanted)
    at[at == len(keys)] = 0
    return np.where(keys[at] == wanted, values[at], 0.0)
