"""What the tests of pictures share: samples, and pictures made of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistnet.data.pictures import Picture, read_picture
from mnistnet.errors import PictureError

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
SHAPE = (1, 28, 28)


def encode(pixels: np.ndarray | Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, form, **options)
    return stream.getvalue()


def sample(digit: int) -> np.ndarray:
    return np.frombuffer((SAMPLES / f"{digit}.bin").read_bytes(), np.uint8).reshape(28, 28)


def read(content: bytes, shape: tuple[int, int, int] = SHAPE) -> Picture:
    return read_picture(content, shape, name="-")


def message(source: bytes | Path, shape: tuple[int, int, int] = SHAPE) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(source, shape, name="photo")
    text = str(caught.value)
    assert "\n" not in text
    return text


def likeness(found: np.ndarray, wanted: np.ndarray) -> float:
    """Correlation of two pictures, the best of the nine shifts by at most a pixel."""
    shifts = [np.roll(found, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return max(float(np.corrcoef(each.ravel(), wanted.ravel())[0, 1]) for each in shifts)


def on_canvas(digit: int, side: int, height: int, width: int, corner: tuple[int, int]) -> np.ndarray:
    """A digit's ink, float 0 to 1, enlarged to ``side`` pixels somewhere on a canvas."""
    ink = np.zeros((height, width))
    large = Image.fromarray(sample(digit)).resize((side, side), Image.Resampling.BICUBIC)
    y, x = corner
    ink[y : y + side, x : x + side] = np.asarray(large) / 255.0
    return ink
