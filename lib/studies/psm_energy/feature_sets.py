"""The feature sets of one language model, probed, with everything that energy matching compares them with."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from torch import Tensor

from lib.common.errors import DataError
from lib.common.files import ROOT
from lib.common.progress import progress
from lib.energy import nulls
from lib.language import model as language_model
from lib.language.corpus import Document
from lib.language.model import LanguageModel
from lib.neox import model as neox
from lib.probes import directions, prompts, sets
from lib.probes.directions import Directions
from lib.probes.items import LabelledItems
from lib.studies.psm_energy import measures

TEXT, ATHLETES = "text features", "athletes"
KINDS = (TEXT, ATHLETES)


@dataclass(frozen=True, kw_only=True)
class FeatureSet:
    """Probes of one kind of features on some layers of a model, with one seed, and the same of its nulls.

    `shuffled` `(layers, draws, n, d)`: directions on shuffled labels; `random` `(layers, models, n, d)`: with random
    weights, and their AUC `(layers, models, n)`; `labels` `(n, n)`: correlations of the labels; `dropped`: features
    that had too few items, with why.
    """

    items: LabelledItems
    dropped: dict[str, str]
    probed: Directions
    shuffled: Tensor
    random: Tensor
    random_auc: ndarray
    labels: Tensor

    @property
    def names(self) -> tuple[str, ...]:
        """Of the n features."""
        return self.items.features


def layers_of(model: LanguageModel, count: int) -> list[int]:
    """`count` layers, evenly spread, the last among them; all where there are fewer."""
    count = min(count, model.layers)
    return sorted({model.layers - 1 - round(i * model.layers / count) for i in range(count)})


def items_of(
    model: LanguageModel,
    documents: Sequence[Document],
    *,
    rng: np.random.Generator,
    sequences: int,
    samples: int,
    people: LabelledItems,
) -> dict[str, tuple[LabelledItems, dict[str, str]]]:
    """By kind, items with their labels and what is dropped, with why: text features in passages, and the people given.

    `sequences`: passages of the documents; `samples`: tokens per text feature, at most.
    """
    least = max(samples // 20, 20)
    text = sets.text(model, documents, rng=rng, sequences=sequences, maximum=samples, at_least=least)
    return {TEXT: text, ATHLETES: (people, {})}


def athletes(model: LanguageModel, beginnings: int) -> LabelledItems:
    """The athletes' sports at their surnames, each after this many of the ten neutral beginnings."""
    asked = prompts.athlete_prompts()
    return sets.athletes(model.tokenizer, asked[asked.groupby("name").cumcount() < beginnings])


def probed(
    model: LanguageModel,
    documents: Sequence[Document],
    *,
    layers: Sequence[int],
    seeds: int,
    sequences: int,
    samples: int,
    beginnings: int,
    draws: int,
    random_models: int,
    folder: str | Path | None = None,
) -> dict[tuple[int, str], FeatureSet]:
    """A probed set for each seed and kind of features; `folder` is the cache of activations.

    `sequences` and `samples` as `items_of`; `beginnings`: sentences per athlete; `draws`: of shuffled labels;
    `random_models`: models with random weights, the same for all seeds. A seed is a sample of text, splits and draws of
    labels.
    """
    people = athletes(model, beginnings)
    sizes = dict(sequences=sequences, samples=samples, people=people)
    rngs = [np.random.default_rng(seed) for seed in range(seeds)]
    found = {
        (seed, kind): items
        for seed, rng in enumerate(rngs)
        for kind, items in items_of(model, documents, rng=rng, **sizes).items()
    }
    random = directions.random_weights(
        model.name,
        {key: items for key, (items, _) in found.items()},
        layers=layers,
        seeds=range(1, random_models + 1),
        rng=np.random.default_rng(seeds),
    )
    out = {}
    for (seed, kind), (items, dropped) in found.items():
        X = directions.item_activations(model, items, layers=layers, folder=folder)
        real, shuffled = _real_and_shuffled(X, items, kind=kind, draws=draws, rng=rngs[seed])
        labels = nulls.label_correlation(torch.tensor(items.labels), use=torch.tensor(items.use))
        drawn, auc = random[seed, kind]
        out[seed, kind] = FeatureSet(
            items=items,
            dropped=dropped,
            probed=real,
            shuffled=shuffled,
            random=drawn,
            random_auc=auc,
            labels=labels,
        )
    return out


def steps_of(folder: str) -> list[int]:
    """The steps of training whose weights `folder` (in the project, or absolute) keeps; none where none is named.

    Raises DataError where a folder that is named keeps none.
    """
    steps = neox.kept(ROOT / folder) if folder else []
    if folder and not steps:
        raise DataError(
            f"checkpoints is {folder!r}, a folder without any step-<n>.safetensors; "
            f"`python -m lib.neox train --folder {folder}` writes them, and an empty name leaves the section out"
        )
    return steps


def over_training(
    folder: str,
    documents: Sequence[Document],
    *,
    sequences: int,
    samples: int,
    beginnings: int,
    draws: int,
) -> pd.DataFrame | None:
    """Excess energy in the last layer of neox-tiny at the `steps_of` a folder: step, set, target, draw, excess.

    None where no folder is named. The other arguments as `probed`.
    """
    steps = steps_of(folder)
    if not steps:
        return None
    _, tokenizer = neox.load_pretrained()
    parts = []
    for step in progress(steps, "checkpoints"):
        with tempfile.TemporaryDirectory() as place:
            neox.save_pretrained(neox.load_step(ROOT / folder, step), tokenizer, f"{place}/step")
            model = language_model.load(f"{place}/step")
        rng = np.random.default_rng(0)
        sizes = dict(sequences=sequences, samples=samples, people=athletes(model, beginnings))
        for kind, (items, _) in items_of(model, documents, rng=rng, **sizes).items():
            X = directions.item_activations(model, items, layers=[model.layers - 1], cached=False)
            real, shuffled = _real_and_shuffled(X, items, kind=kind, draws=draws, rng=rng)
            generator = torch.Generator().manual_seed(0)
            others = {"shuffled labels": shuffled[0]}
            targets = measures.targets(real.directions[0], others, draws=draws, generator=generator)
            part = measures.measured(targets, kernels=("exp",))
            parts.append(part.assign(step=step, set=kind))
    return pd.concat(parts, ignore_index=True)


def _real_and_shuffled(
    X: ndarray, items: LabelledItems, *, kind: str, draws: int, rng: np.random.Generator
) -> tuple[Directions, Tensor]:
    real = directions.probe(X, items, rng=rng)
    # An athlete has one sport, so a shuffled one has one too.
    shuffled = directions.shuffled(X, items, draws=draws, rng=rng, whole_groups=kind == ATHLETES)
    return real, shuffled
