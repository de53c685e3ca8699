"""The feature sets of one language model and one seed, with everything that energy matching compares them with."""

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy import ndarray
from torch import Tensor

from lib.common.files import ROOT
from lib.common.progress import progress
from lib.energy import nulls
from lib.language import model as language_model
from lib.language.corpus import Document
from lib.language.model import LanguageModel
from lib.neox import model as neox
from lib.probes import directions, prompts
from lib.probes import items as probe_data
from lib.probes.directions import Probed
from lib.probes.items import ProbeSet
from lib.studies.psm_energy import measures

SETS = ("text features", "athletes")


@dataclass(frozen=True)
class Unit:
    """Probes of one feature set on some layers of a model, and the same of its nulls.

    `shuffled` `(layers, draws, n, d)`: directions on shuffled labels; `random` `(layers, models, n, d)`: with random
    weights, and their AUC `(layers, models, n)`; `labels` `(n, n)`: correlations of the labels; `dropped`: features
    that had too few items, with why.
    """

    items: ProbeSet
    dropped: dict[str, str]
    probed: Probed
    shuffled: Tensor
    random: Tensor
    random_auc: ndarray
    labels: Tensor

    @property
    def features(self) -> tuple[str, ...]:
        return self.items.features


def layers_of(model: LanguageModel, count: int) -> list[int]:
    """`count` layers, evenly spread, the last among them; all where there are fewer."""
    count = min(count, model.layers)
    return sorted({model.layers - 1 - round(i * model.layers / count) for i in range(count)})


def feature_sets(
    model: LanguageModel,
    documents: Sequence[Document],
    rng: np.random.Generator,
    sequences: int,
    samples: int,
    people: ProbeSet,
) -> dict[str, tuple[ProbeSet, dict[str, str]]]:
    """Text features in passages of the documents, and the athletes that are given; what is dropped, with why."""
    text = directions.text_set(
        model, documents, rng, sequences, maximum=samples, at_least=max(samples // 20, 20)
    )
    return dict(zip(SETS, (text, (people, {})), strict=True))


def athletes(model: LanguageModel, beginnings: int) -> ProbeSet:
    """The athletes' sports at their surnames, each after this many of the ten neutral beginnings."""
    asked = prompts.athlete_prompts()
    return probe_data.athletes(model.tokenizer, asked[asked.groupby("name").cumcount() < beginnings])


def units(
    model: LanguageModel,
    documents: Sequence[Document],
    layers: Sequence[int],
    seeds: int,
    sequences: int,
    samples: int,
    beginnings: int,
    draws: int,
    random_models: int,
    folder=None,
) -> dict[tuple[int, str], Unit]:
    """A unit for each seed and feature set; `folder` is the cache of activations.

    A seed is a sample of text, splits and draws of labels; models with random weights are the same for all seeds.
    """
    people = athletes(model, beginnings)
    rngs = [np.random.default_rng(seed) for seed in range(seeds)]
    found = {
        (seed, kind): items
        for seed, rng in enumerate(rngs)
        for kind, items in feature_sets(model, documents, rng, sequences, samples, people).items()
    }
    sets = {key: items for key, (items, _) in found.items()}
    random = directions.random_weights(
        model.name, sets, layers, range(1, random_models + 1), np.random.default_rng(seeds)
    )
    out = {}
    for (seed, kind), (items, dropped) in found.items():
        X = directions.items(model, items, layers, folder)
        probed = directions.probe(X, items, rngs[seed])
        # An athlete has one sport, so a shuffled one has one too.
        shuffled = directions.shuffled(X, items, draws, rngs[seed], whole_groups=kind == SETS[1])
        labels = nulls.label_correlation(torch.tensor(items.labels), torch.tensor(items.use))
        out[seed, kind] = Unit(items, dropped, probed, shuffled, *random[seed, kind], labels)
    return out


def steps_of(folder: str) -> list[int]:
    """The steps of training whose weights `folder` (in the project, or absolute) keeps; none where none is named.

    Raises ValueError where a folder that is named keeps none.
    """
    steps = neox.kept(ROOT / folder) if folder else []
    if folder and not steps:
        raise ValueError(
            f"checkpoints is {folder!r}, which holds no step-<n>.safetensors; "
            f"`python -m lib.neox train --folder {folder}` writes them, and nothing at all leaves the section out"
        )
    return steps


def over_training(
    folder: str, documents: Sequence[Document], sequences: int, samples: int, beginnings: int, draws: int
) -> pd.DataFrame | None:
    """Excess energy in the last layer of neox-tiny at the `steps_of` a folder: step, set, target, draw, excess.

    None where no folder is named.
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
        people = athletes(model, beginnings)
        for kind, (found, _) in feature_sets(model, documents, rng, sequences, samples, people).items():
            X = directions.items(model, found, [model.layers - 1], cached=False)
            real = directions.probe(X, found, rng).directions[0]
            shuffled = directions.shuffled(X, found, draws, rng, whole_groups=kind == SETS[1])
            generator = torch.Generator().manual_seed(0)
            targets = measures.targets(real, {"shuffled labels": shuffled[0]}, draws, generator)
            part = measures.measured(targets, kernels=("exp",))
            parts.append(part.assign(step=step, set=kind))
    return pd.concat(parts, ignore_index=True)
