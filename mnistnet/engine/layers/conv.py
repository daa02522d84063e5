"""Conv2d: correlation with small kernels, as one matrix product for each row of the output.

    Y[y] = W V[y]      W packed as (K, R C S), V the patches of the lowered input (see ``lowering``)

Where a kernel is tall and there are channels enough, ``winograd`` needs fewer multiplications. A kernel in
groups or with dilation is a plain one with zeros in it, and is computed as that: see `_spread`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from mnistnet.engine.arrays import FloatArray, Shape
from mnistnet.engine.layers.base import (
    FIRST_BIAS,
    Bound,
    Buffer,
    Call,
    Layer,
    Moment,
    Operation,
    Site,
    call,
    check_pair,
    check_size,
    he_normal,
    image_shape,
    windows,
)
from mnistnet.engine.layers.dense import AddBias
from mnistnet.engine.layers.lowering import Geometry, lower, outer_product, product, raise_columns
from mnistnet.engine.layers.winograd import bind_winograd, suits
from mnistnet.errors import ShapeError


@dataclass
class Conv2d(Layer, kind="conv2d"):
    """``y[k, p, q] = b[k] + sum over c, r, s of W[k, c, r, s] x[c, stride p + dilation r - padding, ...]``.

    x (N, C, H, W), W (K, C / groups, R, S), b (K,), y (N, K, P, Q). Cross-correlation, as everywhere in the
    field. With groups, the first K / groups outputs see the first C / groups channels only, and so on.
    """

    out_channels: int
    kernel_size: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        check_size("out_channels", self.out_channels)
        self.kernel_size = check_pair("kernel_size", self.kernel_size)
        self.stride = check_pair("stride", self.stride)
        self.padding = check_pair("padding", self.padding, minimum=0)
        self.dilation = check_pair("dilation", self.dilation)
        check_size("groups", self.groups)
        if self.out_channels % self.groups:
            raise ShapeError(f"out_channels {self.out_channels} must be a multiple of groups {self.groups}")

    @property
    def extent(self) -> tuple[int, int]:
        """Rows and columns that the kernel reaches over: (R, S) where there is no dilation."""
        (r, s), (dr, ds) = self.kernel_size, self.dilation
        return (r - 1) * dr + 1, (s - 1) * ds + 1

    def config(self) -> dict[str, Any]:
        """The init fields; ``dilation`` and ``groups`` only where they are not 1, as in older files."""
        config = super().config()
        if self.dilation == (1, 1):
            del config["dilation"]
        if self.groups == 1:
            del config["groups"]
        return config

    def output_shape(self, input_shape: Shape) -> Shape:
        """(K, P, Q) with P = (H + 2 padding - dilation (R - 1) - 1) // stride + 1, Q likewise."""
        c, h, w = image_shape(input_shape)
        if c % self.groups:
            raise ShapeError(f"expected channels in {self.groups} equal groups, found {c} channels")
        p, q = (
            windows(size, *geometry)
            for size, *geometry in zip((h, w), self.extent, self.stride, self.padding, strict=True)
        )
        return (self.out_channels, p, q)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Weight (K, C / groups, R, S) and bias (K,)."""
        c, _, _ = image_shape(input_shape)
        weight = (self.out_channels, c // self.groups, *self.kernel_size)
        return {"weight": weight, "bias": (self.out_channels,)}

    def initialize(self, input_shape: Shape, rng: np.random.Generator) -> None:
        """He-normal weights; biases off zero (`FIRST_BIAS`)."""
        r, s = self.kernel_size
        he_normal(self.params["weight"], input_shape[0] // self.groups * r * s, rng)
        self.params["bias"][...] = FIRST_BIAS

    def operations(self) -> Sequence[Operation]:
        """The correlation, then the bias, which a max-pool may overtake."""
        return (Correlate(self), AddBias(self.params))

    def multiply_adds(self, input_shape: Shape) -> int:
        """K P Q C R S / groups."""
        k, p, q = self.output_shape(input_shape)
        r, s = self.kernel_size
        return k * p * q * input_shape[0] // self.groups * r * s


class Correlate(Operation):
    """The correlation of a `Conv2d`, without its bias."""

    backward_reads_input = False  # it keeps the lowered rows
    backward_reads_output = False
    parameter_names = ("weight",)

    def __init__(self, layer: Conv2d) -> None:
        self.layer = layer

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind the lowering, the product and, in training, the two products of the backward pass."""
        layer = self.layer
        h, c, w, n = x.value.shape
        k, p, q = layer.output_shape((c, h, w))
        g = Geometry(h, c, w, n, k, *layer.extent, layer.stride, layer.padding, p, q)
        if layer.groups > 1 or layer.extent != layer.kernel_size:
            return self._bind_spread(x, g, site)
        return self._bind_plain(x, layer.params["weight"], g, site)

    def _bind_spread(self, x: Buffer, g: Geometry, site: Site) -> Bound:
        """Bind the plain kernel that one with groups or dilation is, most of whose numbers are 0."""
        layer = self.layer
        shape = (g.k, g.c, g.r, g.s)
        weight = site.zeros(shape)
        prepare: list[Call] = [call(np.copyto, *_spread(weight, layer.params["weight"], layer))]
        if not site.training:
            bound = self._bind_plain(x, weight, g, site)
            return replace(bound, prepare=[*prepare, *bound.prepare])
        gradient = site.take(shape, Moment.WEIGHTS, Moment.INPUT)
        bound = self._bind_plain(x, weight, g, replace(site, gradients={"weight": gradient}))
        where, d_weight = _spread(gradient, site.gradients["weight"], layer)
        backward: list[Call] = [*bound.backward, call(np.copyto, d_weight, where)]
        return replace(bound, prepare=[*prepare, *bound.prepare], backward=backward)

    def _bind_plain(self, x: Buffer, weight: FloatArray, g: Geometry, site: Site) -> Bound:
        """Bind a correlation with ``weight`` (K, C, R, S), whose gradient goes where the site says."""
        c, k, p = g.c, g.k, g.p
        if suits(g):
            return bind_winograd(x, weight, g, site)
        lowered, fill = lower(x.value, g, site, g.padding[0])
        patches = _patches(lowered, g)
        packed = site.zeros((k, g.r, c, g.s))
        prepare: list[Call] = [call(np.copyto, packed, weight.transpose(0, 2, 1, 3))]
        matrix = packed.reshape(k, g.patch)

        y, d_rows = _output(g, site)
        forward = [*fill, *product(matrix, patches, y.value.reshape(p, k, g.columns))]
        if not site.training:
            return Bound(y, forward, (), prepare)

        assert y.grad is not None
        dy = y.grad.reshape(p, k, g.columns)
        total, products = outer_product(patches, dy, site)
        unpacked = total.reshape(g.r, c, g.s, k).transpose(3, 1, 0, 2)
        backward: list[Call] = [*products, call(np.copyto, site.gradients["weight"], unpacked)]
        if site.input_gradient:
            assert x.grad is not None
            if g.stride == (1, 1):
                assert d_rows is not None
                flipped = site.zeros((c, g.s, g.r, k))
                prepare.append(call(np.copyto, flipped, weight[:, :, ::-1].transpose(1, 3, 2, 0)))
                d_lowered, calls = _input_gradient(flipped, d_rows, g, site)
            else:
                d_lowered, calls = _strided_input_gradient(packed, dy, g, site)
            backward += [*calls, *raise_columns(d_lowered, x.grad, g)]
        return Bound(y, forward, backward, prepare)


def _spread(plain: FloatArray, weight: FloatArray, layer: Conv2d) -> tuple[FloatArray, FloatArray]:
    """The numbers of a plain kernel (K, C, extent) that the layer's (K, C / groups, R, S) become.

    Returns:
        Two views [groups, K / groups, C / groups, R, S], of ``plain`` and of ``weight``.
    """
    k, c, r, s = weight.shape
    shape = (layer.groups, k // layer.groups, c, r, s)
    (dr, ds), (step_k, step_c, step_r, step_s) = layer.dilation, plain.strides
    # group after group a block further down and further right
    block = shape[1] * step_k + shape[2] * step_c
    return as_strided(plain, shape, (block, step_k, step_c, dr * step_r, ds * step_s)), weight.reshape(shape)


def _patches(lowered: FloatArray, g: Geometry) -> FloatArray:
    """V [P, R C S, Q n]: R consecutive rows of L are the patch matrix of one output row."""
    row, item = lowered.strides[0], lowered.itemsize
    return as_strided(
        lowered, (g.p, g.patch, g.columns), (g.stride[0] * row, item * g.columns, item), writeable=False
    )


def _output(g: Geometry, site: Site) -> tuple[Buffer, FloatArray | None]:
    """Y and dY [P, K, Q, n]; dY lies inside rows of zeros if the input gradient is a correlation too."""
    shape = (g.p, g.k, g.q, g.n)
    if not site.training:
        return Buffer(site.take(shape, Moment.FORWARD)), None
    d_rows = None
    if site.input_gradient and g.stride == (1, 1):
        d_rows = site.zeros((g.p + 2 * (g.r - 1), *shape[1:]))
        grad = d_rows[g.r - 1 : g.r - 1 + g.p]
    elif site.gradient_over_value:
        grad = site.take(shape, Moment.FORWARD, Moment.INPUT)
    else:
        grad = site.take(shape, Moment.WEIGHTS, Moment.INPUT)
    return Buffer(grad if site.gradient_over_value else site.take(shape, Moment.FORWARD), grad), d_rows


def _input_gradient(
    flipped: FloatArray, d_rows: FloatArray, g: Geometry, site: Site
) -> tuple[FloatArray, list[Call]]:
    """DL [H, C, S, Q, n] for stride 1: a correlation of dY's rows with the kernel's rows flipped.

    ``dL[y] = Wr D[y]`` where Wr is (C S, R K) and D[y] is R consecutive rows of dY in its rows of zeros,
    so that the rows beyond the first and the last add nothing.
    """
    row, item = d_rows.strides[0], d_rows.itemsize
    start = d_rows[g.padding[0] :]
    view = as_strided(start, (g.h, g.r * g.k, g.columns), (row, item * g.columns, item), writeable=False)
    d_lowered = site.take((g.h, g.c, g.s, g.q, g.n), Moment.INPUT)
    matrix = flipped.reshape(g.c * g.s, g.r * g.k)
    return d_lowered, product(matrix, view, d_lowered.reshape(g.h, g.c * g.s, g.columns))


def _strided_input_gradient(
    packed: FloatArray, dy: FloatArray, g: Geometry, site: Site
) -> tuple[FloatArray, list[Call]]:
    """DL [H, C, S, Q, n] for any stride: one product for each kernel row, added where that row lies."""
    padded = site.take((g.h + 2 * g.padding[0], g.c * g.s, g.columns), Moment.INPUT)
    product = site.take((g.p, g.c * g.s, g.columns), Moment.INPUT)
    calls: list[Call] = [call(padded.fill, 0)]
    for r in range(g.r):
        matrix = packed[:, r].reshape(g.k, g.c * g.s).T
        rows = padded[r : r + g.stride[0] * (g.p - 1) + 1 : g.stride[0]]
        calls += [call(np.matmul, matrix, dy, out=product), call(np.add, rows, product, out=rows)]
    inner = padded[g.padding[0] : g.padding[0] + g.h]
    return inner.reshape(g.h, g.c, g.s, g.q, g.n), calls
