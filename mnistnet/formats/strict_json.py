"""JSON without its traps: what is not plain UTF-8 JSON, or reads differently elsewhere, is refused.

The standard library's parser takes NaN, keeps the last of two equal keys and raises five kinds of errors;
here each of these is one line that says what is wrong.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NoReturn, TypeAlias

from mnistnet.errors import CheckpointError

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""A plain JSON value."""

MOST_DIGITS = 300
"""Of a whole number; longer ones do not even fit into a float64."""
MOST_LEVELS = 64
_LONGEST_NAME = 40

_MAGIC = (
    (re.compile(rb"\x80[\x02-\x05]"), "a Python pickle"),
    (re.compile(rb"PK\x03\x04"), "a zip archive (.pt, .npz, .keras)"),
    (re.compile(rb"\x89HDF\r\n\x1a\n"), "an HDF5 file"),
    (re.compile(rb"\x93NUMPY"), "a NumPy array file"),
    (re.compile(rb"\x1f\x8b"), "a gzip file"),
    (re.compile(rb"\x89PNG|\xff\xd8\xff|GIF8"), "a picture"),
    (re.compile(rb"\x00\x00[\x08-\x0e][\x01-\x04]"), "an IDX dataset"),
    (re.compile(rb".{4}\x00{4}\{\"", re.DOTALL), "a safetensors file"),
    (re.compile(rb"\x08[\x01-\x20]\x12"), "an ONNX model"),
)
_UTF16 = re.compile(rb"\xff\xfe|\xfe\xff|\x00.|.\x00", re.DOTALL)


class NonFinite:
    """What NaN and Infinity become, so that whoever knows the place in the document can name it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def parse_json(data: bytes) -> Any:
    """The value of a JSON document; NaN and Infinity inside it are `NonFinite` objects.

    Raises:
        CheckpointError: empty, another format, not UTF-8, not JSON, nested too deeply, equal keys in one
            object, or a whole number that is too long.
    """
    if not data:
        raise CheckpointError("empty file: expected JSON")
    for magic, name in _MAGIC:
        if magic.match(data):
            raise CheckpointError(
                f"foreign format: expected JSON, found {name} (never unpickled or unpacked)"
            )
    if data.startswith(b"\xef\xbb\xbf"):
        raise CheckpointError(
            "not plain UTF-8 JSON: begins with a byte-order mark; save it as UTF-8 without BOM"
        )
    if _UTF16.match(data):
        raise CheckpointError("not UTF-8 JSON: looks like UTF-16 or binary data; save it as UTF-8")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise CheckpointError(f"not UTF-8 JSON: found {found}; is it a binary file?") from error
    try:
        return json.loads(
            text, object_pairs_hook=_unique_keys, parse_int=_short_number, parse_constant=NonFinite
        )
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise CheckpointError(f"{where}: not complete, correct JSON ({error.msg})") from error
    except RecursionError as error:
        raise CheckpointError(f"nested too deeply: expected at most {MOST_LEVELS} levels") from error


def check_plain(value: object, where: str, level: int = 0) -> None:
    """Let through only plain JSON values: finite numbers, text that UTF-8 can hold, lists and objects.

    Args:
        value: any Python object.
        where: its path for messages, such as ``training``.
        level: how deep it already is.

    Raises:
        CheckpointError: ``where: ...`` names the first value that is not.
    """
    if level > MOST_LEVELS:
        raise CheckpointError(f"{where[:80]}: nested too deeply: expected at most {MOST_LEVELS} levels")
    match value:
        case None | bool():
            return
        case int():
            if abs(value) >= 10**MOST_DIGITS:
                raise CheckpointError(f"{where}: number too long: expected at most {MOST_DIGITS} digits")
        case float():
            if not isfinite(value):
                raise CheckpointError(f"{where}: non-finite ({value})")
        case NonFinite():
            raise CheckpointError(f"{where}: non-finite ({value})")
        case str():
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise CheckpointError(f"{where}: not Unicode text: found a lone surrogate") from error
        case list():
            for index, item in enumerate(value):
                check_plain(item, f"{where}[{index}]", level + 1)
        case dict():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise CheckpointError(f"{where}: keys must be text, found {show(key)}")
                check_plain(key, f"{where}: key {show(key)}", level)
                check_plain(item, member(where, key), level + 1)
        case _:
            raise CheckpointError(f"{where}: expected a plain JSON value, found {type(value).__name__}")


def member(where: str, key: str) -> str:
    """The path of an object's member, ``layers[0].weight``; odd keys are quoted."""
    name = key if key.isascii() and key.isidentifier() and len(key) <= _LONGEST_NAME else show(key)
    return f"{where}.{name}" if where else name


def show(value: object) -> str:
    """A value in a message: short, on one line, as JSON has it."""
    match value:
        case list() | tuple():
            return f"a list of {len(value)}"
        case dict():
            return "an object"
        case str():
            text = json.dumps(value)
        case None | bool():
            text = json.dumps(value)
        case _:
            text = repr(value)
    return text if len(text) <= 40 else f"{text[:36]}..."


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise CheckpointError(f"duplicate key {show(twice)}: expected every key once in an object")
    return found


def _short_number(digits: str) -> int | float:
    length = len(digits.removeprefix("-"))
    if length > MOST_DIGITS:
        _too_long(length)
    # as a whole number, minus zero would lose its sign
    return -0.0 if digits == "-0" else int(digits)


def _too_long(length: int) -> NoReturn:
    raise CheckpointError(f"number too long: {length} digits, expected at most {MOST_DIGITS}")
