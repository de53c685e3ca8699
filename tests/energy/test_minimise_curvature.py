"""What is learnt of the curvature is what the textbook's recursion learns, problem by problem."""

import pytest
import torch

from helpers.plain import close, draw
from lib.energy.minimise import MEMORY, Dense, LimitedMemory


def two_loops(pairs, gradient, scale):
    """Nocedal & Wright, algorithm 7.4, H g from the last pairs and an initial `scale`."""
    q, alphas = gradient.clone(), []
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (s @ y))
        q = q - alphas[-1] * y
    r = scale * q
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        r = r + (alpha - (y @ r) / (s @ y)) * s
    return r


def bfgs(pairs, gradient, scale):
    """Nocedal & Wright, equations 6.17 and 6.20, H g from all pairs; `scale` before the first."""
    eye = torch.eye(len(gradient), dtype=torch.float64)
    inverse = eye * scale
    if pairs:
        s, y = pairs[0]
        inverse = eye * (s @ y) / (y @ y)
    for s, y in pairs:
        left = eye - torch.outer(s, y) / (s @ y)
        inverse = left @ inverse @ left.T + torch.outer(s, s) / (s @ y)
    return inverse @ gradient


@pytest.mark.parametrize("kind", [LimitedMemory, Dense])
def test_it_is_the_textbooks_with_steps_refused_and_problems_left_out(kind):
    b, size = 4, 12
    half = draw(size, size, seed=9)
    hessian = half @ half.T + torch.eye(size, dtype=torch.float64)
    gradient, scale = draw(b, size, seed=8), torch.tensor([0.5, 1.0, 2.0, 0.1], dtype=torch.float64)
    history = kind(gradient, scale)
    close(history.direction(gradient), -scale[:, None] * gradient)
    pairs = [[] for _ in range(b)]
    for i in range(4 * MEMORY + 30):  # more than the buffer of the limited memory holds, twice
        step = draw(b, size, seed=i)
        change = step @ hessian
        lower = (i + torch.arange(b)) % 4 != 0
        change[~lower] = torch.nan  # nothing is learnt of a step that was not taken
        if i % 7 == 3:
            change = -change  # nor of a negative curvature
        gradient = torch.where(lower[:, None], gradient + change, gradient)
        history.add(step, change, gradient, lower)
        found = history.direction(gradient)
        for k in range(b):
            learnt = lower[k] and i % 7 != 3
            pairs[k].append((step[k], change[k]) if learnt else None)
            if learnt:
                scale[k] = step[k] @ change[k] / change[k].square().sum()
            if kind is LimitedMemory:  # in which one that was refused takes the place of an older one
                expected = two_loops([pair for pair in pairs[k][-MEMORY:] if pair], gradient[k], scale[k])
            else:
                expected = bfgs([pair for pair in pairs[k] if pair], gradient[k], scale[k])
            close(found[k], -expected, 1e-8)
        close(history.scale, scale)
        if i == 25:
            keep = torch.tensor([3, 0, 2])
            history.keep(keep)
            pairs, scale, gradient, b = [pairs[k] for k in keep], scale[keep], gradient[keep], 3
