"""What the BLAS behind NumPy is like, and how to cut a product so that it stays in its fast path.

OpenBLAS has a kernel for small matrices that packs nothing: with AVX-512 it runs at twice the speed of
the general one, as long as M N K <= 1e6. So long products are cut into batches of ``np.matmul``. On
other kernels cutting only costs (measured: up to 16 % on Haswell), and nothing is cut but what processes
deal out among themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, partial
from typing import Any

import numpy  # noqa: F401, ICN001 (loads the BLAS that is asked here)
from threadpoolctl import ThreadpoolController

from mnistnet.engine.held import Held

SMALL_PRODUCT = 1_000_000
"""M N K up to which OpenBLAS's small-matrix kernel is used (its `dynamic` AVX-512 targets)."""
AVX512_KERNELS = ("skylakex", "cooperlake", "sapphirerapids", "zen4", "zen5")


@cache
def _libraries() -> tuple[Any, ...]:
    """Every BLAS in this process, as threadpoolctl's controllers."""
    return tuple(ThreadpoolController().select(user_api="blas").lib_controllers)


@cache
def kernel() -> str:
    """The kernels that the BLAS chose on this machine, such as ``SkylakeX``; "unknown" if it does not say."""
    infos = [library.info() for library in _libraries()]
    return next((str(info["architecture"]) for info in infos if "architecture" in info), "unknown")


@cache
def cuts_products() -> bool:
    """Whether products are cut on this machine."""
    return kernel().lower() in AVX512_KERNELS


def _take_one_thread() -> Callable[[], object]:
    before = [(library, library.get_num_threads()) for library in _libraries()]
    several = [(library, threads) for library, threads in before if threads != 1]

    def set_threads(*, one: bool) -> None:
        for library, threads in several:
            library.set_num_threads(1 if one else threads)

    set_threads(one=True)
    return partial(set_threads, one=False)


_ONE_THREAD = Held(_take_one_thread)


def one_thread() -> AbstractContextManager[None]:
    """A context in which BLAS runs on one thread: shards are the unit of parallel work, and of rounding.

    OpenBLAS rounds differently with two threads, so the same bits everywhere need this too. It is set at
    run time, for an environment variable is too late once NumPy is imported; and for the whole process, for
    that is how a BLAS counts. threadpoolctl's own context takes 30 microseconds, half a prediction's time.
    """
    return _ONE_THREAD


def block_of(size: int, others: int, *, multiple: int = 1, least: int = 8) -> int:
    """The largest divisor of ``size`` with ``divisor * others <= SMALL_PRODUCT``, or ``size`` itself.

    Args:
        size: the dimension to cut.
        others: the product of the other two dimensions.
        multiple: the block shall be a multiple of this.
        least: blocks below this are not worth their call: then nothing is cut.
    """
    if not cuts_products() or size * others <= SMALL_PRODUCT:
        return size
    return largest_divisor(size, SMALL_PRODUCT // others, multiple=multiple, least=least)


def largest_divisor(size: int, limit: int, *, multiple: int = 1, least: int = 8) -> int:
    """The largest divisor of ``size`` in ``least .. limit`` and multiple of ``multiple``, else ``size``."""
    for divisor in range(min(size, limit), least - 1, -1):
        if size % divisor == 0 and divisor % multiple == 0:
            return divisor
    return size
