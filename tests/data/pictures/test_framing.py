"""Cropping, thickening, scaling, centring."""

from __future__ import annotations

import numpy as np
import pytest

from mnistnet.data.pictures import framing
from mnistnet.errors import PictureError


def test_crop_to_ink():
    ink = np.zeros((9, 8), np.float32)
    ink[2, 3] = ink[5, 6] = 255
    ink[0, 0] = 10  # too faint to count
    assert framing.crop_to_ink(ink).shape == (4, 4)
    with pytest.raises(PictureError, match="no digit found"):
        framing.crop_to_ink(np.zeros((5, 5), np.float32))


def test_stroke_width_of_a_long_bar():
    ink = np.zeros((300, 20), np.float32)
    ink[10:290, 5:12] = 255
    # 2 * area / outline = 2 * 7 * 280 / (2 * 287)
    assert framing.stroke_width(ink) == pytest.approx(2 * 7 * 280 / (2 * 287), rel=0.01)


def test_thin_strokes_are_widened_and_thick_ones_left():
    thin = np.zeros((200, 100), np.float32)
    thin[:, 50:52] = 255
    scale = 20 / 200
    wide = framing.thicken_strokes(thin, (20, 20))
    assert framing.stroke_width(wide) * scale == pytest.approx(1.5, abs=0.15)
    thick = np.zeros((200, 100), np.float32)
    thick[:, 40:60] = 255
    assert framing.thicken_strokes(thick, (20, 20)) is thick


@pytest.mark.parametrize(
    ("size", "expected"),
    [((200, 100), (20, 10)), ((50, 100), (10, 20)), ((7, 7), (20, 20)), ((400, 4), (20, 1))],
)
def test_scale_to_box_keeps_the_aspect(size, expected):
    assert framing.scale_to_box(np.full(size, 255, np.float32), (20, 20)).shape == expected


def test_scale_to_box_makes_the_ink_bright_again():
    faint = np.zeros((200, 200), np.float32)
    faint[:, 98:102] = 255  # less than half a pixel of 20
    assert framing.scale_to_box(faint, (20, 20)).max() == 255


def test_box():
    assert framing.box_for((28, 28)) == (20, 20)
    assert framing.box_for((56, 28)) == (40, 20)


def test_centre_by_mass():
    ink = np.zeros((20, 10), np.float32)
    ink[8, 2] = 255
    canvas = framing.centre_by_mass(ink, (28, 28))
    assert np.argwhere(canvas).tolist() == [[14, 14]]
    assert framing.centre_by_mass(np.ones((28, 28), np.float32), (28, 28)).all()


def test_centring_cuts_nothing_off():
    ink = np.zeros((20, 20), np.float32)
    ink[19, :] = 255  # all the weight at the bottom
    ink[0, 0] = 1
    canvas = framing.centre_by_mass(ink, (28, 28))
    assert canvas.sum() == ink.sum()
    assert np.argwhere(canvas)[0].tolist() == [0, 5]  # as far up as it can go; 14 - 9.4995 across
