"""Gurnee's published format: what is saved by its code's columns is read, and what is not is one clear line."""

import datasets
import numpy as np
import pytest
import torch

from helpers import small_neox
from lib.common.errors import DataError
from lib.language import model as language_model
from lib.neox import model as neox
from lib.probes import directions, gurnee

TOKENS = np.arange(24).reshape(4, 6)
# Ragged: the second sequence has no token of the first feature.
TEXT = {
    "tokens": TOKENS,
    "text": ["a", "b", "c", "d"],
    "contains_digit|probe_indices": [[1, 4], [], [5, 2], [0]],
    "contains_digit|probe_classes": [[-1, 1], [], [1, -1], [-1]],
    "is_not_ascii|probe_indices": [[4], [3], [5], []],
    "is_not_ascii|probe_classes": [[1], [0], [0], []],
}
PEOPLE = {
    "text": ["x"] * 4,
    "tokens": TOKENS,
    "name": ["Ada Byron King", "Ada Byron King", "Bo Li", "Cy Twombly"],
    "name_index_start": [1, 0, 2, 3],
    "name_index_end": [3, 2, 3, 5],
    "surname_index_start": [2, 1, 3, 4],
    "surname_index_end": [3, 2, 3, 5],
    "class": ["ice hockey player", "ice hockey player", "baseball player", "baseball player"],
}
PAIRS = {
    "tokens": TOKENS,
    "label": ["bigram", "missing_first", "missing_second", "bigram"],
    "feature_name": ["high-school", "high-school", "social-media", "social-media"],
}


def saved(tmp_path, columns, format=None):
    data = datasets.Dataset.from_dict(columns)
    data.set_format(**(format or dict(type="torch")))
    data.save_to_disk(str(tmp_path / "text.pyth.6.4"))
    return tmp_path / "text.pyth.6.4"


def test_text_features(tmp_path):
    found = gurnee.load(saved(tmp_path, TEXT))
    assert found.name == "text.pyth.6.4" and found.features == ("contains_digit", "is_not_ascii")
    assert found.ids.tolist() == TOKENS.tolist() and found.mask.all() and found.texts == ("a", "b", "c", "d")
    places = [[0, 1], [0, 4], [1, 3], [2, 2], [2, 5], [3, 0]]
    assert found.indices.tolist() == places and found.owner.tolist() == list(range(6))
    assert found.groups.tolist() == [0, 0, 1, 2, 2, 3]
    assert found.use.tolist() == [[1, 1, 0, 1, 1, 1], [0, 1, 1, 0, 1, 0]]
    assert found.labels.tolist() == [[0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0]]
    assert np.argwhere(found.select).tolist() == places


def test_wikidata_with_inclusive_ends(tmp_path):
    folder = saved(tmp_path, PEOPLE, dict(type="torch", columns=["tokens"], output_all_columns=True))
    found = gurnee.load(folder)
    assert found.features == ("baseball player", "ice hockey player")
    assert found.labels.tolist() == [[0, 0, 1, 1], [1, 1, 0, 0]] and found.use.all()
    assert found.groups.tolist() == PEOPLE["name"]
    assert found.indices.tolist() == [[0, 2], [0, 3], [1, 1], [1, 2], [2, 3], [3, 4], [3, 5]]
    assert found.owner.tolist() == [0, 0, 1, 1, 2, 3, 3]
    assert found.mask.sum(1).tolist() == [4, 3, 4, 6], "the text ends with the name"


def test_compound_words_at_the_last_token(tmp_path):
    found = gurnee.load(saved(tmp_path, PAIRS))
    assert found.features == ("high-school", "social-media") and found.texts == ()
    assert found.indices.tolist() == [[i, 5] for i in range(4)] and found.groups.tolist() == [0, 1, 2, 3]
    assert found.use.tolist() == [[1, 1, 0, 0], [0, 0, 1, 1]]
    assert found.labels.tolist() == [[1, 0, 0, 0], [0, 0, 0, 1]]


def test_padding_is_what_fills_up_on_the_right(tmp_path):
    tokens = np.array([[0, 1, 0, 2, 7, 0], [0, 1, 2, 3, 0, 0], [0, 2, 3, 4, 5, 6], [0, 0, 0, 0, 0, 0]])
    columns = {k: v for k, v in TEXT.items() if "ascii" not in k} | {"tokens": tokens}
    columns["contains_digit|probe_indices"] = [[1, 4], [], [5, 2], []]
    columns["contains_digit|probe_classes"] = [[-1, 1], [], [1, -1], []]
    folder = saved(tmp_path, columns)
    assert gurnee.load(folder, pad=0).mask.sum(1).tolist() == [5, 4, 6, 0]
    assert gurnee.load(folder).mask.all()
    with pytest.raises(DataError, match="out of range or padding"):
        gurnee.load(folder, pad=6)  # the last token of the third sequence, which is probed


def changed(columns, **new):
    return {
        k: v
        for k, v in (columns | {k.replace("__", "|"): v for k, v in new.items()}).items()
        if v is not None
    }


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (
            changed(TEXT, contains_digit__probe_classes=None),
            "has no column contains_digit.probe_classes; it has",
        ),
        (changed(TEXT, contains_digit__probe_classes=[[1], [], [1, -1], [-1]]), "5 indices"),
        (changed(TEXT, contains_digit__probe_classes=[[1], [-1], [1, -1], [-1]]), "5 classes for 5 indices"),
        (changed(TEXT, contains_digit__probe_classes=[[2, 1], [], [1, 1], [1]]), r"values \[1, 2\]"),
        (
            changed(TEXT, contains_digit__probe_indices=[[1, 6], [], [5, 2], [0]]),
            "indices from 0 to 6; .* 6 tokens",
        ),
        (changed(TEXT, contains_digit__probe_indices=[[1, -1], [], [5, 2], [0]]), "indices from -1 to 5"),
        (changed(TEXT, contains_digit__probe_indices=[[1, 1], [], [5, 2], [0]]), "names a token twice"),
        (
            changed(TEXT, contains_digit__probe_classes=[[1, 1], [], [1, 1], [1]]),
            "contains_digit has one class, 5 of",
        ),
        (
            changed(TEXT, contains_digit__probe_indices=[0.5] * 4),
            "must hold lists of whole numbers, not double",
        ),
        (changed(TEXT, tokens=[[1], [2, 3], [4], [5]]), r"tokens have lengths \[1, 2\]"),
        (changed(TEXT, tokens=[1, 2, 3, 4]), "column tokens must hold lists of whole numbers, not int64"),
        (changed(TEXT, tokens=None), "has no column tokens; it has text"),
        (
            {"tokens": TOKENS, "label": ["a"] * 4},
            "has columns tokens, label; besides tokens it must have FEATURE",
        ),
        (changed(PEOPLE, name=None), "has no column name"),
        (changed(PEOPLE, surname_index_start=None), "has no column surname_index_start"),
        (changed(PEOPLE, surname_index_end=[3, 2, 3, 6]), "surnames lie at tokens 1 to 6"),
        (changed(PEOPLE, surname_index_start=[4, 1, 3, 4]), "each must begin before it ends"),
        ({**PEOPLE, "class": ["a"] * 4}, "feature a has one class, 4 of its 4"),
        ({**PEOPLE, "class": ["a", "b", None, "a"]}, "column class is empty in some rows"),
        (changed(PAIRS, label=None), "has no column label"),
        (changed(PAIRS, label=["bigram"] * 4), "high-school has one class"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(tmp_path, columns, said):
    folder = saved(tmp_path, columns)
    with pytest.raises(DataError, match=said) as error:
        gurnee.load(folder)
    assert "\n" not in str(error.value) and "text.pyth.6.4" in str(error.value)


def test_a_folder_that_is_no_data_set_is_one_clear_line(tmp_path):
    (tmp_path / "empty").mkdir()
    splits = datasets.DatasetDict(train=datasets.Dataset.from_dict(PAIRS))
    splits.save_to_disk(str(tmp_path / "splits"))
    whole = saved(tmp_path, PAIRS)
    arrow = next(whole.glob("*.arrow"))
    arrow.write_bytes(arrow.read_bytes()[: arrow.stat().st_size // 2])
    for folder in (tmp_path / "missing", tmp_path / "empty", tmp_path / "splits", whole):
        with pytest.raises(DataError, match="can't be read as one data set") as error:
            gurnee.load(folder)
        assert "\n" not in str(error.value) and folder.name in str(error.value)


def test_a_folder_is_probed_as_any_other_set(tmp_path):
    """From the format to directions: labels that follow one neuron are told by a probe, labels at random are not."""
    tokenizer = small_neox.tokenizer()
    neox.save_pretrained(small_neox.model(len(tokenizer)), tokenizer, tmp_path / "model")
    hf, _ = neox.load_pretrained(tmp_path / "model")
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 250, (60, 16))
    seen = []
    hf.gpt_neox.layers[1].mlp.act.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        hf(torch.from_numpy(tokens))
    neuron = seen[0][:, :, 3].numpy()
    places = [np.sort(rng.choice(16, 8, replace=False)) for _ in tokens]
    columns = {
        "tokens": tokens,
        "by_neuron|probe_indices": places,
        "by_neuron|probe_classes": [
            np.where(row[at] > np.median(neuron), 1, -1) for row, at in zip(neuron, places, strict=True)
        ],
        "at_random|probe_indices": places,
        "at_random|probe_classes": [rng.choice([-1, 1], 8) for _ in places],
    }
    items = gurnee.load(saved(tmp_path, columns))
    model = language_model.load(str(tmp_path / "model"))
    X = directions.item_activations(model, items, [0, 1], folder=tmp_path / "cache")
    expected = np.concatenate([seen[0][i, at].numpy() for i, at in enumerate(places)])
    np.testing.assert_allclose(X[1], expected, atol=2e-5)
    found = directions.probe(X, items, np.random.default_rng(1), strength=10.0)
    assert found.directions.shape == (2, 2, model.d_mlp) and items.features == ("by_neuron", "at_random")
    assert found.directions[1, 0].abs().argmax() == 3
    assert found.auc[1, 0] > 0.95 and abs(found.auc[:, 1] - 0.5).max() < 0.2
