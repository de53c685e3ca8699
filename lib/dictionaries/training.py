"""Training of dictionaries from a stream of activation batches, several models in one pass, with resume.

`fit` takes any iterable of batches `(batch, d)`, `(replicas, batch, d)` or pairs of input and target, and lets every
model take one step on each: the activations, which cost most, are computed once.
"""

import itertools
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from lib.common.errors import one_line
from lib.common.files import whole
from lib.common.metrics import variation
from lib.common.progress import progress
from lib.dictionaries.base import Dictionary
from lib.dictionaries.storage import renamed

FORMAT = 2  # of checkpoints; 1 had the names of storage's format 1, and is still read


class Step:
    """One training step of a dictionary: loss, gradient, clipping per replica, Adam, rows back to norm 1.

    `lr` is a number, or one per replica; it falls linearly to 0 over the last fifth of `steps` if that is given.
    """

    def __init__(
        self, model: Dictionary, *, lr: float | Tensor = 1e-3, clip: float = 1.0, steps: int | None = None
    ):
        self.model, self.clip, self.steps, self.taken = model, clip, steps, 0
        self.lr = torch.as_tensor(lr, dtype=torch.float32, device=model.bias.device).expand(model.replicas)
        if not (self.lr.isfinite().all() and (self.lr > 0).all()):
            raise ValueError(f"lr is {lr}; it must be finite and above 0")
        # Where rates differ, Adam's steps are scaled per replica afterwards; where they do not, Adam does it itself.
        self.same = bool((self.lr == self.lr[0]).all())
        self.optimiser = torch.optim.Adam(model.parameters(), lr=float(self.lr[0]), fused=True)

    def __call__(self, a: Tensor, y: Tensor | None = None) -> Tensor:
        """Takes the step; returns the loss before it, per replica."""
        self.model.train()
        loss = self.model.loss(a, y)
        self.optimiser.zero_grad()
        loss.sum().backward()
        self.model.tangent()
        self._clip()
        rate = self._rate()
        for group in self.optimiser.param_groups:
            group["lr"] = rate * float(self.lr[0])
        before = None if self.same else [p.detach().clone() for p in self.model.parameters()]
        self.optimiser.step()
        if before is not None:
            with torch.no_grad():
                for old, new in zip(before, self.model.parameters(), strict=True):
                    ratio = (self.lr / self.lr[0]).view(-1, *[1] * (new.ndim - 1))
                    new.copy_(old + ratio * (new - old))
        self.model.constrain()
        self.taken += 1
        return loss.detach()

    def _rate(self) -> float:
        if self.steps is None:
            return 1.0
        return min(1.0, max(self.steps - self.taken, 0) / max(1, self.steps // 5))

    @torch.no_grad()
    def _clip(self) -> None:
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = torch.stack([torch.linalg.vector_norm(g.flatten(1), dim=1) for g in grads]).norm(dim=0)
        factor = (self.clip / norm.clamp_min(1e-12)).clamp_max(1)
        if (factor < 1).any():
            for g in grads:
                g.mul_(factor.view(-1, *[1] * (g.ndim - 1)))


@dataclass
class Fitted:
    """What `fit` returns: the read-outs of each model, and copies of its state at the steps asked for.

    `steps` `(records,)`; `fvu` and `dead` map a model's name to `(records, replicas)`: the FVU on the batch before each
    recorded step, and the share of latents that were not used for `dead_after` samples.
    """

    steps: list[int] = field(default_factory=list)
    fvu: dict[str, list[Tensor]] = field(default_factory=dict)
    dead: dict[str, list[Tensor]] = field(default_factory=dict)
    snapshots: dict[int, dict[str, dict[str, Tensor]]] = field(default_factory=dict)


def fit(
    models: Mapping[str, Dictionary],
    batches: Iterable,
    *,
    steps: int,
    lr: float | Mapping[str, float | Tensor] = 1e-3,
    snapshots: tuple[int, ...] = (),
    records: int = 100,
    dead_after: int = 50_000,
    checkpoint: str | Path | None = None,
    every: int = 1000,
    name: str = "dictionaries",
) -> Fitted:
    """Trains every model for `steps` batches of one pass over the stream; they end in evaluation mode.

    With `checkpoint`, a safetensors file, the state is written there every `every` steps (whole or not at all), and a
    call that finds it resumes from there: it skips the batches already seen, so the stream must be the same, from its
    start. Raises ValueError if the stream ends too soon, or if the checkpoint is damaged or of other models.
    """
    rates = lr if isinstance(lr, Mapping) else dict.fromkeys(models, lr)
    runs = {key: Step(model, lr=rates[key], steps=steps) for key, model in models.items()}
    out = Fitted(fvu={key: [] for key in models}, dead={key: [] for key in models})
    done = (
        _resume(checkpoint, runs, out, steps) if checkpoint is not None and Path(checkpoint).exists() else 0
    )
    if 0 in snapshots and not done:
        out.snapshots[0] = _states(models)
    stream, taken = itertools.islice(iter(batches), done, None), done
    interval = max(1, steps // records)
    for step, batch in zip(progress(range(done + 1, steps + 1), f"train {name}"), stream, strict=False):
        pair = batch if isinstance(batch, tuple | list) else (batch, None)
        recorded = step % interval == 0 or step == steps
        for key, run in runs.items():
            if recorded:
                out.fvu[key].append(_fvu(run.model, *pair))
                out.dead[key].append((run.model.idle > dead_after).float().mean(-1))
            run(*pair)
        if recorded:
            out.steps.append(step)
        if step in snapshots:
            out.snapshots[step] = _states(models)
        taken = step
        if checkpoint is not None and (step % every == 0 or step == steps):
            _write(Path(checkpoint), runs, out, step, steps)
    if taken < steps:
        raise ValueError(f"the stream ended after {taken} batches; {steps} steps need as many")
    for model in models.values():
        model.eval()
    return out


@torch.no_grad()
def _fvu(model: Dictionary, a: Tensor, y: Tensor | None) -> Tensor:
    """`lib.common.metrics.fvu`, except that a batch of equal samples does not stop the training."""
    model.eval()
    target = model.stacked(a if y is None else y, name="target", width=model.d_out)
    y_hat = model(a, y).view_as(target)
    return (target - y_hat).square().sum((1, 2)) / variation(target).clamp_min(1e-30)


def _states(models: Mapping[str, Dictionary]) -> dict[str, dict[str, Tensor]]:
    return {
        key: {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        for key, model in models.items()
    }


def _write(path: Path, runs: Mapping[str, Step], out: Fitted, step: int, steps: int) -> None:
    tensors = {}
    for key, run in runs.items():
        tensors |= {f"{key}/model/{name}": value for name, value in run.model.state_dict().items()}
        for i, state in run.optimiser.state_dict()["state"].items():
            tensors |= {f"{key}/optimiser/{i}/{name}": value for name, value in state.items()}
        tensors |= {
            f"{key}/{what}": torch.stack(getattr(out, what)[key]) for what in ("fvu", "dead") if out.steps
        }
        for at, states in out.snapshots.items():
            tensors |= {f"{key}/snapshot/{at}/{name}": value for name, value in states[key].items()}
    about = {
        "format": FORMAT,
        "step": step,
        "steps": steps,
        "models": [[key, _about(run)] for key, run in runs.items()],
    }
    about["recorded"], about["snapshots"] = out.steps, list(out.snapshots)
    with whole(path) as part:
        contiguous = {name: value.contiguous() for name, value in tensors.items()}
        save_file(contiguous, part, {"training": json.dumps(about)})


def _resume(path: str | Path, runs: Mapping[str, Step], out: Fitted, steps: int) -> int:
    try:
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["training"])
            # Copies, as in storage.load: the optimiser keeps what it is given, at any offset in memory.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        found, expected = _models(about), [[key, _about(run)] for key, run in runs.items()]
        if about["steps"] != steps or found != expected:
            raise ValueError(f"it is of {about['steps']} steps of {found}, not of {steps} of {expected}")
    except Exception as error:
        raise ValueError(
            f"checkpoint {path} does not fit this training ({one_line(error)}); delete it to start again"
        ) from None

    def under(prefix: str) -> dict[str, Tensor]:
        return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}

    out.steps, out.snapshots = about["recorded"], {at: {} for at in about["snapshots"]}
    for key, run in runs.items():
        run.model.load_state_dict(under(f"{key}/model/"))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in under(f"{key}/optimiser/").items():
            i, _, part = name.partition("/")
            state.setdefault(int(i), {})[part] = value
        run.optimiser.load_state_dict({**run.optimiser.state_dict(), "state": state})
        run.taken = about["step"]
        if out.steps:
            out.fvu[key], out.dead[key] = list(tensors[f"{key}/fvu"]), list(tensors[f"{key}/dead"])
        for at in out.snapshots:
            out.snapshots[at][key] = under(f"{key}/snapshot/{at}/")
    return about["step"]


def _models(about: dict) -> list:
    """The models in a checkpoint, under their current names."""
    version = about.get("format", 1)
    if version not in (1, FORMAT):
        raise ValueError(f"it has format {version!r}; this version reads formats 1 and {FORMAT}")
    if version == 1:
        return [[key, [kind, renamed(config), lr]] for key, (kind, config, lr) in about["models"]]
    return about["models"]


def _about(run: Step) -> list:
    return [type(run.model).__name__, run.model.config, run.lr.tolist()]
