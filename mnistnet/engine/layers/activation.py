"""Activations: ReLU and its kin, sigmoid, tanh, softmax; GELU has a room of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnistnet.engine.arrays import FloatArray, Shape
from mnistnet.engine.blas import largest_divisor
from mnistnet.engine.layers.base import Bound, Buffer, Call, Moment, SimpleLayer, Site, call, check_number
from mnistnet.errors import ShapeError


@dataclass
class ReLU(SimpleLayer, kind="relu"):
    """``y = max(x, 0)`` on any shape; dx = dy where y > 0, else 0."""

    commutes_with_max = True
    by_feature = True
    backward_reads_input = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        return input_shape

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind one maximum; backward, a comparison and a product, in place."""
        y = site.output_like(x)
        forward = [with_number(np.maximum, x.value, 0.0, y.value)]
        if y.grad is None:
            return Bound(y, forward)
        positive = site.take(x.value.shape, Moment.INPUT, dtype=np.bool_)
        backward = [
            call(np.greater, y.value, y.value.dtype.type(0), out=positive),
            call(np.multiply, y.grad, positive, out=y.grad),
        ]
        return Bound(y, forward, backward)


@dataclass
class LeakyReLU(SimpleLayer, kind="leaky_relu"):
    """``y = max(x, slope x)`` on any shape, 0 <= slope <= 1; dx = dy where y > 0, else slope dy.

    Maas et al. 2013. Rounding keeps the order of numbers, in the product as in the maximum: so it commutes
    with a maximum bit for bit.
    """

    slope: float = 0.01
    commutes_with_max = True
    by_feature = True
    backward_reads_input = False

    def __post_init__(self) -> None:
        self.slope = check_number("slope", self.slope, 0.0, 1.0)

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        return input_shape

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind a product and a maximum; backward, the factor 1 or slope, and a product."""
        y = site.output_like(x)
        leak = site.take(x.value.shape, Moment.FORWARD)
        forward = [
            call(np.multiply, x.value, leak.dtype.type(self.slope), out=leak),
            call(np.maximum, x.value, leak, out=y.value),
        ]
        if y.grad is None:
            return Bound(y, forward)
        factor = site.take(x.value.shape, Moment.INPUT)
        backward: list[Call] = [
            call(np.greater, y.value, y.value.dtype.type(0), out=factor),
            with_number(np.maximum, factor, self.slope, factor),
            call(np.multiply, y.grad, factor, out=y.grad),
        ]
        return Bound(y, forward, backward)


@dataclass
class Sigmoid(SimpleLayer, kind="sigmoid"):
    """``y = 1 / (1 + exp(-x))`` on any shape; dx = dy y (1 - y).

    Training with binary cross-entropy fuses this layer with the loss.
    """

    by_feature = True
    backward_reads_input = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        return input_shape

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind the function, and its derivative from the output."""
        y = site.output_like(x)
        forward = logistic(x.value, y.value)
        if y.grad is None:
            return Bound(y, forward)
        slope = site.take(x.value.shape, Moment.INPUT)
        backward = [
            call(np.subtract, slope.dtype.type(1), y.value, out=slope),
            call(np.multiply, slope, y.value, out=slope),
            call(np.multiply, y.grad, slope, out=y.grad),
        ]
        return Bound(y, forward, backward)


@dataclass
class Tanh(SimpleLayer, kind="tanh"):
    """``y = tanh(x)`` on any shape; dx = dy (1 - y^2)."""

    by_feature = True
    backward_reads_input = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        return input_shape

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind the function, and its derivative from the output."""
        y = site.output_like(x)
        forward = [call(np.tanh, x.value, out=y.value)]
        if y.grad is None:
            return Bound(y, forward)
        slope = site.take(x.value.shape, Moment.INPUT)
        backward = [
            call(np.multiply, y.value, y.value, out=slope),
            call(np.subtract, slope.dtype.type(1), slope, out=slope),
            call(np.multiply, y.grad, slope, out=y.grad),
        ]
        return Bound(y, forward, backward)


@dataclass
class Softmax(SimpleLayer, kind="softmax"):
    """``y_k = exp(x_k) / sum_j exp(x_j)`` on features (N, K); dx = y * (dy - sum_j dy_j y_j).

    Training with cross-entropy fuses this layer with the loss; on its own it has its own true derivative.
    """

    backward_reads_input = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's (K,)."""
        if len(input_shape) != 1:
            raise ShapeError(f"expected features, found {input_shape}: put a flatten layer in front")
        return input_shape

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind the stable form: the largest logit is subtracted first."""
        y = site.output_like(x)
        row = site.take((1, x.value.shape[1]), Moment.FORWARD)
        forward = [
            call(np.maximum.reduce, x.value, axis=0, out=row, keepdims=True),
            call(np.subtract, x.value, row, out=y.value),
            call(np.exp, y.value, out=y.value),
            call(np.add.reduce, y.value, axis=0, out=row, keepdims=True),
            call(np.divide, y.value, row, out=y.value),
        ]
        if y.grad is None:
            return Bound(y, forward)
        product = site.take(x.value.shape, Moment.INPUT)
        dot = site.take((1, x.value.shape[1]), Moment.INPUT)
        backward = [
            call(np.multiply, y.grad, y.value, out=product),
            call(np.add.reduce, product, axis=0, out=dot, keepdims=True),
            call(np.subtract, y.grad, dot, out=y.grad),
            call(np.multiply, y.grad, y.value, out=y.grad),
        ]
        return Bound(y, forward, backward)


def logistic(x: FloatArray, out: FloatArray) -> list[Call]:
    """``out = 1 / (1 + exp(-x))``, in place if wanted; a large -x is cut off before exp overflows."""
    one = out.dtype.type(1)
    return [
        call(np.negative, x, out=out),
        with_number(np.minimum, out, np.log(np.finfo(out.dtype).max) - 1, out),
        call(np.exp, out, out=out),
        call(np.add, out, one, out=out),
        call(np.divide, one, out, out=out),
    ]


def with_number(operator: np.ufunc, x: FloatArray, number: float, out: FloatArray) -> Call:
    """``out = operator(x, number)`` for a maximum or a minimum."""
    if x.flags.c_contiguous:
        # an array of equal numbers is four times as fast as the number itself; a short one fits in L1
        block = largest_divisor(x.size, 1024)
        numbers = np.full(block, number, x.dtype)
        return call(operator, x.reshape(-1, block), numbers, out=out.reshape(-1, block))
    # a network's input rows, seen through strides: reshape would copy them once, here
    return call(operator, x, x.dtype.type(number), out=out)
