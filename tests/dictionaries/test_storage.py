"""Saved is loaded: the same model, or one clear error; and SAELens reads what is exported."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helpers.plain import generator
from lib.dictionaries import storage
from lib.dictionaries.projective import Hybrid, Projective, Ridge
from lib.dictionaries.sae import L1, BatchTopK, TopK
from lib.dictionaries.storage import KINDS, StorageError
from lib.studies.speed import peers

FORMAT_1 = Path(__file__).parent / "format1"
OPTIONS = {
    "TopK": dict(tied=True, dead_after=7),
    "BatchTopK": {},
    "L1": dict(penalty=0.02),
    "Projective": dict(support="omp"),
    "Ridge": dict(quota="budget", strength=2.5, d_in=9, d_out=8),
    "Hybrid": dict(penalty=0.01),
}


def trained(kind, **options):
    """A dictionary whose every parameter and buffer is its own."""
    model = kind(**{"d_in": 8} | options, d_sae=20, k=3, replicas=2, generator=generator())
    g = generator(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=g))
        model.idle.copy_(torch.randint(0, 9, model.idle.shape, generator=g))
    return model


def inputs(model):
    g = generator(2)
    a = torch.randn(2, 30, model.rows.shape[-1], generator=g)
    return (a, torch.randn(2, 30, 8, generator=g)) if model.transcodes else (a,)


@pytest.mark.parametrize("name", KINDS)
def test_what_is_saved_is_what_is_loaded(name, tmp_path):
    model = trained(KINDS[name], **OPTIONS[name])
    if name == "BatchTopK":
        model.threshold.fill_(0.3)
    path = tmp_path / "deep" / "model.safetensors"
    storage.save(model, path)
    state = torch.get_rng_state()
    loaded = storage.load(path)
    assert torch.equal(state, torch.get_rng_state()), "loading draws nothing at random"
    assert type(loaded) is type(model) and loaded.config == model.config and not loaded.training
    assert {k: v.dtype for k, v in loaded.state_dict().items()} == {
        k: v.dtype for k, v in model.state_dict().items()
    }
    for key, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key]), key
    model.eval()
    assert torch.equal(model(*inputs(model)), loaded(*inputs(model)))
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing is left beside it"


@pytest.mark.parametrize("name", KINDS)
def test_loaded_tensors_lie_where_torch_would_put_them(name, tmp_path):
    """At multiples of 64 bytes: at other offsets some processors' products end in other last bits."""
    storage.save(trained(KINDS[name], **OPTIONS[name]), tmp_path / "m")
    for key, value in storage.load(tmp_path / "m").state_dict().items():
        assert value.data_ptr() % 64 == 0, key


@pytest.mark.parametrize("name", KINDS)
def test_files_of_format_1_are_read(name, tmp_path):
    """Written by the code of that time, with what it computed: d was the target's width, n the latents."""
    model, data = storage.load(FORMAT_1 / f"{name}.safetensors"), load_file(FORMAT_1 / "outputs.safetensors")
    sizes = {"d_in": 5, "d_sae": 9, "k": 2, "d_out": None, "replicas": 2}
    if name == "Ridge":
        sizes |= {"d_in": 6, "d_out": 5}
    assert type(model) is KINDS[name] and sizes.items() <= model.config.items()
    options = {key: value for key, value in OPTIONS[name].items() if key not in ("d_in", "d_out")}
    assert options.items() <= model.config.items()
    given = [data[key] for key in (f"{name}/input", f"{name}/target") if key in data]
    torch.testing.assert_close(model(*given), data[f"{name}/output"], atol=1e-5, rtol=1e-5)
    storage.save(model, tmp_path / "m")
    again = storage.load(tmp_path / "m")
    assert again.config == model.config and list(again.config)[:5] == [
        "d_in",
        "d_sae",
        "k",
        "d_out",
        "replicas",
    ]
    with safe_open(tmp_path / "m", "pt") as file:
        assert json.loads(file.metadata()[storage.KEY])["format"] == 2


def test_a_loaded_model_trains_on(tmp_path):
    model = trained(TopK)
    storage.save(model, tmp_path / "m")
    loaded = storage.load(tmp_path / "m").train()
    losses = [m.train().loss(*inputs(model)).sum() for m in (model, loaded)]
    for loss in losses:
        loss.backward()
    assert torch.equal(model.decoder.grad, loaded.decoder.grad)


def test_double_precision_survives(tmp_path):
    model = trained(Ridge).double()
    storage.save(model, tmp_path / "m")
    assert torch.equal(storage.load(tmp_path / "m").decoder, model.decoder)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_a_clear_error(share, tmp_path):
    path = tmp_path / "model.safetensors"
    storage.save(trained(Hybrid), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(StorageError, match="damaged") as raised:
        storage.load(path)
    assert "\n" not in str(raised.value) and "model.safetensors" in str(raised.value)


def test_foreign_files_are_a_clear_error(tmp_path):
    path = tmp_path / "other"
    path.write_bytes(b"\x80\x04 a pickle, or anything else" * 9)
    with pytest.raises(StorageError, match="not a safetensors file"):
        storage.load(path)
    save_file({"weight": torch.zeros(3)}, path)
    with pytest.raises(StorageError, match="no dictionary of this project"):
        storage.load(path)
    with pytest.raises(StorageError, match="there is no file"):
        storage.load(tmp_path / "missing")
    with pytest.raises(StorageError, match="there is no file"):
        storage.load(tmp_path)


def rewritten(tmp_path, change, tensors=lambda t: t):
    path = tmp_path / "model"
    storage.save(trained(TopK), path)
    header = {"format": storage.FORMAT, "class": "TopK", "config": trained(TopK).config}
    save_file(tensors(load_file(path)), path, metadata={storage.KEY: json.dumps(change(header))})
    return path


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda h: h | {"format": 3}, "has format 3"),
        (lambda h: h | {"class": "Hopfield"}, "holds a 'Hopfield'"),
        (lambda h: h | {"config": h["config"] | {"d_sae": 21}}, "not those of its configuration"),
        (lambda h: h | {"config": h["config"] | {"k": 99}}, "more than the 20 latents"),
        (lambda h: h | {"config": h["config"] | {"temperature": 1}}, "not those of its configuration"),
        (lambda h: [h], "header"),
        (lambda h: {"format": 2}, "header"),
        (lambda h: h | {"format": 1}, "its header can't be read: it has no 'd'"),
    ],
)
def test_a_header_that_does_not_fit_is_a_clear_error(change, said, tmp_path):
    with pytest.raises(StorageError, match=said):
        storage.load(rewritten(tmp_path, change))


def test_tensors_that_do_not_fit_are_a_clear_error(tmp_path):
    with pytest.raises(StorageError, match="not those of its configuration"):
        storage.load(rewritten(tmp_path, lambda h: h, lambda t: {k: t[k] for k in t if k != "bias"}))


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "model"
    model = trained(TopK)
    storage.save(model, path)

    def fails(tensors, part, metadata):
        part.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(storage, "save_file", fails)
    with pytest.raises(OSError, match="disk full"):
        storage.save(trained(L1), path)
    assert torch.equal(storage.load(path).decoder, model.decoder)
    assert [p.name for p in tmp_path.iterdir()] == ["model"]


def test_only_dictionaries_of_the_library_are_saved(tmp_path):
    class Mine(TopK):
        pass

    with pytest.raises(ValueError, match="can't save a Mine"):
        storage.save(trained(Mine), tmp_path / "m")


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda: trained(Projective), "can't hold a Projective"),
        (lambda: trained(Hybrid), "can't hold a Hybrid"),
        (lambda: trained(BatchTopK), "can't hold a BatchTopK"),
        (lambda: trained(TopK, d_in=9, d_out=8), "transcoder"),
    ],
)
def test_what_saelens_can_not_hold_is_not_exported(model, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        storage.export_saelens(model(), tmp_path / "sae")
    assert not (tmp_path / "sae").exists()


def test_a_replica_that_is_not_there_is_not_exported(tmp_path):
    with pytest.raises(ValueError, match="from 0 to 1"):
        storage.export_saelens(trained(TopK), tmp_path, replica=2)


@pytest.mark.parametrize("model", [TopK, L1], ids=lambda kind: kind.__name__)
def test_the_exported_tensors_compute_the_same(model, tmp_path):
    """By SAELens' equations, written out: z = act((x - b_dec) W_enc + b_enc), x_hat = z W_dec + b_dec."""
    model = trained(model).eval()
    storage.export_saelens(model, tmp_path, replica=1)
    w = load_file(tmp_path / "sae_weights.safetensors")
    (x,) = inputs(model)
    z = ((x[1] - w["b_dec"]) @ w["W_enc"] + w["b_enc"]).relu()
    if type(model) is TopK:
        z = torch.where(z >= z.topk(3).values[:, -1:], z, 0)
    torch.testing.assert_close(z @ w["W_dec"] + w["b_dec"], model(x)[1], atol=1e-5, rtol=0)


@pytest.mark.slow
@pytest.mark.skipif(
    not peers.PYTHON.exists(), reason="no environment of the peers; `make benchmark` makes one"
)
def test_saelens_reconstructs_the_same(tmp_path):
    """Loaded by SAELens itself, in its own environment."""
    with peers.Peers() as pipe:
        for model, architecture in (
            (trained(TopK), "topk"),
            (trained(TopK, tied=True), "topk"),
            (trained(L1), "standard"),
        ):
            (x,) = inputs(model)
            storage.export_saelens(model, tmp_path / "sae", replica=1)
            save_file({"activations": x[1].contiguous()}, tmp_path / "x")
            answer = pipe.ask(
                "reconstruct",
                folder=str(tmp_path / "sae"),
                activations=str(tmp_path / "x"),
                output=str(tmp_path / "y"),
            )
            assert answer["architecture"] == architecture
            theirs = load_file(tmp_path / "y")["reconstructions"]
            torch.testing.assert_close(theirs, model.eval()(x)[1].detach(), atol=1e-5, rtol=0)
