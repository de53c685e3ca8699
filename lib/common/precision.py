"""How many digits torch's matrix products keep of their factors."""

import contextlib
from collections.abc import Iterator

import torch

# As torch calls them; sums are float32 in both.
PRECISIONS = {"float32": "highest", "bfloat16": "medium"}


@contextlib.contextmanager
def matrix_products(precision: str) -> Iterator[None]:
    """Matrix products in one of `PRECISIONS` inside the block, if the processor supports it."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(PRECISIONS[precision])
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
