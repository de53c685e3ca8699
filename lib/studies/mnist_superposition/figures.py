"""The figures of the report: each function returns the figure, its caption and its alternative text, in this order.

Both texts are for `lib.reporting.display.figure`.
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from torch import Tensor

from lib.networks.training import Trained
from lib.reporting import figures
from lib.reporting.display import COLOURS
from lib.studies.mnist_superposition import platonic
from lib.studies.mnist_superposition.affinity import pwak
from lib.studies.mnist_superposition.denoising import Denoised
from lib.studies.mnist_superposition.evaluation import PREDICTION, by_outer, by_seed
from lib.studies.mnist_superposition.outer import CLASSIFIERS
from lib.studies.mnist_superposition.toy import Measured

Drawn = tuple[Figure, str, str]
ARM_COLOURS = {"as coded": COLOURS[1], "repaired": COLOURS[0], "decoder": COLOURS[2]}
DIFFUSING = ("PSAE", "DeePWAK", "Codebook", "DeePWAK-view", "DeePWAK-complement")
FORMS = (0, 8, 16, 64, 128)  # learned representatives in a small batch
GREY = "#555555"


def classifiers(table: pd.DataFrame, at_checkpoints: Mapping[str, pd.DataFrame]) -> Drawn:
    """Accuracy of both arms through training, and how they end, from `outer.classifier_table`."""
    fig, axes = plt.subplots(1, 4, figsize=(10, 3.4), width_ratios=[1.3, 1, 1, 1])
    for arm, accuracy in at_checkpoints.items():
        steps = np.maximum(accuracy.index, 1)
        axes[0].plot(steps, 100 * accuracy, "o-", color=ARM_COLOURS[arm], alpha=0.5, lw=1, ms=3)
        axes[0].plot([], [], color=ARM_COLOURS[arm], label=arm)
    axes[0].set(xscale="log", xlabel="minibatches", ylabel="test accuracy, %", ylim=(0, 100))
    axes[0].legend(loc="upper left")
    names = {"accuracy": "test accuracy", "missing": "digits never predicted", "dead": "dead neurons of 3"}
    by_arm = {arm: table[table["arm"] == arm] for arm in CLASSIFIERS}
    for ax, (column, name) in zip(axes[1:], names.items(), strict=True):
        groups = {arm: part[column].to_numpy() for arm, part in by_arm.items()}
        figures.intervals(ax, groups, ARM_COLOURS)
        ax.set(xlabel=name)
        ax.set_yticks([0, 1], ["as\ncoded", "re-\npaired"])
    caption = (
        "The two arms of the classifier: accuracy at checkpoints (0 drawn at 1), and at the end accuracy, the number "
        "of digits that are never predicted and the number of bottleneck neurons that are constant. "
        "Dots: outer seeds; diamonds: mean and 95% interval."
    )
    mean = {arm: part[list(names)].mean() for arm, part in by_arm.items()}
    alt = (
        f"Accuracy through training and at the end: as coded {mean['as coded']['accuracy']:.0%} with "
        f"{mean['as coded']['missing']:.1f} digits never predicted on average, "
        f"repaired {mean['repaired']['accuracy']:.0%} with {mean['repaired']['missing']:.1f}"
    )
    return fig, caption, alt


def bottleneck(z: Float[Tensor, "n 3"], labels: Int[Tensor, " n"], probes: pd.DataFrame) -> Drawn:
    """The activations of one classifier in three dimensions, and the AUCs of `bottleneck.probe_table`."""
    fig = plt.figure(figsize=(10, 4.2))
    ax = fig.add_subplot(1, 2, 1, projection="3d")
    colours = dict(c=labels[:1500], cmap="tab10", vmin=-0.5, vmax=9.5)
    ax.scatter(*z[:1500].T, **colours, s=6, linewidths=0)
    for digit in range(10):
        middle = z[labels == digit].median(0).values.tolist()
        ax.text(*middle, str(digit), fontsize=13, fontweight="bold", ha="center", va="center", zorder=9)
    ax.set(xlabel="neuron 1", ylabel="neuron 2", zlabel="neuron 3")
    ax.tick_params(labelsize=7)
    ax = fig.add_subplot(1, 2, 2)
    mean = {}
    for encoder, colour in (("trained", COLOURS[0]), ("untrained", COLOURS[1])):
        auc = probes[probes["encoder"] == encoder].pivot(index="digit", columns="outer", values="auc")
        figures.dots(ax, range(10), auc.to_numpy(), colour=colour, label=encoder)
        mean[encoder] = auc.to_numpy().mean()
    ax.axhline(0.9, color=GREY, lw=1, ls="--")
    ax.set(xticks=range(10), xlabel="digit", ylabel="test AUC of a linear probe")
    ax.legend()
    caption = (
        "Left: test images in the bottleneck of one repaired classifier (activations, standardised), coloured by "
        "digit; the numeral stands at the median of its digit. "
        "Right: how well a linear one-against-rest probe reads each digit off the three neurons; dots are outer "
        "seeds, diamonds their means, the dashed line the bound of the claim."
    )
    alt = (
        "Three-dimensional scatter of test images in ten colours; beside it the probes' areas under the curve by "
        f"digit, on average {mean['trained']:.2f} for trained and {mean['untrained']:.2f} for untrained encoders"
    )
    return fig, caption, alt


def toy_model(toy: Measured) -> Drawn:
    """Dimensionality of all features against the inverse density."""
    fig, ax = plt.subplots(figsize=(8, 4))
    dots = dict(ms=2, alpha=0.25, color=COLOURS[0])
    for i, x in enumerate(toy.inverse_density):
        values = toy.dimensionality[:, i].ravel()
        sideways = np.random.default_rng(i).uniform(0.96, 1.04, len(values))
        ax.plot(x * sideways, values, ".", **dots)
    ax.plot([], [], ".", color=COLOURS[0], label="$D_i$ of a feature")
    label = "dimensions per feature, $m / |W|_F^2$"
    ax.plot(toy.inverse_density, toy.per_feature.mean(0), "s-", color=COLOURS[1], ms=5, label=label)
    ax.axhline(0.5, color=GREY, ls="--", lw=1, label="1/2: antipodal pairs")
    xlabel = "1 / (1 − S), inverse density of features"
    ax.set(xscale="log", xlabel=xlabel, ylabel="dimensionality", ylim=(0, 1.05))
    ax.legend(loc="upper right")
    caption = (
        "The toy model: dimensionality of every feature against the inverse density (dots, moved sideways a little), "
        "and neurons per represented feature (squares, mean over seeds)."
    )
    median = np.median(toy.dimensionality[:, toy.nearest(5)], axis=1).mean()
    alt = (
        "Dots and a falling curve of dimensionality against inverse density; "
        f"the median of the dots at 1/(1-S) = 5 is {median:.2f}"
    )
    return fig, caption, alt


def losses(arms: Mapping[str, Trained], runs: Mapping[str, Trained], *, kept: int) -> Drawn:
    """Loss curves of the outer and of the inner models, of `kept` outer seeds."""
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.8))
    for arm, run in arms.items():
        first = run.losses[0].mean()
        axes[0].plot(run.steps, run.losses / first, color=ARM_COLOURS[arm], alpha=0.3, lw=0.8)
        axes[0].plot(run.steps, run.losses.mean(1) / first, color=ARM_COLOURS[arm], label=arm)
    axes[0].set(yscale="log", xlabel="minibatches", ylabel="loss / first recorded loss", title="outer models")
    ends = []
    for (name, run), colour in zip(runs.items(), COLOURS, strict=False):
        loss = run.losses.unflatten(1, (kept, -1)).mean(2)  # inner seeds averaged within
        axes[1].plot(run.steps, loss.mean(1), color=colour, label=name)
        axes[1].fill_between(run.steps, *np.quantile(loss, [0, 1], axis=1), color=colour, alpha=0.12, lw=0)
        ends.append(f"{name} {loss[-1].mean():.2g}")
    axes[1].set(yscale="log", xlabel="minibatches", ylabel="mean squared error", title="inner models")
    for ax in axes:
        ax.legend(fontsize=8)
    caption = (
        "Loss through training. "
        "Left: every outer seed (thin) and the mean, relative to the first recorded loss, since the three losses "
        "have different units. "
        "Right: inner models, mean over outer seeds and the range between them; a unit-variance target of three "
        "coordinates has a loss of 1 for the mean predictor."
    )
    alt = (
        "Falling loss curves on logarithmic axes: three arms of the outer model at the left; "
        f"at the right {len(runs)} inner models that end at {', '.join(ends)}"
    )
    return fig, caption, alt


def kernel(K: Float[Tensor, "k 10"]) -> Drawn:
    """Soft assignments of one image of each digit, their affinities, and the kernel."""
    fig, axes = plt.subplots(1, 3, figsize=(10, 3.6))
    panels = {
        "$K$: clusters × samples": K,
        "$K^T K$: affinities": K.T @ K,
        "PWAK(K): columns sum to 1": pwak(K),
    }
    for ax, (title, matrix) in zip(axes, panels.items(), strict=True):
        fig.colorbar(ax.imshow(matrix, cmap="viridis", vmin=0), ax=ax, shrink=0.75)
        ax.set(title=title, xlabel="digit", xticks=range(10), yticks=range(len(matrix)))
        ax.tick_params(labelsize=8)
        ax.grid(False)
    axes[0].set_ylabel("cluster")
    caption = (
        "The partitioned kernel worked through on ten digits: soft assignments, affinities, and the kernel that "
        "replaces each embedding by a mean over the others."
    )
    alt = (
        "Three matrices with colour bars: assignments of ten digits to twelve clusters, ten by ten affinities, "
        "and the ten by ten kernel with an empty diagonal"
    )
    return fig, caption, alt


def denoising(runs: Sequence[Denoised], pictures: Float[Tensor, "n d"], *, first: Sequence[int]) -> Drawn:
    """Error curves by number of neighbours, and the images `first` of the clean `pictures`, noisy and denoised."""
    fig = plt.figure(figsize=(10, 3.6))
    left, right = fig.subfigures(1, 2, width_ratios=[1.2, 1])
    ax = left.subplots()
    for run in runs:
        k, style = run.curve["k"], dict(ms=3, lw=1)
        noisy, clean = run.curve["self"] - 0.16, run.curve["clean"]
        ax.plot(k, noisy, "o-", color=COLOURS[0], label="against the noisy images, − 0.16", **style)
        ax.plot(k, clean, "s-", color=COLOURS[1], label="against the clean images", **style)
        ax.axvline(run.chosen, color=COLOURS[0], ls="--", lw=1, label="chosen by noise2self")
    ax.set(xscale="log", xlabel="neighbours k", ylabel="mean squared error per pixel")
    handles, names = ax.get_legend_handles_labels()
    ax.legend(handles[:3], names[:3], fontsize=9)
    shown = {"clean": pictures, "noisy": runs[0].noisy, "denoised": runs[0].denoised}
    grid = right.subplots(3, 5)
    for row, (name, images) in zip(grid, shown.items(), strict=True):
        for ax, i in zip(row, first[:5], strict=True):
            ax.imshow(images[i].view(28, 28), cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            ax.grid(False)
        row[0].set_ylabel(name)
    caption = (
        "Diffusion over nearest neighbours. "
        "Left: the self-supervised error (less the noise variance 0.16) and the error against the clean images, by "
        "number of neighbours; one line per noise seed. "
        "Right: five images, with noise, and diffused at the chosen k."
    )
    excess = np.mean([_at(run.curve, run.chosen) / run.curve["clean"].min() for run in runs])
    alt = (
        "Two error curves against the number of neighbours; "
        f"noise2self chooses {sorted({run.chosen for run in runs})}, {excess:.3f} times the least error. "
        "Beside them rows of clean, noisy and denoised digits"
    )
    return fig, caption, alt


def _at(curve: pd.DataFrame, k: int) -> float:
    return float(curve.set_index("k")["clean"][k])


def leak(stats: pd.DataFrame, noise: pd.DataFrame) -> Drawn:
    """The four measures of the leak, from `evaluation.model_table` and `evaluation.gaussian_table`."""
    fig, axes = plt.subplots(1, 4, figsize=(11, 3.9), sharey=True)
    names = [*DIFFUSING, "k-means"]
    palette = dict(zip(names, COLOURS, strict=False))
    values = {
        column: {name: by_outer(stats, column, model=name) for name in DIFFUSING}
        for column in ("leak", "r2", "hard_fvu")
    }
    noise_fvu = {name: by_seed(noise, "fvu", model=name) for name in DIFFUSING}
    hard = values["hard_fvu"] | {"k-means": by_outer(stats, "hard_fvu", model="k-means")}
    for ax, groups in zip(axes, (values["leak"], values["r2"], hard, noise_fvu), strict=True):
        figures.intervals(ax, groups, palette)
    axes[0].set(xlabel="leak", title="own Jacobian")
    axes[1].set(xlabel="$R^2$ of $x$ from soft $K$", title="what $K$ carries")
    axes[2].set(xscale="log", xlabel="FVU", title="hard $K$")
    axes[3].axvline(1, color=GREY, ls="--", lw=1)
    axes[3].set(xlabel="FVU", title="pure noise", xlim=(0, None))
    axes[0].set_yticks(range(len(names)), names)
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    caption = (
        "The leak, measured. "
        "From left: the leak; $R^2$ of the activations predicted linearly from the soft assignment; test FVU with "
        "assignments hardened (k-means at matched k for comparison); test FVU on an isotropic Gaussian, whose floor "
        "for J-invariant predictions is 1 (dashed). "
        "Dots: outer seeds (noise seeds in the last panel); diamonds: mean and 95% interval."
    )
    numbers = [
        f"{name}: {values['leak'][name].mean():.2f}, {values['r2'][name].mean():.2f}, "
        f"{values['hard_fvu'][name].mean():.2g}, {noise_fvu[name].mean():.2f}"
        for name in DIFFUSING
    ]
    alt = (
        "Four panels with one row per model: leak, R squared, FVU with hard assignments, FVU on noise. "
        + "; ".join(numbers)
    )
    return fig, caption, alt


def sparsity_and_splits(stats: pd.DataFrame) -> Drawn:
    """Sparseness, the split of rounded and pointed digits, and two-digit clusters, from `evaluation.model_table`."""

    def of(column: str, *names: str) -> dict[str, np.ndarray]:
        return {name: by_outer(stats, column, model=name) for name in names}

    variants = ("DeePWAK-view", "DeePWAK-complement")
    hoyer = of("hoyer", "SAE", "PSAE", "Autoencoder", "DeePWAK", *variants)
    split = of("split_rank", "DeePWAK", "DeePWAK-view", "k-means", "spectral")
    split["confusion"] = by_outer(stats, "split_rank", model=PREDICTION)
    two = of("bisemantic", "PSAE", "DeePWAK", "DeePWAK-view", "k-means", "Gaussian mixture", "spectral")
    fig, axes = plt.subplots(1, 3, figsize=(11, 3.8))
    for ax, groups in zip(axes, (hoyer, split, two), strict=True):
        figures.intervals(ax, groups)
    axes[0].set(xlabel="Hoyer sparseness, live units", title="sparsity of the embedding")
    axes[1].axvline(18, color=GREY, ls="--", lw=1)
    axes[1].set(xlabel="rank among 35 splits", title="rounded | pointed", xlim=(0, 36))
    axes[2].set(xlabel="share of clusters", title="exactly two digits")
    caption = (
        "Left: sparseness. "
        "Middle: rank of the split into rounded (0, 3, 6, 8) and pointed (4, 5, 7, 9) digits among all 35 equal "
        "splits, 1 being the best separated (dashed: chance), in clusters and in the outer model's own confusion "
        "matrix. Right: share of used clusters in which exactly two digits have 20% each. "
        "Dots: outer seeds; diamonds: mean and 95% interval."
    )
    means = [f"Hoyer {name} {hoyer[name].mean():.2f}" for name in ("SAE", "PSAE", "Autoencoder", "DeePWAK")]
    alt = (
        f"Three panels with dots and intervals by model: {', '.join(means)}; "
        f"rank of the split under DeePWAK {split['DeePWAK'].mean():.0f}; "
        f"two-digit clusters {two['DeePWAK'].mean():.2f}, k-means {two['k-means'].mean():.2f}"
    )
    return fig, caption, alt


def similarity(table: pd.DataFrame) -> Drawn:
    """CKA and ARI of classifiers, decoders and untrained encoders, from `bottleneck.similarity_table`."""
    names = {
        "decoder": "classifier, decoder",
        "classifiers": "between classifiers",
        "untrained": "between untrained",
    }
    means = table.groupby(["compared", "outer"])[["cka", "ari"]].mean()
    cka = {name: means.loc[compared, "cka"].to_numpy() for compared, name in names.items()}
    ari = {names[compared]: means.loc[compared, "ari"].to_numpy() for compared in ("decoder", "classifiers")}
    fig, axes = plt.subplots(1, 2, figsize=(10, 2.9))
    figures.intervals(axes[0], cka)
    figures.intervals(axes[1], ari)
    axes[0].set(xlabel="linear CKA", xlim=(0, 1), title="bottlenecks")
    axes[1].set(xlabel="ARI", title="DeePWAK's clusters")
    caption = (
        "Similarity of the bottleneck (left) and of DeePWAK's clusters (right) between a classifier and a decoder, "
        "and between classifiers of different seeds. "
        "Dots: outer seeds; diamonds: mean and 95% interval."
    )
    decoder, between, untrained = (values.mean() for values in cka.values())
    alt = (
        f"Dots and intervals: CKA of classifier and decoder {decoder:.2f}, between classifiers {between:.2f}, "
        f"between untrained {untrained:.2f}; "
        f"ARI {ari['classifier, decoder'].mean():.2f} and {ari['between classifiers'].mean():.2f}"
    )
    return fig, caption, alt


def small_batches(table: pd.DataFrame) -> Drawn:
    """Recovery of known clusters and FVU on noise by number of representatives, from `platonic.small_batches`."""

    def of(column: str, **setting) -> np.ndarray:
        return np.stack([platonic.by_seed(table, column, batch=16, forms=m, **setting) for m in FORMS])

    ari = {sees: of("ari", sees=sees) for sees in ("itself", "view")}
    floor = of("fvu", clusters=0)
    fig, axes = plt.subplots(1, 2, figsize=(10, 3.6))
    places = range(len(FORMS))
    for sees, what, colour in (("itself", "the sample", COLOURS[1]), ("view", "another view", COLOURS[0])):
        label = f"partitioner sees {what}"
        figures.dots(axes[0], places, ari[sees], colour=colour, label=label, line=True)
    large = platonic.by_seed(table, "ari", batch=256, forms=0).mean()
    axes[0].axhline(large, color=GREY, ls="--", lw=1, label="batch 256, no representatives")
    axes[0].set(ylabel="ARI with the 64 true clusters", ylim=(0, 1))
    axes[0].legend(fontsize=9, loc="lower left")
    figures.dots(axes[1], places, floor, colour=COLOURS[1], line=True)
    axes[1].axhline(1, color=GREY, ls="--", lw=1)
    axes[1].set(ylabel="test FVU on pure noise", ylim=(0, 1.1))
    for ax in axes:
        ax.set(xticks=places, xticklabels=FORMS, xlabel="learned representatives in a batch of 16")
    caption = (
        "Representatives appended to minibatches of 16. "
        "Left: recovery of 64 known clusters. "
        "Right: FVU on noise, where anything below 1 (dashed) is a leak. "
        "Dots: data seeds; diamonds: means."
    )
    means = {name: values.mean(1).round(2).tolist() for name, values in (ari | {"noise": floor}).items()}
    alt = (
        f"ARI by number of representatives, partitioner seeing the sample: {means['itself']}, "
        f"another view: {means['view']}; FVU on noise: {means['noise']}"
    )
    return fig, caption, alt
