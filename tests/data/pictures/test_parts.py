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


# --- digits side by side ----------------------------------------------------------------------------------


def boxes(*corners: tuple[int, int, int, int]) -> np.ndarray:
    """Ink, 255, in boxes of (top, bottom, left, right) on a picture of 60x100."""
    ink = np.zeros((60, 100), np.float32)
    for top, bottom, left, right in corners:
        ink[top:bottom, left:right] = 255
    return ink


def extents(ink: np.ndarray) -> list[tuple[int, int]]:
    """The columns from and to which each digit reaches."""
    found = []
    for digit in parts.digits_of(ink):
        columns = np.flatnonzero(digit.any(axis=0))
        found.append((int(columns[0]), int(columns[-1]) + 1))
    return found


def test_digits_from_left_to_right():
    assert extents(boxes((10, 50, 70, 90), (12, 48, 5, 10), (15, 50, 30, 50))) == [
        (5, 10),
        (30, 50),
        (70, 90),
    ]


def test_nothing_is_lost_and_nothing_is_in_two():
    ink = boxes((10, 50, 5, 25), (5, 9, 8, 24), (12, 50, 40, 60), (40, 45, 62, 66))
    digits = parts.digits_of(ink)
    assert len(digits) == 2
    assert np.array_equal(np.sum(digits, axis=0), ink)


def test_the_bar_of_a_5_belongs_to_its_bow():
    assert extents(boxes((20, 50, 10, 30), (10, 14, 22, 40), (10, 50, 60, 64))) == [(10, 40), (60, 64)]


def test_a_low_part_beside_a_digit_belongs_to_the_nearest():
    assert extents(boxes((10, 50, 10, 30), (45, 50, 33, 37), (10, 50, 60, 80))) == [(10, 37), (60, 80)]


def test_digits_that_touch_in_a_corner_are_one():
    assert len(parts.digits_of(boxes((10, 30, 10, 30), (30, 50, 30, 50)))) == 1


def test_no_ink_is_one_picture():
    assert len(parts.digits_of(boxes())) == 1
