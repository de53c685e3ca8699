"""Interventions exact where they should be and not where they should not; DAS finds a planted subspace."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.linalg import subspace_angles
from torch import nn

from helpers.plain import generator
from lib.studies.projective_dictionaries import interchange
from lib.studies.projective_dictionaries.interchange import (
    choose_columns,
    learn_rotation,
    scores,
    span,
    swap_coefficient,
    swap_subspace,
)


def sparse(*shape, p=0.2, seed=1):
    """Non-negative variables in float64, each active with probability p."""
    g = generator(seed)
    on = torch.rand(shape, generator=g) < p
    return on * (0.5 + torch.rand(shape, generator=g, dtype=torch.float64))


def dictionary(replicas, n, d, seed=2):
    return F.normalize(torch.randn(replicas, n, d, generator=generator(seed), dtype=torch.float64), dim=-1)


def interchanged(i, n=32, d=16, samples=40, p=0.2, rows=None):
    """A dictionary, base and source variables, hidden states, and the hidden state of the counterfactual."""
    D = dictionary(2, n, d) if rows is None else rows
    base, source = sparse(2, samples, n, p=p, seed=3), sparse(2, samples, n, p=p, seed=4)
    base[:, ::2, i], source[:, ::2, i] = (
        0,
        1.3,
    )  # in half of the pairs it is off in the base and on in the source
    wanted = base.clone()
    wanted[..., i] = source[..., i]
    return D, base, source, base @ D, source @ D, wanted @ D


def test_a_span_is_an_orthonormal_basis_of_its_rank():
    rows = dictionary(1, 3, 8)[0]
    doubled = torch.stack(
        [rows[0], rows[0], rows[1], rows[2]]
    )  # a copy between them must not cost the others
    P, Q = (B @ B.mT for B in (span(rows), span(doubled)))
    torch.testing.assert_close(P, rows.mT @ torch.linalg.inv(rows @ rows.mT) @ rows)
    torch.testing.assert_close(Q, P)
    assert span(doubled).shape == (8, 4)
    assert span(dictionary(2, 9, 4)).shape == (2, 4, 9)
    torch.testing.assert_close(
        span(dictionary(1, 9, 4)) @ span(dictionary(1, 9, 4)).mT, torch.eye(4).double()[None]
    )
    assert not span(torch.zeros(2, 3)).any()


def test_the_true_direction_of_an_orthogonal_dictionary_is_exact():
    rows = torch.linalg.qr(torch.randn(2, 16, 16, generator=generator(), dtype=torch.float64)).Q
    D, _, _, h_base, h_source, wanted = interchanged(5, n=16, rows=rows)
    torch.testing.assert_close(swap_subspace(span(D[:, [5]]), base=h_base, source=h_source), wanted)
    assert (
        swap_subspace(span(D[:, [6]]), base=h_base, source=h_source) - wanted
    ).norm() > 1  # the wrong one is not


def test_no_subspace_swaps_nothing_and_the_whole_space_everything():
    _, _, _, h_base, h_source, _ = interchanged(0)
    torch.testing.assert_close(
        swap_subspace(torch.zeros(16, 2).double(), base=h_base, source=h_source), h_base
    )
    torch.testing.assert_close(swap_subspace(torch.eye(16).double(), base=h_base, source=h_source), h_source)


def test_a_coefficient_swap_is_exact_in_superposition_and_a_subspace_swap_is_not():
    D, base, source, h_base, h_source, wanted = interchanged(7)
    states = dict(base=h_base, source=h_source, active_base=base > 0, active_source=source > 0)
    assert (base > 0).sum(-1).max() <= 16  # no more active rows than dimensions
    swapped = swap_coefficient(D, 7, **states)
    torch.testing.assert_close(swapped, wanted, rtol=0, atol=1e-5)
    nothing = (h_base - wanted).square().sum()
    assert (
        swap_subspace(span(D[:, [7]]), base=h_base, source=h_source) - wanted
    ).square().sum() > 0.2 * nothing
    random = swap_coefficient(dictionary(2, 32, 16, seed=9), 7, **states)
    assert (random - wanted).square().sum() > 0.2 * nothing


@pytest.mark.parametrize("p", [0.2, 0.9])  # fewer, and more, active rows than dimensions
def test_coefficients_are_those_of_least_squares(p):
    D, base, source, h_base, h_source, _ = interchanged(3, p=p)
    h_base, h_source = (
        h + torch.randn(h.shape, generator=generator(), dtype=h.dtype) for h in (h_base, h_source)
    )
    swapped = swap_coefficient(
        D, 3, base=h_base, source=h_source, active_base=base > 0, active_source=source > 0
    )
    for r in range(2):
        for s in range(40):
            beta = []
            for h, x in ((h_base, base), (h_source, source)):
                on = (x[r, s] > 0).nonzero()[:, 0].tolist()
                fit = np.linalg.lstsq(D[r, on].T.numpy(), h[r, s].numpy(), rcond=None)[0]
                beta.append(fit[on.index(3)] if 3 in on else 0.0)
            expected = h_base[r, s] + (beta[1] - beta[0]) * D[r, 3]
            torch.testing.assert_close(swapped[r, s], expected, rtol=1e-4, atol=1e-4)


def test_rows_and_variables_broadcast_and_pieces_do_not_matter(monkeypatch):
    D, base, source, h_base, h_source, _ = interchanged(7)
    rows = torch.tensor([[7], [2], [2]])
    states = dict(base=h_base, source=h_source, active_base=base > 0, active_source=source > 0)
    three = {name: part[:, None].expand(-1, 3, -1, -1) for name, part in states.items()}
    swapped = swap_coefficient(D, rows, **three)
    monkeypatch.setattr(interchange, "_PIECE", 3 * 2 * 16 * 16)  # three samples at a time
    for j, i in enumerate((7, 2, 2)):
        alone = swap_coefficient(D, i, **states)
        torch.testing.assert_close(swapped[:, j], alone)


def test_where_nothing_is_active_nothing_is_swapped():
    D, base, _, h_base, h_source, _ = interchanged(7)
    off = torch.zeros_like(base, dtype=torch.bool)
    torch.testing.assert_close(
        swap_coefficient(D, 7, base=h_base, source=h_source, active_base=off, active_source=off), h_base
    )


def planted(replicas=2, d=8, k=2, seed=0):
    """Minibatches whose counterfactual swaps a planted subspace, read out by a random linear tail; and the subspace."""
    g = generator(seed)
    Q = torch.linalg.qr(torch.randn(replicas, d, k, generator=g)).Q
    tail = nn.Linear(d, 12)
    nn.init.normal_(tail.weight, generator=g)

    def batches(scale=None):
        while True:
            base, source = (torch.randn(replicas, 16, d, generator=g) for _ in range(2))
            target = tail(swap_subspace(Q, base=base, source=source)).detach()
            yield base, source, target if scale is None else target * scale[:, None, None]

    return batches, tail, Q


def distance(out, target):
    return (out - target).square().sum(-1).mean(-1)


def test_das_finds_a_planted_subspace():
    batches, tail, Q = planted()
    before = tail.weight.detach().clone()
    found = learn_rotation(batches(), tail, loss=distance, k=2, steps=300)
    torch.testing.assert_close(found.mT @ found, torch.eye(2).expand(2, 2, 2))
    for r in range(2):
        assert subspace_angles(Q[r], found[r]).max() < 0.02
    assert subspace_angles(Q[0], found[1]).max() > 0.2  # each replica its own
    assert torch.equal(tail.weight, before)
    assert tail.weight.requires_grad


def test_replicas_are_learned_independently():
    one, other = (
        learn_rotation(batches(scale), tail, loss=distance, k=2, steps=20)
        for (batches, tail, _), scale in (
            (planted(), torch.tensor([1.0, 1.0])),
            (planted(), torch.tensor([1.0, -3.0])),
        )
    )
    torch.testing.assert_close(one[0], other[0])
    assert (one[1] - other[1]).abs().max() > 0.05


def test_chosen_columns_correlate_most():
    x = sparse(2, 200, 3)
    noise = torch.rand(2, 200, 3, generator=generator(), dtype=torch.float64)
    codes = torch.cat([torch.zeros_like(x[..., :1]), x + noise, x.flip(-1) * 2 + 0.1 * noise], -1)
    expected = np.corrcoef(codes[0].numpy()[:, 1:], x[0].numpy(), rowvar=False)[6:, :6]
    r = interchange.correlation(codes, x)
    np.testing.assert_allclose(r[0, :, 1:], expected)
    assert (r[..., 0] == 0).all()  # a dead latent
    # latents 1-3 are noisy copies of variables 0-2, latents 4-6 cleaner ones in reverse
    assert choose_columns(codes, x, k=2).tolist() == [[[6, 1], [5, 2], [4, 3]]] * 2
    assert choose_columns(-codes, x, k=1).flatten().tolist() == [6, 5, 4] * 2  # the sign does not count


def test_scores_at_their_limits():
    base = torch.tensor([[1.0, 0.0], [0.0, 2.0]]).reshape(1, 2, 1, 2)
    wanted = torch.tensor([[0.0, 0.0], [0.0, 0.5]]).reshape(
        1, 2, 1, 2
    )  # variable 0 off, variable 1 down to 0.5
    s = scores(wanted, base=base, counterfactual=wanted)
    assert (s.error, s.accuracy, s.idle) == (0, 1, 0.5)
    s = scores(base, base=base, counterfactual=wanted)
    assert (s.error, s.target, s.side, s.accuracy) == (1, 1, 0, 0.5)
    out = wanted.clone()
    out[0, 0, 0, 1] = 1.0  # intervening on variable 0 turns variable 1 on
    s = scores(out, base=base, counterfactual=wanted)
    torch.testing.assert_close(
        torch.stack([s.error, s.side, s.target]), torch.tensor([[1 / 3.25], [1 / 3.25], [0.0]])
    )
    assert s.accuracy == 0.5


h, D, on = torch.zeros(2, 5, 4), torch.zeros(2, 6, 4), torch.zeros(2, 5, 6, dtype=torch.bool)


def swapped(rows=D, i=0, active_base=on, active_source=on):
    return swap_coefficient(rows, i, base=h, source=h, active_base=active_base, active_source=active_source)


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: swap_subspace(torch.zeros(2, 4, 1), base=h, source=h[:, :4]), "hidden states"),
        (lambda: swap_subspace(torch.zeros(2, 3, 1), base=h, source=h), "Q is"),
        (lambda: swapped(rows=D[0]), "dictionary is"),
        (lambda: swapped(rows=D[..., :3]), "dictionary is"),
        (lambda: swapped(active_base=on[..., :5]), "active_base"),
        (lambda: swapped(active_source=on.float()), "active_source"),
        (lambda: swapped(i=6), "rows are 0 to 5"),
        (lambda: learn_rotation(planted()[0](), planted()[1], loss=distance, k=9), "k is 9; allowed: 1 to 8"),
        (lambda: choose_columns(h, h, k=5), "k is 5; allowed: 1 to 4"),
        (lambda: choose_columns(h, h[:, :3], k=1), "must agree"),
        (lambda: scores(h, base=h, counterfactual=h), "outputs are"),
        (lambda: scores(h, base=h, counterfactual=h[:1]), "must have one shape"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
