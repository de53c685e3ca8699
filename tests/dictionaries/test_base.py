"""Sparse autoencoders against plain dense versions in float64, replicas against separate models, and bad input."""

import pytest
import torch
import torch.nn.functional as F

from helpers.dictionaries import ALL, every
from helpers.plain import (
    assert_same_gradients,
    dense_scores,
    generator,
    gradients,
    samples,
    small,
    spread,
    variance,
)
from lib.dictionaries.base import Dictionary
from lib.dictionaries.planted import Planted
from lib.dictionaries.projective import Hybrid, Projective, Ridge
from lib.dictionaries.recovery import recovered
from lib.dictionaries.references import DenseTopK
from lib.dictionaries.sae import L1, BatchTopK, TopK
from lib.dictionaries.training import Step, fit

SIZES = {"d_in": 6, "d_sae": 15, "k": 3}


@pytest.mark.parametrize("tied", [False, True])
def test_top_k_is_the_plain_dense_autoencoder(tied):
    model, x = small(TopK, tied=tied), samples()
    scores = dense_scores(model, x)
    values, index = scores.topk(3, dim=-1)
    code = torch.zeros_like(scores).scatter(-1, index, values.relu())
    y_hat = code @ model.decoder + model.centre[:, None]
    torch.testing.assert_close(model(x), y_hat)
    assert_same_gradients(model.loss(x), (x - y_hat).square().sum((1, 2)) / variance(x), model)


def test_top_k_is_the_plain_reference():
    model, x = small(TopK), samples()
    for r in range(2):
        plain = DenseTopK(**SIZES).double()
        plain.load_state_dict({name: value[r] for name, value in model.named_parameters()})
        torch.testing.assert_close(model(x)[r], plain(x[r]))
        (plain(x[r]) - x[r]).square().sum().div(variance(x)[r]).backward()
        for name, grad in gradients(model.loss(x), model).items():
            torch.testing.assert_close(grad[r], plain.get_parameter(name).grad)


def test_dead_latents_reconstruct_the_residual():
    """AuxK, dense: the d/2 best dead latents, on what is left, with weight 1/32."""
    model, x = small(TopK, dead_after=100).train(), samples()
    dead = torch.zeros(2, 15, dtype=torch.bool)
    dead[0, :8] = dead[1, 3:5] = True  # in replica 1 fewer than d/2
    with torch.no_grad():
        model.bias[~dead] += 9  # no dead one is among the top 3
    model.idle[dead] = 101
    scores = dense_scores(model, x)
    values, index = scores.topk(3, dim=-1)
    residual = x - model.centre[:, None]
    residual = residual - torch.zeros_like(scores).scatter(-1, index, values.relu()) @ model.decoder
    main = residual.square().sum((1, 2)) / variance(x)
    dead_scores = torch.where(dead[:, None], scores, -torch.inf)
    values, index = dead_scores.topk(3, dim=-1)
    guess = torch.zeros_like(scores).scatter(-1, index, values.clamp_min(0)) @ model.decoder
    target = residual.detach()
    auxiliary = (guess - target).square().sum((1, 2)) / target.square().sum((1, 2)) / 32
    wanted = main + auxiliary
    assert_same_gradients(model.loss(x), wanted, model)
    assert gradients(auxiliary, model)["encoder"][0].any()


def test_a_dead_latent_is_revived_and_without_auxk_it_is_not():
    data = Planted("independent", replicas=1, generator=generator(), n=32, d=16, l0=2)
    alive = {}
    for dead_after in (500, 10**9):
        model = TopK(d_in=16, d_sae=32, k=2, dead_after=dead_after, generator=generator())
        model.encoder.data[:, :16] *= 0.02  # too weak to be among the top 2
        fit({"m": model}, data.stream(64, generator(1)), steps=150, lr=1e-2)
        alive[dead_after] = (model.idle[0, :16] < 2000).sum()
    assert alive[500] >= 8 and alive[10**9] <= 2


def test_idle_counts_samples_since_the_last_use():
    model, x = TopK(**SIZES, generator=generator()), samples(1).float()
    model.bias.data[0, :2] = -99
    model.train().loss(x)
    code = model.select(model.prepare(x)[0])
    used = torch.zeros(15, dtype=torch.bool)
    used[code.index[code.valid]] = True
    assert torch.equal(model.idle[0], torch.where(used, 0, 40))
    model.train().loss(x)
    assert torch.equal(model.idle[0], torch.where(used, 0, 80))
    model.eval().loss(x)
    assert model.idle.max() == 80, "evaluation does not count"


def test_batch_top_k_in_training_uses_the_largest_of_the_batch():
    model, x = (
        spread(BatchTopK(d_in=16, d_sae=15, k=3, replicas=2, generator=generator())).train(),
        samples(d=16),
    )
    scores = dense_scores(model, x)
    least = scores.flatten(1).topk(3 * 40).values[:, -1]
    assert (least > 0).all() and ((scores >= least[:, None, None]).sum(-1) <= model.most).all()
    code = model.select(model.prepare(x)[0])
    assert code.valid.sum((1, 2)).tolist() == [120, 120]
    assert (code.valid.sum(-1) > 3).any() and (code.valid.sum(-1) < 3).any()
    y_hat = torch.where(scores >= least[:, None, None], scores, 0.0) @ model.decoder
    wanted = (x - y_hat - model.centre[:, None]).square().sum((1, 2)) / variance(x)
    assert_same_gradients(model.loss(x), wanted, model)


def test_batch_top_k_at_test_uses_its_threshold():
    model, x = (
        spread(BatchTopK(d_in=16, d_sae=15, k=3, replicas=2, generator=generator())).train(),
        samples(d=16),
    )
    sizes = ((x, 120), (x[:, ::2], 60))
    least = [dense_scores(model, part).flatten(1).topk(many).values[:, -1] for part, many in sizes]
    model.loss(x)
    torch.testing.assert_close(model.threshold.double(), least[0].detach(), rtol=1e-6, atol=0)
    model.loss(x[:, ::2])
    threshold = 0.99 * least[0] + 0.01 * least[1]
    torch.testing.assert_close(model.threshold.double(), threshold.detach(), rtol=1e-6, atol=0)
    model.eval()
    before = model.threshold.clone()
    model.threshold[0] *= 0.8
    scores = dense_scores(model, x)
    on = scores >= model.threshold[:, None, None]
    assert (on.sum(-1) <= model.most).all() and on[0].sum() != on[1].sum()
    y_hat = torch.where(on, scores, 0.0) @ model.decoder + model.centre[:, None]
    torch.testing.assert_close(model(x), y_hat)
    assert model.threshold[1] == before[1], "evaluation does not move it"
    model.threshold.fill_(-1.0)
    assert (model.select(model.prepare(x)[0]).strength >= 0).all()


def test_batch_top_k_is_bounded_in_each_sample():
    model = BatchTopK(**SIZES | {"k": 1}, generator=generator())
    assert model.most == 4 and BatchTopK(**SIZES).most == 6
    assert BatchTopK(d_in=60, d_sae=15, k=10).most == 15
    assert BatchTopK(d_in=60, d_sae=15, k=3, d_out=5).most == 5
    with torch.no_grad():
        model.bias += 9
    model.eval()
    assert (model.select(samples(1).float()).valid.sum(-1) == 4).all()


def test_l1_is_the_plain_dense_autoencoder():
    model, x = small(L1, penalty=0.3), samples()
    z = dense_scores(model, x).relu()
    y_hat = z @ model.decoder + model.centre[:, None]
    torch.testing.assert_close(model(x), y_hat)
    norm = (x - model.centre[:, None]).square().sum(-1).mean(-1).sqrt().detach()
    wanted = (x - y_hat).square().sum((1, 2)) / variance(x) + 0.3 * z.sum(-1).mean(-1) / norm
    assert_same_gradients(model.loss(x), wanted, model)
    code = model.select(model.prepare(x)[0])
    torch.testing.assert_close(code.strength.sort().values, z.topk(3, dim=-1).values.sort().values)


def test_the_loss_does_not_depend_on_the_scale_of_the_data():
    for kind in (TopK, L1):
        model, x = small(kind, penalty=0.3) if kind is L1 else small(kind), samples()
        with torch.no_grad():
            model.bias.zero_()
            model.centre.zero_()
        torch.testing.assert_close(model.loss(7 * x), model.loss(x))


@every
def test_a_replica_trains_as_it_would_alone(kind, options):
    together = small(kind, replicas=3, **options).float()
    alone = kind(**SIZES, **options)
    alone.load_state_dict({name: value[1:2] for name, value in together.state_dict().items()})
    data = [samples(3, seed=s).float() * torch.tensor([1.0, 2.0, 30.0])[:, None, None] for s in range(6)]
    steps = [Step(model, lr=0.02, clip=0.3) for model in (together, alone)]
    for x in data:
        losses = steps[0](x), steps[1](x[1:2])
    torch.testing.assert_close(losses[0][1:2], losses[1])
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(together.state_dict()[name][1:2], value, rtol=1e-3, atol=1e-4)


@every
def test_one_input_serves_all_replicas(kind, options):
    model, x = small(kind, **options).eval(), samples(1)
    torch.testing.assert_close(model(x[0]), model(x.expand(2, -1, -1)))


@pytest.mark.parametrize(("kind", "options"), [pair for pair in ALL if pair[1].get("quota") != "budget"])
def test_a_planted_dictionary_is_found(kind, options):
    data = Planted("independent", replicas=1, generator=generator(), n=32, d=16, l0=2)
    sizes = {"strength": 30.0} if options.get("quota") == "normalised" else {}
    sizes |= {"penalty": 0.01} if "penalty" in options else {"penalty": 0.4} if kind is L1 else {}
    k = 8 if kind is L1 else 2
    model = kind(d_in=16, d_sae=32, k=k, generator=generator(3), **options | sizes)
    before = recovered(model.decoder, data.features)["recovery"]
    fit({"m": model}, data.stream(128, generator(1)), steps=400, lr=1e-2)
    after = recovered(model.decoder, data.features)["recovery"]
    assert after > 0.9 > 0.8 > before, (before, after)


def test_constraint_and_tangent_keep_rows_on_the_sphere():
    model, x = small(TopK), samples()
    model.constrain()
    torch.testing.assert_close(model.decoder.norm(dim=-1), torch.ones(2, 15).double())
    model.loss(x).sum().backward()
    along = (model.decoder.grad * model.decoder).sum(-1)
    grad = model.decoder.grad.clone()
    assert along.abs().max() > 1e-3
    model.tangent()
    torch.testing.assert_close(model.decoder.grad, grad - along[..., None] * model.decoder)
    assert (model.decoder.grad * model.decoder).sum(-1).abs().max() < 1e-12


def test_the_start_is_of_unit_rows_and_its_generator():
    one, other, third = (TopK(**SIZES, replicas=2, generator=generator(s)) for s in (0, 0, 1))
    torch.testing.assert_close(one.decoder.norm(dim=-1), torch.ones(2, 15))
    assert torch.equal(one.decoder, other.decoder) and not torch.equal(one.decoder, third.decoder)
    assert torch.equal(one.encoder, one.decoder) and one.encoder is not one.decoder
    assert not torch.equal(one.decoder[0], one.decoder[1])
    assert TopK(**SIZES, tied=True).encoder is None


def test_a_transcoder_reads_one_layer_and_reconstructs_another():
    model, a, y = small(TopK, d_in=4, d_out=6), samples(d=4), samples(seed=5)
    assert model.encoder.shape == (2, 15, 4) and model(a, y).shape == y.shape
    scores = a @ model.encoder.mT + model.bias[:, None]  # nothing is taken from the input
    values, index = scores.topk(3, dim=-1)
    code = torch.zeros_like(scores).scatter(-1, index, values.relu())
    y_hat = code @ model.decoder + model.centre[:, None]
    torch.testing.assert_close(model(a, y), y_hat)
    assert_same_gradients(model.loss(a, y), (y - y_hat).square().sum((1, 2)) / variance(y), model)
    assert torch.equal(model(a), model(a, y)), "amplitudes decode without a target"
    with pytest.raises(ValueError, match="a transcoder needs a target"):
        model.loss(a)


def test_fewer_positive_scores_than_k():
    model, x = small(TopK), samples()
    with torch.no_grad():
        model.bias -= 2.5
    code = model.select(model.prepare(x)[0])
    assert 0 < code.valid.sum() < code.valid.numel()
    assert torch.equal(code.valid, code.strength > 0) and (code.strength[~code.valid] == 0).all()
    with torch.no_grad():
        model.bias -= 100
    torch.testing.assert_close(model(x), model.centre[:, None].expand_as(x))
    assert model.loss(x).isfinite().all()


@every
def test_zeros_are_reconstructed_and_give_no_nan(kind, options):
    model, x = kind(**SIZES, generator=generator(), **options), samples(1).float()
    x[0, 3] = 0
    model.train().loss(x).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert (model.eval()(torch.zeros(1, 4, 6)) == 0).all()
    assert model.train().loss(torch.zeros(1, 4, 6)).isfinite().all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 16}, "k is 16, more than the 15 latents"),
        ({"k": 0}, "k is 0; it must be a positive integer"),
        ({"k": 2.0}, "k is 2.0; it must be a positive integer"),
        ({"d_in": 0}, "d_in is 0"),
        ({"d_sae": -1}, "d_sae is -1"),
        ({"replicas": 0}, "replicas is 0"),
        ({"d_out": 0}, "d_out is 0"),
        ({"d_out": 6, "tied": True}, "a transcoder .* choose tied=False"),
    ],
)
def test_dictionaries_that_can_not_be_are_refused(options, said):
    for kind in (Dictionary, TopK, BatchTopK, L1):
        with pytest.raises(ValueError, match=said) as error:
            kind(**SIZES | options)
        assert "\n" not in str(error.value)


def nan(x, value=torch.nan):
    x[1, 3, 2] = value
    return x


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ((samples(d=7),), "the input is \\(2, 40, 7\\); its last dimension must be 6"),
        ((samples()[0, 0],), "the input is \\(6,\\)"),
        ((samples(3),), "the input has 3 replicas; the dictionary has 2"),
        ((nan(samples()),), "the input has NaN or infinite values"),
        ((nan(samples(), -torch.inf),), "the input has NaN or infinite values"),
        ((samples(), samples(d=5)), "the target is \\(2, 40, 5\\); its last dimension must be 6"),
        ((samples(), samples(3)), "the target has 3 replicas"),
        ((samples(), nan(samples())), "the target has NaN"),
        ((samples(), samples(batch=39)), "40 inputs and 39 targets"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, said):
    for kind in (TopK, L1, Projective, Ridge, Hybrid):
        for call in (small(kind), small(kind).loss):
            with pytest.raises(ValueError, match=said) as error:
                call(*inputs)
            assert "\n" not in str(error.value)


def test_the_decoder_rows_are_unit_after_normalising_their_gradient():
    """A step against the tangent gradient, renormalised, lowers the loss: the sign is right."""
    model, x = small(TopK), samples()
    model.constrain()
    before = model.loss(x).sum()
    before.backward()
    model.tangent()
    with torch.no_grad():
        model.decoder.copy_(F.normalize(model.decoder - 1e-3 * model.decoder.grad, dim=-1))
    assert model.loss(x).sum() < before
