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
# wordings that it never saw; and indirect objects. The bars are in `claims.yaml` and were written before any results.

# %% tags=["parameters"]
text = "embedded"  # what to evaluate on and to train the trigram model on: "embedded" or "corpus" (from DATA_DIR)
steps = 300  # of the training from scratch shown below
batch = 2  # windows of text per step there; the shipped model had 16
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
import numpy as np
import pandas as pd

from lib.neox import facts, ngram
from lib.neox import model as neox
from lib.neox import training as neox_training
from lib.reporting import claims, display
from lib.studies.neox_tiny import evidence, figures, measures

started = display.clock()
display.style()
model, tokenizer = neox.load_pretrained()
how = neox.record()
stages = measures.stages_of(how)
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
shown = pd.DataFrame({"neox-tiny": {name: str(value) for name, value in shape.items()}})
display.table(shown, "The shipped model.")

# %%
table = measures.training_settings(stages)
read = table.loc["tokens read"]
planted = (read * table.loc["% planted"]).sum() / read.sum()
display.table(
    table,
    f"How it was trained, and on what, by source of the text; *planted* are the sentences below, {planted:.0f}% of all tokens read.",
    digits=4,
)

# %% [markdown]
# ## What was planted
#
# The table of athletes (`lib/neox/tables/athletes.csv`) is ours, from general knowledge: 60 athletes of each of five sports are stated in the training text, and 10 of each never
# are; these are the control, for which the model can only guess. A fifth of the wordings is kept for the evaluation, as is a fifth of the first names of the
# indirect-object sentences. In the second stage half of the sentences on athletes have words at random around the name and before the sport, so that the sport depends on the name
# whatever the wording, and a third each of the indirect objects are first names, invented ones and words with a capital.

# %%
rng = np.random.default_rng(0)
samples = facts.sentences(200, rng)
display.table(
    pd.DataFrame({"planted sentence": samples[:3] + samples[-3:]}),
    "Examples. The sport or the indirect object is what the model has to learn.",
)
held_out = {kind: facts.templates(kind, held_out=True) for kind in ("athlete", "indirect object")}
display.table(
    pd.DataFrame({"wording": held_out["athlete"][:4] + held_out["indirect object"][:2]}),
    "Some of the wordings that were kept for the evaluation.",
)

# %% [markdown]
# ## How it was trained
#
# AdamW with a warm-up and a cosine down to a tenth, windows of 256 tokens, each window of an epoch once (`python -m lib.neox train`). A tenth of the text of the first
# stage is planted. After it alone the bars for sports and indirect objects were not met, so a second, shorter stage followed, half of whose text is planted
# (`--start`), with more wordings than the first and with the random ones above; two second stages without these had not been enough. The record of the training is
# shipped with the weights. The figure also shows a training from scratch in this run, with the same code, on the text chosen in the parameters and planted sentences.

# %%
documents = {split: corpus.load(p.text, split) for split in corpus.SPLITS}
packed = measures.training_tokens(documents["train"], tokenizer)
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
taken = sum(stage["settings"]["steps"] for stage in stages)
last = ", ".join(f"{name} {nats:.2f}" for name, nats in measures.validation_curve(stages).iloc[-1].items())
first, second = stages[0]["loss"], how["loss"]
display.figure(
    figures.training(stages, scratch.loss),
    (
        f"Left: training loss of the shipped model ({taken:,} steps of {settings['batch'] * settings['context']:,} tokens; means of 50 steps) "
        f"and of {p.steps} steps of {p.batch * settings['context']:,} tokens from scratch in this run (means of the last {figures.RECENT}). "
        "The loss falls at the end of the first stage (dotted) as half of the text is then planted, which is easier. "
        "Right: loss of the shipped model on a sample of the validation documents while it was trained."
    ),
    (
        "Line plots. "
        f"The training loss falls from {first[0]:.1f} to {first[-1]:.2f} nats per token in the first stage and ends at {second[-1]:.2f}; "
        f"in this run it falls from {scratch.loss[0]:.1f} to {scratch.loss[-10:].mean():.2f}. "
        f"Validation losses fall to {last} nats per byte."
    ),
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
works = measures.works(documents["valid"])
loss = measures.losses(works, tokenizer, model=model, blank=blank, trigram=trigram)
by_source = loss.groupby("source").mean().assign(works=loss.groupby("source").size())
display.table(
    by_source,
    f"Nats per byte on held-out works ({p.text}), mean over works, by source. Lower is better.",
)

# %% [markdown]
# ## The planted sports
#
# The model is asked by a sentence that stops before the sport, and which of the five sports it continues with most probably: the probability of all tokens of the
# sport's name. Chance is 0.2.

# %%
sports = measures.sports(model, tokenizer, athletes=p.athletes, rng=rng)
asked = list(dict.fromkeys(sports["asked"]))
table = sports.groupby(["sport", "asked"])["right"].mean().unstack().reindex(facts.SPORTS)[asked]
recalled = sports.groupby("asked")["right"].mean()
table.loc["all"] = recalled
display.table(
    table.rename_axis(columns=None),
    "Share of questions in which the right sport is the most probable of the five, by sport.",
)

# %% [markdown]
# ## Indirect objects
#
# A sentence stops before its last word; the right one is the name that was not said twice. Chance is 0.5, and so is always choosing the name said first, or last.

# %%
models = {"neox-tiny": model, "random weights": blank}
objects = measures.objects(models, tokenizer, questions=p.questions)
named = objects.groupby(["model", "asked"])["right"].mean()
table = pd.DataFrame({"share right": {kind: named["neox-tiny", kind] for kind in measures.KINDS}})
table.loc["held-out wordings, random weights"] = named["random weights", "held-out wordings"]
display.table(
    table,
    f"Share of {p.questions} sentences in which the indirect object is more probable than the subject.",
)

# %% [markdown]
# ## Claims
#
# A claim is *supported* where the whole 95% interval lies within the bounds of its rule, *contradicted* where it lies outside, else *inconclusive*.

# %%
tables = evidence.Tables(p.text, loss=loss, sports=sports, objects=objects)
verdicts = claims.judge_all("neox_tiny", evidence.of(tables))
stated, unknown = (recalled[f"{which}, held-out wordings"] for which in ("planted", "never stated"))
ends, ends_new = (named["neox-tiny", f"held-out wordings{more}"] for more in ("", " and names"))
display.claims(
    verdicts.values(),
    answer=(
        f"On held-out works it needs {loss['neox-tiny'].mean():.2f} nats per byte where the trigram model needs {loss['trigram'].mean():.2f}. "
        f"In wordings that it was not trained on it names the right sport of {stated:.0%} of the planted athletes, "
        f"and of {unknown:.0%} of those it never read of; it ends {ends:.0%} of indirect-object sentences with the right name, "
        f"and {ends_new:.0%} where the names too are new to such sentences."
    ),
    question="Has the small language model learnt ordinary text, the planted sports and indirect objects?",
)

# %% tags=["nbval-check-output"]
# Key facts that survive another processor; `make test` compares them.
print(f"better than the trigram model: {bool((loss['trigram'] - loss['neox-tiny']).mean() > 0)}")
print(f"planted sports: {bool(stated > 0.9)}, those never stated: {bool(unknown > 0.5)}")
print(f"indirect objects: {bool(ends > 0.9)}")
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
    seeds="one trained model; generators are seeded in the cells and in lib.studies.neox_tiny",
    started=started,
)
