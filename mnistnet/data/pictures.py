"""A person's picture, brought to the form that a model was trained on.

A picture of exactly the model's size is taken as it is, apart from becoming greyscale and bright on dark.
Any other picture for a greyscale model goes through the pipeline of MNIST itself (LeCun et al. 1998,
"Gradient-based learning applied to document recognition", section III.A), one small pure function a step:

    greyscale -> `ink_on_dark` -> `remove_noise` -> `crop_to_ink` -> `thicken_strokes` -> `scale_to_box`
              -> `centre_by_mass`

Between these steps a picture is float32 (H, W), 0 = background, 255 = ink.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from mnistnet.errors import PictureError
from mnistnet.files import regular_file

if TYPE_CHECKING:
    from PIL import Image

Plane = npt.NDArray[np.float32]
"""float32 (H, W), 0 to 255."""

FORMATS = ("PNG", "JPEG", "PPM", "BMP", "GIF", "WEBP")
"""The picture formats that are read, as Pillow names them; PPM stands for PBM, PGM and PPM."""
MAX_PIXELS = 50_000_000
"""Larger pictures are refused by their header, before anything is decoded."""

_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
_MAX_BYTES = 8 * MAX_PIXELS  # uncompressed 16-bit colour takes 6 bytes a pixel

# The pipeline's numbers, chosen on redrawn MNIST test digits; none of them is delicate.
_WORKING_SIDE = 512  # in such a picture a digit of a tenth of its side still has strokes wider than a pixel
_GRID_SIDE = 64  # fine enough for the light, coarse enough to average the grain away
_STROKE_SHARE = 0.4  # no stroke, nor where two cross, is wider than this part of a picture's longer side
_MIN_CONTRAST = 20.0  # of 255; blank paper in uneven light reaches 12
_MIN_SIGNAL = 2.5  # ink by grain; pure grain reaches 1.2
_BLUR = 0.004  # of the longer side: some 2 pixels of 512, where a digit's strokes have 10 and more
_MIN_BLUR = 0.7  # pixels
_FLOOR = 0.1  # of the ink's brightness: JPEG's ringing lies below
_CEILING = 0.95  # of the ink's brightness: half of it lies above
_EDGE = 0.25  # of 255: where a soft edge begins to count as ink
_SPECK = 0.04  # of the largest part's mass; the bar of a 5 has more
_THIN = 1.5  # pixels in MNIST's size; its own strokes have 2 to 3
_BRIGHT = 75.0  # percentile of a drawn digit's pixels that is white, 61 to 100 in MNIST
_MAD_TO_SIGMA = 1.4826  # median absolute deviation to standard deviation, of a normal distribution


@dataclass(frozen=True, eq=False)
class Picture:
    """What the model gets to see, and what was done to the picture for that."""

    pixels: npt.NDArray[np.uint8]
    """uint8 (C, H, W), 0 = background."""
    notes: tuple[str, ...]
    """What was done, in plain words, in order; empty when the picture was taken as it is."""


def read_picture(source: Path | bytes, shape: tuple[int, int, int], *, name: str) -> Picture:
    """Read one picture and bring it to a model's input shape.

    Args:
        source: a picture file, or its content. Files named ``.bin`` and content that no picture format
            claims are C*H*W raw bytes, row by row, 0 = background.
        shape: (C, H, W) of the model.
        name: what messages call the picture.

    Raises:
        PictureError: unreadable, empty, of an unknown format, too large, damaged, or blank.
    """
    if isinstance(source, bytes):
        content, raw = source, False
    else:
        content, raw = _content(source), source.suffix.lower() == ".bin"
    try:
        return _picture(content, shape, raw=raw)
    except PictureError as error:
        raise error.at(name) from error


def _content(path: Path) -> bytes:
    with regular_file(path, PictureError) as (file, size):
        if size > _MAX_BYTES:
            raise PictureError(f"{path}: {size} bytes exceed the limit of {_MAX_BYTES} bytes for a picture")
        return file.read()


def _picture(content: bytes, shape: tuple[int, int, int], *, raw: bool) -> Picture:
    if not content:
        raise PictureError("no data")
    c, h, w = shape
    notes: list[str] = []
    image = None if raw else _decode(content, shape, notes)
    if image is None:
        pixels = _raw_pixels(content, shape, raw=raw)
        if c == 1:
            _check_not_blank(pixels[0])
        return Picture(pixels, ())
    if c == 3:
        return Picture(_colour(image, (h, w), notes), tuple(notes))
    if c != 1:
        raise PictureError(f"pictures have 1 or 3 channels, the model expects {c}: use a .bin file")
    grey = _grey(image)
    pixels = _as_it_is(grey, notes) if grey.shape == (h, w) else digit_from(grey, (h, w), notes)
    return Picture(np.ascontiguousarray(pixels[np.newaxis]), tuple(notes))


def _raw_pixels(content: bytes, shape: tuple[int, int, int], *, raw: bool) -> npt.NDArray[np.uint8]:
    c, h, w = shape
    expected = c * h * w
    by = f"{h}x{w}" if c == 1 else f"{c}x{h}x{w}"
    if len(content) != expected:
        if not raw and content.startswith(_MAGIC):
            raise PictureError("cannot decode the picture: its header is damaged")
        other = "" if raw else "a picture (PNG, JPEG, PBM, PGM, PPM, BMP, GIF, WebP) or "
        raise PictureError(f"expected {other}{expected} bytes ({by}), found {len(content)}")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


# --- decoding ---------------------------------------------------------------------------------------------


def _decode(content: bytes, shape: tuple[int, int, int], notes: list[str]) -> Image.Image | None:
    """The upright, opaque picture in mode L, RGB, I or I;16; None if no picture format claims it."""
    from PIL import Image, ImageOps, UnidentifiedImageError

    with _decoder_errors():
        try:
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            return None
        w, h = image.size
        if w * h > MAX_PIXELS:
            raise PictureError(f"{w}x{h} pixels exceed the limit of {MAX_PIXELS} pixels: make it smaller")
        # a photo's JPEG decoder can skip what would be averaged away; it never goes below the size asked for
        side = max(_WORKING_SIDE, 2 * max(shape[1:]))
        if image.format == "JPEG":
            image.draft(None, (side, side))
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright is not image and upright.getexif() != image.getexif():
            notes.append("rotated as its EXIF data says")
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
            notes.append("transparent parts filled with white")
        if upright.mode.startswith("I") or upright.mode in ("L", "RGB"):
            return upright
        return upright.convert("L" if upright.mode == "1" else "RGB")


@contextmanager
def _decoder_errors() -> Iterator[None]:
    """Turn whatever Pillow raises on damaged or hostile content into PictureError, and hush its warnings."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PictureError:
        raise
    except Image.DecompressionBombError as error:
        raise PictureError(f"its pixels exceed the limit of {MAX_PIXELS} pixels: make it smaller") from error
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error and more
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PictureError(f"cannot decode the picture: {reason}") from error


def _grey(image: Image.Image) -> npt.NDArray[np.uint8]:
    """uint8 (H, W); 16 bits are scaled, not clipped."""
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.float64)
        return np.rint(np.clip(wide / 257.0, 0.0, 255.0)).astype(np.uint8)
    return np.array(image.convert("L"), np.uint8)


def _colour(image: Image.Image, size: tuple[int, int], notes: list[str]) -> npt.NDArray[np.uint8]:
    """uint8 (3, H, W), resized when the picture has another size."""
    from PIL import Image

    h, w = size
    rgb = Image.fromarray(_grey(image)).convert("RGB") if image.mode.startswith("I") else image.convert("RGB")
    if rgb.size != (w, h):
        notes.append(f"resized from {rgb.width}x{rgb.height} to {w}x{h}")
        rgb = rgb.resize((w, h), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))


# --- a picture of the model's own size --------------------------------------------------------------------


def _as_it_is(grey: npt.NDArray[np.uint8], notes: list[str]) -> npt.NDArray[np.uint8]:
    _check_not_blank(grey)
    border = float(np.median(_border(grey)))
    # both: a garment may touch a dark border, a bright border may belong to a bright subject
    if border >= 128 and border > grey.mean():
        notes.append("inverted: dark ink on a light ground")
        return 255 - grey
    return grey


def _check_not_blank(grey: npt.NDArray[np.uint8]) -> None:
    if int(grey.max()) - int(grey.min()) < _MIN_CONTRAST:
        raise _blank()


def _blank() -> PictureError:
    return PictureError("no digit found: the picture is blank")


def _border(grey: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.concatenate([grey[0], grey[-1], grey[1:-1, 0], grey[1:-1, -1]])


# --- a picture of any size --------------------------------------------------------------------------------


def digit_from(grey: npt.NDArray[np.uint8], size: tuple[int, int], notes: list[str]) -> npt.NDArray[np.uint8]:
    """MNIST's pipeline: the digit on a picture of any size, as uint8 (H, W) of ``size``.

    Raises:
        PictureError: nothing on the picture stands out from its ground.
    """
    ink, inverted = ink_on_dark(_working_size(grey))
    if inverted:
        notes.append("inverted: dark ink on a light ground")
    digit = crop_to_ink(remove_noise(ink))
    box = box_for(size)
    boxed = scale_to_box(thicken_strokes(digit, box), box)
    notes.append(f"digit found, scaled to {boxed.shape[1]}x{boxed.shape[0]} pixels and centred by its mass")
    return np.rint(centre_by_mass(boxed, size)).astype(np.uint8)


def ink_on_dark(grey: Plane) -> tuple[Plane, bool]:
    """Bright ink on a ground of 0, whichever way round it was drawn and however the light falls.

    Ink is what departs from the light on the paper (`estimate_light`), to the side where the departures are
    larger. Departures too wide for a stroke, such as a shadow's, are ground as well.

    Returns:
        The ink, float32 (H, W), 0 to 255, not stretched; and whether it was darker than the ground.
    """
    departure = grey - estimate_light(grey)
    # the third moment: its sign is that of the few large departures, not of the many small ones
    inverted = bool(np.sum(departure.astype(np.float64) ** 3) < 0.0)
    bright = -departure if inverted else departure
    ink = bright - wide_parts(bright)
    # an opening runs along the bottom of the grain; the ground is the middle of it
    return np.clip(ink - np.median(ink), 0.0, 255.0), inverted


def wide_parts(plane: Plane) -> Plane:
    """What is bright over a square wider than any stroke: a morphological opening, on a coarse grid."""
    grid = _grid(plane)
    width = 2 * round(_STROKE_SHARE / 2 * max(grid.shape)) + 1
    lowest = _sliding(np.minimum, grid, width)
    return _resize(_sliding(np.maximum, lowest, width), plane.shape)


def estimate_light(grey: Plane) -> Plane:
    """The light on the paper, without the ink: a quadratic surface, for it changes slowly.

    A trimmed least-squares fit: it starts at the border's median and goes on with the pixels near the last
    surface, "near" being measured by the median departure, until ink has no part in it.

    Returns:
        float32 (H, W), 0 to 255.
    """
    grid = _grid(grey)
    values = grid.ravel().astype(np.float64)
    terms = _quadratic(grid.shape)
    coefficients: npt.NDArray[np.floating[Any]] = np.zeros(terms.shape[1])
    coefficients[0] = np.median(_border(grid))
    for _ in range(10):
        distance = np.abs(values - terms @ coefficients)
        near = distance <= max(2.5 * _MAD_TO_SIGMA * float(np.median(distance)), 4.0)
        coefficients = np.linalg.lstsq(terms[near], values[near], rcond=None)[0]
    light = (_quadratic(grey.shape) @ coefficients).reshape(grey.shape)
    return np.clip(light, 0.0, 255.0).astype(np.float32)


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
        ink = _blur(ink, max(_BLUR * max(ink.shape), _MIN_BLUR))
        level, grain = _ink_and_grain(ink)
    if level < max(_MIN_CONTRAST, _MIN_SIGNAL * grain):
        raise _blank()
    floor = min(max(_FLOOR * level, 3.0 * grain), 0.5 * level)
    clean = np.clip((ink - floor) * (255.0 / max(_CEILING * level - floor, 1.0)), 0.0, 255.0)
    return _drop_specks(clean)


def crop_to_ink(ink: Plane) -> Plane:
    """The bounding box of what is clearly ink.

    Raises:
        PictureError: there is no ink.
    """
    mask = ink > _EDGE * 255.0
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        raise _blank()
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
    return _sliding(np.maximum, np.pad(ink, grow), 2 * grow + 1) if grow > 0 else ink


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
    scaled = np.maximum(_resize(ink, (max(round(h * scale), 1), max(round(w * scale), 1))), 0.0)
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


def connected_parts(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Number the parts of a mask that hang together, diagonals included.

    Returns:
        intp (H, W): 0 outside the mask, then 1, 2, … in reading order.
    """
    h, w = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1).ravel()
    # runs of True in a row, as [start, stop) in the flat picture with one column more
    start, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    parent = np.arange(start.size)
    # a run touches those of the next row that begin no later than it ends and end no sooner than it begins
    first = np.searchsorted(stop, start + (w + 1), side="left")
    last = np.searchsorted(start, stop + (w + 1), side="right")
    count = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(start.size), count)
    lower = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    while True:
        low = np.minimum(parent[upper], parent[lower])
        before = parent.copy()
        np.minimum.at(parent, parent[upper], low)
        np.minimum.at(parent, parent[lower], low)
        parent = parent[parent]
        if np.array_equal(parent, before):
            break
    numbers = np.unique(parent, return_inverse=True)[1] + 1
    steps = np.zeros(h * (w + 1) + 1, np.intp)
    steps[start] += numbers
    steps[stop] -= numbers
    return np.cumsum(steps[:-1]).reshape(h, w + 1)[:, :w]


# --- helpers of the steps ---------------------------------------------------------------------------------


def _drop_specks(ink: Plane) -> Plane:
    """Without parts that are tiny beside the largest, and without what comes in from the border."""
    parts = connected_parts(ink > 0.0)
    mass = np.bincount(parts.ravel(), ink.ravel())
    mass[0] = 0.0
    inner = mass.copy()
    inner[_border(parts)] = 0.0
    # a table's edge or a shadow may be larger than the digit; a digit drawn to the border stands alone
    if inner.max() >= 0.1 * mass.max():
        mass = inner
    return np.where((mass >= _SPECK * mass.max())[parts] & (parts > 0), ink, np.float32(0.0))


def _working_size(grey: npt.NDArray[np.uint8]) -> Plane:
    """float32, averaged down by a whole factor when larger than the pipeline needs."""
    from PIL import Image

    factor = -(-max(grey.shape) // _WORKING_SIDE)
    image = Image.fromarray(grey)
    return np.asarray(image.reduce(factor) if factor > 1 else image, np.float32)


def _fit(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    scale = side / max(shape)
    return max(round(shape[0] * scale), 1), max(round(shape[1] * scale), 1)


def _grid(plane: Plane) -> Plane:
    return _resize(plane, _fit(plane.shape, _GRID_SIDE)) if max(plane.shape) > _GRID_SIDE else plane


def _sliding(extreme: np.ufunc, plane: Plane, width: int) -> Plane:
    """The minimum or maximum over the square of ``width`` (odd) around every pixel."""
    for axis in (0, 1):
        radius = [(width // 2, width // 2) if each == axis else (0, 0) for each in (0, 1)]
        padded = np.pad(plane, radius, "edge")
        plane = extreme.reduce(np.lib.stride_tricks.sliding_window_view(padded, width, axis), axis=-1)
    return plane


def _resize(plane: Plane, size: tuple[int, ...]) -> Plane:
    from PIL import Image

    # Pillow's filters grow with the factor, so that scaling down averages instead of skipping
    image = Image.fromarray(plane).resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32)


def _blur(plane: Plane, sigma: float) -> Plane:
    """Gaussian blur, as far as three sigma, the border repeated."""
    radius = max(round(3.0 * sigma), 1)
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2).astype(np.float32)
    kernel /= kernel.sum()
    for axis in (0, 1):
        width = [(radius, radius) if each == axis else (0, 0) for each in (0, 1)]
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(plane, width, "edge"), kernel.size, axis)
        plane = windows @ kernel
    return plane


def _quadratic(shape: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """The terms 1, x, y, xx, xy, yy at every pixel, (H*W, 6), x and y from -1 to 1."""
    y, x = np.meshgrid(np.linspace(-1.0, 1.0, shape[0]), np.linspace(-1.0, 1.0, shape[1]), indexing="ij")
    return np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=-1).reshape(-1, 6)


def _ink_and_grain(ink: Plane) -> tuple[float, float]:
    """How bright ink typically is, and the standard deviation of the grain on the ground."""
    threshold = _otsu(ink)
    level = float(np.median(ink[ink > threshold])) if (ink > threshold).any() else 0.0
    # grain was cut off below 0, which leaves its upper half: its third quartile is at 0.6745 sigma
    grain = float(np.percentile(ink[ink <= threshold], 75.0)) / 0.6745
    return level, grain


def _otsu(plane: Plane) -> float:
    """The threshold that parts values 0 to 255 best into two classes (Otsu 1979)."""
    counts = np.histogram(plane, bins=256, range=(0.0, 256.0))[0].astype(np.float64)
    values = np.arange(256) + 0.5
    below = np.cumsum(counts)
    above = below[-1] - below
    mass = np.cumsum(counts * values)
    mean_below = mass / np.maximum(below, 1.0)
    mean_above = (mass[-1] - mass) / np.maximum(above, 1.0)
    return float(np.argmax(below * above * (mean_above - mean_below) ** 2)) + 1.0
