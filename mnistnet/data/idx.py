"""IDX, the file format of MNIST: read with every claim of its header checked, and written.

An IDX file is ``00 00 type d``, then d sizes as big-endian 32-bit unsigned integers, then the numbers in
C order, big-endian. Types: 08 uint8, 09 int8, 0B int16, 0C int32, 0D float32, 0E float64. The source is
the description at the end of http://yann.lecun.com/exdb/mnist/. Files may be gzipped; their first bytes
tell, not their name.
"""

from __future__ import annotations

import gzip
import struct
import zlib
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

from mnistnet.errors import DataError
from mnistnet.files import regular_file, write_atomically

AnyArray = npt.NDArray[Any]

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: "i2", 0x0C: "i4", 0x0D: "f4", 0x0E: "f8"}
_CODES = {np.dtype(name): code for code, name in _DTYPES.items()}
_MAX_DIMENSIONS = 32  # what every supported NumPy can hold
_GZIP = b"\x1f\x8b"
_GZIP_CHUNK = 1 << 18
_GZIP_MAX_RATIO = 1032  # deflate cannot do better: 258 bytes from 2 bits

_LOOKS_LIKE = (
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"GIF8", "a GIF picture"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
    (_GZIP, "gzip inside gzip"),
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
    accepted = (dimensions,) if isinstance(dimensions, int) else dimensions
    with regular_file(path, DataError) as (file, size):
        source = _source(file, size)
        try:
            stored, shape = _read_header(source, accepted, None if dtype is None else np.dtype(dtype))
            values = _read_values(source, stored, shape)
            source.check_end()
        except DataError as error:
            raise error.at(path) from error
        except MemoryError as error:
            raise DataError(f"{path}: does not fit in memory") from error
    return values


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


class _Source(Protocol):
    """The content of a file from its beginning, whether or not it is compressed."""

    ending: str
    """Words to put before "found fewer bytes", when there is more to say than that."""

    def read(self, count: int) -> bytearray:
        """The next ``count`` bytes, or fewer at the end."""

    def most(self) -> int:
        """How many bytes can follow at most, known without reading them."""

    def check_end(self) -> None:
        """Raise DataError unless everything was read and whole."""


def _source(file: BinaryIO, size: int) -> _Source:
    is_gzip = file.read(2) == _GZIP
    file.seek(0)
    return _Gzip(file, size) if is_gzip else _Plain(file, size)


class _Plain:
    """A file read as it is."""

    ending = ""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, count: int) -> bytearray:
        data = bytearray(min(count, self._left))
        del data[self._file.readinto(data) :]  # type: ignore[attr-defined]
        self._left -= len(data)
        return data

    def most(self) -> int:
        return self._left

    def check_end(self) -> None:
        if self._left:
            raise DataError(f"expected nothing after the data, found {self._left} extra bytes")


class _Gzip:
    """A file expanded piece by piece, only as far as asked."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.ending = ""
        self._file = file
        self._size = size
        self._inflate = zlib.decompressobj(wbits=31)  # 31: a gzip header and trailer, CRC checked

    def read(self, count: int) -> bytearray:
        data = bytearray()
        while len(data) < count and not self._inflate.eof:
            fed = self._inflate.unconsumed_tail or self._file.read(_GZIP_CHUNK)
            try:
                piece = self._inflate.decompress(fed, count - len(data))
            except zlib.error as error:
                # zlib says "Error -3 while decompressing data: incorrect data check"
                reason = str(error).rpartition(": ")[2].replace("incorrect data check", "its CRC is wrong")
                raise DataError(f"corrupt gzip data: {reason}") from error
            if not fed and not piece:
                self.ending = "the gzip data ended early: "
                break
            data += piece
        return data

    def most(self) -> int:
        return self._size * _GZIP_MAX_RATIO

    def check_end(self) -> None:
        # asking for one more byte also makes zlib read and check the trailer
        if self.read(1):
            raise DataError("expands to more data: it exceeds what its header says")
        if self.ending:
            raise DataError(f"{self.ending}its checksum is missing")
        junk = self._inflate.unused_data or self._file.read(2)
        if junk:
            begins = "a second gzip stream" if junk.startswith(_GZIP) else _show(junk[:4])
            raise DataError(f"expected one gzip stream, found trailing data after it ({begins})")


def _read_header(
    source: _Source, dimensions: tuple[int, ...] | None, dtype: np.dtype[Any] | None
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
        raise DataError(f"empty dataset: its sizes are {_by(shape)}")
    return stored, shape


def _check_magic(source: _Source, magic: bytearray) -> None:
    if magic[:2] == b"\0\0"[: len(magic)] and len(magic) < 4:
        empty = "" if magic or source.ending else " (empty)"
        raise DataError(
            f"{source.ending}header incomplete: needs at least 4 bytes, found {len(magic)}{empty}"
        )
    if magic[:2] == b"\0\0" and magic[2] in _DTYPES:
        return
    if len(magic) == 4 and magic[2:] == b"\0\0" and magic[1] in _DTYPES:
        raise DataError(f"not an IDX file: begins with {_show(magic)}, a little-endian header (byte order?)")
    begin = bytes(magic + source.read(20))
    likeness = next(
        (f", which looks like {name}" for start, name in _LOOKS_LIKE if begin.startswith(start)), ""
    )
    raise DataError(f"not an IDX file: expected first bytes 00 00 08, found {_show(begin[:8])}{likeness}")


def _read_values(source: _Source, stored: np.dtype[Any], shape: tuple[int, ...]) -> AnyArray:
    # prod of Python integers: np.prod wraps around on a header made to fool it
    needed = prod(shape) * stored.itemsize
    most = source.most()
    if needed > most:
        # no file can hold what the header claims, so nothing is allocated for it
        swapped = prod(int.from_bytes(size.to_bytes(4, "big"), "little") for size in shape) * stored.itemsize
        hint = "; are the sizes little-endian (byte order?)" if swapped <= most else ""
        found = f"found {most}" if isinstance(source, _Plain) else "which so small a gzip file cannot hold"
        raise DataError(f"file too short: {_by(shape)} {stored} needs {needed} bytes of data, {found}{hint}")
    data = source.read(needed)
    if len(data) < needed:
        claim = f"{_by(shape)} {stored} needs {needed} bytes of data"
        raise DataError(f"{source.ending}file too short: {claim}, found {len(data)}")
    values = np.frombuffer(data, stored.newbyteorder(">")).reshape(shape)
    return values.astype(stored, copy=False)


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _show(data: bytes | bytearray) -> str:
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
    return f"{data.hex(' ').upper()} ({text!r})"
