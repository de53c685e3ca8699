"""A language model, its tokenizer and its tokens in miniature, for the tests of lib.neox.model and its like."""

import numpy as np
import torch

from lib.neox import model as neox

TEXT = (
    "Then, Alice and Bob went to the store. Alice gave a snack to Bob. "
    "Zażółć gęślą jaźń; über 1,234 Füße.\n\n    def f(x):\n        return x + 1\n"
)
SHORT = dict(steps=24, batch=4, context=16, learning_rate=3e-3, warm_up=5)


def tokenizer():
    return neox.train_tokenizer([TEXT * 3, "the store, the snack, the end " * 9], 320)


def model(vocabulary=320, seed=0, **changes):
    """Two layers of d_model 32; every weight away from its starting value, so that no term of the loss is hidden."""
    sizes = dict(num_hidden_layers=2, hidden_size=32, intermediate_size=48, max_position_embeddings=64)
    out = neox.model(neox.config(vocabulary, **(sizes | changes)), seed)
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in out.parameters():
            p += 0.1 * torch.randn(p.shape, generator=g)
    return out


def rows(n=2000, vocabulary=20, seed=0) -> np.ndarray:
    """Packed tokens that a model can learn: each is the one before plus 1 or 2."""
    steps = np.random.default_rng(seed).integers(1, 3, n)
    return (np.cumsum(steps) % vocabulary).astype(np.uint16)


def sentences(n, rng):
    """For `lib.neox.facts.sentences`."""
    return [f"Number {rng.integers(1000)} is here." for _ in range(n)]
