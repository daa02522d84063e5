"""Labelled images as NumPy's .npz archives; nothing in them is ever unpickled.

An archive is a ZIP file of ``.npy`` files. They are read here piece by piece, and not by ``np.load``, which
allocates whatever a header claims; the header itself is read by NumPy.
"""

from __future__ import annotations

import io
import sys
import tokenize
import warnings
import zipfile
import zlib
from math import prod
from pathlib import Path
from typing import IO, Any

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

_CHUNK = 1 << 18
_METHODS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: 1032}
"""How NumPy packs, and how many bytes one byte can become at most."""
_MOST_DIMENSIONS = 8
_LONGEST_HEADER = 1024
"""Bytes: NumPy's parser takes seconds for damaged ones of ten times that."""
_SINGLE = b"\x93NUMPY"


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
        with regular_file(path, DataError) as (file, _):
            if file.read(len(_SINGLE)) == _SINGLE:
                raise DataError("expected an .npz archive, found a single array")
            with zipfile.ZipFile(file) as archive:
                return _read(path, archive)
    except DataError as error:
        if str(error).startswith(f"{path}: "):
            raise
        raise error.at(path) from error
    except MemoryError as error:
        raise DataError(f"{path}: does not fit in memory") from error
    # RuntimeError: a password is asked for; NotImplementedError: a newer form of ZIP
    except (ValueError, EOFError, RuntimeError, OverflowError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise DataError(f"{path}: cannot be read as .npz: {reason}") from error


def _read(path: Path, archive: zipfile.ZipFile) -> Found:
    there = {name.removesuffix(".npy") for name in archive.namelist()}
    names = next((names for names in _NAMES if {names[0], names[1]} <= there), None)
    if names is None:
        found = ", ".join(sorted(there)[:10]) or "none"
        raise DataError(f"expected arrays images and labels, found {found:.200}")
    images, labels, test_images, test_labels = names
    train = _part(path, archive, images, labels)
    test = _part(path, archive, test_images, test_labels) if {test_images, test_labels} <= there else None
    class_names = None
    if "class_names" in there:
        # an empty list says nothing
        class_names = _texts("class_names", _array(archive, "class_names", kinds="U")) or None
    return Found(path, "npz", train, test, class_names)


def _texts(name: str, values: AnyArray) -> tuple[str, ...]:
    codes = np.frombuffer(values.tobytes(), np.dtype(np.uint32).newbyteorder(values.dtype.byteorder))
    if codes.size and codes.max() > sys.maxunicode:
        raise DataError(f"{name}: expected text, found numbers that are no characters")
    return tuple(str(text) for text in values.reshape(-1))


def _part(path: Path, archive: zipfile.ZipFile, images: str, labels: str) -> Part:
    try:
        pixels = unsigned_bytes(_channels_first(_array(archive, images)))
    except DataError as error:
        if str(error).startswith(f"{images}: "):
            raise
        raise error.at(images) from error
    numbers = _array(archive, labels)
    if numbers.ndim == 2 and numbers.shape[1] == 1:
        numbers = numbers[:, 0]
    if numbers.ndim != 1 or numbers.dtype.kind not in "iu":
        raise DataError(f"{labels}: expected whole numbers (N,), found {numbers.dtype} {numbers.shape}")
    if len(numbers) != len(pixels):
        raise DataError(f"{labels}: counts differ: {len(pixels)} images and {len(numbers)} labels")
    return Part(pixels, numbers.astype(np.intp), path, path)


def _array(archive: zipfile.ZipFile, name: str, kinds: str = "biuf") -> AnyArray:
    """One array of an archive, of one of NumPy's ``kinds`` of types; its header's claims are compared."""
    member = f"{name}.npy" if f"{name}.npy" in archive.namelist() else name
    entry = archive.getinfo(member)
    if entry.compress_type not in _METHODS:
        raise DataError(f"{name}: expected stored or deflated data, as NumPy writes them")
    with archive.open(entry) as file:
        shape, columns_first, dtype = _header(file, name)
        if dtype.hasobject:
            raise DataError(f"{name}: expected numbers, found Python objects, a pickle: never opened")
        if dtype.kind not in kinds or not dtype.itemsize:
            raise DataError(f"{name}: expected {'text' if kinds == 'U' else 'numbers'}, found {dtype}")
        needed = prod(shape) * dtype.itemsize
        most = min(entry.file_size, entry.compress_size * _METHODS[entry.compress_type])
        if needed > most:
            raise DataError(
                f"{name}: too short: {by(shape)} {dtype} needs {needed} bytes of data, found {most}"
            )
        values = np.empty(needed, np.uint8)
        for start in range(0, needed, _CHUNK):
            piece = file.read(min(_CHUNK, needed - start))
            if len(piece) < min(_CHUNK, needed - start):
                raise DataError(f"{name}: too short: {by(shape)} {dtype} needs {needed} bytes of data")
            values[start : start + len(piece)] = np.frombuffer(piece, np.uint8)
        if file.read(1):  # which also has the checksum compared
            raise DataError(f"{name}: expected nothing after its {needed} bytes of data, found more")
    typed = values.view(dtype)
    return typed.reshape(shape[::-1]).T if columns_first else typed.reshape(shape)


def _header(file: IO[bytes], name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether columns come first, and type, as a .npy file's header has them."""
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    try:
        version = np.lib.format.read_magic(file)
        length = file.read(2 if version == (1, 0) else 4)
        size = int.from_bytes(length, "little")
        if size > _LONGEST_HEADER:
            raise DataError(f"{name}: its header is damaged: expected at most {_LONGEST_HEADER} bytes")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote, which are read all the same
            shape, columns_first, dtype = readers[version](io.BytesIO(length + file.read(size)))
    # a header is an expression of Python's, parsed by ast.literal_eval, which fails in many ways
    except (ValueError, KeyError, TypeError, SyntaxError, RecursionError, tokenize.TokenError) as error:
        raise DataError(f"{name}: its header is damaged") from error
    if len(shape) > _MOST_DIMENSIONS or min(shape, default=0) < 0:
        raise DataError(f"{name}: expected at most {_MOST_DIMENSIONS} dimensions of 0 or more")
    return shape, columns_first, dtype


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
