"""The peers of the speed comparison, behind a pipe: both ends of it, as their environment is not ours.

sae-lens pins an older transformer-lens, so SAELens and dictionary_learning live in .venv-peers (peers.txt lists them,
`make benchmark` installs them). `Peers` starts this very module with the python there; it reads requests as lines of
JSON and answers each with one. Of lib that end imports lib.common alone, and nothing of it reaches the network.
"""

import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from lib.common.errors import UserError, one_line
from lib.common.files import ROOT
from lib.common.timing import added_memory, cpu_seconds

PYTHON = ROOT / ".venv-peers" / "bin" / "python"
# The project comes last on their path: nothing of it may stand in for what the peers import.
START = f"import sys; sys.path.append({str(ROOT)!r}); from lib.studies.speed.peers import main; main()"
PACKAGES = ("torch", "sae-lens", "dictionary-learning", "transformer-lens", "transformers")
OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "WANDB_MODE": "disabled",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}


class PeersError(UserError, RuntimeError):
    """The peers' environment is missing, or could not do what was asked; one line."""


class Peers:
    """A process of the peers' environment that answers requests until it is closed; a context manager.

    `environment`: further variables for the process (`lib.common.timing.FREED` where memory is measured); `python`: the
    one of another environment. Raises PeersError where the peers are not installed.
    """

    def __init__(self, environment: dict[str, str] | None = None, *, python: Path | None = None):
        python = python or PYTHON
        if not python.exists():
            raise PeersError("the peers have no environment here (.venv-peers): `make benchmark` sets it up")
        self._said = tempfile.TemporaryFile("w+")  # a pipe that nobody reads would fill up
        self.process = subprocess.Popen(
            [str(python), "-P", "-c", START],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=os.environ | OFFLINE | (environment or {}),
        )

    def ask(self, do: str, **request) -> dict:
        """The answer to one request; raises PeersError where it can't be had."""
        try:
            self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            self._said.seek(0)
            said = self._said.read().strip().splitlines()
            raise PeersError(f"the peers' process ended: {said[-1] if said else 'without a word'}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeersError(f"{do}: {answer['error']}")
        return answer

    def __enter__(self) -> "Peers":
        return self

    def __exit__(self, *_) -> None:
        self.process.communicate()  # closes its input, where the process ends by itself
        self._said.close()


# --- what runs in the peers' environment ------------------------------------------------------------------------------


def saelens_step(*, d: int, n: int, k: int, batch: int, sparse: bool = False) -> Callable[[], None]:
    """SAELens' top-k training step: its trainer's own, on one fixed batch; `sparse` as its use_sparse_activations."""
    sae_lens = importlib.import_module("sae_lens")
    config = importlib.import_module("sae_lens.config")
    trainer = importlib.import_module("sae_lens.training.sae_trainer")
    x = _activations(batch, d)
    settings = config.SAETrainerConfig(
        total_training_samples=10**6 * batch, train_batch_size_samples=batch, lr=3e-4, lr_end=3e-4
    )
    sae = sae_lens.TopKTrainingSAE(
        sae_lens.TopKTrainingSAEConfig(
            d_in=d, d_sae=n, k=k, use_sparse_activations=sparse, rescale_acts_by_decoder_norm=not sparse
        )
    )
    training = trainer.SAETrainer(settings, sae, iter(()))

    def step() -> None:
        training.step(x)
        training.n_training_steps += 1

    return step


def dictionary_learning_step(*, d: int, n: int, k: int, batch: int) -> Callable[[], None]:
    """dictionary_learning's top-k training step: its trainer's own, on one fixed batch."""
    module = importlib.import_module("dictionary_learning.trainers.top_k")
    x = _activations(batch, d)
    trainer = module.TopKTrainer(
        steps=10**6, activation_dim=d, dict_size=n, k=k, layer=0, lm_name="none", seed=0, device="cpu"
    )
    # From step 1 on: step 0 also looks for the median of the activations, which is no part of a step.
    count = iter(range(1, 10**6))
    return lambda: trainer.update(next(count), x)


STEPS = {
    "saelens": saelens_step,
    "saelens_sparse": lambda **size: saelens_step(**size, sparse=True),
    "dictionary_learning": dictionary_learning_step,
}


def answer(request: dict) -> dict:
    """The answer to one request; raises ValueError on one that is unknown."""
    do = request.pop("do", None)
    actions = {"versions": _versions, "step": _step, "memory": _memory, "reconstruct": _reconstruct}
    if do not in actions:
        raise ValueError(f"request {do!r}; known: {', '.join(actions)}")
    return actions[do](**request)


def _versions() -> dict:
    metadata = importlib.import_module("importlib.metadata")
    return {name: metadata.version(name) for name in PACKAGES} | {"python": sys.version.split()[0]}


def _step(peer: str, steps: int = 1, **size: int) -> dict:
    """CPU seconds of each of `steps` whole training steps, after a warm-up at the first request of its kind."""
    take = _warm(_known(peer), **size)
    return {"seconds": [cpu_seconds(take)[1] for _ in range(steps)]}


def _memory(peer: str, small: dict, size: dict) -> dict:
    return added_memory(STEPS[_known(peer)], small=small, size=size)


def _reconstruct(folder: str, activations: str, output: str) -> dict:
    """SAELens' reconstructions of the tensor `activations` of a safetensors file, by the SAE saved in a folder."""
    sae_lens = importlib.import_module("sae_lens")
    safetensors = importlib.import_module("safetensors.torch")
    sae = sae_lens.SAE.load_from_disk(folder)
    with torch.no_grad():
        made = sae(safetensors.load_file(activations)["activations"])
    safetensors.save_file({"reconstructions": made.contiguous()}, output)
    return {"architecture": sae.cfg.architecture(), "output": output}


def _known(peer: str) -> str:
    if peer not in STEPS:
        raise ValueError(f"peer {peer!r}; known: {', '.join(STEPS)}")
    return peer


@cache
def _warm(peer: str, **size: int) -> Callable[[], None]:
    take = STEPS[peer](**size)
    take()
    return take


def _activations(batch: int, d: int) -> torch.Tensor:
    return torch.randn(batch, d, generator=torch.Generator().manual_seed(0))


def main() -> None:
    """Answers the requests on standard input; whatever the peers print goes to standard error."""
    pipe, sys.stdout = sys.stdout, sys.stderr
    os.environ |= OFFLINE
    # PyPI's torchvision is built for CUDA and does not load beside a CPU build of torch; no peer needs it here.
    sys.modules["torchvision"] = None
    torch.set_num_threads(1)
    for line in sys.stdin:
        try:
            reply = answer(json.loads(line))
        except Exception as error:
            reply = {"error": f"{type(error).__name__}: {one_line(error, 300)}"}
        print(json.dumps(reply), file=pipe, flush=True)
