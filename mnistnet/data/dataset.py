"""Labelled images in memory: as they were found, and once they are known to fit together."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
import numpy.typing as npt

from mnistnet.data.idx import by
from mnistnet.errors import DataError
from mnistnet.files import read_limited

DIGITS = tuple("0123456789")
"""The class names of MNIST."""

CLASSES_FILE = "classes.txt"
"""A file beside the data with the name of every class, one a line, in the order of their labels."""
MOST_CLASSES = 1 << 16
"""Labels beyond are a mistake in the data, not classes to make room for."""
HELD_BACK = 1 / 7
"""Share of the images that becomes the test part where there is none: MNIST's own."""

# keeps the permutation of a split apart from every other random stream of the same seed
_SPLIT_STREAM = int.from_bytes(b"split", "big")
_MOST_NAMES = 1 << 20  # bytes
_CONTROLS = {"Cc", "Zl", "Zp", "Cs"}  # not Cf: many scripts need joiners without a width
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
    def inputs(self) -> npt.NDArray[np.uint8]:
        """The images, as a training calls them (`Examples`)."""
        return self.images

    @property
    def targets(self) -> npt.NDArray[np.intp]:
        """The labels, as a training calls them."""
        return self.labels

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


@dataclass(frozen=True, eq=False)
class Part:
    """Images and their labels as they were found, whatever the labels are."""

    images: npt.NDArray[np.uint8]
    """uint8 (N, C, H, W)."""
    labels: npt.NDArray[np.intp]
    """intp (N,)."""
    images_path: Path
    """The file or folder the images are from: what messages begin with."""
    labels_path: Path


@dataclass(frozen=True, eq=False)
class Found:
    """What a folder or file holds, before anybody asked whether it fits together.

    Raises:
        DataError: the class names cannot be used (`check_class_names`).
    """

    path: Path
    form: str
    """"idx", "csv", "pictures", "rsnet" or "npz"."""
    train: Part
    test: Part | None
    class_names: tuple[str, ...] | None
    """None where the data do not say."""
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        try:
            check_class_names(self.class_names or ())
        except DataError as error:
            raise error.at(f"{self.path}: class names") from error

    @property
    def parts(self) -> tuple[Part, ...]:
        """The training part, and the test part where there is one."""
        return (self.train,) if self.test is None else (self.train, self.test)

    def changed(self, change: Callable[[Part], Part]) -> Found:
        """The same with both parts changed."""
        return replace(self, train=change(self.train), test=None if self.test is None else change(self.test))

    def splits(self, otherwise: tuple[str, ...] = DIGITS) -> Splits:
        """The two parts, fit to train on; a seventh of the images is the test where there is no test part.

        Args:
            otherwise: the class names of data that do not say.

        Raises:
            DataError: a label has no class, or the two parts have images of different shapes.
        """
        names = self.class_names or otherwise
        train = _checked(self.train, names, named=self.class_names is not None)
        if self.test is None:
            try:
                train, test = train.split(HELD_BACK, seed=0)
            except DataError as error:
                raise error.at(self.path) from error
            kept = f"{self.path}: no test part: {len(test)} of its images, drawn at random, are kept for it"
            return Splits(train, test, (*self.warnings, kept))
        test = _checked(self.test, names, named=self.class_names is not None)
        if train.shape != test.shape:
            raise DataError(
                f"{self.test.images_path}: expected images of {by(train.shape)} like the training set's,"
                f" found {by(test.shape)}"
            )
        return Splits(train, test, self.warnings)


def _checked(part: Part, names: tuple[str, ...], *, named: bool) -> Dataset:
    try:
        check_labels(part.labels, len(names))
    except DataError as error:
        hint = "" if named else f"; a {CLASSES_FILE} beside the data names other classes, one a line"
        raise DataError(f"{part.labels_path}: {error}{hint}") from error
    return Dataset(part.images, part.labels, names)


def check_labels(labels: npt.NDArray[np.integer], classes: int) -> None:
    """Raise DataError, naming the first offender, unless ``0 <= label < classes`` everywhere."""
    wrong = (labels < 0) | (labels >= classes)
    if wrong.any():
        index = int(wrong.argmax())
        raise DataError(f"label {labels[index]} at index {index}: expected 0 to {classes - 1}")


def check_class_names(names: tuple[str, ...]) -> None:
    """Raise DataError unless the names are different, not blank, and free of control characters."""
    # a line end in a name would be two names in a classes.txt, a blank name none
    for name in names:
        if not name.strip():
            raise DataError(f"expected no empty name, found {name!r:.60}")
        if not name.isprintable() and any(category(character) in _CONTROLS for character in name):
            raise DataError(f"expected no control characters, found {name!r:.60}")
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"expected different names, found {twice!r:.60} twice")


def read_class_names(folder: Path) -> tuple[str, ...] | None:
    """The names in a folder's `CLASSES_FILE`, or None where there is none.

    Raises:
        DataError: the file is not UTF-8 text, has no names, or names that cannot be used.
    """
    path = folder / CLASSES_FILE
    if not path.exists():
        return None
    content = read_limited(path, _MOST_NAMES, DataError)
    try:
        names = tuple(line.strip() for line in content.decode("utf-8-sig").splitlines() if line.strip())
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: expected UTF-8 text, found other bytes") from error
    if not names:
        raise DataError(f"{path}: expected the name of every class, one a line, found none")
    try:
        check_class_names(names)
    except DataError as error:
        raise error.at(path) from error
    return names


def unsigned_bytes(values: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Pixels of any number type as bytes: whole numbers 0 to 255, or fractions 0 to 1, scaled by 255.

    Raises:
        DataError: there is any other value.
    """
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if values.dtype.kind not in "biuf":
        raise DataError(f"expected numbers, found {values.dtype}")
    lowest, highest = values.min(), values.max()
    if not (lowest >= 0 and highest <= 255):
        raise DataError(f"expected pixels of 0 to 255 or fractions of 0 to 1, found {lowest} to {highest}")
    if values.dtype.kind == "f" and highest <= 1:
        values = values * 255
    rounded = np.rint(values).astype(np.uint8)
    if values.dtype.kind == "f" and highest > 1 and not np.array_equal(rounded, values):
        raise DataError(f"expected whole pixels of 0 to 255, found fractions up to {highest}")
    return np.ascontiguousarray(rounded)
