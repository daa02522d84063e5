"""Array types, shapes, and the only conversions between the world's layout and the engine's.

The world's layout is NCHW: ``(N, C, H, W)`` images and ``(N, F)`` features. The engine keeps the
batch innermost: ``[H, C, W, n]`` and ``[F, n]``. Every elementwise operation and every copy then runs
over long contiguous rows, which is what NumPy is fast at. Axis letters are the same everywhere:
N (n in one shard) batch, C channels in, K channels out, H W input, R S kernel, P Q output, F features.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]
IntArray = npt.NDArray[np.integer[Any]]
AnyArray = npt.NDArray[Any]
Shape = tuple[int, ...]
"""The shape of one sample: ``(C, H, W)`` for images, ``(F,)`` for features."""

ALIGNMENT = 64  # bytes: a cache line, and an AVX-512 register


def aligned(shape: Shape, dtype: npt.DTypeLike) -> AnyArray:
    """Zeros that begin where a cache line does.

    NumPy's own begin at any 16 bytes, where the wide loads of a matrix product touch two cache lines each:
    mlp's first product takes 50 instead of 34 microseconds then.
    """
    dtype = np.dtype(dtype)
    nbytes = prod(shape) * dtype.itemsize
    raw = np.zeros(nbytes + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start : start + nbytes].view(dtype).reshape(shape)


def aligned_copy(values: AnyArray) -> AnyArray:
    """The same numbers where a cache line begins."""
    copy = aligned(values.shape, values.dtype)
    copy[...] = values
    return copy


@dataclass(frozen=True)
class PixelScale:
    """How bytes become numbers: ``x = byte * scale + shift``. Float images are taken as they are."""

    scale: float = 1.0 / 255.0
    shift: float = 0.0

    def apply(self, images: AnyArray, dtype: npt.DTypeLike = np.float32) -> FloatArray:
        """uint8 images of any shape as floats of ``dtype``; float images unchanged but for their dtype."""
        values = images.astype(dtype)
        if images.dtype == np.uint8:
            # exactly the two roundings that the engine makes when it loads a shard; where the first layer's
            # outputs are dealt out, a training step scales those
            values *= np.asarray(self.scale, dtype)
            if self.shift:
                values += np.asarray(self.shift, dtype)
        return values


UNIT_SCALE = PixelScale()
"""Bytes 0 .. 255 as 0 .. 1."""


def engine_shape(shape: Shape, n: int) -> Shape:
    """The engine's shape of ``n`` samples of ``shape``: ``[H, C, W, n]`` or ``[F, n]``."""
    if len(shape) == 3:
        c, h, w = shape
        return (h, c, w, n)
    return (prod(shape), n)


def rows_as_engine(rows: AnyArray, shape: Shape) -> AnyArray:
    """A view of ``[n, F]`` rows (features in C, H, W order) with the engine's axes: strides, no copy."""
    if len(shape) == 3:
        return rows.reshape(-1, *shape).transpose(2, 1, 3, 0)
    return rows.T


def split_batch(values: AnyArray, parts: int) -> AnyArray:
    """A view of ``[..., n]`` as ``[parts, ..., n / parts]``, the same images in the same order."""
    *axes, n = values.shape
    return np.moveaxis(values.reshape(*axes, parts, n // parts), -2, 0)


def from_engine(values: AnyArray) -> AnyArray:
    """A view of ``[H, C, W, n]`` or ``[F, n]`` as ``(n, C, H, W)`` or ``(n, F)``: strides, no copy."""
    if values.ndim == 4:
        return values.transpose(3, 1, 0, 2)
    return values.T


def chw_order(values: AnyArray) -> AnyArray:
    """A view of ``[H, C, W, n]`` as ``[C, H, W, n]``, the order in which ONNX flattens."""
    return values.transpose(1, 0, 2, 3)
