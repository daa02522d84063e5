"""Labelled images in memory, and the folder of four IDX files that MNIST and its relatives come in."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mnistnet.data.catalog import dataset_of, has_published_size
from mnistnet.data.idx import idx_header, read_idx
from mnistnet.errors import DataError

DIGITS = tuple("0123456789")
"""The class names of MNIST."""

# keeps the permutation of a split apart from every other random stream of the same seed
_SPLIT_STREAM = int.from_bytes(b"split", "big")
_MAX_SEED = (1 << 64) - 1


@dataclass(frozen=True, eq=False)
class Dataset:
    """Labelled images.

    Raises:
        DataError: the three parts do not fit together.
    """

    images: npt.NDArray[np.uint8]
    """uint8 (N, C, H, W), C-contiguous, N >= 1."""
    labels: npt.NDArray[np.intp]
    """intp (N,), ``0 <= label < len(class_names)``."""
    class_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.ndim != 4 or self.images.dtype != np.uint8 or not self.images.flags.c_contiguous:
            found = f"{self.images.dtype} {self.images.shape}"
            raise DataError(f"images: expected contiguous uint8 (N, C, H, W), found {found}")
        if self.labels.ndim != 1 or self.labels.dtype != np.intp:
            raise DataError(f"labels: expected intp (N,), found {self.labels.dtype} {self.labels.shape}")
        if len(self.images) != len(self.labels):
            raise DataError(f"counts differ: {len(self.images)} images and {len(self.labels)} labels")
        if self.images.size == 0:
            raise DataError("empty dataset: 0 images")
        check_labels(self.labels, len(self.class_names))

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of one image."""
        _, c, h, w = self.images.shape
        return c, h, w

    @property
    def fingerprint(self) -> str:
        """``sha256:`` and 64 hex digits: of the images' bytes and the labels as little-endian int64."""
        digest = hashlib.sha256(self.images.data)
        digest.update(self.labels.astype("<i8").data)
        return f"sha256:{digest.hexdigest()}"

    def first(self, count: int) -> Dataset:
        """The first ``count`` images, as views.

        Raises:
            DataError: ``count`` is below 1 or above the number of images.
        """
        if not 1 <= count <= len(self):
            raise DataError(f"expected a limit of 1 to {len(self)} images, found {count}")
        return Dataset(self.images[:count], self.labels[:count], self.class_names)

    def split(self, fraction: float, seed: int) -> tuple[Dataset, Dataset]:
        """Take a random share of the images away for validation.

        Which images go is the first part of a permutation drawn from ``seed`` alone, the same on every
        machine; classes are not balanced. Each side keeps the order of the dataset and at least one image.

        Args:
            fraction: share for validation, above 0 and below 1, rounded to whole images.
            seed: 0 to 2**64 - 1.

        Returns:
            The training part and the validation part, as copies.

        Raises:
            DataError: fraction or seed out of range, or fewer than two images.
        """
        if not 0.0 < fraction < 1.0:
            raise DataError(f"validation split: expected a fraction above 0 and below 1, found {fraction}")
        if not 0 <= seed <= _MAX_SEED:
            raise DataError(f"seed: expected 0 to {_MAX_SEED}, found {seed}")
        if len(self) < 2:
            raise DataError(f"validation split: expected at least 2 images, found {len(self)}")
        count = min(max(round(len(self) * fraction), 1), len(self) - 1)
        key = np.array([seed, _SPLIT_STREAM], np.uint64)
        order = np.random.Generator(np.random.Philox(key=key)).permutation(len(self))
        chosen = np.zeros(len(self), np.bool_)
        chosen[order[:count]] = True
        return self._where(~chosen), self._where(chosen)

    def _where(self, chosen: npt.NDArray[np.bool_]) -> Dataset:
        return Dataset(self.images[chosen], self.labels[chosen], self.class_names)


@dataclass(frozen=True, eq=False)
class Splits:
    """A dataset's two parts, and what is worth saying about them."""

    train: Dataset
    test: Dataset
    warnings: tuple[str, ...] = ()
    """One line each; nothing in them prevents training."""


def check_labels(labels: npt.NDArray[np.integer], classes: int) -> None:
    """Raise DataError, naming the first offender, unless ``0 <= label < classes`` everywhere."""
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        index = int(wrong.argmax())
        raise DataError(f"label {labels[index]} at index {index}: expected 0 to {classes - 1}")


def load_folder(folder: Path, *, class_names: tuple[str, ...] = DIGITS) -> Splits:
    """Read a folder of the four MNIST files, raw or gzipped.

    They are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same two with ``t10k``, also
    spelled ``train-images.idx3-ubyte``, and with ``.gz`` behind; the first of these that exists is read.

    Args:
        folder: the folder.
        class_names: what the labels 0, 1, 2, … mean.

    Returns:
        Both parts, images of (N, H, W) files as (N, 1, H, W), and warnings for files that have the size
        of a published file (MNIST, Fashion-MNIST) but not its content.

    Raises:
        DataError: the folder or one of the files cannot be used; the message begins with its path.
    """
    if not folder.is_dir():
        what = "not a directory" if folder.exists() else "no such folder"
        raise DataError(
            f"{folder}: {what}; expected the four MNIST files, which are in data/ of the mnistnet"
            " repository and at https://ossci-datasets.s3.amazonaws.com/mnist/"
        )
    train, train_files = _load_part(folder, "train", class_names)
    test, test_files = _load_part(folder, "t10k", class_names)
    if train.shape != test.shape:
        raise DataError(
            f"{test_files[0].path}: expected images of {_by(train.shape)} like the training set's,"
            f" found {_by(test.shape)}"
        )
    return Splits(train, test, _warnings(folder, train_files + test_files))


class _ReadFile(NamedTuple):
    path: Path
    dataset: str | None
    """The dataset that published exactly this content."""
    doubtful: bool
    """It has the size of a published file, but not the content."""


def _load_part(
    folder: Path, prefix: str, class_names: tuple[str, ...]
) -> tuple[Dataset, tuple[_ReadFile, _ReadFile]]:
    images_path = _find(folder, f"{prefix}-images", "idx3-ubyte")
    labels_path = _find(folder, f"{prefix}-labels", "idx1-ubyte")
    images = read_idx(images_path, dimensions=(3, 4), dtype=np.uint8)
    labels = read_idx(labels_path, dimensions=1, dtype=np.uint8)
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path}: counts differ: expected one label for each of {len(images)} images"
            f" in {images_path.name}, found {len(labels)} labels"
        )
    try:
        check_labels(labels, len(class_names))
    except DataError as error:
        raise error.at(labels_path) from error
    files = _identify(images_path, images), _identify(labels_path, labels)
    if images.ndim == 3:
        images = images[:, np.newaxis]
    return Dataset(images, labels.astype(np.intp), class_names), files


def _find(folder: Path, stem: str, kind: str) -> Path:
    usual = folder / f"{stem}-{kind}"
    names = [f"{stem}-{kind}", f"{stem}.{kind}"]
    candidates = [folder / f"{name}{suffix}" for suffix in ("", ".gz") for name in names]
    found = next((path for path in candidates if path.exists()), None)
    if found is None:
        raise DataError(f"{usual}: no such file, neither raw nor .gz")
    return found


def _identify(path: Path, values: npt.NDArray[np.uint8]) -> _ReadFile:
    header = idx_header(values)
    if not has_published_size(len(header) + values.nbytes):
        return _ReadFile(path, None, doubtful=False)
    # 25 ms for the largest file: cheap enough to notice a silently damaged download every time
    digest = hashlib.sha256(header)
    digest.update(values.data)
    dataset = dataset_of(digest.hexdigest())
    return _ReadFile(path, dataset, doubtful=dataset is None)


def _warnings(folder: Path, files: tuple[_ReadFile, ...]) -> tuple[str, ...]:
    doubtful = [
        f"{file.path}: has the size of MNIST's file, but not the checksum of MNIST or Fashion-MNIST;"
        " fine if it is another dataset in their form"
        for file in files
        if file.doubtful
    ]
    known = {file.dataset for file in files if file.dataset}
    if len(known) > 1:
        doubtful.append(f"{folder}: mixes files of {' and '.join(sorted(known))}")
    return tuple(doubtful)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))
