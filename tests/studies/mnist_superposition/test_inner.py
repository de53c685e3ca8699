"""Inner models against the equations, and their J-invariance where it is claimed."""

import pytest
import torch

from helpers.plain import draw
from lib.studies.mnist_superposition import inner
from lib.studies.mnist_superposition.affinity import pwak
from lib.studies.mnist_superposition.evaluation import leak, own_jacobian

X, VIEW = draw(2, 40, 3), draw(2, 40, 3, seed=1)


@pytest.mark.parametrize("name", inner.NAMES)
def test_every_model_reconstructs_shapes_and_learns(name):
    model = inner.build(name, 2).double()
    assert model(X, VIEW).shape == X.shape and model.encode(X).shape == (2, 40, 27)
    before = model.loss(X, VIEW).sum()
    run = inner.train(model, X, view=VIEW, inner=1, steps=30, lr=1e-2)
    assert model.loss(X, VIEW).sum() < before and run.losses.isfinite().all()


def test_sae_is_tied():
    model = inner.build("SAE", 2).double()
    for r in range(2):
        E = (X[r] @ model.weight[r].T + model.bias[r, :, 0]).relu()
        torch.testing.assert_close(model(X)[r], E @ model.weight[r])


@pytest.mark.parametrize("name", ["PSAE", "DeePWAK", "DeePWAK, rows"])
def test_diffusing_models_are_their_equation(name):
    model = inner.build(name, 2).double()
    K = model.partitioner(X).softmax(-1).mT
    torch.testing.assert_close(K.sum(1), torch.ones(2, 40, dtype=torch.float64))
    E_hat = pwak(K, normalise="rows" if "rows" in name else "columns") @ model.encode(X)
    torch.testing.assert_close(model(X), model.autoencoder.decode(E_hat))


def test_complement_predicts_each_coordinate_from_the_others():
    model = inner.build("DeePWAK-complement", 2).double()
    for c in range(3):
        masked = X.clone()
        masked[..., c] = 0
        K = model.partitioner(masked).softmax(-1).mT
        expected = model.autoencoder.decode(pwak(K) @ model.encode(X))[..., c]
        torch.testing.assert_close(model(X)[..., c], expected)


def test_the_view_must_be_given():
    with pytest.raises(ValueError, match="view"):
        inner.build("DeePWAK-view", 2).double()(X)


def test_unknown_model_is_named():
    with pytest.raises(ValueError, match=r"'DeepWAK'; allowed: .*DeePWAK"):
        inner.build("DeepWAK", 1)


def test_hard_assignment_is_a_mean_over_the_other_members():
    model = inner.build("DeePWAK, rows", 1).double()
    clusters = model.assign(X[:1]).argmax(1)[0]
    E = model.encode(X[:1])[0]
    i = 0
    others = [j for j in range(40) if j != i and clusters[j] == clusters[i]]
    expected = model.autoencoder.decode(E[others].mean(0)[None, None])[0, 0]
    torch.testing.assert_close(model(X[:1], hard=True)[0, i], expected)


def test_own_jacobian_against_finite_differences():
    model = inner.build("DeePWAK", 2).double()
    J, step = own_jacobian(model, X), 1e-6
    for b in range(3):
        moved = X.clone()
        moved[1, 7, b] += step
        slope = (model(moved) - model(X))[1, 7] / step
        torch.testing.assert_close(J[1, 7, :, b], slope, rtol=1e-4, atol=1e-6)


def test_the_source_leaks_and_the_repaired_variants_do_not():
    """The derivation: K_i is computed from x_i, so the prediction depends on it, unless K_i cannot see x_i."""
    for name in ("PSAE", "DeePWAK", "Codebook"):
        assert own_jacobian(inner.build(name, 2).double(), X).abs().max() > 1e-4, name
    view = inner.build("DeePWAK-view", 2).double()
    assert own_jacobian(view, X, view=VIEW).abs().max() < 1e-12
    complement = own_jacobian(inner.build("DeePWAK-complement", 2).double(), X)
    assert complement.diagonal(dim1=-2, dim2=-1).abs().max() < 1e-12
    assert complement.abs().max() > 1e-6  # off the diagonal it may look


def test_leak_of_the_identity_is_one():
    class Identity(torch.nn.Module):
        def forward(self, x, view=None):
            return x * 1.0

    torch.testing.assert_close(leak(Identity(), X), torch.ones(2, dtype=torch.float64))


def test_leak_of_a_constant_is_zero():
    class Mean(torch.nn.Module):
        def forward(self, x, view=None):
            return torch.zeros_like(x)

    assert leak(Mean(), X).abs().max() == 0


def test_replicas_learn_on_the_activations_of_their_outer_model():
    """With one outer model constant at a far point, its replicas and no others move there."""
    x = torch.stack([torch.full((64, 3), 4.0), torch.full((64, 3), -4.0)])
    model = inner.build("Autoencoder", 4)
    inner.train(model, x, inner=2, steps=300, lr=1e-2)
    with torch.no_grad():
        out = model(x.repeat_interleave(2, 0)).mean((1, 2))
    torch.testing.assert_close(out, torch.tensor([4.0, 4.0, -4.0, -4.0]), atol=0.1, rtol=0)
