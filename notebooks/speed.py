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
# everything anew on the machine at hand and prints the tables.

# %% tags=["parameters"]
peers = False  # whether to measure SAELens and dictionary_learning too; `make benchmark` installs them
repetitions = 3  # of every measurement, the unit of replication
d = 128  # width of the activations
n = 1024  # latents
k = 16  # active latents
batch = 256  # samples in a step
largest_n = 1024  # largest number of samples in the comparison of diffusion kernels

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
    largest_n=parameters.one_of(1024, 4096, 16384),
)
if p.k >= min(p.d, p.n):
    raise parameters.ParameterError(f"parameter k: got {p.k}; it must be below d = {p.d} and n = {p.n}")

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from lib.reporting import claims as ledger
from lib.reporting import display, figures
from lib.studies.mnist_superposition import timing
from lib.studies.speed import measures
from lib.studies.speed.peers import Peers

started = display.clock()
display.style()
sizes = {"chosen": measures.Size(p.d, p.n, p.k, p.batch), "small": measures.SMALL}
names = measures.methods(p.peers)

# %% [markdown]
# ## What is compared
#
# A step is whole: forward, backward, clipping of the gradient, Adam, decoder rows back to norm 1. All methods get the same batch of
# standard normal numbers, in float32, on one thread. Time is CPU time, and the methods take their steps in turn, so that what else the
# machine does meets them alike. One value a repetition is the ratio of two medians over several rounds.

# %%
about = {
    "top-k": "top-k SAE (Gao et al. 2024), decode by gathering, sparse gradients for encoder and decoder",
    "top-k, tied": "the same with the decoder's rows as encoder: half the parameters",
    "projective": "tied, exact projection, coefficients held fixed in the backward pass (envelope theorem)",
    "ridge": "untied, ridge with importances from the encoder, gradients from one Cholesky factor",
    "hybrid": "top-k loss for the encoder, projection loss for the decoder",
    "dense top-k": "plain: code written into n numbers a sample, dense products, autograd",
    "naive projection": "plain: exact projection, autograd through a linear solve",
    "SAELens": "its TopKTrainingSAE in its SAETrainer's step, as they come",
    "SAELens, sparse": "the same with use_sparse_activations=True (and without rescaling by decoder norms, which then fails)",
    "dictionary_learning": "its TopKTrainer's update",
}
display.table(
    pd.DataFrame({"method": names, "what it is": [about[name] for name in names]}).set_index("method"),
    "The methods. The first five are `lib.dictionaries.base` with `lib.dictionaries.training.Step`, the next two `lib.dictionaries.references`.",
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
# The Gram matrices are made from the rows that were gathered, a sample at a time, and factored once. With $g = \partial L / \partial \hat{y}$
# and $u = A^{-1} X^\top g$, $A = X^\top X + \mathrm{diag}(\lambda)$, the backward pass needs the same factor and no derivative of a solver:
#
# $$
# \frac{\partial L}{\partial X} = (g - X u) \beta^\top + (y - \hat{y}) u^\top, \qquad \frac{\partial L}{\partial y} = X u, \qquad
# \frac{\partial L}{\partial \lambda_j} = - u_j \beta_j .
# $$
#
# For the exact projection and the squared error $u = 0$. Beyond the encoder's one dense product, a step costs what its $k$ rows a sample
# cost, plus Adam, which no method escapes.

# %%
times = measures.steps(sizes, p.repetitions, p.peers)
ratio = {label: measures.ratios(part) for label, part in times.groupby("size")}

# %%
group = {name: 0 if name in measures.OURS else 1 if name in measures.REFERENCES else 2 for name in names}
colours = {name: display.COLOURS[group[name]] for name in names}
fig, axes = plt.subplots(1, 2, figsize=(10, 0.36 * len(names) + 1.6), sharey=True)
for ax, (label, size) in zip(axes, sizes.items(), strict=True):
    figures.intervals(ax, {name: ratio[label][name].to_numpy() for name in names}, colours)
    ax.axvline(1, color="#555555", lw=1, ls="--")
    ax.set(xlabel="CPU time of a step over our top-k's", title=str(size), xlim=(0, None))
for i, name in enumerate(["ours", "plain", "peers"][: 2 + p.peers]):
    axes[1].plot([], [], "D", color=display.COLOURS[i], label=name)
axes[1].legend(loc="center right")
median = {label: ratio[label].median() for label in sizes}
display.figure(
    fig,
    "CPU time of a whole training step, as a ratio to our top-k step's in the same repetition (dashed: 1). Dots: repetitions; diamonds: mean and 95% interval.",
    f"Dot plot of ratios. At {sizes['chosen']}: projective {median['chosen']['projective']:.2f}, ridge {median['chosen']['ridge']:.2f}, dense top-k {median['chosen']['dense top-k']:.2f}, naive projection {median['chosen']['naive projection']:.2f}; at {sizes['small']}: projective {median['small']['projective']:.2f}, ridge {median['small']['ridge']:.2f}",
    cover=True,
)

# %%
for label, size in sizes.items():
    seconds = times[times["size"] == label].groupby("method")["seconds"].median()
    table = measures.summary(ratio[label]).assign(ms=1e3 * seconds)
    display.table(
        table.rename(columns={"ms": "CPU time, ms", "ratio": "ratio, median"}),
        f"A training step at {size}: ratio to our top-k step (median, least and largest over {p.repetitions} repetitions) and median CPU time.",
    )

# %% [markdown]
# **How to read it.** Left of the dashed line is faster than our top-k. Tied methods have half the parameters, and so half of Adam's work: the exact
# projection, which is tied, is to be compared with both top-k rows. What a projection adds is the distance of *projective* from *top-k, tied* and of
# *ridge* and *hybrid* from *top-k*. The plain versions show what is gained by not computing what is not needed. That gain grows with $n$ and $d$;
# where the whole dictionary fits into a processor's cache, a dense product is cheaper than gathering, and *dense top-k* wins.
#
# ## Memory

# %%
peak = measures.memory(sizes["chosen"], p.repetitions, p.peers)
memory_ratio = {
    column: measures.ratios(peak.replace({column: {0.0: np.nan}}), column=column)
    for column in ("training", "step")
}
table = peak.groupby("method", sort=False)[["training", "step"]].median().add_suffix(", MB")
for column, values in memory_ratio.items():
    table[f"{column}, ratio"] = values.median()
display.table(
    table,
    f"Peak memory at {sizes['chosen']}, each method in a process of its own, median of {p.repetitions}. *training*: all that it takes: parameters, gradients, Adam's moments, activations. *step*: what one step needs for its duration on top of what stays between steps. Ratios to our top-k.",
)

# %% [markdown]
# **How to read it.** The scores of all latents, $\mathrm{batch} \times n$ numbers, and the gradients are what a step cannot do without. Autograd through a dense
# decode keeps several more arrays of that size; through a gather and a solve it keeps the gathered rows, $\mathrm{batch} \times k \times d$ numbers, more than once.
#
# ## Coding a batch
#
# A support can also be found by orthogonal matching pursuit (OMP), which looks at the whole dictionary $k$ times. What does it cost at inference?

# %%
coding = measures.omp_coding(sizes["chosen"], p.repetitions).set_index("repetition")
shown = pd.DataFrame({"CPU time, ms": 1e3 * coding.median()})
over = coding.div(coding["encoder"], axis=0)
shown["ratio to the encoder"], shown["least"], shown["largest"] = over.median(), over.min(), over.max()
display.table(shown, f"Coding a batch without training, at {sizes['chosen']}.")

# %% [markdown]
# **How to read it.** The row *encoder, projection* is the whole price of least squares at inference; *threshold* takes the rows with the largest absolute dot product. OMP
# selects better than either and pays with about $k$ dense products.
#
# ## The kernels of DeePWAK
#
# The other models of this project are measured in the same way. Diffusion with the partitioned kernel, $\mathrm{PWAK}(K) E$, needs no $n \times n$ matrix, and
# 32 replicas of an inner model are trained as one batch (`notebooks/mnist_superposition`).

# %%
counts = [samples for samples in timing.SIZES if samples <= p.largest_n]
kernels = timing.diffusion(counts, repetitions=p.repetitions)
table = kernels.groupby("n")[["dense", "factorised", "ratio"]].median()
table["least"], table["largest"] = kernels.groupby("n")["ratio"].min(), kernels.groupby("n")["ratio"].max()
table = table.join(timing.memory(counts).set_index("n").add_suffix(" memory, MB"))
display.table(
    table.rename(columns={"dense": "dense, s", "factorised": "factorised, s"}),
    f"PWAK(K) E, forward and backward, $k = 12$, $d = 27$, float32, one core: seconds (median of {p.repetitions} repetitions), dense over factorised with its range, and the peak memory that one pass adds.",
)
replicas = timing.replicas(repetitions=p.repetitions)
display.table(
    replicas.rename(columns={"one": "one replica, s", "many": "32 replicas, s"}).set_index("repetition"),
    f"A training step of DeePWAK, batch 256, with one and with 32 replicas, {torch.get_num_threads()} cores.",
)

# %% [markdown]
# **How to read it.** The dense kernel's time grows with $n^2$, the factorised one's with $n$. Were replicas trained one after the other, the last ratio would be 32.
#
# ## Claims
#
# One value a repetition. A claim is *supported* where the whole 95% interval lies within the bounds of its rule, *contradicted* where it lies
# outside, else *inconclusive*. Where the size is not d = 512, n = 8,192, k = 32 and batch 1,024, the note says so.

# %%
claim = ledger.load()
at, small = ratio["chosen"], ratio["small"]
note = "" if sizes["chosen"] == measures.LARGE else f"measured at {sizes['chosen']}"
worst = {label: part[["projective", "ridge"]].max(axis=1) for label, part in ratio.items()}
worst_memory = memory_ratio["training"][["projective", "ridge"]].max(axis=1)
evidence = {  # claim: (one value a repetition, the same of its control, a note)
    "speed-projective-exact": (at["projective"], at["naive projection"], note),
    "speed-projective-ridge": (at["ridge"], at["naive projection"], note),
    "speed-projective-small": (worst["small"], small["naive projection"], f"measured at {measures.SMALL}"),
    "speed-memory": (worst_memory, memory_ratio["training"]["naive projection"], note),
    "speed-sae-quick": (over["OMP"], over["threshold"], note),
}
of_peers = {"speed-topk-saelens": "SAELens", "speed-topk-dictionary-learning": "dictionary_learning"}
if p.peers:
    evidence |= {name: (at[peer], at["dense top-k"], note) for name, peer in of_peers.items()}
verdicts = {name: ledger.judge(claim[name], *values) for name, values in evidence.items()}
for name in of_peers.keys() - verdicts.keys():
    why = "the peers were not measured (peers=False); `make benchmark` measures them"
    verdicts[name] = ledger.Verdict(name, "not tested", n=0, mean=None, note=why)

# %%
answer = (
    f"At {sizes['chosen']} on one thread, an exact projective step takes {median['chosen']['projective']:.2f} times the CPU time of "
    f"our top-k step ({(at['projective'] / at['top-k, tied']).median():.2f} times that of the tied one), a ridge step "
    f"{median['chosen']['ridge']:.2f} times; autograd through a solve takes {median['chosen']['naive projection']:.1f} times. "
)
if p.peers:
    answer += (
        f"SAELens' top-k step takes {median['chosen']['SAELens']:.1f} times ours "
        f"({median['chosen']['SAELens, sparse']:.1f} with its sparse activations), dictionary_learning's "
        f"{median['chosen']['dictionary_learning']:.1f}. "
    )
else:
    answer += "The peers were not measured in this run. "
answer += (
    f"At {sizes['small']} projective steps take {median['small']['projective']:.2f} (exact) and {median['small']['ridge']:.2f} (ridge) "
    f"times our top-k step, and the plain dense step {median['small']['dense top-k']:.2f} times."
)
display.claims(
    verdicts.values(),
    answer=answer,
    question="Is training through a projection as quick as training a sparse autoencoder?",
)

# %% tags=["nbval-check-output"]
# What holds on any machine; `make test` compares it.
print(
    f"autograd through a solve costs more than ours: {bool(median['chosen']['naive projection'] > median['chosen']['projective'])}"
)
print(
    f"and takes more memory: {bool(memory_ratio['training']['naive projection'].median() > memory_ratio['training']['projective'].median())}"
)
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
    data={"name": "standard normal numbers", "samples": f"{p.batch} and {measures.SMALL.batch} a batch"},
    seeds=f"generators are seeded in lib.studies.speed.measures; {p.repetitions} repetitions",
    started=started,
)
