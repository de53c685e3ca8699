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
# # What a training step costs
#
# A projective dictionary solves a least-squares problem for every sample of every batch. Does that make it slow? This
# report measures whole training steps of our dictionaries against each other, against plain versions of the same
# mathematics, and against the top-k autoencoders of two libraries that are in wide use, **SAELens** and
# **dictionary_learning**. It shows ratios, as seconds are those of one machine.
#
# The peers live in an environment of their own (SAELens needs an older transformer-lens). `make benchmark` sets it up, measures
# everything again on the machine at hand and prints the tables.

# %% tags=["parameters"]
peers = False  # whether to measure SAELens and dictionary_learning too; `make benchmark` installs them
repetitions = 3  # of every measurement, the unit of replication
d = 128  # width of the activations
n = 1024  # latents
k = 16  # active latents
batch = 256  # samples in a step

# %% tags=["check-parameters"]
from lib.reporting import parameters

p = parameters.check(
    globals(),
    peers=parameters.one_of(False, True),
    repetitions=parameters.integer(at_least=2),
    d=parameters.integer(at_least=3),
    n=parameters.integer(at_least=3),
    k=parameters.integer(at_least=1),
    batch=parameters.integer(at_least=2),
)
if p.k >= min(p.d, p.n):
    raise parameters.ParameterError(f"parameter k: got {p.k}; it must be below d = {p.d} and n = {p.n}")

# %%
import pandas as pd
import torch

from lib.reporting import claims, display
from lib.studies.speed import evidence, figures, measures, memory
from lib.studies.speed.peers import Peers

started = display.clock()
display.style()
sizes = {"chosen": measures.Size(d=p.d, n=p.n, k=p.k, batch=p.batch), "small": measures.SMALL}
names = measures.methods(p.peers)

# %% [markdown]
# ## What is compared
#
# A step is whole: forward, backward, clipping of the gradient, Adam, decoder rows back to norm 1. All methods get the same batch of
# standard normal numbers, in float32, on one thread. Time is CPU time, and the methods take their steps in turn, so that background load
# affects all equally. The value per repetition is the ratio of two medians over several rounds.

# %%
display.table(
    pd.DataFrame({"what it is": {name: measures.ABOUT[name] for name in names}}).rename_axis("method"),
    (
        "The methods. "
        "The first five are `lib.dictionaries` with `lib.dictionaries.training.Step`, the next two `lib.dictionaries.references`."
    ),
)
versions = {"torch, ours": torch.__version__}
if p.peers:
    with Peers() as pipe:
        versions |= {f"{name}, peers'": version for name, version in pipe.ask("versions").items()}
display.table(pd.DataFrame({"version": versions}), "Versions; the hardware is in the provenance at the end.")

# %% [markdown]
# ## How ours avoid the work
#
# With the $k$ selected rows as the columns of $X$, the projection of a target $y$ is
#
# $$
# \beta = (X^\top X + \mathrm{diag}(\lambda))^{-1} X^\top y, \qquad \hat{y} = X \beta .
# $$
#
# The Gram matrices are made from the rows that were gathered for each sample, and factored once. With $g = \partial L / \partial \hat{y}$
# and $u = A^{-1} X^\top g$, $A = X^\top X + \mathrm{diag}(\lambda)$, the backward pass needs the same factor and no derivative of a solver:
#
# $$
# \frac{\partial L}{\partial X} = (g - X u) \beta^\top + (y - \hat{y}) u^\top, \qquad \frac{\partial L}{\partial y} = X u, \qquad
# \frac{\partial L}{\partial \lambda_j} = - u_j \beta_j .
# $$
#
# For the exact projection and the squared error $u = 0$. Beyond the encoder's one dense product, a step costs what its $k$ rows per sample
# cost, plus Adam, which no method escapes.

# %%
times = measures.steps(sizes, repetitions=p.repetitions, with_peers=p.peers)
ratio = evidence.step_ratios(times)
chosen, small = (ratio[label].median() for label in sizes)

# %%
display.figure(
    figures.step_times(ratio, sizes, names=names),
    (
        "CPU time of a whole training step, as a ratio to our top-k step's in the same repetition (dashed: 1). "
        "Dots: repetitions; diamonds: mean and 95% interval."
    ),
    (
        "Dot plot of ratios. "
        f"At {sizes['chosen']}: projective {chosen['projective']:.2f}, ridge {chosen['ridge']:.2f}, "
        f"dense top-k {chosen['dense top-k']:.2f}, naive projection {chosen['naive projection']:.2f}; "
        f"at {sizes['small']}: projective {small['projective']:.2f}, ridge {small['ridge']:.2f}"
    ),
    cover=True,
)

# %%
for label, size in sizes.items():
    seconds = times[times["size"] == label].groupby("method")["seconds"].median()
    table = evidence.summary(ratio[label]).assign(ms=1e3 * seconds)
    display.table(
        table.rename(columns={"ms": "CPU time, ms", "ratio": "ratio, median"}),
        (
            f"A training step at {size}: ratio to our top-k step (median, least and largest over {p.repetitions} repetitions) and median CPU time."
        ),
    )

# %% [markdown]
# **How to read it.** Left of the dashed line is faster than our top-k. Tied methods have half the parameters, and so half of Adam's work: the exact
# projection, which is tied, is to be compared with both top-k rows. What a projection adds is the distance of *projective* from *top-k, tied* and of
# *ridge* and *hybrid* from *top-k*. The plain versions show what is gained by not computing what is not needed. That gain grows with $n$ and $d$;
# where the whole dictionary fits into a processor's cache, a dense product is cheaper than gathering, and *dense top-k* wins.
#
# ## Memory

# %%
peak = memory.peak(sizes["chosen"], repetitions=p.repetitions, with_peers=p.peers)
table = peak.groupby("method", sort=False)[["training", "step"]].median().add_suffix(", MB")
for column in ("training", "step"):
    table[f"{column}, ratio"] = evidence.memory_ratios(peak, column).median()
display.table(
    table,
    (
        f"Peak memory at {sizes['chosen']}, each method in a process of its own, median of {p.repetitions}. "
        "*training*: all that it takes: parameters, gradients, Adam's moments, activations. "
        "*step*: what one step needs for its duration on top of what stays between steps. "
        "Ratios to our top-k."
    ),
)

# %% [markdown]
# **How to read it.** The scores of all latents, $\mathrm{batch} \times n$ numbers, and the gradients are what a step cannot do without. Autograd through a dense
# decode keeps several more arrays of that size; through a gather and a solve it keeps the gathered rows, $\mathrm{batch} \times k \times d$ numbers, more than once.
#
# ## Coding a batch
#
# A support can also be found by orthogonal matching pursuit (OMP), which looks at the whole dictionary $k$ times. What does it cost at inference?

# %%
coding = measures.omp_coding(sizes["chosen"], repetitions=p.repetitions)
over = evidence.coding_ratios(coding)
shown = evidence.summary(over).rename(columns={"ratio": "ratio to the encoder"})
shown.insert(0, "CPU time, ms", 1e3 * coding.median())
display.table(shown, f"Coding a batch without training, at {sizes['chosen']}.")

# %% [markdown]
# ## Claims
#
# One value per repetition. A claim is *supported* where the whole 95% interval lies within the bounds of its rule, *contradicted* where it lies
# outside, else *inconclusive*. Where the size is not d = 512, n = 8,192, k = 32 and batch 1,024, the note says so.

# %%
tables = evidence.Tables(sizes["chosen"], times, peak, coding)
verdicts = claims.judge_all("speed", evidence.of(tables), evidence.not_tested(tables))

# %%
tied = (ratio["chosen"]["projective"] / ratio["chosen"]["top-k, tied"]).median()
of_peers = "The peers were not measured in this run."
if p.peers:
    of_peers = (
        f"SAELens' top-k step takes {chosen['SAELens']:.1f} times ours "
        f"({chosen['SAELens, sparse']:.1f} with its sparse activations), "
        f"dictionary_learning's {chosen['dictionary_learning']:.1f}."
    )
answer = (
    f"At {sizes['chosen']} on one thread, an exact projective step takes {chosen['projective']:.2f} times the CPU time of our top-k step "
    f"({tied:.2f} times that of the tied one), a ridge step {chosen['ridge']:.2f} times; "
    f"autograd through a solve takes {chosen['naive projection']:.1f} times. "
    f"{of_peers} "
    f"At {sizes['small']} projective steps take {small['projective']:.2f} (exact) and {small['ridge']:.2f} (ridge) times our top-k step, "
    f"and the plain dense step {small['dense top-k']:.2f} times."
)
question = "Is training through a projection as quick as training a sparse autoencoder?"
display.claims(verdicts.values(), answer=answer, question=question)

# %% tags=["nbval-check-output"]
# What holds on any machine; `make test` compares it.
added = evidence.memory_ratios(peak, "training").median()
print(
    f"autograd through a solve costs more than ours: {bool(chosen['naive projection'] > chosen['projective'])}"
)
print(f"and takes more memory: {bool(added['naive projection'] > added['projective'])}")
print(f"OMP costs more than an encoder: {bool(over['OMP'].median() > 2)}")
print(f"claims judged: {len(verdicts)}")

# %% [markdown]
# ## Limits
#
# - One thread of one processor. On a GPU, or with many threads, other parts of a step dominate.
# - Batches of standard normal numbers: no latent is dead, so no auxiliary loss is at work in any method. Real activations are less even, and what is gathered lies
#   closer together.
# - SAELens and dictionary_learning do more than a step: they log, resample and checkpoint. None of that is measured; of their own code only the training step
#   runs. SAELens does not bring the decoder's rows back to norm 1 but rescales by them, which is counted as its way to the same end.
# - CPU time does not count waiting for memory that other programs use, but is slowed by it. Ratios within a repetition bear that better than seconds do.
# - The step's memory is what the system calls resident. It is told in pages, and for steps of a few MB its last digit means nothing.

# %%
display.provenance(
    p,
    notebook="speed",
    data={
        "name": "standard normal numbers",
        "samples": f"{p.batch} and {measures.SMALL.batch} per batch",
    },
    seeds=f"generators are seeded in lib.studies.speed; {p.repetitions} repetitions",
    started=started,
)
