"""The training loop of the small language model, which resumes where it was stopped."""

import ctypes
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import GPTNeoXForCausalLM

from lib.common.errors import one_line
from lib.common.precision import PRECISIONS, matrix_products
from lib.common.progress import progress
from lib.neox import data as neox_data
from lib.neox import model as neox
from lib.neox.loss import loss as fast_loss
from lib.neox.model import NeoxError


@dataclass
class Trained:
    """A trained model, in evaluation mode, and its curves.

    `loss` `(steps,)` is the training loss of each step in nats per token, before the step was taken; `validation` has
    the step and what `validate` returned; `seconds` are those of all calls, `taken` the steps that this call took.
    """

    model: GPTNeoXForCausalLM
    loss: np.ndarray
    validation: list[tuple[int, object]] = field(default_factory=list)
    seconds: float = 0.0
    taken: int = 0


def train(
    model: GPTNeoXForCausalLM,
    tokens: np.ndarray,
    *,
    steps: int,
    batch: int = 16,
    context: int = 256,
    learning_rate: float = 2e-3,
    warm_up: int = 200,
    seed: int = 0,
    precision: str = "float32",
    checkpoint: str | Path | None = None,
    every: int = 500,
    keep: tuple[int, ...] = (),
    validate: Callable[[GPTNeoXForCausalLM], object] | None = None,
    validate_every: int = 1000,
    log: Callable[[str], None] | None = None,
    log_every: int = 50,
) -> Trained:
    """Trains on packed tokens `(n,)`: AdamW, warm-up and then a cosine down to a tenth, gradients clipped to norm 1.

    With `checkpoint`, a safetensors file, the state is written there every `every` steps, and a call that finds it
    resumes from there, with the same curve; the weights at the steps of `keep` are written beside it. `validate(model)`
    is called every `validate_every` steps and at the end, and returns what JSON can hold.
    Raises NeoxError if the checkpoint is damaged or has other settings, ValueError on impossible settings.
    """
    if steps < 1 or learning_rate <= 0 or precision not in PRECISIONS:
        raise ValueError(
            f"steps is {steps}, learning_rate {learning_rate}, precision {precision!r}; steps must be at least 1, "
            f"learning_rate above 0, and precision one of {', '.join(PRECISIONS)}"
        )
    if keep and checkpoint is None:
        raise ValueError("keep needs a checkpoint, beside which the weights are written")
    size = model.config.vocab_size
    if len(tokens) and int(tokens.max()) >= size:
        raise ValueError(f"tokens go up to {tokens.max()}; the model's vocabulary ends at {size - 1}")
    longest = model.config.max_position_embeddings
    if context > longest:
        raise ValueError(f"context is {context}; the model reads at most {longest} tokens")
    windows = neox_data.Windows(tokens, batch=batch, context=context, seed=seed)
    settings = dict(steps=steps, batch=batch, context=context, learning_rate=learning_rate, warm_up=warm_up)
    settings |= dict(seed=seed, precision=precision, tokens=neox_data.sha256(tokens))
    settings["model"] = model.config.to_json_string()
    optimiser = _optimiser(model)
    out, done = Trained(model, np.zeros(steps, np.float32)), 0
    if checkpoint is not None:
        checkpoint = Path(checkpoint)
        checkpoint.parent.mkdir(parents=True, exist_ok=True)
        if checkpoint.exists():
            done = _resume(checkpoint, model, optimiser, out, settings)
    if 0 in keep and not done:
        neox.keep(model, checkpoint.parent, 0)
    last = time.perf_counter()
    started = last - out.seconds
    with matrix_products(precision):
        for step in progress(range(done, steps), "train the language model"):
            model.train()
            for group in optimiser.param_groups:
                group["lr"] = learning_rate * _schedule(step, steps, warm_up)
            out.loss[step] = _step(model, optimiser, windows(step).to(model.device))
            if not math.isfinite(out.loss[step]):
                raise NeoxError(
                    f"the loss is {out.loss[step]} at step {step + 1}; choose a learning_rate below {learning_rate}"
                )
            now = step + 1
            if log is not None and now % log_every == 0:
                rate = batch * context * min(log_every, now - done) / (time.perf_counter() - last)
                recent = out.loss[max(0, now - log_every) : now].mean()
                log(f"step {now:6,} of {steps:,}  loss {recent:.4f}  {rate:8,.0f} tokens/s")
            if validate is not None and (now % validate_every == 0 or now == steps):
                out.validation.append((now, validate(model.eval())))
                if log is not None:
                    log(f"step {now:6,}  validation {json.dumps(out.validation[-1][1])}")
            if now in keep:
                neox.keep(model, checkpoint.parent, now)
            out.seconds = time.perf_counter() - started
            if checkpoint is not None and (now % every == 0 or now == steps):
                _write(checkpoint, model, optimiser, out, settings, now)
            if now % log_every == 0:
                last = time.perf_counter()
    model.eval()
    out.taken = steps - done
    return out


def _step(model: GPTNeoXForCausalLM, optimiser: torch.optim.Optimizer, windows: Tensor) -> float:
    optimiser.zero_grad()
    loss = fast_loss(model, windows)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()
    return loss.item()


def _schedule(step: int, steps: int, warm_up: int) -> float:
    """The share of the learning rate at step 0, 1, ...: up to 1 at `warm_up`, then down to 0.1 at the last."""
    if step < warm_up:
        return (step + 1) / warm_up
    part = (step - warm_up) / max(1, steps - 1 - warm_up)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * part))


def _optimiser(model: GPTNeoXForCausalLM) -> torch.optim.AdamW:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), fused=True)


def _write(path: Path, model, optimiser, out: Trained, settings: dict, step: int) -> None:
    tensors = {
        f"model/{name}": value.detach().cpu().contiguous() for name, value in model.state_dict().items()
    }
    for i, state in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser/{i}/{name}": value.cpu().contiguous() for name, value in state.items()}
    tensors["loss"] = torch.from_numpy(out.loss[:step].copy())
    about = {"step": step, "settings": settings, "validation": out.validation, "seconds": out.seconds}
    neox.write_tensors(path, tensors, {"training": json.dumps(about)})


def _resume(path: Path, model, optimiser, out: Trained, settings: dict) -> int:
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["training"])
            # Copies, which are aligned in memory: sums over unaligned ones differ in their last bits.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}
        step, found = about["step"], about["settings"]
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        reason = one_line(error)
        raise NeoxError(
            f"{path} is damaged or not a checkpoint of this training ({reason}); delete it to start again"
        ) from None
    for name, value in settings.items():
        if found.get(name) != value:
            raise NeoxError(
                f"checkpoint {path} has {name} {_short(found.get(name))}, not {_short(value)}; train with its "
                "settings, or delete it to start again"
            )
    model.load_state_dict({name[6:]: value for name, value in tensors.items() if name.startswith("model/")})
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimiser/"):
            _, i, part = name.split("/")
            state.setdefault(int(i), {})[part] = value
    optimiser.load_state_dict({**optimiser.state_dict(), "state": state})
    out.loss[:step] = tensors["loss"].numpy()
    out.validation, out.seconds = [(at, value) for at, value in about["validation"]], about["seconds"]
    return step


def _short(value: object) -> str:
    text = " ".join(str(value).split())
    return text if len(text) < 80 else text[:77] + "..."


def hold_memory() -> None:
    """Lets glibc keep freed memory for the next step: a fifth of the time went into fetching it again.

    For a process that only trains. Without glibc it has no effect.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 32 * 2**20)  # M_MMAP_THRESHOLD, at its maximum
        libc.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
    except (OSError, AttributeError, TypeError):
        pass
