"""From the tables of the MNIST study to what each of its claims is judged by: one value per unit of replication.

Every entry is (values, the same of the control) and perhaps a note, by claim. The unit is mostly the outer seed, with
inner seeds averaged within; of experiments without an outer model it is their own seed, and of speed a repetition.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.studies.mnist_superposition import platonic, timing
from lib.studies.mnist_superposition.evaluation import PREDICTION, by_outer, by_seed
from lib.studies.mnist_superposition.toy import Measured

Evidence = dict[str, tuple]
READABLE = 0.9  # the AUC from which a linear probe reads a digit
PLATEAU = 5  # the inverse density at which the toy model's plateau is looked for
REPRESENTED = 0.5  # the squared norm from which a feature of the toy model is represented
# Fashion-MNIST has garments for digits: claims on the shapes of digits say nothing of it.
OF_SHAPES = ("rounded-pointed-best", "rounded-pointed-specific", "six-least-confident", "six-opposes-one")


@dataclass(frozen=True)
class Tables:
    """What the notebook measured, on the images of `dataset`. The order of rows does not matter.

    `classifiers`: arm, outer, accuracy, missing, dead (`outer.classifier_table`).
    `probes`: encoder, outer, digit, auc (`bottleneck.probe_table`).
    `models`: model, outer, inner and the statistics of `evaluation.model_table`.
    `similar`: compared, outer, other, cka, ari (`bottleneck.similarity_table`).
    `gaussians`: centres, model, seed, fvu, used (`evaluation.gaussian_table`), of 1 and of 3 Gaussians.
    `denoised`: seed, k, self, clean (the curves of `denoising.noise2self`).
    `small`: sees, clusters, batch, forms, seed, ari, fvu (`platonic.small_batches`).
    `times`: n, repetition, dense, factorised (`timing.diffusion`).
    `toy`: `toy.measure`.
    """

    dataset: str
    classifiers: pd.DataFrame
    probes: pd.DataFrame
    models: pd.DataFrame
    similar: pd.DataFrame
    gaussians: pd.DataFrame
    denoised: pd.DataFrame
    small: pd.DataFrame
    times: pd.DataFrame
    toy: Measured

    def unit(self, column: str, model: str) -> np.ndarray:
        """A statistic of an inner model or baseline, one value per outer seed."""
        return by_outer(self.models, column, model=model)

    def on_noise(self, column: str, model: str) -> np.ndarray:
        """A statistic of an inner model on one Gaussian, one value per seed."""
        return by_seed(self.gaussians, column, model=model)

    def over(self, column: str, model: str, control: str) -> tuple[np.ndarray, np.ndarray]:
        """A statistic of a model minus that of its control, and that of the control."""
        values = self.unit(column, control)
        return self.unit(column, model) - values, values


def of(t: Tables) -> Evidence:
    """Evidence on all claims of the study but those of `not_tested`."""
    found = {**_outer(t), **_sparsity(t), **_clusters(t), **_leak(t), **_alone(t), **_small_batches(t)}
    return {claim: values for claim, values in found.items() if claim not in not_tested(t)}


def not_tested(t: Tables) -> dict[str, str]:
    """The claims that these tables cannot test, and why."""
    if t.dataset != "fashion-mnist":
        return {}
    return dict.fromkeys(OF_SHAPES, "The classes of Fashion-MNIST are garments, not digits.")


def repaired_floor(t: Tables) -> np.ndarray:
    """Test FVU on one Gaussian, the lower one of the two variants that cannot see what they predict."""
    return np.minimum(t.on_noise("fvu", "DeePWAK-view"), t.on_noise("fvu", "DeePWAK-complement"))


def _outer(t: Tables) -> Evidence:
    """Outer models: superposition, both arms, agreement between objectives and seeds."""
    between, untrained = _similarity(t, "classifiers", "cka"), _similarity(t, "untrained", "cka")
    between_clusters = _similarity(t, "classifiers", "ari")
    as_coded, repaired = (_arm(t, arm) for arm in ("as coded", "repaired"))
    return {
        "outer-superposition": (_readable(t, "trained"), _readable(t, "untrained")),
        "outer-as-coded-accuracy": (as_coded["accuracy"], repaired["accuracy"]),
        "outer-as-coded-missing-digits": (as_coded["missing"], repaired["missing"]),
        "outer-repaired-accuracy": (repaired["accuracy"], as_coded["accuracy"]),
        "outer-repaired-no-dead": (repaired["dead"], as_coded["dead"]),
        "outer-same-information": (_similarity(t, "decoder", "cka") - between, between),
        "outer-same-clusters": (_similarity(t, "decoder", "ari") - between_clusters, between_clusters),
        "same-data-same-representation": (between, untrained),
    }


def _sparsity(t: Tables) -> Evidence:
    """Embeddings: sparseness, copies, selectivity."""
    from_diffusion = t.over("hoyer", "DeePWAK", "Autoencoder")
    positive = (from_diffusion[0] > 0).sum()
    return {
        "sparsity-psae-over-sae": t.over("hoyer", "PSAE", "SAE"),
        "sparsity-deepwak-over-psae": t.over("hoyer", "DeePWAK", "PSAE"),
        "sparsity-deepwak-over-sae": t.over("hoyer", "DeePWAK", "SAE"),
        "sparsity-from-diffusion": (
            *from_diffusion,
            f"positive in {positive} of {len(from_diffusion[0])} outer models",
        ),
        "mended-sparsity": t.over("hoyer", "DeePWAK-view", "Autoencoder"),
        "psae-copies": t.over("copies", "PSAE", "SAE"),
        "interpretable-features": t.over("selectivity", "DeePWAK", "SAE"),
        "interpretable-beyond-autoencoder": t.over("selectivity", "DeePWAK", "Autoencoder"),
    }


def _clusters(t: Tables) -> Evidence:
    """Clusters: how sparse, what of, how many."""
    untrained, labels = "DeePWAK, untrained", t.unit("nmi_label", PREDICTION)
    best_nmi = np.minimum(t.unit("nmi_prediction", "PSAE"), t.unit("nmi_prediction", "DeePWAK"))
    rank = t.unit("split_rank", "DeePWAK")
    other_rank = np.minimum(t.unit("split_rank", "k-means"), t.unit("split_rank", PREDICTION))
    return {
        "sparse-clusters-psae": (t.unit("spread", "PSAE"), t.unit("spread", "PSAE, untrained")),
        "sparse-clusters-deepwak": (t.unit("spread", "DeePWAK"), t.unit("spread", untrained)),
        "clusters-capture-features": (
            best_nmi - t.unit("nmi_prediction", untrained),
            t.unit("nmi_shuffled", "DeePWAK"),
        ),
        "psae-predicts-output": (
            t.unit("nmi_prediction", "PSAE") - labels,
            t.unit("nmi_prediction", "k-means") - labels,
        ),
        "deepwak-more-general": t.over("digits", "DeePWAK", "PSAE"),
        "rounded-pointed-best": (rank, other_rank),
        "rounded-pointed-specific": (other_rank - rank, other_rank),
        "six-least-confident": (t.unit("six_rank", "DeePWAK"), t.unit("six_rank_shuffled", "DeePWAK")),
        "six-opposes-one": (t.unit("opposition", "DeePWAK"), t.unit("opposition", "k-means")),
        "bisemanticity": t.over("bisemantic", "DeePWAK", "k-means"),
        "bisemantic-beyond-untrained": t.over("bisemantic", "DeePWAK", untrained),
        "fewer-than-k-mnist": (t.unit("used", "DeePWAK"), t.unit("used", untrained)),
    }


def _leak(t: Tables) -> Evidence:
    """J-invariance: the leak, what the assignment carries, and pure noise."""
    three = by_seed(t.gaussians, "used", model="DeePWAK", centres=3).mean()
    return {
        "j-invariant": (t.unit("leak", "DeePWAK"), t.unit("leak", "DeePWAK-view")),
        "fewer-than-k-gaussian": (
            t.on_noise("used", "DeePWAK"),
            t.on_noise("used", "DeePWAK-complement"),
            f"on three separate Gaussians {three:.1f} clusters are used",
        ),
        "leak-soft-assignment": (t.unit("r2", "DeePWAK"), t.unit("hard_r2", "DeePWAK")),
        "leak-hard-assignment": t.over("hard_fvu", "DeePWAK", "k-means"),
        "leak-noise-floor": (t.on_noise("fvu", "DeePWAK"), t.on_noise("fvu", "DeePWAK-view")),
        "codebook-equals-deepwak": (
            t.unit("fvu", "Codebook") - t.unit("fvu", "DeePWAK"),
            t.unit("fvu", "Autoencoder"),
        ),
        "mended-noise-floor": (repaired_floor(t), t.on_noise("fvu", "DeePWAK")),
    }


def _alone(t: Tables) -> Evidence:
    """What needs no outer model: noise2self on a graph, the time of the kernels, the toy model."""
    at_plateau = t.toy.nearest(PLATEAU)
    represented = _median_of_represented(t.toy)
    return {
        "noise2self-tunes-graphs": _excess_errors(t.denoised),
        "pwak-quadratic": (timing.exponents(t.times, "dense"), timing.exponents(t.times, "factorised")),
        "toy-plateau": (
            np.median(t.toy.dimensionality[:, at_plateau], axis=1),
            np.median(t.toy.random, axis=1),
        ),
        "toy-plateau-represented": (
            represented[:, at_plateau],
            represented[:, int(t.toy.inverse_density.argmax())],
        ),
    }


def _small_batches(t: Tables) -> Evidence:
    """Many clusters in batches of 16, with and without learned representatives."""

    def ari(**setting) -> np.ndarray:
        return platonic.by_seed(t.small, "ari", **setting)

    def fvu_on_noise(forms: int) -> np.ndarray:
        return platonic.by_seed(t.small, "fvu", batch=16, forms=forms, clusters=0)

    without, large = ari(batch=16, forms=0), ari(batch=256, forms=0)
    with_view = ari(batch=16, forms=0, sees="view")
    return {
        "small-batches-fail": (without - large, large),
        "platonic-forms-help": (ari(batch=16, forms=64) - without, without),
        "platonic-forms-few": (ari(batch=16, forms=8) - without, without),
        "platonic-forms-mended": (ari(batch=16, forms=64, sees="view") - with_view, with_view),
        "platonic-forms-leak": (fvu_on_noise(128), fvu_on_noise(0)),
    }


def _arm(t: Tables, arm: str) -> dict[str, np.ndarray]:
    """The columns of one arm's classifiers, one value per outer seed."""
    rows = t.classifiers[t.classifiers["arm"] == arm].sort_values("outer")
    return {column: rows[column].to_numpy(float) for column in ("accuracy", "missing", "dead")}


def _readable(t: Tables, encoder: str) -> np.ndarray:
    """How many digits the probes read, one value per outer seed."""
    auc = t.probes[t.probes["encoder"] == encoder].pivot(index="outer", columns="digit", values="auc")
    return (auc.to_numpy() >= READABLE).sum(1)


def _similarity(t: Tables, compared: str, column: str) -> np.ndarray:
    """The mean similarity of an outer model to the others that it is compared with, one value per outer seed."""
    rows = t.similar[t.similar["compared"] == compared].sort_values(["outer", "other"])
    return np.array([part[column].to_numpy().mean() for _, part in rows.groupby("outer")])


def _excess_errors(denoised: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Error against the clean images at noise2self's k, and at the largest k, over the least; one value per seed."""
    chosen, largest = [], []
    for _, curve in denoised.sort_values("k").groupby("seed"):
        to_self, to_clean = curve["self"].to_numpy(), curve["clean"].to_numpy()
        chosen.append(to_clean[to_self.argmin()] / to_clean.min())
        largest.append(to_clean[-1] / to_clean.min())
    return np.array(chosen, float), np.array(largest, float)


def _median_of_represented(toy: Measured) -> np.ndarray:
    """The median D_i of the features with |W_i|^2 above `REPRESENTED`, `(seeds, densities)`; NaN for none."""
    not_represented = toy.squared_norm <= REPRESENTED
    return np.ma.median(np.ma.masked_where(not_represented, toy.dimensionality), axis=2).filled(np.nan)
