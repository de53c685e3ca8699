"""Groups of kindred tokens in the embedding matrices of a language model, and how near they are to a simplex."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.energy.excess_energy import simplex_distance
from lib.energy.objective import similarity
from lib.language.model import LanguageModel

# Each word as it begins a text and after a space; a group keeps what is a single token.
GROUPS: Mapping[str, tuple[str, ...]] = {
    "digits": tuple("0123456789"),
    "capitals": tuple("ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
    "pronouns": ("he", "she", "it", "we", "they", "you"),
    "numbers": ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"),
    "colours": ("red", "green", "blue", "white", "black", "yellow", "grey", "brown"),
    "days": ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"),
    "sports": ("baseball", "football", "basketball", "hockey", "tennis"),
    "family": ("father", "mother", "son", "daughter", "brother", "sister", "wife", "husband"),
    "keywords": ("def", "class", "return", "import", "raise", "for", "while", "if"),
}
LEAST = 4  # tokens of a group


def matrices(model: LanguageModel) -> dict[str, Tensor]:
    """The embedding and, where it is another, the unembedding matrix, `(vocabulary, d_model)` float64."""
    hf = model.bridge.original_model
    found = {"embedding": hf.get_input_embeddings(), "unembedding": hf.get_output_embeddings()}
    out = {name: part.weight.detach().double().cpu() for name, part in found.items() if part is not None}
    if len(out) == 2 and torch.equal(*out.values()):
        del out["unembedding"]
    return out


def tokens_of(tokenizer, words: tuple[str, ...]) -> list[int]:
    """The ids of those words that are one token, after a space or else without."""
    found = []
    for word in words:
        for text in (f" {word}", word):
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            if len(ids) == 1 and ids[0] not in tokenizer.all_special_ids:  # an unknown word is no token
                found.append(ids[0])
                break
    return list(dict.fromkeys(found))


def simplices(model: LanguageModel, *, draws: int, rng: np.random.Generator) -> pd.DataFrame:
    """For each matrix and group: tokens, `distance` of the centred group from the simplex, and its `ratio` to the
    median of `draws` random groups of as many tokens."""
    special = set(model.tokenizer.all_special_ids)
    ordinary = np.array([i for i in range(len(model.tokenizer)) if i not in special])
    rows = []
    for name, matrix in matrices(model).items():
        for group, words in GROUPS.items():
            ids = tokens_of(model.tokenizer, words)
            if len(ids) < LEAST:
                continue
            random = np.stack([rng.choice(ordinary, len(ids), replace=False) for _ in range(draws)])
            own, others = (_distance(matrix[torch.as_tensor(each)]) for each in (np.array([ids]), random))
            ratio = own.item() / others.median().item()
            rows.append(
                {"matrix": name, "group": group, "tokens": len(ids), "distance": own.item(), "ratio": ratio}
            )
    return pd.DataFrame(rows)


def _distance(groups: Tensor) -> Tensor:
    return simplex_distance(similarity(groups - groups.mean(1, keepdim=True)))
