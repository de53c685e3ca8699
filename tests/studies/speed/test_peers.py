"""The pipe to the peers: requests, answers, errors; and the peers themselves where they are installed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lib.common.files import ROOT
from lib.studies.speed import peers
from lib.studies.speed.peers import Peers, PeersError

needs_peers = pytest.mark.skipif(
    not peers.PYTHON.exists(), reason="no environment of the peers; `make benchmark` makes one"
)
PINS = dict(
    line.split("==") for line in (ROOT / "peers.txt").read_text().splitlines() if not line.startswith("#")
)
SIZE = dict(d=16, n=64, k=4, batch=32)
HERE = Path(sys.executable)  # our own python answers as well, as long as no peer is asked for


def test_without_an_environment_the_error_says_how_to_get_one(tmp_path):
    with pytest.raises(PeersError, match="make benchmark"):
        Peers(python=tmp_path / "python")


def test_unknown_requests_are_errors_and_the_process_lives_on():
    with Peers(python=HERE) as pipe:
        with pytest.raises(PeersError, match="request 'dance'; known: versions, step, memory, reconstruct"):
            pipe.ask("dance")
        with pytest.raises(PeersError, match="peer 'nobody'; known: saelens"):
            pipe.ask("step", peer="nobody", **SIZE)
        pipe.process.stdin.write("no JSON\n")
        pipe.process.stdin.flush()
        assert "JSONDecodeError" in json.loads(pipe.process.stdout.readline())["error"]
        with pytest.raises(PeersError, match="dance"):
            pipe.ask("dance")
    assert pipe.process.returncode == 0


def test_a_process_that_ends_is_an_error():
    with Peers(python=HERE) as pipe:
        pipe.process.kill()
        pipe.process.wait()
        with pytest.raises(PeersError, match="ended"):
            pipe.ask("versions")


def test_that_end_imports_lib_common_alone():
    code = peers.START.removesuffix("; main()") + (
        "; print(sorted(m for m in sys.modules if m.split('.')[0] in ('lib', 'pandas', 'sae_lens')))"
    )
    run = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    allowed = [
        "lib",
        "lib.common",
        "lib.common.errors",
        "lib.common.files",
        "lib.common.timing",
        "lib.studies",
        "lib.studies.speed",
    ]
    assert run.stdout.strip() == str([*allowed, "lib.studies.speed.peers"])


@pytest.mark.slow
@needs_peers
def test_the_peers_steps_train_and_are_timed():
    """In their own environment: what is measured is no empty step, it moves all weights."""
    code = """
import json, sys
sys.modules["torchvision"] = None
sys.path.append(sys.argv[1])
from lib.common.files import ROOT
from lib.studies.speed import peers
import torch
size = dict(d=16, n=64, k=4, batch=32)
said = {"versions": peers.answer({"do": "versions"})}
for name, build in peers.STEPS.items():
    take = build(**size)
    cells = dict(zip(take.__code__.co_freevars, take.__closure__))
    trainer = (cells.get("training") or cells["trainer"]).cell_contents
    model = getattr(trainer, "sae", None) or trainer.ae
    before = [p.detach().clone() for p in model.parameters()]
    for _ in range(3):
        take()
    moved = all(not torch.equal(a, b) for a, b in zip(before, model.parameters()))
    said[name] = [moved, peers.answer({"do": "step", "peer": name, "steps": 3, **size})["seconds"]]
print(json.dumps(said))
"""
    run = subprocess.run(
        [str(peers.PYTHON), "-P", "-c", code, str(ROOT)],
        capture_output=True,
        text=True,
        env=os.environ | peers.OFFLINE,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    said = json.loads(run.stdout.splitlines()[-1])
    for name in ("sae-lens", "dictionary-learning", "torch"):
        assert PINS[name] == said["versions"][name].split("+")[0]
    for name in peers.STEPS:
        moved, seconds = said[name]
        assert moved, name
        assert len(seconds) == 3 and all(0 < s < 1 for s in seconds)


def test_the_makefile_installs_the_pins():
    assert "install --quiet -r peers.txt" in (ROOT / "Makefile").read_text()
    ours = (ROOT / "constraints.txt").read_text().splitlines()
    assert f"torch=={PINS['torch']}" in ours, "both are measured with the same torch"


def test_one_batch_for_all():
    assert torch.equal(peers._activations(3, 5), peers._activations(3, 5))
