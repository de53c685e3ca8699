"""One table for all inner models and baselines: the statistics of every replica, tidy."""

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from scipy.stats import rankdata
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from lib.common import metrics
from lib.studies.mnist_superposition import clusters
from lib.studies.mnist_superposition import inner as inner_models
from lib.studies.mnist_superposition.leakage import leak


def replica_table(
    name: str,
    model: nn.Module,
    x: Float[Tensor, "outer n d"],
    view: Float[Tensor, "outer n d"],
    labels: Int[Tensor, "n"],
    predictions: Int[Tensor, "outer n"],
    inner: int,
    leak_samples: int = 32,
) -> pd.DataFrame:
    """Statistics of a trained inner model on test activations, a row a replica.

    Columns: model, outer, inner, fvu, live, l0, hoyer, gini, copies, selectivity, leak; for models with
    assignments also r2 (linear, of x from K), hard_fvu, hard_r2, spread (clusters a sample), and those of
    `cluster_statistics`.
    """
    outer = torch.arange(len(x)).repeat_interleave(inner)
    xr, vr = x[outer], view[outer]
    with torch.no_grad():
        E, x_hat = model.encode(xr), model(xr, vr)
        columns = dict(
            fvu=metrics.fvu(xr, x_hat), live=metrics.live(E).sum(-1), l0=metrics.l0(E), hoyer=metrics.hoyer(E),
            gini=metrics.gini(E), copies=metrics.copies(E), selectivity=selectivity(E, labels),
        )  # fmt: skip
    columns["leak"] = leak(model, xr[:, :leak_samples], vr[:, :leak_samples])
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
    rows = [cluster_statistics(k, labels, predictions[o]) for k, o in zip(K, outer, strict=True)]
    return table.join(pd.DataFrame(rows))


def baseline_table(
    train: Float[Tensor, "outer m d"],
    x: Float[Tensor, "outer n d"],
    labels: Int[Tensor, "n"],
    predictions: Int[Tensor, "outer n"],
    ks: list[int],
    samples: int = 2000,
) -> pd.DataFrame:
    """The clusterings of `clusters.baselines` at `ks[o]` clusters for outer model o, a row each.

    Fitted on the first 5 `samples` training activations, applied to the first `samples` test activations.
    """
    rows = []
    for o, k in enumerate(ks):
        test = x[o, :samples]
        for name, (assignment, x_hat) in clusters.baselines(train[o, : 5 * samples], test, k, seed=o).items():
            K = nn.functional.one_hot(assignment, k).to(x.dtype).T
            rows.append(
                dict(
                    model=name,
                    outer=o,
                    inner=0,
                    fvu=float(metrics.fvu(test, x_hat)),
                    hard_fvu=float(metrics.fvu(test, x_hat)),
                    spread=1.0,
                    **cluster_statistics(K, labels[:samples], predictions[o, :samples]),
                )
            )
    return pd.DataFrame(rows)


def cluster_statistics(
    K: Float[Tensor, "k n"], labels: Int[Tensor, "n"], predictions: Int[Tensor, "n"]
) -> dict[str, float]:
    """What one clustering says of labels and predictions.

    used, effective (perplexity of the mean assignment), nmi/ari against both, nmi_shuffled (against
    shuffled predictions), digits (a cluster, by prediction), bisemantic, split_rank, six_rank,
    six_rank_shuffled, opposition.
    """
    k, hard = len(K), K.argmax(0)
    g = torch.Generator().manual_seed(0)
    shuffles = [predictions[torch.randperm(len(predictions), generator=g)] for _ in range(5)]
    counts = clusters.contingency(hard, predictions, k)
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
    return (
        float("nan") if np.isnan(confidence[6]) else float(rankdata(np.nan_to_num(confidence, nan=np.inf))[6])
    )


def seed_agreement(K: Float[Tensor, "replicas k n"], inner: int) -> Float[np.ndarray, "outer"]:
    """Mean ARI between the clusterings of the inner seeds of each outer model; NaN for one inner seed."""
    hard = K.argmax(1).unflatten(0, (-1, inner)).numpy()
    pairs = [(i, j) for i in range(inner) for j in range(i)]
    return np.array([np.mean([metrics.ari(h[i], h[j]) for i, j in pairs]) if pairs else np.nan for h in hard])


def selectivity(E: Float[Tensor, "replicas n d"], labels: Int[Tensor, "n"]) -> Float[Tensor, "replicas"]:
    """Best one-digit-against-rest AUC of a unit (either sign), mean over live units.

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


def by_outer(table: pd.DataFrame, column: str, model: str) -> np.ndarray:
    """`column` of `model`, inner seeds averaged within each outer seed: one value a unit of replication."""
    return table[table["model"] == model].groupby("outer")[column].mean().sort_index().to_numpy()


def probe_auc(z_train: Tensor, labels_train: Tensor, z_test: Tensor, labels_test: Tensor) -> np.ndarray:
    """Test AUC of a linear one-against-rest probe of each class on activations `(n, d)`; `(10,)`."""
    targets = nn.functional.one_hot(labels_train, 10).double().numpy()
    probe = LinearDiscriminantAnalysis()
    scores = []
    for digit in range(10):
        fitted = probe.fit(z_train.numpy(), targets[:, digit])
        scores.append(roc_auc_score(labels_test.numpy() == digit, fitted.decision_function(z_test.numpy())))
    return np.array(scores)


def standardise(train: Float[Tensor, "outer n d"], *others: Tensor) -> tuple[Tensor, ...]:
    """All activations centred on the training mean and divided by one number an outer model: geometry is kept."""
    mean = train.mean(1, keepdim=True)
    scale = (train - mean).square().mean((1, 2), keepdim=True).sqrt()
    return tuple((z - mean) / scale for z in (train, *others))


def gaussian_table(
    names: list[str], centres: int, seeds: int, *, steps: int, batch: int, lr: float
) -> pd.DataFrame:
    """Inner models trained on `centres` isotropic Gaussians in three dimensions; a row a model and seed.

    One Gaussian is noise around one point: no prediction that does not see the sample has an expected FVU
    below 1. The second view has the same centres and independent noise. Test statistics on fresh samples:
    fvu, used clusters, leak.
    """
    g = torch.Generator().manual_seed(seeds + centres)
    spread = 1.0 if centres == 1 else 0.1
    middle = torch.randn(seeds, centres, 3, generator=g) * (centres > 1)
    labels = torch.randint(centres, (seeds, 20000), generator=g)
    signal = middle.gather(1, labels[..., None].expand(-1, -1, 3))
    x, view = (signal + spread * torch.randn(signal.shape, generator=g) for _ in range(2))
    x, view = standardise(x, view)
    rows = []
    for name in names:
        model = inner_models.build(name, seeds, seed=seeds)
        inner_models.train(
            model,
            x[:, :15000],
            view[:, :15000],
            inner=1,
            steps=steps,
            batch=batch,
            lr=lr,
            name=f"{name} on noise",
        )
        test, seen = x[:, 15000:], view[:, 15000:]
        with torch.no_grad():
            fvu = metrics.fvu(test, model(test, seen))
            used = metrics.used_clusters(model.assign(test, seen).argmax(1), 12)
        leaked = leak(model, test[:, :32], seen[:, :32])
        for seed, values in enumerate(zip(fvu.tolist(), used.tolist(), leaked.tolist(), strict=True)):
            rows.append(
                dict(model=name, seed=seed, **dict(zip(("fvu", "used", "leak"), values, strict=True)))
            )
    return pd.DataFrame(rows)
