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
# # Projective dictionaries against top-k sparse autoencoders
#
# A **sparse autoencoder** (SAE) writes an activation as a sum of few directions out of many. Its encoder does two jobs at once: it *selects*
# **latents** and says *how strong* each is. Sklar (2024) proposes to keep the selection and replace the sum by the least-squares
# **projection** of the target on the selected decoder columns, and hopes for five things: a smaller footprint in alignment search,
# scale there, better reconstruction at a given sparsity, tied weights that do no harm, and fewer absorbed and split features.
#
# Projecting on the support of a *trained* SAE is prior art: orthogonal matching pursuit (Pati et al. 1993) and inference-time
# optimisation (Smith 2024) do it without any training through it. Such a **refit** is therefore the control for everything here: it is the
# projection without the training. (Projective dictionary *pair* learning, Gu et al. 2014, is something else.)
#
# Source: Sklar, M. (2024), *Projective dictionaries*. The claims and their rules are in `claims.yaml`; they are older than the numbers.

# %% tags=["parameters"]
dataset = "digits"  # "digits" (embedded) or "mnist", for the hidden layers
seeds = 2  # planted dictionaries and networks, the unit of replication
steps = 160  # minibatches of 128 for every dictionary of planted data
tuning_steps = 60  # minibatches at each learning rate tried
layer_steps = 150  # minibatches for dictionaries and transcoders of images and hidden layers
network_steps = 300  # minibatches for the networks that are explained
alignment_steps = 30  # minibatches for learned rotations
samples = 500  # fresh samples a seed on which dictionaries are measured

# %% tags=["check-parameters"]
from lib.reporting import parameters

at_least = parameters.integer
p = parameters.check(
    globals(),
    dataset=parameters.one_of("digits", "mnist"),
    seeds=at_least(2),
    steps=at_least(24),
    tuning_steps=at_least(10),
    layer_steps=at_least(10),
    network_steps=at_least(10),
    alignment_steps=at_least(10),
    samples=at_least(200),
)

# %%
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch

from lib.dictionaries.planted import KINDS
from lib.dictionaries.projection import project
from lib.dictionaries.references import NaiveProjection
from lib.networks import images as data
from lib.reporting import claims as ledger
from lib.reporting import display, figures
from lib.studies.projective_dictionaries import alignment, factorial, hidden, transcoding

started = display.clock()
display.style()

# %% [markdown]
# ## Method
#
# With the selected decoder columns of a sample as $X \in \mathbb{R}^{d \times k}$ (norm 1 each) and the target $y$,
#
# $$
# \beta = (X^\top X + \mathrm{diag}(\lambda))^{-1} X^\top y, \qquad \hat{y} = X \beta .
# $$
#
# - **top-k** (Gao et al. 2024): $\hat{y} = \sum_j \mathrm{ReLU}(e_j) f_j$ over the $k$ largest scores $e = E a + b$; an auxiliary loss revives dead
#   latents. **tied top-k**: $E = F^\top$. **BatchTopK** (Bussmann et al. 2024): the largest $k \cdot$ batch scores of a batch. **ReLU + L1**: no
#   selection, three strengths of the penalty.
# - **tied projection** (section 4 of the source): the $k$ largest of $F^\top y + c$, $\lambda = 0$. The selection passes no gradient, so $c$ gets none.
# - **ridge** (section 6): the scores are *importances*, $\lambda_j = e_j^{-2}$, latents with $e_j \le 0$ left out; $E$ free or tied. A **quota** keeps
#   importances from growing: the *penalty* $\alpha \sum_j 1/(1+\lambda_j)$ with $\alpha = 0.005$; *normalised* to a mean $e_j^2$ of 30 in each sample; a
#   *budget*, selecting while $\sum_j 1/(1+\lambda_j) \le 0.8 k$; or *none*.
# - **hybrid** (ours): the encoder learns from a top-k loss that sees the decoder as a constant, the decoder from the projection's loss, and the
#   projection decodes. Variants: *tied*; *penalised* (ridge and its penalty); both; and **OMP projection**, where orthogonal matching pursuit selects.
#
# Losses are divided by the variance of the batch, and activations scaled to a root mean square of 1 a coordinate, the units of $e$.
#
# **Gradients** never pass through the solve. With $A = X^\top X + \mathrm{diag}(\lambda)$, $g = \partial L / \partial \hat{y}$ and $u = A^{-1} X^\top g$,
#
# $$
# \frac{\partial L}{\partial X} = (g - Xu)\,\beta^\top + (y - \hat{y})\,u^\top, \qquad
# \frac{\partial L}{\partial y} = X u, \qquad \frac{\partial L}{\partial \lambda_j} = -u_j \beta_j .
# $$
#
# For $\lambda = 0$ and a squared error $X^\top g = 0$, so $u = 0$: the coefficients can be held fixed (envelope theorem).
#
# **What the penalty does.** For orthonormal columns the ridge shrinks $\beta_j = y_j$ by $s_j = 1/(1 + \lambda_j)$, and the loss is
# $\sum_j (1 - s_j)^2 y_j^2 + \alpha s_j$. Its minimum is at $s_j = (1 - \alpha / 2 y_j^2)_+$, the non-negative garrote of Breiman (1995): small coefficients are cut to
# zero, large ones are hardly shrunk (checked in `tests/test_projection.py`).
#
# **Planted data.** 256 unit features in 64 dimensions, about 8 active, strengths uniform in [0.5, 1.5], a little noise. *Independent*; *coherent* (groups
# of four with cosine 0.7); *clusters* (features that occur together); *hierarchy* (a quarter are parents, half are children, active only where their parent is).
#
# **Statistics.** *FVU*, fraction of variance unexplained. *Recovery*: mean over true features of the largest |cosine| with a latent. *Absorption*: where a
# child is active and its own latent selected, the share of samples in which the parent's latent, which is true, is not.
#
# The learning rate of every method is the best of three by FVU on hierarchies of other seeds.

# %%
GRID = (0.001, 0.003, 0.01)
main = [
    m
    for m in factorial.METHODS
    if m.split(",")[0] in (*factorial.CORE, "BatchTopK", "ReLU + L1") and "quota" not in m
]
main = [m for m in main if m not in ("ridge, normalised", "ridge, budget")]
quotas = ["ridge, normalised", "ridge, budget", "ridge, no quota"]
variants = ["OMP projection", "tied hybrid", "penalised hybrid", "penalised tied hybrid"]
tuning = dict(kind="hierarchy", k=8, rates=GRID, seeds=1, steps=p.tuning_steps, seed=91)
halves = {"one": [*main, *quotas[:1]], "other": [*quotas[1:], *variants]}
tuned = factorial.parallel(
    {h: (factorial.tune, {**tuning, "methods": m}) for h, m in halves.items()}, "learning rates"
)
tuned = pd.concat(tuned.values())
rates = tuned.idxmin(axis=1).to_dict()
display.table(
    tuned.assign(chosen=pd.Series(rates)),
    f"FVU after {p.tuning_steps} minibatches at three learning rates, hierarchy, $k = 8$, and the rate chosen for what follows.",
)

# %% [markdown]
# All dictionaries of one kind of data and one $k$ train in one pass over the same batches, all seeds of a method as one batched model.

# %%
images = data.load(p.dataset)
network = hidden.train(images, seeds=p.seeds, steps=p.network_steps, seed=3)
x = {
    "pixels": [
        hidden.pixels(i)[None].expand(p.seeds, -1, -1)
        for i in (images.train_images[:20000], images.test_images[:4000])
    ]
}
with torch.no_grad():
    for layer in hidden.LAYERS:
        x[layer] = [network.layer(part, layer) for part in x["pixels"]]
labels = images.test_labels[:4000]
common = dict(seeds=p.seeds, rates=rates, samples=p.samples)
extra = {"independent": quotas, "hierarchy": [*quotas[:1], *variants]}
jobs = {
    (kind, 8): (
        factorial.planted,
        dict(kind=kind, k=8, methods=main + extra.get(kind, []), steps=p.steps, seed=11 + i, **common),
    )
    for i, kind in enumerate(KINDS)
}
jobs["variables"] = (
    alignment.superposed,
    dict(
        actives=(1, 4, 16),
        seeds=p.seeds,
        steps=p.alignment_steps,
        network_steps=10 * p.alignment_steps,
        seed=31,
    ),
)
for kind, seed in (("coherent", 12), ("hierarchy", 14)):
    for k in (4, 16, 32):
        starts = 2 if (kind, k) == ("coherent", 16) else 1
        sweep = dict(
            k=k, methods=factorial.CORE, seed=seed, selections=("own",), starts=starts, steps=p.steps
        )
        jobs[kind, k] = factorial.planted, dict(kind=kind, **sweep, **common)
on_images = ["top-k", "tied top-k", "tied projection", "ridge", "hybrid"]
for layer, latents in (("pixels", 512), ("layer 1", 256), ("layer 2", 256)):
    jobs[layer] = hidden.compare, dict(
        train=x[layer][0], test=x[layer][1], methods=on_images, k=8, latents=latents, steps=p.layer_steps, rates=rates, seed=21,
        recovered=None if layer == "pixels" else hidden.Recovered(network, layer, labels),
    )  # fmt: skip
a, y = x["pixels"], x["layer 2"]
a, y = ([(part - whole[0].mean((0, 1))) / whole[0].std() for part in whole] for whole in (a, y))
transcoders = dict(
    methods=["top-k", "ridge", "hybrid"], k=8, n=256, steps=p.layer_steps, rates=rates, seed=22
)
jobs["transcoders"] = transcoding.compare, dict(a=a[0], y=y[0], test_a=a[1], test_y=y[1], **transcoders)
small = [hidden.pixels(i) for i in (images.train_images, images.test_images)]
jobs["pairs"] = alignment.digit_pairs, dict(
    images=small[0], labels=images.train_labels, test_images=small[1], test_labels=images.test_labels,
    seeds=p.seeds, steps=4 * p.alignment_steps, network_steps=p.network_steps, seed=32,
)  # fmt: skip
for i, kind in enumerate(KINDS):
    jobs["baselines", kind] = (
        factorial.baselines,
        dict(kind=kind, k=8, seeds=p.seeds, samples=p.samples, train=2 * p.samples, seed=11 + i),
    )
results = factorial.parallel(jobs, "dictionaries")

# %%
planted = [r for r in results.values() if isinstance(r, dict)]
codes, dictionaries, curves = (
    pd.concat([r[part] for r in planted]) for part in ("codes", "dictionaries", "curves")
)
layers = pd.concat([results[name].assign(layer=name) for name in x])
baselines = pd.concat([results["baselines", kind] for kind in KINDS])


def error(method, kind, k=8, selection="own", coefficients="as trained", column="fvu"):
    """One value a seed."""
    rows = codes.query(
        "method == @method and kind == @kind and k == @k and selection == @selection and coefficients == @coefficients"
    )
    return rows.sort_values("seed")[column].to_numpy()


def of(column, method, kind, k=8):
    """A statistic of the dictionary, one value a seed."""
    return (
        dictionaries.query("method == @method and kind == @kind and k == @k")
        .sort_values("seed")[column]
        .to_numpy()
    )


def geometric(function):
    """Geometric mean over the four kinds, one value a seed."""
    return np.exp(np.mean([np.log(function(kind)) for kind in KINDS], axis=0))


def refit(method, kind, k=8):
    """FVU of a method's own support with least-squares coefficients."""
    return error(method, kind, k, coefficients="least squares")


def layer_error(method, layer, how="as trained"):
    return (
        layers.query("method == @method and layer == @layer and selection == 'own' and coefficients == @how")
        .sort_values("seed")["fvu"]
        .to_numpy()
    )


def plain_ticks(axis, ticks=(0.005, 0.01, 0.02, 0.03, 0.05, 0.1, 0.2, 0.3, 0.5, 1, 2, 5, 10, 20, 50)):
    """A logarithmic axis with plain numbers, those of `ticks` that it shows."""
    low, high = sorted(axis.get_view_interval())
    shown = [t for t in ticks if low <= t <= high]
    axis.set_ticks(shown, [f"{t:g}" for t in shown])
    axis.minorticks_off()


COLOUR = dict(zip(factorial.CORE, display.COLOURS, strict=False))

# %% [markdown]
# ## Training and its length

# %%
fig, axes = plt.subplots(2, 4, figsize=(11, 5.6), sharex=True, sharey="row")
for column, kind in enumerate(KINDS):
    for method in factorial.CORE:
        rows = curves.query("kind == @kind and k == 8 and method == @method")
        for ax, statistic in zip(axes[:, column], ("recovery", "fvu"), strict=True):
            by = rows.pivot(index="step", columns="seed", values=statistic)
            ax.plot(by.index, by.mean(axis=1), "o-", ms=3.5, color=COLOUR[method], label=method)
            ax.fill_between(by.index, by.min(axis=1), by.max(axis=1), color=COLOUR[method], alpha=0.15, lw=0)
    axes[0, column].set_title(kind)
    axes[1, column].set(xscale="log", yscale="log", xlabel="minibatches")
    plain_ticks(axes[1, column].xaxis, (10, 30, 100, 300, 1000, 3000, 10000))
plain_ticks(axes[1, 0].yaxis)
axes[0, 0].set_ylabel("recovery")
axes[1, 0].set_ylabel("FVU")
fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=10)
gain = (
    of("recovery", "top-k", "independent")
    - curves.query("kind == 'independent' and k == 8 and method == 'top-k' and step == @p.steps // 4")
    .sort_values("seed")["recovery"]
    .to_numpy()
)
display.figure(
    fig,
    "Recovery of the planted features (top) and FVU on fresh samples (bottom) through training, $k = 8$. Lines: mean over seeds; bands: from the lowest to the highest seed.",
    f"Eight panels of curves, two statistics by four kinds of data, six methods; top-k recovery on independent features rises by {gain.mean():.2f} over the last three quarters of training",
)

# %% [markdown]
# **How to read it.** Where curves still rise at the right, a comparison is one of speeds of learning as much as of methods. Compare a method's place at a
# quarter of the training with its place at the end.
#
# ## The factorial: training, selection, coefficients
#
# Each trained dictionary is coded in twelve ways: with its own selection, by *threshold* (the $k$ largest $|f_j \cdot y|$) and by OMP; with the encoder's
# *amplitudes*, by least squares, by ridge with the encoder's scores as importances, and by non-negative least squares (NNLS). Down a column, only the training
# differs; within a block along a row, only the coefficients do.

# %%
shown = [m for m in factorial.METHODS if (m in main or m in variants) and m != "OMP projection"]
hows = ["amplitude", "least squares", "ridge", "NNLS"]
mean_of = (
    codes.query("kind == 'hierarchy' and k == 8")
    .groupby(["method", "selection", "coefficients"])["fvu"]
    .mean()
)
grid = np.array([[mean_of[m, s, h] for s in factorial.SELECTIONS for h in hows] for m in shown])
fig, ax = plt.subplots(figsize=(10, 0.36 * len(shown) + 1.6))
image = ax.imshow(np.log10(np.clip(grid, 0.01, 1)), cmap="viridis", aspect="auto")
for (i, j), value in np.ndenumerate(grid):
    dark = np.log10(np.clip(value, 0.01, 1)) < -1
    ax.text(
        j,
        i,
        f"{value:.3f}" if value < 0.9995 else f"{value:.1f}",
        ha="center",
        va="center",
        fontsize=8.5,
        color="white" if dark else "black",
    )
ax.set_yticks(range(len(shown)), shown)
ax.set_xticks(range(12), ["ampl.", "l. sq.", "ridge", "NNLS"] * 3, fontsize=9)
for j, name in enumerate(("own selection", "threshold", "OMP")):
    ax.text(4 * j + 1.5, -0.75, name, ha="center", fontsize=11)
    ax.axvline(4 * j - 0.5, color="white", lw=3)
ax.grid(False)
fig.colorbar(image, ax=ax, ticks=[-2, -1, 0], format=lambda v, _: f"{10.0**v:g}", label="FVU", shrink=0.8)
display.figure(
    fig,
    "FVU on the hierarchy, $k = 8$: the rows differ in how the dictionary was trained, the blocks in the selection, the columns in the coefficients (mean over seeds; darker is better). NNLS on 500 samples a seed. The three rows of ReLU + L1 have more latents active than $k$ in their own selection.",
    f"Heat map of FVU: top-k as trained {error('top-k', 'hierarchy').mean():.3f}, refitted {refit('top-k', 'hierarchy').mean():.3f}; tied projection {error('tied projection', 'hierarchy').mean():.3f}; hybrid {error('hybrid', 'hierarchy').mean():.3f}",
    cover=True,
)

# %%
trained = codes.query("k == 8 and selection == 'own' and coefficients == 'as trained'")
wide = trained.pivot_table(index="method", columns="kind", values="fvu", sort=False)[list(KINDS)]
summary = wide.add_prefix("FVU, ")
summary["refit, mean"] = (
    codes.query("k == 8 and selection == 'own' and coefficients == 'least squares'")
    .groupby("method", sort=False)["fvu"]
    .mean()
)
summary["L0"] = trained.groupby("method", sort=False)["l0"].mean()
means = (
    dictionaries.query("k == 8")
    .groupby("method", sort=False)[["recovery", "found", "genuine", "splitting", "dead"]]
    .mean()
)
summary = summary.join(means)
summary["negative"] = (
    codes.query("k == 8 and selection == 'own' and coefficients == 'least squares'")
    .groupby("method", sort=False)["negative"]
    .mean()
)
display.table(
    summary,
    "All methods at $k = 8$, mean over seeds (columns after the fourth: also over kinds). *refit*: FVU with least squares on its own support; *found*: share of true features with a latent at |cosine| > 0.9; *genuine*: share of latents with a feature; *splitting*: latents beyond the first for a feature found; *negative*: share of negative least-squares coefficients.",
)
display.table(
    baselines.pivot_table(index="method", columns="kind", values="fvu", sort=False)[list(KINDS)].join(
        baselines.groupby("method")[["recovery", "found"]].mean()
    ),
    f"What needs no gradient descent, at $k = 8$: FVU by kind, recovery and share found over kinds. The method of optimal directions (MOD, Engan et al. 1999) ran 20 rounds on {2 * p.samples:,} samples a seed.",
)

# %% [markdown]
# **How to read it.** The difference between a row's *FVU* and its *refit* is what amplitudes lose on a support that is given. The difference between two
# rows' *refit* is what training through the projection changes in the dictionary and its selection. A random dictionary under OMP shows how little FVU alone says.

# %%
fig, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for ax, kind in zip(axes, ("coherent", "hierarchy"), strict=True):
    for method in factorial.CORE:
        for how, style in (("as trained", "o-"), ("least squares", "s:")):
            if how == "least squares" and "top-k" not in method:
                continue
            points = [
                (
                    error(method, kind, k, coefficients=how, column="l0"),
                    error(method, kind, k, coefficients=how),
                )
                for k in (4, 8, 16, 32)
            ]
            l0, f = (np.array([q[i] for q in points]) for i in (0, 1))
            spread = np.abs(np.stack([f.min(1), f.max(1)]) - f.mean(1))
            ax.errorbar(
                l0.mean(1),
                f.mean(1),
                yerr=spread,
                fmt=style,
                ms=4.5,
                lw=1.5,
                capsize=2,
                color=COLOUR[method],
                label=method + (", refitted" if style == "s:" else ""),
            )
    for name in ("ReLU + L1, 0.1", "ReLU + L1, 0.2", "ReLU + L1, 0.4"):
        ax.plot(
            error(name, kind, column="l0").mean(),
            error(name, kind).mean(),
            "x",
            color="black",
            label="ReLU + L1" if name.endswith("0.1") else None,
        )
    ax.set(xscale="log", yscale="log", xlabel="latents in use a sample, L0", title=kind)
    ax.axvline(8, color="#999999", lw=1, ls="--")
    ax.set_xticks([4, 8, 16, 32, 64], [4, 8, 16, 32, 64])
    plain_ticks(ax.yaxis)
    ax.xaxis.minorticks_off()
axes[0].set_ylabel("FVU")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center", fontsize=9)
display.figure(
    fig,
    "FVU against the number of latents in use, $k$ = 4, 8, 16, 32; the dashed line is the true number. Bars: lowest to highest seed.",
    "Falling curves of FVU against L0 for six methods with refits of the top-k autoencoders dotted, and three points of ReLU + L1",
)

# %% [markdown]
# **How to read it.** Ridge may keep fewer latents than $k$, so methods are compared along this curve and not at one $k$. A dotted line that lies on a full one
# says that a refit does what training through the projection does.
#
# ## Absorption

# %%
on_hierarchy = ["top-k", "tied top-k", "BatchTopK", "ReLU + L1, 0.2", "tied projection", "OMP projection", "ridge", "tied ridge", "ridge, normalised", "hybrid", "tied hybrid", "penalised hybrid", "penalised tied hybrid"]  # fmt: skip
fig, axes = plt.subplots(1, 4, figsize=(11, 4.6), sharey=True)
plain = dict.fromkeys(on_hierarchy, display.COLOURS[0])
for ax, (column, title) in zip(
    axes,
    [
        ("absorption", "absorption"),
        ("alone", "missed when alone"),
        ("direction", "cosine, child's latent\nand parent"),
        ("children", "children with\na latent"),
    ],
    strict=True,
):
    figures.intervals(ax, {m: of(column, m, "hierarchy") for m in on_hierarchy}, plain)
    ax.set(xlabel=title, xlim=(-0.04, 1.04))
display.figure(
    fig,
    "The hierarchy at $k = 8$. Absorption: the parent's latent is not selected though the child's is; beside it how often the parent is missed where it is active without a child, the cosine of the child's latent with the parent (0: nothing absorbed), and the share of children that have a latent of their own at all. Dots: seeds; diamonds: mean and 95% interval.",
    "; ".join(f"{m} absorption {of('absorption', m, 'hierarchy').mean():.2f}" for m in on_hierarchy),
)

# %%
pool = ["penalised hybrid", "tied hybrid", "penalised tied hybrid", "tied ridge", "OMP projection"]
floor = of("absorption", "ridge", "hierarchy") + 0.01
score = {
    m: np.maximum(
        error(m, "hierarchy") / error("hybrid", "hierarchy"),
        (of("absorption", m, "hierarchy") + 0.01) / floor,
    )
    for m in (*pool, "top-k")
}
both = np.array([score[min(pool, key=lambda m: np.delete(score[m], s).mean())][s] for s in range(p.seeds)])
best_variant = min(pool, key=lambda m: score[m].mean())
to_the_left = (
    "ridge, normalised",
    "tied ridge",
    "penalised tied hybrid",
    "top-k",
    "penalised hybrid",
    "tied projection",
)
fig, ax = plt.subplots(figsize=(8, 4.6))
for m in on_hierarchy:
    f, absorbed = error(m, "hierarchy"), of("absorption", m, "hierarchy")
    colour = display.COLOURS[0] if m in pool else display.COLOURS[1]
    ax.errorbar(
        f.mean(),
        absorbed.mean(),
        xerr=f.std(ddof=1),
        yerr=absorbed.std(ddof=1),
        fmt="o" if m in pool else "s",
        color=colour,
        capsize=2,
        lw=1,
    )
    ax.annotate(
        m,
        (f.mean(), absorbed.mean()),
        xytext=(-6, -3) if m in to_the_left else (6, 5),
        ha="right" if m in to_the_left else "left",
        textcoords="offset points",
        fontsize=9,
    )
ax.set(xlabel="FVU as trained", ylabel="absorption")
display.figure(
    fig,
    "Reconstruction against absorption on the hierarchy, $k = 8$: mean and standard deviation over seeds. Circles: the variants among which one with both the hybrid's FVU and the ridge's absorption is looked for; squares: the others. Lower left is better.",
    f"Scatter of thirteen methods; the best variant by the rule is {best_variant} with a score of {score[best_variant].mean():.2f}, where 1 would be both at once",
)

# %% [markdown]
# **How to read it.** Absorption counts only children that have a latent of their own; with few such children (last panel) it is a statement on those few. *Missed
# when alone* is the yardstick: a method that selects parents poorly anyway is not absorbing them.
#
# ## Importances, quotas and the effective dimension

# %%
ridge_rows = dictionaries.query("k == 8 and square == square").groupby(["kind", "method"], sort=False)
table = ridge_rows[
    ["used", "square", "growth", "dimension_error", "conservative", "ranks", "recovery"]
].mean()
table["FVU"] = trained.groupby(["kind", "method"], sort=False)["fvu"].mean()
display.table(
    table,
    "Ridge dictionaries at $k = 8$. *used*: latents of 256 in use; *square*: mean $e^2$; *growth*: of it over the second half of training; *dimension_error*: mean of |sum of 1/(1+λ) − tr H| / tr H; *conservative*: share of samples where tr H is at most the sum; *ranks*: Spearman correlation of importance with the error that leaving a column out would add.",
)

# %% [markdown]
# **How to read it.** $\mathrm{tr}\, H$ is the effective dimension; the sum $\sum_j 1/(1+\lambda_j)$ equals it for orthonormal columns and exceeds it where columns overlap.
# Importances that race (*growth* above 1) make the ridge an exact projection that no longer tells the encoder anything.
#
# ## Images and hidden layers

# %%
fig, axes = plt.subplots(1, 3, figsize=(11, 4), sharey=True)
for ax, layer in zip(axes, x, strict=True):
    rows = layers.query("layer == @layer and selection == 'own'")
    groups = {}
    for m in on_images:
        for how in ("as trained", "least squares"):
            if how == "as trained" or "top-k" in m:
                chosen = rows.query("method == @m and coefficients == @how").sort_values("seed")["fvu"]
                groups[m + (", refitted" if how == "least squares" else "")] = chosen.to_numpy()
    figures.intervals(ax, groups, {g: COLOUR[g.removesuffix(", refitted")] for g in groups})
    ax.set(xlabel="test FVU", title=layer)
display.figure(
    fig,
    "Test FVU at $k = 8$ on 14 × 14 pixels (512 latents) and two 64-neuron hidden layers (256 latents) of an image classifier. Dots: seeds; diamonds: mean and 95% interval.",
    f"FVU on layer 1: top-k {layer_error('top-k', 'layer 1').mean():.3f}, hybrid {layer_error('hybrid', 'layer 1').mean():.3f}",
)
own = layers.query("coefficients == 'as trained' and layer != 'pixels'")
display.table(
    own.pivot_table(index="method", columns="layer", values="cross_entropy", sort=False).add_prefix(
        "recovered, "
    ),
    "Cross entropy recovered where a reconstruction takes the layer's place in the network: 1 is the layer itself, 0 its mean. A projection has seen the layer to reconstruct it, like every autoencoder.",
)

# %% [markdown]
# **How to read it.** The refitted top-k autoencoder is the control: what lies below it was gained by training, what lies between it and top-k by refitting.
#
# ## Transcoders
#
# A **transcoder** reads one layer and reconstructs another: here the image and layer 2, through three layers of ReLU. How far that map is from linear shows in the linear regression. A projection looks at its target to find coefficients. Whoever uses a transcoder
# does not have the target, so each is measured *peeking* and *not peeking* (each coefficient predicted from its score by a line fitted in training), and with its
# input *shuffled* between samples, which leaves it nothing to transcode.

# %%
arms = results["transcoders"]
order = ["top-k", "ridge", "hybrid", "PCA, 8 components", "linear regression"]
fig, ax = plt.subplots(figsize=(9, 3.8))
for i, arm in enumerate(transcoding.ARMS):
    for j, m in enumerate(order):
        values = arms[(arms["method"] == m) & (arms["arm"] == arm)]["fvu"].to_numpy()
        if len(values):
            ax.plot(
                values,
                np.full(len(values), j + 0.18 * (i - 1.5)),
                "o",
                ms=4,
                color=display.COLOURS[i],
                alpha=0.6,
                mec="none",
            )
            ax.plot(values.mean(), j + 0.18 * (i - 1.5), "D", ms=6, color=display.COLOURS[i])
    ax.plot([], [], "D", color=display.COLOURS[i], label=arm)
ax.set_yticks(range(len(order)), order)
ax.invert_yaxis()
ax.axvline(1, color="#555555", ls="--", lw=1)
ax.set(xscale="log", xlabel="test FVU of layer 2 (dashed: its mean)")
fig.legend(loc="outside upper center", ncols=4, fontsize=9)


def transcoder(method, arm):
    return arms.query("method == @method and arm == @arm").sort_values("seed")["fvu"].to_numpy()


display.figure(
    fig,
    "Transcoders at $k = 8$ in four arms, with the target's first eight principal components and a linear regression for comparison. Dots: seeds; diamonds: means. Top-k never looks at its target.",
    f"FVU of ridge: peeking {transcoder('ridge', 'peeking').mean():.2f}, not peeking {transcoder('ridge', 'not peeking').mean():.2f}, peeking with shuffled input {transcoder('ridge', 'peeking, shuffled input').mean():.2f}; top-k {transcoder('top-k', 'peeking').mean():.2f}, shuffled {transcoder('top-k', 'peeking, shuffled input').mean():.2f}",
)

# %% [markdown]
# **How to read it.** What a peeking transcoder reaches with shuffled input is what its dictionary can do with *any* support once it sees the answer. Only the distance
# from there says that something was transcoded.
#
# ## Alignment search
#
# **Distributed alignment search** (DAS, Geiger et al. 2023) swaps part of a hidden state of a *base* input for that of a *source*, and asks for the output of the
# counterfactual: one variable taken from the source, all others kept. It learns a rotation for every variable; a dictionary offers the span of the $k$ columns that
# correlate most with it. Here 64 variables are written into 24 dimensions (a toy model as in Elhage et al. 2022), and the number active is swept. A third way
# (ours): solve least squares on all active columns and swap the one coefficient.

# %%
swaps = results["variables"]
lines = {
    "learned rotation": 1, "true direction": 1, "random direction": 1, "tied projection, span": 1, "top-k, span": 1,
    "coefficient swap, true dictionary": 1, "tied projection, coefficient swap": 1, "top-k, coefficient swap": 1,
}  # fmt: skip


def swap(method, active, width=1, column="error"):
    return (
        swaps.query("method == @method and active == @active and width == @width")
        .sort_values("seed")[column]
        .to_numpy()
    )


fig, axes = plt.subplots(1, 2, figsize=(11, 4.2), width_ratios=[1.2, 1])
for i, m in enumerate(lines):
    values = np.stack([swap(m, n) for n in (1, 4, 16)])
    style = "o--" if "coefficient" in m else "s:" if "direction" in m else "D-"
    axes[0].errorbar(
        [1, 4, 16],
        values.mean(1),
        yerr=values.std(1, ddof=1),
        fmt=style,
        capsize=2,
        lw=1.5,
        ms=5,
        color=display.COLOURS[i % 7],
        label=m,
    )
axes[0].axhline(1, color="#555555", lw=1, ls="--")
axes[0].set(
    xscale="log",
    xlabel="variables active on average, of 64 in 24 dimensions",
    ylabel="interchange error (1: nothing done)",
    yscale="symlog",
)
axes[0].set_yscale("symlog", linthresh=0.1)
plain_ticks(axes[0].yaxis, (0, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100))
axes[0].set_ylim(bottom=0)
axes[0].set_xticks([1, 4, 16], [1, 4, 16])
axes[0].minorticks_off()
axes[0].legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
accuracies = results["pairs"]


def pair(method, width=16):
    return (
        accuracies.query("method == @method and width == @width").sort_values("seed")["accuracy"].to_numpy()
    )


arms_of = accuracies[["method", "width"]].drop_duplicates().itertuples(index=False)
bars = {f"{m}, {w}": (pair(m, w), m) for m, w in arms_of}
colour_of = dict(zip(dict.fromkeys(m for _, m in bars.values()), display.COLOURS[:7] * 2, strict=False))
figures.intervals(
    axes[1], {n: v for n, (v, _) in bars.items()}, {n: colour_of[m] for n, (_, m) in bars.items()}
)
axes[1].set(xlabel="interchange accuracy, left digit of a pair", xlim=(-0.03, 1.03))
axes[1].tick_params(axis="y", labelsize=8.5)
display.figure(
    fig,
    "Left: error of interchanges of one variable by how many are active, one dimension swapped (mean and standard deviation over seeds; 0 is the counterfactual, 1 like doing nothing). Right: accuracy on pairs of digits, 8 and 16 dimensions, out of superposition; the dictionary's columns are chosen by correlation.",
    f"At 4 active: learned rotation {swap('learned rotation', 4).mean():.2f}, span of the tied projection {swap('tied projection, span', 4).mean():.2f}, coefficient swap on the true dictionary {swap('coefficient swap, true dictionary', 4).mean():.3f}; pairs: learned rotation {pair('learned rotation').mean():.2f}, dictionary {pair('tied projection, by means').mean():.2f}",
)
display.table(
    swaps.pivot_table(
        index=["method", "width"], columns="active", values=["error", "side", "accuracy"], sort=False
    ),
    "Interchanges by method and dimensions swapped: error, its part in the other variables' outputs (side effects), and the share of pairs with every output right.",
)

# %% [markdown]
# **How to read it.** A subspace swap brings along whatever else lies in the subspace, so in superposition even the *true* direction has side effects, and they grow with the
# number active. The coefficient swap takes the other active features out first.
#
# ## Which one to use when

# %%
kinds = list(KINDS)
candidates = ["top-k", "tied top-k", "BatchTopK", "tied projection", "ridge", "tied ridge", "hybrid"]
needs = {
    "lowest FVU at k = 8, target at hand": {
        m: geometric(lambda kind, m=m: np.minimum(refit(m, kind), error(m, kind))) for m in candidates
    },
    "lowest FVU at k = 8, amplitudes only": {
        m: geometric(lambda kind, m=m: error(m, kind)) for m in ("top-k", "tied top-k", "BatchTopK")
    },
    "best dictionary (1 - recovery)": {
        m: 1 - np.mean([of("recovery", m, kind) for kind in KINDS], 0) for m in candidates
    },
    "lowest absorption (hierarchy)": {m: of("absorption", m, "hierarchy") for m in candidates},
    "coherent features, k twice too large (1 - recovery)": {
        m: 1 - of("recovery", m, "coherent", 16) for m in factorial.CORE
    },
    "same dictionary from another start (1 - stability)": {
        m: 1 - of("stability", m, "coherent", 16) for m in factorial.CORE
    },
    "transcoder without the target": {m: transcoder(m, "not peeking") for m in ("top-k", "ridge", "hybrid")},
    "one variable in superposition, 4 active": {
        m: swap(m, 4) for m in lines if "true" not in m and "random" not in m
    },
}
choice = []
for need, values in needs.items():
    first, second = sorted(values, key=lambda m: values[m].mean())[:2]
    gap = values[second] - values[first]
    ahead = f"in {(gap > 0).sum()} of {len(gap)} seeds"
    choice.append((need, first, values[first].mean(), second, values[second].mean(), ahead))
display.table(
    pd.DataFrame(choice, columns=["for", "use", "value", "next best", "its value", "ahead"]).set_index("for"),
    "For each need the method with the lowest mean, and the next. Where the first is not ahead in every seed, the two are a matter of taste.",
)

# %% [markdown]
# ## Claims
#
# One value a seed. A claim is *supported* where the whole 95% interval lies within the bounds of its rule, *contradicted* where it lies outside, else *inconclusive*.


# %%
def gradient_difference(seed, dtype=torch.float64):
    """Largest difference of the closed-form gradient from autograd's through the solve, over the largest entry."""
    generator = torch.Generator().manual_seed(seed)
    naive = NaiveProjection(24, 96, 8, epsilon=0.0, generator=generator).to(dtype)
    sample = torch.randn(32, 24, generator=generator).to(dtype)
    index = (sample @ naive.decoder.detach().mT).topk(8).indices
    found = []
    for y_hat in (naive(sample), project(naive.decoder, index, sample).y_hat):
        found.append(torch.autograd.grad((y_hat.sin() * sample).sum(), naive.decoder)[0])
    return float((found[0] - found[1]).abs().max() / found[0].abs().max())


def over_kinds(column, m):
    return np.mean([of(column, m, kind) for kind in KINDS], axis=0)


def difference(column, m, other, kind, k=8):
    return of(column, m, kind, k) - of(column, other, kind, k)


def share(kind, how="least squares"):
    few = "least squares, few" if how == "NNLS" else "as trained"
    start = error("top-k", kind)
    end = error("hybrid", kind, coefficients=few)
    return (start - error("top-k", kind, coefficients=how)) / (start - end)


def layer_share(layer):
    start = layer_error("top-k", layer)
    return (start - layer_error("top-k", layer, "least squares")) / (start - layer_error("hybrid", layer))


def on_layers(function):
    return np.exp(np.mean([np.log(function(layer)) for layer in x], axis=0))


hierarchy, P, T, TT = "hierarchy", "tied projection", "top-k", "tied top-k"
quarter = (
    curves.query("kind == 'independent' and k == 8 and step == @p.steps // 4")
    .sort_values("seed")
    .groupby("method")["recovery"]
    .apply(np.array)
)
three = np.stack([error(m, "independent") for m in ("ridge", "ridge, normalised", "ridge, budget")])
evidence = {  # claim: (one value a unit of replication, the same of its control, perhaps a note)
    "projection-explains-more": (geometric(lambda kind: error(P, kind) / error(T, kind)), geometric(lambda kind: refit(T, kind) / error(T, kind))),
    "projection-beyond-refit": (geometric(lambda kind: error(P, kind) / refit(T, kind)), geometric(lambda kind: refit(TT, kind) / refit(T, kind))),
    "projection-on-mnist": (on_layers(lambda n: layer_error(P, n) / layer_error(T, n, "least squares")), on_layers(lambda n: layer_error(T, n, "least squares") / layer_error(T, n))),
    "sae-misses-strengths": (geometric(lambda kind: refit(T, kind) / error(T, kind)), geometric(lambda kind: refit(P, kind) / error(P, kind))),
    "sae-shrinks": (of("slope", T, "independent"), of("slope_ls", T, "independent")),
    "tying-costs-reconstruction": (error(TT, "coherent") / error(T, "coherent"), error(TT, "independent") / error(T, "independent")),
    "tying-tolerable": (geometric(lambda kind: error(P, kind) / error("hybrid", kind)), geometric(lambda kind: error(TT, kind) / error(T, kind))),
    "tying-lowers-absorption": (difference("absorption", TT, T, hierarchy), of("absorption", T, hierarchy)),
    "projection-lowers-absorption": (difference("absorption", P, T, hierarchy), difference("absorption", TT, T, hierarchy)),
    "projection-lowers-splitting": (difference("splitting", P, T, "coherent", 16), difference("splitting", TT, T, "coherent", 16)),
    "projection-improves-dictionary": (over_kinds("recovery", P) - over_kinds("recovery", T), over_kinds("recovery", TT) - over_kinds("recovery", T)),
    "biases-get-no-gradient": (of("bias", P, "independent"), of("bias", "tied ridge", "independent")),
    "projection-backpropagates": ([gradient_difference(s) for s in range(p.seeds)], [gradient_difference(s, torch.float32) for s in range(p.seeds)]),
    "ridge-mends-biases": (over_kinds("recovery", "tied ridge") - over_kinds("recovery", P), over_kinds("recovery", TT) - over_kinds("recovery", P)),
    "importance-is-learned": (of("ranks", "ridge", "independent"), of("ranks, untrained", "ridge", "independent")),
    "importance-races": (of("growth", "ridge, no quota", "independent"), of("growth", "ridge", "independent")),
    "quotas-alike": (three.max(0) / three.min(0), error("ridge, no quota", "independent") / error("ridge", "independent")),
    "effective-dimension-close": (over_kinds("dimension_error", "ridge"), over_kinds("dimension_error, untrained", "ridge")),
    "effective-dimension-conservative": (over_kinds("conservative", "ridge"), of("conservative", "ridge, normalised", "independent")),
    "ridge-transcoder": (transcoder("ridge", "not peeking") / transcoder(T, "peeking"), transcoder("ridge", "peeking, shuffled input") / transcoder(T, "peeking")),
    "das-footprint": (swap("tied projection, span", 4) - swap("learned rotation", 4), swap("random direction", 4) - swap("learned rotation", 4)),
    "das-scalability": (swap("tied projection, span", 16) - swap("learned rotation", 16), swap("random direction", 16) - swap("learned rotation", 16)),
    "das-swap-exact": (swap("coefficient swap, true dictionary", 4), swap("true direction", 4)),
    "das-pair-tie": (pair("tied projection, by means") - pair("learned rotation"), pair("learned rotation, untrained network") - pair("learned rotation")),
    "refit-share-planted": (np.mean([share(kind) for kind in KINDS], 0), np.mean([share(kind, "NNLS") for kind in KINDS], 0)),
    "refit-share-mnist": (np.mean([layer_share(n) for n in hidden.LAYERS], 0), layer_share("pixels")),
    "projection-pays-tied": (error(P, hierarchy) - refit(TT, hierarchy), error(P, hierarchy) - error(TT, hierarchy)),
    "projection-pays-coherent": (difference("recovery", P, TT, "coherent", 16), difference("recovery", T, TT, "coherent", 16)),
    "projection-stable-coherent": (of("stability", P, "coherent", 16), of("stability", TT, "coherent", 16)),
    "projection-no-less-absorption": (difference("absorption", P, TT, hierarchy), difference("absorption", T, TT, hierarchy)),
    "penalty-lowers-absorption": (difference("absorption", "ridge", T, hierarchy), difference("absorption", "ridge, normalised", T, hierarchy)),
    "hybrid-doubles-absorption": (of("absorption", "hybrid", hierarchy) / of("absorption", T, hierarchy), of("absorption", "tied hybrid", hierarchy) / of("absorption", T, hierarchy)),
    "no-quota-collapses": (of("used", "ridge, no quota", "independent"), of("used", "ridge", "independent")),
    "budget-collapses": (of("used", "ridge, budget", "independent"), of("used", "ridge", "independent")),
    "short-runs-mislead": (of("recovery", T, "independent") - quarter[T], of("recovery", P, "independent") - quarter[P]),
    "shuffled-input-transcoder": (transcoder("ridge", "peeking, shuffled input"), transcoder(T, "peeking, shuffled input")),
    "best-of-both": (both, score[T], f"best over all seeds: {best_variant}"),
}  # fmt: skip
claim = ledger.load()


def verdict(name, values, control, note=""):
    """The verdict on the seeds in which the statistic is defined; a child without a latent, say, is not absorbed."""
    values, control = (np.asarray(part, float) for part in (values, control))
    defined, rest = np.isfinite(values), control[np.isfinite(control)]
    if not defined.any():
        return ledger.Verdict(
            name, "not tested", n=0, mean=None, note="not defined in any seed at this length of training"
        )
    if not defined.all():
        note = f"{note}; defined in {defined.sum()} of {len(values)} seeds".lstrip("; ")
    return ledger.judge(claim[name], values[defined], rest if len(rest) else None, note)


verdicts = {name: verdict(name, *values) for name, values in evidence.items()}

# %%
of_source = [v for name, v in verdicts.items() if claim[name].source.id == "sklar-2024"]
tally = {
    status: sum(v.status == status for v in of_source)
    for status in ("supported", "contradicted", "inconclusive")
}
better, control = verdicts["projection-explains-more"], verdicts["projection-beyond-refit"]
answer = (
    f"Of the source's {len(of_source)} tested claims {tally['supported']} are supported, {tally['contradicted']} contradicted and {tally['inconclusive']} inconclusive. "
    f"At $k = 8$ the tied projection leaves {better.mean:.2f} times the variance of a top-k SAE unexplained, and {control.mean:.2f} times that of the same SAE refitted at test time; "
    f"refitting alone gives {verdicts['refit-share-planted'].mean:.0%} of what the best projective variant of ours (the hybrid) gains. "
    f"The rate of absorption on the hierarchy is {of('absorption', T, hierarchy).mean():.2f} for top-k, {of('absorption', TT, hierarchy).mean():.2f} tied, "
    f"{of('absorption', P, hierarchy).mean():.2f} with the tied projection and {of('absorption', 'ridge', hierarchy).mean():.2f} with the ridge. "
    f"With its input shuffled a ridge transcoder that sees its target still reaches an FVU of {transcoder('ridge', 'peeking, shuffled input').mean():.2f}."
)
display.claims(
    verdicts.values(),
    answer=answer,
    question="Does training through a projection give better dictionaries than a top-k autoencoder refitted at test time?",
)

# %% tags=["nbval-check-output"]
# Key facts that survive another processor; `make test` compares them.
print(
    f"biases of the tied projection moved: {bool(of('bias', P, 'independent').max() > 0)}, of the tied ridge: {bool(of('bias', 'tied ridge', 'independent').min() > 0)}"
)
print(f"gradient equals autograd: {bool(verdicts['projection-backpropagates'].high < 1e-8)}")
print(
    f"coefficient swap exact on the true dictionary: {bool(swap('coefficient swap, true dictionary', 4).max() < 0.01)}, span of the true direction: {bool(swap('true direction', 4).min() < 0.01)}"
)
print(f"claims judged: {len(verdicts)}")

# %% [markdown]
# ## Limits
#
# - Planted data are linear, sparse and of one size; the networks are small. No language model was looked at.
# - Learning rates come from a grid of three, on one kind of data; α, the normalised importance and the budget were fixed beforehand (the first two within
#   the ranges that a trial had found to work), not tuned.
# - Absorption depends on how a child's *own* latent is told: the nearest one, with a cosine above 0.6 and not the parent's.
# - Claims are judged side by side, each at 95%, without correction: of forty intervals two may miss by chance.
# - The networks of the alignment search are toy models, and their variables are known; HyperDAS itself is not tested.

# %%
display.provenance(
    p,
    notebook="projective_dictionaries",
    data={
        "planted": ", ".join(KINDS),
        "name": images.name,
        "samples": images.samples,
        "sha256": images.sha256,
    },
    seeds=f"{p.seeds} planted dictionaries of each kind and as many networks; generators are seeded in the cells",
    started=started,
)
