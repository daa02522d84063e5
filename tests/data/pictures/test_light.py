"""The light on the paper and the ink."""

from __future__ import annotations

import numpy as np
import pytest

from mnistnet.data.pictures.light import estimate_light, ink_on_dark, is_dark_on_light, wide_parts


def test_light_is_found_below_the_ink():
    y, x = np.mgrid[0:100, 0:150].astype(np.float32)
    light = 120 + 0.6 * x + 0.2 * y - 0.004 * (x - 60) ** 2
    inked = light.copy()
    inked[20:80, 60:75] -= 90
    # a tenth of the picture's range would be 13
    assert np.abs(estimate_light(inked) - light)[5:-5, 5:-5].max() < 3


@pytest.mark.parametrize("inverted", [False, True])
def test_ink_on_dark_either_way_round(inverted):
    grey = np.full((60, 80), 40, np.float32)
    grey[20:40, 30:36] = 200
    ink, found = ink_on_dark(255 - grey if inverted else grey)
    assert found is inverted
    assert ink[25, 32] == pytest.approx(160, abs=2)
    assert ink[0].max() == pytest.approx(0, abs=2)


def test_a_wide_shadow_is_no_ink():
    plane = np.zeros((64, 64), np.float32)
    plane[:, 30:] = 50  # shadow
    plane[20:40, 10:15] = 90  # stroke
    wide = wide_parts(plane)
    assert wide[30, 50] == pytest.approx(50)
    assert wide[30, 12] == pytest.approx(0)


@pytest.mark.parametrize("dark", [True, False])
def test_the_side_of_the_ink_is_found_across_a_shadows_edge(dark):
    paper = np.full((100, 150), 210, np.float32)
    paper[:, 90:] -= 60
    sign = -1 if dark else 1
    paper -= 0 if dark else 120
    paper[30:70, 40:46] += sign * 80
    paper[30:36, 40:60] += sign * 80
    assert is_dark_on_light(paper) is dark
