"""The training loop of small networks: replicas as a batch, losses and checkpoints recorded on the way.

One of three loops, whose needs differ too much for one: `lib.dictionaries.training` trains many dictionaries on
one stream of activations (a learning rate per replica, clipping, rows back to norm 1, runs that resume), and
`lib.neox.training` one language model (a schedule, precision of matrix products, validation, runs that resume).
"""

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor, nn

from lib.common.progress import progress
from lib.common.timing import device


@dataclass
class Trained:
    """A trained batch of replicas, on the CPU.

    `losses` `(records, replicas)` were recorded after `steps`; `checkpoints` maps a step to a copy of the model.
    """

    model: nn.Module
    steps: list[int] = field(default_factory=list)
    losses: Tensor | None = None
    checkpoints: dict[int, nn.Module] = field(default_factory=dict)


def train(
    model: nn.Module,
    batches: Iterator[tuple[Tensor, ...]],
    *,
    steps: int,
    lr: float = 1e-3,
    reset_optimiser: bool = False,
    checkpoints: tuple[int, ...] = (),
    name: str = "model",
) -> Trained:
    """Minimise `model.loss(*batch)`, one value per replica, by Adam over `steps` minibatches.

    `reset_optimiser=True` forgets Adam's moments at every batch, as the code of Wiechecki (2024) does: the step
    is then lr g/(|g| + eps), sign descent. `checkpoints` lists the steps after which a copy of the model is
    kept (0: before training); about 100 losses are recorded. `name` labels the progress bar.
    """
    model = model.to(device())
    optimiser = torch.optim.Adam(model.parameters(), lr=lr)
    out, losses = Trained(model), []
    if 0 in checkpoints:
        out.checkpoints[0] = copy.deepcopy(model).cpu()
    for step in progress(range(1, steps + 1), f"train {name}"):
        loss = model.loss(*(part.to(device()) for part in next(batches)))
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
        if reset_optimiser:
            optimiser.state.clear()
        if step % max(1, steps // 100) == 0:
            out.steps.append(step)
            losses.append(loss.detach().cpu())
        if step in checkpoints:
            out.checkpoints[step] = copy.deepcopy(model).cpu()
    out.model, out.losses = model.cpu(), torch.stack(losses)
    return out


def minibatches(n: int, *, replicas: int, batch: int, generator: Generator) -> Iterator[Tensor]:
    """Endless minibatches of indices below n, `(replicas, batch)`; each replica reshuffles in each epoch.

    A batch has at most n indices, and what is left over at the end of an epoch is dropped.
    """
    batch = min(batch, n)
    while True:
        order = torch.rand(replicas, n, generator=generator).argsort(-1)
        for start in range(0, n - batch + 1, batch):
            yield order[:, start : start + batch]
