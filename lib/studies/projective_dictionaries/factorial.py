"""The factorial comparison of dictionaries: how it was trained x how latents are selected x which coefficients.

Every method trains on the same batches in one pass over them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from lib.common.metrics import fvu, pca_fvu
from lib.dictionaries import coding, recovery
from lib.dictionaries.base import Code, Dictionary
from lib.dictionaries.planted import Planted
from lib.dictionaries.projective import Projective, Ridge
from lib.dictionaries.selection import dense, mask
from lib.dictionaries.training import fit
from lib.studies.projective_dictionaries import importance
from lib.studies.projective_dictionaries.methods import build, initialise

SELECTIONS = ("own", "threshold", "OMP")
STAGES = (1 / 24, 1 / 12, 1 / 4, 1 / 2, 1)  # shares of the training after which dictionaries are measured
KEYS = ("kind", "k", "method", "seed", "selection", "coefficients", "step")


# What goes on a support: from a dictionary `(replicas, n, d)`, a code and the targets.
COEFFICIENTS: dict[str, Callable[[Tensor, Code, Tensor], Tensor]] = {
    "amplitude": lambda D, code, y: torch.where(code.valid, code.strength, 0.0),
    "least squares": lambda D, code, y: coding.least_squares(D, code.index, y, valid=code.valid),
    "ridge": lambda D, code, y: coding.ridge(D, code.index, y, importance=code.strength, valid=code.valid),
    "NNLS": lambda D, code, y: coding.nnls(D, code.index, y, valid=code.valid),
}


def planted(
    kind: str,
    methods: Sequence[str],
    *,
    k: int,
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
    seed and everything of `measure`; for ridge dictionaries that of `importance.measure`, the same "untrained", and the
    `growth` of the mean e^2 over the second half of training; with two starts their `stability`) and "curves" (method,
    seed, step, fvu, recovery). All have the columns kind and k; values are means over the starts of a seed.
    """
    generator = torch.Generator().manual_seed(1000 * seed + 17)
    data = Planted(kind, replicas=seeds, generator=generator)
    features = data.features.repeat_interleave(starts, 0)
    x, z = (part.repeat_interleave(starts, 0) for part in data.sample(samples, generator))
    x, z = x / data.scale, z / data.scale
    stream = (part.repeat_interleave(starts, 0) for part in data.stream(batch, generator))
    sizes = {"d_in": data.d, "d_sae": data.n, "k": k, "replicas": seeds * starts, "generator": generator}
    models = {name: build(name, **sizes) for name in methods}
    for model in models.values():
        initialise(model, x)
    ridges = {name: model for name, model in models.items() if isinstance(model, Ridge)}
    before = {name: importance.measure(model, x) for name, model in ridges.items()}
    stages = tuple(sorted({max(1, int(steps * share)) for share in STAGES}))
    fitted = fit(models, stream, steps=steps, lr=rates, snapshots=stages, name=f"{kind}, k = {k}")

    def at_step(name: str, step: int) -> Dictionary:
        copy = build(name, **sizes)
        copy.load_state_dict(fitted.snapshots[step][name])
        return copy.eval()

    codes, dictionaries, curves = [], [], []
    for name, model in models.items():
        about = {"method": name, "kind": kind, "k": k}
        codes.append(code_table(model, x, k=k, selections=selections).assign(**about))
        row = measure(model, x, z=z, features=features, parent=data.parent)
        if name in ridges:
            row |= importance.measure(model, x)
            row |= {f"{key}, untrained": value for key, value in before[name].items()}
            row["growth"] = row["square"] / importance.mean_square(at_step(name, max(1, steps // 2)), x)
        if starts > 1:
            first, second = model.decoder[::starts], model.decoder[1::starts]
            row["stability"] = recovery.stability(first, second).detach().repeat_interleave(starts)
        dictionaries.append(_frame(row).assign(**about))
        for step in stages:
            curves.append(_frame(_at_stage(at_step(name, step), x, features)).assign(step=step, **about))
    frames = {"codes": codes, "dictionaries": dictionaries, "curves": curves}
    return {key: _per_seed(pd.concat(value, ignore_index=True), starts) for key, value in frames.items()}


@torch.no_grad()
def _at_stage(model: Dictionary, x: Tensor, features: Tensor) -> dict[str, Tensor]:
    """FVU and recovery, per replica."""
    return {"fvu": fvu(x, model(x)), "recovery": recovery.recovered(model.decoder, features)["recovery"]}


def _frame(row: Mapping[str, Tensor]) -> pd.DataFrame:
    """A column for each statistic, a row per replica."""
    frame = pd.DataFrame({key: np.asarray(value.detach(), float) for key, value in row.items()})
    return frame.assign(replica=range(len(frame)))


def _per_seed(frame: pd.DataFrame, starts: int) -> pd.DataFrame:
    """Means over the starts of each seed, which are replicas in a row."""
    frame = frame.assign(seed=frame["replica"] // starts).drop(columns="replica")
    keys = [key for key in frame if key in KEYS]
    return frame.groupby(keys, sort=False, dropna=False).mean().reset_index()


@torch.no_grad()
def code_table(
    model: Dictionary, x: Tensor, *, k: int, selections: Sequence[str] = SELECTIONS, few: int = 500
) -> pd.DataFrame:
    """FVU, L0 and share of negative coefficients of every selection with every kind of coefficients, per replica.

    "own" is the model's support; "threshold" and "OMP" take k rows of its decoder by the target. The amplitudes (and,
    for ridge, the importances) of a support are the encoder's scores. "as trained" is the model's own output. NNLS,
    solved a sample at a time, is measured on `few` samples, and so is "least squares, few", its yardstick.
    """
    model.eval()
    own_output, rows = model(x), []
    inputs, y0 = model.prepare(x)
    own = model.select(inputs)
    scores = torch.baddbmm(model.bias[:, None], inputs, model.rows.mT).relu()
    for selection in selections:
        code = _code(selection, model, own, scores, y0, k)
        for how, coefficients in COEFFICIENTS.items():
            samples = few if how == "NNLS" else x.shape[1]
            index, strength, valid, y = (
                part[:, :samples] for part in (code.index, code.strength, code.valid, y0)
            )
            beta = coefficients(model.decoder, Code(index, strength, valid), y)
            y_hat = coding.reconstruct(model.decoder, index, beta)
            rows.append((selection, how, fvu(y, y_hat), *_counts(beta, valid)))
            if how == "least squares":
                error = fvu(y[:, :few], y_hat[:, :few])
                rows.append((selection, "least squares, few", error, *_counts(beta, valid)))
    l0 = own.valid.sum(-1).float().mean(-1)
    rows.append(("own", "as trained", fvu(x, own_output), l0, torch.zeros(model.replicas)))
    frames = [
        pd.DataFrame({"fvu": error, "l0": count, "negative": negative}).assign(
            selection=selection, coefficients=how, replica=range(model.replicas)
        )
        for selection, how, error, count, negative in rows
    ]
    return pd.concat(frames, ignore_index=True)


def _code(selection: str, model: Dictionary, own: Code, scores: Tensor, y: Tensor, k: int) -> Code:
    """The support of a selection; its strengths are the encoder's scores."""
    if selection == "own":
        # What an exact projection calls strengths only ranks: it may be negative, or the same for all.
        strength = scores.gather(2, own.index) if isinstance(model, Projective) else own.strength
        return Code(own.index, strength, own.valid)
    choose = {"threshold": coding.threshold, "OMP": coding.omp}[selection]
    index = choose(model.decoder, y, k=k)
    return Code(index, scores.gather(2, index), torch.ones_like(index, dtype=torch.bool))


def _counts(beta: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean number of latents in use over samples, and the share of them with a negative coefficient."""
    used = valid.sum((1, 2)).clamp_min(1)
    return valid.sum(-1).float().mean(-1), ((beta < 0) & valid).sum((1, 2)) / used


@torch.no_grad()
def measure(
    model: Dictionary, x: Tensor, *, z: Tensor, features: Tensor, parent: Tensor
) -> dict[str, Tensor]:
    """Statistics of a trained dictionary against the planted truth, each `(replicas,)`.

    Those of `lib.dictionaries.recovery`; `used` and `dead` latents (a number, a share) on the test samples; `slope` of
    the strengths and `slope_ls` of least-squares coefficients on the same support; `bias`, the largest |bias|. For
    samples x `(replicas, samples, d)` with true strengths z `(replicas, samples, features)`.
    """
    model.eval()
    inputs, y = model.prepare(x)
    code = model.select(inputs)
    on = mask(code.index, code.valid, n=model.d_sae)
    out = recovery.recovered(model.decoder, features)
    out["used"] = on.any(1).sum(1).float()
    out["dead"] = 1 - out["used"] / model.d_sae
    out["bias"] = model.bias.abs().amax(1)
    fit_ls = coding.least_squares(model.decoder, code.index, y, valid=code.valid)
    for name, beta in (("slope", torch.where(code.valid, code.strength, 0.0)), ("slope_ls", fit_ls)):
        codes = dense(code.index, beta, n=model.d_sae)
        out[name] = recovery.shrinkage(codes, model.decoder, features, strengths=z)
    if (parent >= 0).any():
        out |= recovery.absorption(on, model.decoder, features, strengths=z, parent=parent)
    return out


def tune(
    kind: str,
    methods: Sequence[str],
    *,
    k: int,
    rates: Iterable[float],
    seeds: int,
    steps: int,
    seed: int,
) -> pd.DataFrame:
    """Test FVU of every method at every learning rate, on data of their own; all rates train as one batch.

    A row per method, a column per rate.
    """
    rates = list(rates)
    generator = torch.Generator().manual_seed(seed)
    data = Planted(kind, replicas=seeds, generator=generator)
    many = len(rates)
    x = data.sample(1000, generator)[0].repeat_interleave(many, 0) / data.scale
    stream = (part.repeat_interleave(many, 0) for part in data.stream(128, generator))
    sizes = {"d_in": data.d, "d_sae": data.n, "k": k, "replicas": seeds * many, "generator": generator}
    models = {name: build(name, **sizes) for name in methods}
    lr = torch.tensor(rates).repeat(seeds)
    for model in models.values():
        initialise(model, x)
    fit(models, stream, steps=steps, lr=dict.fromkeys(models, lr), name="learning rates")
    with torch.no_grad():
        errors = {method: fvu(x, model(x)).numpy() for method, model in models.items()}
    frames = [pd.DataFrame({"fvu": e, "lr": rates * seeds}).assign(method=m) for m, e in errors.items()]
    return pd.concat(frames).groupby(["method", "lr"], sort=False)["fvu"].mean().unstack("lr")


def baselines(
    kind: str, *, k: int, seeds: int, samples: int = 2000, train: int = 4000, seed: int = 0
) -> pd.DataFrame:
    """FVU and recovery without gradient descent: MOD, the true dictionary and a random one (all coded by OMP), and PCA.

    On the planted dictionaries that `planted` uses with the same seed. Tidy: method, kind, k, seed, fvu, recovery,
    found.
    """
    generator = torch.Generator().manual_seed(1000 * seed + 17)
    data = Planted(kind, replicas=seeds, generator=generator)
    x, y = (data.sample(n, generator)[0] / data.scale for n in (samples, train))
    mean = y.mean(1, keepdim=True)
    random = torch.nn.functional.normalize(torch.randn(data.features.shape, generator=generator), dim=-1)
    dictionaries = {
        "MOD, OMP": coding.mod(y - mean, n=data.n, k=k, generator=generator),
        "true dictionary, OMP": data.features,
        "random dictionary, OMP": random,
    }
    rows = {}
    for name, D in dictionaries.items():
        index = coding.omp(D, x - mean, k=k)
        beta = coding.least_squares(D, index, x - mean)
        error = fvu(x - mean, coding.reconstruct(D, index, beta))
        found = recovery.recovered(D, data.features)
        rows[name] = {"fvu": error, "recovery": found["recovery"], "found": found["found"]}
    rows[f"PCA, {k} components"] = {"fvu": pca_fvu(x, train=y, k=k)}
    frames = [_frame(row).assign(method=name) for name, row in rows.items()]
    found = pd.concat(frames, ignore_index=True).rename(columns={"replica": "seed"})
    return found.assign(kind=kind, k=k)
