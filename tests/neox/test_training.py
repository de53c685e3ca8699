"""Training of the language model: it learns, and resumes to the same curve."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.small_neox import SHORT, rows
from helpers.small_neox import model as tiny
from lib.neox import data as neox_data
from lib.neox import model as neox
from lib.neox import training as neox_training
from lib.neox.model import NeoxError


def test_training_learns_and_names_its_curve():
    trained = neox_training.train(tiny(20), rows(), **SHORT | dict(steps=150))
    # Each token is one of two: ln 2 is the least that a model of these tokens can reach.
    assert trained.loss.shape == (150,) and trained.loss[0] > 2.5
    assert np.log(2) - 0.02 < trained.loss[-10:].mean() < 1.0
    assert trained.taken == 150 and not trained.model.training


def test_training_is_the_plain_loop():
    """The same curve and weights from transformers' loss and a loop that is written out."""
    trained, model, norms = neox_training.train(tiny(20), rows(), **SHORT), tiny(20), []
    windows = neox_data.Windows(rows(), batch=4, context=16, seed=0)
    decay, plain = ([p for p in model.parameters() if (p.ndim > 1) == matrix] for matrix in (True, False))
    optimiser = torch.optim.AdamW(
        [{"params": decay, "weight_decay": 0.1}, {"params": plain, "weight_decay": 0}]
    )
    for step in range(24):
        for group in optimiser.param_groups:
            falling = 0.55 + 0.45 * np.cos(np.pi * (step - 5) / 18)
            group |= {"lr": 3e-3 * ((step + 1) / 5 if step < 5 else falling), "betas": (0.9, 0.95)}
        ids = windows(step)
        loss = F.cross_entropy(model(ids[:, :-1]).logits.flatten(0, 1), ids[:, 1:].flatten())
        optimiser.zero_grad()
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0))
        optimiser.step()
        assert trained.loss[step] == pytest.approx(loss.item(), abs=1e-3)
    assert min(norms) > 1 and max(norms) > 1.5 * min(norms)  # else clipping would be nothing to Adam
    for a, b in zip(trained.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(a, b, atol=1e-3, rtol=0)


class Killed(Exception):
    pass


@pytest.mark.parametrize("killed_at", [7, 11, 23])
def test_a_killed_training_resumes_to_the_same_curve_and_weights(tmp_path, killed_at):
    def validate(model):
        return float(sum(p.detach().abs().sum() for p in model.parameters()))

    extra = dict(validate=validate, validate_every=6, every=5)
    whole = neox_training.train(tiny(20), rows(), **SHORT, **extra)
    path, calls = tmp_path / "c" / "training.safetensors", []

    def log(line):
        calls.append(line)
        if len(calls) == killed_at:
            raise Killed

    with pytest.raises(Killed):
        neox_training.train(tiny(20), rows(), **SHORT, **extra, checkpoint=path, log=log, log_every=1)
    lines = []
    resumed = neox_training.train(
        tiny(20, seed=9), rows(), **SHORT, **extra, checkpoint=path, log=lines.append, log_every=1
    )
    assert 0 < resumed.taken < 24 and lines[0].startswith(f"step {24 - resumed.taken + 1:6,} of 24")
    np.testing.assert_allclose(resumed.loss, whole.loss, rtol=0, atol=1e-6)
    assert [step for step, _ in resumed.validation] == [6, 12, 18, 24]
    np.testing.assert_allclose(
        [v for _, v in resumed.validation], [v for _, v in whole.validation], rtol=1e-5
    )
    for a, b in zip(resumed.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    done = neox_training.train(tiny(20, seed=9), rows(), **SHORT, **extra, checkpoint=path)
    assert (
        done.seconds == resumed.seconds > 0
        and done.taken == 0
        and np.array_equal(done.loss, resumed.loss)
        and len(done.validation) == 4
    )
    torch.testing.assert_close(done.model.lm_head.weight, resumed.model.lm_head.weight)


def test_the_optimisers_state_is_resumed(tmp_path):
    """Were it not, the first step after a pause would be as long as the first of all: Adam's are of one size then."""
    path = tmp_path / "c.safetensors"
    model = tiny(20)
    neox_training.train(model, rows(), **SHORT, checkpoint=path)
    optimiser, out = neox_training._optimiser(model), neox_training.Trained(model, np.zeros(24, np.float32))
    settings = json.loads(neox_training.safe_open(path, "pt").metadata()["training"])["settings"]
    assert neox_training._resume(path, model, optimiser, out, settings) == 24
    states = list(optimiser.state.values())
    assert len(states) == len(list(model.parameters()))
    assert all(
        float(s["step"]) == 24 and s["exp_avg"].abs().sum() > 0 and s["exp_avg_sq"].sum() > 0 for s in states
    )


def test_the_learning_rate_warms_up_and_falls_to_a_tenth():
    rates = [neox_training._schedule(step, 101, 10) for step in range(101)]
    assert rates[0] == 0.1 and rates[9] == rates[10] == 1.0 and rates[55] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1) and np.argmin(rates) in (0, 100)


def test_only_matrices_decay():
    groups = neox_training._optimiser(tiny()).param_groups
    assert {(p.ndim > 1, g["weight_decay"]) for g in groups for p in g["params"]} == {
        (True, 0.1),
        (False, 0.0),
    }
    assert all(g["betas"] == (0.9, 0.95) for g in groups)


def test_a_strange_checkpoint_is_refused(tmp_path):
    path = tmp_path / "c.safetensors"

    def refusal(model=None, tokens=None, **changes) -> str:
        model, tokens = tiny(20) if model is None else model, rows() if tokens is None else tokens
        with pytest.raises(NeoxError) as error:
            neox_training.train(model, tokens, **SHORT | changes, checkpoint=path)
        assert "\n" not in str(error.value) and str(path) in str(error.value)
        return str(error.value)

    neox_training.train(tiny(20), rows(), **SHORT, checkpoint=path)
    assert "has learning_rate 0.003, not 0.001" in refusal(learning_rate=1e-3)
    assert "has steps 24, not 25" in refusal(steps=25)
    assert "has seed 0, not 1" in refusal(seed=1)
    assert "has tokens" in refusal(tokens=rows(seed=1))
    assert "has model" in refusal(model=tiny(20, num_hidden_layers=1))
    whole = path.read_bytes()
    for damaged in (whole[:-10], whole[:100], b"", b"junk" * 9):
        path.write_bytes(damaged)
        assert "damaged or not a checkpoint" in refusal()
    neox.keep(tiny(20), tmp_path, 1)
    path.write_bytes((tmp_path / "step-1.safetensors").read_bytes())
    assert "not a checkpoint of this training" in refusal()


def test_kept_steps_are_the_models_of_those_steps(tmp_path):
    path = tmp_path / "c.safetensors"
    start = tiny(20)
    expected = neox_training.train(tiny(20), rows(), **SHORT).model
    neox_training.train(tiny(20), rows(), **SHORT, checkpoint=path, keep=(0, 10, 24))
    assert neox.kept(tmp_path) == [0, 10, 24]
    for step, model in ((0, start), (24, expected)):
        found = neox.load_step(tmp_path, step)
        assert not found.training and found.config.to_dict() == model.config.to_dict()
        for a, b in zip(found.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(a, b)
    with pytest.raises(
        NeoxError, match=r"step-11.* is missing; the steps kept in this folder are: 0, 10, 24"
    ):
        neox.load_step(tmp_path, 11)
    file = tmp_path / "step-10.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(NeoxError, match="damaged or truncated"):
        neox.load_step(tmp_path, 10)


def test_settings_that_cannot_be_are_refused():
    for changes in ({"steps": 0}, {"learning_rate": 0.0}, {"precision": "float8"}):
        with pytest.raises(ValueError, match="precision one of float32, bfloat16"):
            neox_training.train(tiny(20), rows(), **SHORT | changes)
    with pytest.raises(ValueError, match="tokens go up to 24; the model's vocabulary ends at 19"):
        neox_training.train(tiny(20), rows(vocabulary=25), **SHORT)
    with pytest.raises(ValueError, match="context is 65; the model reads at most 64"):
        neox_training.train(tiny(20), rows(), **SHORT | dict(context=65))
    with pytest.raises(ValueError, match="keep needs a checkpoint"):
        neox_training.train(tiny(20), rows(), **SHORT, keep=(1,))
    with pytest.raises(NeoxError, match="the loss is nan at step"):
        neox_training.train(tiny(20), rows(), **SHORT | dict(learning_rate=1e30, warm_up=0))


def test_the_precision_of_products_is_put_back():
    assert torch.get_float32_matmul_precision() == "highest"
    neox_training.train(tiny(20), rows(), **SHORT | dict(steps=2), precision="bfloat16")
    assert torch.get_float32_matmul_precision() == "highest"
