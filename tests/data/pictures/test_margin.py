"""Pictures cropped to the ink get paper around them, others are left alone."""

from __future__ import annotations

import numpy as np
import pytest
from picture_helpers import SHAPE, encode, likeness, read, sample
from PIL import Image

from mnistnet.data.pictures.margin import add_margin


def tight(digit: int) -> np.ndarray:
    """A digit's ink, 0 to 1, enlarged and cropped without any margin."""
    ink = np.asarray(Image.fromarray(sample(digit)).resize((200, 200), Image.Resampling.BICUBIC)) / 255.0
    rows, columns = (np.flatnonzero((ink > 0.3).any(axis=axis)) for axis in (1, 0))
    return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


@pytest.mark.parametrize("digit", [0, 2, 3, 5, 6, 8, 9])
@pytest.mark.parametrize("dark", [True, False], ids=["dark on light", "light on dark"])
def test_a_digit_without_margin_is_read(digit, dark):
    grey = 220 - 170 * tight(digit) if dark else 30 + 190 * tight(digit)
    assert likeness(read(encode(grey.astype(np.uint8))).pixels[0], sample(digit)) > 0.85


def test_the_margin_goes_on_with_the_light_on_the_paper():
    ink = tight(8)
    y, x = np.mgrid[0 : ink.shape[0], 0 : ink.shape[1]].astype(np.float64)
    light = 150 + 0.2 * x - 0.1 * y
    wide = add_margin((light * (1 - ink) + 40 * ink).astype(np.float32))
    margin = (wide.shape[0] - ink.shape[0]) // 2
    assert margin == round(0.25 * max(ink.shape))
    assert wide[0, 0] == pytest.approx(150 - 0.2 * margin + 0.1 * margin, abs=8)
    assert wide[-1, -1] == pytest.approx(150 + 0.2 * (x.max() + margin) - 0.1 * (y.max() + margin), abs=8)


def test_pictures_with_paper_around_the_ink_are_left_alone():
    grey = np.full((120, 160), 200, np.float32)
    grey[30:90, 60:75] = 50
    assert add_margin(grey) is grey


def test_neither_light_that_changes_nor_a_shadow_is_ink():
    y, x = np.mgrid[0:120, 0:160].astype(np.float32)
    fading = 230 - 0.8 * x - 0.3 * y
    assert add_margin(fading) is fading
    shadowed = np.where(x + y > 150, 120, 200).astype(np.float32)
    assert add_margin(shadowed) is shadowed
    blank = np.full((50, 60), 90, np.float32)
    assert add_margin(blank) is blank


def test_a_photo_that_gets_a_margin_has_the_models_shape():
    assert read(encode((220 - 170 * tight(4)).astype(np.uint8))).pixels.shape == SHAPE
