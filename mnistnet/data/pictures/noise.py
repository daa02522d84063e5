"""Ink parted from grain, specks, and what is no digit."""

from __future__ import annotations

import numpy as np

from mnistnet.data.pictures.parts import connected_parts
from mnistnet.data.pictures.planes import Plane, blur, border
from mnistnet.errors import PictureError

MIN_CONTRAST = 20.0  # of 255; blank paper in uneven light reaches 12
_MIN_SIGNAL = 2.5  # ink by grain; pure grain reaches 1.2
_BLUR = 0.004  # of the longer side: some 2 pixels of 512, where a digit's strokes have 10 and more
_MIN_BLUR = 0.7  # pixels
_FLOOR = 0.1  # of the ink's brightness: JPEG's ringing lies below
_CEILING = 0.95  # of the ink's brightness: half of it lies above
_SPECK = 0.04  # of the largest part's mass; the bar of a 5 has more


def remove_noise(ink: Plane) -> Plane:
    """Ink stretched to 255 on a ground of exactly 0, without grain and specks.

    Args:
        ink: float32 (H, W), bright on a ground near 0.

    Returns:
        float32 (H, W), 0 to 255.

    Raises:
        PictureError: nothing stands out: the picture is blank.
    """
    level, grain = _ink_and_grain(ink)
    if grain > 1.0:
        # only then: a drawn picture keeps its edges, a photo's are softer than this anyway
        ink = blur(ink, max(_BLUR * max(ink.shape), _MIN_BLUR))
        level, grain = _ink_and_grain(ink)
    if level < max(MIN_CONTRAST, _MIN_SIGNAL * grain):
        raise blank()
    floor = min(max(_FLOOR * level, 3.0 * grain), 0.5 * level)
    clean = np.clip((ink - floor) * (255.0 / max(_CEILING * level - floor, 1.0)), 0.0, 255.0)
    return _drop_specks(clean)


class BlankPictureError(PictureError):
    """There is nothing on the picture."""


def blank() -> BlankPictureError:
    """The error of a picture on which nothing stands out."""
    return BlankPictureError("no digit found: the picture is blank")


def _drop_specks(ink: Plane) -> Plane:
    """Without parts that are tiny beside the largest, and without what comes in from the border."""
    parts = connected_parts(ink > 0.0)
    mass = np.bincount(parts.ravel(), ink.ravel())
    mass[0] = 0.0
    inner = mass.copy()
    inner[border(parts)] = 0.0
    # a table's edge or a shadow may be larger than the digit; a digit drawn to the border stands alone
    if inner.max() >= 0.1 * mass.max():
        mass = inner
    return np.where((mass >= _SPECK * mass.max())[parts] & (parts > 0), ink, np.float32(0.0))


def _ink_and_grain(ink: Plane) -> tuple[float, float]:
    """How bright ink typically is, and the standard deviation of the grain on the ground."""
    threshold = otsu(ink)
    level = float(np.median(ink[ink > threshold])) if (ink > threshold).any() else 0.0
    # grain was cut off below 0, which leaves its upper half: its third quartile is at 0.6745 sigma
    grain = float(np.percentile(ink[ink <= threshold], 75.0)) / 0.6745
    return level, grain


def otsu(plane: Plane) -> float:
    """The threshold that parts values 0 to 255 best into two classes (Otsu 1979)."""
    counts = np.histogram(plane, bins=256, range=(0.0, 256.0))[0].astype(np.float64)
    values = np.arange(256) + 0.5
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * values)
    mean_below = mass / np.maximum(below, 1.0)
    mean_above = (mass[-1] - mass) / np.maximum(above, 1.0)
    return float(np.argmax(below * above * (mean_above - mean_below) ** 2)) + 1.0
