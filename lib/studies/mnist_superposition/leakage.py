"""How much of a sample reaches its own prediction: what noise2self forbids (Batson & Royer 2019)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn


def own_jacobian(
    model: nn.Module, x: Float[Tensor, "replicas n d"], view: Tensor | None = None
) -> Float[Tensor, "replicas n d d"]:
    """J_i = d x_hat_i / d x_i, `[r, i, a, b]` = d x_hat_ia / d x_ib, all other samples held fixed.

    One backward pass a sample and coordinate: for batches of some dozens of samples. J-invariance with
    respect to whole samples is J_i = 0; with respect to single coordinates, a zero diagonal.
    """
    x = x.detach().requires_grad_()
    x_hat = model(x, view)
    n, d = x.shape[1:]
    out = x.new_zeros(*x.shape, d)
    if not x_hat.requires_grad:
        return out
    for i in range(n):
        for a in range(d):
            (grad,) = torch.autograd.grad(x_hat[:, i, a].sum(), x, retain_graph=True, allow_unused=True)
            if grad is not None:
                out[:, i, a] = grad[:, i]
    return out


def leak(
    model: nn.Module, x: Float[Tensor, "replicas n d"], view: Tensor | None = None
) -> Float[Tensor, "replicas"]:
    """Mean of trace(J_i)/d over samples: 0 for a J-invariant prediction, 1 for the identity."""
    jacobian = own_jacobian(model, x, view)
    return jacobian.diagonal(dim1=-2, dim2=-1).mean((-2, -1))
