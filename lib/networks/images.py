"""Image data sets: embedded digits, MNIST and Fashion-MNIST, checked against published SHA-256 sums."""

import gzip
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pooch
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from lib.common.errors import DataError
from lib.common.files import cache_dir

_FILES = (
    "train-images-idx3-ubyte.gz",
    "train-labels-idx1-ubyte.gz",
    "t10k-images-idx3-ubyte.gz",
    "t10k-labels-idx1-ubyte.gz",
)
_URLS = {
    "mnist": "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "fashion-mnist": "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
}
# SHA-256 of the published archives.
_ARCHIVES = {
    "mnist": (
        "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
        "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
        "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
        "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
    ),
    "fashion-mnist": (
        "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
        "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
        "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
        "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
    ),
}
# SHA-256 of what MNIST's archives contain: the same pixels are often repacked by another gzip.
_CONTENTS = {
    "mnist": (
        "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
        "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
        "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
        "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
    )
}
TITLES = {"digits": "small embedded digits", "mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}
NAMES = tuple(TITLES)


@dataclass(frozen=True)
class Images:
    """A labelled data set of images of 28 x 28 bytes in ten classes.

    `train_images`: uint8 `(n_train, 28, 28)`; `train_labels`: int64 `(n_train,)`; likewise `test_*`;
    `sha256`: of the training images and labels and the test images and labels, in this order.
    """

    name: str
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    sha256: str

    @property
    def title(self) -> str:
        """The name as used in a sentence."""
        return TITLES[self.name]

    @property
    def samples(self) -> str:
        """How many images there are, in words."""
        return f"{len(self.train_labels):,} training and {len(self.test_labels):,} test images"


def load(name: str) -> Images:
    """The data set called `name`, one of `NAMES`: "digits" is embedded; "mnist" and "fashion-mnist" are files.

    Files are looked for in `$DATA_DIR/<name>/`, then in the cache, then on the network, and each is
    checked against its published SHA-256. Raises `DataError` if that fails, and `ValueError` on
    any other name: never a silent stand-in.
    """
    if name == "digits":
        arrays = _digits()
    elif name in _URLS:
        parts = [_idx(_file(name, i)) for i in range(4)]
        arrays = parts[0], parts[1].astype(np.int64), parts[2], parts[3].astype(np.int64)
    else:
        raise ValueError(f"data set: got {name!r}; allowed: {', '.join(NAMES)}")
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for a in arrays)).hexdigest()
    return Images(name, *(torch.from_numpy(np.array(a)) for a in arrays), sha256=digest)


def shifted(images: Tensor, *, by: int = 2, seed: int = 0) -> Tensor:
    """A second view of uint8 images `(n, 28, 28)`: each moved by up to `by` pixels in both directions, and never by 0.

    What moves in from outside is 0, black.
    """
    moves = [(dy, dx) for dy in range(-by, by + 1) for dx in range(-by, by + 1) if (dy, dx) != (0, 0)]
    chosen = torch.randint(len(moves), (len(images),), generator=torch.Generator().manual_seed(seed))
    padded, out = F.pad(images, (by, by, by, by)), torch.empty_like(images)
    size = images.shape[-1]
    for i, (dy, dx) in enumerate(moves):
        out[chosen == i] = padded[chosen == i, by + dy : by + dy + size, by + dx : by + dx + size]
    return out


def _digits():
    """scikit-learn's 1,797 digits, 8 x 8 with 17 grey levels, enlarged (bilinear) to 28 x 28 bytes."""
    digits = load_digits()
    small = torch.from_numpy(digits.images).float()[:, None] * (255 / 16)
    big = F.interpolate(small, (28, 28), mode="bilinear").round().clamp(0, 255)[:, 0].byte().numpy()
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=500, stratify=labels, random_state=0)
    return big[train], labels[train], big[test], labels[test]


def _file(name: str, i: int) -> bytes:
    """The unpacked content of file `i` of data set `name`."""
    file, looked = _FILES[i], []
    if os.environ.get("DATA_DIR"):
        path = Path(os.environ["DATA_DIR"]).expanduser() / name / file
        looked.append(str(path))
        if path.exists():
            return _checked(path, name, i)
    try:
        path = pooch.retrieve(
            _URLS[name] + file, f"sha256:{_ARCHIVES[name][i]}", fname=file, path=cache_dir() / name
        )
    except Exception as error:  # requests, urllib3 and pooch raise unrelated types
        looked += [str(cache_dir() / name / file), _URLS[name] + file]
        raise DataError(
            f"data set {name}: could not find or download {file}; looked in {', '.join(looked)} "
            f"({type(error).__name__}). Put the four .gz files of {name} into a folder {name}/, set "
            "DATA_DIR to the folder that contains it and run again, or choose the data set digits."
        ) from None
    return _checked(Path(path), name, i)


def _checked(path: Path, name: str, i: int) -> bytes:
    packed = path.read_bytes()
    try:
        content = gzip.decompress(packed)
    except (OSError, EOFError) as error:
        raise DataError(f"{path} is damaged or incomplete ({error}); delete it and run again.") from None
    known = {_ARCHIVES[name][i], _CONTENTS.get(name, (None,) * 4)[i]}
    if not known & {hashlib.sha256(b).hexdigest() for b in (packed, content)}:
        raise DataError(
            f"{path} is not the published file: neither it nor its content has the published SHA-256. "
            "Delete it and run again."
        )
    return content


def _idx(content: bytes) -> np.ndarray:
    """Decode the IDX format: two zero bytes, type (8: unsigned byte), rank, sizes, then the values."""
    sizes = np.frombuffer(content, ">i4", count=content[3], offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * len(sizes)).reshape(sizes)
