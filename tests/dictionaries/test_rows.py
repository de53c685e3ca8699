"""Sums over a few rows against the dense product; torch's private operator against the plain fallback."""

import pytest
import torch

from helpers.plain import close, problem
from lib.dictionaries import rows
from lib.dictionaries.rows import decode, dots, gathered, gram, plain_dots, scatter, scatter_pair


def test_sums_over_supports_and_their_transposes():
    table, index, y, w = problem(batch=9)
    index[0, 1] = index[0, 0]  # a row twice in a support counts twice
    code = torch.zeros(9, 12, dtype=torch.float64).scatter_add(1, index, w)
    close(decode(table, index, w), code @ table)
    close(scatter(index, w, y, rows=12), code.mT @ y)
    close(dots(table, index, y), (y @ table.mT).gather(1, index))
    pair = scatter_pair(index, torch.stack([w, -(w**2)]), torch.stack([y, y.cos()]), rows=12)
    close(pair, scatter(index, w, y, rows=12) - scatter(index, w**2, y.cos(), rows=12))
    X = table[index]
    close(gram(table, index), X @ X.mT)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("sizes", [{}, {"batch": 300, "d": 64, "k": 16, "n": 256}, {"batch": 1, "k": 1}])
def test_the_private_operator_and_the_plain_fallback_agree(dtype, sizes):
    table, index, y, _ = problem(**sizes)
    index[0, -1] = index[0, 0]
    assert rows._weight_gradient("cpu") is not None, "this torch has the operator"
    for g in (y.to(dtype), y.mT.contiguous().mT.to(dtype)):
        fast, plain = (function(table.to(dtype), index, g) for function in (dots, plain_dots))
        assert fast.dtype == plain.dtype == dtype
        eps = torch.finfo(dtype).eps
        torch.testing.assert_close(fast, plain, atol=8 * eps, rtol=8 * eps)


@pytest.mark.parametrize("there", ["missing", "another signature", "something else"])
def test_without_the_operator_the_fallback_is_used(there, monkeypatch):
    table, index, y, _ = problem()
    wanted = dots(table, index, y)

    class Aten:
        pass

    def other(*arguments):
        if there == "another signature":
            raise TypeError("expected at most 5 arguments")
        return torch.zeros(arguments[2].shape)

    if there != "missing":
        Aten._embedding_bag_per_sample_weights_backward = staticmethod(other)
    monkeypatch.setattr(rows.torch.ops, "aten", Aten)
    rows._weight_gradient.cache_clear()
    try:
        assert rows._weight_gradient("cpu") is None
        close(dots(table, index, y), wanted)
    finally:
        rows._weight_gradient.cache_clear()


def test_pieces_cover_the_batch_once(monkeypatch):
    table, index, _, _ = problem(batch=11)
    monkeypatch.setattr(rows, "PIECE", 4 * 3 * 7)
    parts = [(part, piece.clone()) for part, piece in gathered(table, index)]
    assert [len(piece) for _, piece in parts] == [4, 4, 3]
    assert torch.equal(torch.cat([piece for _, piece in parts]), table[index])
