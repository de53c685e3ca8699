"""The factorial comparison of dictionaries: how it was trained x how latents are selected x which coefficients.

Every method trains on the same batches in one pass over them; each job (data, k) runs in a process of its own.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import joblib
import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from lib import coding, recovery
from lib.dictionaries import L1, BatchTopK, Code, Dictionary, Hybrid, Projective, Ridge, TopK, shrinkage
from lib.metrics import fvu
from lib.planted import Planted
from lib.progress import progress
from lib.projection import effective_dimension
from lib.selection import flatten
from lib.streaming import fit

DEAD = 20_000  # samples without use after which a latent is dead, some 600 times the mean interval
ALPHA, IMPORTANCE, BUDGET = 0.005, 30.0, 0.8  # of the penalty; mean e^2; share of k
METHODS: dict[str, tuple[type[Dictionary], dict]] = {
    "top-k": (TopK, {"dead_after": DEAD}),
    "tied top-k": (TopK, {"dead_after": DEAD, "tied": True}),
    "BatchTopK": (BatchTopK, {"dead_after": DEAD}),
    "ReLU + L1": (L1, {}),
    "tied projection": (Projective, {}),
    "OMP projection": (Projective, {"support": "omp"}),
    "ridge": (Ridge, {"strength": ALPHA}),
    "tied ridge": (Ridge, {"strength": ALPHA, "tied": True}),
    "ridge, normalised": (Ridge, {"quota": "normalised", "strength": IMPORTANCE}),
    "ridge, budget": (Ridge, {"quota": "budget"}),
    "ridge, no quota": (Ridge, {"quota": "none"}),
    "hybrid": (Hybrid, {"dead_after": DEAD}),
    "tied hybrid": (Hybrid, {"dead_after": DEAD, "tied": True}),
    "penalised hybrid": (Hybrid, {"dead_after": DEAD, "penalty": ALPHA}),
    "penalised tied hybrid": (Hybrid, {"dead_after": DEAD, "penalty": ALPHA, "tied": True}),
}
CORE = ("top-k", "tied top-k", "tied projection", "ridge", "tied ridge", "hybrid")
SELECTIONS = ("own", "threshold", "OMP")


def build(name: str, d: int, n: int, k: int, *, replicas: int, generator: Generator, **options) -> Dictionary:
    """The untrained dictionary of a method, by its name in METHODS."""
    kind, extra = METHODS[name]
    extra = dict(extra)
    if name == "ridge, budget":
        extra["strength"] = BUDGET * k
    if kind is L1:
        k = min(n, d) - 1  # every active latent, as far as a code can be refitted
    return kind(d, n, k, replicas=replicas, generator=generator, **extra, **options)


@torch.no_grad()
def initialise(model: Dictionary, x: Tensor) -> None:
    """The centre at the mean of a first batch, `(replicas, batch, d)`."""
    model.centre.copy_(x.mean(1).expand_as(model.centre))


def parallel(function: Callable, jobs: Sequence[Mapping], name: str) -> list:
    """`function(**job)` for every job, in order, in as many processes as there are cores, each on one."""
    run = joblib.Parallel(n_jobs=min(len(jobs), joblib.cpu_count()), return_as="generator")
    results = run(joblib.delayed(_alone)(function, job) for job in jobs)
    return list(progress(results, name, total=len(jobs)))


def _alone(function: Callable, job: Mapping):
    torch.set_num_threads(1)
    return function(**job)


def planted(
    kind: str,
    k: int,
    methods: Sequence[str],
    *,
    seeds: int,
    steps: int,
    rates: Mapping[str, float],
    seed: int = 0,
    starts: int = 1,
    batch: int = 128,
    samples: int = 2000,
    selections: Sequence[str] = SELECTIONS,
) -> dict[str, pd.DataFrame]:
    """Trains and measures methods on one kind of planted dictionary, each seed from `starts` initial states.

    Returns tidy frames: "codes" (method, seed, selection, coefficients, fvu, l0, negative), "dictionaries" (method,
    seed and everything of `measure`) and "curves" (method, seed, step, fvu, recovery).
    """
    generator = torch.Generator().manual_seed(1000 * seed + 17)
    data = Planted(kind, replicas=seeds, generator=generator)
    features = data.features.repeat_interleave(starts, 0)
    x, z = (part.repeat_interleave(starts, 0) for part in data.sample(samples, generator))
    x, z = x / data.scale, z / data.scale
    stream = (part.repeat_interleave(starts, 0) for part in data.stream(batch, generator))
    options = {"replicas": seeds * starts, "generator": generator}
    models = {name: build(name, data.d, data.n, k, **options) for name in methods}
    for model in models.values():
        initialise(model, x)
    stages = tuple(sorted({max(1, int(steps * share)) for share in (1 / 24, 1 / 12, 1 / 4, 1 / 2, 1)}))
    before = {name: measure_ridge(model, x) for name, model in models.items() if isinstance(model, Ridge)}
    fitted = fit(models, stream, steps=steps, lr=rates, snapshots=stages, name=f"{kind}, k = {k}")
    codes, rows, curves = [], [], []
    about = {"kind": kind, "k": k}
    for name, model in models.items():
        codes.append(code_table(model, x, selections=selections).assign(method=name, **about))
        row = measure(model, x, z, features, data.parent)
        if isinstance(model, Ridge):
            row |= measure_ridge(model, x)
            row |= {f"{key}, untrained": value for key, value in before[name].items()}
            middle = fitted.snapshots[max(1, steps // 2)][name]
            row["growth"] = row["square"] / _mean_square(build(name, data.d, data.n, k, **options), middle, x)
        if starts > 1:
            first, second = model.decoder[::starts], model.decoder[1::starts]
            row["stability"] = recovery.stability(first, second).detach().repeat_interleave(starts)
        frame = pd.DataFrame({key: np.asarray(value.detach(), float) for key, value in row.items()})
        rows.append(frame.assign(method=name, replica=range(len(frame)), **about))
        for step in stages:
            copy = build(name, data.d, data.n, k, **options)
            copy.load_state_dict(fitted.snapshots[step][name])
            copy.eval()
            with torch.no_grad():
                at = {
                    "fvu": fvu(x, copy(x)),
                    "recovery": recovery.recovered(copy.decoder, features)["recovery"],
                }
            frame = pd.DataFrame({key: value.numpy() for key, value in at.items()})
            curves.append(frame.assign(method=name, step=step, replica=range(len(frame)), **about))
    frames = {"codes": codes, "dictionaries": rows, "curves": curves}
    return {key: _per_seed(pd.concat(value, ignore_index=True), starts) for key, value in frames.items()}


def _per_seed(frame: pd.DataFrame, starts: int) -> pd.DataFrame:
    frame = frame.assign(seed=frame["replica"] // starts).drop(columns="replica")
    keys = [
        key for key in frame if key in ("kind", "k", "method", "seed", "selection", "coefficients", "step")
    ]
    return frame.groupby(keys, sort=False, dropna=False).mean().reset_index()


@torch.no_grad()
def code_table(
    model: Dictionary, a: Tensor, y: Tensor | None = None, *, selections=SELECTIONS, few: int = 500
) -> pd.DataFrame:
    """FVU, L0 and share of negative coefficients of every selection with every kind of coefficients, a replica.

    "own" is the model's support; "threshold" and "OMP" take k rows of its decoder by the target. The amplitudes (and,
    for ridge, the importances) of a support are the encoder's scores. "as trained" is the model's own output. NNLS,
    solved a sample at a time, is measured on `few` samples, and so is "least squares, few", its yardstick.
    """
    model.eval()
    own_output, rows = model(a, y), []
    target = (a if y is None else y).expand_as(own_output)
    inputs, y0 = model.prepare(a, y)
    code = model.select(inputs)
    scores = torch.baddbmm(model.bias[:, None], inputs, model.rows.mT).relu()
    for selection in selections:
        if selection == "own":
            index, valid, strength = code.index, code.valid, code.strength
            if isinstance(model, Projective):
                strength = scores.gather(2, index)
        else:
            k = min(
                model.k, int(code.valid.sum(-1).float().mean().round()) if isinstance(model, L1) else model.k
            )
            choose = coding.threshold if selection == "threshold" else coding.omp
            index = choose(model.decoder, y0, max(1, k))
            valid, strength = torch.ones_like(index, dtype=torch.bool), scores.gather(2, index)
        for how in coding.COEFFICIENTS:
            cut = slice(few if how == "NNLS" else None)
            part = [v[:, cut] for v in (index, strength, valid, y0)]
            beta = coding.coefficients(how, model.decoder, *part)
            y_hat = torch.stack(
                [(b[..., None] * D[i]).sum(1) for b, D, i in zip(beta, model.decoder, part[0], strict=True)]
            )
            rows.append((selection, how, fvu(part[3], y_hat), *_counts(beta, part[2])))
            if how == "least squares":
                first = slice(few)
                rows.append(
                    (
                        selection,
                        "least squares, few",
                        fvu(y0[:, first], y_hat[:, first]),
                        *_counts(beta, valid),
                    )
                )
    l0 = code.valid.sum(-1).float().mean(-1)
    rows.append(("own", "as trained", fvu(target, own_output), l0, torch.zeros(model.replicas)))
    frames = [
        pd.DataFrame({"fvu": error, "l0": count, "negative": negative}).assign(
            selection=selection, coefficients=how, replica=range(model.replicas)
        )
        for selection, how, error, count, negative in rows
    ]
    return pd.concat(frames, ignore_index=True)


def _counts(beta: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Latents in use a sample, and the share of them with a negative coefficient."""
    used = valid.sum((1, 2)).clamp_min(1)
    return valid.sum(-1).float().mean(-1), ((beta < 0) & valid).sum((1, 2)) / used


@torch.no_grad()
def measure(model: Dictionary, x: Tensor, z: Tensor, features: Tensor, parent: Tensor) -> dict[str, Tensor]:
    """Statistics of a trained dictionary against the planted truth, a value a replica.

    Those of `lib.recovery`; `used` and `dead` latents (a number, a share) on the test samples; `slope` of the strengths
    and `slope_ls` of least-squares coefficients on the same support; `bias`, the largest |bias|.
    """
    model.eval()
    inputs, y = model.prepare(x)
    code = model.select(inputs)
    on = recovery.selected(code.index, code.valid, model.n)
    out = recovery.recovered(model.decoder, features)
    out["used"] = on.any(1).sum(1).float()
    out["dead"] = 1 - out["used"] / model.n
    out["bias"] = model.bias.abs().amax(1)
    fit_ls = coding.coefficients("least squares", model.decoder, code.index, code.strength, code.valid, y)
    for name, beta in (("slope", torch.where(code.valid, code.strength, 0.0)), ("slope_ls", fit_ls)):
        out[name] = recovery.shrinkage(recovery.dense(code.index, beta, model.n), model.decoder, features, z)
    if (parent >= 0).any():
        out |= recovery.absorption(on, model.decoder, features, z, parent)
    return out


@torch.no_grad()
def measure_ridge(model: Ridge, x: Tensor) -> dict[str, Tensor]:
    """How a ridge dictionary uses its importances e, a value a replica.

    `square`: mean e^2; `dimension_error`: how far the sum of 1/(1 + lambda) is from tr H, relative, and `conservative`: the
    share of samples where tr H is at most the sum; `ranks`: mean Spearman correlation within a sample of e_j with the
    error that leaving column j out would add.
    """
    model.eval()
    inputs, y = model.prepare(x)
    code = model.select(inputs)
    e = code.strength
    exact = effective_dimension(model.table, flatten(code.index, model.n), e.flatten(0, 1)).view(e.shape[:2])
    guess = shrinkage(e).sum(-1)
    some = exact > 1e-6
    relative = torch.where(some, (guess - exact).abs() / exact.clamp_min(1e-6), 0.0)
    beta = model.project(code, y).coefficients.view(e.shape)
    added = _leave_one_out(model, code, beta)
    return {
        "square": e.square().sum((1, 2)) / code.valid.sum((1, 2)).clamp_min(1),
        "dimension_error": relative.sum(1) / some.sum(1).clamp_min(1),
        "conservative": ((exact <= guess * (1 + 1e-5)) & some).sum(1) / some.sum(1).clamp_min(1),
        "ranks": _rank_correlation(e, added, code.valid),
    }


def _leave_one_out(model: Ridge, code: Code, beta: Tensor) -> Tensor:
    """beta_j^2 / ((X^T X + diag(lambda))^-1)_jj: what the ridge objective rises by without column j."""
    rows = torch.stack([D[i] for D, i in zip(model.decoder, code.index, strict=True)])
    scaled = code.strength[..., None] * (rows @ rows.mT) * code.strength[..., None, :]
    inverse = (
        torch.linalg.inv(scaled + torch.eye(model.k)).diagonal(dim1=-2, dim2=-1) * code.strength.square()
    )
    return torch.where(code.valid, beta.square() / inverse.clamp_min(1e-12), 0.0)


def _rank_correlation(a: Tensor, b: Tensor, valid: Tensor) -> Tensor:
    """Mean over samples with at least 3 valid entries of Spearman's correlation (no ties among continuous values)."""

    def ranks(v: Tensor) -> Tensor:
        order = torch.where(valid, v, torch.inf).argsort(-1).argsort(-1).float()
        count = valid.sum(-1, keepdim=True)
        return torch.where(valid, order - (count - 1) / 2, 0.0)

    x, y = ranks(a), ranks(b)
    enough = valid.sum(-1) >= 3
    value = (x * y).sum(-1) / (x.square().sum(-1) * y.square().sum(-1)).sqrt().clamp_min(1e-12)
    return torch.where(enough, value, 0.0).sum(1) / enough.sum(1).clamp_min(1)


def _mean_square(model: Ridge, state: Mapping[str, Tensor], x: Tensor) -> Tensor:
    model.load_state_dict(state)
    model.eval()
    with torch.no_grad():
        code = model.select(model.prepare(x)[0])
    return code.strength.square().sum((1, 2)) / code.valid.sum((1, 2)).clamp_min(1)


def tune(
    kind: str, k: int, methods: Sequence[str], rates: Iterable[float], *, seeds: int, steps: int, seed: int
) -> pd.DataFrame:
    """Test FVU of every method at every learning rate, on data of their own; all rates train as one batch."""
    rates = list(rates)
    generator = torch.Generator().manual_seed(seed)
    data = Planted(kind, replicas=seeds, generator=generator)
    many = len(rates)
    x = data.sample(1000, generator)[0].repeat_interleave(many, 0) / data.scale
    stream = (part.repeat_interleave(many, 0) for part in data.stream(128, generator))
    models = {m: build(m, data.d, data.n, k, replicas=seeds * many, generator=generator) for m in methods}
    lr = torch.tensor(rates).repeat(seeds)
    for model in models.values():
        initialise(model, x)
    fit(models, stream, steps=steps, lr=dict.fromkeys(models, lr), name="learning rates")
    with torch.no_grad():
        frames = [
            pd.DataFrame({"fvu": fvu(x, model(x)), "lr": lr}).assign(method=m) for m, model in models.items()
        ]
    return pd.concat(frames).groupby(["method", "lr"], sort=False)["fvu"].mean().unstack("lr")
