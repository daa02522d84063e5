"""Waves: the sine as an activation, and the Fourier features of a point, for networks that draw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import pi, prod

import numpy as np

from mnistnet.engine.arrays import FloatArray, Shape
from mnistnet.engine.layers.base import (
    Bound,
    Buffer,
    Call,
    Moment,
    SimpleLayer,
    Site,
    call,
    check_number,
    check_size,
)
from mnistnet.errors import ShapeError


@dataclass
class Sine(SimpleLayer, kind="sine"):
    """``y = sin(omega x)`` on any shape; dx = dy omega cos(omega x).

    Sitzmann et al. 2020 (SIREN). For their initialization (sec. 3.2) the dense layer in front of it needs
    first weights with a `siren_bound`.
    """

    omega: float = 30.0
    by_feature = True
    backward_reads_input = False  # it keeps the derivative
    backward_reads_output = False

    def __post_init__(self) -> None:
        self.omega = check_number("omega", self.omega, 1e-6, 1e6)

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        return input_shape

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind a product and the sine; in training also its derivative, with which backward multiplies."""
        y = site.output_like(x)
        omega = y.value.dtype.type(self.omega)
        forward: list[Call] = [call(np.multiply, x.value, omega, out=y.value)]
        if y.grad is None:
            return Bound(y, [*forward, call(np.sin, y.value, out=y.value)])
        slope = site.take(x.value.shape, Moment.FORWARD, Moment.INPUT)
        forward += [
            call(np.cos, y.value, out=slope),
            call(np.multiply, slope, omega, out=slope),
            call(np.sin, y.value, out=y.value),
        ]
        return Bound(y, forward, [call(np.multiply, y.grad, slope, out=y.grad)])


def siren_bound(fan_in: int, omega: float, *, first: bool = False) -> float:
    """Of the first weights of a dense layer in front of a `Sine`, so that every layer's sines look alike.

    Args:
        fan_in: features that the dense layer gets.
        omega: of the sine behind it.
        first: the dense layer gets the coordinates themselves.
    """
    return 1.0 / fan_in if first else (6.0 / fan_in) ** 0.5 / omega


@dataclass
class FourierFeatures(SimpleLayer, kind="fourier_features"):
    """``y = [cos(W x), sin(W x)]``, each as often as there are waves M: x (N, F), W (M, F), y (N, 2 M).

    Tancik et al. 2020: W = 2 pi B with B drawn from N(0, scale^2) once and for all. It is kept as statistics
    that nothing moves. dx = W^T (dy_sin cos(W x) - dy_cos sin(W x)).
    """

    waves: int
    scale: float = 1.0
    batch_first = True
    backward_reads_input = False

    def __post_init__(self) -> None:
        check_size("waves", self.waves)
        self.scale = check_number("scale", self.scale, 0.0, 1e6)

    @property
    def statistics(self) -> Mapping[str, float]:
        """The frequencies, which stay as they are."""
        return {"frequencies": 0.0}

    def output_shape(self, input_shape: Shape) -> Shape:
        """(2 waves,); expects features (F,)."""
        if len(input_shape) != 1:
            raise ShapeError(f"expected features, found {input_shape}: put a flatten layer in front")
        return (2 * self.waves,)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Frequencies (waves, F), in radians for each unit of x."""
        return {"frequencies": (self.waves, prod(input_shape))}

    def initialize(self, input_shape: Shape, rng: np.random.Generator) -> None:  # noqa: ARG002
        """2 pi times a normal distribution with the deviation ``scale``."""
        frequencies = self.params["frequencies"]
        frequencies[...] = rng.standard_normal(frequencies.shape) * (2.0 * pi * self.scale)

    def multiply_adds(self, input_shape: Shape) -> int:
        """Waves x F."""
        return self.waves * prod(input_shape)

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind one product, the cosine and the sine of it; backward the derivative and one product."""
        frequencies = self.params["frequencies"]
        waves, n = len(frequencies), x.value.shape[1]
        angle = site.take((waves, n), Moment.FORWARD)
        y = Buffer(site.take((2 * waves, n), Moment.FORWARD))
        cosine, sine = y.value[:waves], y.value[waves:]
        forward: list[Call] = [
            call(np.matmul, frequencies, x.value, out=angle),
            call(np.cos, angle, out=cosine),
            call(np.sin, angle, out=sine),
        ]
        if not site.training:
            return Bound(y, forward)
        y.grad = site.take(y.value.shape, Moment.WEIGHTS, Moment.INPUT)
        # what a step moves the statistics towards
        forward.append(call(np.copyto, site.gradients["frequencies"], frequencies))
        if not site.input_gradient:
            return Bound(y, forward)
        backward = self._bind_input_gradient(x, y, site)
        return Bound(y, forward, backward)

    def _bind_input_gradient(self, x: Buffer, y: Buffer, site: Site) -> list[Call]:
        assert x.grad is not None
        assert y.grad is not None
        waves = self.waves
        of_cosine, of_sine = y.grad[:waves], y.grad[waves:]
        slope: FloatArray = site.take((waves, x.value.shape[1]), Moment.INPUT)
        return [
            call(np.multiply, of_sine, y.value[:waves], out=of_sine),
            call(np.multiply, of_cosine, y.value[waves:], out=slope),
            call(np.subtract, of_sine, slope, out=slope),
            call(np.matmul, self.params["frequencies"].T, slope, out=x.grad),
        ]
