"""How large what a model file asks for may be: refused before it is allocated or computed.

A file of a few hundred bytes can ask for any number of elements, and a few nodes for any number of products.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import prod

import numpy as np

from mnistnet.engine.arrays import AnyArray
from mnistnet.errors import CheckpointError

MOST_ELEMENTS = 2**26
"""Of one array, and of all arrays of a graph that are alive at once."""
MOST_PRODUCTS = 2**35
"""Multiplications of one node: a second or two."""
MOST_PIXELS = 2**24
"""Numbers of one picture that a model takes."""


def bounded(sizes: Sequence[int], what: str = "a shape") -> Sequence[int]:
    """``sizes`` if an array of them may be made.

    Raises:
        CheckpointError: a size is below 0, or there are too many elements.
    """
    if min(sizes, default=0) < 0 or prod(sizes) > MOST_ELEMENTS:
        raise CheckpointError(f"{what} of {list(sizes)[:8]}: expected at most {MOST_ELEMENTS} elements")
    return sizes


def check_broadcast(arrays: Iterable[AnyArray]) -> None:
    """Raise CheckpointError where arrays broadcast to one that is too large; others pass."""
    try:
        shape = np.broadcast_shapes(*(array.shape for array in arrays))
    except ValueError:
        return
    except RuntimeError as error:
        raise CheckpointError("expected arrays of at most 32 dimensions") from error
    bounded(shape, "a result")


def check_products(count: int) -> None:
    """Raise CheckpointError where a node has more multiplications than `MOST_PRODUCTS`."""
    if count > MOST_PRODUCTS:
        raise CheckpointError(f"{count} multiplications: expected at most {MOST_PRODUCTS}")
