"""Each replica is an ordinary torch layer: same values, same gradients, no mixing."""

import pytest
import torch
import torch.nn.functional as F

from helpers.plain import generator
from lib.networks import training
from lib.networks.replicas import Conv2d, ConvTranspose2d, Linear, mlp
from lib.studies.mnist_superposition import outer


def test_linear():
    layer = Linear(3, d_in=4, d_out=5, generator=generator()).double()
    x = torch.randn(3, 7, 4, generator=generator(1), dtype=torch.float64)
    for r in range(3):
        torch.testing.assert_close(layer(x)[r], F.linear(x[r], layer.weight[r], layer.bias[r, :, 0]))


@pytest.mark.parametrize("kernel, stride, size", [(3, 2, 7), (2, 1, 2), (3, 2, 8)])
def test_convolution(kernel, stride, size):
    layer = Conv2d(2, d_in=3, d_out=4, kernel=kernel, stride=stride, generator=generator()).double()
    torch.nn.init.normal_(layer.bias, generator=generator(5))
    x = torch.randn(2, 3, size, size, 6, generator=generator(1), dtype=torch.float64)
    for r in range(2):
        weight = layer.weight[r].view(4, 3, kernel, kernel)
        reference = F.conv2d(x[r].permute(3, 0, 1, 2), weight, layer.bias[r, :, 0], stride)
        torch.testing.assert_close(layer(x)[r].permute(3, 0, 1, 2), reference)
    assert torch.autograd.gradcheck(layer, x[..., :2].clone().requires_grad_())


@pytest.mark.parametrize("kernel, stride, size", [(2, 1, 1), (4, 2, 2), (3, 2, 6), (4, 2, 13)])
def test_transposed_convolution(kernel, stride, size):
    layer = ConvTranspose2d(2, d_in=3, d_out=4, kernel=kernel, stride=stride, generator=generator()).double()
    torch.nn.init.normal_(layer.bias, generator=generator(5))
    x = torch.randn(2, 3, size, size, 6, generator=generator(1), dtype=torch.float64)
    for r in range(2):
        weight, bias = layer.weight.view(2, 3, 4, kernel, kernel)[r], layer.bias.view(2, 4)[r]
        reference = F.conv_transpose2d(x[r].permute(3, 0, 1, 2), weight, bias, stride)
        torch.testing.assert_close(layer(x)[r].permute(3, 0, 1, 2), reference)


def test_mlp_has_no_activation_after_its_last_layer():
    out = mlp(1, 3, 8, 2, generator=generator())(torch.randn(1, 100, 3, generator=generator(1)))
    assert out.shape == (1, 100, 2) and (out < 0).any()


def test_training_together_is_training_alone():
    """A batch of two replicas takes the steps that each would take by itself."""
    x = torch.rand(2, 5, 16, 28, 28, generator=generator(1), dtype=torch.float64)
    y = torch.randint(10, (2, 5, 16), generator=generator(2))
    together = outer.Classifier(2, generator=generator(3)).double()
    alone = outer.Classifier(1).double()
    with torch.no_grad():
        for p, q in zip(alone.parameters(), together.parameters(), strict=True):
            p.copy_(q[1:])
    training.train(together, ((x[:, i], y[:, i]) for i in range(5)), steps=5, lr=1e-2)
    training.train(alone, ((x[1:, i], y[1:, i]) for i in range(5)), steps=5, lr=1e-2)
    for p, q in zip(alone.parameters(), together.parameters(), strict=True):
        torch.testing.assert_close(p, q[1:], rtol=1e-9, atol=1e-12)
