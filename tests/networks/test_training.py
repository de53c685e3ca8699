"""The loop: sign descent, checkpoints, records, batches."""

import torch
from torch import nn

from helpers.plain import generator
from lib.networks import training


class Quadratic(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor([[1.0, -2.0], [0.5, 3.0]], dtype=torch.float64))

    def loss(self, x):
        return ((self.w - x) ** 2).sum(1)


def forever(value):
    while True:
        yield (value,)


def test_forgetting_the_moments_is_sign_descent():
    model = Quadratic()
    start, target = model.w.detach().clone(), torch.zeros(2, 2, dtype=torch.float64)
    training.train(model, forever(target), steps=3, lr=0.01, reset_optimiser=True)
    expected = start.clone()
    for _ in range(3):
        expected -= 0.01 * expected.sign()
    torch.testing.assert_close(model.w.detach(), expected, rtol=1e-6, atol=1e-8)


def test_keeping_the_moments_is_not():
    model, moving = (
        Quadratic(),
        iter([(torch.full((2, 2), v, dtype=torch.float64),) for v in (0.0, 5.0, -5.0)]),
    )
    start = model.w.detach().clone()
    training.train(model, moving, steps=3, lr=0.01)
    steps = (model.w.detach() - start).abs() / 0.01
    assert not torch.allclose(steps, steps.round(), atol=1e-3)


def test_checkpoints_are_copies_and_losses_are_records():
    model = Quadratic()
    run = training.train(
        model, forever(torch.zeros(2, 2, dtype=torch.float64)), steps=10, lr=0.1, checkpoints=(0, 4, 10)
    )
    assert list(run.checkpoints) == [0, 4, 10]
    assert run.checkpoints[0].w[0, 0] == 1.0
    torch.testing.assert_close(run.checkpoints[10].w, model.w)
    assert not torch.equal(run.checkpoints[4].w, model.w)
    assert run.losses.shape == (10, 2) and run.steps == list(range(1, 11))
    assert (run.losses[-1] < run.losses[0]).all()


def test_an_epoch_visits_every_sample_once_in_orders_that_differ():
    batches = training.minibatches(12, replicas=3, batch=4, generator=generator())
    epoch = torch.cat([next(batches) for _ in range(3)], dim=1)
    assert epoch.shape == (3, 12)
    for order in epoch:
        assert sorted(order.tolist()) == list(range(12))
    assert epoch[0].tolist() != epoch[1].tolist()


def test_a_batch_larger_than_the_data_is_the_data():
    assert next(training.minibatches(5, replicas=2, batch=64, generator=generator())).shape == (2, 5)
