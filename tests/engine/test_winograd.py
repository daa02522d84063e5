"""The transforms of Winograd's minimal filtering; the convolutions made of them are in test_conv.py."""

from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.layers.winograd import POINTS, TILE, transforms


def test_f_2_3_by_hand():
    """F(2, 3) on the points 0, 1, -1 and infinity."""
    output, weight, data = transforms(2, 3)
    # powers 0 and 1 of each point; infinity has the highest power only
    assert_array_equal(output, [[1, 1, 1, 0], [0, 1, -1, 1]])
    # powers 0 to 2 of each point over the product of its distances to the others, which is -1, 2 and 2
    assert_array_equal(weight, [[-1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
    # (x - 1)(x + 1), x (x + 1), x (x - 1), x (x - 1)(x + 1), lowest power first
    assert_allclose(data, [[-1, 0, 1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, -1, 0, 1]], atol=1e-15)


@pytest.mark.parametrize("kernel", [3, 4, 5])
@pytest.mark.parametrize("rows", [1, 2, 3, TILE])
def test_filtering_is_correlation(rows, kernel):
    rng = np.random.default_rng(rows + 10 * kernel)
    pixels, taps = rng.standard_normal(rows + kernel - 1), rng.standard_normal(kernel)
    output, weight, data = transforms(rows, kernel)
    filtered = output @ ((weight @ taps) * (data @ pixels))
    expected = [sum(taps[r] * pixels[p + r] for r in range(kernel)) for p in range(rows)]
    assert_allclose(filtered, expected, rtol=1e-11, atol=1e-11)


def test_the_points_suffice_and_are_exact_in_binary():
    assert len(set(POINTS)) == len(POINTS) >= TILE + 5 - 2
    assert all(Fraction(point).denominator in (1, 2) for point in POINTS)
