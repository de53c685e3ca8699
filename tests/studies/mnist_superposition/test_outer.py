"""Outer models: shapes, the two arms, and that training finds what untrained models do not know."""

import pytest
import torch
import torch.nn.functional as F

from helpers.plain import generator
from lib.networks import images
from lib.studies.mnist_superposition import outer


def test_shapes_and_sizes():
    x = torch.rand(3, 5, 28, 28, generator=generator())
    encoder, decoder = outer.Encoder(3, generator=generator()), outer.Decoder(3, generator=generator())
    assert encoder(x).shape == (3, 5, 3)
    assert decoder(encoder(x)).shape == x.shape
    per_replica = sum(p.numel() for p in outer.Classifier(3).parameters()) / 3
    convolutions = (9 * 3 + 3) + (27 * 6 + 6) + (54 * 9 + 9) + (36 * 12 + 12)
    assert per_replica == convolutions + (12 * 6 + 6) + (6 * 3 + 3) + (3 * 5 + 5) + (5 * 10 + 10)


def test_encoder_against_plain_torch():
    encoder = outer.Encoder(2, generator=generator()).double()
    x = torch.rand(2, 4, 28, 28, generator=generator(1), dtype=torch.float64)
    for r in range(2):
        h = x[r][:, None]
        for layer in encoder.convolutions[::2]:
            weight = layer.weight[r].view(layer.weight.shape[1], -1, layer.kernel, layer.kernel)
            h = F.conv2d(h, weight, layer.bias[r, :, 0], layer.stride).relu()
        h = h.flatten(1)
        for i, layer in enumerate(encoder.dense[::2]):
            h = F.linear(h if i == 0 else h.relu(), layer.weight[r], layer.bias[r, :, 0])
        torch.testing.assert_close(encoder(x)[r], h)


def test_as_coded_applies_relu_and_both_softmaxes():
    model = outer.Classifier(1, as_coded=True, generator=generator())
    x, y = torch.rand(1, 8, 28, 28, generator=generator(1)), torch.arange(8)[None]
    assert (model.encoder(x) >= 0).all()
    p = model.head(model.encoder(x)).relu().softmax(-1)
    torch.testing.assert_close(model(x), p)
    torch.testing.assert_close(model.loss(x, y), -p.log_softmax(-1)[:, range(8), range(8)].mean(-1))
    repaired = outer.Classifier(1, generator=generator())
    assert (repaired(x) < 0).any()


@pytest.mark.slow
def test_training_beats_chance_and_shuffled_labels_do_not():
    digits = images.load("digits")

    def accuracy(labels):
        model = outer.Classifier(2, generator=generator(2))
        outer.train(model, digits.train_images, labels=labels, batch=128, steps=250, lr=3e-3, seed=2)
        return (outer.apply(model, digits.test_images).argmax(-1) == digits.test_labels).float().mean()

    shuffled = digits.train_labels[torch.randperm(len(digits.train_labels), generator=generator(3))]
    assert accuracy(digits.train_labels) > 0.4
    assert accuracy(shuffled) < 0.25


def test_training_is_reproducible():
    digits = images.load("digits")

    def weights():
        model = outer.Autoencoder(1, generator=generator(2))
        outer.train(
            model, digits.train_images, labels=digits.train_labels, batch=16, steps=2, lr=1e-3, seed=2
        )
        return torch.cat([p.flatten() for p in model.parameters()])

    torch.testing.assert_close(weights(), weights(), rtol=0, atol=0)


def test_apply_does_not_depend_on_its_chunks():
    model, pixels = outer.Encoder(2, generator=generator()), images.load("digits").test_images[:50]
    torch.testing.assert_close(outer.apply(model, pixels, chunk=7), outer.apply(model, pixels))
