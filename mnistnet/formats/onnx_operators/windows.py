"""Convolution and pooling on (N, C, ...) with any number of spatial axes, and their common geometry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mnistnet.engine.arrays import AnyArray
from mnistnet.errors import CheckpointError
from mnistnet.formats.onnx_operators.limits import bounded, check_products
from mnistnet.formats.onnx_operators.registry import operator


@dataclass(frozen=True)
class Sliding:
    """How a window slides over the spatial axes; one number an axis."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    """Before and behind, as the model has them."""
    overhang: tuple[int, ...]
    """How far beyond the padding behind the last window reaches: ``ceil_mode``."""

    @property
    def pads_and_overhang(self) -> tuple[tuple[int, int], ...]:
        """What an array needs around it so that every window lies in it."""
        return tuple((a, b + more) for (a, b), more in zip(self.pads, self.overhang, strict=True))

    def pad(self, x: AnyArray, value: Any, *, overhang: bool = True) -> AnyArray:
        """``x`` (N, C, ...) inside ``value``."""
        pads = self.pads_and_overhang if overhang else self.pads
        bounded([*x.shape[:2], *(n + a + b for n, (a, b) in zip(x.shape[2:], pads, strict=True))], "padding")
        return np.pad(x, ((0, 0), (0, 0), *pads), constant_values=value) if np.any(pads) else x

    def windows(self, padded: AnyArray) -> AnyArray:
        """A view (N, C, *outputs, *kernel) of a padded array."""
        spans = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        view = sliding_window_view(padded, spans, axis=tuple(range(2, padded.ndim)))
        steps = (slice(None, None, step) for step in (1, 1, *self.strides, *self.dilations))
        view = view[tuple(steps)]
        bounded(view.shape, "windows")  # whoever computes with them copies them
        return view

    @property
    def kernel_axes(self) -> tuple[int, ...]:
        """The last axes of `windows`, counted from the end."""
        return tuple(range(-len(self.kernel), 0))


def sliding(
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int] | None = None,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
) -> Sliding:
    """The geometry that the attributes of a convolution or a pool mean on spatial ``sizes``.

    Raises:
        CheckpointError: the attributes do not fit each other or the sizes.
    """
    axes = len(sizes)
    strides = strides or [1] * axes
    dilations = dilations or [1] * axes
    pads = pads or [0] * 2 * axes
    if not len(kernel) == len(strides) == len(dilations) == axes == len(pads) / 2:
        raise CheckpointError(f"kernel, strides, dilations or pads do not have {axes} axes")
    if min(*kernel, *strides, *dilations) < 1 or min(pads) < 0:
        raise CheckpointError("kernel, strides and dilations must be >= 1 and pads >= 0")
    both = []
    overhang = []
    for i, size in enumerate(sizes):
        span = (kernel[i] - 1) * dilations[i] + 1
        pair = _pair(size, span, strides[i], (pads[i], pads[axes + i]), auto_pad)
        total = size + sum(pair)
        steps, rest = divmod(total - span, strides[i])
        # one more window if it begins no later than on the padding in front of the last pixel
        more = ceil_mode and rest and (steps + 1) * strides[i] < size + pair[0]
        if total < span and not more:
            raise CheckpointError(f"a kernel of {span} does not fit into {total} pixels, padding included")
        both.append(pair)
        overhang.append(strides[i] - rest if more else 0)
    return Sliding(tuple(kernel), tuple(strides), tuple(dilations), tuple(both), tuple(overhang))


def _pair(size: int, span: int, stride: int, pads: tuple[int, int], auto_pad: str) -> tuple[int, int]:
    """The padding before and behind along one axis."""
    match auto_pad:
        case "NOTSET":
            return pads
        case "VALID":
            return 0, 0
        case "SAME_UPPER" | "SAME_LOWER":
            total = max((-(-size // stride) - 1) * stride + span - size, 0)
            half = total // 2
            return (half, total - half) if auto_pad == "SAME_UPPER" else (total - half, half)
        case _:
            raise CheckpointError(f"auto_pad {auto_pad!r:.80} is not one of ONNX's")


@operator("Conv")
def _conv(
    x: AnyArray,
    weight: AnyArray,
    bias: AnyArray | None = None,
    *,
    auto_pad: str = "NOTSET",
    dilations: Sequence[int] | None = None,
    group: int = 1,
    kernel_shape: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> AnyArray:
    """Correlation: x (N, C, ...), weight (K, C / group, ...), bias (K,)."""
    s = sliding(x.shape[2:], kernel_shape or weight.shape[2:], strides, dilations, pads, auto_pad)
    windows = s.windows(s.pad(x, 0))
    check_products(windows.size * len(weight) // max(group, 1))
    parts = [
        np.moveaxis(
            np.tensordot(channels, kernels, axes=((1, *s.kernel_axes), tuple(range(1, weight.ndim)))), -1, 1
        )
        for channels, kernels in zip(np.split(windows, group, axis=1), np.split(weight, group), strict=True)
    ]
    y = np.concatenate(parts, axis=1)
    return y if bias is None else y + bias.reshape(-1, *[1] * (x.ndim - 2))


@operator("MaxPool")
def max_pool(
    x: AnyArray,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    storage_order: int = 0,
    strides: Sequence[int] | None = None,
) -> tuple[AnyArray, AnyArray]:
    """The largest value of each window, and where in the flat tensor the first of them is."""
    s = sliding(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    values = s.windows(s.pad(x, lowest))
    values = values.reshape(*values.shape[: x.ndim], -1)
    best = values.argmax(axis=-1)[..., None]

    images, channels, *sizes = x.shape
    pixels = np.arange(int(np.prod(sizes))).reshape(sizes, order="F" if storage_order else "C")
    planes = np.arange(images * channels).reshape(images, channels, *[1] * len(sizes)) * pixels.size
    seen = s.windows(s.pad(pixels[None, None], -1))
    seen = np.broadcast_to(seen.reshape(1, 1, *seen.shape[2 : x.ndim], -1), values.shape)
    index = np.take_along_axis(seen, best, axis=-1)[..., 0] + planes
    return np.take_along_axis(values, best, axis=-1)[..., 0], index.astype(np.int64)


@operator("AveragePool")
def _average_pool(
    x: AnyArray,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    count_include_pad: int = 0,
    dilations: Sequence[int] | None = None,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> AnyArray:
    """The mean of each window; padding counts if asked for, what lies beyond it never does."""
    s = sliding(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    total = s.windows(s.pad(x, 0)).sum(axis=s.kernel_axes)
    counted = s.pad(np.ones((1, 1, *x.shape[2:]), x.dtype), int(bool(count_include_pad)), overhang=False)
    behind = [(0, more) for more in s.overhang]
    count = s.windows(np.pad(counted, ((0, 0), (0, 0), *behind))).sum(axis=s.kernel_axes)
    return total / count


@operator("LpPool", since=2)
def _lp_pool(
    x: AnyArray,
    *,
    kernel_shape: Sequence[int],
    auto_pad: str = "NOTSET",
    ceil_mode: int = 0,
    dilations: Sequence[int] | None = None,
    p: int = 2,
    pads: Sequence[int] | None = None,
    strides: Sequence[int] | None = None,
) -> AnyArray:
    """``(sum |x|^p)^(1/p)`` of each window."""
    s = sliding(x.shape[2:], kernel_shape, strides, dilations, pads, auto_pad, ceil_mode)
    powers = np.abs(s.pad(x, 0)) ** p
    return (s.windows(powers).sum(axis=s.kernel_axes) ** (1 / p)).astype(x.dtype)


@operator("GlobalAveragePool")
def _global_average_pool(x: AnyArray) -> AnyArray:
    return x.mean(axis=tuple(range(2, x.ndim)), keepdims=True)


@operator("GlobalMaxPool")
def _global_max_pool(x: AnyArray) -> AnyArray:
    return x.max(axis=tuple(range(2, x.ndim)), keepdims=True)
