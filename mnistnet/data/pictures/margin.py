"""A margin for pictures that were cropped to the ink: the steps after this one need to see the paper."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mnistnet.data.pictures.noise import otsu
from mnistnet.data.pictures.planes import Plane, blur, coarse, sliding

_WIDEST = 0.4  # of the longer side: no stroke is wider, shadows and tables are
_REACH = 0.06  # of the picture's height and width: how near to a side ink touches it
_LEAST_CONTRAST = 15.0  # of 255, between ink and paper
_TWO_KINDS = 0.8  # of the variance; even a steady change from dark to bright reaches 0.75
_SMOOTH = 1.0  # pixels of the coarse picture
_ENOUGH = 16  # pixels, to lay a plane through
_MARGIN = 0.25  # of the longer side


def add_margin(grey: Plane) -> Plane:
    """A picture with paper around it, where its ink runs into all four sides; else as it is.

    Ink is the darker or the brighter part, whichever is nowhere wide; where neither is, the corners decide,
    which a digit seldom fills, and in doubt paper is light. The margin goes on with the light on the paper.

    Args:
        grey: float32 (H, W), 0 to 255.
    """
    grid = blur(coarse(grey), _SMOOTH)
    bright = grid > otsu(grid)
    if not bright.any() or bright.all():
        return grey
    contrast = float(grid[bright].mean() - grid[~bright].mean())
    share = float(bright.mean())
    # the variance between two kinds of pixels: nearly all of it, unless the light itself changes
    explained = share * (1.0 - share) * contrast**2 / float(grid.var())
    if contrast < _LEAST_CONTRAST or explained < _TWO_KINDS:
        return grey
    paper = _paper(bright)
    if paper is None or not _reaches_every_side(~paper):
        return grey
    return _surrounded(grey, grid, paper)


def _reaches_every_side(ink: npt.NDArray[np.bool_]) -> bool:
    h, w = (max(round(_REACH * side), 1) for side in ink.shape)
    return all(strip.any() for strip in (ink[:h], ink[-h:], ink[:, :w], ink[:, -w:]))


def _paper(bright: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_] | None:
    """The part of the coarse picture that is paper; None where both parts are too wide to be ink."""
    possible = [paper for paper in (bright, ~bright) if not _is_wide(~paper)]
    if len(possible) < 2:
        return possible[0] if possible else None
    h, w = (max(side // 8, 1) for side in bright.shape)
    corners = [bright[:h, :w], bright[:h, -w:], bright[-h:, :w], bright[-h:, -w:]]
    return bright if np.mean([corner.mean() for corner in corners]) >= 0.5 else ~bright


def _is_wide(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether a square larger than any stroke fits into the mask."""
    width = 2 * round(_WIDEST / 2 * max(mask.shape)) + 1
    # what lies beyond the border is no part of it
    padded = np.pad(mask.astype(np.float32), width // 2)
    return bool(sliding(np.minimum, padded, width).max() > 0)


def _surrounded(grey: Plane, grid: Plane, paper: npt.NDArray[np.bool_]) -> Plane:
    """The picture on a larger one that goes on with the light on the paper: a plane through it."""
    h, w = grey.shape
    # away from the soft edges of the ink, where there is room
    inner = sliding(np.minimum, paper.astype(np.float32), 3) > 0
    paper = inner if np.count_nonzero(inner) >= _ENOUGH else paper
    y, x = np.nonzero(paper)
    scale = h / grid.shape[0], w / grid.shape[1]
    terms = np.column_stack([np.ones(y.size), (y + 0.5) * scale[0], (x + 0.5) * scale[1]])
    level, down, right = np.linalg.lstsq(terms, grid[paper].astype(np.float64), rcond=None)[0]
    margin = max(round(_MARGIN * max(h, w)), 1)
    rows, columns = np.ogrid[-margin : h + margin, -margin : w + margin]
    surrounded: Plane = np.clip(level + down * rows + right * columns, 0.0, 255.0).astype(np.float32)
    surrounded[margin : margin + h, margin : margin + w] = grey
    return surrounded
