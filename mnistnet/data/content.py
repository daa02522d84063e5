"""What is in a file, whether or not it is gzipped: read piece by piece, every fault of it said."""

from __future__ import annotations

import zlib
from typing import BinaryIO, Protocol

from mnistnet.errors import DataError

GZIP = b"\x1f\x8b"
"""The first bytes of every gzip file."""
_GZIP_CHUNK = 1 << 16
_GZIP_MAX_RATIO = 1032  # deflate cannot do better: 258 bytes from 2 bits


class Content(Protocol):
    """The content of a file from its beginning, whether or not it is compressed."""

    compressed: bool
    ending: str
    """Words to put before "found fewer bytes", when there is more to say than that."""

    def read(self, count: int) -> bytearray:
        """The next ``count`` bytes, or fewer at the end."""

    def most(self) -> int:
        """How many bytes can follow at most, known without reading them."""

    def check_end(self) -> None:
        """Raise DataError unless everything was read and whole."""


def content_of(file: BinaryIO, size: int) -> Content:
    """The content of an open file of ``size`` bytes; its first bytes tell whether it is gzipped."""
    is_gzip = file.read(2) == GZIP
    file.seek(0)
    return _Gzip(file, size) if is_gzip else _Plain(file, size)


class _Plain:
    """A file read as it is."""

    compressed = False
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

    compressed = True

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
            begins = "a second gzip stream" if junk.startswith(GZIP) else show_bytes(junk[:4])
            raise DataError(f"expected one gzip stream, found trailing data after it ({begins})")


def show_bytes(data: bytes | bytearray) -> str:
    """Bytes for a message: in hexadecimal and as text."""
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data)
    return f"{data.hex(' ').upper()} ({text!r})"
