"""A person's picture, brought to the form that a model was trained on.

A picture of exactly the model's size is taken as it is, apart from becoming greyscale and bright on dark.
Any other picture for a greyscale model goes through the pipeline of MNIST itself (LeCun et al. 1998,
"Gradient-based learning applied to document recognition", section III.A), one small pure function a step:

    greyscale -> `add_margin` -> `ink_on_dark` -> `remove_noise` -> `crop_to_ink` -> `thicken_strokes`
              -> `scale_to_box` -> `centre_by_mass`

Between these steps a picture is float32 (H, W), 0 = background, 255 = ink.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mnistnet.data.idx import by
from mnistnet.data.pictures.decode import (
    MAX_PIXELS,
    Decoded,
    colour_pixels,
    decode,
    grey_pixels,
    no_picture,
    resized,
)
from mnistnet.data.pictures.framing import box_for, centre_by_mass, crop_to_ink, scale_to_box, thicken_strokes
from mnistnet.data.pictures.light import ink_on_dark
from mnistnet.data.pictures.margin import add_margin
from mnistnet.data.pictures.noise import MIN_CONTRAST, blank, remove_noise
from mnistnet.data.pictures.parts import digits_of
from mnistnet.data.pictures.planes import Plane, has_light_ground
from mnistnet.errors import PictureError
from mnistnet.files import read_limited

Grey = npt.NDArray[np.uint8]
"""uint8 (H, W)."""

_MAX_BYTES = 8 * MAX_PIXELS  # uncompressed 16-bit colour takes 6 bytes a pixel
_WORKING_SIDE = 512  # in such a picture a digit of a tenth of its side still has strokes wider than a pixel
_INVERTED = "inverted: dark ink on a light ground"


@dataclass(frozen=True, eq=False)
class Step:
    """A picture on its way to the model, and why it looks so now."""

    name: str
    reason: str
    grey: Grey
    """uint8 (H, W), of any size."""


@dataclass(frozen=True, eq=False)
class Picture:
    """What the model gets to see, and what was done to the picture for that."""

    pixels: npt.NDArray[np.uint8]
    """uint8 (C, H, W), 0 = background."""
    notes: tuple[str, ...]
    """What was done, in plain words, in order; empty when the picture was taken as it is."""
    steps: tuple[Step, ...] = ()
    """The way from the photo to what the model sees."""
    digits: int = 1
    """How many digits were seen side by side where this one is from."""


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
    (picture,) = _read(source, shape, name, split=False)
    return picture


def read_digits(source: Path | bytes, shape: tuple[int, int, int], *, name: str) -> tuple[Picture, ...]:
    """Read the digits that stand side by side on one picture, from left to right.

    As `read_picture`, which takes all of them for one. Pictures of the model's own size, raw ones and those
    for colour models hold one digit.
    """
    return _read(source, shape, name, split=True)


def _read(
    source: Path | bytes, shape: tuple[int, int, int], name: str, *, split: bool
) -> tuple[Picture, ...]:
    if isinstance(source, bytes):
        content, raw = source, False
    else:
        content, raw = read_limited(source, _MAX_BYTES, PictureError), source.suffix.lower() == ".bin"
    try:
        return _pictures(content, shape, raw=raw, split=split)
    except PictureError as error:
        raise error.at(name) from error


def _pictures(content: bytes, shape: tuple[int, int, int], *, raw: bool, split: bool) -> tuple[Picture, ...]:
    if not content:
        raise PictureError("no data")
    c, h, w = shape
    notes: list[str] = []
    # a photo's decoder may skip what would be averaged away
    decoded = None if raw else decode(content, notes, least_side=max(_WORKING_SIDE, 2 * h, 2 * w))
    if decoded is None:
        return (_raw(content, shape, raw=raw),)
    if c == 3:
        return (_coloured(decoded, (h, w), notes),)
    if c != 1:
        raise PictureError(f"pictures have 1 or 3 channels, the model expects {c}: use a .bin file")
    grey = grey_pixels(decoded.image)
    if grey.shape == (h, w):
        return (_as_it_is(grey, notes),)
    return _digits_on(_photo(grey, decoded), (h, w), notes, split=split)


def _raw(content: bytes, shape: tuple[int, int, int], *, raw: bool) -> Picture:
    c, h, w = shape
    expected = c * h * w
    size = f"{w}x{h}" if c == 1 else by(shape)
    if len(content) != expected:
        if not raw:
            raise no_picture(content, f" or {expected} bytes ({size})")
        raise PictureError(f"expected {expected} bytes ({size}), found {len(content)}")
    pixels = np.frombuffer(content, np.uint8).reshape(shape).copy()
    if c == 1:
        _check_not_blank(pixels[0])
    return Picture(pixels, (), (_own_size(pixels),))


def _coloured(decoded: Decoded, size: tuple[int, int], notes: list[str]) -> Picture:
    pixels = colour_pixels(decoded.image)
    steps = [_photo(pixels.mean(axis=0).astype(np.uint8), decoded)]
    if pixels.shape[1:] != size:
        notes.append(f"resized from {by(decoded.size)} to {size[1]}x{size[0]}")
        pixels = resized(pixels, size)
        steps.append(Step("resized", notes[-1], pixels.mean(axis=0).astype(np.uint8)))
    return Picture(pixels, tuple(notes), tuple(steps))


# --- a picture of the model's own size --------------------------------------------------------------------


def _as_it_is(grey: Grey, notes: list[str]) -> Picture:
    _check_not_blank(grey)
    steps = [_own_size(grey[np.newaxis])]
    if has_light_ground(grey):
        notes.append(_INVERTED)
        grey = 255 - grey
        steps.append(Step("inverted", _INVERTED, grey))
    return Picture(grey[np.newaxis], tuple(notes), tuple(steps))


def _own_size(pixels: npt.NDArray[np.uint8]) -> Step:
    _, h, w = pixels.shape
    return Step(
        "picture", f"{w}x{h}, the model's own size: taken as it is", pixels.mean(axis=0).astype(np.uint8)
    )


def _check_not_blank(grey: Grey) -> None:
    if int(grey.max()) - int(grey.min()) < MIN_CONTRAST:
        raise blank()


# --- a picture of any size --------------------------------------------------------------------------------


def _digits_on(photo: Step, size: tuple[int, int], notes: list[str], *, split: bool) -> tuple[Picture, ...]:
    """MNIST's pipeline: the digit, or each of the digits, on a picture of any size."""
    paper = add_margin(_working_size(photo.grey))
    ink, inverted = ink_on_dark(paper)
    if inverted:
        notes.append(_INVERTED)
    clean = remove_noise(ink)
    digits = digits_of(clean)
    steps = (
        photo,
        Step(
            "ink", f"{_INVERTED if inverted else 'bright ink on dark'}; uneven light taken away", _bytes(ink)
        ),
        Step("clean", "grain, specks and what comes in from the border removed", _bytes(clean)),
    )
    chosen = digits if split else [clean]
    return tuple(_framed(digit, size, notes, steps, len(digits)) for digit in chosen)


def _framed(
    clean: Plane, size: tuple[int, int], notes: list[str], steps: tuple[Step, ...], digits: int
) -> Picture:
    """One digit cropped, scaled and centred."""
    cropped = crop_to_ink(clean)
    box = box_for(size)
    strokes = thicken_strokes(cropped, box)
    scaled = scale_to_box(strokes, box)
    pixels = np.rint(centre_by_mass(scaled, size)).astype(np.uint8)
    h, w = scaled.shape
    thicker = "" if strokes is cropped else "thin strokes widened, "
    note = f"digit found, scaled to {w}x{h} pixels and centred by its mass"
    framing = (
        Step("cropped", f"cropped to {cropped.shape[1]}x{cropped.shape[0]} pixels of ink", _bytes(cropped)),
        Step("scaled", f"{thicker}longer side scaled to {max(h, w)} pixels", _bytes(scaled)),
        Step("centred", f"centre of mass moved to the middle of {size[1]}x{size[0]}", pixels),
    )
    return Picture(pixels[np.newaxis], (*notes, note), steps + framing, digits)


def _photo(grey: Grey, decoded: Decoded) -> Step:
    return Step("photo", f"{by(decoded.size)} pixels in grey", grey)


def _bytes(plane: Plane) -> Grey:
    return np.clip(np.rint(plane), 0, 255).astype(np.uint8)


def _working_size(grey: Grey) -> Plane:
    """float32, averaged down by a whole factor when larger than the pipeline needs."""
    from PIL import Image

    factor = -(-max(grey.shape) // _WORKING_SIDE)
    image = Image.fromarray(grey)
    return np.asarray(image.reduce(factor) if factor > 1 else image, np.float32)
