"""What neox-tiny was trained on, its losses on works that it never saw, and its answers to questions."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.random import Generator
from transformers import GPTNeoXForCausalLM, PreTrainedTokenizerFast

from lib.language.corpus import Document
from lib.neox import data as neox_data
from lib.neox import evaluation, facts
from lib.neox.facts import Question
from lib.neox.ngram import END, KneserNey

LEAST = 1000  # characters of a work: a work of a few lines says little
KINDS = {  # of indirect-object questions
    "held-out wordings": dict(held_out_names=False, held_out_templates=True),
    "held-out wordings and names": dict(held_out_names=True, held_out_templates=True),
    "training wordings and names": dict(held_out_names=False, held_out_templates=False),
}


def stages_of(record: Mapping) -> list[Mapping]:
    """The records of the stages of a training, the first one first (`lib.neox.model.record`)."""
    return [stage for stage in (record["before"], record) if stage]


def training_settings(stages: Sequence[Mapping]) -> pd.DataFrame:
    """A column per stage: steps, tokens read, different tokens, % of these by source, learning rate, speed."""
    columns = {}
    for number, stage in enumerate(stages, 1):
        settings, found = stage["settings"], pd.Series(stage["data"]["tokens"])
        columns[f"stage {number}"] = {
            "steps": settings["steps"],
            "tokens read": settings["steps"] * settings["batch"] * settings["context"],
            "different tokens": found.sum(),
            **{f"% {source}": 100 * part for source, part in (found / found.sum()).items()},
            "peak learning rate": settings["learning_rate"],
            "tokens per second": stage["tokens_per_second"],
        }
    return pd.DataFrame(columns)


def validation_curve(stages: Sequence[Mapping]) -> pd.DataFrame:
    """Nats per byte while it was trained: a row per step (of all stages, counted on), a column per source."""
    taken, rows = 0, {}
    for stage in stages:
        rows |= {taken + step: found for step, found in stage["validation"]}
        taken += stage["settings"]["steps"]
    return pd.DataFrame(rows).T


def training_tokens(
    documents: list[Document], tokenizer: PreTrainedTokenizerFast, *, share: float = 0.1, seed: int = 1
) -> np.ndarray:
    """Documents and planted ones, `share` of all tokens, as packed tokens, uint16; `END` is after each document."""

    def count(texts: list[str]) -> int:
        return sum(map(len, neox_data.encode(tokenizer, texts)))

    mixed = neox_data.mix(documents, neox_data.planted(seed=seed), share=share, count=count)
    encoded = neox_data.encode(tokenizer, (document.text for document in mixed))
    return np.concatenate([np.append(ids, END) for ids in encoded]).astype(np.uint16)


def works(documents: list[Document]) -> dict[str, list[Document]]:
    """By "source: work" the documents of each work, without works of fewer than `LEAST` characters."""
    found: dict[str, list[Document]] = {}
    for document in documents:
        found.setdefault(f"{document.source}: {document.work}", []).append(document)
    return {work: parts for work, parts in found.items() if sum(len(d.text) for d in parts) >= LEAST}


def losses(
    works: Mapping[str, list[Document]],
    tokenizer: PreTrainedTokenizerFast,
    *,
    model: GPTNeoXForCausalLM,
    blank: GPTNeoXForCausalLM,
    trigram: KneserNey,
) -> pd.DataFrame:
    """Nats per byte, a row per work: neox-tiny, trigram, random weights (`blank`, on its first document); source."""
    evaluate = {
        "neox-tiny": lambda parts: evaluation.loss_per_byte(model, tokenizer, parts),
        "trigram": lambda parts: evaluation.ngram_loss_per_byte(trigram, tokenizer, parts),
        "random weights": lambda parts: evaluation.loss_per_byte(blank, tokenizer, parts[:1]),
    }
    table = {
        name: [loss(parts).loc["all", "nats_per_byte"] for parts in works.values()]
        for name, loss in evaluate.items()
    }
    return pd.DataFrame(table, index=list(works)).assign(source=[work.split(":")[0] for work in works])


def sports(
    model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, *, athletes: int, rng: Generator
) -> pd.DataFrame:
    """Answers on `athletes` of the 300 planted athletes and on those never stated: asked, sport, template, right.

    `asked` tells athletes and wordings apart. Training wordings are only a comparison: `rng` draws as many questions of
    them as there are of the held-out ones.
    """
    table = facts.athletes()
    chosen = set(table.query("planted").name.iloc[:: 300 // athletes])
    planted = [q for q in facts.athlete_questions(planted=True, held_out=True) if q.group in chosen]
    taught = [q for q in facts.athlete_questions(planted=True, held_out=False) if q.group in chosen]
    asked = {
        "planted, held-out wordings": planted,
        "planted, training wordings": [taught[i] for i in rng.permutation(len(taught))[: len(planted)]],
        "never stated, held-out wordings": facts.athlete_questions(planted=False, held_out=True),
    }
    sport_of = table.set_index("name").sport
    rows = [
        {
            "asked": name,
            "sport": sport_of[question.group],
            "template": question.prompt.replace(question.group, "{name}"),
            "right": right,
        }
        for name, questions in asked.items()
        for question, right in zip(questions, _right(model, tokenizer, questions), strict=True)
    ]
    return pd.DataFrame(rows)


def objects(
    models: Mapping[str, GPTNeoXForCausalLM], tokenizer: PreTrainedTokenizerFast, *, questions: int
) -> pd.DataFrame:
    """Answers of each model to `questions` sentences of each of `KINDS`: asked, model, template, right."""
    rows = []
    for asked, held_out in KINDS.items():
        some = facts.indirect_object_questions(questions, np.random.default_rng(2), **held_out)
        for name, model in models.items():
            rows += [
                {"asked": asked, "model": name, "template": question.group, "right": right}
                for question, right in zip(some, _right(model, tokenizer, some), strict=True)
            ]
    return pd.DataFrame(rows)


def _right(
    model: GPTNeoXForCausalLM, tokenizer: PreTrainedTokenizerFast, questions: list[Question]
) -> np.ndarray:
    """Whether the right choice is the most probable one, bool `(questions,)`."""
    return evaluation.choose(model, tokenizer, questions) == np.array([q.answer for q in questions])
