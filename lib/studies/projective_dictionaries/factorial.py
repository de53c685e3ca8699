"""The factorial comparison of dictionaries: how it was trained x how latents are selected x which coefficients.

Every method trains on the same batches in one pass over them; each job (data, k) runs in a process of its own.
"""

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence

import joblib
import numpy as np
import pandas as pd
import torch
from torch import Generator, Tensor

from lib.common.metrics import fvu
from lib.common.progress import progress
from lib.dictionaries import coding, recovery
from lib.dictionaries.base import L1, BatchTopK, Dictionary, TopK
from lib.dictionaries.planted import Planted
from lib.dictionaries.projective import Hybrid, Projective, Ridge
from lib.dictionaries.training import fit
from lib.studies.projective_dictionaries import importance

DEAD = 20_000  # samples without use after which a latent is dead, some 600 times the mean interval
ALPHA, IMPORTANCE, BUDGET = 0.005, 30.0, 0.8  # of the penalty; mean e^2; share of k
METHODS: dict[str, tuple[type[Dictionary], dict]] = {
    "top-k": (TopK, {"dead_after": DEAD}),
    "tied top-k": (TopK, {"dead_after": DEAD, "tied": True}),
    "BatchTopK": (BatchTopK, {"dead_after": DEAD}),
    "ReLU + L1, 0.1": (L1, {"penalty": 0.1}),
    "ReLU + L1, 0.2": (L1, {"penalty": 0.2}),
    "ReLU + L1, 0.4": (L1, {"penalty": 0.4}),
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


def parallel(jobs: Mapping[str, tuple[Callable, Mapping]], name: str) -> dict:
    """The results of jobs (a function and its arguments), in as many processes as there are cores, each on one."""
    run = joblib.Parallel(n_jobs=min(len(jobs), joblib.cpu_count()), return_as="generator")
    with warnings.catch_warnings():
        # joblib replaces workers that have grown, which is as it should be.
        warnings.filterwarnings("ignore", "A worker stopped while some jobs", UserWarning)
        results = run(joblib.delayed(_alone)(function, settings) for function, settings in jobs.values())
        return dict(zip(jobs, progress(results, name, total=len(jobs)), strict=True))


def _alone(function: Callable, settings: Mapping):
    torch.set_num_threads(1)
    return function(**settings)


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
    before = {
        name: importance.measure(model, x) for name, model in models.items() if isinstance(model, Ridge)
    }
    fitted = fit(models, stream, steps=steps, lr=rates, snapshots=stages, name=f"{kind}, k = {k}")

    def at_step(name: str, step: int) -> Dictionary:
        copy = build(name, data.d, data.n, k, **options)
        copy.load_state_dict(fitted.snapshots[step][name])
        return copy.eval()

    codes, rows, curves = [], [], []
    about = {"kind": kind, "k": k}
    for name, model in models.items():
        codes.append(code_table(model, x, k, selections=selections).assign(method=name, **about))
        row = measure(model, x, z, features, data.parent)
        if isinstance(model, Ridge):
            row |= importance.measure(model, x)
            row |= {f"{key}, untrained": value for key, value in before[name].items()}
            middle = at_step(name, max(1, steps // 2))
            row["growth"] = row["square"] / importance.mean_square(middle, x)
        if starts > 1:
            first, second = model.decoder[::starts], model.decoder[1::starts]
            row["stability"] = recovery.stability(first, second).detach().repeat_interleave(starts)
        frame = pd.DataFrame({key: np.asarray(value.detach(), float) for key, value in row.items()})
        rows.append(frame.assign(method=name, replica=range(len(frame)), **about))
        for step in stages:
            copy = at_step(name, step)
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
    model: Dictionary, x: Tensor, k: int, *, selections=SELECTIONS, few: int = 500
) -> pd.DataFrame:
    """FVU, L0 and share of negative coefficients of every selection with every kind of coefficients, a replica.

    "own" is the model's support; "threshold" and "OMP" take k rows of its decoder by the target. The amplitudes (and,
    for ridge, the importances) of a support are the encoder's scores. "as trained" is the model's own output. NNLS,
    solved a sample at a time, is measured on `few` samples, and so is "least squares, few", its yardstick.
    """
    model.eval()
    own_output, rows = model(x), []
    inputs, y0 = model.prepare(x)
    code = model.select(inputs)
    scores = torch.baddbmm(model.bias[:, None], inputs, model.rows.mT).relu()
    for selection in selections:
        if selection == "own":
            index, valid, strength = code.index, code.valid, code.strength
            if isinstance(model, Projective):
                strength = scores.gather(2, index)
        else:
            choose = coding.threshold if selection == "threshold" else coding.omp
            index = choose(model.decoder, y0, k)
            valid, strength = torch.ones_like(index, dtype=torch.bool), scores.gather(2, index)
        for how in coding.COEFFICIENTS:
            cut = slice(few if how == "NNLS" else None)
            part = [v[:, cut] for v in (index, strength, valid, y0)]
            beta = coding.coefficients(how, model.decoder, *part)
            y_hat = coding.reconstruct(model.decoder, part[0], beta)
            rows.append((selection, how, fvu(part[3], y_hat), *_counts(beta, part[2])))
            if how == "least squares":
                error = fvu(y0[:, :few], y_hat[:, :few])
                rows.append((selection, "least squares, few", error, *_counts(beta, valid)))
    l0 = code.valid.sum(-1).float().mean(-1)
    rows.append(("own", "as trained", fvu(x, own_output), l0, torch.zeros(model.replicas)))
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

    Those of `lib.dictionaries.recovery`; `used` and `dead` latents (a number, a share) on the test samples; `slope` of the strengths
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
        errors = {method: fvu(x, model(x)).numpy() for method, model in models.items()}
    frames = [pd.DataFrame({"fvu": e, "lr": rates * seeds}).assign(method=m) for m, e in errors.items()]
    return pd.concat(frames).groupby(["method", "lr"], sort=False)["fvu"].mean().unstack("lr")


def baselines(
    kind: str, k: int, *, seeds: int, samples: int = 2000, train: int = 4000, seed: int = 0
) -> pd.DataFrame:
    """FVU and recovery without gradient descent: MOD, the true dictionary and a random one (all coded by OMP), and PCA.

    On the planted dictionaries that `planted` uses with the same seed. Tidy: method, seed, fvu, recovery, found.
    """
    generator = torch.Generator().manual_seed(1000 * seed + 17)
    data = Planted(kind, replicas=seeds, generator=generator)
    x, y = (data.sample(n, generator)[0] / data.scale for n in (samples, train))
    mean = y.mean(1, keepdim=True)
    x, y = x - mean, y - mean
    random = torch.nn.functional.normalize(torch.randn(data.features.shape, generator=generator), dim=-1)
    dictionaries = {
        "MOD, OMP": coding.mod(y, data.n, k, generator=generator),
        "true dictionary, OMP": data.features,
        "random dictionary, OMP": random,
    }
    frames = []
    for name, D in dictionaries.items():
        index = coding.omp(D, x, k)
        ones = torch.ones_like(index, dtype=torch.bool)
        beta = coding.coefficients("least squares", D, index, ones.float(), ones, x)
        y_hat = coding.reconstruct(D, index, beta)
        found = recovery.recovered(D, data.features)
        columns = {"fvu": fvu(x, y_hat), "recovery": found["recovery"], "found": found["found"]}
        frames.append(
            pd.DataFrame({key: np.asarray(value) for key, value in columns.items()}).assign(method=name)
        )
    _, _, V = torch.linalg.svd(y, full_matrices=False)
    V = V[:, :k]
    frames.append(pd.DataFrame({"fvu": fvu(x, x @ V.mT @ V).numpy()}).assign(method=f"PCA, {k} components"))
    return pd.concat([f.assign(kind=kind, k=k, seed=range(seeds)) for f in frames], ignore_index=True)
