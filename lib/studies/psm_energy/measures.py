"""What the energy-matching study measures of one set of probe directions (one layer, model and seed), as tables.

Every function takes directions `(n, d)`, or draws of them, and returns one row per target, kernel and so on. Dimensions
are f = (n + 1) // 2 unless given, below the n - 1 in which the simplex is the only minimum.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from lib.energy import excess_energy, matching, nulls, objective
from lib.energy.objective import KERNELS, equal_weights, similarity
from lib.studies.psm_energy import slides

STRENGTH = 100.0  # lambda_d
PENALTY = 100.0  # lambda_x
# Root mean square length of directions where lengths count: |x_i - x_j|^2 is then about C = 200.
LENGTH = 10.0
RESTARTS = 8
AGAIN = "converged, other perturbation"


def dimensions(n: int) -> int:
    """f for n features: half of them, rounded up."""
    return (n + 1) // 2


def targets(
    directions: Tensor, others: Mapping[str, Tensor], *, draws: int, generator: torch.Generator
) -> dict[str, Tensor]:
    """PSMs `(draws, n, n)` by name: the real one (a single draw), those of `others`, and the nulls that need only it.

    `others`: directions `(draws, n, d)`: shuffled labels, random weights.
    """
    n, d = directions.shape
    real = similarity(directions)
    gaussian = torch.randn(draws, n, d, generator=generator, dtype=directions.dtype)
    return {
        "real": real[None],
        "edge-shuffled": nulls.edge_shuffled(real, draws, generator=generator),
        **{name: similarity(x) for name, x in others.items()},
        "coordinate-permuted": similarity(nulls.coordinate_permuted(directions, draws, generator=generator)),
        "random directions": similarity(gaussian),
    }


def measured(
    found: Mapping[str, Tensor], *, f: int | None = None, kernels: Sequence[str] = KERNELS
) -> pd.DataFrame:
    """`excess_energy.measure` per target: rows target, draw, kernel, misfit, excess, gradient, distance, converged."""
    stacked = torch.cat(list(found.values()))
    n = stacked.shape[-1]
    f = dimensions(n) if f is None else f
    fitted = matching.fit(stacked, f, restarts=RESTARTS)
    names = [name for name, psms in found.items() for _ in range(len(psms))]
    draws = [draw for psms in found.values() for draw in range(len(psms))]
    parts = []
    for kernel in kernels:
        got = excess_energy.measure(stacked, f, kernel=kernel, fitted=fitted)
        columns = {name: getattr(got, name).numpy() for name in got.__dataclass_fields__}
        parts.append(
            pd.DataFrame({"target": names, "draw": draws, "kernel": kernel, "n": n, "f": f} | columns)
        )
    return pd.concat(parts, ignore_index=True)


def p_values(table: pd.DataFrame, *, kernel: str = "exp", column: str = "excess") -> pd.Series:
    """Of each null in `measured`, the share at least as low as the real target (`nulls.p_value`)."""
    own = table[table["kernel"] == kernel]
    real = own.loc[own["target"] == "real", column].item()
    rest = own[own["target"] != "real"].groupby("target", sort=False)[column]
    return rest.apply(lambda null: nulls.p_value(real, torch.tensor(null.to_numpy())))


def scaled(directions: Tensor) -> Tensor:
    """Directions `(..., n, d)`, all by one factor, brought to a root mean square length of LENGTH."""
    return directions * (LENGTH / directions.square().sum(-1).mean().sqrt())


def rbf_distances(
    found: Mapping[str, Tensor], *, f: int | None = None, kernels: Sequence[str] = KERNELS
) -> pd.DataFrame:
    """The distance of `measured` for `scaled` directions `(draws, n, d)`, RBF similarity, and their lengths held."""
    stacked = torch.cat(list(found.values()))
    b, n, _ = stacked.shape
    f = dimensions(n) if f is None else f
    norms, wanted = stacked.norm(dim=-1), similarity(stacked, "rbf")
    again = [t.repeat_interleave(RESTARTS, 0) for t in (wanted, norms)]
    p = objective.problems(b * RESTARTS, kind="rbf", target=again[0], norms=again[1], weights=torch.zeros(n))
    starts = matching.starts(b * RESTARTS, n=n, f=f, generator=_generator(0))
    fits = matching.joint(p, starts)
    fits = fits[matching.best(fits.value, RESTARTS)]
    start = similarity(fits.x, "rbf")
    names = [name for name, x in found.items() for _ in range(len(x))]
    parts = []
    for kernel in kernels:
        ended = matching.reoptimise(fits.x, equal_weights(n), kernel=kernel, norms=norms)
        moved = matching.distance(similarity(ended.x, "rbf"), start).numpy()
        parts.append(pd.DataFrame({"target": names, "kernel": kernel, "distance": moved}))
    return pd.concat(parts, ignore_index=True)


def as_in_slides(
    directions: Tensor,
    sigmas: Sequence[float],
    *,
    seed: int = 0,
    f: int | None = None,
    kinds: Sequence[str] = objective.SIMILARITIES,
    kernels: Sequence[str] = KERNELS,
) -> pd.DataFrame:
    """The slides' two steps through scipy, and converged optimisation from the same starts; directions are `scaled`.

    Rows: kernel, similarity, sigma, method ("Powell", "Powell, norms held", "converged", and AGAIN, from a start that
    differs in its noise), `distance` to the target PSM, and `left`: the share of the possible decrease of the energy,
    from start to the minimum below, that is left where the method stopped (norms brought back to n_i). `weight`: the
    largest importance weight of the joint step times n; `kept`: the same with i = j in the energy (exp alone has it).
    The re-optimisation has equal weights, as the slides found them.
    """
    x = scaled(directions)
    n = len(x)
    f = dimensions(n) if f is None else f
    rows = []
    for kind in kinds:
        target = similarity(x, kind)
        for kernel in kernels:
            setting = slides.Setting(kernel, kind)
            start = LENGTH / f**0.5 * matching.starts(1, n=n, f=f, generator=_generator(seed))[0]
            joint = slides.joint(target.numpy(), start.numpy(), setting=setting, strength=STRENGTH)
            kept = float("nan")
            if kernel == "exp":
                whole = replace(setting, diagonal=True)
                with_diagonal = slides.joint(target.numpy(), start.numpy(), setting=whole, strength=STRENGTH)
                kept = with_diagonal.weights.max() * n
            weights = {"weight": joint.weights.max() * n, "kept": kept}
            fitted = torch.from_numpy(joint.x)
            for sigma in sigmas:
                generator = _generator(seed + 1)
                moved = [matching.perturb(fitted[None], sigma, generator=generator) for _ in range(2)]
                base = {"kernel": kernel, "similarity": kind, "sigma": sigma} | weights
                rows += [
                    base | row for row in _ends(fitted, torch.cat(moved), target=target, setting=setting)
                ]
    return pd.DataFrame(rows)


def importance(target: Tensor, *, f: int | None = None, seed: int = 0) -> pd.DataFrame:
    """The `largest` weight of the converged joint step (best of the restarts) without and with i = j, kernel exp."""
    n = target.shape[-1]
    f = dimensions(n) if f is None else f
    rows = []
    for diagonal in (False, True):
        start = matching.starts(RESTARTS, n=n, f=f, generator=_generator(seed))
        p = objective.problems(
            RESTARTS, target=target, strength=STRENGTH, norms=torch.ones(n), diagonal=diagonal
        )
        found = matching.joint(p, start, evaluations=3000)
        best = matching.best(found.value, RESTARTS)
        rows.append({"diagonal": diagonal, "largest": found.weights[best].max().item(), "n": n})
    return pd.DataFrame(rows)


def drift(target: Tensor, *, f: int | None = None, seed: int = 0) -> pd.Series:
    """log10 of the mean length after the joint step over that before, lengths free, cosine similarity, by kernel."""
    n = target.shape[-1]
    f = dimensions(n) if f is None else f
    start = matching.starts(RESTARTS, n=n, f=f, generator=_generator(seed))
    found = {}
    for kernel in KERNELS:
        p = objective.problems(RESTARTS, kernel, target=target, strength=STRENGTH, weights=equal_weights(n))
        ended = matching.joint(p, start)
        best = matching.best(ended.value, RESTARTS)
        lengths = [x[best].norm(dim=-1).mean() for x in (ended.x, start)]
        found[kernel] = (lengths[0] / lengths[1]).log10().item()
    return pd.Series(found)


def norms_inert(target: Tensor, *, f: int | None = None, seed: int = 0) -> pd.Series:
    """Distance between the PSMs that re-optimisation ends at with lengths held and with lengths free, by kernel.

    From the fitted configuration with lengths of 1 to 2.
    """
    n = target.shape[-1]
    f = dimensions(n) if f is None else f
    norms = 1 + torch.rand(1, n, generator=_generator(seed), dtype=torch.float64)
    x = objective.held(matching.fit(target[None], f, restarts=RESTARTS).x, norms)
    found = {}
    for kernel in KERNELS:
        held = matching.reoptimise(x, equal_weights(n), kernel=kernel)
        free = matching.joint(objective.problems(1, kernel, weights=equal_weights(n)), x)
        found[kernel] = matching.distance(similarity(held.x), similarity(free.x)).item()
    return pd.Series(found)


def regularised(
    target: Tensor, strengths: Sequence[float], *, f: int | None = None, starts: int = 2
) -> pd.DataFrame:
    """Distance to the target after the joint step, lengths 1 and weights equal: rows strength, start, distance."""
    n = target.shape[-1]
    f = dimensions(n) if f is None else f
    rows = []
    for seed in range(starts):
        for strength in strengths:
            start = matching.starts(RESTARTS, n=n, f=f, generator=_generator(seed))
            p = objective.problems(
                RESTARTS, target=target, strength=strength, norms=torch.ones(n), weights=equal_weights(n)
            )
            found = matching.joint(p, start)
            best = found[matching.best(found.value, RESTARTS)]
            moved = matching.distance(similarity(best.x)[0], target).item()
            rows.append({"strength": strength, "start": seed, "distance": moved})
    return pd.DataFrame(rows)


def _ends(fitted: Tensor, moved: Tensor, *, target: Tensor, setting: slides.Setting) -> list[dict]:
    """One row per method; `moved` `(2, n, f)`: the start of all, and that of AGAIN."""
    norms, equal = fitted.norm(dim=-1), equal_weights(len(fitted))

    def powell(penalty: float | None) -> Tensor:
        start, held = moved[0].numpy(), norms.numpy()
        found = slides.reoptimise(start, norms=held, weights=equal.numpy(), setting=setting, penalty=penalty)
        return torch.from_numpy(found.x)[None]

    converged = matching.reoptimise(moved, equal, kernel=setting.kernel, norms=norms[None]).x
    ends = {
        "Powell": powell(PENALTY),
        "Powell, norms held": powell(None),
        "converged": converged[:1],
        AGAIN: converged[1:],
    }
    before, lowest = (
        objective.energy(objective.held(x[:1], norms), setting.kernel).item() for x in (moved, converged)
    )
    rows = []
    for method, x in ends.items():
        here = objective.energy(objective.held(x, norms), setting.kernel).item()
        apart = matching.distance(similarity(x[0], setting.kind), target).item()
        possible = before - lowest
        left = (here - lowest) / possible if possible > 1e-12 * abs(before) else float("nan")
        rows.append({"method": method, "distance": apart, "energy": here, "left": left})
    return rows


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
