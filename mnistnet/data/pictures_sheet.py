"""A contact sheet: many small images on one picture."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

_GAP = 4  # pixels between images
_GROUND = 96  # grey, neither an image's background nor its ink
_MIN_SIDE = 64  # pixels that an image is enlarged to, if it is smaller


def contact_sheet(images: npt.NDArray[np.uint8]) -> bytes:
    """A PNG of images in rows and columns, small ones enlarged by a whole factor.

    Args:
        images: uint8 (rows, columns, C, H, W); 3 channels are shown in colour, else the first one in grey.
    """
    from PIL import Image

    rows, columns, channels, height, width = images.shape
    shown = images if channels == 3 else images[:, :, :1]
    factor = -(-_MIN_SIDE // max(height, width))
    large = shown.repeat(factor, axis=3).repeat(factor, axis=4)
    margins = [(0, 0)] * 3 + [(_GAP, 0)] * 2
    tiles = np.pad(large, margins, constant_values=_GROUND).transpose(0, 3, 1, 4, 2)
    sheet = tiles.reshape(rows * tiles.shape[1], columns * tiles.shape[3], -1)
    framed = np.pad(sheet, [(0, _GAP), (0, _GAP), (0, 0)], constant_values=_GROUND)
    file = io.BytesIO()
    Image.fromarray(framed.squeeze(axis=2) if channels != 3 else framed).save(file, "PNG", optimize=True)
    return file.getvalue()
