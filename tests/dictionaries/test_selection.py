"""Top-k by blocks is top-k; its sparse gradient is the dense one."""

import pytest
import torch

from helpers.plain import generator
from lib.dictionaries.selection import dense, flatten, mask, top_k, top_scores


def in_order(values, index):
    order = values.argsort(-1, descending=True)
    return values.gather(-1, order), index.gather(-1, order)


# By blocks where n is a multiple of 16 and at least 64 k, else by torch alone.
@pytest.mark.parametrize(
    ("n", "k"),
    [(64, 1), (256, 4), (1024, 3), (1024, 16), (255, 3), (63, 1), (128, 4), (16, 16), (7, 1), (64, 8)],
)
def test_the_largest_scores_are_found(n, k):
    scores = torch.randn(3, 50, n, generator=generator())
    wanted = scores.topk(k, dim=-1)
    values, index = in_order(*top_k(scores, k))
    assert torch.equal(values, wanted.values) and torch.equal(index, wanted.indices)


def test_large_scores_in_one_block_are_found():
    """The blocks are strided: whatever lies together or apart."""
    for start, step in ((0, 1), (3, 16), (0, 64)):
        scores = torch.randn(2, 1024, generator=generator())
        best = start + step * torch.arange(4)
        scores[:, best] += 100
        assert top_k(scores, 4)[1].sort().values.tolist() == [best.tolist()] * 2


@pytest.mark.parametrize("n", [1024, 1000])
def test_no_latent_is_listed_twice(n):
    """Where most scores are equal: of dead latents alone, or none above the others."""
    scores = torch.full((5, n), -torch.inf)
    scores[:, 7] = 1.0
    values, index = top_k(scores, 8)
    assert all(len(row.unique()) == 8 for row in index)
    assert ((values == 1) == (index == 7)).all() and (values == 1).sum() == 5
    assert torch.equal(scores.gather(1, index), values)


def problem(replicas=2, batch=5, n=9, d=6):
    shapes = ((replicas, batch, d), (replicas, n, d), (replicas, n))
    g = generator()
    return [torch.randn(shape, generator=g, dtype=torch.float64).requires_grad_() for shape in shapes]


def dense_scores(a, encoder, bias, k):
    return (a @ encoder.mT + bias[:, None]).topk(k, dim=-1)


@pytest.mark.parametrize(("n", "k"), [(9, 3), (128, 2)])
def test_gradients_are_those_of_the_dense_product(n, k):
    leaves = problem(batch=20, n=n)
    ours, plain = in_order(*top_scores(*leaves, k=k)), dense_scores(*leaves, k)
    torch.testing.assert_close(ours[0], plain[0])
    assert torch.equal(ours[1], plain[1])
    weight = torch.randn(ours[0].shape, generator=generator(1), dtype=torch.float64)
    gradients = [torch.autograd.grad((out[0].sin() * weight).sum(), leaves) for out in (ours, plain)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_gradcheck():
    assert torch.autograd.gradcheck(lambda *leaves: top_scores(*leaves, k=3)[0], problem())


def test_a_frozen_input_or_encoder_needs_no_gradient():
    a, encoder, bias = problem()
    top_scores(a.detach(), encoder.detach(), bias, k=3)[0].sum().backward()
    assert bias.grad.sum() == 2 * 5 * 3 and encoder.grad is None


def test_replicas_are_independent():
    a, encoder, bias = problem()
    top_scores(a, encoder, bias, k=3)[0][1].sum().backward()
    for leaf in (a, encoder, bias):
        assert not leaf.grad[0].any() and leaf.grad[1].any()
    for r in range(2):
        alone = top_scores(*(leaf[r : r + 1] for leaf in (a, encoder, bias)), k=3)
        together = top_scores(a, encoder, bias, k=3)
        assert torch.equal(alone[1][0], together[1][r])


def test_flat_indices_point_into_the_stacked_dictionaries():
    dictionaries = torch.randn(3, 7, 2, generator=generator())
    index = torch.randint(7, (3, 4, 2), generator=generator())
    rows = dictionaries.flatten(0, 1)[flatten(index, 7)].view(3, 4, 2, 2)
    for r in range(3):
        assert torch.equal(rows[r], dictionaries[r][index[r]])


def test_supports_as_masks_and_codes_as_dense_ones():
    index = torch.tensor([[[0, 2], [1, 1], [2, 0]]])
    valid = torch.tensor([[[True, True], [True, False], [False, False]]])
    wanted = torch.tensor([[[1, 0, 1], [0, 1, 0], [0, 0, 0]]], dtype=torch.bool)
    assert torch.equal(mask(index, valid, n=3), wanted)
    assert torch.equal(mask(index, ~valid, n=3).sum(-1), torch.tensor([[0, 1, 2]]))
    every = torch.ones_like(valid)
    assert mask(index, every, n=3).sum() == 5
    values = torch.tensor([[[1.0, -2.0], [3.0, 0.5], [0.0, 4.0]]])
    wanted = torch.tensor([[[1.0, 0, -2.0], [0, 3.5, 0], [4.0, 0, 0]]])
    torch.testing.assert_close(dense(index, values, n=3), wanted)
