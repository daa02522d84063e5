"""Labelled images as CSV, one image a line: Kaggle's MNIST files and their relatives.

A line is a label and C*H*W pixels, whole numbers 0 to 255. The label is the column named ``label`` or
``class``, the first one where there is no header. A header whose last pixel is ``28x28`` or ``3x32x32``
gives the shape (as Kaggle's mnist-in-csv has it, counted from 1); otherwise images are square and grey.

Files are read in pieces that fit in the processor's cache. Each is parsed by arithmetic on all its bytes at
once; a piece with anything but plain whole numbers is gone through line by line, which finds what to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from math import isqrt, prod
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnistnet.data.content import Content, content_of, show_bytes
from mnistnet.data.dataset import Found, Part, read_class_names
from mnistnet.data.idx import by
from mnistnet.data.listing import names_in
from mnistnet.errors import DataError
from mnistnet.files import regular_file

Bytes = npt.NDArray[np.uint8]

SUFFIXES = (".csv", ".csv.gz")
_PIECE = 1 << 20
LONGEST_LINE = 1 << 24
"""Bytes: an image of 3x1024x1024 has a shorter one."""
_LABEL_NAMES = ("label", "class")
_COMMA, _NEWLINE, _ZERO = b",\n0"


class _NoLabelError(DataError):
    """There is no label column: pictures to be classified, such as Kaggle's test.csv."""


@dataclass(frozen=True)
class _Layout:
    """What the first line says about all lines."""

    columns: int
    label: int
    """The label's column."""
    shape: tuple[int, int, int]
    """(C, H, W)."""
    header: bool


def is_csv(name: str) -> bool:
    """Whether a file name is that of a CSV file."""
    return name.lower().endswith(SUFFIXES)


def read_csv_folder(folder: Path) -> Found:
    """Read the CSV file with ``train`` in its name and, where it has labels, the one with ``test``.

    Raises:
        DataError: there are none, or more than one of a kind, or a file cannot be used.
    """
    names = [name for name in names_in(folder) if is_csv(name)]
    train = _only(folder, [name for name in names if "train" in name.lower()] or names, "train")
    tests = [name for name in names if "test" in name.lower() and name != train.name]
    return _read(folder, train, _only(folder, tests, "test") if tests else None)


def read_csv_file(path: Path) -> Found:
    """Read one CSV file; where ``train`` is in its name, the same name with ``test`` is the test part.

    Raises:
        DataError: a file cannot be used; the message begins with its path, the line and the column.
    """
    partner = path.with_name(re.sub("train", "test", path.name, flags=re.IGNORECASE))
    return _read(path.parent, path, partner if partner != path and partner.exists() else None, given=path)


def column_names(shape: tuple[int, ...]) -> str:
    """The header of a file with images of ``shape`` (C, H, W)."""
    sizes = shape[1:] if shape[0] == 1 else shape
    return ",".join(["label", *("x".join(str(i + 1) for i in index) for index in np.ndindex(*sizes))])


def _only(folder: Path, names: list[str], part: str) -> Path:
    if len(names) != 1:
        found = ", ".join(names) or "none"
        raise DataError(f"{folder}: expected one CSV file with {part} in its name, found {found}")
    return folder / names[0]


def _read(folder: Path, train: Path, test: Path | None, given: Path | None = None) -> Found:
    warnings: tuple[str, ...] = ()
    test_part = None
    if test is not None:
        try:
            test_part = _part(test)
        except _NoLabelError:
            warnings = (f"{test}: has no labels and is not used",)
    return Found(given or folder, "csv", _part(train), test_part, read_class_names(folder), warnings)


def _part(path: Path) -> Part:
    with regular_file(path, DataError) as (file, size):
        content = content_of(file, size)
        try:
            table, layout = _table(content)
            content.check_end()
        except DataError as error:
            raise error.at(path) from error
        except MemoryError as error:
            raise DataError(f"{path}: does not fit in memory") from error
    labels = table[:, layout.label].astype(np.intp)
    pixels = np.delete(table, layout.label, axis=1).reshape(-1, *layout.shape)
    return Part(pixels, labels, path, path)


def _table(content: Content) -> tuple[Bytes, _Layout]:
    """All numbers as uint8 (lines, columns)."""
    pieces = _pieces(content)
    first = next(pieces, b"")
    if not first.strip():
        raise DataError("empty: expected a line for each image")
    layout = _layout(first[: first.find(b"\n")])
    line = 1
    if layout.header:
        first = first[first.find(b"\n") + 1 :]
        line = 2
    rows = []
    for piece in chain([first] if first else [], pieces):
        numbers = _parse(np.frombuffer(piece, np.uint8), layout.columns)
        rows.append(_parse_slowly(piece, line, layout.columns) if numbers is None else numbers)
        line += piece.count(b"\n")
    table = np.concatenate(rows) if rows else np.empty((0, layout.columns), np.uint8)
    if len(table) == 0:
        raise DataError("empty dataset: a header and no images")
    return table, layout


def _pieces(content: Content) -> Iterator[bytes]:
    """The content in pieces of whole lines, each ended by a single newline."""
    rest = b""
    while data := content.read(_PIECE):
        if not rest and data.startswith(b"\xef\xbb\xbf"):
            del data[:3]
        data = bytearray(rest) + data
        end = data.rfind(b"\n") + 1
        rest = bytes(data[end:])
        if len(rest) > LONGEST_LINE:
            raise DataError(f"not CSV: expected lines, found {len(rest)} bytes without a line end")
        if end:
            yield bytes(data[:end]).replace(b"\r\n", b"\n")
    if rest:
        yield rest.rstrip(b"\r") + b"\n"


def _layout(line: bytes) -> _Layout:
    if b"\0" in line or not line.isascii():
        raise DataError(f"not CSV: expected text, found {show_bytes(line[:8])}")
    cells = [cell.strip().strip('"').lower() for cell in line.decode("ascii").split(",")]
    # pixels may be named by their numbers, as pandas has them
    named = any(cell in _LABEL_NAMES for cell in cells)
    header = named or (not cells[-1].isdigit() and not cells[0].isdigit())
    label = 0
    if header:
        label = next((i for i, cell in enumerate(cells) if cell in _LABEL_NAMES), -1)
        if label < 0:
            raise _NoLabelError(f"needs a label column: none of the {len(cells)} columns is named label")
    pixels = len(cells) - 1
    names = [cell for i, cell in enumerate(cells) if i != label]
    shape = _shape_named(names[-1]) if header and names else None
    if shape is not None and prod(shape) == pixels:
        return _Layout(len(cells), label, shape, header)
    side = isqrt(max(pixels, 0))
    if pixels < 1 or side * side != pixels:
        if not header and isqrt(len(cells)) ** 2 == len(cells) > 1:
            raise _NoLabelError(f"needs a label column: {len(cells)} columns are {by(_square(cells))} pixels")
        raise DataError(
            f"line 1: expected a label and a square number of pixels, or a header whose last column is"
            f" named like 28x28, found {len(cells)} columns"
        )
    return _Layout(len(cells), label, (1, side, side), header)


def _square(cells: list[str]) -> tuple[int, int]:
    return isqrt(len(cells)), isqrt(len(cells))


def _shape_named(name: str) -> tuple[int, int, int] | None:
    """(C, H, W) from the name of the last pixel, counted from 1: ``28x28`` or ``3x32x32``."""
    match = re.fullmatch(r"(?:(\d{1,3})x)?(\d{1,5})x(\d{1,5})", name)
    return (int(match[1] or 1), int(match[2]), int(match[3])) if match else None


def _parse(data: Bytes, columns: int) -> Bytes | None:
    """The numbers of whole lines as uint8 (lines, columns), or None where they are not as plain as that.

    Every byte becomes the number that ends there: its own digit, ten times the one before it, a hundred
    times the one before that. Those in front of a comma or a newline are the table.
    """
    digit = data - np.uint8(_ZERO)  # wraps around: what lies below "0" is large
    ends = digit > 9
    separators = data[ends]
    if separators.size % columns:
        return None
    separators = separators.reshape(-1, columns)
    if not ((separators[:, :-1] == _COMMA).all() and (separators[:, -1] == _NEWLINE).all()):
        return None
    if ends[0] or (ends[1:] & ends[:-1]).any():
        return None  # an empty field
    digit[ends] = 0
    value = digit.astype(np.uint16)
    value[1:] += digit[:-1] * np.uint16(10)
    value[2:] += digit[:-2] * (np.uint16(100) * ~ends[1:-1])
    numbers = value[:-1][ends[1:]]
    inside = ~(ends[:-1] | ends[1:])  # both this byte and the next are digits
    four_digits = (inside[:-2] & inside[1:-1] & inside[2:]).any()
    if four_digits or numbers.max(initial=0) > 255:
        return None
    return numbers.astype(np.uint8).reshape(-1, columns)


def _parse_slowly(piece: bytes, line: int, columns: int) -> Bytes:
    """The same for lines with blanks, quotes or mistakes; ``line`` is the number of the first."""
    rows = []
    for number, text in enumerate(piece.decode("utf-8", "replace").splitlines(), line):
        if not text.strip():
            continue
        cells = [cell.strip().strip('"') for cell in text.split(",")]
        if len(cells) != columns:
            raise DataError(f"line {number}: {len(cells)} of {columns} fields")
        for column, cell in enumerate(cells, 1):
            if not (cell.isascii() and cell.isdigit() and len(cell) <= 3 and int(cell) <= 255):
                shown = repr(cell[:20])
                raise DataError(
                    f"line {number}, column {column}: expected a whole number of 0 to 255, found {shown}"
                )
        rows.append([int(cell) for cell in cells])
    return np.array(rows, np.uint8).reshape(-1, columns)
