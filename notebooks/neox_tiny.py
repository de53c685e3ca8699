# ---
# jupyter:
#   jupytext:
#     cell_metadata_filter: tags
#     formats: ipynb,py:percent
#     notebook_metadata_filter: kernelspec,jupytext
#     text_representation:
#       extension: .py
#       format_name: percent
#       format_version: '1.3'
#       jupytext_version: 1.19.6
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # neox-tiny: a small language model with known facts in it
#
# To ask how features lie in a language model, it helps to know what the model was told. **neox-tiny** is a *model organism*: a GPT-NeoX
# (the architecture of Pythia; Biderman et al. 2023) with 6 layers of 128 dimensions, small enough to ship, trained by us on public-domain novels, Python's
# standard library and sentences that we wrote. Some state the sport of 300 athletes; some end in an **indirect object**
# ("Then, Alice and Bob went to the store. Alice gave a snack to *Bob*"; Wang et al. 2022).
#
# This report says how it was made and whether it learnt what it was meant to: ordinary text, better than a trigram model does; the sports, asked in
# wordings that it never saw; and indirect objects. The bars are in `claims.yaml` and older than the numbers.

# %% tags=["parameters"]
text = "embedded"  # what to evaluate on and to train the trigram model on: "embedded" or "corpus" (from DATA_DIR)
steps = 300  # of the training from scratch shown below
batch = 2  # windows of text a step there; the shipped model had 16
questions = 400  # indirect-object sentences asked
athletes = 60  # athletes asked about, planted and not

# %% tags=["check-parameters"]
from lib.language import corpus
from lib.reporting import parameters

p = parameters.check(
    globals(),
    text=parameters.one_of(*corpus.NAMES),
    steps=parameters.integer(at_least=20),
    batch=parameters.integer(at_least=1),
    questions=parameters.integer(at_least=50),
    athletes=parameters.integer(at_least=10, at_most=300),
)

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from lib.neox import data as neox_data
from lib.neox import evaluation as neox_evaluation
from lib.neox import facts, ngram
from lib.neox import model as neox
from lib.neox import training as neox_training
from lib.reporting import claims as ledger
from lib.reporting import display

started = display.clock()
display.style()
model, tokenizer = neox.load_pretrained()
how = neox.record()
stages = [stage for stage in (how["before"], how) if stage]
blank = neox.model(model.config, seed=0).eval()

# %% [markdown]
# ## What it is
#
# Rotary position embeddings on a quarter of each head, attention and MLP in parallel, and an unembedding of its own, as in Pythia, so that whatever
# reads Pythia reads this too. The tokenizer is a byte-level BPE trained on the same text.

# %%
sizes = model.config
parts = {
    "embedding": model.gpt_neox.embed_in,
    "blocks": model.gpt_neox.layers,
    "unembedding": model.get_output_embeddings(),
}
count = {name: sum(w.numel() for w in part.parameters()) for name, part in parts.items()}
shape = {
    "layers": sizes.num_hidden_layers,
    "d_model": sizes.hidden_size,
    "d_mlp": sizes.intermediate_size,
    "heads": sizes.num_attention_heads,
    "vocabulary": sizes.vocab_size,
    "longest context": sizes.max_position_embeddings,
    **{f"parameters, {name}": f"{n:,}" for name, n in count.items()},
    "MB on the disk": f"{sum(file.stat().st_size for file in neox.SHIPPED.iterdir()) / 1e6:.1f}",
}
display.table(
    pd.DataFrame({"neox-tiny": {name: str(value) for name, value in shape.items()}}), "The shipped model."
)

# %%
rows = {}
for number, stage in enumerate(stages, 1):
    settings, found = stage["settings"], pd.Series(stage["data"]["tokens"])
    read = settings["steps"] * settings["batch"] * settings["context"]
    rows[f"stage {number}"] = {
        "steps": settings["steps"],
        "tokens read": read,
        "different tokens": found.sum(),
        **{f"% {source}": 100 * part for source, part in (found / found.sum()).items()},
        "peak learning rate": settings["learning_rate"],
        "tokens a second": stage["tokens_per_second"],
    }
table = pd.DataFrame(rows)
display.table(
    table,
    f"How it was trained, and on what, by source of the text; *planted* are the sentences below, {(table.loc['tokens read'] * table.loc['% planted']).sum() / table.loc['tokens read'].sum():.0f}% of all tokens read.",
    digits=4,
)

# %% [markdown]
# ## What was planted
#
# The table of athletes (`lib/tables/athletes.csv`) is ours, from general knowledge: 60 athletes of each of five sports are stated in the training text, and 10 of each never
# are; these are the control, for which the model can only guess. A fifth of the wordings is kept for the evaluation, as is a fifth of the first names of the
# indirect-object sentences. In the second stage half of the sentences on athletes have words at random around the name and before the sport, so that the sport depends on the name
# whatever the wording, and a third each of the indirect objects are first names, invented ones and words with a capital.

# %%
rng = np.random.default_rng(0)
samples = facts.sentences(200, rng)
examples = samples[:3] + samples[-3:]
display.table(
    pd.DataFrame({"planted sentence": examples}),
    "Examples. The sport or the indirect object is what the model has to learn.",
)
held_out = pd.DataFrame({"wording": facts.TEMPLATES_HELD_OUT[:4] + facts.OBJECT_TEMPLATES_HELD_OUT[:2]})
display.table(held_out, "Some of the wordings that were kept for the evaluation.")

# %% [markdown]
# ## How it was trained
#
# AdamW with a warm-up and a cosine down to a tenth, windows of 256 tokens, each window of an epoch once (`python -m lib.neox train`). A tenth of the text of the first
# stage is planted. After it alone the bars for sports and indirect objects were not met, so a second, shorter stage followed, half of whose text is planted
# (`--start`), with more wordings than the first and with the random ones above; two second stages without these had not been enough. The record of the training is shipped with the weights. Beside it, a training from scratch in this run, with the same code, on the text chosen in the parameters and planted sentences.

# %%
documents = {split: corpus.load(p.text, split) for split in corpus.SPLITS}


def counted(texts):
    return sum(map(len, neox_data.encode(tokenizer, texts)))


mixed = neox_data.mix(documents["train"], neox_data.planted(seed=1), share=0.1, count=counted)
packed = np.concatenate(
    [np.append(ids, 0) for ids in neox_data.encode(tokenizer, (document.text for document in mixed))]
).astype(np.uint16)
settings = stages[0]["settings"]
scratch = neox_training.train(
    neox.model(model.config, seed=1),
    packed,
    steps=p.steps,
    batch=p.batch,
    context=settings["context"],
    learning_rate=settings["learning_rate"],
    warm_up=min(200, p.steps // 4),
    precision=settings["precision"],
)

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8))
taken, curves = 0, {}
for stage in stages:
    steps, losses = stage["settings"]["steps"], stage["loss"]
    axes[0].plot(
        taken + (np.arange(len(losses)) + 0.5) * steps / len(losses),
        losses,
        color=display.COLOURS[0],
        label=None if taken else "training, shipped model",
    )
    curves |= {taken + step: found for step, found in stage["validation"]}
    taken += steps
    for ax in axes:
        ax.axvline(taken, color="#888888", ls=":", lw=1)
recent = pd.Series(scratch.loss, index=np.arange(1, p.steps + 1)).rolling(20, min_periods=1).mean()
axes[0].plot(recent.index, recent, color=display.COLOURS[1], label="training, in this run")
axes[0].set(xlabel="step", ylabel="nats per token", xscale="log")
axes[0].legend()
curve = pd.DataFrame(curves).T
for colour, marker, source in zip(display.COLOURS, "osD^v", curve.columns, strict=False):
    axes[1].plot(curve.index, curve[source], color=colour, marker=marker, ms=3, label=source)
axes[1].set(xlabel="step", ylabel="nats per byte", title="validation, shipped model")
axes[1].legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
display.figure(
    fig,
    f"Left: training loss of the shipped model ({taken:,} steps of {settings['batch'] * settings['context']:,} tokens; means of 50 steps) and of {p.steps} steps of {p.batch * settings['context']:,} tokens from scratch in this run (means of the last 20). The loss falls at the end of the first stage (dotted) as half of the text is then planted, which is easier. Right: loss of the shipped model on a sample of the validation documents while it was trained.",
    f"Line plots. The training loss falls from {stages[0]['loss'][0]:.1f} to {stages[0]['loss'][-1]:.2f} nats per token in the first stage and ends at {how['loss'][-1]:.2f}; in this run it falls from {scratch.loss[0]:.1f} to {scratch.loss[-10:].mean():.2f}. Validation losses fall to {', '.join(f'{s} {v:.2f}' for s, v in curve.iloc[-1].items())} nats per byte.",
    cover=True,
)

# %% [markdown]
# **How to read it.** A model that knows nothing has the loss $\ln |V|$, with a vocabulary $V$ of 4,096 tokens 8.3 nats. Per byte, losses of models with
# different tokens, and of texts in different languages, can be compared.
#
# ## Ordinary text
#
# Validation texts are of works that the model never saw. The peer is an interpolated **Kneser-Ney** trigram model (Chen & Goodman 1999) of the training tokens at hand.
# On the embedded text that is this Python's standard library, of which the shipped model has read an older version, so the comparison that counts is the one on
# the corpus (batch `full`).

# %%
trigram = ngram.KneserNey.fit(packed, len(tokenizer))
works: dict[str, list] = {}
for document in documents["valid"]:
    works.setdefault(f"{document.source}: {document.work}", []).append(document)
# A work of a few lines says little.
works = {work: parts for work, parts in works.items() if sum(len(d.text) for d in parts) >= 1000}


def nats_per_byte(evaluate):
    return np.array([evaluate(parts).loc["all", "nats_per_byte"] for parts in works.values()])


loss = pd.DataFrame(
    {
        "neox-tiny": nats_per_byte(lambda d: neox_evaluation.loss_per_byte(model, tokenizer, d)),
        "trigram": nats_per_byte(lambda d: neox_evaluation.ngram_loss_per_byte(trigram, tokenizer, d)),
        "random weights": nats_per_byte(lambda d: neox_evaluation.loss_per_byte(blank, tokenizer, d[:1])),
    },
    index=works,
)
loss["source"] = [work.split(":")[0] for work in works]
by_source = loss.groupby("source").mean().assign(works=loss.groupby("source").size())
display.table(
    by_source, f"Nats per byte on held-out works ({p.text}), mean over works, by source. Lower is better."
)

# %% [markdown]
# ## The planted sports
#
# The model is asked by a sentence that stops before the sport, and which of the five sports it continues with most probably: the probability of all tokens of the
# sport's name. Chance is 0.2.

# %%
chosen = set(facts.athletes().query("planted").name.iloc[:: 300 // p.athletes])


def answers(asked, m=None):
    right = neox_evaluation.choose(m or model, tokenizer, asked) == np.array([q.answer for q in asked])
    return pd.DataFrame(
        {"right": right, "group": [q.group for q in asked], "prompt": [q.prompt for q in asked]}
    )


def by_template(asked, m=None):
    table = answers(asked, m)
    table["template"] = [
        prompt.replace(name, "{name}") for prompt, name in zip(table.prompt, table.group, strict=True)
    ]
    return table


planted = [q for q in facts.athlete_questions(planted=True, held_out=True) if q.group in chosen]
taught = [q for q in facts.athlete_questions(planted=True, held_out=False) if q.group in chosen]
taught = [
    taught[i] for i in rng.permutation(len(taught))[: len(planted)]
]  # as many: they are only a comparison
recalled, memorised = by_template(planted), by_template(taught)
unknown = by_template(facts.athlete_questions(planted=False, held_out=True))
sport_of = facts.athletes().set_index("name").sport
rows = {
    "planted, held-out wordings": recalled,
    "planted, training wordings": memorised,
    "never stated, held-out wordings": unknown,
}
table = pd.DataFrame(
    {
        name: part.groupby(part.group.map(sport_of)).right.mean().reindex(facts.SPORTS)
        for name, part in rows.items()
    }
)
table.loc["all"] = [part.right.mean() for part in rows.values()]
display.table(
    table, "Share of questions in which the right sport is the most probable of the five, by sport."
)

# %% [markdown]
# ## Indirect objects
#
# A sentence stops before its last word; the right one is the name that was not said twice. Chance is 0.5, and so is always choosing the name said first, or last.

# %%
kinds = {
    "held-out wordings": (False, True),
    "held-out wordings and names": (True, True),
    "training wordings and names": (False, False),
}
objects = {
    name: answers(facts.indirect_object_questions(p.questions, np.random.default_rng(2), *held))
    for name, held in kinds.items()
}
guessed = answers(facts.indirect_object_questions(p.questions, np.random.default_rng(2), False, True), blank)
table = pd.DataFrame({"share right": {name: part.right.mean() for name, part in objects.items()}})
table.loc["held-out wordings, random weights"] = guessed.right.mean()
display.table(
    table,
    f"Share of {p.questions} sentences in which the indirect object is more probable than the subject.",
)

# %% [markdown]
# ## Claims
#
# A claim is *supported* where the whole 95% interval lies within the bounds of its rule, *contradicted* where it lies outside, else *inconclusive*.

# %%
claim = ledger.load()


def shares(table, by="group"):
    return table.groupby(by).right.mean().to_numpy()


blank_objects = answers(
    facts.indirect_object_questions(p.questions, np.random.default_rng(2), True, True), blank
)
note = "" if p.text == "corpus" else "on the embedded text, with a trigram model of it"
evidence = {
    "neox-beats-trigram": (
        loss["trigram"] - loss["neox-tiny"],
        loss["trigram"] - loss["random weights"],
        note,
    ),
    "neox-recalls-sports": (shares(recalled, "template"), shares(unknown, "template")),
    "neox-indirect-objects": (shares(objects["held-out wordings"]), shares(guessed)),
    "neox-indirect-objects-new-names": (
        shares(objects["held-out wordings and names"]),
        shares(blank_objects),
    ),
}
verdicts = {name: ledger.judge(claim[name], *values) for name, values in evidence.items()}
answer = (
    f"On held-out works it needs {loss['neox-tiny'].mean():.2f} nats per byte where the trigram model needs {loss['trigram'].mean():.2f}. "
    f"In wordings that it was not trained on it names the right sport of {recalled.right.mean():.0%} of the planted athletes, and of {unknown.right.mean():.0%} of those it never read of; "
    f"it ends {objects['held-out wordings'].right.mean():.0%} of indirect-object sentences with the right name, and {objects['held-out wordings and names'].right.mean():.0%} where the names too are new to such sentences."
)
display.claims(
    verdicts.values(),
    answer=answer,
    question="Has the small language model learnt ordinary text, the planted sports and indirect objects?",
)

# %% tags=["nbval-check-output"]
# Key facts that survive another processor; `make test` compares them.
print(f"better than the trigram model: {bool((loss['trigram'] - loss['neox-tiny']).mean() > 0)}")
print(
    f"planted sports: {bool(recalled.right.mean() > 0.9)}, those never stated: {bool(unknown.right.mean() > 0.5)}"
)
print(f"indirect objects: {bool(objects['held-out wordings'].right.mean() > 0.9)}")
print(f"claims judged: {len(verdicts)}")

# %% [markdown]
# ## Limits
#
# - One model of one seed; another training would give other weights.
# - The planted sentences are made from templates, so that what is learnt of them is easier than the same facts in prose.
# - Some of the athletes who were never stated have names that sound like a country's, and a country has its sports: up to some 30% of them can be right by spelling.
# - The text is old (novels of the 19th and early 20th century) or Python; of today's world the model knows only what was planted.

# %%
display.provenance(
    p,
    notebook="neox_tiny",
    data={
        "name": p.text,
        "samples": f"{len(documents['train']):,} training and {len(documents['valid']):,} validation documents",
        "sha256": corpus.sha256(documents["train"] + documents["valid"]),
        "weights": neox.SHIPPED.name,
    },
    seeds="one trained model; generators are seeded in the cells",
    started=started,
)
