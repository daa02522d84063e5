"""Drawings: in bands as in one go, and how close they are, by hand."""

import math

import numpy as np
import pytest

from mnistnet.data.points import pixel_centres
from mnistnet.engine.layers import Dense
from mnistnet.engine.network import Network
from mnistnet.models import DRAWINGS, build_drawing
from mnistnet.reports import reconstruction
from mnistnet.reports.reconstruction import draw, peak_signal_to_noise, right_pixels


def test_a_network_that_gives_its_coordinates_draws_a_ramp() -> None:
    network = Network([Dense(2)], (2,))
    network.parameters()["0.weight"][...] = np.eye(2)
    picture = draw(network, (4, 3), (4, 3))
    assert picture.shape == (3, 4, 2)
    np.testing.assert_allclose(picture[0, :, 0], [-0.75, -0.25, 0.25, 0.75])
    np.testing.assert_allclose(picture[:, 0, 1], [-0.5, 0, 0.5])


@pytest.mark.parametrize("name", DRAWINGS)
def test_bands_make_no_difference(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = build_drawing(name, 3, 30).initialize(2)
    size = (37, 29)
    whole = network.predict(pixel_centres(size, size)).reshape(29, 37, 3)
    monkeypatch.setattr(reconstruction, "AT_ONCE", 100)
    np.testing.assert_allclose(draw(network, size, size), whole, atol=1e-6)


def test_closeness_by_hand() -> None:
    original = np.array([[[0.0], [1.0], [1.0], [0.0]]], np.float32)
    drawn = np.array([[[-0.5], [0.8], [1.5], [0.6]]], np.float32)
    # cut off, the differences are 0, 0.2, 0 and 0.6: a mean square of 0.1
    assert peak_signal_to_noise(drawn, original) == pytest.approx(10.0)
    assert peak_signal_to_noise(original, original) == math.inf
    assert right_pixels(drawn, original) == 3
