"""Statistics of importances where they are known."""

import numpy as np
import torch
from scipy.stats import spearmanr

from helpers.plain import generator
from lib.dictionaries.projective import Ridge
from lib.studies.projective_dictionaries import importance


def ridge(n=12, k=4, **options):
    model = Ridge(d_in=8, d_sae=n, k=k, replicas=2, generator=generator(), quota="none", **options).double()
    with torch.no_grad():
        model.bias += 0.3 * torch.randn(2, n, generator=generator(1))
    return model, torch.randn(2, 60, 8, generator=generator(2), dtype=torch.float64)


def test_orthonormal_columns_have_the_dimension_of_their_sum():
    model, x = ridge(n=8, tied=True)
    with torch.no_grad():
        model.decoder.copy_(torch.linalg.qr(torch.randn(2, 8, 8, generator=generator())).Q)
    found = importance.measure(model, x)
    assert (found["dimension_error"] < 1e-6).all()
    torch.testing.assert_close(found["conservative"], torch.ones(2).double(), check_dtype=False)
    # There beta_j = s_j y_j; leaving j out adds s_j y_j^2. With e_j = y_j the ranks agree.
    model.bias.data.zero_()
    torch.testing.assert_close(
        importance.measure(model, x)["ranks"], torch.ones(2).double(), check_dtype=False
    )


def test_the_values_are_their_definitions():
    model, x = ridge()
    found = importance.measure(model, x)
    code = model.select(model.prepare(x)[0])
    e, valid = code.strength.detach().numpy(), code.valid.numpy()
    assert 0 < (~valid).sum() < 60
    D, y = model.decoder.detach().numpy(), (x - model.centre[:, None]).detach().numpy()
    for r in range(2):
        errors, below, ranks = [], [], []
        for s in range(60):
            on = valid[r, s]
            X, lam = D[r][code.index[r, s].numpy()[on]].T, e[r, s][on] ** -2.0

            def objective(keep, X=X, lam=lam, t=y[r, s]):
                X, lam = X[:, keep], lam[keep]
                beta = np.linalg.solve(X.T @ X + np.diag(lam), X.T @ t)
                return ((t - X @ beta) ** 2).sum() + (lam * beta**2).sum()

            trace = np.trace(X @ np.linalg.inv(X.T @ X + np.diag(lam)) @ X.T)
            total = (1 / (1 + lam)).sum()
            errors.append(abs(total - trace) / trace)
            below.append(trace <= total * (1 + 1e-6))  # equal where there is one column
            every = np.arange(on.sum())
            if len(every) >= 3:
                added = [objective(np.delete(every, j)) - objective(every) for j in every]
                ranks.append(spearmanr(e[r, s][on], added).statistic)
        np.testing.assert_allclose(found["square"][r].detach(), (e[r][valid[r]] ** 2).mean())
        np.testing.assert_allclose(found["dimension_error"][r].detach(), np.mean(errors), rtol=1e-5)
        np.testing.assert_allclose(found["conservative"][r], np.mean(below))
        np.testing.assert_allclose(found["ranks"][r], np.mean(ranks), rtol=1e-5)
    torch.testing.assert_close(importance.mean_square(model, x), found["square"])
    assert not model.training


def test_no_importance_at_all():
    model, x = ridge()
    model.bias.data.fill_(-99)
    for value in importance.measure(model, x).values():
        assert (value == 0).all()
