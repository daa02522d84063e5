"""Pooling: the largest value of each window, the mean of each window, the mean of each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from mnistnet.engine.arrays import FloatArray, IntArray, Shape
from mnistnet.engine.layers.base import (
    Bound,
    Buffer,
    Call,
    Moment,
    SimpleLayer,
    Site,
    call,
    check_pair,
    image_shape,
    windows,
)
from mnistnet.errors import ShapeError


@dataclass
class _Pool2d(SimpleLayer):
    """The windows of a pool; the stride is the kernel's size unless given."""

    kernel_size: tuple[int, int]
    stride: tuple[int, int] | None = None
    padding: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self.kernel_size = check_pair("kernel_size", self.kernel_size)
        self.stride = check_pair("stride", self.kernel_size if self.stride is None else self.stride)
        self.padding = check_pair("padding", self.padding, minimum=0)
        for size, padding in zip(self.kernel_size, self.padding, strict=True):
            if 2 * padding > size:
                raise ShapeError(f"padding must be at most half the kernel of {size}, found {padding}")

    @property
    def strides(self) -> tuple[int, int]:
        """The stride as it applies."""
        return self.stride or self.kernel_size

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, P, Q) with P = (H + 2 padding - kernel) // stride + 1, Q likewise."""
        c, h, w = image_shape(input_shape)
        p, q = (
            windows(size, *geometry)
            for size, *geometry in zip((h, w), self.kernel_size, self.strides, self.padding, strict=True)
        )
        return (c, p, q)


@dataclass
class MaxPool2d(_Pool2d, kind="max_pool2d"):
    """``y[c, p, q] = max over r, s of x[c, stride p + r - padding, stride q + s - padding]``.

    x (N, C, H, W), y (N, C, P, Q); the stride is the kernel's size unless given; padding counts as minus
    infinity. Backward, each window's gradient goes to exactly one maximum; where several tie (any choice is
    a subgradient) to the leftmost column's, and in it to the first row's.
    """

    takes_max = True

    @property
    def gradient_over_input(self) -> bool:
        """Every input belongs to at most one window, so its gradient may replace it."""
        return not any(self.padding) and all(
            s >= k for s, k in zip(self.strides, self.kernel_size, strict=True)
        )

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind the rows' maximum, then the columns': k + k taps instead of k x k.

        Rows first: at full size a row is W n contiguous numbers, while a column is n.
        """
        h, c, w, n = x.value.shape
        _, p, q = self.output_shape((c, h, w))
        (kr, kc), (sr, sc), (pr, pc) = self.kernel_size, self.strides, self.padding
        prologue: list[Call] = []
        epilogue: list[Call] = []
        source = x
        if pr or pc:
            padded = site.zeros((h + 2 * pr, c, w + 2 * pc, n))
            padded.fill(-np.inf)
            inside = (slice(pr, pr + h), slice(None), slice(pc, pc + w))
            prologue.append(call(np.copyto, padded[inside], x.value))
            source = Buffer(padded)
            if site.training and x.grad is not None:
                source.grad = site.take(padded.shape, Moment.INPUT)
                epilogue.append(call(np.copyto, x.grad, source.grad[inside]))

        middle = Buffer(site.take((p, c, source.value.shape[2], n), Moment.FORWARD, Moment.INPUT))
        y = Buffer(site.take((p, c, q, n), Moment.FORWARD, Moment.INPUT))
        down = _taps(source.value, 0, kr, sr, p)
        across = _taps(middle.value, 2, kc, sc, q)
        forward = [*prologue, *_maximum(down, middle.value), *_maximum(across, y.value)]
        if not site.training:
            return Bound(y, forward)
        y.grad = site.take(y.value.shape, Moment.WEIGHTS, Moment.INPUT)
        if source.grad is None:
            return Bound(y, forward)

        middle.grad = site.take(middle.value.shape, Moment.INPUT)
        backward = [
            *_spread(across, y.value, y.grad, middle.grad, 2, (kc, sc, q), site),
            *_spread(down, middle.value, middle.grad, source.grad, 0, (kr, sr, p), site),
            *epilogue,
        ]
        return Bound(y, forward, backward)


def _maximum(taps: list[FloatArray], out: FloatArray) -> list[Call]:
    """``out = max(taps)``."""
    if len(taps) == 1:
        return [call(np.copyto, out, taps[0])]
    first, second, *others = taps
    return [
        call(np.maximum, first, second, out=out),
        *(call(np.maximum, out, tap, out=out) for tap in others),
    ]


def _taps(x: FloatArray, axis: int, kernel: int, stride: int, count: int) -> list[FloatArray]:
    """For each kernel position the elements of ``x`` that the ``count`` windows along ``axis`` see there."""
    index: list[slice] = [slice(None)] * x.ndim
    taps = []
    for j in range(kernel):
        index[axis] = slice(j, j + stride * (count - 1) + 1, stride)
        taps.append(x[tuple(index)])
    return taps


def _spread(
    taps: list[FloatArray],
    peak: FloatArray,
    gradient: FloatArray,
    dx: FloatArray,
    axis: int,
    geometry: tuple[int, int, int],
    site: Site,
) -> list[Call]:
    """Calls that fill all of ``dx``, the gradient of what ``taps`` are taken from."""
    kernel, stride, count = geometry
    d_taps = _taps(dx, axis, kernel, stride, count)
    if stride < kernel:
        return [call(dx.fill, 0), *_claim_shared(taps, peak, gradient, d_taps, site)]
    uncovered = _taps(dx, axis, stride, stride, count - 1)[kernel:] if count > 1 else []
    uncovered.append(dx[(slice(None),) * axis + (slice(stride * (count - 1) + kernel, None),)])
    return [
        *_claim(taps, peak, gradient, d_taps, site),
        *(call(part.fill, 0) for part in uncovered if part.size),
    ]


def _claim(
    taps: list[FloatArray], peak: FloatArray, gradient: FloatArray, d_taps: list[FloatArray], site: Site
) -> list[Call]:
    """Hand each window's gradient to its first maximum: taps claim in turn, what is claimed is gone.

    The popular ``gradient * (tap == peak)`` alone pays twice on ties, and MNIST is full of ties. A tap that
    is not the maximum claims nothing, so the last one takes what is left without being compared. A claim may
    be written over its tap; ``gradient`` is used up.
    """
    claims = site.take(peak.shape, Moment.INPUT, dtype=np.bool_)
    *firsts, d_last = d_taps
    calls: list[Call] = []
    for tap, d_tap in zip(taps, firsts, strict=False):
        left = d_last if d_tap is firsts[-1] else gradient
        calls += [
            call(np.equal, tap, peak, out=claims),
            call(np.multiply, gradient, claims, out=d_tap),
            call(np.subtract, gradient, d_tap, out=left),
        ]
    return calls or [call(np.copyto, d_last, gradient)]


def _claim_shared(
    taps: list[FloatArray], peak: FloatArray, gradient: FloatArray, d_taps: list[FloatArray], site: Site
) -> list[Call]:
    """The same where windows overlap, so that claims add up; ``d_taps`` start as zeros."""
    shares: list[FloatArray] = [site.take(peak.shape, Moment.INPUT) for _ in taps]
    calls = _claim(taps, peak, gradient, shares, site)
    return calls + [call(np.add, d, share, out=d) for d, share in zip(d_taps, shares, strict=True)]


@dataclass
class AvgPool2d(_Pool2d, kind="avg_pool2d"):
    """``y[c, p, q] = mean over r, s of x[c, stride p + r - padding, stride q + s - padding]``.

    x (N, C, H, W), y (N, C, P, Q); the stride is the kernel's size unless given; the mean is that of the
    pixels which are there, padding does not count. Backward, each of them gets its share of the gradient.
    """

    backward_reads_input = False
    backward_reads_output = False

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind the sum of the rows, then of the columns (see `MaxPool2d.bind`), then the division."""
        h, c, w, n = x.value.shape
        _, p, q = self.output_shape((c, h, w))
        (kr, kc), (sr, sc), (pr, pc) = self.kernel_size, self.strides, self.padding
        rows = _clipped_taps(h, kr, sr, pr, p)
        columns = _clipped_taps(w, kc, sc, pc, q)
        share = 1 / np.multiply.outer(_pixels_seen(rows, p), _pixels_seen(columns, q))
        share = share.astype(x.value.dtype)
        share = share[:, None, :, None] if any(self.padding) else share[0, 0]
        middle = Buffer(site.take((p, c, w, n), Moment.FORWARD))
        y = Buffer(site.take((p, c, q, n), Moment.FORWARD))
        forward: list[Call] = [
            *_add_up(rows, x.value, middle.value, 0),
            *_add_up(columns, middle.value, y.value, 2),
            call(np.multiply, y.value, share, out=y.value),
        ]
        if not site.training:
            return Bound(y, forward)
        y.grad = site.take(y.value.shape, Moment.WEIGHTS, Moment.INPUT)
        if x.grad is None:
            return Bound(y, forward)
        middle.grad = site.take(middle.value.shape, Moment.INPUT)
        backward: list[Call] = [
            call(np.multiply, y.grad, share, out=y.grad),
            *_hand_back(columns, y.grad, middle.grad, 2),
            *_hand_back(rows, middle.grad, x.grad, 0),
        ]
        return Bound(y, forward, backward)


class _Tap(NamedTuple):
    """One position of a kernel along an axis: the windows that see a pixel there, and these pixels."""

    windows: slice
    pixels: slice


def _clipped_taps(size: int, kernel: int, stride: int, padding: int, count: int) -> list[_Tap]:
    """The positions of a kernel where any of ``count`` windows sees one of ``size`` pixels."""
    taps = []
    for offset in range(-padding, kernel - padding):
        first, last = max(0, -(offset // stride)), min(count - 1, (size - 1 - offset) // stride)
        if first <= last:
            pixels = slice(first * stride + offset, last * stride + offset + 1, stride)
            taps.append(_Tap(slice(first, last + 1), pixels))
    return taps


def _pixels_seen(taps: list[_Tap], count: int) -> IntArray:
    """(count,): how many pixels each window sees along the axis."""
    seen = np.zeros(count, np.intp)
    for tap in taps:
        seen[tap.windows] += 1
    return seen


def _along(x: FloatArray, axis: int, where: slice) -> FloatArray:
    return x[(*(slice(None),) * axis, where)]


def _add_up(taps: list[_Tap], x: FloatArray, out: FloatArray, axis: int) -> list[Call]:
    """``out = sum of the pixels of each window`` along an axis."""
    everywhere = slice(0, out.shape[axis])
    whole = [_along(x, axis, tap.pixels) for tap in taps if tap.windows == everywhere]
    calls: list[Call]
    if len(whole) > 1:
        first, second, *whole = whole
        calls = [call(np.add, first, second, out=out)]
    else:
        calls = [call(np.copyto, out, whole.pop() if whole else 0)]
    calls += [call(np.add, out, pixels, out=out) for pixels in whole]
    for tap in taps:
        if tap.windows != everywhere:
            part = _along(out, axis, tap.windows)
            calls.append(call(np.add, part, _along(x, axis, tap.pixels), out=part))
    return calls


def _hand_back(taps: list[_Tap], dy: FloatArray, dx: FloatArray, axis: int) -> list[Call]:
    """``dx = sum of dy over the windows that see a pixel`` along an axis."""
    windows = np.zeros(dx.shape[axis], np.intp)
    for tap in taps:
        windows[tap.pixels] += 1
    calls: list[Call] = [] if (windows == 1).all() else [call(dx.fill, 0)]
    for tap in taps:
        part, given = _along(dx, axis, tap.pixels), _along(dy, axis, tap.windows)
        calls.append(
            call(np.copyto, part, given) if windows.max() == 1 else call(np.add, part, given, out=part)
        )
    return calls


@dataclass
class GlobalAvgPool(SimpleLayer, kind="global_avg_pool"):
    """``y[c] = mean over h and w of x[c, h, w]``: images (N, C, H, W) to features (N, C)."""

    backward_reads_input = False
    backward_reads_output = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C,)."""
        return (image_shape(input_shape)[0],)

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind the sum of the rows, then of the columns, then the division; backward, one copy."""
        h, c, w, n = x.value.shape
        share = x.value.dtype.type(1 / (h * w))
        middle = site.take((c, w, n), Moment.FORWARD)
        y = Buffer(site.take((c, n), Moment.FORWARD))
        forward = [
            call(np.add.reduce, x.value, axis=0, out=middle),
            call(np.add.reduce, middle, axis=1, out=y.value),
            call(np.multiply, y.value, share, out=y.value),
        ]
        if not site.training:
            return Bound(y, forward)
        y.grad = site.take((c, n), Moment.WEIGHTS, Moment.INPUT)
        if x.grad is None:
            return Bound(y, forward)
        backward = [
            call(np.multiply, y.grad, share, out=y.grad),
            call(np.copyto, x.grad, y.grad[:, None]),
        ]
        return Bound(y, forward, backward)
