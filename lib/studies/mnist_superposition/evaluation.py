"""One table for all inner models and baselines: the statistics of every replica, the leak among them."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.stats import rankdata
from torch import Tensor, nn

from lib.common import metrics
from lib.networks.training import Trained
from lib.studies.mnist_superposition import clusters
from lib.studies.mnist_superposition import inner as inner_models
from lib.studies.mnist_superposition.bottleneck import Activations

PREDICTION = "outer model's prediction"  # as a model in the table
COLUMNS = (  # of the table that the report shows
    "fvu", "live", "l0", "hoyer", "gini", "copies", "selectivity", "leak", "r2", "hard_fvu", "spread", "used",
    "effective", "nmi_label", "nmi_prediction", "nmi_shuffled", "ari_label", "ari_prediction", "digits", "bisemantic",
)  # fmt: skip


def model_table(
    runs: Mapping[str, Trained], z: Activations, labels: Int[Tensor, " n"], *, inner: int
) -> pd.DataFrame:
    """The statistics of all inner models, one row per model and replica; `runs` from `inner.train_all`.

    Three models follow as they were before training ("SAE, untrained", ...), then the baselines at DeePWAK's number of
    used clusters, and the clustering that the outer model's prediction is (`PREDICTION`: nmi_label, ari_label,
    split_rank). Columns as in `replica_table` and `baseline_table`.
    """
    test = dict(x=z.test, view=z.test_view, labels=labels, predictions=z.predicted, inner=inner)
    tables = [replica_table(name, run.model, **test) for name, run in runs.items()]
    for name in ("SAE", "PSAE", "DeePWAK"):
        tables.append(replica_table(f"{name}, untrained", runs[name].checkpoints[0], **test))
    used = by_outer(pd.concat(tables), "used", model="DeePWAK")
    ks = [max(2, round(k)) for k in used]
    tables.append(baseline_table(z.train, z.test, labels=labels, predictions=z.predicted, ks=ks))
    tables.append(prediction_table(z.predicted, labels))
    return pd.concat(tables, ignore_index=True)


def replica_table(
    name: str,
    model: nn.Module,
    *,
    x: Float[Tensor, "outer n d"],
    view: Float[Tensor, "outer n d"],
    labels: Int[Tensor, " n"],
    predictions: Int[Tensor, "outer n"],
    inner: int,
    leak_samples: int = 32,
) -> pd.DataFrame:
    """Statistics of an inner model on test activations, one row per replica.

    Columns: model (its `name`), outer, inner, fvu, live, l0, hoyer, gini, copies, selectivity, leak (of the first
    `leak_samples`); for models with assignments also r2 (linear, of x from K), hard_r2 (from one-hot K), hard_fvu,
    spread (perplexity of a sample's assignment, mean over samples), and those of `cluster_statistics`.
    """
    outer = torch.arange(len(x)).repeat_interleave(inner)
    xr, vr = x[outer], view[outer]
    with torch.no_grad():
        E, x_hat = model.encode(xr), model(xr, vr)
        columns = dict(
            fvu=metrics.fvu(xr, x_hat), live=metrics.live(E).sum(-1), l0=metrics.l0(E), hoyer=metrics.hoyer(E),
            gini=metrics.gini(E), copies=metrics.copies(E), selectivity=selectivity(E, labels),
        )  # fmt: skip
    columns["leak"] = leak(model, xr[:, :leak_samples], view=vr[:, :leak_samples])
    table = pd.DataFrame({key: np.asarray(value, dtype=float) for key, value in columns.items()})
    table.insert(0, "model", name)
    table.insert(1, "outer", outer.numpy())
    table.insert(2, "inner", np.tile(np.arange(inner), len(x)))
    if not hasattr(model, "assign"):
        return table
    with torch.no_grad():
        K = model.assign(xr, vr)
        one_hot = nn.functional.one_hot(K.argmax(1), K.shape[1]).to(K.dtype)
        table["r2"] = metrics.linear_r2(K.mT, xr).numpy()
        table["hard_r2"] = metrics.linear_r2(one_hot, xr).numpy()
        table["hard_fvu"] = metrics.fvu(xr, model(xr, vr, hard=True)).numpy()
        table["spread"] = metrics.perplexity(K.mT).mean(-1).numpy()
    rows = [
        cluster_statistics(k, labels=labels, predictions=predictions[o])
        for k, o in zip(K, outer, strict=True)
    ]
    return table.join(pd.DataFrame(rows))


def baseline_table(
    train: Float[Tensor, "outer m d"],
    x: Float[Tensor, "outer n d"],
    *,
    labels: Int[Tensor, " n"],
    predictions: Int[Tensor, "outer n"],
    ks: Sequence[int],
    samples: int = 2000,
) -> pd.DataFrame:
    """The clusterings of `clusters.baselines` at `ks[o]` clusters for outer model o, one row each.

    Fitted on the first 5 `samples` training activations, applied to the first `samples` test activations.
    """
    rows = []
    for o, k in enumerate(ks):
        test = x[o, :samples]
        found = clusters.baselines(train[o, : 5 * samples], test, k=k, seed=o)
        for name, (assignment, x_hat) in found.items():
            fvu = float(metrics.fvu(test, x_hat))
            K = nn.functional.one_hot(assignment, k).to(x.dtype).T
            statistics = cluster_statistics(K, labels=labels[:samples], predictions=predictions[o, :samples])
            row = dict(model=name, outer=o, inner=0, fvu=fvu, hard_fvu=fvu, spread=1.0)
            rows.append(row | statistics)
    return pd.DataFrame(rows)


def prediction_table(predictions: Int[Tensor, "outer n"], labels: Int[Tensor, " n"]) -> pd.DataFrame:
    """The outer models' predictions as a clustering of the test images, one row per outer model."""
    rows = []
    for o, predicted in enumerate(predictions):
        confusion = clusters.contingency(predicted, digits=labels, k=10)
        rows.append(
            dict(
                model=PREDICTION,
                outer=o,
                inner=0,
                nmi_label=metrics.nmi(predicted, labels),
                ari_label=metrics.ari(predicted, labels),
                split_rank=clusters.split_rank(clusters.cocluster(confusion)),
            )
        )
    return pd.DataFrame(rows)


def cluster_statistics(
    K: Float[Tensor, "k n"], *, labels: Int[Tensor, " n"], predictions: Int[Tensor, " n"]
) -> dict[str, float]:
    """How one clustering relates to labels and predictions.

    used, effective (perplexity of the mean assignment), nmi/ari with both, nmi_shuffled (with shuffled
    predictions), digits (per cluster, by prediction), bisemantic, split_rank, six_rank, six_rank_shuffled,
    opposition.
    """
    k, hard = len(K), K.argmax(0)
    g = torch.Generator().manual_seed(0)
    shuffles = [predictions[torch.randperm(len(predictions), generator=g)] for _ in range(5)]
    counts = clusters.contingency(hard, digits=predictions, k=k)
    return dict(
        used=float(metrics.used_clusters(hard, k)),
        effective=float(metrics.perplexity(K.mean(1))),
        nmi_label=metrics.nmi(hard, labels),
        nmi_prediction=metrics.nmi(hard, predictions),
        nmi_shuffled=float(np.mean([metrics.nmi(hard, s) for s in shuffles])),
        ari_label=metrics.ari(hard, labels),
        ari_prediction=metrics.ari(hard, predictions),
        digits=clusters.digits_per_cluster(counts),
        bisemantic=clusters.bisemantic(counts),
        split_rank=clusters.split_rank(clusters.cocluster(counts)),
        six_rank=_rank_of_six(K, predictions),
        six_rank_shuffled=float(np.mean([_rank_of_six(K, s) for s in shuffles])),
        opposition=clusters.opposition_rank(counts),
    )


def _rank_of_six(K: Tensor, digits: Tensor) -> float:
    """Rank of 6 among the digits that occur, by confidence, from the lowest; NaN where there is no 6."""
    confidence = clusters.confidence_by_digit(K, digits)
    if np.isnan(confidence[6]):
        return float("nan")
    return float(rankdata(np.nan_to_num(confidence, nan=np.inf))[6])


def seed_agreement(K: Float[Tensor, "replicas k n"], *, inner: int) -> Float[np.ndarray, " outer"]:
    """Mean ARI between the clusterings of the inner seeds of each outer model; NaN for one inner seed."""
    hard = K.argmax(1).unflatten(0, (-1, inner)).numpy()
    pairs = [(i, j) for i in range(inner) for j in range(i)]
    if not pairs:
        return np.full(len(hard), np.nan)
    return np.array([np.mean([metrics.ari(h[i], h[j]) for i, j in pairs]) for h in hard])


def summary(table: pd.DataFrame, assignments: Mapping[str, Tensor], *, inner: int) -> pd.DataFrame:
    """Means of `model_table` over outer and inner seeds: one column per model, one row per statistic of `COLUMNS`.

    The last row, ari_seeds, is the mean `seed_agreement` of `assignments`, by model.
    """
    means = table.groupby("model", sort=False)[list(COLUMNS)].mean()
    agreement = {name: seed_agreement(K, inner=inner).mean() for name, K in assignments.items()}
    return means.assign(ari_seeds=pd.Series(agreement)).T


@torch.no_grad()
def assign(model: nn.Module, z: Activations, *, inner: int) -> Float[Tensor, "replicas k n"]:
    """Soft assignments of the test images by the replicas of an inner model, `inner` for each outer model."""
    return model.assign(z.test.repeat_interleave(inner, 0), z.test_view.repeat_interleave(inner, 0))


def selectivity(E: Float[Tensor, "replicas n d"], labels: Int[Tensor, " n"]) -> Float[Tensor, " replicas"]:
    """Mean over live units of a unit's best one-digit-against-rest AUC (of either sign).

    The AUC is the Mann-Whitney statistic of the activations, ties sharing their rank.
    """
    n, digits = len(labels), nn.functional.one_hot(labels, 10).double()
    out = []
    for e in E:
        ranks = torch.from_numpy(rankdata(e[:, metrics.live(e)].numpy(), axis=0))
        positive = digits.sum(0)[:, None]
        u = digits.T @ ranks - positive * (positive + 1) / 2
        auc = u / (positive * (n - positive)).clamp_min(1)
        out.append(torch.maximum(auc, 1 - auc).max(0).values.mean())
    return torch.stack(out)


def by_outer(table: pd.DataFrame, column: str, *, model: str) -> np.ndarray:
    """`column` of `model` in `model_table`, inner seeds averaged within: one value per outer seed."""
    return table[table["model"] == model].groupby("outer")[column].mean().sort_index().to_numpy()


def gaussian_table(
    names: Sequence[str], *, centres: int, seeds: int, steps: int, batch: int, lr: float
) -> pd.DataFrame:
    """Inner models trained on `centres` isotropic Gaussians in three dimensions, one row per model and seed.

    One Gaussian is noise around one point: no prediction that does not see the sample has an expected FVU
    below 1. The second view has the same centres and independent noise. Columns: centres, model, seed, and on
    fresh samples fvu, used (clusters), leak.
    """
    g = torch.Generator().manual_seed(seeds + centres)
    spread = 1.0 if centres == 1 else 0.1
    middle = torch.randn(seeds, centres, 3, generator=g) * (centres > 1)
    labels = torch.randint(centres, (seeds, 20000), generator=g)
    signal = middle.gather(1, labels[..., None].expand(-1, -1, 3))
    x, view = (signal + spread * torch.randn(signal.shape, generator=g) for _ in range(2))
    x, view = metrics.standardise(x, view)
    train, seen = x[:, :15000], view[:, :15000]
    test, test_seen = x[:, 15000:], view[:, 15000:]
    settings = dict(inner=1, steps=steps, batch=batch, lr=lr)
    tables = []
    for name in names:
        model = inner_models.build(name, seeds, seed=seeds)
        inner_models.train(model, train, view=seen, **settings, name=f"{name} on noise")
        columns = dict(centres=centres, model=name, seed=range(seeds))
        with torch.no_grad():
            columns["fvu"] = metrics.fvu(test, model(test, test_seen)).tolist()
            columns["used"] = metrics.used_clusters(model.assign(test, test_seen).argmax(1), 12).tolist()
        columns["leak"] = leak(model, test[:, :32], view=test_seen[:, :32]).tolist()
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def by_seed(table: pd.DataFrame, column: str, *, model: str, centres: int = 1) -> np.ndarray:
    """`column` of `model` in `gaussian_table`: one value per seed."""
    chosen = table[(table["model"] == model) & (table["centres"] == centres)]
    return chosen.sort_values("seed")[column].to_numpy(float)


def own_jacobian(
    model: nn.Module, x: Float[Tensor, "replicas n d"], *, view: Tensor | None = None
) -> Float[Tensor, "replicas n d d"]:
    """J_i = d x_hat_i / d x_i, `[r, i, a, b]` = d x_hat_ia / d x_ib, all other samples held fixed.

    One backward pass per sample and coordinate: for batches of some dozens of samples. J-invariance (Batson & Royer
    2019) with respect to whole samples is J_i = 0; with respect to single coordinates, a zero diagonal.
    """
    x = x.detach().requires_grad_()
    x_hat = model(x, view)
    n, d = x.shape[1:]
    out = x.new_zeros(*x.shape, d)
    if not x_hat.requires_grad:
        return out
    for i in range(n):
        for a in range(d):
            (grad,) = torch.autograd.grad(x_hat[:, i, a].sum(), x, retain_graph=True, allow_unused=True)
            if grad is not None:
                out[:, i, a] = grad[:, i]
    return out


def leak(
    model: nn.Module, x: Float[Tensor, "replicas n d"], *, view: Tensor | None = None
) -> Float[Tensor, " replicas"]:
    """Mean of trace(J_i)/d over samples: 0 for a J-invariant prediction, 1 for the identity."""
    jacobian = own_jacobian(model, x, view=view)
    return jacobian.diagonal(dim1=-2, dim2=-1).mean((-2, -1))
