"""The fast loss is transformers' loss."""

import pytest
import torch
import torch.nn.functional as F

from helpers.small_neox import model as tiny
from lib.neox import loss as neox_loss


@pytest.mark.parametrize("changes", [{}, {"rotary_pct": 1.0, "num_attention_heads": 2}])
@pytest.mark.parametrize("block", [7, 128])
def test_loss_and_gradients_are_transformers(monkeypatch, changes, block):
    """Values and every parameter's gradient in float64; with a block that does not divide the rows."""
    monkeypatch.setattr(neox_loss, "ROWS", block)
    model = tiny(**changes).double()
    windows = torch.randint(320, (3, 18), generator=torch.Generator().manual_seed(1))

    def grads(loss):
        return loss, torch.autograd.grad(3 * loss, list(model.parameters()))

    plain, expected = grads(
        F.cross_entropy(model(windows[:, :-1]).logits.flatten(0, 1), windows[:, 1:].flatten())
    )
    fast, got = grads(neox_loss.loss(model, windows))
    assert fast.item() == pytest.approx(plain.item(), abs=1e-12)
    for (name, _), a, b in zip(model.named_parameters(), got, expected, strict=True):
        assert (a - b).norm() <= 1e-10 * b.norm() and b.norm() > 0, name


def test_a_certain_mistake_has_a_finite_loss():
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight *= 1e4
    assert torch.isfinite(neox_loss.loss(model, torch.randint(320, (2, 9))))
