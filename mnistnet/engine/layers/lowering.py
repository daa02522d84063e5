"""Lowering the rows of images, and products cut to size: what every form of convolution is made of.

Lowering only along the width (MEC: Cho and Brand 2017) makes the patch matrix by strides alone:

    L[y, c, j, q] = X[y, c, s q + j - p]              [H, C, S, Q, n], zero where X has no column
    V[y] = rows s y .. s y + R - 1 of L               [R C S, Q n], a view: consecutive rows of L

k times less memory than full im2col, and every copy runs along rows of Q n contiguous numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from mnistnet.engine.arrays import AnyArray, FloatArray
from mnistnet.engine.blas import block_of, largest_divisor
from mnistnet.engine.layers.base import Call, Moment, Site, call

LEAST_COLUMNS = 32  # a GEMM with fewer columns wastes its kernel
GRADIENT_TILE = 1200  # rows x columns of a product with a long inner side up to which it runs at full speed


@dataclass(frozen=True)
class Geometry:
    """Every size of one bound correlation, computed once."""

    h: int
    c: int
    w: int
    n: int
    k: int
    r: int
    s: int
    stride: tuple[int, int]
    padding: tuple[int, int]
    p: int
    q: int

    @property
    def patch(self) -> int:
        """R C S: the numbers that one output number is made of."""
        return self.r * self.c * self.s

    @property
    def columns(self) -> int:
        """Q n: the columns of one output row's product."""
        return self.q * self.n

    def taps(self) -> list[tuple[int, slice, slice]]:
        """For each kernel column j: which output columns it reaches, and the input columns it reads there."""
        stride, padding = self.stride[1], self.padding[1]
        taps = []
        for j in range(self.s):
            first = max(0, -(-(padding - j) // stride))
            last = min(self.q - 1, (self.w - 1 + padding - j) // stride)
            start = stride * first + j - padding
            taps.append(
                (j, slice(first, last + 1), slice(start, start + stride * (last - first) + 1, stride))
            )
        return [tap for tap in taps if tap[1].stop > tap[1].start]


def lower(x: FloatArray, g: Geometry, site: Site, padding: int) -> tuple[FloatArray, list[Call]]:
    """L [H + 2 padding, C, S, Q, n] of x [H, C, W, n], and the copies that fill it."""
    height = x.shape[0]
    lowered = lowered_buffer((height + 2 * padding,), g, site, bordered=padding > 0)
    return lowered, lower_into(lowered[padding : padding + height], x, g)


def lowered_buffer(rows: tuple[int, ...], g: Geometry, site: Site, *, bordered: bool) -> FloatArray:
    """Memory for [*rows, C, S, Q, n], kept for the gradient of the weights.

    Borders are written once, here, and stay zero, so padding is nearly free; but then nobody may share.
    """
    shape = (*rows, g.c, g.s, g.q, g.n)
    return site.zeros(shape) if bordered or g.padding[1] else site.take(shape, Moment.FORWARD, Moment.WEIGHTS)


def lower_into(rows: FloatArray, x: FloatArray, g: Geometry) -> list[Call]:
    """The copies that lower x [H, C, W, n] into ``rows`` [H, C, S, Q, n]."""
    if not g.padding[1]:  # every kernel column reaches every output column: one copy of overlapping windows
        h, c, w, n = x.strides
        windows = as_strided(x, rows.shape, (h, c, w, g.stride[1] * w, n), writeable=False)
        return [call(np.copyto, rows, windows)]
    return [call(np.copyto, rows[:, :, j, out], x[:, :, into]) for j, out, into in g.taps()]


def raise_columns(d_lowered: FloatArray, dx: FloatArray, g: Geometry) -> list[Call]:
    """The opposite of lowering: ``dX[y, c, s q + j - p] += dL[y, c, j, q]`` for each kernel column j."""
    calls: list[Call] = []
    # where every window sees only padding there is no tap: then an empty one
    (j, out, into), *others = g.taps() or [(0, slice(0, 0), slice(0, 0))]
    covered = into.stop if g.stride[1] == 1 and into.start == 0 else 0
    if covered:
        # the first tap is copied instead of added, and only what it leaves is cleared
        calls.append(call(np.copyto, dx[:, :, into], d_lowered[:, :, j, out]))
        calls.append(call(dx[:, :, covered:].fill, 0))
    else:
        calls.append(call(dx.fill, 0))
        others = [(j, out, into), *others]
    for j, out, into in others:
        target = dx[:, :, into]
        calls.append(call(np.add, target, d_lowered[:, :, j, out], out=target))
    return calls


def product(matrix: FloatArray, columns: FloatArray, out: FloatArray, chunk: int | None = None) -> list[Call]:
    """``out[...] = matrix columns[...]``, cut along the columns into pieces for the small-matrix kernel.

    matrix [..., M, K], columns [..., K, N], out [..., M, N]: leading axes as in ``np.matmul``. ``chunk``
    columns are taken at once, or as many as suit M and K.
    """
    m, k = matrix.shape[-2:]
    chunk = chunk or column_chunk(columns.shape[-1], m * k)
    if chunk == columns.shape[-1]:
        return [call(np.matmul, matrix, columns, out=out)]
    return [call(np.matmul, matrix[..., None, :, :], cut(columns, chunk), out=cut(out, chunk))]


def outer_product(patches: FloatArray, dy: FloatArray, site: Site) -> tuple[FloatArray, list[Call]]:
    """``sum over t of patches[t] dy[t]^T``: the gradient of a matrix by which patches were multiplied.

    The result is small and the sum long, which a GEMM likes least: cut into blocks of rows that it can keep
    in its registers, it runs at full speed (measured: 104 instead of 73 GFLOP/s at 96 x 32 x 384).

    Args:
        patches: [T, ..., M, N].
        dy: [T, ..., K, N].
        site: where the buffers come from.

    Returns:
        [..., M, K], and the calls that fill it.
    """
    *lead, m, n = patches.shape
    k = dy.shape[-2]
    block = m if m * k <= GRADIENT_TILE else largest_divisor(m, GRADIENT_TILE // k)
    chunk = column_chunk(n, k * block)
    *steps, line, item = patches.strides
    blocks = as_strided(
        patches,
        (*lead, n // chunk, m // block, block, chunk),
        (*steps, item * chunk, line * block, line, item),
        writeable=False,
    )
    factor = cut(dy, chunk)[..., None, :, :].swapaxes(-1, -2)
    products = site.take((*lead, n // chunk, m // block, block, k), Moment.WEIGHTS)
    total = site.take((*lead[1:], m, k), Moment.WEIGHTS)
    summed = total.reshape(*lead[1:], -1, block, k)
    return total, [
        call(np.matmul, blocks, factor, out=products),
        call(np.add.reduce, products, axis=(0, len(lead)), out=summed),
    ]


def column_chunk(columns: int, others: int) -> int:
    """How many of N columns to take at once where the other two dimensions multiply to ``others``."""
    return block_of(columns, others, multiple=16, least=LEAST_COLUMNS)


def cut(rows: AnyArray, chunk: int) -> AnyArray:
    """``[..., K, N]`` as ``[..., N / chunk, K, chunk]``: a view."""
    *lead, k, total = rows.shape
    *steps, b, c = rows.strides
    return as_strided(rows, (*lead, total // chunk, k, chunk), (*steps, c * chunk, b, c))
