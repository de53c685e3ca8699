"""Pairs differ in what they should; interventions on trained networks work, and on untrained ones do not."""

import pytest
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits

from helpers.plain import generator
from lib.studies.projective_dictionaries import variables
from lib.studies.projective_dictionaries.interchange import (
    learn_rotation,
    scores,
    span,
    swap_coefficient,
    swap_subspace,
    through,
)

ACTIVE = torch.tensor([1.0, 3.0])


@pytest.fixture(scope="module")
def superposed():
    return variables.train_superposed(ACTIVE, variables=16, d=8, steps=600).model


@pytest.fixture(scope="module")
def digits():
    bunch = load_digits()
    images, labels = torch.tensor(bunch.data).float() / 16, torch.tensor(bunch.target)
    order = torch.randperm(len(images), generator=generator())
    train, test = order[:1300], order[1300:]
    return images[train], labels[train], images[test], labels[test]


@pytest.fixture(scope="module")
def trained(digits):
    return variables.train_pair_network(digits[0], digits[1], replicas=2, steps=300, lr=2e-3).model


def test_samples_have_the_asked_number_active():
    x = variables.sample(torch.tensor([1.0, 16.0]), 5000, variables=64, generator=generator())
    torch.testing.assert_close((x > 0).float().sum(-1).mean(1), torch.tensor([1.0, 16.0]), rtol=0.05, atol=0)
    on = x[x > 0]
    assert on.min() >= 0.5 and on.max() <= 1.5 and abs(on.mean() - 1) < 0.01


def test_pairs_differ_in_their_variable_and_the_counterfactual_in_nothing_else():
    network = variables.Superposed(2, variables=16, d=8, generator=generator())
    drawn = variables.pairs(network, ACTIVE, n=8, generator=generator(1))
    base, source = (x.diagonal(dim1=1, dim2=3) for x in (drawn.x_base, drawn.x_source))  # (replicas, n, m)
    assert (base != source).all()
    exactly_one = ((base > 0) != (source > 0)).float().mean((0, 2))
    assert exactly_one.tolist() == [1, 1, 0, 0] * 2
    for i in range(16):
        x = drawn.x_base[:, i].clone()
        x[..., i] = drawn.x_source[:, i, :, i]
        torch.testing.assert_close(drawn.out_counterfactual[:, i], network(x))
        torch.testing.assert_close(drawn.out_base[:, i], network(drawn.x_base[:, i]))
        torch.testing.assert_close(drawn.h_source[:, i], network.hidden(drawn.x_source[:, i]))


def test_more_variables_than_neurons_are_read_out(superposed):
    x = torch.eye(16).expand(2, 16, 16)
    own = superposed(x).diagonal(dim1=1, dim2=2)
    assert (own > 0.5).sum(1)[0] > 8
    assert (
        variables.Superposed(2, variables=16, d=8, generator=generator())(x).diagonal(dim1=1, dim2=2) > 0.5
    ).sum(1)[0] <= 8


def test_replicas_are_trained_independently():
    one, other = (
        variables.train_superposed(torch.tensor(active), variables=16, d=8, steps=20).model.W
        for active in ([1.0, 1.0], [1.0, 8.0])
    )
    torch.testing.assert_close(one[0], other[0])
    assert not torch.allclose(one[1], other[1])


def test_swapping_a_coefficient_is_exact_where_a_learned_subspace_is_not(superposed):
    g = generator(1)
    drawn = variables.pairs(superposed, ACTIVE, n=32, generator=g)
    D = superposed.dictionary
    Q = learn_rotation(
        variables.interchanges(superposed, ACTIVE, n=16, generator=g),
        superposed.tail,
        loss=variables.squared_error,
        k=1,
        steps=200,
    )
    swapped = {"base": drawn.h_base, "source": drawn.h_source}
    coefficient = swap_coefficient(
        D,
        torch.arange(16)[:, None],
        **swapped,
        active_base=drawn.x_base > 0,
        active_source=drawn.x_source > 0,
    )
    states = dict(
        coefficient=coefficient,
        das=swap_subspace(Q, **swapped),
        true=swap_subspace(span(D[:, :, None]), **swapped),
        permuted=swap_subspace(Q.roll(1, 1), **swapped),
    )
    error = {}
    for name, h in states.items():
        error[name] = scores(
            through(superposed.tail, h), base=drawn.out_base, counterfactual=drawn.out_counterfactual
        ).error
    assert (error["coefficient"] < 0.01).all()
    assert (error["das"] > 0.03).all() and (error["das"] < 0.8).all()
    assert (error["das"] < 1.1 * error["true"]).all()  # about as good as the direction that is written
    assert (error["permuted"] > 1).all()


def test_the_loss_is_the_cross_entropy_of_both_digits():
    logits, labels = (
        torch.randn(2, 5, 20, generator=generator()),
        torch.randint(10, (2, 5, 2), generator=generator()),
    )
    left, right = (F.cross_entropy(logits[..., s].mT, labels[..., j], reduction="none")
                   for j, s in enumerate((slice(0, 10), slice(10, 20))))  # fmt: skip
    torch.testing.assert_close(variables.cross_entropy(logits, labels), (left + right).mean(-1))


def test_das_swaps_the_left_digit_of_a_trained_network_and_not_of_an_untrained_one(trained, digits):
    images, labels, test_images, test_labels = digits
    untrained = variables.PairNetwork(2, pixels=64, generator=generator(2))
    accuracy = {}
    for name, network in (("trained", trained), ("untrained", untrained)):
        g = generator(3)
        batches = variables.digit_interchanges(network, images, labels, n=64, generator=g)
        Q = learn_rotation(batches, network.tail, loss=variables.cross_entropy, k=8, steps=200)
        drawn = variables.digit_pairs(
            network, test_images, test_labels, n=1000, generator=g, only_right=name == "trained"
        )
        accuracy[name] = variables.digit_accuracy(network, drawn, Q)
        for nothing in (torch.zeros(2, 64, 1), torch.eye(64).expand(2, 64, 64)):  # no swap and a complete one
            assert (variables.digit_accuracy(network, drawn, nothing) < 0.1).all()
    assert (accuracy["trained"] > 0.85).all()
    assert (accuracy["untrained"] < 0.1).all()


def test_pairs_that_count_differ_on_both_sides_and_are_read_correctly(trained, digits):
    images, labels = digits[2:]
    drawn, every = (
        variables.digit_pairs(trained, images, labels, n=500, generator=generator(), only_right=right)
        for right in (True, False)
    )
    assert (drawn.counts <= every.counts).all() and (drawn.counts != every.counts).any()
    assert abs(every.counts.float().mean() - 0.81) < 0.05
    base = trained.tail(drawn.h_base).unflatten(-1, (2, 10)).argmax(-1)
    source = trained.tail(drawn.h_source).unflatten(-1, (2, 10)).argmax(-1)
    expected = torch.stack([source[..., 0], base[..., 1]], -1)
    assert (expected == drawn.labels)[drawn.counts].all()
    assert (base != source)[drawn.counts].all()


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda: variables.train_superposed(torch.tensor([0.0]), steps=1), "active is"),
        (lambda: variables.train_superposed(torch.tensor([65.0]), steps=1), "at most 64"),
        (
            lambda: variables.sample(
                torch.tensor(float("nan")).view(1), 2, variables=4, generator=generator()
            ),
            "active is",
        ),
        (
            lambda: variables.pairs(
                variables.Superposed(2, variables=16, d=8), ACTIVE, n=6, generator=generator()
            ),
            "multiple of 4",
        ),
        (
            lambda: variables.pairs(
                variables.Superposed(3, variables=16, d=8), ACTIVE, n=8, generator=generator()
            ),
            "3 replicas",
        ),
        (
            lambda: variables.train_pair_network(
                torch.zeros(4, 8, 8), torch.zeros(4).long(), replicas=1, steps=1
            ),
            "pixels",
        ),
        (
            lambda: variables.train_pair_network(
                torch.zeros(4, 64), torch.zeros(3).long(), replicas=1, steps=1
            ),
            "pixels",
        ),
    ],
)
def test_bad_input_is_one_clear_error(call, words):
    with pytest.raises(ValueError, match=words) as error:
        call()
    assert "\n" not in str(error.value)
