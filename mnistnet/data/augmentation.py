"""Augmentation: a training image is shifted, turned or bent anew every time that it is seen.

`Shift` copies. The others say where in the image each pixel of the result comes from, as a sum of a few basis
functions (H W pixels each) with random coefficients, so one matrix product finds the places for all pixels of
a shard. What lies between pixels is interpolated bilinearly; what comes from outside is 0.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from math import ceil, floor, isfinite, radians, sqrt
from typing import ClassVar, Self

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from mnistnet.engine.arrays import AnyArray, FloatArray, Shape
from mnistnet.engine.transform import BoundTransform, Transform
from mnistnet.errors import UsageError

_AFFINE_TERMS = 3  # 1, y and x
_STRONGEST = 5.0  # beyond it digits are no longer what they were
_GRID_STEP = 1.5  # of the smoothness: coarser grids show, finer ones only cost


class Augmentation(Transform):
    """A transform with a name on the command line; its init fields are its settings."""

    name: ClassVar[str]

    @classmethod
    def of_strength(cls, strength: float = 1.0) -> Self:
        """Of its kind, and ``strength`` times as strong as by default.

        Raises:
            UsageError: strength is not 0 to 5.
        """
        if not 0.0 <= strength <= _STRONGEST:
            raise UsageError(f"--augment-strength: must be 0 to {_STRONGEST:g}, found {strength}")
        return cls().times(strength)

    @abstractmethod
    def times(self, factor: float) -> Self:
        """The same with every limit multiplied by ``factor``."""


@dataclass(frozen=True)
class Shift(Augmentation):
    """By whole pixels, up and down, left and right: nothing is blurred.

    Raises:
        UsageError: pixels is not a whole number >= 0.
    """

    pixels: int = 2
    """The most, each way."""
    name = "shift"

    def __post_init__(self) -> None:
        if not isinstance(self.pixels, int) or self.pixels < 0:
            raise UsageError(f"--augment: pixels must be a whole number >= 0, found {self.pixels}")

    def times(self, factor: float) -> Self:
        """To the nearest whole pixel."""
        return replace(self, pixels=floor(factor * self.pixels + 0.5))

    def bind(self, n: int, shape: Shape) -> BoundTransform:
        """Prepare for shards of ``n`` images of ``shape`` (C, H, W), of any type."""
        channels, height, width = shape
        most = self.pixels
        every = np.arange(n)

        def shifted(images: AnyArray, rng: np.random.Generator) -> AnyArray:
            bordered = np.zeros((n, channels, height + 2 * most, width + 2 * most), images.dtype)
            bordered[:, :, most : most + height, most : most + width] = images
            windows = sliding_window_view(bordered, (height, width), axis=(2, 3))
            down, right = rng.integers(0, 2 * most, (2, n), endpoint=True)
            return windows[every, :, down, right]

        return shifted


@dataclass(frozen=True)
class Affine(Augmentation):
    """Shifted, slanted, made larger or smaller and turned, each by as much as chance says up to a limit.

    Raises:
        UsageError: a setting is out of range.
    """

    rotation: float = 10.0
    """Degrees either way, up to 180."""
    scale: float = 0.1
    """0.1 is from 0.9 to 1.1 times the size; at most 0.9."""
    shear: float = 0.1
    """Columns by which a row is displaced for each row from the middle."""
    shift: float = 0.07
    """Of the image's longer side: 2 pixels of 28."""
    name = "affine"

    def __post_init__(self) -> None:
        for setting, most in (("rotation", 180.0), ("scale", 0.9), ("shear", 10.0), ("shift", 1.0)):
            _check(setting, getattr(self, setting), 0.0, most)

    def times(self, factor: float) -> Self:
        """Rotation, scale, shear and shift."""
        return replace(
            self,
            rotation=factor * self.rotation,
            scale=factor * self.scale,
            shear=factor * self.shear,
            shift=factor * self.shift,
        )

    def draw(self, coefficients: FloatArray, side: int, rng: np.random.Generator) -> None:
        """Draw one shard's coefficients, of the map back from the result to the image.

        Args:
            coefficients: (2, n, B) of ``basis``, filled in; the sums are the y and the x of a place in pixels
                from the middle of the image.
            side: the longer side of the image in pixels.
            rng: the source of chance.
        """
        limits = np.array(
            [radians(self.rotation), self.scale, self.shear, self.shift * side, self.shift * side]
        )
        drawn = limits[:, np.newaxis] * rng.uniform(-1.0, 1.0, (5, coefficients.shape[1]))
        angle, growth, shear, down, right = drawn
        cosine, sine = np.cos(angle) / (1.0 + growth), np.sin(angle) / (1.0 + growth)
        to_y, to_x = coefficients[:, :, :_AFFINE_TERMS].transpose(0, 2, 1)
        to_y[...] = -down, cosine, sine
        to_x[...] = -right, -sine - shear * cosine, cosine - shear * sine

    def basis(self, height: int, width: int) -> FloatArray:
        """The basis functions (B, H W): 1, y and x, counted from the middle of the image."""
        y, x = np.mgrid[:height, :width].reshape(2, -1)
        return np.stack([np.ones(height * width), y - (height - 1) / 2, x - (width - 1) / 2])

    def bind(self, n: int, shape: Shape) -> BoundTransform:
        """Prepare for shards of ``n`` images of ``shape`` (C, H, W), uint8 or float32."""
        return _BoundWarp(self, n, shape)


@dataclass(frozen=True)
class Elastic(Affine):
    """Bent like rubber, and affine beside that (Simard, Steinkraus and Platt 2003).

    The displacements are uniform noise smoothed by a Gaussian, as in the paper. The noise is drawn not for
    every pixel but on a grid a little coarser than the Gaussian is wide: each of its points brings a Gaussian
    bump, scaled so that the displacement is equally strong everywhere.

    Raises:
        UsageError: a setting is out of range.
    """

    displacement: float = 0.03
    """Root mean square in y and in x, of the image's longer side: 0.84 pixels of 28; the paper has 1.4."""
    smoothness: float = 0.14
    """Standard deviation of the Gaussian, of the image's longer side: the paper's 4 pixels of 28."""
    name = "elastic"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check("displacement", self.displacement, 0.0, 1.0)
        _check("smoothness", self.smoothness, 0.05, 1.0)

    def times(self, factor: float) -> Self:
        """The affine part's limits and the displacement; its smoothness stays."""
        return replace(super().times(factor), displacement=factor * self.displacement)

    def draw(self, coefficients: FloatArray, side: int, rng: np.random.Generator) -> None:
        """The affine map, and noise for the grid's points."""
        super().draw(coefficients, side, rng)
        noise = coefficients[:, :, _AFFINE_TERMS:]
        np.subtract(rng.random(noise.shape, np.float32), np.float32(0.5), out=noise)

    def basis(self, height: int, width: int) -> FloatArray:
        """The affine functions, and a bump for each of the grid's points."""
        side = max(height, width)
        vertical, horizontal = (_bumps(length, self.smoothness * side) for length in (height, width))
        bumps = np.einsum("ay,bx->abyx", vertical, horizontal).reshape(-1, height * width)
        # uniform noise from -1/2 to 1/2 has a variance of 1/12
        return np.vstack([super().basis(height, width), sqrt(12.0) * self.displacement * side * bumps])


AUGMENTATIONS: dict[str, type[Augmentation]] = {kind.name: kind for kind in (Shift, Affine, Elastic)}
"""Every augmentation by name."""


def examples(augmentation: Augmentation, images: AnyArray, count: int, rng: np.random.Generator) -> AnyArray:
    """Images (N, C, H, W), each followed by ``count`` variations: (N, 1 + count, C, H, W)."""
    bound = augmentation.bind(len(images), images.shape[1:])
    return np.stack([images, *(bound(images, rng).copy() for _ in range(count))], axis=1)


class _BoundWarp:
    """A map of places with its buffers, for one shard size."""

    def __init__(self, warp: Affine, n: int, shape: Shape) -> None:
        channels, height, width = shape
        self._warp = warp
        self._side = max(height, width)
        self._middle = np.array([[(height - 1) / 2], [(width - 1) / 2]]) + 1.0  # in the bordered image
        self._basis = warp.basis(height, width).astype(np.float32)
        self._coefficients = np.empty((2, n, len(self._basis)), np.float32)
        # a border of zeros: what lies outside comes from there
        self._bordered = np.zeros((n, channels, height + 2, width + 2), np.float32)
        self._inside = self._bordered[:, :, 1:-1, 1:-1]
        self._places = np.empty((2, n, height * width), np.float32)
        self._corners = np.empty((4, n, height * width), np.float32)
        self._index = np.empty((n, height * width), np.intp)
        self._first = np.arange(n)[:, np.newaxis] * self._bordered[0].size  # index of an image's first pixel
        self._float_result = np.empty((n, *shape), np.float32)
        self._rows = self._float_result.reshape(n, channels, height * width)
        self._byte_result = np.empty((n, *shape), np.uint8)

    def __call__(self, images: AnyArray, rng: np.random.Generator) -> AnyArray:
        """The warped images, uint8 of uint8 and float32 of floats, valid until the next call."""
        self._draw_places(rng)
        np.copyto(self._inside, images)
        self._interpolate()
        if images.dtype != np.uint8:
            return self._float_result
        np.add(self._float_result, np.float32(0.5), out=self._float_result)
        np.copyto(self._byte_result, self._float_result, casting="unsafe")
        return self._byte_result

    def _draw_places(self, rng: np.random.Generator) -> None:
        """Where the pixels come from: y and x in the bordered image, never beyond its border."""
        coefficients = self._coefficients
        self._warp.draw(coefficients, self._side, rng)
        coefficients[:, :, 0] += self._middle
        np.matmul(coefficients, self._basis, out=self._places)
        for places, size in zip(self._places, self._bordered.shape[2:], strict=True):
            np.clip(places, 0.0, size - 1.0, out=places)

    def _interpolate(self) -> None:
        """Bilinear, between the four pixels around every place; the places are used up."""
        y, x = self._places
        a, b, c, d = self._corners
        rows, columns = whole = np.floor(self._places, out=self._corners[:2])
        np.subtract(self._places, whole, out=self._places)
        _, channels, height, width = self._bordered.shape
        np.multiply(rows, np.float32(width), out=rows)
        np.add(rows, columns, out=self._index, casting="unsafe")
        np.add(self._index, self._first, out=self._index)
        flat = self._bordered.ravel()
        for channel in range(channels):
            start = channel * height * width
            for corner, offset in zip(self._corners, (0, 1, width, width + 1), strict=True):
                # past the end, and past a row's end, is only what counts for nothing
                np.take(flat[start + offset :], self._index, out=corner, mode="clip")
            _mix(a, b, x)
            _mix(c, d, x)
            _mix(a, c, y)
            self._rows[:, channel] = a


def _mix(first: FloatArray, second: FloatArray, share: FloatArray) -> None:
    """``first`` becomes what lies at ``share`` of the way to ``second``, which is used up."""
    np.subtract(second, first, out=second)
    np.multiply(second, share, out=second)
    np.add(first, second, out=first)


def _bumps(length: int, width: float) -> FloatArray:
    """Gaussians (B, length) of standard deviation ``width``; the sum of their squares is 1 everywhere."""
    count = ceil((length - 1) / (_GRID_STEP * width)) + 1
    centres = np.linspace(0.0, length - 1, count)
    bumps = np.exp(-0.5 * ((np.arange(length) - centres[:, np.newaxis]) / width) ** 2)
    bumps /= np.sqrt((bumps**2).sum(axis=0))
    return bumps


def _check(setting: str, value: float, least: float, most: float) -> None:
    if not (isfinite(value) and least <= value <= most):
        raise UsageError(f"--augment: {setting} must be {least:g} to {most:g}, found {value}")
