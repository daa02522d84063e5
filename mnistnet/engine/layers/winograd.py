"""Winograd's minimal filtering along the height: a third to a half of a convolution's multiplications.

One column of a kernel with R rows gives m outputs from alpha = m + R - 1 inputs with alpha multiplications
instead of m R (Winograd 1980; Lavin and Gray 2016, who nest it in both directions). Here it runs along the
height alone, where a row is C W n contiguous numbers: the transforms of the rows are then tiny matrices
times long rows, a few percent of the product that they save, and the width is lowered as it always is.

    Z[t] = B^T X[m t .. m t + alpha - 1]     tile t of the input's rows    (alpha, alpha) (alpha, C W n)
    L    = Z lowered along the width         [tiles, alpha, C S, Q n]
    M[t, i] = U[i] L[t, i],  U = G W         alpha products a tile         (K, C S) (C S, Q n)
    Y[m t .. m t + m - 1] = A^T M[t]         m rows of the output          (m, alpha) (alpha, K Q n)

The backward pass is the exact adjoint of each line, in reverse order, so it is as cheap as the forward pass.

docs/performance.md has the rounding measured against float64, beside the direct form's.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from mnistnet.engine.arrays import FloatArray
from mnistnet.engine.layers.base import Bound, Buffer, Call, Moment, Site, call
from mnistnet.engine.layers.lowering import Geometry, lower, product, raise_columns

TILE = 4  # m: rows of the output in a tile
KERNEL_ROWS = (3, 4, 5)
"""R: with fewer there is little to save; with more the rounding grows, and a tile's overlap exceeds it."""
LEAST_PRODUCT = 400
"""K C S from which the smaller products still fill the GEMM's kernel."""
LEAST_IMAGES = 8
"""n from which the transforms' rows are long enough."""
POINTS = (0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5)
"""Where the polynomials are interpolated, besides infinity: the smallest numbers round best."""


@cache
def transforms(rows: int, kernel: int) -> tuple[npt.NDArray[np.float64], ...]:
    """A^T (m, alpha), G (alpha, R) and B^T (alpha, alpha) of F(m, R), by Toom and Cook's interpolation.

    ``correlate(d, g) = A^T ((G g) * (B^T d))`` for d of length alpha = m + R - 1 and g of length R.
    """
    alpha = rows + kernel - 1
    points = POINTS[: alpha - 1]
    output, weight, data = np.zeros((rows, alpha)), np.zeros((alpha, kernel)), np.zeros((alpha, alpha))
    for i, point in enumerate(points):
        others = [other for other in points if other != point]
        output[:, i] = [point**j for j in range(rows)]
        weight[i] = [point**j / np.prod([point - other for other in others]) for j in range(kernel)]
        data[i, : alpha - 1] = np.poly(others)[::-1]
    # the point at infinity: the highest coefficients alone
    output[-1, -1] = 1.0
    weight[-1, -1] = 1.0
    data[-1] = np.poly(points)[::-1]
    return output, weight, data


def suits(g: Geometry) -> bool:
    """Whether a correlation gains: by its sizes alone, so that every worker decides the same."""
    tiles = -(-g.p // TILE)
    return (
        g.stride[0] == 1
        and g.r in KERNEL_ROWS
        and g.n >= LEAST_IMAGES
        and g.k * g.c * g.s >= LEAST_PRODUCT
        and 5 * tiles * (TILE + g.r - 1) <= 4 * g.p * g.r
    )


def bind_winograd(x: Buffer, weight: FloatArray, g: Geometry, site: Site) -> Bound:
    """Bind a correlation of x [H, C, W, n] with ``weight`` (K, C, R, S), stride 1 along the height."""
    output, filters, data = (matrix.astype(site.dtype) for matrix in transforms(TILE, g.r))
    alpha = TILE + g.r - 1
    tiles = -(-g.p // TILE)
    rows = tiles * TILE + g.r - 1
    row = g.c * g.w * g.n
    outputs = g.k * g.columns

    forward: list[Call] = []
    source = x.value
    if rows != g.h:
        # padding, or a last tile that reaches beyond the input: a copy inside zeros
        source = site.zeros((rows, g.c, g.w, g.n))
        forward.append(call(np.copyto, source[g.padding[0] : g.padding[0] + g.h], x.value))
    windows = as_strided(
        source, (tiles, alpha, row), (TILE * source.strides[0], source.strides[0], source.itemsize)
    )
    tiled = site.take((tiles * alpha, g.c, g.w, g.n), Moment.FORWARD)
    lowered, fill = lower(tiled, g, site, padding=0)
    patches = lowered.reshape(tiles, alpha, g.c * g.s, g.columns)
    unpacked = site.zeros((g.r, g.k, g.c, g.s))
    packed = site.zeros((alpha, g.k, g.c * g.s))
    prepare = [
        call(np.copyto, unpacked, weight.transpose(2, 0, 1, 3)),
        call(np.matmul, filters, unpacked.reshape(g.r, -1), out=packed.reshape(alpha, -1)),
    ]
    products = site.take((tiles, alpha, g.k, g.columns), Moment.FORWARD)
    # whole tiles, of which the output is the first P rows
    whole = site.take((tiles * TILE, g.k, g.q, g.n), Moment.FORWARD)
    y = Buffer(whole[: g.p])
    forward += [
        call(np.matmul, data, windows, out=tiled.reshape(tiles, alpha, row)),
        *fill,
        *product(packed, patches, products),
        call(
            np.matmul,
            output,
            products.reshape(tiles, alpha, outputs),
            out=whole.reshape(tiles, TILE, outputs),
        ),
    ]
    if not site.training:
        return Bound(y, forward, (), prepare)

    backward: list[Call] = []
    d_whole = whole
    if not site.gradient_over_value:
        d_whole = site.take(whole.shape, Moment.WEIGHTS)
    y.grad = d_whole[: g.p]
    if g.p < tiles * TILE:
        backward.append(call(d_whole[g.p :].fill, 0))
    d_products = site.take(products.shape, Moment.WEIGHTS, Moment.INPUT)
    backward += [
        call(
            np.matmul,
            np.ascontiguousarray(output.T),
            d_whole.reshape(tiles, TILE, outputs),
            out=d_products.reshape(tiles, alpha, outputs),
        ),
        *_weight_gradient(d_products, patches, filters, site.gradients["weight"], site),
    ]
    if not site.input_gradient:
        return Bound(y, forward, backward, prepare)

    assert x.grad is not None
    d_lowered = site.take(lowered.shape, Moment.INPUT)
    d_tiled = site.take(tiled.shape, Moment.INPUT)
    backward += [
        *product(packed.transpose(0, 2, 1), d_products, d_lowered.reshape(patches.shape)),
        *raise_columns(d_lowered, d_tiled, g),
    ]
    # adjoint of the overlapping windows: a tile's first m rows are its own, the others its neighbour's too
    target = x.grad if rows == g.h else site.take((rows, g.c, g.w, g.n), Moment.INPUT)
    d_windows = d_tiled.reshape(tiles, alpha, row)
    own = target[: tiles * TILE].reshape(tiles, TILE, row)
    overlap = site.take((tiles, g.r - 1, row), Moment.INPUT)
    transposed = np.ascontiguousarray(data.T)
    backward += [
        call(np.matmul, transposed[:TILE], d_windows, out=own),
        call(np.matmul, transposed[TILE:], d_windows, out=overlap),
        call(np.copyto, target[tiles * TILE :].reshape(g.r - 1, row), overlap[-1]),
    ]
    if tiles > 1:
        shared = own[1:, : g.r - 1]
        backward.append(call(np.add, shared, overlap[:-1], out=shared))
    if target is not x.grad:
        backward.append(call(np.copyto, x.grad, target[g.padding[0] : g.padding[0] + g.h]))
    return Bound(y, forward, backward, prepare)


def _weight_gradient(
    d_products: FloatArray, patches: FloatArray, filters: FloatArray, out: FloatArray, site: Site
) -> list[Call]:
    """``dU[i] = sum over tiles of dM[t, i] L[t, i]^T`` and ``dW = G^T dU``, unpacked to (K, C, R, S).

    The product runs with its factors swapped: the longer side, C S, as rows.
    """
    tiles, alpha, k, _ = d_products.shape
    k, c, r, s = out.shape
    by_tile = site.take((tiles, alpha, c * s, k), Moment.WEIGHTS)
    total = site.take((alpha, c * s, k), Moment.WEIGHTS)
    gradient = site.take((r, c * s * k), Moment.WEIGHTS)
    return [
        call(np.matmul, patches, d_products.transpose(0, 1, 3, 2), out=by_tile),
        call(np.add.reduce, by_tile, axis=0, out=total),
        call(np.matmul, np.ascontiguousarray(filters.T), total.reshape(alpha, -1), out=gradient),
        call(np.copyto, out, gradient.reshape(r, c, s, k).transpose(3, 1, 0, 2)),
    ]
