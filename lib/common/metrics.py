"""Statistics of reconstructions, sparse codes, representations and clusterings, over leading replicas."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def variation(x: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch"]:
    """Sum over samples of the squared distance from their mean: what an FVU is a fraction of."""
    return (x - x.mean(-2, keepdim=True)).square().sum((-2, -1))


def fvu(x: Float[Tensor, "*batch n d"], x_hat: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch"]:
    """Fraction of variance unexplained: sum |x - x_hat|^2 / sum |x - mean x|^2 over samples.

    0 for a perfect reconstruction, 1 for predicting the mean. Both sums run over all the samples given,
    so means over minibatches do not enter. Raises ValueError on differing shapes or constant x.
    """
    if x.shape != x_hat.shape:
        raise ValueError(f"x is {tuple(x.shape)} and x_hat is {tuple(x_hat.shape)}; they must agree")
    total = variation(x)
    if (total == 0).any():
        raise ValueError("x is constant: the fraction of variance unexplained is not defined")
    return (x - x_hat).square().sum((-2, -1)) / total


def pca_fvu(
    x: Float[Tensor, "*batch m d"], *, train: Float[Tensor, "*batch n d"], k: int
) -> Float[Tensor, "*batch"]:
    """FVU of x projected on the mean and the k principal components of `train`."""
    mean = train.mean(-2, keepdim=True)
    components = torch.linalg.svd(train - mean, full_matrices=False).Vh[..., :k, :]
    x = x - mean
    return fvu(x, x @ components.mT @ components)


def mean_and_rms(
    x: Float[Tensor, "*batch n d"],
) -> tuple[Float[Tensor, "*batch 1 d"], Float[Tensor, "*batch 1 1"]]:
    """The mean and the root mean square about it by which activations are standardised: (x - mean) / rms.

    One scale for all coordinates: directions keep their angles, and coordinates have a root mean square of 1 on
    average.
    """
    mean = x.mean(-2, keepdim=True)
    return mean, (x - mean).square().mean((-2, -1), keepdim=True).sqrt()


def standardise(
    train: Float[Tensor, "*batch n d"], *others: Float[Tensor, "*batch _ d"]
) -> tuple[Tensor, ...]:
    """`train` and all others, less the mean of `train` and divided by its root mean square (`mean_and_rms`)."""
    mean, rms = mean_and_rms(train)
    return tuple((x - mean) / rms for x in (train, *others))


def live(E: Float[Tensor, "*batch n d"], *, tolerance: float = 1e-6) -> Tensor:
    """Units whose activation is above `tolerance` for at least one sample; bool `(..., d)`."""
    return (E.abs() > tolerance).any(-2)


def l0(E: Float[Tensor, "*batch n d"], *, tolerance: float = 1e-6) -> Float[Tensor, "*batch"]:
    """Mean number of active units per sample, those above `tolerance`."""
    return (E.abs() > tolerance).float().sum(-1).mean(-1)


def hoyer(E: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch"]:
    """Hoyer sparseness (sqrt d - |e|_1/|e|_2)/(sqrt d - 1) per sample, over live units; mean over samples.

    1: one active unit; 0: all live units equally active. Samples without activity are left out, and a
    model with fewer than two live units has 0. Hoyer 2004, section 3.1.
    """
    E = E.abs()
    root = live(E).sum(-1).to(E.dtype).sqrt()[..., None]
    norm = E.square().sum(-1).sqrt()
    value = (root - E.sum(-1) / norm.clamp_min(1e-30)) / (root - 1).clamp_min(1e-30)
    return _mean_over_active(torch.where(root > 1, value, 0.0), norm)


def gini(E: Float[Tensor, "*batch n d"]) -> Float[Tensor, "*batch"]:
    """Gini index of |activations| per sample, over live units; mean over samples (Hurley & Rickard 2009).

    0: all equal; (d - 1)/d: one active unit of d.
    """
    E = E.abs()
    units = live(E).sum(-1).to(E.dtype)[..., None]
    # Dead units are zeros and sort first: their ranks are subtracted, so that they do not count.
    rank = torch.arange(1, E.shape[-1] + 1, dtype=E.dtype) - (E.shape[-1] - units)[..., None]
    total = E.sum(-1)
    weighted = (E.sort(-1).values * rank).sum(-1)
    value = 2 * weighted / (units * total).clamp_min(1e-30) - (units + 1) / units.clamp_min(1)
    return _mean_over_active(value, total)


def _mean_over_active(value: Tensor, activity: Tensor) -> Tensor:
    active = activity > 0
    return torch.where(active, value, 0.0).sum(-1) / active.sum(-1).clamp_min(1)


def copies(E: Float[Tensor, "*batch n d"], *, above: float = 0.95) -> Float[Tensor, "*batch"]:
    """Share of live units that have a copy: another live unit whose correlation with it is > `above`."""
    centred = E - E.mean(-2, keepdim=True)
    norm = centred.norm(dim=-2)
    varies = norm > 1e-6 * E.shape[-2] ** 0.5
    unit = torch.where(varies[..., None, :], centred / norm.clamp_min(1e-30)[..., None, :], 0.0)
    correlation = unit.mT @ unit
    correlation = correlation - torch.diag_embed(correlation.diagonal(dim1=-2, dim2=-1))
    return (correlation > above).any(-1).sum(-1) / varies.sum(-1).clamp_min(1)


def perplexity(p: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
    """exp of the Shannon entropy of p, normalised to sum 1: an effective number of categories."""
    p = p / p.sum(-1, keepdim=True).clamp_min(1e-30)
    return torch.exp(-(p * p.clamp_min(1e-30).log()).sum(-1))


def used_clusters(assignment: Tensor, k: int, *, share: float = 1e-3) -> Tensor:
    """Number of clusters, of k, that hold more than `share` of the samples; int `(...)` from int `(..., n)`."""
    sizes = torch.zeros(*assignment.shape[:-1], k)
    sizes.scatter_add_(-1, assignment, torch.ones(assignment.shape))
    return (sizes > share * assignment.shape[-1]).sum(-1)


def nmi(a, b) -> float:
    """Normalised mutual information of two labellings (arithmetic mean of the entropies), in [0, 1]."""
    from sklearn import metrics as sk  # imported here: it takes a second, and `lib.dictionaries` needs none

    return float(sk.normalized_mutual_info_score(np.asarray(a), np.asarray(b)))


def ari(a, b) -> float:
    """Adjusted Rand index of two labellings: 1 for equal partitions, 0 expected by chance."""
    from sklearn import metrics as sk

    return float(sk.adjusted_rand_score(np.asarray(a), np.asarray(b)))


def cka(x: Float[Tensor, "n p"], y: Float[Tensor, "n q"]) -> float:
    """Linear centred kernel alignment, |Y^T X|_F^2 / (|X^T X|_F |Y^T Y|_F) of centred x and y.

    1 for representations equal up to rotation and scale. Kornblith et al. 2019, eq. 4.
    """
    x, y = (a.double() - a.double().mean(0) for a in (x, y))
    return float((y.T @ x).square().sum() / ((x.T @ x).norm() * (y.T @ y).norm()))


def linear_r2(
    predictors: Float[Tensor, "*batch n k"], target: Float[Tensor, "*batch n d"]
) -> Float[Tensor, "*batch"]:
    """R^2 of the least-squares prediction (with intercept) of target; 1 - FVU of the fit."""
    x = torch.cat([predictors, torch.ones_like(predictors[..., :1])], -1).double()
    y = target.double()
    # gelsd copes with the collinear columns of soft assignments, which sum to one.
    beta = torch.linalg.lstsq(x, y, driver="gelsd").solution
    return (1 - fvu(y, x @ beta)).to(target.dtype)
