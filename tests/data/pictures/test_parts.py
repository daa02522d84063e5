"""What hangs together, and which parts are one digit."""

from __future__ import annotations

import numpy as np
import pytest

from mnistnet.data.pictures import parts


def flood_fill(mask: np.ndarray) -> np.ndarray:
    """The naive way to number connected parts."""
    parts = np.zeros(mask.shape, int)
    for y, x in np.argwhere(mask):
        if parts[y, x]:
            continue
        number, todo = parts.max() + 1, [(y, x)]
        while todo:
            v, u = todo.pop()
            if 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u] and not parts[v, u]:
                parts[v, u] = number
                todo += [(v + j, u + i) for j in (-1, 0, 1) for i in (-1, 0, 1)]
    return parts


@pytest.mark.parametrize("density", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_connected_parts_against_flood_fill(density):
    rng = np.random.default_rng(1)
    for shape in [(1, 1), (1, 9), (9, 1), (12, 17), (30, 30)]:
        mask = rng.random(shape) < density
        assert np.array_equal(parts.connected_parts(mask), flood_fill(mask))


def test_connected_parts_of_a_long_winding_line():
    mask = np.ones((41, 30), np.bool_)
    mask[1::4, :-1] = False
    mask[3::4, 1:] = False
    assert parts.connected_parts(mask).max() == 1
    mask[:, 15] = False
    assert parts.connected_parts(mask).max() == 11 + 11  # pairs of rows joined at either side, one row alone
