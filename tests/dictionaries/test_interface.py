"""The field's interface: encode, decode and forward agree, keep leading dimensions; weights by the names of others."""

import copy
import subprocess
import sys

import pytest
import torch

import lib.dictionaries
from helpers.dictionaries import every
from helpers.plain import generator, samples, small
from lib.common.files import ROOT
from lib.dictionaries import L1, BatchTopK, Hybrid, Projective, Ridge, TopK

PROJECT = (Projective, Ridge, Hybrid)


def ready(kind, replicas=1, **options):
    model = small(kind, replicas=replicas, **options).eval()
    if kind is BatchTopK:
        model.threshold.fill_(0.4)
    return model


@every
@pytest.mark.parametrize("replicas", [1, 2])
def test_decoding_the_codes_is_the_reconstruction(kind, options, replicas):
    model, x = ready(kind, replicas, **options), samples(replicas)
    codes = model.encode(x)
    assert codes.shape == (replicas, 40, 15)
    torch.testing.assert_close(model.decode(codes), model(x))
    assert not torch.allclose(model(x), model.centre[:, None].expand_as(x)), "something is reconstructed"


@every
def test_codes_are_of_the_latents_that_are_selected(kind, options):
    model, x = ready(kind, 2, **options), samples()
    code, codes = model.select(model.prepare(x)[0]), model.encode(x)
    used = torch.zeros(codes.shape, dtype=torch.bool)
    used.scatter_(2, code.index, code.valid)
    assert torch.equal(codes != 0, used) if kind is not L1 else (codes != 0)[used].all()
    assert kind is L1 or ((codes != 0).sum(-1) <= (model.most if kind is BatchTopK else 3)).all()
    assert (codes < 0).any() == (kind in PROJECT), (
        "coefficients of a projection may be negative, amplitudes are not"
    )


@every
def test_one_replica_keeps_the_leading_dimensions(kind, options):
    model, x = ready(kind, **options), samples(1, batch=24)[0]
    flat = {"codes": model.encode(x), "x_hat": model(x)}
    assert flat["codes"].shape == (24, 15) and flat["x_hat"].shape == (24, 6)
    for shape in [(1, 24), (4, 6), (2, 3, 4), (24, 1)]:
        view = x.view(*shape, 6)
        torch.testing.assert_close(model.encode(view), flat["codes"].view(*shape, 15))
        torch.testing.assert_close(model(view), flat["x_hat"].view(*shape, 6))
        torch.testing.assert_close(model.decode(model.encode(view)), flat["x_hat"].view(*shape, 6))
        torch.testing.assert_close(model.loss(view), model.loss(x))
    torch.testing.assert_close(model(x[3]), flat["x_hat"][3])
    torch.testing.assert_close(model.encode(x[3]), flat["codes"][3])


@every
def test_several_replicas_have_the_replica_first(kind, options):
    model, x = ready(kind, 3, **options), samples(1)[0]
    codes, x_hat = model.encode(x), model(x)
    assert codes.shape == (3, 40, 15) and x_hat.shape == (3, 40, 6)
    torch.testing.assert_close(model.decode(codes), x_hat)
    for r in range(3):
        alone = model.replica(r)
        torch.testing.assert_close(alone(x), x_hat[r])
        torch.testing.assert_close(alone.encode(x), codes[r])
    with pytest.raises(ValueError, match="the code is \\(3, 40, 6\\); its last dimension must be 15"):
        model.decode(x_hat)
    with pytest.raises(ValueError, match="the code has 2 replicas; the dictionary has 3"):
        model.decode(codes[:2])


def test_a_replica_is_a_copy():
    model = ready(BatchTopK, 2)
    state = torch.get_rng_state()
    alone = model.replica(1)
    assert torch.equal(state, torch.get_rng_state()), "nothing is drawn at random"
    assert alone.replicas == 1 and not alone.training and torch.equal(alone.threshold, model.threshold[1:])
    before = model.decoder.clone()
    alone.decoder.data.zero_()
    assert torch.equal(model.decoder, before)
    for which in (2, -1):
        with pytest.raises(ValueError, match=f"replica is {which}; it must be from 0 to 1"):
            model.replica(which)


@pytest.mark.parametrize("kind", [TopK, BatchTopK, L1])
def test_a_transcoder_of_amplitudes_needs_no_target(kind):
    model, a, y = ready(kind, d_in=4, d_out=6), samples(1, d=4), samples(1, seed=5)
    assert torch.equal(model(a), model(a, y)) and torch.equal(model.encode(a), model.encode(a, y))
    torch.testing.assert_close(model.decode(model.encode(a)), model(a))
    assert model(a[0]).shape == (40, 6)


@pytest.mark.parametrize("kind", [Ridge, Hybrid])
def test_a_transcoder_that_projects_looks_at_the_target(kind):
    model, a, y = ready(kind, d_in=4, d_out=6), samples(1, d=4), samples(1, seed=5)
    torch.testing.assert_close(model.decode(model.encode(a, y)), model(a, y))
    assert not torch.allclose(model.encode(a, y), model.encode(a, 2 * y))
    for call in (model, model.encode, model.loss):
        with pytest.raises(ValueError, match="a transcoder needs a target"):
            call(a)


@pytest.mark.parametrize("options", [{}, {"tied": True}, {"d_in": 4, "d_out": 6}], ids=str)
def test_weights_have_the_names_and_shapes_of_others(options):
    """By SAELens' equations: codes = relu((x - b_dec) W_enc + b_enc), x_hat = codes W_dec + b_dec."""
    model = ready(L1, **options)
    assert model.W_enc.shape == (model.d_in, 15) and model.W_dec.shape == (15, 6)
    assert model.b_enc.shape == (15,) and model.b_dec.shape == (6,)
    a = samples(1, d=model.d_in)[0]
    codes = ((a if model.transcodes else a - model.b_dec) @ model.W_enc + model.b_enc).relu()
    torch.testing.assert_close(model.encode(a), codes)
    torch.testing.assert_close(model(a), codes @ model.W_dec + model.b_dec)
    many = ready(L1, 2, **options)
    assert many.W_enc.shape == (2, model.d_in, 15) and many.b_dec.shape == (2, 6)


def test_cfg_says_what_others_ask_for():
    model = Ridge(d_in=8, d_sae=20, k=3, generator=generator())
    cfg = model.cfg
    assert (cfg.d_in, cfg.d_sae, cfg.k, cfg.dtype, cfg.device) == (8, 20, 3, "float32", "cpu")
    assert cfg.architecture == "Ridge" and cfg.apply_b_dec_to_input and cfg.normalize_activations == "none"
    cfg.metadata.hook_name = "blocks.3.hook_resid_post"
    assert model.double().cfg is cfg and model.cfg.dtype == "float64", "one object, which knows of changes"
    assert model.cfg.metadata.hook_name == "blocks.3.hook_resid_post"
    assert "metadata" not in cfg.to_dict() and cfg.to_dict()["strength"] == model.strength
    assert copy.deepcopy(model).cfg.metadata is not cfg.metadata
    transcoder = Ridge(d_in=8, d_out=5, d_sae=20, k=3).cfg
    assert transcoder.d_out == 5 and not transcoder.apply_b_dec_to_input
    assert model.device == torch.device("cpu") and model.dtype == torch.float64


def test_the_public_face_is_whole():
    assert sorted(lib.dictionaries.__all__) == sorted(set(lib.dictionaries.__all__))
    for name in lib.dictionaries.__all__:
        assert getattr(lib.dictionaries, name).__doc__, name
    for name in (
        "TopK",
        "BatchTopK",
        "L1",
        "Projective",
        "Ridge",
        "Hybrid",
        "fit",
        "save",
        "load",
        "export_saelens",
    ):
        assert name in lib.dictionaries.__all__
    listed = {
        line.split()[0] for line in lib.dictionaries.__doc__.split("\n\n")[-1].splitlines() if line.strip()
    }
    assert listed == {p.stem for p in (ROOT / "lib/dictionaries").glob("[!_]*.py")}, "the map of the folder"


def test_importing_it_is_light():
    code = "import sys, lib.dictionaries; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    bare = "import sys, torch, safetensors.torch, jaxtyping, tqdm; print(*{n.split('.')[0] for n in sys.modules})"
    loaded, allowed = (
        set(
            subprocess.run(
                [sys.executable, "-c", c], cwd=ROOT, capture_output=True, text=True, check=True
            ).stdout.split()
        )
        for c in (code, bare)
    )
    assert loaded - allowed - set(sys.stdlib_module_names) == {"lib"}
