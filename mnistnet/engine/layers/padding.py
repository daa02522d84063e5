"""ZeroPad2d: rows and columns of zeros around an image, as many as wanted on each side."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from mnistnet.engine.arrays import Shape
from mnistnet.engine.layers.base import (
    Bound,
    Buffer,
    Moment,
    SimpleLayer,
    Site,
    call,
    check_size,
    image_shape,
)


@dataclass
class ZeroPad2d(SimpleLayer, kind="zero_pad2d"):
    """``y[c, top + h, left + w] = x[c, h, w]``, 0 elsewhere: x (N, C, H, W), y (N, C, P, Q).

    For what the ``padding`` of a convolution cannot say: more on one side than on the other, as networks from
    TensorFlow have it.
    """

    top: int = 0
    bottom: int = 0
    left: int = 0
    right: int = 0
    backward_reads_input = False
    backward_reads_output = False

    def __post_init__(self) -> None:
        for side in fields(self):
            if side.init:
                check_size(side.name, getattr(self, side.name), minimum=0)

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C, P, Q) with P = top + H + bottom, Q = left + W + right."""
        c, h, w = image_shape(input_shape)
        return (c, self.top + h + self.bottom, self.left + w + self.right)

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind zeros and a copy; backward, the copy alone."""
        h, c, w, n = x.value.shape
        _, p, q = self.output_shape((c, h, w))
        inside = (slice(self.top, self.top + h), slice(None), slice(self.left, self.left + w))
        y = Buffer(site.take((p, c, q, n), Moment.FORWARD))
        # anew each time: what comes next may work in place
        forward = [call(y.value.fill, 0), call(np.copyto, y.value[inside], x.value)]
        if not site.training:
            return Bound(y, forward)
        y.grad = site.take(y.value.shape, Moment.WEIGHTS, Moment.INPUT)
        if x.grad is None:
            return Bound(y, forward)
        return Bound(y, forward, [call(np.copyto, x.grad, y.grad[inside])])
