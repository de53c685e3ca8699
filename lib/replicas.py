"""Layers for many replicas of one small network, trained as one batch.

The leading dimension of every parameter is the replica: replica r sees its own samples and has its own
weights, so a loss summed over replicas gives each one the gradient it would have had alone, and an
elementwise optimiser (Adam) the same steps. Weights start Glorot-uniform and biases at zero, as in
Flux, in which the source's code is written.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn


def _glorot(generator: Generator | None, shape: tuple, fan_in: int, fan_out: int) -> nn.Parameter:
    bound = math.sqrt(6 / (fan_in + fan_out))
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)


class Linear(nn.Module):
    """Affine maps, one a replica: `(replicas, n, d_in)` to `(replicas, n, d_out)`.

    The result is a transposed view: in memory samples are contiguous, so that the elementwise work on a
    few features of many samples runs along long rows.
    """

    def __init__(self, replicas: int, d_in: int, d_out: int, generator: Generator | None = None):
        super().__init__()
        self.weight = _glorot(generator, (replicas, d_out, d_in), d_in, d_out)
        self.bias = nn.Parameter(torch.zeros(replicas, d_out, 1))

    def forward(self, x: Float[Tensor, "replicas n d_in"]) -> Float[Tensor, "replicas n d_out"]:
        return torch.baddbmm(self.bias, self.weight, x.mT).mT


class Conv2d(nn.Module):
    """Valid convolutions, one a replica, on `(replicas, channels, height, width, n)`.

    Samples come last: patches are then copied in long runs and the convolution is one `bmm`, which on
    a CPU is five times as fast as a grouped convolution with so few channels.
    """

    def __init__(
        self, replicas: int, d_in: int, d_out: int, kernel: int, stride=1, generator: Generator | None = None
    ):
        super().__init__()
        area = kernel * kernel
        self.kernel, self.stride = kernel, stride
        self.weight = _glorot(generator, (replicas, d_out, d_in * area), d_in * area, d_out * area)
        self.bias = nn.Parameter(torch.zeros(replicas, d_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        patches = x.unfold(2, self.kernel, self.stride).unfold(3, self.kernel, self.stride)
        replicas, _, height, width, n = patches.shape[:5]
        patches = patches.permute(0, 1, 5, 6, 2, 3, 4).reshape(replicas, -1, height * width * n)
        return torch.baddbmm(self.bias, self.weight, patches).unflatten(2, (height, width, n))


class ConvTranspose2d(nn.Module):
    """Transposed convolutions, one a replica, on `(replicas, channels, height, width, n)`.

    Here one grouped convolution is the fastest: overlapping patches are added up inside it.
    """

    def __init__(
        self, replicas: int, d_in: int, d_out: int, kernel: int, stride=1, generator: Generator | None = None
    ):
        super().__init__()
        area = kernel * kernel
        self.replicas, self.stride = replicas, stride
        shape = (replicas * d_in, d_out, kernel, kernel)
        self.weight = _glorot(generator, shape, d_in * area, d_out * area)
        self.bias = nn.Parameter(torch.zeros(replicas * d_out))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(4, 0, 1, 2, 3).flatten(1, 2)
        y = F.conv_transpose2d(x, self.weight, self.bias, self.stride, groups=self.replicas)
        return y.unflatten(1, (self.replicas, -1)).permute(1, 2, 3, 4, 0)


class MLP(nn.Sequential):
    """A chain of `Linear` with ReLU between (not after) the layers, of the given widths."""

    def __init__(self, replicas: int, *widths: int, generator: Generator | None = None):
        layers = [Linear(replicas, a, b, generator) for a, b in pairwise(widths)]
        super().__init__(*[m for layer in layers for m in (layer, nn.ReLU())][:-1])
