"""Sheets: of the right size, with every picture where it should be."""

from __future__ import annotations

import io

import numpy as np
from picture_helpers import SHAPE, encode, sample
from PIL import Image

from mnistnet.data.pictures import read_picture
from mnistnet.data.pictures.drawing import chain_picture, class_sheet


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_class_a_row_in_grey_and_colour_and_empty():
    grey = np.stack([np.full((1, 28, 28), value, np.uint8) for value in (0, 90, 180)])
    colour = np.zeros((2, 3, 14, 28), np.uint8)
    colour[:, 0] = 255
    sheet = opened(class_sheet([("grey", grey), ("a long name", colour), ("none", grey[:0])]))
    assert sheet.shape[0] == 3 * 60 + 24
    for column, value in enumerate((0, 90, 180)):
        left = sheet.shape[1] - 12 - (3 - column) * 60
        assert (sheet[12:68, left : left + 56] == value).all()
    left = sheet.shape[1] - 12 - 3 * 60
    assert (sheet[72 + 14 : 72 + 42, left : left + 56] == (255, 0, 0)).all()  # in the middle of its square
    assert (sheet[72 + 2, left : left + 56] == sheet[0, 0]).all()
    assert (sheet[132:188, left:] == sheet[0, 0]).all()


def test_a_picture_a_row_a_step_a_column():
    steps = [
        read_picture(content, SHAPE, name="-").steps
        for content in (encode(sample(7)), encode(np.pad(255 - sample(3), 20, constant_values=255)))
    ]
    sheet = opened(chain_picture(steps))
    assert sheet.shape == (2 * (196 + 24 + 56), 6 * (196 + 24), 3)
    enlarged = sample(7).repeat(7, axis=0).repeat(7, axis=1)
    # its frame is drawn over the first row and column
    assert np.array_equal(sheet[12 : 12 + 195, 12 : 12 + 195, 0], enlarged[:195, :195])
