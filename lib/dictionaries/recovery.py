"""What a dictionary found of the features that were planted: recovery, splitting, absorption, shrinkage, stability.

A decoder has rows `(replicas, n, d)`, the planted features are `(replicas, features, d)`; every statistic has one value
per replica.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

MATCH = 0.9  # |cosine| above which a latent counts as a feature
# Cosine above which a latent counts as a child's or a parent's own: that of (child + parent)/|.| is about .7.
OWN = 0.6


def cosines(
    decoder: Float[Tensor, "replicas n d"], features: Float[Tensor, "replicas m d"]
) -> Float[Tensor, "replicas n m"]:
    """Cosine of each row with each feature."""
    return F.normalize(decoder, dim=-1) @ F.normalize(features, dim=-1).mT


def recovered(
    decoder: Float[Tensor, "replicas n d"], features: Float[Tensor, "replicas m d"]
) -> dict[str, Float[Tensor, " replicas"]]:
    """How well the features are found, and whether latents are features.

    `recovery`: mean over features of the largest |cosine| with a latent (mean max cosine similarity, Sharkey et
    al. 2022); `found`: share of features above 0.9; `genuine`: share of latents above 0.9; `splitting`: latents above
    0.9 beyond the first, per feature found.
    """
    cosine = cosines(decoder, features).abs()
    of_feature, of_latent = cosine.amax(1), cosine.amax(2)
    matches = (cosine > MATCH).sum(1)
    found = matches > 0
    return {
        "recovery": of_feature.mean(1),
        "found": (of_feature > MATCH).float().mean(1),
        "genuine": (of_latent > MATCH).float().mean(1),
        "splitting": (matches - 1).clamp_min(0).sum(1) / found.sum(1).clamp_min(1),
    }


def stability(
    decoder: Float[Tensor, "replicas n d"], other: Float[Tensor, "replicas n d"]
) -> Float[Tensor, " replicas"]:
    """Mean over latents of the largest |cosine| with a latent of a dictionary from another start."""
    return cosines(decoder, other).abs().amax(2).mean(1)


def absorption(
    active: Bool[Tensor, "replicas batch n"],
    decoder: Float[Tensor, "replicas n d"],
    features: Float[Tensor, "replicas m d"],
    *,
    strengths: Float[Tensor, "replicas batch m"],
    parent: Int[Tensor, " m"],
) -> dict[str, Float[Tensor, " replicas"]]:
    """Absorption of parents by their children (Chanin et al. 2024), where the truth is known.

    `active`: which latents a sample uses; `strengths`: the true ones; `parent`: of each feature, or -1. A child's own
    latent is the one nearest to it, with a cosine above 0.6 and not its parent's; the parent's likewise.

    `absorption`: of the samples with a child active and its latent selected, the share in which the parent's latent is
    not, although the parent is active; the mean over children. `alone`: the same share where the parent is active
    without a child. `direction`: cosine of the child's latent with its parent, 0 where nothing is absorbed.
    `children`: share of children with a latent of their own.
    """
    names = ("absorption", "alone", "direction", "children")
    rows = [_absorption(*parts, parent) for parts in zip(active, decoder, features, strengths, strict=True)]
    return {name: torch.stack(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}


def _absorption(
    active: Tensor, decoder: Tensor, features: Tensor, strengths: Tensor, parent: Tensor
) -> tuple:
    """The four numbers of one replica."""
    cosine = cosines(decoder[None], features[None])[0]
    nearest, latent = cosine.max(0)
    true = strengths > 0
    children = torch.nonzero(parent >= 0)[:, 0].tolist()
    rates, directions = [], []
    for child in children:
        p = int(parent[child])
        if nearest[child] < OWN or nearest[p] < OWN or latent[child] == latent[p]:
            continue
        directions.append(cosine[latent[child], p])
        here = true[:, child] & active[:, latent[child]]
        if here.any():
            rates.append((~active[here, latent[p]]).float().mean())
    with_child = torch.zeros_like(true)
    with_child.index_add_(1, parent[children], true[:, children])
    alone = []
    for p in parent[parent >= 0].unique().tolist():
        here = true[:, p] & ~with_child[:, p]
        if nearest[p] >= OWN and here.any():
            alone.append((~active[here, latent[p]]).float().mean())
    eligible = torch.tensor(len(directions) / max(1, len(children)))
    return _mean(rates), _mean(alone), _mean(directions), eligible


def _mean(values: list[Tensor]) -> Tensor:
    return torch.stack(values).mean() if values else torch.tensor(torch.nan)


def shrinkage(
    codes: Float[Tensor, "replicas batch n"],
    decoder: Float[Tensor, "replicas n d"],
    features: Float[Tensor, "replicas m d"],
    *,
    strengths: Float[Tensor, "replicas batch m"],
) -> Float[Tensor, " replicas"]:
    """Slope through the origin of a latent's (dense) codes on its feature's true strengths, where both are active.

    Over latents with a cosine above 0.9 to a feature; 1: no shrinkage; NaN without such a latent.
    """
    best, latent = cosines(decoder, features).max(1)
    mine = codes.gather(2, latent[:, None].expand(-1, strengths.shape[1], -1))
    both = (mine != 0) & (strengths > 0) & (best > MATCH)[:, None]
    x, y = torch.where(both, strengths, 0.0), torch.where(both, mine, 0.0)
    return (x * y).sum((1, 2)) / x.square().sum((1, 2))
