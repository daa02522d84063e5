"""Pictures as numbers for a network to learn, and what a network draws as picture files."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mnistnet.data.pictures.decode import decode, no_picture
from mnistnet.data.pictures.planes import resize
from mnistnet.engine.arrays import FloatArray
from mnistnet.errors import PictureError

if TYPE_CHECKING:
    from PIL import Image

INK, GREY, COLOUR = "black and white", "grey", "colour"
TONES = {INK: ("white",), GREY: ("brightness",), COLOUR: ("red", "green", "blue")}
"""What a pixel may be, with the names of its numbers."""

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".webp": "WEBP",
    ".pbm": "PPM",
    ".pgm": "PPM",
    ".ppm": "PPM",
}
"""How a drawn picture's name may end, and what Pillow calls the format."""

_HOLDS = {".pbm": (INK,), ".pgm": (INK, GREY)}
"""The tones that a format has place for; the others have place for all."""

_LONGEST = {".webp": 16_383, ".jpg": 65_500, ".jpeg": 65_500, ".gif": 65_535}
"""The longest side in pixels that a format has place for; the others have place for any."""


@dataclass(frozen=True, eq=False)
class Raster:
    """A picture as numbers."""

    values: FloatArray
    """float32 (H, W, K), 0 black to 1 white; K is 1, or 3 in colour."""
    tone: str
    """Of `TONES`."""

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        height, width, _ = self.values.shape
        return width, height


def read_raster(content: bytes, notes: list[str]) -> Raster:
    """A picture file as numbers, in the fewest channels that hold it.

    Args:
        content: its bytes.
        notes: what was done is added here, in plain words.

    Raises:
        PictureError: not a picture, too large, or damaged.
    """
    decoded = decode(content, notes)
    if decoded is None:
        raise no_picture(content)
    return _raster(_values(decoded.image))


def shrunk(raster: Raster, most: int) -> Raster:
    """The picture with at most ``most`` pixels, its shape kept: itself, where it has no more."""
    width, height = raster.size
    if width * height <= most:
        return raster
    scale = sqrt(most / (width * height))
    return resized(raster, (max(1, int(width * scale)), max(1, int(height * scale))))


def resized(raster: Raster, size: tuple[int, int]) -> Raster:
    """The picture brought to ``size`` (width, height), averaged where it shrinks."""
    if size == raster.size:
        return raster
    planes = [resize(np.ascontiguousarray(plane), size[::-1]) for plane in np.moveaxis(raster.values, -1, 0)]
    return _raster(np.clip(np.stack(planes, axis=-1), 0.0, 1.0))


def check_format(suffix: str, tone: str) -> None:
    """See that a file whose name ends so can hold a picture of this tone.

    Raises:
        PictureError: says which endings there are.
    """
    if suffix not in FORMATS:
        found = f"found {suffix!r}" if suffix else "found none"
        raise PictureError(f"expected a name that ends in {', '.join(FORMATS)}, {found}")
    if tone not in _HOLDS.get(suffix, TONES):
        raise PictureError(f"{suffix} holds no {tone} picture: use .png")


def check_size(suffix: str, size: tuple[int, int]) -> None:
    """See that a file whose name ends so can hold a picture of this size (width, height).

    Raises:
        PictureError: says how long a side may be.
    """
    most = _LONGEST.get(suffix)
    if most is not None and max(size) > most:
        raise PictureError(f"{suffix} holds sides of at most {most} pixels, found {max(size)}: use .png")


def encode_raster(values: FloatArray, suffix: str) -> bytes:
    """A picture file of numbers (H, W, K) in 0 .. 1; others are cut off. In a .pbm, 0.5 and above is white.

    Args:
        values: as in a `Raster`.
        suffix: of `FORMATS`.
    """
    from PIL import Image

    image = _image(values)
    if suffix == ".pbm":
        image = image.point([0] * 128 + [255] * 128).convert("1", dither=Image.Dither.NONE)
    elif suffix == ".ppm":
        image = image.convert("RGB")
    stream = io.BytesIO()
    image.save(stream, FORMATS[suffix])
    return stream.getvalue()


def encode_film(frames: Sequence[FloatArray], last: float = 2.0, each: float = 0.1) -> bytes:
    """A GIF of pictures (H, W, K) one after the other, again and again.

    Args:
        frames: at least one.
        last: seconds that the last one stays.
        each: seconds that the others stay.
    """
    first, *others = (_image(values) for values in frames)
    durations = [round(1000 * each)] * len(others) + [round(1000 * last)]
    stream = io.BytesIO()
    first.save(stream, "GIF", save_all=True, append_images=others, duration=durations, loop=0)
    return stream.getvalue()


def _values(image: Image.Image) -> FloatArray:
    """float32 (H, W, 1) or (H, W, 3) in 0 .. 1; 16 bits are scaled, not clipped."""
    if image.mode.startswith("I"):
        wide: FloatArray = np.asarray(image, np.float32) / np.float32(65535)
        return np.clip(wide, 0.0, 1.0)[..., None]
    pixels: npt.NDArray[np.uint8] = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return pixels.astype(np.float32) / np.float32(255)


def _raster(values: FloatArray) -> Raster:
    if values.shape[2] == 3:
        if (values != values[..., :1]).any():
            return Raster(values, COLOUR)
        values = np.ascontiguousarray(values[..., :1])
    return Raster(values, INK if np.isin(values, (0.0, 1.0)).all() else GREY)


def _image(values: FloatArray) -> Image.Image:
    from PIL import Image

    levels = np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
    return Image.fromarray(levels[..., 0] if levels.shape[2] == 1 else levels)
