"""What the BLAS behind NumPy is like, and how to cut a product so that it stays in its fast path.

OpenBLAS has a kernel for small matrices that packs nothing: with AVX-512 it runs at twice the speed of
the general one, as long as M N K <= 1e6. So long products are cut into batches of ``np.matmul``. On
other kernels cutting only costs (measured: up to 16 % on Haswell), and nothing is cut.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

SMALL_PRODUCT = 1_000_000
"""M N K up to which OpenBLAS's small-matrix kernel is used (its `dynamic` AVX-512 targets)."""
AVX512_KERNELS = ("skylakex", "cooperlake", "sapphirerapids", "zen4", "zen5")


@cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


@cache
def kernel() -> str:
    """The kernels that the BLAS chose on this machine, such as ``SkylakeX``; "unknown" if it does not say."""
    libraries = _controller().select(user_api="blas").info()
    return next((str(lib["architecture"]) for lib in libraries if "architecture" in lib), "unknown")


@cache
def cuts_products() -> bool:
    """Whether products are cut on this machine."""
    return kernel().lower() in AVX512_KERNELS


def one_thread() -> AbstractContextManager[Any]:
    """A context in which BLAS runs on one thread: shards are the unit of parallel work, and of rounding.

    OpenBLAS rounds differently with two threads, so the same bits everywhere need this too. It is set at
    run time, for an environment variable is too late once NumPy is imported.
    """
    limit: AbstractContextManager[Any] = _controller().limit(limits=1, user_api="blas")
    return limit


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
