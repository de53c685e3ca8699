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
# # Is the geometry of probe directions a minimum of an energy?
#
# *Toy models of superposition* (Elhage et al. 2022) finds features arranged like charges that repel each other: in antipodal pairs, simplices, polytopes. Are
# the features of a language model arranged like that? The thesis slides (2024) propose a test, **energy matching**. A **probe** is a logistic regression that tells from a
# model's activations whether a token has a feature; its weights are the feature's *direction*. The cosines between the directions of several features are their
# **pairwise similarity matrix** (PSM). If some configuration that minimises an energy has the same PSM, so the idea, the features minimise that energy.
#
# The slides answer: actual features do appear to be in local minima of energy functions. This report repeats what they did, does it again with an optimiser
# that converges, and sets beside it what any geometry would have given: shuffled labels, random weights, shuffled pairs.
#
# Source: *Thesis final presentation* (slides, 11 April 2024); features after Gurnee et al. (2023). The claims and their rules are in `claims.yaml`; they are older than the numbers.

# %% tags=["parameters"]
models = "neox-tiny"  # comma-separated: neox-tiny, pythia-70m-random, folders of $DATA_DIR/models, hub ids
text = "embedded"  # what text features are probed in: "embedded" or "corpus" (from DATA_DIR)
layers = 1  # of each model, evenly spread, the last among them
seeds = 2  # samples of text, splits and nulls of each model
sequences = 80  # passages of 128 tokens, for each seed
samples = 500  # tokens a feature
beginnings = 2  # sentences an athlete
draws = 99  # of every null; the report has 199
random_models = 9  # models with random weights; the report has 199
checkpoints = (
    ""  # a folder with weights of neox-tiny during its training (python -m lib.neox train), or nothing
)
repetitions = 2  # of every measurement of time
scipy_problems = 8  # that scipy solves of each grid of the joint step
powell_problems = 4  # that scipy solves of each grid of the re-optimisation
largest_grid = 480  # problems of the largest grid

# %% tags=["check-parameters"]
from lib.language import corpus
from lib.reporting import parameters

at_least = parameters.integer
p = parameters.check(
    globals(),
    models=parameters.text(),
    text=parameters.one_of(*corpus.NAMES),
    layers=at_least(1),
    seeds=at_least(2),
    sequences=at_least(50),
    samples=at_least(200),
    beginnings=parameters.integer(at_least=1, at_most=10),
    draws=at_least(19),
    random_models=at_least(5),
    checkpoints=parameters.Rule("a folder, or nothing", lambda value: type(value) is str),
    repetitions=at_least(2),
    scipy_problems=at_least(4),
    powell_problems=at_least(2),
    largest_grid=parameters.one_of(96, 480, 960, 3840),
)
names = [name.strip() for name in p.models.split(",") if name.strip()]

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib import ticker

from lib.energy import landscape, matching, nulls
from lib.energy.objective import KERNELS, similarity
from lib.language import model as language_model
from lib.neox import facts
from lib.probes import directions as probe_geometry
from lib.probes import fit
from lib.probes import items as probe_data
from lib.reporting import claims as ledger
from lib.reporting import display
from lib.studies.psm_energy import embeddings, measures, probe_timing, timing
from lib.studies.psm_energy import evidence as energy_evidence
from lib.studies.psm_energy import units as energy_units
from lib.studies.psm_energy.strengths import over_strengths

started = display.clock()
display.style()
# Whatever can't be had is missed now, and not after hours.
energy_units.steps_of(p.checkpoints)
loaded = {name: language_model.load(name) for name in names}
documents = corpus.load(p.text, "valid")

# %% [markdown]
# ## What the slides do
#
# With $n$ features $x_i \in \mathbb{R}^f$ and importance weights $\tilde w = \mathrm{softmax}(w)$, the *joint step* fits a configuration to a **target** PSM $T$ and lowers its energy,
#
# $$
# \min_{x, w} \; \sum_{ij} K(x_i, x_j)\, \tilde w_i \tilde w_j + \lambda_d \sum_{ij} \big( d_p(x_i, x_j) - T_{ij} \big)^2 ,
# $$
#
# by conjugate gradient. The *re-optimisation* fixes $w$, perturbs $x$ by Gaussian noise of standard deviation $\sigma n_i$, with $n_i = \lVert x_i \rVert$, and lowers the energy alone, by Powell's
# method with a penalty $\lambda_x \sum_i \lvert \lVert x_i \rVert - n_i \rvert$. The kernels $K$ are $\exp(\cos)$, $-\log \lVert x_i - x_j \rVert$ and Riesz, $\mathrm{sgn}(s) \lVert x_i - x_j \rVert^{-s}$ (here $s = 1$); the similarity $d_p$ is the
# cosine or RBF, $\exp(-\lVert x_i - x_j \rVert^2 / 200)$. Distances between PSMs are Minkowski's with exponent 2.
#
# ## What this report adds
#
# - The same two steps with **norms held exactly** ($x_i = n_i u_i / \lVert u_i \rVert$), analytic gradients, and a quasi-Newton method over a whole batch of problems in float64 (`lib.energy.matching`), so that it converges.
# - Statistics that need no perturbation. A target is read as unit vectors in $f$ dimensions whose cosines are nearest to it. Its **excess energy** is
#   $(E - E_\mathrm{min}) / (E_\mathrm{random} - E_\mathrm{min})$: 0 at the lowest minimum, 1 at random vectors. Its **projected gradient** is in units of that at random vectors. Its **converged distance** is
#   how far the PSM moves when the energy is lowered from there.
# - $f = \lceil n / 2 \rceil$ dimensions, as in $n - 1$ or more of them the regular **simplex** is the only minimum, and in the hundreds of dimensions of an MLP nothing has to share.
# - **Nulls**: the same pairs in random order (*edge-shuffled*), probes on *shuffled labels*, models with *random weights*, directions with permuted coordinates (the slides' own) and random directions; and
#   a **planted minimiser**, which must be found.
#
# ## Features and probes
#
# Eleven **text features** are properties of a decoded token (Gurnee et al. 2023). **Athletes** are asked for their sport, of five, at the tokens of their surname (largest activation over them), in sentences that say nothing
# else. Probes see the MLP's activations after the non-linearity; they are L2-regularised logistic regressions ($C = 0.1$) with balanced classes, all features and layers in one batch.
# A document, or an athlete, is never on both sides of a split.

# %%
chosen = {name: energy_units.layers_of(model, p.layers) for name, model in loaded.items()}
units = {}  # (model, seed, feature set) -> energy_units.Unit
for name, model in loaded.items():
    # Where the model itself has random weights, others are no null but a check of calibration.
    random_models = p.random_models if model.random is None else min(p.random_models, 19)
    sizes = p.seeds, p.sequences, p.samples, p.beginnings, p.draws, random_models
    found = energy_units.units(model, documents, chosen[name], *sizes)
    units |= {(name, *key): unit for key, unit in found.items()}

# %%
rows, dropped = [], {}
for (name, _, kind), unit in units.items():
    dropped |= {(name, feature): why for feature, why in unit.dropped.items()}
    for i, feature in enumerate(unit.features):
        row = {"model": name, "set": kind, "feature": feature}
        got, low, high = (part[-1, i] for part in (unit.probed.auc, unit.probed.low, unit.probed.high))
        rows.append(row | {"AUC": got, "low": low, "high": high, "random": unit.random_auc[-1, :, i].mean()})
table = pd.DataFrame(rows).groupby(["model", "set", "feature"], sort=False).mean()
display.table(
    table.rename(columns={"low": "95% from", "high": "to", "random": "random weights"}),
    "How well probes rank held-out items in the last layer that is looked at: area under the ROC curve, mean over seeds, with intervals bootstrapped over documents or athletes; and that of probes on models with random weights.",
)
if dropped:
    table = pd.Series(dropped).rename_axis(["model", "feature"]).to_frame("why it is left out")
    display.table(table, "Text features that are left out.")

# %%
parts = []
for name, model in loaded.items():
    asked = {kind: units[name, 0, kind].items for kind in energy_units.SETS}
    asked["politicians"] = probe_data.politicians(model.tokenizer)
    asked["compound words"] = probe_data.compounds(model.tokenizer)
    for kind, items in asked.items():
        X = probe_geometry.items(model, items, chosen[name][-1:])
        people = kind in ("athletes", "politicians")  # who keep one label, also when labels are shuffled
        part = over_strengths(X, items, rng=np.random.default_rng(0), whole_groups=people)
        parts.append(part.assign(model=name, set=kind, features=len(items.features)))
table = pd.concat(parts).set_index(["model", "set", "features", "C"])
display.table(
    table.rename(columns={"low": "95% from", "high": "to", "shuffled": "shuffled labels"}),
    "Four sets of features and four strengths of regularisation, last layer looked at: AUC, mean over features; that of probes on shuffled labels; mean cosine of a probe's weights with the difference of the class means; and the correlation between the cosines of pairs of probes and of pairs of those differences.",
)

# %% [markdown]
# **How to read it.** 0.5 is chance. Text features are properties of the token itself: a model with random weights tells them too, as every token has its own activations. Athletes'
# sports are facts; with athletes apart in training and test a probe can only use what the model knows of the athlete. Where AUC is that of shuffled labels, directions are those of noise.
# The slides' other sets, political parties and compound words, are probed but not matched: two parties have one cosine, and each compound word is a class of its own sentences.
#
# ## The pairwise similarities

# %%
last = (names[0], 0)


def heatmaps(matrices, labels):
    columns = 3
    rows = -(-len(matrices) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(10, 2.7 * rows), squeeze=False)
    for ax in axes.flat[len(matrices) :]:
        ax.axis("off")
    for i, (ax, (title, matrix)) in enumerate(zip(axes.flat, matrices.items(), strict=False)):
        image = ax.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
        ax.set_title(title, fontsize=10)
        ax.grid(False)
        ax.set_xticks([])
        ax.set_yticks(range(len(labels)), labels if i % columns == 0 else [""] * len(labels), fontsize=9)
    fig.colorbar(image, ax=axes, shrink=0.7, label="cosine, or correlation")
    return fig


for kind in energy_units.SETS:
    unit = units[(*last, kind)]
    psms = similarity(unit.probed.directions)
    shown = {f"layer {layer}": psm for layer, psm in zip(chosen[last[0]], psms, strict=True)}
    shown["random weights"] = similarity(unit.random[-1]).mean(0)
    shown["shuffled labels"] = similarity(unit.shuffled[-1]).mean(0)
    shown["labels"] = unit.labels
    off = ~np.eye(len(unit.features), dtype=bool)
    fig = heatmaps(shown, [f.replace("_", " ") for f in unit.features])
    display.figure(
        fig,
        f"Pairwise similarities of {kind} in {last[0]}: cosines of probe directions by layer; their means over models with random weights and over shuffled labels; correlations of the labels themselves.",
        f"Heatmaps. Off the diagonal the cosines of the last layer have mean {psms[-1][off].mean():.2f} and standard deviation {psms[-1][off].std():.2f}; those of random weights {shown['random weights'][off].mean():.2f} and {shown['random weights'][off].std():.2f}; correlations of labels {unit.labels[off].mean():.2f} and {unit.labels[off].std():.2f}.",
        cover=kind == "text features",
    )

# %% [markdown]
# **How to read it.** Where the panels of the layers look like the panel *labels*, a probe's direction tells of which features occur together rather than of how the model arranges them; where they look like *random
# weights*, training had no part in it. Five classes of which each item has exactly one make $-1/4$ everywhere, a simplex, whatever the labels.
#
# ## Excess energy, and what it is compared with

# %%
parts = []
for (name, seed, kind), unit in units.items():
    for i, layer in enumerate(chosen[name]):
        others = {"shuffled labels": unit.shuffled[i], "random weights": unit.random[i]}
        generator = torch.Generator().manual_seed(seed)
        found = measures.targets(unit.probed.directions[i], others, p.draws, generator)
        n = len(unit.features)
        for f, at in ((measures.dimensions(n), "f"), (n - 1, "n - 1")):
            part = measures.measured(found, f) if at == "f" else measures.measured({"real": found["real"]}, f)
            parts.append(part.assign(model=name, seed=seed, set=kind, layer=layer, at=at))
table = pd.concat(parts, ignore_index=True)
measured, simplices = (table[table["at"] == at] for at in ("f", "n - 1"))
keys = ["model", "layer", "seed"]

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
one = measured.query("model == @last[0] and seed == 0 and kernel == 'exp'")
order = [name for name in one["target"].unique() if name != "real"]
for ax, kind in zip(axes, energy_units.SETS, strict=True):
    here = one[(one["set"] == kind) & (one["layer"] == chosen[last[0]][-1])]
    real = here.loc[here["target"] == "real", "excess"].item()
    values = [here.loc[here["target"] == name, "excess"] for name in order]
    boxes = ax.boxplot(
        values, orientation="horizontal", whis=(2.5, 97.5), showfliers=False, widths=0.6, patch_artist=True
    )
    for body, middle, colour in zip(boxes["boxes"], boxes["medians"], display.COLOURS, strict=False):
        body.set(facecolor=colour, alpha=0.5)
        middle.set(color="black", lw=1.5)
    ax.axvline(real, color="black", ls="--", lw=1.5)
    ax.annotate(
        f"real: {real:.2f}",
        (real, len(order) + 0.7),
        fontsize=9,
        va="center",
        xytext=(4, 0),
        textcoords="offset points",
    )
    ax.set(
        yticks=range(1, len(order) + 1),
        title=f"{kind}, n = {here['n'].iloc[0]}, f = {here['f'].iloc[0]}",
        xlabel="excess energy",
        xscale="log",
        ylim=(0.4, len(order) + 1),
    )
    ax.set_yticklabels(order)
    ax.xaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.xaxis.set_minor_formatter(ticker.NullFormatter())
medians = {name: value.median() for name, value in zip(order, values, strict=True)}
display.figure(
    fig,
    f"Excess energy (exp kernel) of the real PSM (dashed) and of its nulls, last layer looked at of {last[0]}, one seed; {p.draws} draws each, {p.random_models} models with random weights. Boxes: quartiles; whiskers: 95% of the draws. 0: the lowest minimum; 1: random vectors in $f$ dimensions.",
    f"Box plots. Athletes: real {real:.2f}; medians of the nulls: {', '.join(f'{name} {m:.2f}' for name, m in medians.items())}.",
)

# %%
summary = measured[measured["kernel"] == "exp"].groupby(["set", "model", "layer", "target"], sort=False)
table = summary[["misfit", "excess", "gradient", "distance"]].median().unstack("target")["excess"]
display.table(table, "Excess energy (exp kernel), median over draws and seeds, by layer.")
table = pd.DataFrame(
    {
        key: measures.p_values(part)
        for key, part in measured.groupby(["set", "model", "layer", "seed"], sort=False)
    }
).T.rename_axis(["set", "model", "layer", "seed"])
display.table(
    table,
    f"Share of the draws of each null with at most the excess energy of the real PSM (exp kernel; one-sided p value, at least 1/{p.draws + 1}).",
)
table = measured.groupby(["set", "kernel", "target"], sort=False)[
    ["misfit", "excess", "gradient", "distance"]
].median()
table["converged"] = measured.groupby(["set", "kernel", "target"], sort=False)["converged"].mean()
display.table(
    table,
    "All statistics, median over draws, seeds, layers and models, by kernel; and the share of the descents to the minimum below that converged (largest entry of the projected gradient at most 10⁻⁶).",
)

# %% [markdown]
# **How to read it.** Left of its nulls, the real configuration would have less energy than chance explains. *Edge-shuffled* keeps the values of the PSM and so tells whether it matters *which* features are near. *Shuffled labels* tell what
# a probe's own algebra gives, *random weights* what the architecture gives.
#
# ## Perturb and re-optimise, as in the slides and converged

# %%
parts = []
for (name, seed, kind), unit in units.items():
    for i, layer in enumerate(chosen[name]):
        part = measures.as_in_slides(unit.probed.directions[i], (0.1, 0.01), seed)
        parts.append(part.assign(model=name, seed=seed, set=kind, layer=layer))
slides_table = pd.concat(parts, ignore_index=True)
table = slides_table.groupby(["set", "similarity", "method", "sigma"], sort=False)[
    ["distance", "left"]
].mean()
display.table(
    table.unstack("sigma"),
    "Where the re-optimisation ends: distance to the target PSM, and the share of the possible decrease of the energy that is left, mean over kernels, layers, models and seeds, by σ.",
)

# %%
sigmas = (0.003, 0.01, 0.03, 0.1, 0.3)
curves = []
for kind in energy_units.SETS:
    directions = units[(*last, kind)].probed.directions[-1]
    permuted = nulls.coordinate_permuted(directions, 1, torch.Generator().manual_seed(0))[0]
    for which, x in (("actual", directions), ("permuted", permuted)):
        for seed in range(5):
            part = measures.as_in_slides(x, sigmas, seed, kinds=("cosine",), kernels=("exp",))
            curves.append(part.assign(set=kind, target=which))
curves = pd.concat(curves)
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8))
for ax, (kind, part) in zip(axes, curves.groupby("set", sort=False), strict=True):
    for colour, method in zip(display.COLOURS, ("Powell", "converged"), strict=False):
        for which, style in (("actual", "-"), ("permuted", "--")):
            line = part[(part["method"] == method) & (part["target"] == which)].groupby("sigma")["distance"]
            ax.fill_between(sigmas, line.min(), line.max(), color=colour, alpha=0.2, lw=0)
            ax.plot(
                sigmas,
                line.median(),
                style,
                marker="o",
                ms=4,
                color=colour,
                label=f"{method}, {which}",
            )
    ax.set(xscale="log", xlabel="perturbation σ", title=kind)
axes[0].set_ylabel("distance to the target PSM")
axes[1].legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
ends = curves.groupby(["set", "target", "method", "sigma"])["distance"].median()
display.figure(
    fig,
    f"Distance to the target PSM after the re-optimisation against the perturbation; exp kernel, cosine similarity, last layer looked at of {last[0]}. Powell's method is the slides'; *converged* starts from the same points. Lines: medians over 5 perturbations; bands: all of them. Dashed: coordinates of each direction permuted.",
    "Line plots. "
    + "; ".join(
        f"{kind}, {method}: {ends[kind, 'actual', method, 0.003]:.2f} at σ = 0.003 and {ends[kind, 'actual', method, 0.3]:.2f} at 0.3"
        for kind in energy_units.SETS
        for method in ("Powell", "converged")
    )
    + ".",
)

# %% [markdown]
# **How to read it.** A curve that rises with σ says that the optimiser stays where it is put. If the minimum below the target is what matters, the curve is flat, and its height is the distance from the target to that minimum.
#
# ## The landscape

# %%
counts = []
for n in sorted({len(unit.features) for unit in units.values()}):
    for f in range(2, n + 1):
        for kernel in KERNELS:
            found = landscape.minima(n, f, kernel)
            counts.append(
                {
                    "n": n,
                    "f": f,
                    "kernel": kernel,
                    "minima": len(found.values),
                    "restarts": int(found.counts.sum()),
                    "lowest reached by": found.counts[0].item() / found.counts.sum().item(),
                    "largest gradient": found.gradient,
                    "converged": found.converged,
                }
            )
counts = pd.DataFrame(counts)
sizes = counts["n"].unique()
fig, axes = plt.subplots(1, len(sizes), figsize=(10, 3.2), squeeze=False, sharey=True)
for ax, n in zip(axes[0], sizes, strict=True):
    for colour, marker, (kernel, part) in zip(
        display.COLOURS, "osD", counts[counts["n"] == n].groupby("kernel", sort=False), strict=False
    ):
        ax.plot(part["f"], part["minima"], color=colour, marker=marker, mfc="none", label=kernel)
    ax.axvline(n - 1, color="#888888", ls=":")
    ax.set(
        title=f"n = {n}",
        xlabel="dimensions f",
        xticks=range(2, n + 1),
        ylim=(0, counts["minima"].max() + 0.5),
    )
    ax.yaxis.set_major_locator(ticker.MaxNLocator(integer=True))
axes[0, 0].set_ylabel("distinct minima found")
axes[0, -1].legend()
display.figure(
    fig,
    f"Distinct local minima (by their energy) of $n$ unit vectors in $f$ dimensions, of {landscape.RESTARTS} restarts, by kernel; dotted: $n - 1$ dimensions, where the simplex fits. Of all restarts {counts['converged'].mean():.0%} converged; the largest entry of any projected gradient is {counts['largest gradient'].max():.1g}.",
    "Line plots. The most minima found are "
    + ", ".join(f"{part['minima'].max()} for {n} vectors" for n, part in counts.groupby("n"))
    + "; from n - 1 dimensions on there is "
    + ("one." if (counts.query("f >= n - 1")["minima"] == 1).all() else "more than one."),
)

# %%
ways = {}  # feature set -> f, {kernel: excess energy on the way from the fitted target to the minimum below}
for kind in energy_units.SETS:
    unit = units[(*last, kind)]
    target = similarity(unit.probed.directions[-1])
    n = len(target)
    f = measures.dimensions(n)
    fitted = matching.fit(target[None], f)
    equal = torch.full((n,), 1 / n)
    ended = {kernel: matching.reoptimise(fitted.x, equal, kernel) for kernel in KERNELS}
    heights = {}
    for kernel, found in ended.items():
        least = landscape.minima(n, f, kernel).values[0]
        height = landscape.path(fitted.x[0], found.x[0], kernel)
        heights[kernel] = (height - least) / (landscape.random_energy(n, f, kernel) - least)
    ways[kind] = f, heights
    shown = {"target": target, f"fitted, f = {f}": matching.psm(fitted)[0]}
    shown |= {f"minimum below, {kernel}": matching.psm(ended[kernel])[0] for kernel in ("exp", "log")}
    shown["lowest minimum, exp"] = similarity(landscape.minima(n, f, "exp").x[0])
    fig = heatmaps(shown, [name.replace("_", " ") for name in unit.features])
    moved = matching.distance(matching.psm(ended["exp"])[0], shown[f"fitted, f = {f}"]).item()
    display.figure(
        fig,
        f"Target beside optimum, {kind}, last layer looked at of {last[0]}: the cosines of probe directions; of the configuration in {f} dimensions nearest to them; of the local minima below it; and of the lowest minimum known, whose vectors have no names.",
        f"Heatmaps. From the fitted configuration to the minimum of the exp energy the PSM moves by {moved:.2f}.",
    )

# %%
display.table(
    counts.pivot(index=["n", "f"], columns="kernel", values=["minima", "lowest reached by"]),
    f"Distinct local minima, and the share of {landscape.RESTARTS} restarts that reached the lowest.",
)

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 3.8))
for ax, (kind, (f, heights)) in zip(axes, ways.items(), strict=True):
    for colour, (kernel, height) in zip(display.COLOURS, heights.items(), strict=False):
        ax.plot(np.linspace(0, 1, len(height)), height, color=colour, label=kernel)
    ax.set(xlabel="share of the way", title=f"{kind}, f = {f}", ylim=(0, None))
axes[0].set_ylabel("excess energy")
axes[1].legend()
display.figure(
    fig,
    f"Excess energy along the way from the fitted target (0) to the local minimum below it (1), by kernel; last layer looked at of {last[0]}.",
    "Line plots that fall from the target to the minimum; a target at a minimum would give a flat line.",
)

# %% [markdown]
# ## Importance, scale and the diagonal

# %%
parts = []
for (name, seed, kind), unit in units.items():
    for i, layer in enumerate(chosen[name]):
        psm = similarity(unit.probed.directions[i])
        weights = measures.importance(psm, seed=seed).set_index("diagonal")["largest"]
        drift, inert = measures.drift(psm, seed=seed), measures.norms_inert(psm, seed=seed)
        far = measures.regularised(psm, (0.1, 1.0, 10.0, 100.0, 1000.0)).set_index(["strength", "start"])[
            "distance"
        ]
        parts.append(
            {
                "model": name,
                "seed": seed,
                "set": kind,
                "layer": layer,
                "n": len(psm),
                "left out": weights[False],
                "kept": weights[True],
            }
            | {f"drift, {kernel}": drift[kernel] for kernel in KERNELS}
            | {f"inert, {kernel}": inert[kernel] for kernel in KERNELS}
            | {
                "λ 0.1": far[0.1, 0],
                "λ 1": far[1, 0],
                "λ 10": far[10, 0],
                "λ 100": far[100, 0],
                "λ 100, other start": far[100, 1],
                "λ 1000": far[1000, 0],
            }
        )
details = pd.DataFrame(parts)
table = (
    details.groupby("set", sort=False)[
        [c for c in details if c not in ("model", "seed", "set", "layer", "n")]
    ]
    .mean()
    .T
)
display.table(
    table,
    "Joint step, converged; means over layers, models and seeds. *left out*, *kept*: largest importance weight without and with $i = j$ in the energy (exp kernel). *drift*: log10 of the growth of the mean norm with cosine similarity and free norms. *inert*: distance between the PSMs with norms held and free. *λ*: distance to the target at this $\\lambda_d$.",
)

# %% [markdown]
# **How to read it.** With $i = j$ left out, one feature that has all the weight pays no energy at all; with $i = j$ kept, equal weights are best. The cosine does not see norms, so kernels that fall with the distance push them outwards without end. With the kernel
# exp nothing in the loss depends on the norms: where *inert* is not 0, two descents ended in different minima of the same loss.
#
# ## RBF similarity

# %%
parts = []
for (name, seed, kind), unit in units.items():
    whole = measures.scaled(
        unit.probed.directions
    )  # one scale for all layers, so that their norms still differ
    for i, layer in enumerate(chosen[name]):
        generator = torch.Generator().manual_seed(seed)
        found = {
            "real": whole[i][None],
            "coordinate-permuted": nulls.coordinate_permuted(whole[i], p.draws, generator),
        }
        part = measures.rbf_distances(found)
        parts.append(part.assign(model=name, seed=seed, set=kind, layer=layer))
rbf = pd.concat(parts, ignore_index=True)
table = rbf.groupby(["set", "kernel", "target"], sort=False)["distance"].median().unstack("target")
display.table(
    table,
    "Converged distance with RBF similarity, $C = 200$ (directions scaled to a root mean square length of 10), median.",
)

# %% [markdown]
# ## Simplices in the embedding matrices

# %%
simplex_table = pd.concat(
    [
        embeddings.simplices(model, p.draws, np.random.default_rng(0)).assign(model=name)
        for name, model in loaded.items()
    ],
    ignore_index=True,
)
display.table(
    simplex_table.pivot_table(index=["model", "group", "tokens"], columns="matrix", values="ratio"),
    "Distance of a centred group of token vectors from the simplex, over the median of random groups of as many tokens.",
)

# %% [markdown]
# **How to read it.** Any group of a few vectors in many dimensions is near a simplex once its mean is taken off; a ratio below 1 would mean that kindred tokens are nearer to it.
#
# ## A planted minimiser

# %%
planted = []
n = len(facts.SPORTS)
f = measures.dimensions(n)
generator = torch.Generator().manual_seed(1)
for kind, x in {
    "planted": landscape.planted(n, f, 512, 0.1, 10, generator),
    "random": torch.randn(10, n, 512, generator=generator, dtype=torch.float64),
}.items():
    for configuration in x:
        found = measures.targets(configuration, {}, p.draws, generator)
        got = measures.measured({name: found[name] for name in ("real", "edge-shuffled")}, f, ("exp",))
        planted.append(
            {"kind": kind, "p": measures.p_values(got)["edge-shuffled"], "excess": got["excess"].iloc[0]}
        )
planted = pd.DataFrame(planted)
display.table(
    planted.groupby("kind")[["p", "excess"]].agg(["mean", "min", "max"]),
    f"Ten exact minimisers of {n} features in {f} dimensions, turned into 512 and blurred by a tenth, and ten random configurations: p value of the excess energy against edge-shuffled PSMs, and excess energy.",
)

# %% [markdown]
# ## Speed
#
# Scipy solves the problems one after the other: the joint step by conjugate gradient with the same exact gradients and the same norms held, the re-optimisation by Powell's method with the slides' penalty. Ours solves each grid as one batch. CPU time, one thread; the
# grids are kernels × similarities or dimensions × $\lambda_d$ or σ × targets × restarts.

# %%
speed = timing.compare(p.repetitions, p.scipy_problems, p.powell_problems, p.largest_grid)
table = speed.groupby(["step", "n", "problems"], sort=False)[
    ["ours", "scipy", "ratio", "alone", "not above", "below"]
].median()
table[["ours", "scipy"]] *= 1e3
display.table(
    table.rename(
        columns={
            "ours": "ours, ms a problem",
            "scipy": "scipy, ms a problem",
            "alone": "ours one by one / batched",
        }
    ),
    f"Median of {p.repetitions} repetitions. *not above*, *below*: shares of problems where the best of our restarts is at most scipy's (of as many restarts), and where it is lower by 1%.",
)

# %%
found = units[*last, "text features"].items
X = probe_geometry.items(loaded[last[0]], found, range(loaded[last[0]].layers))
parts = []
for strength in (probe_geometry.STRENGTH, 1.0, 10.0):
    for tol in (1e-4, 1e-6):
        part = probe_timing.compare(X, found.labels, found.use, strength, p.repetitions, sklearn_tol=tol)
        parts.append(part.assign(labels="real, all layers", C=strength, tol=tol))
rng = np.random.default_rng(0)
drawn = [fit.shuffled(found.labels, found.use, rng) for _ in range(20)]
y, use = (np.concatenate(part) for part in zip(*drawn, strict=True))
part = probe_timing.compare(X[-1:], y, use, probe_geometry.STRENGTH, p.repetitions)
parts.append(part.assign(labels="20 times shuffled, last layer", C=probe_geometry.STRENGTH, tol=1e-4))
times = pd.concat(parts)
probe_times = times.query("labels == 'real, all layers' and C == @probe_geometry.STRENGTH and tol == 1e-4")
table = times.groupby(["labels", "C", "tol"], sort=False)[
    ["batched", "sklearn", "ratio", "batched_cosine", "sklearn_cosine"]
]
display.table(
    table.median().rename(columns=lambda name: name.replace("_cosine", ", cosine")),
    f"Probes of {len(found.features)} features in {X.shape[-1]} dimensions, on {len(X)} layers of {last[0]}: CPU seconds, median of {p.repetitions} repetitions; and the least cosine of the coefficients with those of the exact optimum. *tol*: scikit-learn's tolerance; its default is 10⁻⁴. The claim is about the first row.",
)

# %% [markdown]
# ## During training

# %%
steps_table = energy_units.over_training(
    p.checkpoints, documents, p.sequences, p.samples, p.beginnings, p.draws
)
if steps_table is None:
    print("No checkpoints were given; batch full shows the excess energy during training.")
else:
    shown = ("real", "edge-shuffled", "shuffled labels")  # the others hardly depend on the model
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    for ax, kind in zip(axes, energy_units.SETS, strict=True):
        part = steps_table[(steps_table["set"] == kind) & steps_table["target"].isin(shown)]
        for colour, (target, line) in zip(display.COLOURS, part.groupby("target", sort=False), strict=False):
            line = line.groupby("step")["excess"].quantile([0.25, 0.5, 0.75]).unstack()
            ax.plot(line.index + 1, line[0.5], marker="o", ms=4, color=colour, label=target)
            ax.fill_between(line.index + 1, line[0.25], line[0.75], color=colour, alpha=0.2, lw=0)
        ax.set(xscale="log", xlabel="training step + 1", title=kind)
    axes[0].set_ylabel("excess energy")
    axes[1].legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    display.figure(
        fig,
        "Excess energy (exp kernel) of the real PSM and of two of its nulls in the last layer of neox-tiny, at checkpoints of its training. Lines: medians of the draws; bands: their quartiles.",
        "Line plots over training steps, one line for the real PSM and one for each of two nulls. "
        + "; ".join(
            f"{kind}: real {part['excess'].iloc[0]:.2f} at first and {part['excess'].iloc[-1]:.2f} at last"
            for kind, part in steps_table[steps_table["target"] == "real"].groupby("set", sort=False)
        )
        + ".",
    )

# %% [markdown]
# ## Claims
#
# A **unit** is one layer of one trained model with one seed. A claim is *supported* where the whole 95% interval of the units' values lies within the bounds of its rule, *contradicted* where it lies outside, else *inconclusive*.

# %%
claim = ledger.load()
trained = [name for name, model in loaded.items() if model.random is None]
tables = energy_evidence.Tables(
    units, {name: chosen[name] for name in trained}, measured, simplices, slides_table, rbf, details
)
evidence = energy_evidence.of_slides(tables) | energy_evidence.of_trial(tables)
embedded = simplex_table[simplex_table["model"].isin(trained)].groupby(["matrix", "group"])["ratio"].mean()
evidence["simplexes-in-embeddings"] = embedded["embedding"], embedded["unembedding"]
ps = planted.set_index("kind")["p"]
evidence["planted-minimiser-found"] = ps["planted"], ps["random"]
timed = speed.set_index(["step", "n", "problems"])
for name, at in {
    "joint-speed-96": ("joint", 5, 96),
    "joint-speed-3840": ("joint", 5, p.largest_grid),
    "joint-speed-11": ("joint", 11, 480),
    "reoptimisation-speed-5": ("re-optimisation", 5, 108),
    "reoptimisation-speed-11": ("re-optimisation", 11, 54),
}.items():
    evidence[name] = timed.loc[at, "ratio"], timed.loc[at, "alone"]
smallest = timed.loc[("joint", 5, 96), "ratio"]
evidence["joint-speed-3840"] = evidence["joint-speed-3840"][0], smallest, f"{p.largest_grid:,} problems"
evidence["joint-speed-11"] = evidence["joint-speed-11"][0], smallest
# One value a comparison: the repetitions of one grid differ in their targets alone.
evidence["optimum-not-above-scipy"] = tuple(
    speed.groupby(["step", "n", "problems"])[column].mean() for column in ("not above", "below")
)
evidence["probes-speed"] = probe_times["ratio"], probe_times["batched_cosine"]
needed = {"geometry-same-in-layers": 2, "rbf-scale-is-norm": 2, "early-late-layers-differ": 3}
lacking = {name: least for name, least in needed.items() if p.layers < least}
verdicts = {
    name: ledger.Verdict(name, "not tested", n=0, mean=None, note=f"needs at least {lacking[name]} layers")
    if name in lacking
    else ledger.judge(claim[name], *values)
    for name, values in evidence.items()
}

# %%
questions = {
    "Goal 1: is the configuration of features energy-minimising?": "reoptimisation-keeps-psm text-minimises-energy athletes-minimise-energy planted-minimiser-found",
    "Goal 2: is a random target perturbed away?": "random-target-moves-cosine random-target-stays-rbf permuted-orthogonal",
    "Goal 3: is the best energy the same across feature sets and layers?": "best-kernel-not-robust text-best-kernel-rbf athletes-best-kernel-rbf",
    "Goal 4: do importance weights mean anything?": "importance-ignored weights-collapse weights-uniform",
    "What of transformers with random weights?": "random-weights-differ text-psm-survives-random-weights",
    "Are there simplices, also in embedding matrices?": "simplexes-exist shuffled-labels-tighter weights-sum-to-zero simplexes-in-embeddings",
    "Does the geometry predict the correlations of features?": "geometry-predicts-correlation text-psm-is-label-correlation",
}
rows = [
    {
        "question": question,
        "claim": claim[name].statement,
        "verdict": verdicts[name].status,
        "estimate": verdicts[name].mean,
    }
    for question, about in questions.items()
    for name in about.split()
]
display.table(
    pd.DataFrame(rows).set_index(["question", "claim"]),
    "The slides' four goals and three of their questions, and the claims that answer each.",
)

# %%
of_source = [v for name, v in verdicts.items() if claim[name].source.id == "thesis-2024"]
tally = {
    status: sum(v.status == status for v in of_source)
    for status in ("supported", "contradicted", "inconclusive", "not tested")
}
mean = {name: verdict.mean for name, verdict in verdicts.items()}
answer = (
    f"Of the slides' {len(of_source) - tally['not tested']} tested claims {tally['supported']} are supported, {tally['contradicted']} contradicted and {tally['inconclusive']} inconclusive. "
    f"The excess energy of text features is lower than that of all three nulls with p = {mean['text-minimises-energy']:.2f} on average, that of athletes' sports with p = {mean['athletes-minimise-energy']:.2f}; a planted minimiser has {mean['planted-minimiser-found']:.3f}. "
    f"Powell's method leaves {mean['powell-stops-short']:.0%} of the possible decrease of the energy{' (more than there was, once norms are set right)' if mean['powell-stops-short'] > 1 else ''}; converged, the distance to the target changes by {mean['smaller-perturbation-converged']:.0%} from σ = 0.1 to 0.01, with Powell by {mean['smaller-perturbation-powell']:.0%}. "
    f"The PSM of text features correlates {mean['text-psm-is-label-correlation']:.2f} with the correlations of their labels and {mean['text-psm-survives-random-weights']:.2f} with that of random weights."
)
display.claims(
    verdicts.values(),
    answer=answer,
    question="Are the directions of features arranged so that an energy is least?",
)

# %% tags=["nbval-check-output"]
# Key facts that survive another processor; `make test` compares them.
print(f"planted minimiser found: {bool(ps['planted'].mean() <= 0.05)}")
print(f"one minimum from n - 1 dimensions on: {bool((counts.query('f >= n - 1')['minima'] == 1).all())}")
print(f"weights collapse without the diagonal: {bool(details['left out'].min() > 0.9)}")
print(
    f"weights without the diagonal exceed those with: {bool((details['left out'] > details['kept']).all())}"
)
print(f"claims judged: {len(verdicts)}")

# %% [markdown]
# ## Limits
#
# - The models are small. The slides looked at Pythia-1B; batch `paper` runs it where there is a GPU and a network.
# - Units of one model are not independent: layers share their input, and seeds their weights.
# - The slides do not say which exponent $s$, $\lambda_d$, $\lambda_x$ or dimension $f$ stood behind each figure; here $s = 1$, $\lambda_d = \lambda_x = 100$, $f = \lceil n/2 \rceil$.
# - A target PSM in more than $f$ dimensions is not met exactly by $f$; the misfit is in the tables. Excess energy is that of the nearest configuration.
# - Statements about the excess energy depend on the kernel; the rules name exp, and the tables show all three.
# - Claims are judged side by side, each at 95%, without correction.

# %%
display.provenance(
    p,
    notebook="psm_energy",
    data={
        "name": p.text,
        "samples": f"{len(documents)} validation documents, {len(facts.athletes())} athletes",
        "sha256": corpus.sha256(documents),
        "weights": ", ".join(f"{name} {model.sha256[:12]}" for name, model in loaded.items()),
    },
    seeds=f"{p.seeds} of each model; generators are seeded in the cells",
    started=started,
)
