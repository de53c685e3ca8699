"""Planted simplices of token vectors are found, and random tokens are none; what is a token, by a made-up tokenizer."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from helpers import small_neox
from helpers.plain import close
from lib.energy.objective import simplex
from lib.language import model as language_model
from lib.neox import model as neox
from lib.studies.psm_energy import embeddings

DAYS = embeddings.GROUPS["days"]


class Tokenizer:
    """Words that are tokens by themselves; all else has two tokens a letter, but for what is unknown."""

    all_special_ids = (0, 1)

    def __init__(self, words, size=60):
        self.words = {word: i for i, word in enumerate(words, 2)}
        self.size = size

    def __len__(self):
        return self.size

    def __call__(self, text, add_special_tokens):
        assert not add_special_tokens
        if text == "unknown":
            return {"input_ids": [1]}
        return {"input_ids": [self.words[text]] if text in self.words else [2, 3] * len(text)}


def module(matrix):
    return None if matrix is None else SimpleNamespace(weight=torch.nn.Parameter(matrix))


def model(tokenizer, embedding, unembedding=None):
    hf = SimpleNamespace(
        get_input_embeddings=lambda: module(embedding), get_output_embeddings=lambda: module(unembedding)
    )
    return SimpleNamespace(bridge=SimpleNamespace(original_model=hf), tokenizer=tokenizer)


def gaussian(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_word_is_the_token_after_a_space_or_else_the_one_without():
    tokenizer = Tokenizer([" he", "he", "she", " it", "it"])
    assert embeddings.tokens_of(tokenizer, ("he", "she", "it", "they")) == [2, 4, 5]
    assert embeddings.tokens_of(tokenizer, ("it", "he", "it")) == [5, 2], "each token once, in order"
    assert embeddings.tokens_of(tokenizer, ("unknown", "he")) == [2], "what is unknown is no token of its own"
    assert embeddings.tokens_of(tokenizer, ("they",)) == []


def test_matrices_and_tied_ones_once():
    a, b = gaussian(6, 3), gaussian(6, 3, seed=1)
    found = embeddings.matrices(model(None, a.bfloat16(), b))
    assert list(found) == ["embedding", "unembedding"]
    close(found["embedding"], a.bfloat16().double())
    close(found["unembedding"], b.double())
    assert not found["embedding"].requires_grad
    assert list(embeddings.matrices(model(None, a, a.clone()))) == ["embedding"]
    assert list(embeddings.matrices(model(None, a))) == ["embedding"]


def test_a_planted_simplex_is_found_about_any_centre():
    """Days are a simplex of size 3 far from the origin, in the embedding alone; of colours too few are tokens."""
    tokenizer = Tokenizer([f" {day}" for day in DAYS] + [" red", " blue", " green"], 40)
    embedding, unembedding = gaussian(45, 16), gaussian(45, 16, seed=1)
    embedding[2:9] = (3 * simplex(7, f=16) + 20).float()
    for matrix in (embedding, unembedding):
        matrix[:2] = torch.nan  # special tokens are never drawn
        matrix[40:] = torch.nan  # nor rows that are no token's
    table = embeddings.simplices(
        model(tokenizer, embedding, unembedding), draws=50, rng=np.random.default_rng(0)
    )
    assert table["matrix"].tolist() == ["embedding", "unembedding"] and (table["group"] == "days").all()
    assert (table["tokens"] == 7).all()
    assert table["distance"][0] < 1e-4 and table["ratio"][0] < 1e-4
    # The days of the unembedding are seven random vectors, as the groups that they are compared with.
    assert 0.5 < table["ratio"][1] < 2
    again = embeddings.simplices(
        model(tokenizer, embedding, unembedding), draws=50, rng=np.random.default_rng(0)
    )
    assert table.equals(again)


def test_distance_and_ratio_by_hand():
    """A square has a distance from the simplex of four in closed form; every random group of four is that square."""
    square = torch.tensor([[1.0, 1], [1, -1], [-1, -1], [-1, 1]])
    table = embeddings.simplices(
        model(Tokenizer([" he", " she", " it", " we"], 6), torch.cat([torch.zeros(2, 2), square + 7])),
        draws=5,
        rng=np.random.default_rng(0),
    )
    # Of 12 ordered pairs 8 have a cosine of 0 and 4 of -1, where the simplex has -1/3.
    assert table["distance"].item() == pytest.approx((8 / 9 + 4 * 4 / 9) ** 0.5, abs=1e-6)
    assert table["ratio"].item() == pytest.approx(1, abs=1e-9)
    assert table["tokens"].item() == 4 == embeddings.LEAST


def test_groups_hold_distinct_words():
    for name, words in embeddings.GROUPS.items():
        assert len(set(words)) == len(words) >= embeddings.LEAST, name


def test_a_real_tokenizer_and_model(tmp_path):
    tokenizer = small_neox.tokenizer()
    neox.save_pretrained(small_neox.model(len(tokenizer)), tokenizer, tmp_path / "model")
    loaded = language_model.load(str(tmp_path / "model"))
    found = embeddings.matrices(loaded)
    hf, _ = neox.load_pretrained(tmp_path / "model")
    close(found["embedding"], hf.gpt_neox.embed_in.weight.detach().double())
    close(found["unembedding"], hf.lm_head.weight.detach().double())
    table = embeddings.simplices(loaded, draws=9, rng=np.random.default_rng(0)).set_index(["group", "matrix"])
    letters = table.loc["capitals"]
    assert list(letters.index) == ["embedding", "unembedding"] and (letters["tokens"] == 26).all()
    ids = [tokenizer.convert_tokens_to_ids(f"Ġ{c}") for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    bare = [tokenizer.convert_tokens_to_ids(c) for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZ"]
    known = [a if a != tokenizer.unk_token_id else b for a, b in zip(ids, bare, strict=True)]
    assert embeddings.tokens_of(loaded.tokenizer, embeddings.GROUPS["capitals"]) == known
