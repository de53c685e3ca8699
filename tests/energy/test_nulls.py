"""What nulls keep and what they destroy, against numpy, and p-values by hand."""

import numpy as np
import pytest
import torch

from helpers.plain import close, generator
from lib.energy import nulls
from lib.energy.objective import EnergyError, similarity


def psm(n=6):
    """Symmetric to the last bit, which a product of matrices is on some processors only."""
    found = similarity(torch.randn(n, 9, generator=generator(), dtype=torch.float64))
    return (found + found.mT) / 2


def test_edges_are_shuffled_and_no_more():
    real = psm()
    real[2, 2] = 0.5  # whatever a diagonal is, it stays
    drawn = nulls.edge_shuffled(real, 400, generator=generator(1))
    assert drawn.shape == (400, 6, 6) and torch.equal(drawn, drawn.mT)
    assert torch.equal(drawn.diagonal(dim1=1, dim2=2), real.diagonal().expand(400, 6))
    pairs, own = nulls.off_diagonal(drawn), nulls.off_diagonal(real)
    assert torch.equal(pairs.sort(-1).values, own.sort().values.expand(400, 15))
    assert len(drawn.flatten(1).unique(dim=0)) == 400
    # Each value is as often at each pair: 400 draws put 400 / 15 there, give or take five standard deviations.
    counts = torch.stack([(pairs == value).sum(0) for value in own])
    assert (counts - 400 / 15).abs().max() < 5 * (400 / 15) ** 0.5
    assert torch.equal(drawn, nulls.edge_shuffled(real, 400, generator=generator(1)))


def test_the_shuffled_psm_is_checked():
    with pytest.raises(EnergyError, match="NaN"):
        nulls.edge_shuffled(torch.full((3, 3), torch.nan), 2, generator=generator())


def test_coordinates_are_permuted_for_each_direction_by_itself():
    x = torch.randn(4, 30, generator=generator(), dtype=torch.float64)
    drawn = nulls.coordinate_permuted(x, 50, generator=generator(1))
    assert drawn.shape == (50, 4, 30)
    assert torch.equal(drawn.sort(-1).values, x.sort(-1).values.expand(50, 4, 30))
    assert len(drawn.flatten(1).unique(dim=0)) == 50
    # Two copies of one direction, permuted alike, would still have a cosine of 1.
    same = nulls.coordinate_permuted(x[:1].expand(4, 30) - x[0].mean(), 200, generator=generator(2))
    found = nulls.off_diagonal(similarity(same))
    assert found.abs().max() < 0.9 and abs(found.mean()) < 0.02
    assert abs(found.square().mean() - 1 / 29) < 0.01, "the variance of a correlation of 30 permuted pairs"


def test_label_correlation_is_numpys():
    y = torch.rand(5, 40, generator=generator()) < 0.4
    found = nulls.label_correlation(y)
    close(found, torch.from_numpy(np.corrcoef(y.double().numpy())), 1e-12)
    assert (found.diagonal() == 1).all() and found.dtype == torch.float64
    use = torch.ones(5, 40, dtype=torch.bool)
    assert torch.equal(nulls.label_correlation(y, use=use), found)


def test_label_correlation_over_what_two_features_share():
    y = torch.rand(5, 60, generator=generator()) < 0.4
    use = torch.rand(5, 60, generator=generator(1)) < 0.7
    found = nulls.label_correlation(y, use=use)
    for i in range(5):
        for j in range(5):
            both = (use[i] & use[j]).numpy()
            expected = np.corrcoef(y[i].numpy()[both], y[j].numpy()[both])[0, 1]
            assert found[i, j].item() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(nulls.label_correlation(y | ~use, use=use), found), "what is not used does not count"
    assert (found - nulls.label_correlation(y)).abs().max() > 0.01


@pytest.mark.parametrize(
    "labels, use",
    [
        ([[1, 0, 1, 0], [1, 1, 1, 1]], None),
        ([[1, 0, 0, 0], [0, 1, 0, 1]], [[1, 1, 0, 0], [0, 0, 1, 1]]),
        ([[1, 0, 0, 0], [0, 1, 0, 1]], [[1, 1, 0, 0], [0, 1, 1, 1]]),
        ([[1, 0, 0, 1], [0, 1, 1, 0]], [[1, 1, 1, 0], [0, 1, 1, 1]]),
    ],
    ids=["a feature with one class", "no items shared", "one item shared", "one class among what is shared"],
)
def test_a_correlation_that_is_not_defined_is_refused(labels, use):
    with pytest.raises(EnergyError, match=r"share no items.*not defined") as raised:
        nulls.label_correlation(torch.tensor(labels), use=None if use is None else torch.tensor(use))
    assert "\n" not in str(raised.value)


def test_off_diagonal():
    a = torch.arange(9.0).reshape(3, 3)
    assert nulls.off_diagonal(a).tolist() == [1, 2, 5]
    assert nulls.off_diagonal(a.expand(4, 2, 3, 3)).shape == (4, 2, 3)


def test_agreement_is_the_correlation_of_the_pairs():
    a, b = psm(), nulls.edge_shuffled(psm(), 3, generator=generator())
    found = nulls.agreement(a, b)
    upper = np.triu_indices(6, 1)
    for k in range(3):
        expected = np.corrcoef(a.numpy()[upper], b[k].numpy()[upper])[0, 1]
        assert found[k].item() == pytest.approx(expected, abs=1e-12)
    close(nulls.agreement(a, 3 * a - 1).item(), 1.0)
    close(nulls.agreement(a, -a).item(), -1.0)


def test_p_values_by_hand():
    null = torch.tensor([1.0, 2, 3, 4])
    assert nulls.p_value(0.5, null) == 1 / 5
    assert nulls.p_value(2, null) == 3 / 5  # a tie is as extreme
    assert nulls.p_value(9, null) == 1
    assert nulls.p_value(9, null, lower=False) == 1 / 5
    assert nulls.p_value(3, null, lower=False) == 3 / 5
    assert nulls.p_value(0, torch.ones(199)) == 1 / 200
