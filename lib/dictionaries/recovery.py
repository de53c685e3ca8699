"""What a dictionary found of the features that were planted: recovery, splitting, absorption, shrinkage, stability.

Dictionaries are unit rows `(replicas, n, d)`, planted features `(replicas, features, d)`; every statistic has one
value a replica.
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

MATCH = 0.9  # |cosine| above which a latent is a feature's
OWN = (
    0.6  # cosine above which a latent counts as a child's or parent's own: (child + parent)/|.| has about .7
)


def similarity(
    D: Float[Tensor, "replicas n d"], F: Float[Tensor, "replicas m d"]
) -> Float[Tensor, "replicas n m"]:
    """Cosines between rows."""
    return torch.nn.functional.normalize(D, dim=-1) @ torch.nn.functional.normalize(F, dim=-1).mT


def recovered(D: Tensor, F: Tensor) -> dict[str, Float[Tensor, "replicas"]]:
    """How well features are found, and latents are features.

    `recovery`: mean over features of the largest |cosine| with a latent (mean max cosine similarity, Sharkey et
    al. 2022); `found`: share of features above 0.9; `genuine`: share of latents above 0.9; `splitting`: latents above
    0.9 beyond the first, a feature found.
    """
    cosine = similarity(D, F).abs()
    of_feature, of_latent = cosine.amax(1), cosine.amax(2)
    many = (cosine > MATCH).sum(1)
    found = many > 0
    return {
        "recovery": of_feature.mean(1),
        "found": (of_feature > MATCH).float().mean(1),
        "genuine": (of_latent > MATCH).float().mean(1),
        "splitting": (many - 1).clamp_min(0).sum(1) / found.sum(1).clamp_min(1),
    }


def stability(
    D: Float[Tensor, "replicas n d"], other: Float[Tensor, "replicas n d"]
) -> Float[Tensor, "replicas"]:
    """Mean over latents of the largest |cosine| with a latent of another start."""
    return similarity(D, other).abs().amax(2).mean(1)


def selected(
    index: Int[Tensor, "replicas batch k"], valid: Tensor, n: int
) -> Bool[Tensor, "replicas batch n"]:
    """Supports as masks."""
    # An index may be listed twice only where it is not valid: those are sent to a column of their own.
    wide = torch.zeros(*index.shape[:2], n + 1, dtype=torch.bool, device=index.device)
    return wide.scatter_(2, torch.where(valid, index, n), True)[..., :-1]


def absorption(
    on: Bool[Tensor, "replicas batch n"], D: Tensor, F: Tensor, z: Tensor, parent: Int[Tensor, "features"]
) -> dict[str, Float[Tensor, "replicas"]]:
    """Absorption of parents by their children (Chanin et al. 2024), where the truth is known.

    A child's own latent is the one nearest to it, with a cosine above 0.6 and not its parent's; the parent's likewise.
    `absorption`: where a child is active and its latent selected, the share in which the parent's, which is
    true there, is not; the mean over children. `alone`: the same share where the parent is active without a
    child. `direction`: cosine of the child's latent with its parent, 0 where nothing is absorbed. `children`: share
    of children with a latent of their own.
    """
    rows = []
    for r in range(len(D)):
        cosine = similarity(D[r : r + 1], F[r : r + 1])[0]
        nearest, latent = cosine.max(0)
        rates, directions, eligible = [], [], 0
        children = torch.nonzero(parent >= 0)[:, 0].tolist()
        for c in children:
            p = int(parent[c])
            own, other = latent[c], latent[p]
            if nearest[c] < OWN or nearest[p] < OWN or own == other:
                continue
            eligible += 1
            directions.append(cosine[own, p])
            here = (z[r, :, c] > 0) & on[r, :, own]
            if here.any():
                rates.append((~on[r, here, other]).float().mean())
        parents = parent[parent >= 0].unique()
        with_child = torch.zeros(z.shape[1], len(F[r]), dtype=torch.bool)
        with_child.index_add_(1, parent[children], z[r][:, children] > 0)
        alone = [
            (~on[r, here, latent[p]]).float().mean()
            for p in parents.tolist()
            if nearest[p] >= OWN and (here := (z[r, :, p] > 0) & ~with_child[:, p]).any()
        ]
        rows.append(
            [_mean(rates), _mean(alone), _mean(directions), torch.tensor(eligible / max(1, len(children)))]
        )
    columns = torch.stack([torch.stack(row) for row in rows]).T
    return dict(zip(("absorption", "alone", "direction", "children"), columns, strict=True))


def _mean(values: list) -> Tensor:
    return torch.stack(values).mean() if values else torch.tensor(torch.nan)


def shrinkage(
    coefficients: Float[Tensor, "replicas batch n"], D: Tensor, F: Tensor, z: Tensor
) -> Float[Tensor, "replicas"]:
    """Slope through the origin of a latent's coefficients on its feature's true ones, where both are active.

    Over latents with a cosine above 0.9 to a feature; 1: no shrinkage; NaN without such a latent. Dense codes.
    """
    cosine = similarity(D, F)
    best, latent = cosine.max(1)
    mine = coefficients.gather(2, latent[:, None].expand(-1, z.shape[1], -1))
    both = (mine != 0) & (z > 0) & (best > MATCH)[:, None]
    x, y = torch.where(both, z, 0.0), torch.where(both, mine, 0.0)
    return (x * y).sum((1, 2)) / x.square().sum((1, 2))


def dense(index: Tensor, values: Tensor, n: int) -> Float[Tensor, "replicas batch n"]:
    """Sparse codes as dense ones; a latent listed twice has the sum."""
    return values.new_zeros(*index.shape[:2], n).scatter_add_(2, index, values)
