"""What the steps share: a grey picture in floating point, and how it is resized and filtered."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Plane = npt.NDArray[np.float32]
"""float32 (H, W), 0 to 255."""

MOSTLY_LIGHT = 0.9
"""Share of a dataset's images with a light ground that is no accident; Fashion-MNIST has one in 60,000."""

_GRID_SIDE = 64  # fine enough for the light, coarse enough to average the grain away


def border(grey: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The outermost pixels of (..., H, W), in one row: (..., P)."""
    top, bottom = grey[..., 0, :], grey[..., -1, :]
    return np.concatenate([top, bottom, grey[..., 1:-1, 0], grey[..., 1:-1, -1]], axis=-1)


def has_light_ground(grey: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which pictures (..., H, W), 0 to 255, have a border that is bright, and brighter than the picture.

    Both: a garment may touch a dark border, a bright border may belong to a bright subject.
    """
    edges = np.median(border(grey), axis=-1)
    return np.asarray((edges >= 128) & (edges > grey.mean(axis=(-2, -1))))


def coarse(plane: Plane) -> Plane:
    """The picture on a coarse grid, for what changes slowly."""
    return resize(plane, fitted(plane.shape, _GRID_SIDE)) if max(plane.shape) > _GRID_SIDE else plane


def fitted(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """The (height, width) of a picture of this shape once its longer side is ``side``."""
    scale = side / max(shape)
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)


def sliding(extreme: np.ufunc, plane: Plane, width: int) -> Plane:
    """The minimum or maximum over the square of ``width`` (odd) around every pixel."""
    for axis in (0, 1):
        radius = [(width // 2, width // 2) if each == axis else (0, 0) for each in (0, 1)]
        padded = np.pad(plane, radius, "edge")
        plane = extreme.reduce(np.lib.stride_tricks.sliding_window_view(padded, width, axis), axis=-1)
    return plane


def resize(plane: Plane, size: tuple[int, ...]) -> Plane:
    """The picture brought to ``size`` (H, W), smoothed."""
    from PIL import Image

    # Pillow's filters grow with the factor, so that scaling down averages instead of skipping
    image = Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)


def blur(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur, as far as three sigma, the border repeated."""
    radius = max(round(3.0 * sigma), 1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        width = [(radius, radius) if each == axis else (0, 0) for each in (0, 1)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(plane, width, "edge"), kernel.size, axis)
        plane = windows @ kernel
    return plane
