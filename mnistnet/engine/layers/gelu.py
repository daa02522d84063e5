"""GELU: every number weighted by the share of a normal distribution that lies below it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from mnistnet.engine.arrays import FloatArray, Shape
from mnistnet.engine.layers.activation import with_number
from mnistnet.engine.layers.base import Bound, Buffer, Call, Moment, SimpleLayer, Site, call
from mnistnet.errors import ShapeError

_FORMS = ("none", "tanh")
_SCALE = 0.35
_FARTHEST = 10.0
"""The normal distribution has 8e-24 beyond this."""
_DEGREES = {"float32": 8, "float64": 16}


@dataclass
class GELU(SimpleLayer, kind="gelu"):
    """``y = x F(x)`` on any shape, F the normal distribution function; dx = dy (F(x) + x F'(x)).

    Hendrycks and Gimpel 2016. With ``approximate="tanh"`` the form of their section 2,
    ``y = x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2``, which differs from it by up to 5e-4. Both are
    named as in PyTorch and ONNX. F is within 3e-7 of the true one in float32, within 1e-13 in float64.
    """

    approximate: str = "none"
    by_feature = True
    backward_reads_input = False  # it keeps the derivative
    backward_reads_output = False

    def __post_init__(self) -> None:
        if self.approximate not in _FORMS:
            raise ShapeError(
                f"approximate must be one of {', '.join(_FORMS)}, found {self.approximate!r:.60}"
            )

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        return input_shape

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind the function and, in training, its derivative beside it; backward is one product."""
        y = site.output_like(x)
        slope = site.take(x.value.shape, Moment.FORWARD, Moment.INPUT) if site.training else None
        scratch = [site.take(x.value.shape, Moment.FORWARD) for _ in range(3)]
        form = _exact if self.approximate == "none" else _with_tanh
        forward = form(x.value, y.value, slope, scratch)
        if slope is None:
            return Bound(y, forward)
        return Bound(y, forward, [call(np.multiply, y.grad, slope, out=y.grad)])


def _exact(x: FloatArray, y: FloatArray, slope: FloatArray | None, scratch: list[FloatArray]) -> list[Call]:
    """With the tail Q(x) = 1 - F(x): ``y = max(x, 0) - |x| Q(|x|)``, the same on both sides of zero.

    ``Q(|x|) = exp(-x^2 / 2) P(t)`` with P a polynomial and ``t = 1 / (1 + 0.35 |x|)``: the form of Abramowitz
    and Stegun 1964, 26.2.17, with coefficients for the precision at hand.
    """
    size, t, tail = scratch
    number = x.dtype.type
    last, *coefficients = tail_coefficients(x.dtype.name)[::-1]
    calls: list[Call] = [
        call(np.abs, x, out=size),
        call(np.multiply, size, number(_SCALE), out=t),
        call(np.add, t, number(1), out=t),
        call(np.divide, number(1), t, out=t),
        call(np.multiply, t, number(last), out=tail),
    ]
    for coefficient in coefficients[:-1]:
        calls += [call(np.add, tail, number(coefficient), out=tail), call(np.multiply, tail, t, out=tail)]
    density = t  # not yet divided by the root of 2 pi
    calls += [
        call(np.add, tail, number(coefficients[-1]), out=tail),
        call(np.multiply, size, size, out=density),
        call(np.multiply, density, number(-0.5), out=density),
        call(np.exp, density, out=density),
        call(np.multiply, tail, density, out=tail),
    ]
    if slope is not None:
        # F(x) is 1/2 + (1/2 - Q(|x|)) with the sign of x, and x F'(x) the density times x
        calls += [
            call(np.multiply, density, x, out=density),
            call(np.multiply, density, number(1 / math.sqrt(2 * math.pi)), out=density),
            call(np.subtract, number(0.5), tail, out=slope),
            call(np.copysign, slope, x, out=slope),
            call(np.add, slope, number(0.5), out=slope),
            call(np.add, slope, density, out=slope),
        ]
    return [
        *calls,
        call(np.multiply, tail, size, out=tail),
        with_number(np.maximum, x, 0.0, y),
        call(np.subtract, y, tail, out=y),
    ]


@cache
def tail_coefficients(precision: str) -> Sequence[float]:
    """Of P, the constant first: ``1 - F(x) = exp(-x^2 / 2) P(1 / (1 + 0.35 x))`` for x >= 0.

    Interpolated at Chebyshev nodes of t in the range of x = 0 .. 10, where math.erfc gives the values.

    Args:
        precision: "float32" or "float64".
    """
    from numpy.polynomial import Chebyshev, Polynomial  # 4 ms that only this layer takes

    def value(t: float) -> float:
        x = (1 / t - 1) / _SCALE
        return 0.5 * math.erfc(x / math.sqrt(2)) * math.exp(x * x / 2)

    domain = [1 / (1 + _SCALE * _FARTHEST), 1.0]
    fitted = Chebyshev.interpolate(np.vectorize(value), _DEGREES[precision], domain)
    return tuple(fitted.convert(kind=Polynomial).coef.tolist())


def _with_tanh(
    x: FloatArray, y: FloatArray, slope: FloatArray | None, scratch: list[FloatArray]
) -> list[Call]:
    """With T the hyperbolic tangent of u(x): ``dy/dx = (1 + T) / 2 + x (1 - T^2) u'(x) / 2``."""
    square, weight, other = scratch
    number = x.dtype.type
    root, cubic = math.sqrt(2 / math.pi), 0.044715
    calls: list[Call] = [
        call(np.multiply, x, x, out=square),
        call(np.multiply, square, number(root * cubic), out=weight),
        call(np.add, weight, number(root), out=weight),
        call(np.multiply, weight, x, out=weight),
        call(np.tanh, weight, out=weight),
    ]
    if slope is not None:
        calls += [
            call(np.multiply, square, number(1.5 * root * cubic), out=square),
            call(np.add, square, number(0.5 * root), out=square),
            call(np.multiply, square, x, out=square),
            call(np.multiply, weight, weight, out=other),
            call(np.subtract, number(1), other, out=other),
            call(np.multiply, other, square, out=slope),
        ]
    calls += [
        call(np.multiply, weight, number(0.5), out=weight),
        call(np.add, weight, number(0.5), out=weight),
    ]
    if slope is not None:
        calls.append(call(np.add, slope, weight, out=slope))
    return [*calls, call(np.multiply, x, weight, out=y)]
