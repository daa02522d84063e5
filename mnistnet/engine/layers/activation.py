"""Activations: ReLU and softmax."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnistnet.engine.arrays import Shape
from mnistnet.engine.blas import largest_divisor
from mnistnet.engine.layers.base import Bound, Buffer, Moment, SimpleLayer, Site, call
from mnistnet.errors import ShapeError


@dataclass
class ReLU(SimpleLayer, kind="relu"):
    """``y = max(x, 0)`` on any shape; dx = dy where y > 0, else 0."""

    commutes_with_max = True
    backward_reads_input = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        return input_shape

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind one maximum; backward, a comparison and a product, in place."""
        y = site.output_like(x)
        if x.value.flags.c_contiguous:
            # an array of zeros is four times as fast as the number 0; a short one fits in L1
            block = largest_divisor(x.value.size, 1024)
            zeros = np.zeros(block, x.value.dtype)
            forward = [call(np.maximum, x.value.reshape(-1, block), zeros, out=y.value.reshape(-1, block))]
        else:
            # a network's input rows, seen through strides: reshape would copy them once, here
            forward = [call(np.maximum, x.value, x.value.dtype.type(0), out=y.value)]
        if y.grad is None:
            return Bound(y, forward)
        positive = site.take(x.value.shape, Moment.INPUT, dtype=np.bool_)
        backward = [
            call(np.greater, y.value, y.value.dtype.type(0), out=positive),
            call(np.multiply, y.grad, positive, out=y.grad),
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
