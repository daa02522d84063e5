"""The folder of four IDX files that MNIST and its relatives come in."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mnistnet.data.catalog import FASHION_MNIST, MNIST, class_names_of, dataset_of, has_published_size
from mnistnet.data.dataset import Found, Part, read_class_names, unsigned_bytes
from mnistnet.data.idx import AnyArray, idx_header, read_idx
from mnistnet.data.listing import names_in
from mnistnet.engine.workers import on_threads
from mnistnet.errors import DataError

_NAME = re.compile(
    r"(?P<prefix>.*?)(?P<part>train|t10k|test)-(?P<what>images|labels)[-.]idx[134]-ubyte(?P<gz>\.gz)?"
)


def has_idx_names(names: list[str]) -> bool:
    """Whether one of these file names is one of the four."""
    return any(_NAME.fullmatch(name) for name in names)


def read_idx_folder(folder: Path) -> Found:
    """Read a folder of the four MNIST files, raw or gzipped.

    They are ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte`` and the same two with ``t10k`` (or
    ``test``), also spelled ``train-images.idx3-ubyte``, with a common prefix such as EMNIST's in front, and
    with ``.gz`` behind. A raw file is preferred to a gzipped one.

    Returns:
        Both parts, images of (N, H, W) files as (N, 1, H, W). The class names are those of the folder's
        ``classes.txt`` or of the dataset whose checksums the files have. Warnings are for files that have
        the size of a published file but not its content, unless the classes are others than that file's.

    Raises:
        DataError: the folder or one of the files cannot be used; the message begins with its path.
    """
    files = idx_files(folder)
    (train, train_files), (test, test_files) = on_threads(
        [
            lambda: _read_part(files["train-images"], files["train-labels"]),
            lambda: _read_part(files["test-images"], files["test-labels"]),
        ]
    )
    read = train_files + test_files
    known = {file.dataset for file in read if file.dataset}
    names = read_class_names(folder)
    # KMNIST, say: another dataset in their form
    others = names is not None and names not in (class_names_of(MNIST), class_names_of(FASHION_MNIST))
    warnings = _warnings(folder, read, others=others)
    if names is None and len(known) == 1:
        names = class_names_of(known.pop())
    return Found(folder, "idx", train, test, names, warnings)


def idx_files(folder: Path) -> dict[str, Path]:
    """The four files' paths by ``train-images``, ``train-labels``, ``test-images``, ``test-labels``.

    Raises:
        DataError: one is missing, or the folder holds more than one dataset.
    """
    found: dict[str, Path] = {}
    prefixes = set()
    # gzipped after raw, and the other spelling after the usual one, so that the first is the preferred
    for name in sorted(names_in(folder), key=lambda name: (name.endswith(".gz"), ".idx" in name, name)):
        if match := _NAME.fullmatch(name):
            prefixes.add(match["prefix"])
            part = "train" if match["part"] == "train" else "test"
            found.setdefault(f"{part}-{match['what']}", folder / name)
    if len(prefixes) > 1:
        shown = ", ".join(repr(prefix) for prefix in sorted(prefixes))
        raise DataError(f"{folder}: expected one dataset, found IDX files that begin with {shown}")
    prefix = prefixes.pop() if prefixes else ""
    for role, usual in (
        ("train-images", "train-images-idx3-ubyte"),
        ("train-labels", "train-labels-idx1-ubyte"),
        ("test-images", "t10k-images-idx3-ubyte"),
        ("test-labels", "t10k-labels-idx1-ubyte"),
    ):
        if role not in found:
            raise DataError(f"{folder / (prefix + usual)}: no such file, neither raw nor .gz")
    return found


class _ReadFile(NamedTuple):
    path: Path
    dataset: str | None
    """The dataset that published exactly this content."""
    doubtful: bool
    """It has the size of a published file, but not the content."""


def _read_part(images_path: Path, labels_path: Path) -> tuple[Part, tuple[_ReadFile, _ReadFile]]:
    images = read_idx(images_path, dimensions=(3, 4))
    labels = read_idx(labels_path, dimensions=1)
    if labels.dtype.kind == "f":
        raise DataError(f"{labels_path}: expected unsigned bytes, found {labels.dtype}")
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path}: counts differ: expected one label for each of {len(images)} images"
            f" in {images_path.name}, found {len(labels)} labels"
        )
    files = _identify(images_path, images), _identify(labels_path, labels)
    pixels = _pixels(images, images_path)
    return Part(pixels, labels.astype(np.intp), images_path, labels_path), files


def _pixels(images: AnyArray, path: Path) -> npt.NDArray[np.uint8]:
    try:
        pixels = unsigned_bytes(images)
    except DataError as error:
        raise error.at(path) from error
    return pixels[:, np.newaxis] if pixels.ndim == 3 else pixels


def _identify(path: Path, values: AnyArray) -> _ReadFile:
    header = idx_header(values)
    if values.dtype != np.uint8 or not has_published_size(len(header) + values.nbytes):
        return _ReadFile(path, None, doubtful=False)
    # 25 ms for the largest file: cheap enough to notice a silently damaged download every time
    digest = hashlib.sha256(header)
    digest.update(values.data)
    dataset = dataset_of(digest.hexdigest())
    return _ReadFile(path, dataset, doubtful=dataset is None)


def _warnings(folder: Path, files: tuple[_ReadFile, ...], *, others: bool) -> tuple[str, ...]:
    doubtful = [
        f"{file.path}: has the size of MNIST's file, but not the checksum of MNIST or Fashion-MNIST;"
        " fine if it is another dataset in their form"
        for file in files
        if file.doubtful and not others
    ]
    known = {file.dataset for file in files if file.dataset}
    if len(known) > 1:
        doubtful.append(f"{folder}: mixes files of {' and '.join(sorted(known))}")
    return tuple(doubtful)
