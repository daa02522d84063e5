"""Dropout: in training, a random part of the numbers is left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnistnet.engine.arrays import FloatArray, Shape
from mnistnet.engine.layers.base import Bound, Buffer, Moment, SimpleLayer, Site, call, check_number

_LEVELS = 1 << 16


@dataclass
class Dropout(SimpleLayer, kind="dropout"):
    """``y = x mask / (1 - rate)`` in training, with mask 0 at ``rate`` of all places, else 1; dx likewise.

    Srivastava et al. 2014, scaled in training, so that in inference y is x. The rate is rounded to a
    multiple of 1/65536, and the scale is that of the rounded rate.
    """

    rate: float = 0.5
    backward_reads_input = False
    backward_reads_output = False

    def __post_init__(self) -> None:
        self.rate = check_number("rate", self.rate, 0.0, 1.0 - 1.0 / _LEVELS)

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        return input_shape

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind the drawing of the mask and one product each way; nothing in inference."""
        if not site.training:
            return Bound(x, ())
        y = site.output_like(x)
        assert y.grad is not None
        mask = site.take(x.value.shape, Moment.FORWARD, Moment.INPUT)
        left_out = round(self.rate * _LEVELS)
        scale = mask.dtype.type(_LEVELS / (_LEVELS - left_out))
        forward = [
            call(_draw, site, np.uint16(left_out), mask),
            call(np.multiply, mask, scale, out=mask),
            call(np.multiply, x.value, mask, out=y.value),
        ]
        return Bound(y, forward, [call(np.multiply, y.grad, mask, out=y.grad)])


def _draw(site: Site, left_out: np.uint16, mask: FloatArray) -> None:
    numbers = site.noise.halfwords(site.layer, mask.size)
    np.greater_equal(numbers.reshape(mask.shape), left_out, out=mask)
