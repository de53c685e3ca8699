"""Projective dictionaries: who gets which gradient, against autograd through a solve; quotas; bad input."""

import pytest
import torch

from helpers.plain import assert_same_gradients, dense_scores, gradients, samples, small, variance
from lib.dictionaries import coding
from lib.dictionaries.projective import QUOTAS, Hybrid, Projecting, Projective, Ridge, shrinkage
from lib.dictionaries.sae import TopK

SIZES = {"d_in": 6, "d_sae": 15, "k": 3}


def solved(model, index, y, e=None, valid=None):
    """Reconstructions of prepared targets by `torch.linalg.solve`; columns of importance 0 count for nothing."""
    rows = torch.stack([D[i] for D, i in zip(model.decoder, index, strict=True)])
    on = torch.ones_like(index, dtype=torch.bool) if valid is None else valid
    rows = rows * on[..., None]
    ridge = torch.zeros_like(rows[..., 0]) if e is None else torch.where(on, e, 1.0) ** -2
    gram = rows @ rows.mT + torch.diag_embed(torch.where(on, ridge, 1.0))
    return (torch.linalg.solve(gram, rows @ y[..., None]) * rows).sum(-2)


@pytest.mark.parametrize("support", ["scores", "omp"])
def test_the_tied_projection_is_its_equation(support):
    model, x = small(Projective, support=support), samples()
    model.bias.data -= 1
    y = x - model.centre[:, None]
    if support == "scores":
        index = dense_scores(model, x).topk(3, dim=-1).indices
        assert (dense_scores(model, x).gather(-1, index) < 0).any(), "scores only rank"
    else:
        index = coding.omp(model.decoder.detach(), y.detach(), k=3)
    y_hat = solved(model, index, y)
    torch.testing.assert_close(model(x), y_hat + model.centre[:, None])
    loss, wanted = model.loss(x), (y - y_hat).square().sum((1, 2)) / variance(x)
    torch.testing.assert_close(loss, wanted)
    ours, plain = gradients(loss, model), gradients(wanted, model)
    for name in ("decoder", "centre"):
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-9, atol=1e-10)
        assert plain[name].any()


def test_the_biases_of_an_exact_projection_get_no_gradient():
    model, x = small(Projective), samples()
    model.loss(x).sum().backward()
    assert model.bias.grad is None or not model.bias.grad.any()
    assert model.decoder.grad.any()
    # Nor would they in the plain version: scores only rank.
    index = dense_scores(model, x).topk(3, dim=-1).indices
    y = x - model.centre[:, None]
    assert not gradients((y - solved(model, index, y)).square().sum(), model)["bias"].any()
    ridge = small(Ridge, tied=True)
    ridge.loss(x).sum().backward()
    assert (ridge.bias.grad != 0).sum() > 20


def test_an_untied_encoder_gets_no_gradient_from_an_exact_projection():
    model, x = small(Hybrid), samples()
    inputs, y = model.prepare(x)
    error = model.project(model.select(inputs), y).error.sum()
    encoder, decoder, bias = torch.autograd.grad(
        error, [model.encoder, model.decoder, model.bias], allow_unused=True
    )
    assert encoder is None and bias is None and decoder.any()
    with pytest.raises(ValueError, match="gives an encoder no gradient"):
        Projective(**SIZES, tied=False)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("quota", "strength"), [("penalty", 0.3), ("normalised", 4.0), ("budget", 1.1), ("none", 1.0)]
)
def test_ridge_is_its_equation(quota, strength, tied):
    model, x = small(Ridge, quota=quota, strength=strength, tied=tied), samples()
    model.bias.data -= 1
    y = x - model.centre[:, None]
    e, index = dense_scores(model, x).topk(3, dim=-1)
    valid, extra = e > 0, 0.0
    assert not valid.all()
    e = e.relu()
    if quota == "penalty":
        extra = 0.3 * (1 / (1 + torch.where(valid, e, 1.0) ** -2) * valid).sum(-1).mean(-1)
    elif quota == "normalised":
        mean = e.square().sum(-1, keepdim=True) / valid.sum(-1, keepdim=True).clamp_min(1)
        e = e * (4.0 / mean.clamp_min(1e-12)).sqrt()
    elif quota == "budget":
        valid = valid & ((e**2 / (1 + e**2)).cumsum(-1) <= 1.1)
    y_hat = solved(model, index, y, e, valid)
    torch.testing.assert_close(model(x), y_hat + model.centre[:, None])
    wanted = (y - y_hat).square().sum((1, 2)) / variance(x) + extra
    assert_same_gradients(model.loss(x), wanted, model)


def codes(quota, strength, positive=True):
    model, x = small(Ridge, quota=quota, strength=strength), samples()
    model.bias.data -= 0.0 if positive else 1.0
    return model.select(model.prepare(x)[0])


@pytest.mark.parametrize("strength", [0.5, 10.0])
def test_normalised_importances_have_their_mean_square_in_each_sample(strength):
    code, plain = codes("normalised", strength, positive=False), codes("none", 1.0, positive=False)
    some = code.valid.any(-1)
    assert some.any() and not code.valid.all()
    mean = (code.strength.square() * code.valid).sum(-1)[some] / code.valid.sum(-1)[some]
    torch.testing.assert_close(mean, torch.full_like(mean, strength))
    ratio = (code.strength / plain.strength)[some & code.valid.all(-1)]
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio))  # one factor per sample


def test_a_budget_holds_the_most_important_that_fit():
    code, plain = codes("budget", 1.6), codes("none", 1.0)
    full = shrinkage(plain.strength)
    spent = (shrinkage(code.strength) * code.valid).sum(-1)
    assert (spent <= 1.6).all()
    kept = code.valid.sum(-1)
    assert len(kept.unique()) > 1
    assert torch.equal(code.valid, code.strength > 0)
    for r, b in torch.cartesian_prod(torch.arange(2), torch.arange(40)).tolist():
        best = full[r, b].sort(descending=True).values
        m = int(kept[r, b])
        torch.testing.assert_close(spent[r, b], best[:m].sum())
        assert m == 3 or best[: m + 1].sum() > 1.6, "one more would not fit"


def test_a_penalty_adds_what_it_says_and_none_nothing():
    x = samples()
    loss = {
        (quota, strength): small(Ridge, quota=quota, strength=strength).loss(x)
        for quota, strength in (("penalty", 0.1), ("penalty", 0.4), ("none", 0.1), ("none", 9.0))
    }
    model = small(Ridge, quota="none")
    e = model.select(model.prepare(x)[0]).strength
    dimension = (1 - 1 / (1 + e**2)).sum(-1).mean(-1)
    assert torch.equal(loss["none", 0.1], loss["none", 9.0])
    for strength in (0.1, 0.4):
        torch.testing.assert_close(loss["penalty", strength] - loss["none", 0.1], strength * dimension)


def hybrid_parts(model, x, penalty):
    """The top-k loss with the decoder as a constant, and the projection's with its penalty, dense and by solve."""
    y = x - model.centre[:, None]
    scores = dense_scores(model, x)
    values, index = scores.topk(3, dim=-1)
    code = torch.zeros_like(scores).scatter(-1, index, values.relu())
    top = (y - code @ model.decoder.detach()).square().sum((1, 2)) / variance(x)
    e = values.relu()
    y_hat = solved(model, index, y, e if penalty else None, values > 0)
    project = (y - y_hat).square().sum((1, 2)) / variance(x)
    return top, project + penalty * (e**2 / (1 + e**2)).sum(-1).mean(-1)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 0.2])
def test_the_hybrid_is_the_sum_of_its_parts(penalty, tied):
    model, x = small(Hybrid, penalty=penalty, tied=tied), samples()
    top, project = hybrid_parts(model, x, penalty)
    if tied:  # selection is by the decoder too
        assert gradients(top, model)["decoder"].any()
    assert_same_gradients(model.loss(x), top + project, model)


def test_the_hybrid_s_encoder_learns_from_top_k_and_its_decoder_from_the_projection():
    model, x = small(Hybrid), samples()
    ours, (top, project) = gradients(model.loss(x), model), hybrid_parts(model, x, 0.0)
    for name, source in (("encoder", top), ("bias", top), ("decoder", project)):
        torch.testing.assert_close(ours[name], gradients(source, model)[name], rtol=1e-8, atol=1e-10)
    twin = TopK(**SIZES, replicas=2).double()
    twin.load_state_dict(model.state_dict())
    torch.testing.assert_close(ours["encoder"], gradients(twin.loss(x), twin)["encoder"])
    penalised, (_, project) = small(Hybrid, penalty=0.2), hybrid_parts(small(Hybrid, penalty=0.2), x, 0.2)
    more = gradients(penalised.loss(x), penalised)["encoder"] - ours["encoder"]
    assert more.norm() > 1e-3, "a penalty reaches the encoder"


def test_the_hybrid_decodes_by_projection():
    model, x = small(Hybrid).eval(), samples()
    code = model.select(model.prepare(x)[0])
    y_hat = solved(model, code.index, x - model.centre[:, None], valid=code.valid)
    torch.testing.assert_close(model(x), y_hat + model.centre[:, None])
    top = TopK(**SIZES, replicas=2).double()
    top.load_state_dict(model.state_dict())
    assert ((x - model(x)).square().sum(-1) <= (x - top(x)).square().sum(-1) + 1e-9).all()


def test_a_transcoder_projects_the_target():
    model, a, y = small(Ridge, d_in=4, d_out=6), samples(d=4), samples(seed=5)
    e, index = (a @ model.encoder.mT + model.bias[:, None]).topk(3, dim=-1)
    wanted = solved(model, index, y - model.centre[:, None], e.relu(), e > 0) + model.centre[:, None]
    torch.testing.assert_close(model(a, y), wanted)
    for kind in (Ridge, Hybrid):
        with pytest.raises(ValueError, match="a transcoder needs a target"):
            small(kind, d_in=4, d_out=6)(a)
    with pytest.raises(ValueError, match=r"a transcoder .* choose Ridge or Hybrid"):
        Projective(**SIZES, d_out=4)


@pytest.mark.parametrize(
    ("kind", "options"), [(Ridge, {"quota": quota, "strength": 2.0}) for quota in QUOTAS] + [(Hybrid, {})]
)
def test_latents_without_a_positive_score_have_coefficients_of_zero(kind, options):
    model, x = small(kind, **options), samples()
    with torch.no_grad():
        model.bias -= 2.0
    inputs, y = model.prepare(x)
    code = model.select(inputs)
    assert (~code.valid).any(-1).any() and code.valid.any()
    beta = model.project(code, y).coefficients.view(code.valid.shape)
    assert (beta[~code.valid] == 0).all() and (beta[code.valid] != 0).all()
    with torch.no_grad():
        model.bias -= 99  # no latent at all
    torch.testing.assert_close(model(x), model.centre[:, None].expand_as(x))
    model.loss(x).sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


def test_shrinkage_is_that_of_one_column():
    e = torch.tensor([0.0, 0.5, 1.0, 3.0])
    torch.testing.assert_close(shrinkage(e), torch.tensor([0.0, 0.2, 0.5, 0.9]))


@pytest.mark.parametrize("kind", [Projecting, Projective, Ridge, Hybrid])
def test_a_projection_on_as_many_columns_as_dimensions_is_refused(kind):
    for k in (6, 7):
        with pytest.raises(ValueError, match=f"k is {k}, but the target's width is 6"):
            kind(**SIZES | {"k": k})
    with pytest.raises(ValueError, match="more than the 3 latents"):
        kind(d_in=6, d_sae=3, k=4)


def test_of_a_transcoder_the_target_s_width_bounds_k():
    assert Ridge(d_in=3, d_out=9, d_sae=15, k=5).k == 5
    with pytest.raises(ValueError, match="the target's width is 4"):
        Ridge(d_in=9, d_out=4, d_sae=15, k=4)


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (Ridge, {"quota": "tax"}, "quota is 'tax'; allowed: 'penalty', 'normalised', 'budget', 'none'"),
        (Ridge, {"strength": 0}, "strength is 0; it must be a finite number above 0"),
        (Ridge, {"strength": float("nan")}, "strength is nan"),
        (Ridge, {"strength": "1e-3"}, "strength is '1e-3'"),
        (Projective, {"support": "nearest"}, "support is 'nearest'; allowed: 'scores' or 'omp'"),
        (Ridge, {"d_out": 4, "tied": True}, "choose tied=False"),
        (Hybrid, {"d_out": 4, "tied": True}, "choose tied=False"),
    ],
)
def test_options_that_can_not_be_are_refused(kind, options, said):
    with pytest.raises(ValueError, match=said) as error:
        kind(**SIZES, **options)
    assert "\n" not in str(error.value)


def test_a_gradient_through_the_reconstruction_is_whole_in_evaluation():
    """In training only the error needs one, and the coefficients are held fixed."""
    model, x = small(Projective).eval(), samples()
    index = dense_scores(model, x).topk(3, dim=-1).indices
    y_hat = solved(model, index, x - model.centre[:, None]) + model.centre[:, None]
    ours, plain = (gradients(out.sin().sum(), model) for out in (model(x), y_hat))
    for name in ("decoder", "centre"):
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-8, atol=1e-10)


def test_the_hybrid_s_dead_latents_reconstruct_the_residual_of_top_k():
    model, twin = small(Hybrid, dead_after=100), small(TopK, dead_after=100)
    twin.load_state_dict(model.state_dict())
    losses = []
    for m in (model, twin):
        with_dead = []
        for idle in (0, 101):
            m.bias.data[:, 8:] = 9
            m.idle[:, :8] = idle
            with_dead.append(m.loss(samples()))
        losses.append(with_dead[1] - with_dead[0])
    assert (losses[1] > 1e-3).all()
    torch.testing.assert_close(losses[0], losses[1])
