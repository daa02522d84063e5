"""IDX, the file format of MNIST: read with every claim of its header checked, and written.

An IDX file is ``00 00 type d``, then d sizes as big-endian 32-bit unsigned integers, then the numbers in
C order, big-endian. Types: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64. The source is
the description at the end of http://yann.lecun.com/exdb/mnist/. Files may be gzipped; their first bytes
tell, not their name.
"""

from __future__ import annotations

import gzip
import struct
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnistnet.data.content import GZIP, Content, content_of, show_bytes
from mnistnet.errors import DataError
from mnistnet.files import regular_file, write_atomically

AnyArray = npt.NDArray[Any]

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
_CODES = {np.dtype(name): code for code, name in _DTYPES.items()}
_MAX_DIMENSIONS = 32  # what every supported NumPy can hold

_LOOKS_LIKE = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (GZIP, "gzip inside gzip"),
    (b"\x93NUMPY", "a NumPy file"),
    (b"\x80", "a pickle"),
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself"),
    (b"{", "JSON"),
    (b"label", "CSV"),
    (b"<", "HTML or XML, perhaps the error page of a failed download"),
)


def read_idx(
    path: Path, *, dimensions: int | tuple[int, ...] | None = None, dtype: npt.DTypeLike | None = None
) -> AnyArray:
    """Read one IDX file, raw or gzipped.

    Memory is allocated for bytes that are there, never for what a header merely claims, and a gzip
    stream is expanded no further than its IDX header says.

    Args:
        path: the file.
        dimensions: how many dimensions to accept (several: the usual one first); None takes any.
        dtype: the number type to insist on; None takes all six.

    Returns:
        A writable C-contiguous array of the header's shape, in the machine's byte order.

    Raises:
        DataError: the file is missing, unreadable, not IDX, of another kind than asked for, empty,
            shorter or longer than its header says, or corrupt.
    """
    with regular_file(path, DataError) as (file, size):
        return _decode(content_of(file, size), path, dimensions, dtype)


def decode_idx(data: bytes, where: object, *, dtype: npt.DTypeLike | None = None) -> AnyArray:
    """The array in the bytes of an IDX file, as `read_idx` gives it.

    Args:
        data: all of them.
        where: what to call the file in messages.
        dtype: as of `read_idx`.

    Raises:
        DataError: as of `read_idx`.
    """
    return _decode(content_of(BytesIO(data), len(data)), where, None, dtype)


def write_idx(path: Path, values: AnyArray) -> None:
    """Write an array as an IDX file, gzipped when the name ends in ``.gz``.

    The file appears whole or not at all; equal arrays give equal bytes.

    Args:
        path: the file; an existing one is replaced.
        values: at least one number, of one of the six types of IDX, in any layout and byte order.

    Raises:
        DataError: IDX cannot hold such an array.
        OutputError: the file cannot be written.
    """
    content = idx_header(values) + values.astype(values.dtype.newbyteorder(">"), copy=False).tobytes()
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    write_atomically(path, content)


def idx_header(values: AnyArray) -> bytes:
    """The bytes that stand before the numbers of ``values`` in an IDX file.

    Raises:
        DataError: IDX cannot hold such an array.
    """
    code = _CODES.get(values.dtype.newbyteorder("="))
    if code is None:
        known = ", ".join(str(each) for each in _CODES)
        raise DataError(f"IDX holds {known}, not {values.dtype}")
    if not 1 <= values.ndim <= _MAX_DIMENSIONS or values.size == 0 or max(values.shape) >= 1 << 32:
        raise DataError(
            f"IDX holds at least one number in 1 to {_MAX_DIMENSIONS} dimensions, not {values.shape}"
        )
    return struct.pack(f">4B{values.ndim}I", 0, 0, code, values.ndim, *values.shape)


def _decode(
    source: Content, where: object, dimensions: int | tuple[int, ...] | None, dtype: npt.DTypeLike | None
) -> AnyArray:
    accepted = (dimensions,) if isinstance(dimensions, int) else dimensions
    try:
        stored, shape = _read_header(source, accepted, None if dtype is None else np.dtype(dtype))
        values = _read_values(source, stored, shape)
        source.check_end()
    except DataError as error:
        raise error.at(where) from error
    except MemoryError as error:
        raise DataError(f"{where}: does not fit in memory") from error
    return values


def _read_header(
    source: Content, dimensions: tuple[int, ...] | None, dtype: np.dtype[Any] | None
) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """The number type and the shape, as far as they can be right."""
    magic = source.read(4)
    _check_magic(source, magic)
    stored = np.dtype(_DTYPES[magic[2]])
    count = magic[3]
    if dtype is not None and stored != dtype:
        wanted = "unsigned bytes" if dtype == np.uint8 else str(dtype)
        raise DataError(f"expected {wanted}, found {stored} (IDX type {magic[2]:02X})")
    if dimensions is not None and count not in dimensions:
        others = "".join(f"; {other} would do too" for other in dimensions[1:])
        raise DataError(
            f"expected {dimensions[0]} dimension{'s' * (dimensions[0] > 1)}, found {count}{others}"
        )
    if not 1 <= count <= _MAX_DIMENSIONS:
        raise DataError(f"expected 1 to {_MAX_DIMENSIONS} dimensions, found {count}")
    sizes = source.read(4 * count)
    if len(sizes) < 4 * count:
        needed, found = 4 + 4 * count, 4 + len(sizes)
        raise DataError(
            f"{source.ending}header incomplete: {count} dimensions need {needed} bytes, found {found}"
        )
    shape = struct.unpack(f">{count}I", sizes)
    if 0 in shape:
        raise DataError(f"empty dataset: its sizes are {by(shape)}")
    return stored, shape


def _check_magic(source: Content, magic: bytearray) -> None:
    if magic[:2] == b"\0\0"[: len(magic)] and len(magic) < 4:
        empty = "" if magic or source.ending else " (empty)"
        raise DataError(
            f"{source.ending}header incomplete: needs at least 4 bytes, found {len(magic)}{empty}"
        )
    if magic[:2] == b"\0\0" and magic[2] in _DTYPES:
        return
    if len(magic) == 4 and magic[2:] == b"\0\0" and magic[1] in _DTYPES:
        raise DataError(
            f"not an IDX file: begins with {show_bytes(magic)}, a little-endian header (byte order?)"
        )
    begin = bytes(magic + source.read(20))
    likeness = next(
        (f", which looks like {name}" for start, name in _LOOKS_LIKE if begin.startswith(start)), ""
    )
    raise DataError(
        f"not an IDX file: expected first bytes 00 00 08, found {show_bytes(begin[:8])}{likeness}"
    )


def _read_values(source: Content, stored: np.dtype[Any], shape: tuple[int, ...]) -> AnyArray:
    # prod of Python integers: np.prod wraps around on a header made to fool it
    needed = prod(shape) * stored.itemsize
    most = source.most()
    if needed > most:
        # no file can hold what the header claims, so nothing is allocated for it
        swapped = prod(int.from_bytes(size.to_bytes(4, "big"), "little") for size in shape) * stored.itemsize
        hint = "; are the sizes little-endian (byte order?)" if swapped <= most else ""
        found = f"found {most}" if not source.compressed else "which so small a gzip file cannot hold"
        raise DataError(f"file too short: {by(shape)} {stored} needs {needed} bytes of data, {found}{hint}")
    data = source.read(needed)
    if len(data) < needed:
        claim = f"{by(shape)} {stored} needs {needed} bytes of data"
        raise DataError(f"{source.ending}file too short: {claim}, found {len(data)}")
    values = np.frombuffer(data, stored.newbyteorder(">")).reshape(shape)
    return values.astype(stored, copy=False)


def by(shape: tuple[int, ...]) -> str:
    """A shape as people write it: ``28x28``."""
    return "x".join(map(str, shape))
