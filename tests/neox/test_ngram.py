"""The trigram model: equal to counting in dictionaries, and a distribution in every context."""

from collections import Counter, defaultdict

import numpy as np
import pytest

from lib.neox.ngram import END, KneserNey


def text(n=3000, vocabulary=23, seed=0) -> np.ndarray:
    """Tokens of skewed frequency in documents ended by END, with some repetition to count; some tokens never occur."""
    rng = np.random.default_rng(seed)
    p = 1 / np.arange(1, vocabulary - 2)
    tokens = rng.choice(np.arange(3, vocabulary), size=n, p=p / p.sum())
    tokens[::7] = tokens[np.maximum(np.arange(n)[::7] - 3, 0)]
    tokens[rng.random(n) < 0.05] = END
    tokens[-1] = END
    return tokens.astype(np.uint16)


def events(tokens):
    """(u, v, w) of every token, document by document; END twice before the first."""
    u = v = END
    for w in map(int, tokens):
        yield u, v, w
        u, v = (END, END) if w == END else (v, w)


class Reference:
    """Interpolated Kneser-Ney from its definition, in dictionaries."""

    def __init__(self, tokens, vocabulary):
        self.V = vocabulary
        self.c3 = Counter(events(tokens))
        self.c2 = Counter((v, w) for _, v, w in self.c3)  # distinct u before (v, w)
        self.c1 = Counter(w for _, w in self.c2)  # distinct v before w
        self.D = [self.discount(c) for c in (self.c1, self.c2, self.c3)]

    @staticmethod
    def discount(counts):
        n1, n2 = (sum(c == n for c in counts.values()) for n in (1, 2))
        return n1 / (n1 + 2 * n2) if n1 else 0.5

    def level(self, counts, D, lower):
        """p(w) from the counts of one context, interpolated with `lower(w)`."""
        total = sum(counts.values())
        if not total:
            return lower
        rest = D * len(counts) / total
        return lambda w: max(counts.get(w, 0) - D, 0) / total + rest * lower(w)

    def p(self, u, v):
        by2, by3 = defaultdict(Counter), defaultdict(Counter)
        for (a, w), c in self.c2.items():
            by2[a][w] += c
        for (a, b, w), c in self.c3.items():
            by3[a, b][w] += c
        p1 = self.level(self.c1, self.D[0], lambda w: 1 / self.V)
        return self.level(by3[u, v], self.D[2], self.level(by2[v], self.D[1], p1))


def test_equal_to_counting_in_dictionaries():
    train, test = text(), text(300, seed=1)
    model, reference = KneserNey.fit(train, 23), Reference(train, 23)
    expected = [reference.p(u, v)(w) for u, v, w in events(test)]
    got = np.exp(model.log_probability(test))
    assert len(got) == len(test) and got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)
    assert [o.discount for o in (model.unigrams, model.bigrams, model.trigrams)] == reference.D
    np.testing.assert_array_equal(model.log_probability(test, block=7), model.log_probability(test))


@pytest.mark.parametrize("context", [(5, 4), (3, 3), (22, 21), (END, 3), (END, END), (1, 2), (3, 1), (1, 3)])
def test_every_context_has_a_distribution(context):
    """Seen contexts, contexts seen only in part, and tokens that never occur."""
    model = KneserNey.fit(text(), 23)
    before = [token for token in context if token != END]
    # A document for each next token, after as many tokens as the context has.
    rows = np.array([[*before, w, END] for w in range(23)])
    log_p = model.log_probability(rows.ravel()).reshape(rows.shape)[:, len(before)]
    assert np.isfinite(log_p).all() and np.exp(log_p).sum() == pytest.approx(1, abs=1e-12)


def test_a_document_does_not_see_the_one_before():
    model = KneserNey.fit(text(), 23)
    a, b = np.array([5, 6, 3, END]), np.array([4, 3, 8, END])
    both = model.log_probability(np.concatenate([a, b]))
    np.testing.assert_array_equal(both, np.concatenate([model.log_probability(x) for x in (a, b)]))
    # Nor does it count: the order of documents is nothing to the model.
    documents = np.split(text(), np.flatnonzero(text() == END) + 1)
    other = KneserNey.fit(np.concatenate(documents[::-1]), 23)
    np.testing.assert_array_equal(other.log_probability(a), model.log_probability(a))


def test_it_learns_an_order_that_shuffling_destroys():
    rng = np.random.default_rng(0)
    cycle = np.tile([3, 4, 5, 6, 7, 8, 9], 300)
    noisy = np.where(rng.random(len(cycle)) < 0.1, rng.integers(3, 10, len(cycle)), cycle)
    train, test = noisy[:1500], noisy[1500:]
    ordered = -KneserNey.fit(train, 10).log_probability(test).mean()
    shuffled = -KneserNey.fit(rng.permutation(train), 10).log_probability(test).mean()
    entropy = -(0.9 + 0.1 / 7) * np.log(0.9 + 0.1 / 7) - 6 * (0.1 / 7) * np.log(0.1 / 7)
    # A permutation leaves chance transitions, and the test asks for the same seven again and again.
    assert entropy - 0.05 < ordered < 1.0 and abs(shuffled - np.log(7)) < 0.2


def test_frequent_but_bound_tokens_are_unlikely_elsewhere():
    """Kneser and Ney's example: "Francisco" is frequent, but follows one word only."""
    san, francisco, glasses = 3, 4, 5
    sentences = (
        [[san, francisco, END]] * 30
        + [[6 + i, glasses, END] for i in range(10)]
        + [[16, 17, END], [17, 16, END]]
    )
    model = KneserNey.fit(np.concatenate(sentences), 20)
    unseen = 18
    f, g = (model.log_probability(np.array([unseen, w]))[1] for w in (francisco, glasses))
    assert g > f + np.log(5)


def test_tiny_texts_stay_finite():
    for tokens in ([3], [END], [3, 3, 3, 3], [3, 4, END, 3, 4, END]):
        model = KneserNey.fit(np.array(tokens), 6)
        assert np.isfinite(model.log_probability(np.array([1, 2, 3, 4, 5, END]))).all()


def test_strange_tokens_are_refused():
    with pytest.raises(ValueError, match="from 0 to 12; with a vocabulary of 10 they must be from 0 to 9"):
        KneserNey.fit(np.array([0, 12]), 10)
    with pytest.raises(ValueError, match="must be one row of integers, and not empty"):
        KneserNey.fit(np.zeros(0, int), 10)
    with pytest.raises(ValueError, match="one row of integers"):
        KneserNey.fit(np.zeros(4), 10)
    with pytest.raises(ValueError, match="-1 to 3"):
        KneserNey.fit(np.array([3]), 10).log_probability(np.array([-1, 3]))
    with pytest.raises(ValueError, match="vocabulary is 3000000"):
        KneserNey.fit(np.array([3]), 3_000_000)
