"""What hangs together in a picture."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from mnistnet.data.pictures.planes import Plane

_OVERLAP = 0.3  # of the narrower part's width: above each other, as the bar of a 5 is above its bow
_SMALL = 0.4  # of the tallest part's height: no digit of its own


def connected_parts(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
    """Number the parts of a mask that hang together, diagonals included.

    Returns:
        intp (H, W): 0 outside the mask, then 1, 2, … in reading order.
    """
    h, w = mask.shape
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1).ravel()
    # runs of True in a row, as [start, stop) in the flat picture with one column more
    start, stop = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    parent = np.arange(start.size)
    # a run touches those of the next row that begin no later than it ends and end no sooner than it begins
    first = np.searchsorted(stop, start + (w + 1), side="left")
    last = np.searchsorted(start, stop + (w + 1), side="right")
    count = np.maximum(last - first, 0)
    upper = np.repeat(np.arange(start.size), count)
    lower = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(first, count)
    while True:
        low = np.minimum(parent[upper], parent[lower])
        before = parent.copy()
        np.minimum.at(parent, parent[upper], low)
        np.minimum.at(parent, parent[lower], low)
        parent = parent[parent]
        if np.array_equal(parent, before):
            break
    numbers = np.unique(parent, return_inverse=True)[1] + 1
    steps = np.zeros(h * (w + 1) + 1, np.intp)
    steps[start] += numbers
    steps[stop] -= numbers
    return np.cumsum(steps[:-1]).reshape(h, w + 1)[:, :w]


def digits_of(ink: Plane) -> list[Plane]:
    """The digits that stand side by side in a picture, from left to right.

    Parts one above the other belong together, as the bar and the bow of a 5 do; what is low beside the
    tallest belongs to its nearest neighbour. Digits that touch each other stay one.

    Args:
        ink: float32 (H, W), exactly 0 where there is none.

    Returns:
        One picture of the same shape for each digit; at least one.
    """
    parts = connected_parts(ink > 0.0)
    groups = [_Group({number}, *_extent(parts == number)) for number in range(1, int(parts.max()) + 1)]
    groups = _merged(groups)
    tallest = max((group.bottom - group.top for group in groups), default=0)
    digits = [group for group in groups if group.bottom - group.top >= _SMALL * tallest]
    for group in groups:
        if group not in digits:
            nearest = min(digits, key=lambda digit: _gap(digit, group))
            digits[digits.index(nearest)] = _union(nearest, group)
    if not digits:
        return [ink]
    return [np.where(np.isin(parts, list(digit.numbers)), ink, np.float32(0.0)) for digit in digits]


class _Group(NamedTuple):
    """Parts that belong together, and the box around them, ends excluded."""

    numbers: set[int]
    left: int
    right: int
    top: int
    bottom: int


def _extent(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    return int(columns[0]), int(columns[-1]) + 1, int(rows[0]), int(rows[-1]) + 1


def _merged(groups: list[_Group]) -> list[_Group]:
    """Groups that overlap from left to right are one; in order from the left."""
    merged: list[_Group] = []
    for group in sorted(groups, key=lambda group: group.left):
        while merged and _gap(merged[-1], group) < -_OVERLAP * min(_width(merged[-1]), _width(group)):
            group = _union(merged.pop(), group)
        merged.append(group)
    return merged


def _width(group: _Group) -> int:
    return group.right - group.left


def _gap(first: _Group, second: _Group) -> int:
    """Empty columns between two groups; negative where they overlap."""
    return max(first.left, second.left) - min(first.right, second.right)


def _union(first: _Group, second: _Group) -> _Group:
    return _Group(
        first.numbers | second.numbers,
        min(first.left, second.left),
        max(first.right, second.right),
        min(first.top, second.top),
        max(first.bottom, second.bottom),
    )
