"""Buffers handed out once, sharing memory where their lives do not overlap.

Binding a plan runs twice over the same layers. The first time the workspace *measures*: it hands out
scratch arrays and writes down how large each one is and between which two moments of a step it is
needed. `Workspace.settle` then gives every request its place in one block of memory, so that two
requests share bytes only where their lives do not overlap. The second time it hands out those places.
Sharing matters for speed more than for memory: more of a step stays in the L2 cache.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
import numpy.typing as npt

from mnistnet.engine.arrays import ALIGNMENT, AnyArray, Shape, aligned


@dataclass
class _Request:
    shape: Shape
    dtype: np.dtype[np.generic]
    first: int
    last: int
    private: bool  # keeps its content from step to step: shares with nobody
    offset: int = -1

    @property
    def nbytes(self) -> int:
        size = prod(self.shape) * self.dtype.itemsize
        return -(-size // ALIGNMENT) * ALIGNMENT

    def overlaps(self, other: _Request) -> bool:
        return self.private or other.private or (self.first <= other.last and other.first <= self.last)


class Workspace:
    """One block of memory and the requests that share it."""

    def __init__(self) -> None:
        self._requests: list[_Request] = []
        self._owners: dict[int, tuple[_Request, AnyArray]] = {}
        self._block: npt.NDArray[np.uint8] | None = None
        self._next = 0

    @property
    def nbytes(self) -> int:
        """Size of the block in bytes; 0 before `settle`."""
        return 0 if self._block is None else self._block.nbytes

    def take(self, shape: Shape, dtype: npt.DTypeLike, first: int, last: int) -> AnyArray:
        """An uninitialized array that is needed from moment ``first`` to moment ``last`` of a step."""
        return self._hand_out(shape, dtype, first, last, private=False)

    def zeros(self, shape: Shape, dtype: npt.DTypeLike) -> AnyArray:
        """An array of zeros that nobody else writes to, so that what a layer leaves alone stays zero."""
        array = self._hand_out(shape, dtype, 0, 0, private=True)
        array.fill(0)
        return array

    def touch(self, array: AnyArray | None, moment: int) -> None:
        """The array (or the one it is a view of) is needed at ``moment`` too."""
        if array is None or self._block is not None:
            return
        while isinstance(array, np.ndarray) and id(array) not in self._owners:
            array = array.base
        if isinstance(array, np.ndarray):
            request, _ = self._owners[id(array)]
            request.first = min(request.first, moment)
            request.last = max(request.last, moment)

    def settle(self) -> None:
        """Give every request its place: the largest first, each at the lowest address that is free."""
        placed: list[_Request] = []
        for request in sorted(self._requests, key=lambda r: -r.nbytes):
            offset = 0
            for other in sorted(placed, key=lambda r: r.offset):
                apart = offset + request.nbytes <= other.offset or other.offset + other.nbytes <= offset
                if request.overlaps(other) and not apart:
                    offset = other.offset + other.nbytes
            request.offset = offset
            placed.append(request)
        size = max((r.offset + r.nbytes for r in placed), default=0)
        self._block = aligned((size,), np.uint8)
        self._owners.clear()
        self._next = 0

    def rewind(self) -> None:
        """Hand out the same places again, from the first: for a second binding of the same layers."""
        self._next = 0

    def _hand_out(
        self, shape: Shape, dtype: npt.DTypeLike, first: int, last: int, *, private: bool
    ) -> AnyArray:
        if self._block is None:
            array = np.empty(shape, dtype)
            request = _Request(shape, array.dtype, first, last, private)
            self._requests.append(request)
            self._owners[id(array)] = (request, array)
            return array
        request = self._requests[self._next]
        self._next += 1
        assert (request.shape, request.private) == (shape, private)
        stop = request.offset + prod(shape) * request.dtype.itemsize
        return self._block[request.offset : stop].view(request.dtype).reshape(shape)
