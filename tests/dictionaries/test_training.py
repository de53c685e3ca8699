"""A training that was killed goes on as if it had not been; replicas and models do not disturb each other."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.plain import generator
from lib.dictionaries.planted import Planted
from lib.dictionaries.projective import Hybrid, Projective, Ridge
from lib.dictionaries.sae import L1, BatchTopK, TopK
from lib.dictionaries.training import Step, fit

SIZES = {"d_in": 6, "d_sae": 16, "k": 3}
KINDS = {
    "top-k": (TopK, {"dead_after": 100}),
    "batch": (BatchTopK, {}),
    "l1": (L1, {}),
    "projective": (Projective, {}),
    "ridge": (Ridge, {"tied": True}),
    "hybrid": (Hybrid, {"penalty": 0.01}),
}


def models(names=KINDS, replicas=2, seed=0):
    return {
        name: KINDS[name][0](**SIZES, replicas=replicas, generator=generator(seed), **KINDS[name][1])
        for name in names
    }


def stream(batches=10**9, seed=1, replicas=2):
    """Most variance in few directions, so that some latents are idle for a while."""
    g, size = generator(seed), torch.tensor([3.0, 1.0, 1.0, 0.1, 0.1, 0.1])
    for _ in range(batches):
        yield size * torch.randn(replicas, 20, 6, generator=g) + 0.5


class Killed(Exception):
    pass


def killed(after):
    yield from stream(after)
    raise Killed


SETTINGS = {"steps": 23, "records": 5, "snapshots": (0, 3, 17), "dead_after": 150, "every": 5}


def assert_same(one, other):
    for name in one:
        states = [m[name].state_dict() for m in (one, other)]
        for key in states[0]:
            assert torch.equal(states[0][key], states[1][key]), (name, key)


def assert_same_readouts(one, other):
    assert one.steps == other.steps and list(one.snapshots) == list(other.snapshots)
    for name in one.fvu:
        assert torch.equal(torch.stack(one.fvu[name]), torch.stack(other.fvu[name]))
        assert torch.equal(torch.stack(one.dead[name]), torch.stack(other.dead[name]))
        for at in one.snapshots:
            for key, value in one.snapshots[at][name].items():
                assert torch.equal(value, other.snapshots[at][name][key]), (at, name, key)


@pytest.mark.parametrize("after", [5, 8, 21])
def test_killed_and_resumed_is_uninterrupted(after, tmp_path):
    lr = {name: torch.tensor([0.01, 0.03]) if name == "ridge" else 0.01 for name in KINDS}
    plain, path = models(), tmp_path / "deep" / "checkpoint"
    wanted = fit(plain, stream(), lr=lr, **SETTINGS)
    with pytest.raises(Killed):
        fit(models(), killed(after), lr=lr, checkpoint=path, **SETTINGS)
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint"], "nothing is left beside it"
    resumed = models(seed=9)  # whatever it starts from
    found = fit(resumed, stream(), lr=lr, checkpoint=path, **SETTINGS)
    assert_same(plain, resumed)
    assert_same_readouts(wanted, found)
    assert plain["batch"].threshold.all() and plain["top-k"].idle.any()
    again = models(seed=5)  # what is done is only read
    assert_same_readouts(fit(again, stream(0), lr=lr, checkpoint=path, **SETTINGS), found)
    # The stream must be the same, for it is skipped.
    assert_same(plain, again)


def test_a_checkpoint_changes_nothing(tmp_path):
    one, other = models(["top-k"]), models(["top-k"])
    fit(one, stream(), steps=12)
    fit(other, stream(), steps=12, checkpoint=tmp_path / "c", every=3)
    assert_same(one, other)


def test_read_outs_and_snapshots_are_of_their_steps():
    plain = models(["top-k", "batch"])
    out = fit(plain, stream(), **SETTINGS)
    assert out.steps == [4, 8, 12, 16, 20, 23] and list(out.snapshots) == [0, 3, 17]
    assert all(not m.training for m in plain.values())
    assert torch.stack(out.fvu["top-k"]).shape == torch.stack(out.dead["top-k"]).shape == (6, 2)
    start = models(["top-k", "batch"])
    assert torch.equal(out.snapshots[0]["top-k"]["decoder"], start["top-k"].decoder)
    # The FVU of a step is of the model before it, in evaluation, on its batch.
    copy = models(["batch"])["batch"]
    copy.load_state_dict(out.snapshots[3]["batch"])
    x = list(stream(4))[3]
    error = (x - copy.eval()(x)).square().sum((1, 2))
    wanted = error / (x - x.mean(1, keepdim=True)).square().sum((1, 2))
    torch.testing.assert_close(out.fvu["batch"][0], wanted)
    early = fit(models(["top-k"]), stream(), **SETTINGS | {"steps": 7}).dead["top-k"][-1]
    assert (early == 0).all(), "120 samples are fewer than 150"
    later = fit(idle := models(["top-k"]), stream(23), **SETTINGS | {"dead_after": 20}).dead["top-k"]
    assert ((later[-1] > 0) & (later[-1] < 1)).all() and idle["top-k"].idle.max() > 20
    wanted = (
        (idle["top-k"].idle > 40).float().mean(-1)
    )  # by the last step itself idle latents are 20 older, or used
    assert (later[-1] >= wanted).all()


def test_one_pass_serves_several_models():
    """Each model trains as it would alone, and no batch is taken twice or in vain."""
    together, taken = models(), []

    def counted():
        for x in stream():
            taken.append(x)
            yield x

    fit(together, counted(), steps=7)
    assert len(taken) == 7
    for name in KINDS:
        alone = models([name])
        fit(alone, stream(), steps=7)
        assert_same(alone, {name: together[name]})


def test_pairs_train_a_transcoder():
    def pairs():
        g = generator(3)
        while True:
            a = torch.randn(50, 4, generator=g)
            yield a, torch.cat([a, a.abs()], -1)[:, :6]

    model = TopK(d_in=4, d_out=6, d_sae=30, k=4, generator=generator())
    out = fit({"m": model}, pairs(), steps=300, lr=1e-2).fvu["m"]
    assert out[-1] < 0.4 < out[0]


@pytest.mark.parametrize("name", KINDS)
def test_rates_per_replica_are_those_of_separate_trainings(name):
    together = models([name], replicas=2)[name]
    rates = [0.002, 0.03]
    fit({"m": together}, stream(), steps=12, lr={"m": torch.tensor(rates)})
    for r, rate in enumerate(rates):
        alone = models([name], replicas=1)[name]
        start = models([name], replicas=2)[name].state_dict()
        alone.load_state_dict({key: value[r : r + 1] for key, value in start.items()})
        fit({"m": alone}, (x[r : r + 1] for x in stream()), steps=12, lr=rate)
        for key, value in alone.state_dict().items():
            torch.testing.assert_close(together.state_dict()[key][r : r + 1], value, rtol=1e-3, atol=1e-4)


def test_the_rate_falls_over_the_last_fifth():
    step = Step(models(["top-k"])["top-k"], lr=0.5, steps=20)
    rates = []
    for x in stream(20):
        step(x)
        rates.append(step.optimiser.param_groups[0]["lr"])
    assert rates == [0.5] * 17 + [0.375, 0.25, 0.125]
    constant = Step(models(["top-k"])["top-k"], lr=0.5)
    for x in stream(20):
        constant(x)
    assert constant.optimiser.param_groups[0]["lr"] == 0.5


def test_a_step_is_adam_s():
    """Bias-corrected moments, written out, for the encoder (the decoder's rows are normalised afterwards)."""
    model = models(["top-k"])["top-k"]
    step, m, v = Step(model, lr=0.01, clip=1e9), 0.0, 0.0
    for t, x in enumerate(stream(3), 1):
        before = model.encoder.detach().clone()
        step(x)
        g = model.encoder.grad
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        move = 0.01 * (m / (1 - 0.9**t)) / ((v / (1 - 0.999**t)).sqrt() + 1e-8)
        torch.testing.assert_close(model.encoder.detach(), before - move, rtol=1e-4, atol=1e-6)


def test_gradients_are_clipped_per_replica():
    x = next(stream())
    plain, clipped = models(["top-k"])["top-k"], models(["top-k"])["top-k"]
    plain.train().loss(x).sum().backward()
    plain.tangent()

    def norms(model):
        return torch.stack([p.grad.flatten(1).square().sum(1) for p in model.parameters()]).sum(0).sqrt()

    full = norms(plain)
    limit = float(full.mean())
    assert full[0] != full[1]
    Step(clipped, clip=limit)(x)
    torch.testing.assert_close(norms(clipped), full.clamp_max(limit))
    untouched = int(full.argmin())
    torch.testing.assert_close(clipped.encoder.grad[untouched], plain.encoder.grad[untouched])


def test_decoder_rows_stay_of_norm_one():
    for name, model in (trained := models()).items():
        fit({name: model}, stream(), steps=5, lr=0.1)
    for model in trained.values():
        torch.testing.assert_close(model.decoder.norm(dim=-1), torch.ones(2, 16))


@pytest.mark.parametrize("batches", [0, 4, 22])
def test_a_stream_that_ends_too_soon_is_an_error(batches):
    with pytest.raises(ValueError, match=f"the stream ended after {batches} batches; 23 steps need as many"):
        fit(models(["top-k"]), stream(batches), **SETTINGS)


@pytest.mark.parametrize("lr", [0.0, -1.0, torch.tensor([0.1, torch.nan]), float("inf")])
def test_rates_that_can_not_be_are_refused(lr):
    with pytest.raises(ValueError, match="it must be finite and above 0"):
        Step(models(["top-k"])["top-k"], lr=lr)


def checkpoint(path):
    with pytest.raises(Killed):
        fit(models(["top-k", "ridge"]), killed(12), checkpoint=path, **SETTINGS)
    return path


def truncated(path, share):
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])


def without_metadata(path):
    save_file(load_file(path), path)


def with_other_metadata(path):
    tensors = load_file(path)
    save_file(tensors, path, {"training": "{}"})


@pytest.mark.parametrize(
    "spoil",
    [
        lambda path: truncated(path, 0.0),
        lambda path: truncated(path, 0.001),
        lambda path: truncated(path, 0.6),
        lambda path: truncated(path, 0.999),
        lambda path: path.write_bytes(b"\x80\x04 a pickle, or anything else" * 9),
        lambda path: path.write_text(json.dumps({"step": 3})),
        without_metadata,
        with_other_metadata,
    ],
)
def test_a_damaged_or_foreign_checkpoint_is_one_clear_error(spoil, tmp_path):
    path = checkpoint(tmp_path / "c")
    spoil(path)
    content, fresh = path.read_bytes(), models(["top-k", "ridge"])
    with pytest.raises(ValueError, match=r"checkpoint .* does not fit .*delete it") as error:
        fit(fresh, stream(), checkpoint=path, **SETTINGS)
    assert "\n" not in str(error.value)
    assert path.read_bytes() == content and [p.name for p in tmp_path.iterdir()] == ["c"]
    assert_same(fresh, models(["top-k", "ridge"]))


@pytest.mark.parametrize(
    ("others", "settings"),
    [
        (lambda: models(["top-k"]), {}),
        (lambda: models(["top-k", "hybrid"]), {}),
        (lambda: models(["top-k", "ridge"], replicas=3), {}),
        (lambda: models(["top-k"]) | {"ridge": Ridge(**SIZES, replicas=2, tied=True, strength=0.1)}, {}),
        (lambda: models(["top-k", "ridge"]), {"steps": 22}),
    ],
)
def test_a_checkpoint_of_another_training_is_one_clear_error(others, settings, tmp_path):
    path = checkpoint(tmp_path / "c")
    content = path.read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint .* does not fit"):
        fit(others(), stream(replicas=others()["top-k"].replicas), checkpoint=path, **SETTINGS | settings)
    assert path.read_bytes() == content


@pytest.mark.parametrize("name", ["top-k", "ridge"])
def test_checkpoints_of_format_1_are_gone_on_from(name, tmp_path):
    """Of a training of 6 steps that the code of that time was stopped in after 4, and where it ended uninterrupted."""
    folder = Path(__file__).parent / "format1"
    path = Path(shutil.copy(folder / f"checkpoint-{name}.safetensors", tmp_path))
    sizes = {"d_sae": 9, "k": 2, "replicas": 2}
    model = {
        "top-k": lambda: TopK(d_in=5, **sizes),
        "ridge": lambda: Ridge(d_in=6, d_out=5, **sizes),
    }[name]()

    def stream(g):
        while True:
            a = torch.randn(2, 8, 6, generator=g)
            yield (a, a[..., :5]) if name == "ridge" else a[..., :5]

    out = fit(
        {name: model}, stream(generator(3)), steps=6, records=3, snapshots=(2,), checkpoint=path, every=2
    )
    assert out.steps == [2, 4, 6] and list(out.snapshots) == [2]
    for key, value in load_file(folder / f"trained-{name}.safetensors").items():
        torch.testing.assert_close(model.state_dict()[key], value, atol=1e-4, rtol=1e-4)
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["training"])
    assert about["format"] == 2 and about["models"][0][1][1] == model.config


def test_a_checkpoint_of_a_later_format_is_refused(tmp_path):
    path = checkpoint(tmp_path / "c")
    with safe_open(path, "pt") as file:
        about = json.loads(file.metadata()["training"])
    save_file(load_file(path), path, {"training": json.dumps(about | {"format": 3})})
    with pytest.raises(ValueError, match=r"does not fit this training \(it has format 3; .* 1 and 2"):
        fit(models(["top-k", "ridge"]), stream(), checkpoint=path, **SETTINGS)


def test_activations_with_positions_train_as_their_tokens(tmp_path):
    """`(batch, pos, d_in)`, as language models give them, for one replica."""
    flat, shaped = models(["top-k"], replicas=1), models(["top-k"], replicas=1)
    one = fit(flat, (x[0] for x in stream(replicas=1)), steps=7)
    other = fit(shaped, (x.view(4, 5, 6) for x in stream(replicas=1)), steps=7)
    assert_same(flat, shaped)
    assert torch.equal(torch.stack(one.fvu["top-k"]), torch.stack(other.fvu["top-k"]))
    assert torch.stack(one.fvu["top-k"]).shape == (7, 1)


def test_a_write_that_fails_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    path = checkpoint(tmp_path / "c")
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["training"])["step"] == 10
    content = path.read_bytes()

    def fails(tensors, part, metadata):
        part.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("lib.dictionaries.training.save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        fit(models(["top-k", "ridge"]), stream(), checkpoint=path, **SETTINGS)
    assert path.read_bytes() == content


def test_planted_streams_are_in_their_unit():
    data = Planted("independent", replicas=2, generator=generator(), n=64, d=32, l0=4)
    x = next(data.stream(4000, generator(1)))
    torch.testing.assert_close(x.square().mean(), torch.tensor(1.0), atol=0.05, rtol=0)


def test_nothing_is_shown_where_nobody_watches(capfd, monkeypatch):
    monkeypatch.delenv("JPY_SESSION_NAME", raising=False)
    fit(models(["top-k"]), stream(), steps=3)
    assert capfd.readouterr() == ("", "")
