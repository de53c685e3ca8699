"""Image data: what is embedded, what is checked, and what the message says when a file is missing."""

import gzip
import hashlib
import os
from pathlib import Path

import pytest
import torch

from lib.common.errors import DataError
from lib.networks import images

HAS_MNIST = (Path(os.environ.get("DATA_DIR", "/nonexistent")) / "mnist").is_dir()


def test_digits_are_embedded_and_stratified():
    digits = images.load("digits")
    assert digits.train_images.shape == (1297, 28, 28) and digits.train_images.dtype == torch.uint8
    assert digits.test_labels.bincount().min() >= 45 and digits.train_images.max() == 255
    assert digits.sha256 == images.load("digits").sha256


@pytest.mark.skipif(not HAS_MNIST, reason="MNIST is not in $DATA_DIR/mnist (nothing is downloaded in tests)")
def test_mnist_is_the_published_one():
    mnist = images.load("mnist")
    assert mnist.train_images.shape == (60000, 28, 28) and mnist.test_images.shape == (10000, 28, 28)
    assert mnist.train_images.double().mean() == pytest.approx(33.3184, abs=1e-4)
    assert mnist.train_labels[:5].tolist() == [5, 0, 4, 1, 9]


def test_an_unknown_name_is_reported_with_the_known_ones():
    with pytest.raises(ValueError, match="got 'cifar'; allowed: digits, mnist, fashion-mnist"):
        images.load("cifar")


def test_a_missing_file_is_reported_with_the_places_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(images, "cache_dir", lambda: tmp_path / "cache")
    monkeypatch.setattr(
        images.pooch, "retrieve", lambda *a, **k: (_ for _ in ()).throw(OSError("no network"))
    )
    with pytest.raises(DataError) as error:
        images.load("fashion-mnist")
    text = str(error.value)
    assert "train-images-idx3-ubyte.gz" in text and str(tmp_path / "fashion-mnist") in text
    assert "DATA_DIR" in text and "\n" not in text


def packed(folder: Path, content: bytes):
    (folder / "mnist").mkdir(exist_ok=True)
    (folder / "mnist" / "train-images-idx3-ubyte.gz").write_bytes(content)


def test_foreign_and_damaged_files_are_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    packed(tmp_path, gzip.compress(b"something else"))
    with pytest.raises(DataError, match="is not the published file"):
        images.load("mnist")
    packed(tmp_path, gzip.compress(b"something else")[:-4])
    with pytest.raises(DataError, match="damaged or incomplete"):
        images.load("mnist")


def test_the_same_content_in_another_gzip_is_accepted(monkeypatch, tmp_path):
    content = b"\0\0\x08\x01\0\0\0\x03abc"
    digest = hashlib.sha256(content).hexdigest()
    monkeypatch.setitem(images._CONTENTS, "mnist", (digest,) * 4)
    packed(tmp_path, gzip.compress(content, 1))
    checked = images._checked(tmp_path / "mnist" / "train-images-idx3-ubyte.gz", "mnist", 0)
    assert images._idx(checked).tolist() == [97, 98, 99]


def test_shifted_images_move_by_at_most_two_and_never_stay():
    dots = torch.zeros(500, 28, 28, dtype=torch.uint8)
    dots[:, 10, 12] = 200
    at = images.shifted(dots, seed=1).flatten(1).argmax(1)
    dy, dx = at // 28 - 10, at % 28 - 12
    assert dy.abs().max() == 2 and dx.abs().max() == 2
    assert ((dy != 0) | (dx != 0)).all() and len(set(zip(dy.tolist(), dx.tolist(), strict=True))) == 24
