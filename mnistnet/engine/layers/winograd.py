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

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from mnistnet.engine.arrays import FloatArray
from mnistnet.engine.layers.base import Bound, Buffer, Call, Moment, Site, call
from mnistnet.engine.layers.lowering import (
    Geometry,
    lower_into,
    lowered_buffer,
    outer_product,
    product,
    raise_columns,
)

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


@dataclass(frozen=True)
class _Tiling:
    """A correlation's rows cut into tiles, and its transforms in the network's type."""

    g: Geometry
    tiles: int
    output: FloatArray
    """A^T (m, alpha)."""
    filters: FloatArray
    """G (alpha, R)."""
    data: FloatArray
    """B^T (alpha, alpha)."""

    @property
    def alpha(self) -> int:
        """Input rows, and products, of a tile."""
        return TILE + self.g.r - 1

    @property
    def height(self) -> int:
        """Rows of the input that all tiles together reach over, padding included."""
        return self.tiles * TILE + self.g.r - 1

    @property
    def row(self) -> int:
        """Numbers in a row of the input: C W n."""
        return self.g.c * self.g.w * self.g.n

    @property
    def output_row(self) -> int:
        """Numbers in a row of the output: K Q n."""
        return self.g.k * self.g.columns

    @property
    def inside(self) -> slice:
        """Where the input lies within ``height``."""
        return slice(self.g.padding[0], self.g.padding[0] + self.g.h)


def bind_winograd(x: Buffer, weight: FloatArray, g: Geometry, site: Site) -> Bound:
    """Bind a correlation of x [H, C, W, n] with ``weight`` (K, C, R, S), stride 1 along the height."""
    output, filters, data = (matrix.astype(site.dtype) for matrix in transforms(TILE, g.r))
    t = _Tiling(g, -(-g.p // TILE), output, filters, data)
    unpacked = site.zeros((g.r, g.k, g.c, g.s))
    packed = site.zeros((t.alpha, g.k, g.c * g.s))
    prepare = [
        call(np.copyto, unpacked, weight.transpose(2, 0, 1, 3)),
        call(np.matmul, filters, unpacked.reshape(g.r, -1), out=packed.reshape(t.alpha, -1)),
    ]
    # whole tiles, of which the output is the first P rows
    whole = site.take((t.tiles, TILE, t.output_row), Moment.FORWARD)
    y = Buffer(_rows(whole, g)[: g.p])
    patches, forward = _forward(x.value, packed, whole, t, site)
    if not site.training:
        return Bound(y, forward, (), prepare)

    d_whole = whole if site.gradient_over_value else site.take(whole.shape, Moment.WEIGHTS)
    y.grad = _rows(d_whole, g)[: g.p]
    d_products = site.take((t.tiles, t.alpha, g.k, g.columns), Moment.WEIGHTS, Moment.INPUT)
    adjoint = np.ascontiguousarray(output.T)
    backward: list[Call] = [
        # what the last tile has below the output came from nowhere
        *([call(_rows(d_whole, g)[g.p :].fill, 0)] if g.p < t.tiles * TILE else []),
        call(np.matmul, adjoint, d_whole, out=d_products.reshape(t.tiles, t.alpha, t.output_row)),
        *_weight_gradient(d_products, patches, t, site),
    ]
    if site.input_gradient:
        assert x.grad is not None
        backward += _input_gradient(d_products, packed, x.grad, t, site)
    return Bound(y, forward, backward, prepare)


def _rows(whole: FloatArray, g: Geometry) -> FloatArray:
    """[tiles, m, K Q n] as [tiles m, K, Q, n]."""
    return whole.reshape(-1, g.k, g.q, g.n)


def _forward(
    x: FloatArray, packed: FloatArray, whole: FloatArray, t: _Tiling, site: Site
) -> tuple[FloatArray, list[Call]]:
    """The lowered tiles [tiles, alpha, C S, Q n], and the calls that fill them and ``whole``.

    Tile by tile, so that what one call writes is still in the cache when the next one reads it. Training
    keeps the lowered rows of all tiles for the gradient of the weights; a prediction keeps one tile's.
    """
    g = t.g
    calls: list[Call] = []
    source = x
    if t.height != g.h:
        # padding, or a last tile that reaches beyond the input: a copy inside zeros
        source = site.zeros((t.height, g.c, g.w, g.n))
        calls.append(call(np.copyto, source[t.inside], x))
    step, item = source.strides[0], source.itemsize
    windows = as_strided(source, (t.tiles, t.alpha, t.row), (TILE * step, step, item), writeable=False)
    tiled = site.take((t.alpha, g.c, g.w, g.n), Moment.FORWARD)
    kept = t.tiles if site.training else 1
    lowered = lowered_buffer((kept, t.alpha), g, site, bordered=False)
    patches = lowered.reshape(kept, t.alpha, g.c * g.s, g.columns)
    products = site.take((t.alpha, g.k, g.columns), Moment.FORWARD)
    for tile in range(t.tiles):
        calls += [
            call(np.matmul, t.data, windows[tile], out=tiled.reshape(t.alpha, t.row)),
            *lower_into(lowered[tile % kept], tiled, g),
            *product(packed, patches[tile % kept], products),
            call(np.matmul, t.output, products.reshape(t.alpha, t.output_row), out=whole[tile]),
        ]
    return patches, calls


def _weight_gradient(d_products: FloatArray, patches: FloatArray, t: _Tiling, site: Site) -> list[Call]:
    """``dU[i] = sum over tiles of dM[t, i] L[t, i]^T``, ``dW = G^T dU``, unpacked to (K, C, R, S)."""
    g = t.g
    total, calls = outer_product(patches, d_products, site)
    gradient = site.take((g.r, g.c * g.s * g.k), Moment.WEIGHTS)
    unpacked = gradient.reshape(g.r, g.c, g.s, g.k).transpose(3, 1, 0, 2)
    return [
        *calls,
        call(np.matmul, np.ascontiguousarray(t.filters.T), total.reshape(t.alpha, -1), out=gradient),
        call(np.copyto, site.gradients["weight"], unpacked),
    ]


def _input_gradient(
    d_products: FloatArray, packed: FloatArray, dx: FloatArray, t: _Tiling, site: Site
) -> list[Call]:
    """``dL[t, i] = U[i]^T dM[t, i]``, raised to dZ; ``dX = B dZ``, added up where tiles overlap."""
    g = t.g
    # one tile's buffer for all: what the product writes is still in the cache when it is added
    d_lowered = site.take((t.alpha, g.c, g.s, g.q, g.n), Moment.INPUT)
    d_tiled = site.take((t.tiles, t.alpha, g.c, g.w, g.n), Moment.INPUT)
    transposed = packed.transpose(0, 2, 1)
    calls: list[Call] = []
    for tile in range(t.tiles):
        calls += product(transposed, d_products[tile], d_lowered.reshape(t.alpha, g.c * g.s, g.columns))
        calls += raise_columns(d_lowered, d_tiled[tile], g)

    # a tile's first m rows are its own, the R - 1 below them its neighbour's too
    target = dx if t.height == g.h else site.take((t.height, g.c, g.w, g.n), Moment.INPUT)
    own = target[: t.tiles * TILE].reshape(t.tiles, TILE, t.row)
    overlap = site.take((t.tiles, g.r - 1, t.row), Moment.INPUT)
    d_windows = d_tiled.reshape(t.tiles, t.alpha, t.row)
    adjoint = np.ascontiguousarray(t.data.T)
    calls += [
        call(np.matmul, adjoint[:TILE], d_windows, out=own),
        call(np.matmul, adjoint[TILE:], d_windows, out=overlap),
        call(np.copyto, target[t.tiles * TILE :].reshape(g.r - 1, t.row), overlap[-1]),
    ]
    if t.tiles > 1:
        shared = own[1:, : g.r - 1]
        calls.append(call(np.add, shared, overlap[:-1], out=shared))
    if target is not dx:
        calls.append(call(np.copyto, dx, target[t.inside]))
    return calls
