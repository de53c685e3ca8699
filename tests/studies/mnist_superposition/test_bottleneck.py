"""What three neurons carry: probes on planted classes, and similarities of models that are known."""

import numpy as np
import pandas as pd
import pytest
import torch

from helpers.plain import draw
from lib.common import metrics
from lib.networks import images
from lib.studies.mnist_superposition import bottleneck, outer

LABELS = torch.arange(300) % 10


def test_linear_probe():
    z = draw(600, 3)
    labels = torch.arange(600) % 10
    z[labels == 3, 0] += 4
    auc = bottleneck.probe_auc(z[:300], labels_train=labels[:300], z_test=z[300:], labels_test=labels[300:])
    assert auc[3] > 0.95 and np.delete(auc, 3).max() < 0.75


@pytest.fixture(scope="module")
def measured():
    """Outer models that are hardly trained, on a few images; the decoder of seed 1 has a constant bottleneck."""
    digits = images.load("digits")
    few = images.Images(
        "digits", digits.train_images[:300], digits.train_labels[:300], digits.test_images[:90],
        digits.test_labels[:90], "",
    )  # fmt: skip
    arms = outer.train_arms(few, 3, steps=60, batch=50, lr=1e-2, decoder_steps=3)
    last = arms["decoder"].model.encoder.dense[-1]
    with torch.no_grad():
        last.weight[1] = 0
    return few, arms, bottleneck.activations(arms, few)


def test_models_with_a_constant_bottleneck_are_left_out(measured):
    few, arms, z = measured
    assert z.kept.tolist() == [True, False, True]
    assert z.train.shape == (2, 300, 3) and z.test.shape == z.test_view.shape == z.untrained.shape == (
        2,
        90,
        3,
    )
    expected = outer.apply(arms["repaired"].model, few.test_images).argmax(-1)[[0, 2]]
    assert (z.predicted == expected).all()


def test_activations_are_standardised_by_the_training_images(measured):
    few, arms, z = measured
    raw = {name: outer.apply(arms["repaired"].model.encoder, x)[2] for name, x in
           (("train", few.train_images), ("test", few.test_images))}  # fmt: skip
    mean = raw["train"].mean(0)
    scale = ((raw["train"] - mean) ** 2).mean() ** 0.5
    torch.testing.assert_close(z.test[1], (raw["test"] - mean) / scale)
    torch.testing.assert_close(z.train[1], (raw["train"] - mean) / scale)
    assert not torch.equal(z.test, z.test_view) and not torch.equal(z.train, z.train_view)
    decoded = outer.apply(arms["decoder"].model.encoder, few.train_images)[2]
    mean = decoded.mean(0)
    torch.testing.assert_close(z.decoder_train[1], (decoded - mean) / ((decoded - mean) ** 2).mean() ** 0.5)


def test_the_table_of_classifiers(measured):
    few, arms, _ = measured
    table = outer.classifier_table(arms, few).set_index(["arm", "outer"])
    assert len(table) == 6
    for arm in ("as coded", "repaired"):
        model = arms[arm].model
        for seed in range(3):
            predicted = outer.apply(model, few.test_images)[seed].argmax(-1)
            row = table.loc[arm, seed]
            assert row["accuracy"] == pytest.approx(np.mean(predicted.numpy() == few.test_labels.numpy()))
            assert row["missing"] == 10 - len(set(predicted.tolist()))
            z = outer.apply(model.encoder, few.test_images)[seed]
            assert row["dead"] == sum(float(z[:, d].max() - z[:, d].min()) < 1e-6 for d in range(3))


def test_accuracy_in_the_course_of_training(measured):
    few, arms, _ = measured
    found = outer.accuracy_at_checkpoints(arms, few)
    assert list(found) == ["as coded", "repaired"]
    assert found["repaired"].index.tolist() == [0, 2, 6, 20, 60] and found["repaired"].shape == (5, 3)
    final = outer.classifier_table(arms, few).query("arm == 'repaired'")["accuracy"]
    np.testing.assert_array_equal(found["repaired"].loc[60], final)


def test_probes_are_of_trained_and_untrained_encoders(measured):
    few, _, z = measured
    table = bottleneck.probe_table(z, few)
    assert len(table) == 2 * 2 * 10
    labels = dict(labels_train=few.train_labels, labels_test=few.test_labels)
    for encoder, train, test in (("trained", z.train, z.test), ("untrained", z.untrained_train, z.untrained)):
        for seed in range(2):
            found = table[(table["encoder"] == encoder) & (table["outer"] == seed)].sort_values("digit")[
                "auc"
            ]
            np.testing.assert_array_equal(
                found, bottleneck.probe_auc(train[seed], z_test=test[seed], **labels)
            )


def test_similarity_is_of_ordered_pairs_and_of_a_classifier_with_its_own_decoder():
    x = {name: draw(3, 50, 3, seed=seed) for seed, name in enumerate(("test", "untrained", "decoder_test"))}
    z = bottleneck.Activations(*[None] * 10)._replace(**x)
    a, b = (torch.randint(4, (3, 50), generator=torch.Generator().manual_seed(s)) for s in (3, 4))
    table = bottleneck.similarity_table(z, classifier=a, decoder=b).set_index(["compared", "outer", "other"])
    assert len(table) == 6 + 6 + 3
    for i in range(3):
        own = table.loc["decoder", i, i]
        assert own["cka"] == metrics.cka(x["test"][i], x["decoder_test"][i]) and own["ari"] == metrics.ari(
            a[i], b[i]
        )
        for j in range(3):
            if i == j:
                continue
            pair = table.loc["classifiers", i, j]
            assert pair["cka"] == metrics.cka(x["test"][i], x["test"][j]) and pair["ari"] == metrics.ari(
                a[i], a[j]
            )
            untrained = table.loc["untrained", i, j]
            assert untrained["cka"] == metrics.cka(x["untrained"][i], x["untrained"][j]) and pd.isna(
                untrained["ari"]
            )
