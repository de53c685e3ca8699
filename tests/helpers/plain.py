"""What tests share: small problems in float64, and the definitions as one would first write them."""

import torch
import torch.nn.functional as F


def close(a, b, tolerance=1e-10):
    torch.testing.assert_close(a, b, atol=tolerance, rtol=tolerance)


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def problem(seed=0, batch=5, d=7, k=3, n=12, unit=True):
    """A table, supports without repetition, targets and importances, in float64."""
    g = torch.Generator().manual_seed(seed)
    table = torch.randn(n, d, generator=g, dtype=torch.float64)
    table = F.normalize(table, dim=-1) if unit else table
    index = torch.rand(batch, n, generator=g).argsort(-1)[:, :k]
    y, e = (torch.randn(batch, m, generator=g, dtype=torch.float64) for m in (d, k))
    return table, index, y, e.abs() + 0.3


def solved(table, index, y, importance=None, valid=None):
    """The definition: autograd goes through the solve. Columns that are not valid get an identity of their own."""
    rows = table[index]
    ridge = torch.zeros_like(rows[..., 0]) if importance is None else importance**-2
    if valid is not None:
        rows, ridge = rows * valid[..., None], torch.where(valid, ridge, 1.0)
    beta = torch.linalg.solve(rows @ rows.mT + torch.diag_embed(ridge), (rows @ y[..., None])[..., 0])
    y_hat = (beta[..., None] * rows).sum(1)
    return y_hat, beta, (y - y_hat).square().sum(1)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def spread(model, seed=1):
    """The model in float64, no parameter at its special start."""
    g = generator(seed)
    model = model.double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=g, dtype=torch.float64))
    return model


def small(kind, replicas=2, **options):
    return spread(kind(**{"d_in": 6} | options, d_sae=15, k=3, replicas=replicas, generator=generator()))


def samples(replicas=2, batch=40, d=6, seed=2):
    x = torch.randn(replicas, batch, d, generator=generator(seed), dtype=torch.float64)
    return x + 0.5


def gradients(loss, model):
    """By parameter; zeros where there is none."""
    found = torch.autograd.grad(loss.sum(), list(model.parameters()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(p) if grad is None else grad
        for (name, p), grad in zip(model.named_parameters(), found, strict=True)
    }


def assert_same_gradients(loss, wanted, model):
    torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=1e-10)
    ours, plain = gradients(loss, model), gradients(wanted, model)
    for name in ours:
        torch.testing.assert_close(ours[name], plain[name], rtol=1e-9, atol=1e-10)
        assert plain[name].abs().max() > 1e-6, name


def variance(x):
    return (x - x.mean(1, keepdim=True)).square().sum((1, 2))


def dense_scores(model, x):
    return (x - model.centre[:, None]) @ model.rows.mT + model.bias[:, None]
