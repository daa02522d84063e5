"""Pictures of pictures: a dataset's classes on one sheet, and a picture's way to the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from mnistnet.data.pictures.decode import encode_png
from mnistnet.data.pictures.reading import Step

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageDraw import ImageDraw

_PAPER, _INK, _FAINT = (250, 250, 247), (30, 30, 30), (110, 110, 110)
_MARGIN = 12
_CELL = 56  # pixels of a dataset's image on the sheet
_PANEL = 196  # pixels of a step, seven times 28
_TEXT = 13


def class_sheet(rows: Sequence[tuple[str, npt.NDArray[np.uint8]]]) -> bytes:
    """A PNG with one row for each class: its name and number of images, and some of them.

    Args:
        rows: of each class a title and its examples, uint8 (n, C, H, W); n may be 0.
    """
    from PIL import Image, ImageDraw

    columns = max(len(examples) for _, examples in rows)
    titles = max(round(_width(title)) for title, _ in rows) + _MARGIN
    side = _CELL + 4
    size = (titles + columns * side + 2 * _MARGIN, len(rows) * side + 2 * _MARGIN)
    sheet = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, (title, examples) in enumerate(rows):
        top = _MARGIN + row * side
        _write(draw, (_MARGIN, top + _CELL // 2 - 8), title, _INK)
        for column, pixels in enumerate(examples):
            sheet.paste(_fitted(pixels, _CELL), (_MARGIN + titles + column * side, top))
    return _png(sheet)


def chain_picture(rows: Sequence[Sequence[Step]]) -> bytes:
    """A PNG that shows how pictures came to look as the model sees them, one row each.

    Args:
        rows: of each picture its steps.
    """
    from PIL import Image, ImageDraw

    side, below = _PANEL + 2 * _MARGIN, 56
    width = max(map(len, rows)) * side
    sheet = Image.new("RGB", (width, len(rows) * (side + below)), _PAPER)
    draw = ImageDraw.Draw(sheet)
    for row, steps in enumerate(rows):
        for column, step in enumerate(steps):
            left, top = column * side + _MARGIN, row * (side + below) + _MARGIN
            sheet.paste(_fitted(step.grey[np.newaxis], _PANEL), (left, top))
            draw.rectangle((left - 1, top - 1, left + _PANEL, top + _PANEL), outline=(200, 200, 195))
            _write(draw, (left, top + _PANEL + 6), f"{column + 1}. {step.name}", _INK)
            for line, text in enumerate(_wrapped(step.reason, _PANEL)[:3]):
                _write(draw, (left, top + _PANEL + 23 + 14 * line), text, _FAINT)
    return _png(sheet)


def _fitted(pixels: npt.NDArray[np.uint8], side: int) -> Image.Image:
    """An image (C, H, W) in the middle of a square, its pixels visible where it is small."""
    from PIL import Image

    image = Image.fromarray(pixels[0] if len(pixels) != 3 else pixels.transpose(1, 2, 0)).convert("RGB")
    scale = side / max(image.size)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    method = Image.Resampling.NEAREST if scale >= 1 else Image.Resampling.BICUBIC
    square = Image.new("RGB", (side, side), _PAPER)
    square.paste(image.resize(size, method), ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def _write(draw: ImageDraw, place: tuple[float, float], text: str, colour: tuple[int, int, int]) -> None:
    from PIL import ImageFont

    draw.text(place, text, fill=colour, font=ImageFont.load_default(_TEXT))


def _width(text: str) -> float:
    from PIL import ImageFont

    return float(ImageFont.load_default(_TEXT).getlength(text))


def _wrapped(text: str, width: float) -> list[str]:
    """The text in lines of at most ``width`` pixels."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if _width(longer) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _png(sheet: Image.Image) -> bytes:
    return encode_png(np.asarray(sheet).transpose(2, 0, 1))
