"""The light on the paper, and the ink that departs from it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from mnistnet.data.pictures.planes import Plane, border, coarse, fitted, resize, sliding

_POLARITY_SIDE = 32  # a grid on which a median around every pixel costs little
_AROUND = 0.5  # of the longer side: the square that "around" means
_STROKE_SHARE = 0.4  # no stroke, nor where two cross, is wider than this part of a picture's longer side
_MAD_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation, of a normal distribution


def ink_on_dark(grey: Plane) -> tuple[Plane, bool]:
    """Bright ink on a ground of 0, whichever way round it was drawn and however the light falls.

    Ink is what departs from the light on the paper (`estimate_light`), to the side that `is_dark_on_light`
    says. Departures too wide for a stroke, such as a shadow's, are ground as well.

    Returns:
        The ink, float32 (H, W), 0 to 255, not stretched; and whether it was darker than the ground.
    """
    inverted = is_dark_on_light(grey)
    departure = grey - estimate_light(grey)
    bright = -departure if inverted else departure
    ink = bright - wide_parts(bright)
    # an opening runs along the bottom of the grain; the ground is the middle of it
    return np.clip(ink - np.median(ink), 0.0, 255.0), inverted


def is_dark_on_light(grey: Plane) -> bool:
    """Whether ink is darker than its ground: by how pixels depart from the median around them.

    Around most pixels there is more ground than ink, and that on either side of a shadow's edge.
    """
    grid = resize(grey, fitted(grey.shape, _POLARITY_SIDE))
    width = 2 * round(_AROUND / 2 * max(grid.shape)) + 1
    padded = np.pad(grid, width // 2, "reflect" if min(grid.shape) > width // 2 else "edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width))
    departure = grid.astype(np.float64) - np.median(windows, axis=(2, 3))
    # the third moment: its sign is that of the few large departures, not of the many small ones
    return bool(np.sum(departure**3) < 0.0)


def wide_parts(plane: Plane) -> Plane:
    """What is bright over a square wider than any stroke: a morphological opening, on a coarse grid."""
    grid = coarse(plane)
    width = 2 * round(_STROKE_SHARE / 2 * max(grid.shape)) + 1
    lowest = sliding(np.minimum, grid, width)
    return resize(sliding(np.maximum, lowest, width), plane.shape)


def estimate_light(grey: Plane) -> Plane:
    """The light on the paper, without the ink: a quadratic surface, for it changes slowly.

    A trimmed least-squares fit: it starts at the border's median and goes on with the pixels near the last
    surface, "near" being measured by the median departure, until ink has no part in it.

    Returns:
        float32 (H, W), 0 to 255.
    """
    grid = coarse(grey)
    values = grid.ravel().astype(np.float64)
    terms = _quadratic(grid.shape)
    coefficients: npt.NDArray[np.floating[Any]] = np.zeros(terms.shape[1])
    coefficients[0] = np.median(border(grid))
    for _ in range(10):
        distance = np.abs(values - terms @ coefficients)
        near = distance <= max(2.5 * _MAD_TO_SIGMA * float(np.median(distance)), 4.0)
        coefficients = np.linalg.lstsq(terms[near], values[near], rcond=None)[0]
    light = (_quadratic(grey.shape) @ coefficients).reshape(grey.shape)
    return np.clip(light, 0.0, 255.0).astype(np.float32)


def _quadratic(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """The terms 1, x, y, xx, xy, yy at every pixel, (H*W, 6), x and y from -1 to 1."""
    y, x = np.meshgrid(np.linspace(-1.0, 1.0, shape[0]), np.linspace(-1.0, 1.0, shape[1]), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)
