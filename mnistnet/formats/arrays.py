"""Arrays in JSON: ``{"v": 1, "dim": [...], "data": [...]}``, flat in C order, exact to the last bit.

This is the form in which the Rust crate ndarray serializes itself. Numbers are float32 in their shortest
decimals, which most readers take as float64 and then round to float32. Two roundings are not always one: a
trial of every finite float32 found a single magnitude that comes back as its neighbour, and it is written
with one digit more.
"""

from __future__ import annotations

from math import prod

import numpy as np
import orjson

from mnistnet.engine.arrays import AnyArray, FloatArray
from mnistnet.errors import CheckpointError
from mnistnet.formats.strict_json import NonFinite, show

MOST_DIMENSIONS = 8
_SHORTEST, _SAFE = "7.038531e-26", "7.0385307e-26"
"""The one magnitude, 0x15ae43fd: as float64 its shortest decimals lie midway between two float32."""
_LARGEST = float(np.finfo(np.float32).max)


def array_to_json(values: AnyArray, where: str) -> str:
    """A float32 array of any shape as JSON on one line.

    Raises:
        CheckpointError: ``where: ...`` a value is not finite, or the dtype is not float32.
    """
    if values.dtype != np.float32:
        raise CheckpointError(f"{where}: expected float32, found {values.dtype}")
    flat = np.ascontiguousarray(values).reshape(-1)
    # orjson would write NaN as null and say nothing
    if not np.isfinite(flat).all():
        index = int(np.flatnonzero(~np.isfinite(flat))[0])
        raise CheckpointError(f"{where}: non-finite at number {index}: found {flat[index]}")
    data = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY).decode("ascii").replace(_SHORTEST, _SAFE)
    return f'{{"v": 1, "dim": {list(values.shape)}, "data": {data}}}'


def array_from_json(value: object, where: str) -> FloatArray:
    """The float32 array of a parsed JSON object. Nothing is allocated that ``dim`` merely claims.

    Raises:
        CheckpointError: ``where: ...`` not this form, a bad dimension, a count that differs, or an element
            that is no finite float32.
    """
    if not isinstance(value, dict):
        raise CheckpointError(f'{where}: expected an array {{"v", "dim", "data"}}, found {show(value)}')
    for key in value:
        if key not in ("v", "dim", "data"):
            raise CheckpointError(f"{where}: unknown member {show(key)} in an array: expected v, dim, data")
    for key in ("v", "dim", "data"):
        if key not in value:
            raise CheckpointError(f"{where}.{key}: missing")
    if type(value["v"]) is not int or value["v"] != 1:
        raise CheckpointError(f"{where}.v: expected 1, found {show(value['v'])}")
    shape = _dimensions(value["dim"], f"{where}.dim")
    data = value["data"]
    if not isinstance(data, list):
        raise CheckpointError(f"{where}.data: expected a list of numbers, found {show(data)}")
    # Python's integers: NumPy's would wrap around for a huge claim
    if prod(shape) != len(data):
        raise CheckpointError(
            f"{where}: dim {list(shape)} and data disagree: {prod(shape)} against {len(data)} numbers"
        )
    return _numbers(data, f"{where}.data").reshape(shape)


def _dimensions(value: object, where: str) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise CheckpointError(f"{where}: expected a list of dimensions, found {show(value)}")
    if len(value) > MOST_DIMENSIONS:
        raise CheckpointError(f"{where}: expected at most {MOST_DIMENSIONS} dimensions, found {len(value)}")
    for index, size in enumerate(value):
        if type(size) is not int or not 0 <= size < 2**31:
            expected = "expected a whole number from 0 to 2147483647"
            raise CheckpointError(f"{where}[{index}]: bad dimension {show(size)}: {expected}")
    return tuple(value)


def _numbers(data: list[object], where: str) -> FloatArray:
    """(len(data),) float32. Every element is checked; the common case makes no loop of Python's."""
    if not set(map(type, data)) <= {float, int}:
        index = next(i for i, number in enumerate(data) if type(number) not in (float, int))
        found = data[index]
        if found is None or isinstance(found, NonFinite):
            raise CheckpointError(f"{where}[{index}]: non-finite: expected a number, found {show(found)}")
        raise CheckpointError(f"{where}[{index}]: not a number: found {show(found)}")
    exact = np.array(data, np.float64)
    with np.errstate(over="ignore"):
        values = exact.astype(np.float32)
    finite = np.isfinite(values)
    if not finite.all():
        index = int(np.flatnonzero(~finite)[0])
        raise CheckpointError(
            f"{where}[{index}]: exceeds float32 (at most {_LARGEST:.7e}): found {data[index]}"
        )
    return values
