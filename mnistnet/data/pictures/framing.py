"""A digit cropped, scaled and centred as MNIST's own were."""

from __future__ import annotations

import numpy as np

from mnistnet.data.pictures.noise import blank
from mnistnet.data.pictures.planes import Plane, resize, sliding

_EDGE = 0.25  # of 255: where a soft edge begins to count as ink
_THIN = 1.5  # pixels in MNIST's size; its own strokes have 2 to 3
_BRIGHT = 75.0  # percentile of a drawn digit's pixels that is white, 61 to 100 in MNIST


def crop_to_ink(ink: Plane) -> Plane:
    """The bounding box of what is clearly ink.

    Raises:
        PictureError: there is no ink.
    """
    mask = ink > _EDGE * 255.0
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise blank()
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def thicken_strokes(ink: Plane, box: tuple[int, int]) -> Plane:
    """Widen strokes that would be thinner than MNIST's thinnest once the digit is scaled to ``box``.

    MNIST was written with thick pens; a ballpoint's line scaled down to a third of a pixel is only a shadow.

    Args:
        ink: float32 (H, W), cropped to the digit.
        box: (height, width) that the digit will be scaled to.
    """
    scale = min(box[0] / ink.shape[0], box[1] / ink.shape[1])
    grow = round((_THIN / scale - stroke_width(ink)) / 2)
    return sliding(np.maximum, np.pad(ink, grow), 2 * grow + 1) if grow > 0 else ink


def stroke_width(ink: Plane) -> float:
    """The mean width of the strokes in pixels: twice their area by the length of their outline."""
    padded = np.pad(ink.astype(np.float64), 1)
    down, right = np.diff(padded, axis=0)[:, :-1], np.diff(padded, axis=1)[:-1]
    return 2.0 * float(ink.sum(dtype=np.float64)) / max(float(np.hypot(down, right).sum()), 1e-9)


def box_for(size: tuple[int, int]) -> tuple[int, int]:
    """The box that digits fill on a picture of ``size``: 20x20 on 28x28."""
    return max(round(size[0] * 20 / 28), 1), max(round(size[1] * 20 / 28), 1)


def scale_to_box(ink: Plane, box: tuple[int, int]) -> Plane:
    """Scale so that the digit just fits into ``box``, smoothed, aspect kept, the ink bright again.

    Returns:
        float32 (h, w), 0 to 255, ``h <= box[0]`` and ``w <= box[1]``, one of them equal.
    """
    h, w = ink.shape
    scale = min(box[0] / h, box[1] / w)
    scaled = np.maximum(resize(ink, (max(round(h * scale), 1), max(round(w * scale), 1))), 0.0)
    drawn = scaled[scaled > 16.0]
    # strokes that are narrower than a pixel come out grey: MNIST's are white in the middle
    bright = float(np.percentile(drawn, _BRIGHT)) if drawn.size else 255.0
    return np.clip(scaled * (255.0 / bright), 0.0, 255.0)


def centre_by_mass(ink: Plane, size: tuple[int, int]) -> Plane:
    """Paste on a ground of 0, shifted by whole pixels so that the centre of mass sits in the middle.

    The middle is (H / 2, W / 2) in pixel indices: (14, 14) on 28x28. Nothing is cut off for that.

    Args:
        ink: float32 (h, w), no larger than ``size``.
        size: (H, W) of the result.
    """
    canvas = np.zeros(size, np.float32)
    total = max(float(ink.sum(dtype=np.float64)), 1e-9)
    corner = []
    for axis, (full, side) in enumerate(zip(size, ink.shape, strict=True)):
        weights = ink.sum(axis=1 - axis, dtype=np.float64)
        centre = float(weights @ np.arange(side)) / total
        corner.append(min(max(round(full / 2 - centre), 0), full - side))
    top, left = corner
    canvas[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    return canvas
