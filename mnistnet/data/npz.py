"""Labelled images as NumPy's .npz archives; nothing in them is ever unpickled."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mnistnet.data.dataset import Found, Part, unsigned_bytes
from mnistnet.data.idx import AnyArray, by
from mnistnet.errors import DataError
from mnistnet.files import regular_file

_NAMES = (
    ("images", "labels", "test_images", "test_labels"),
    ("train_images", "train_labels", "test_images", "test_labels"),
    ("x_train", "y_train", "x_test", "y_test"),  # Keras
)
"""How the four arrays are called; the test ones may be missing."""


def read_npz(path: Path) -> Found:
    """Read an archive with ``images`` and ``labels``.

    It may have ``test_images``, ``test_labels`` and ``class_names`` as well. Keras' names for the arrays
    (``x_train`` …) do too, and ``train_images`` …. Images are (N, H, W), (N, C, H, W) or, with one or three
    channels, (N, H, W, C); labels are (N,) or (N, 1).

    Raises:
        DataError: not such an archive, or its arrays do not fit together; the message begins with its path.
    """
    try:
        # opened through our own gate, which refuses what is no file
        with regular_file(path, DataError) as (file, _), _archive(file) as archive:
            return _read(path, archive)
    except DataError as error:
        raise (error if str(error).startswith(f"{path}: ") else error.at(path)) from error
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path}: cannot be read as .npz: {reason}") from error


def _archive(file: BinaryIO) -> np.lib.npyio.NpzFile:
    archive = np.load(file, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise DataError("expected an .npz archive, found a single array")
    return archive


def _read(path: Path, archive: np.lib.npyio.NpzFile) -> Found:
    there = set(archive.files)
    names = next((names for names in _NAMES if {names[0], names[1]} <= there), None)
    if names is None:
        raise DataError(f"expected arrays images and labels, found {', '.join(sorted(there)) or 'none'}")
    images, labels, test_images, test_labels = names
    train = _part(path, archive, images, labels)
    test = _part(path, archive, test_images, test_labels) if {test_images, test_labels} <= there else None
    class_names = tuple(str(name) for name in archive["class_names"]) if "class_names" in there else None
    return Found(path, "npz", train, test, class_names)


def _part(path: Path, archive: np.lib.npyio.NpzFile, images: str, labels: str) -> Part:
    try:
        pixels = unsigned_bytes(_channels_first(archive[images]))
    except DataError as error:
        raise error.at(images) from error
    numbers = archive[labels]
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise DataError(f"{labels}: expected whole numbers (N,), found {numbers.dtype} {numbers.shape}")
    if len(numbers) != len(pixels):
        raise DataError(f"{labels}: counts differ: {len(pixels)} images and {len(numbers)} labels")
    return Part(pixels, numbers.astype(np.intp), path, path)


def _channels_first(images: AnyArray) -> AnyArray:
    """(N, H, W), (N, C, H, W) or (N, H, W, C) as (N, C, H, W)."""
    if images.size == 0:
        raise DataError("empty dataset: 0 images")
    if images.ndim == 3:
        return images[:, np.newaxis]
    if images.ndim != 4:
        raise DataError(f"expected (N, H, W) or (N, C, H, W), found {by(images.shape)}")
    if images.shape[1] not in (1, 3) and images.shape[3] in (1, 3):
        return images.transpose(0, 3, 1, 2)
    return images
