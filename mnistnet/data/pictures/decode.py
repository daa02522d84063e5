"""Picture files decoded: upright, opaque, within limits; the only place that knows Pillow's faults."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from mnistnet.errors import PictureError

if TYPE_CHECKING:
    from PIL import Image


FORMATS = ("PNG", "JPEG", "PPM", "BMP", "GIF", "WEBP")
"""The picture formats that are read, as Pillow names them; PPM stands for PBM, PGM and PPM."""
PICTURES = "PNG, JPEG, PBM, PGM, PPM, BMP, GIF, WebP"
"""The same for people."""
SUFFIXES = (".png", ".jpg", ".jpeg", ".pbm", ".pgm", ".ppm", ".bmp", ".gif", ".webp")
"""The same as names of files end."""
MAX_PIXELS = 50_000_000
"""Larger pictures are refused by their header, before anything is decoded."""

_MAGIC = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"RIFF", b"BM")
_ORIENTATION = 0x0112  # of EXIF's tags
_TURNED = (5, 6, 7, 8)  # its values that swap width and height


class Decoded(NamedTuple):
    """A picture out of its file."""

    image: Image.Image
    """Upright and opaque, in mode L, RGB, I or I;16."""
    size: tuple[int, int]
    """(width, height) of the upright picture in the file, whatever detail its decoder skipped."""


def decode(content: bytes, notes: list[str], *, least_side: int | None = None) -> Decoded | None:
    """The picture in a file; None if no picture format claims it.

    Args:
        content: a picture file's bytes.
        notes: what was done is added here, in plain words.
        least_side: a photo's decoder may skip detail as long as both sides keep this many pixels.

    Raises:
        PictureError: too large or damaged.
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    with _decoder_errors():
        try:
            image: Image.Image = Image.open(io.BytesIO(content), formats=FORMATS)
        except UnidentifiedImageError:
            return None
        w, h = image.size
        if w * h > MAX_PIXELS:
            raise PictureError(f"{w}x{h} pixels exceed the limit of {MAX_PIXELS} pixels: make it smaller")
        if image.format == "JPEG" and least_side is not None:
            image.draft(None, (least_side, least_side))
        image.load()
        upright = ImageOps.exif_transpose(image)
        if upright is not image and upright.getexif() != image.getexif():
            notes.append("rotated as its EXIF data says")
            if image.getexif().get(_ORIENTATION) in _TURNED:
                w, h = h, w
        if upright.has_transparency_data:
            rgba = upright.convert("RGBA")
            upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
            notes.append("transparent parts filled with white")
        if not upright.mode.startswith("I") and upright.mode not in ("L", "RGB"):
            upright = upright.convert("L" if upright.mode == "1" else "RGB")
        return Decoded(upright, (w, h))


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


def grey_pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """uint8 (H, W); 16 bits are scaled, not clipped."""
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.float64)
        return np.rint(np.clip(wide / 257.0, 0.0, 255.0)).astype(np.uint8)
    return np.array(image.convert("L"), np.uint8)


def colour_pixels(image: Image.Image) -> npt.NDArray[np.uint8]:
    """uint8 (3, H, W)."""
    from PIL import Image

    wide = image.mode.startswith("I")
    rgb = (Image.fromarray(grey_pixels(image)) if wide else image).convert("RGB")
    return np.ascontiguousarray(np.asarray(rgb).transpose(2, 0, 1))


def image_pixels(content: bytes) -> npt.NDArray[np.uint8]:
    """A dataset's image as uint8 (C, H, W): C is 1 where the file is greyscale, else 3.

    Raises:
        PictureError: not a picture, too large, or damaged.
    """
    decoded = decode(content, [])
    if decoded is None:
        raise no_picture(content)
    image = decoded.image
    return colour_pixels(image) if image.mode == "RGB" else grey_pixels(image)[np.newaxis]


def no_picture(content: bytes, alternative: str = "") -> PictureError:
    """The error of content that no picture format claims, and that is not ``alternative`` either."""
    if content.startswith(_MAGIC):
        return PictureError("cannot decode the picture: its header is damaged")
    return PictureError(f"expected a picture ({PICTURES}){alternative}, found {len(content)} bytes")


def encode_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """A PNG file of uint8 (C, H, W), C 1 or 3."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0)).save(stream, "PNG")
    return stream.getvalue()


def resized(pixels: npt.NDArray[np.uint8], size: tuple[int, int]) -> npt.NDArray[np.uint8]:
    """Pixels (C, H, W) brought to ``size`` (H, W) by a triangle filter that averages when it shrinks."""
    from PIL import Image

    h, w = size
    planes = [Image.fromarray(plane).resize((w, h), Image.Resampling.BILINEAR) for plane in pixels]
    return np.stack([np.asarray(plane) for plane in planes])
