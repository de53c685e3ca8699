"""Layers for many replicas of one small network, trained as one batch.

The leading dimension of every parameter is the replica: replica r sees its own samples and has its own
weights, so a loss summed over replicas gives each one the gradient it would have had alone, and an
elementwise optimiser (Adam) the same steps. Weights start Glorot-uniform and biases at zero, as in
Flux, the library that the author of the MNIST study's source used.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.autograd.function import once_differentiable


class Linear(nn.Module):
    """Affine maps, one per replica: `(replicas, n, d_in)` to `(replicas, n, d_out)`.

    The result is a transposed view: in memory samples are contiguous, so that the elementwise work on a
    few features of many samples runs along long rows.
    """

    def __init__(self, replicas: int, *, d_in: int, d_out: int, generator: Generator | None = None):
        super().__init__()
        self.weight = _glorot((replicas, d_out, d_in), generator, fan_in=d_in, fan_out=d_out)
        self.bias = nn.Parameter(torch.zeros(replicas, d_out, 1))

    def forward(self, x: Float[Tensor, "replicas n d_in"]) -> Float[Tensor, "replicas n d_out"]:
        return torch.baddbmm(self.bias, self.weight, x.mT).mT


class Conv2d(nn.Module):
    """Valid convolutions, one per replica, from and to `(replicas, channels, height, width, n)`.

    `d_in` and `d_out` are channels, `kernel` the side of the square kernel. Samples come last: patches are
    then copied in long runs and the convolution is one `bmm`, which on a CPU is five times as fast as a
    grouped convolution with so few channels.
    """

    def __init__(
        self,
        replicas: int,
        *,
        d_in: int,
        d_out: int,
        kernel: int,
        stride: int = 1,
        generator: Generator | None = None,
    ):
        super().__init__()
        area = kernel * kernel
        self.kernel, self.stride = kernel, stride
        shape = (replicas, d_out, d_in * area)
        self.weight = _glorot(shape, generator, fan_in=d_in * area, fan_out=d_out * area)
        self.bias = nn.Parameter(torch.zeros(replicas, d_out, 1))

    def forward(self, x: Tensor) -> Tensor:
        patches = _Patches.apply(x, self.kernel, self.stride)
        y = torch.baddbmm(self.bias, self.weight, patches.flatten(4).flatten(1, 3))
        return y.unflatten(2, patches.shape[4:])


class _Patches(torch.autograd.Function):
    """Patches `(replicas, channels, kernel, kernel, height, width, n)`; torch's own gradient of `unfold` is slow."""

    @staticmethod
    def forward(ctx, x: Tensor, kernel: int, stride: int) -> Tensor:
        ctx.shape, ctx.stride = x.shape, stride
        patches = x.unfold(2, kernel, stride).unfold(3, kernel, stride)
        return patches.permute(0, 1, 5, 6, 2, 3, 4).contiguous()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        kernel, height, width = grad.shape[3:6]
        out, s = grad.new_zeros(ctx.shape), ctx.stride
        for i in range(kernel):  # each offset of the kernel adds one strided copy
            for j in range(kernel):
                rows, columns = slice(i, i + s * (height - 1) + 1, s), slice(j, j + s * (width - 1) + 1, s)
                out[:, :, rows, columns] += grad[:, :, i, j]
        return out, None, None


class ConvTranspose2d(nn.Module):
    """Transposed convolutions, one per replica, from and to `(replicas, channels, height, width, n)`.

    Arguments as for `Conv2d`. Here one grouped convolution is the fastest: overlapping patches are added
    up inside it.
    """

    def __init__(
        self,
        replicas: int,
        *,
        d_in: int,
        d_out: int,
        kernel: int,
        stride: int = 1,
        generator: Generator | None = None,
    ):
        super().__init__()
        area = kernel * kernel
        self.replicas, self.stride = replicas, stride
        shape = (replicas * d_in, d_out, kernel, kernel)
        self.weight = _glorot(shape, generator, fan_in=d_in * area, fan_out=d_out * area)
        self.bias = nn.Parameter(torch.zeros(replicas * d_out))

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(4, 0, 1, 2, 3).flatten(1, 2)
        y = F.conv_transpose2d(x, self.weight, self.bias, self.stride, groups=self.replicas)
        return y.unflatten(1, (self.replicas, -1)).permute(1, 2, 3, 4, 0)


def mlp(replicas: int, *widths: int, generator: Generator | None = None) -> nn.Sequential:
    """A chain of `Linear` of the given widths, input first, with ReLU between the layers and none after the last."""
    chain = nn.Sequential()
    for d_in, d_out in pairwise(widths):
        if len(chain):
            chain.append(nn.ReLU())
        chain.append(Linear(replicas, d_in=d_in, d_out=d_out, generator=generator))
    return chain


def _glorot(shape: tuple, generator: Generator | None, *, fan_in: int, fan_out: int) -> nn.Parameter:
    bound = math.sqrt(6 / (fan_in + fan_out))
    return nn.Parameter((torch.rand(shape, generator=generator) * 2 - 1) * bound)
