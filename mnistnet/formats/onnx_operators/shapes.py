"""Operators that move elements or speak of shapes and types, and change no value."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import numpy.typing as npt
from onnx import TensorProto

from mnistnet.engine.arrays import AnyArray
from mnistnet.errors import CheckpointError
from mnistnet.formats.onnx_operators.limits import bounded
from mnistnet.formats.onnx_operators.registry import operator

DTYPES: dict[int, npt.DTypeLike] = {
    TensorProto.FLOAT: np.float32,
    TensorProto.DOUBLE: np.float64,
    TensorProto.FLOAT16: np.float16,
    TensorProto.INT8: np.int8,
    TensorProto.INT16: np.int16,
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.UINT8: np.uint8,
    TensorProto.UINT16: np.uint16,
    TensorProto.UINT32: np.uint32,
    TensorProto.UINT64: np.uint64,
    TensorProto.BOOL: np.bool_,
}
"""ONNX's element types that are NumPy's own."""


@operator("Identity")
def _identity(x: AnyArray) -> AnyArray:
    return x


@operator("Constant")
def _constant(
    *,
    value: AnyArray | None = None,
    value_float: float | None = None,
    value_floats: Sequence[float] | None = None,
    value_int: int | None = None,
    value_ints: Sequence[int] | None = None,
) -> AnyArray:
    if value is not None:
        return value
    if value_int is not None or value_ints is not None:
        return np.array(value_ints if value_int is None else value_int, np.int64)
    if value_float is None and value_floats is None:
        raise CheckpointError("a Constant without a value")
    return np.array(value_floats if value_float is None else value_float, np.float32)


@operator("ConstantOfShape", since=9)
def _constant_of_shape(shape: AnyArray, *, value: AnyArray | None = None) -> AnyArray:
    fill = np.zeros(1, np.float32) if value is None else value
    return np.full(bounded(shape.tolist()), fill.reshape(-1)[0], fill.dtype)


@operator("Shape")
def _shape(x: AnyArray, *, start: int = 0, end: int | None = None) -> AnyArray:
    return np.array(x.shape[start:end], np.int64)


@operator("Size")
def _size(x: AnyArray) -> AnyArray:
    return np.array(x.size, np.int64)


@operator("Reshape", since=5)
def _reshape(x: AnyArray, shape: AnyArray, *, allowzero: int = 0) -> AnyArray:
    """To a shape in which one -1 is worked out, and 0 keeps the input's size unless ``allowzero``."""
    sizes = [x.shape[i] if s == 0 and not allowzero else s for i, s in enumerate(shape.tolist())]
    return x.reshape(sizes)


@operator("Flatten")
def _flatten(x: AnyArray, *, axis: int = 1) -> AnyArray:
    rows = prod(x.shape[: axis if axis >= 0 else x.ndim + axis])
    return x.reshape(rows, x.size // rows if rows else -1)


@operator("Transpose")
def _transpose(x: AnyArray, *, perm: Sequence[int] | None = None) -> AnyArray:
    return x.transpose(perm)


@operator("Squeeze")
def _squeeze_by_attribute(x: AnyArray, *, axes: Sequence[int] | None = None) -> AnyArray:
    return np.squeeze(x, None if axes is None else tuple(axes))


@operator("Squeeze", since=13)
def _squeeze(x: AnyArray, axes: AnyArray | None = None) -> AnyArray:
    return np.squeeze(x, None if axes is None else tuple(axes.tolist()))


@operator("Unsqueeze")
def _unsqueeze_by_attribute(x: AnyArray, *, axes: Sequence[int]) -> AnyArray:
    return np.expand_dims(x, tuple(axes))


@operator("Unsqueeze", since=13)
def _unsqueeze(x: AnyArray, axes: AnyArray) -> AnyArray:
    return np.expand_dims(x, tuple(axes.reshape(-1).tolist()))


@operator("Concat", since=4)
def _concat(*parts: AnyArray, axis: int) -> AnyArray:
    bounded((sum(part.size for part in parts),), "a result")
    return np.concatenate(parts, axis=axis)


@operator("Split")
def _split_by_attribute(
    x: AnyArray, *, axis: int = 0, split: Sequence[int] | None = None
) -> tuple[AnyArray, ...]:
    if split is None:
        raise CheckpointError("a Split without sizes is not supported")
    return tuple(np.split(x, np.cumsum(split)[:-1], axis=axis))


@operator("Split", since=13)
def _split(
    x: AnyArray, split: AnyArray | None = None, *, axis: int = 0, num_outputs: int | None = None
) -> tuple[AnyArray, ...]:
    if split is None:
        if num_outputs is None:
            raise CheckpointError("a Split without sizes is not supported")
        # the last part takes what is left, even if it is less
        part = -(-x.shape[axis] // num_outputs)
        return tuple(np.split(x, range(part, x.shape[axis], part), axis=axis))
    return tuple(np.split(x, np.cumsum(split)[:-1], axis=axis))


@operator("Gather")
def _gather(x: AnyArray, indices: AnyArray, *, axis: int = 0) -> AnyArray:
    bounded((x.size // max(x.shape[axis], 1), indices.size), "a result")
    return np.take(x, indices, axis=axis)


@operator("Slice")
def _slice_by_attributes(
    x: AnyArray, *, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int] | None = None
) -> AnyArray:
    return _sliced(x, starts, ends, axes or range(len(starts)), [1] * len(starts))


@operator("Slice", since=10)
def _slice(
    x: AnyArray,
    starts: AnyArray,
    ends: AnyArray,
    axes: AnyArray | None = None,
    steps: AnyArray | None = None,
) -> AnyArray:
    count = len(starts)
    return _sliced(
        x,
        starts.tolist(),
        ends.tolist(),
        range(count) if axes is None else axes.tolist(),
        [1] * count if steps is None else steps.tolist(),
    )


def _sliced(
    x: AnyArray, starts: Sequence[int], ends: Sequence[int], axes: Sequence[int], steps: Sequence[int]
) -> AnyArray:
    index = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # going backwards, an end before the beginning means to go all the way; to Python -1 is the last
        to_the_start = step < 0 and end < -x.shape[axis]
        index[axis] = slice(start, None if to_the_start else end, step)
    return x[tuple(index)]


@operator("Expand", since=8)
def _expand(x: AnyArray, shape: AnyArray) -> AnyArray:
    sizes = bounded(np.broadcast_shapes(x.shape, tuple(shape.tolist())))
    return np.broadcast_to(x, sizes).copy()


@operator("Pad", since=2)
def _pad_by_attributes(
    x: AnyArray, *, pads: Sequence[int], mode: str = "constant", value: float = 0.0
) -> AnyArray:
    return _padded(x, pads, np.asarray(value, x.dtype), range(x.ndim), mode)


@operator("Pad", since=11)
def _pad(
    x: AnyArray,
    pads: AnyArray,
    value: AnyArray | None = None,
    axes: AnyArray | None = None,
    *,
    mode: str = "constant",
) -> AnyArray:
    which = range(x.ndim) if axes is None else axes.tolist()
    return _padded(x, pads.tolist(), np.zeros((), x.dtype) if value is None else value, which, mode)


def _padded(x: AnyArray, pads: Sequence[int], value: AnyArray, axes: Sequence[int], mode: str) -> AnyArray:
    """``pads`` has what comes before for every axis, then what comes behind; less than 0 cuts away."""
    widths = [(0, 0)] * x.ndim
    for i, axis in enumerate(axes):
        widths[axis] = (pads[i], pads[len(axes) + i])
    cut = tuple(slice(max(0, -a), n - max(0, -b)) for (a, b), n in zip(widths, x.shape, strict=True))
    grown = [(max(0, a), max(0, b)) for a, b in widths]
    bounded([n + a + b for n, (a, b) in zip(x.shape, grown, strict=True)])
    match mode:
        case "constant":
            return np.pad(x[cut], grown, constant_values=value.reshape(-1)[0])
        case "reflect" | "edge" | "wrap":
            return np.pad(x[cut], grown, mode=mode)
        case _:
            raise CheckpointError(f"Pad's mode {mode!r:.80} is not one of ONNX's")


@operator("Cast", since=6)
def _cast(x: AnyArray, *, to: int, saturate: int = 1, round_mode: str = "up") -> AnyArray:  # noqa: ARG001
    """Between NumPy's own types; ``saturate`` and ``round_mode`` are about those that it does not have."""
    if to not in DTYPES or x.dtype.kind not in "biuf":
        raise CheckpointError(f"a Cast from {x.dtype} to ONNX's type {to} is not supported")
    return x.astype(DTYPES[to])
