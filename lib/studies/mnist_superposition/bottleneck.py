"""What the three neurons of the outer models carry: activations, linear probes, and how alike the models are."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from jaxtyping import Bool, Float, Int
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from lib.common import metrics
from lib.networks import images
from lib.networks.images import Images
from lib.networks.training import Trained
from lib.studies.mnist_superposition import outer

PROBED = 5000  # training images that probes are fitted on


class Activations(NamedTuple):
    """Bottlenecks of the outer models that are kept: those whose classifier and decoder both have a varying neuron.

    `kept` `(seeds,)`; the rest has the kept models as its first dimension. Standardised by the training images:
    the repaired classifier's `train`, `test` and, of the same images moved, `train_view`, `test_view`; the decoder's
    `decoder_train`, `decoder_test`. As they are: those of untrained encoders, `untrained_train` (of the first `PROBED`
    images) and `untrained`. All are `(kept, n, 3)`. `predicted` `(kept, n)`: what the classifier takes the test images
    for.
    """

    kept: Bool[Tensor, " seeds"]
    train: Float[Tensor, "kept n 3"]
    test: Float[Tensor, "kept m 3"]
    train_view: Float[Tensor, "kept n 3"]
    test_view: Float[Tensor, "kept m 3"]
    decoder_train: Float[Tensor, "kept n 3"]
    decoder_test: Float[Tensor, "kept m 3"]
    untrained_train: Float[Tensor, "kept _ 3"]
    untrained: Float[Tensor, "kept m 3"]
    predicted: Int[Tensor, "kept m"]


def activations(arms: Mapping[str, Trained], data: Images) -> Activations:
    """The `Activations` of `outer.train_arms`' models."""
    repaired, decoder = (arms[arm].model for arm in ("repaired", "decoder"))
    untrained = outer.Encoder(repaired.encoder.dense[0].weight.shape[0], generator=_generator(4))
    views = images.shifted(data.train_images, seed=1), images.shifted(data.test_images, seed=2)
    pixels = (data.train_images, data.test_images, *views)
    classified = [outer.apply(repaired.encoder, x) for x in pixels]
    decoded = [outer.apply(decoder.encoder, x) for x in pixels[:2]]
    kept = outer.varies(classified[1]).any(1) & outer.varies(decoded[1]).any(1)
    train, test, train_view, test_view = metrics.standardise(*(z[kept] for z in classified))
    decoder_train, decoder_test = metrics.standardise(*(z[kept] for z in decoded))
    return Activations(
        kept=kept,
        train=train,
        test=test,
        train_view=train_view,
        test_view=test_view,
        decoder_train=decoder_train,
        decoder_test=decoder_test,
        untrained_train=outer.apply(untrained, data.train_images[:PROBED])[kept],
        untrained=outer.apply(untrained, data.test_images)[kept],
        predicted=outer.apply(repaired, data.test_images).argmax(-1)[kept],
    )


def probe_table(z: Activations, data: Images) -> pd.DataFrame:
    """`probe_auc` of trained and untrained encoders, one row per encoder, outer seed and digit.

    Columns: encoder ("trained", "untrained"), outer, digit, auc.
    """
    labels = dict(labels_train=data.train_labels[:PROBED], labels_test=data.test_labels)
    encoders = {"trained": (z.train[:, :PROBED], z.test), "untrained": (z.untrained_train, z.untrained)}
    rows = []
    for encoder, (train, test) in encoders.items():
        for i in range(len(train)):
            for digit, auc in enumerate(probe_auc(train[i], z_test=test[i], **labels)):
                rows.append(dict(encoder=encoder, outer=i, digit=digit, auc=auc))
    return pd.DataFrame(rows)


def probe_auc(
    z_train: Float[Tensor, "n d"],
    *,
    labels_train: Int[Tensor, " n"],
    z_test: Float[Tensor, "m d"],
    labels_test: Int[Tensor, " m"],
) -> np.ndarray:
    """Test AUC of a linear one-against-rest probe of each digit, `(10,)`."""
    targets = nn.functional.one_hot(labels_train, 10).double().numpy()
    probe = LinearDiscriminantAnalysis()
    scores = []
    for digit in range(10):
        fitted = probe.fit(z_train.numpy(), targets[:, digit])
        scores.append(roc_auc_score(labels_test.numpy() == digit, fitted.decision_function(z_test.numpy())))
    return np.array(scores)


def similarity_table(
    z: Activations, *, classifier: Int[Tensor, "kept m"], decoder: Int[Tensor, "kept m"]
) -> pd.DataFrame:
    """How alike outer models are: one row per ordered pair of classifiers, and one per classifier and its decoder.

    `classifier` and `decoder` are the clusters of the test images that a DeePWAK on either bottleneck finds. Columns:
    compared ("classifiers", "untrained", "decoder"), outer, other (for "decoder" the same seed), cka of the
    bottlenecks, ari of the clusters (NaN for "untrained").
    """
    seeds = range(len(z.test))
    pairs = [(i, j) for i in seeds for j in seeds if i != j]
    own = [(i, i) for i in seeds]
    return pd.concat(
        [
            _pairs("classifiers", pairs, cka=(z.test, z.test), ari=(classifier, classifier)),
            _pairs("untrained", pairs, cka=(z.untrained, z.untrained)),
            _pairs("decoder", own, cka=(z.test, z.decoder_test), ari=(classifier, decoder)),
        ],
        ignore_index=True,
    )


def _pairs(
    compared: str, pairs: Sequence[tuple[int, int]], **measures: tuple[Tensor, Tensor]
) -> pd.DataFrame:
    by_name: dict[str, Callable] = {"cka": metrics.cka, "ari": metrics.ari}
    table = pd.DataFrame(pairs, columns=["outer", "other"])
    table.insert(0, "compared", compared)
    for name, (a, b) in measures.items():
        table[name] = [by_name[name](a[i], b[j]) for i, j in pairs]
    return table


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
