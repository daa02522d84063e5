"""Products of matrices."""

from __future__ import annotations

from math import prod

import numpy as np

from mnistnet.engine.arrays import AnyArray
from mnistnet.formats.onnx_operators.limits import bounded, check_products
from mnistnet.formats.onnx_operators.registry import operator


def _check(a: AnyArray, b: AnyArray) -> None:
    """Refuse a product that is too large; shapes that do not fit are NumPy's to refuse."""
    rows, columns = a.shape[-2:-1] or (1,), b.shape[-1:] if b.ndim > 1 else (1,)
    try:
        batch = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except ValueError:
        return
    sizes = (*batch, *rows, *columns)
    bounded(sizes, "a product")
    check_products(prod(sizes) * (a.shape[-1] if a.ndim else 1))


@operator("MatMul")
def _matmul(a: AnyArray, b: AnyArray) -> AnyArray:
    _check(a, b)
    return np.matmul(a, b)


@operator("Gemm", since=7)
def gemm(
    a: AnyArray,
    b: AnyArray,
    c: AnyArray | None = None,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> AnyArray:
    """``alpha A B + beta C``, A and B transposed if asked for."""
    a, b = a.T if transA else a, b.T if transB else b
    _check(a, b)
    product = np.matmul(a, b) * a.dtype.type(alpha)
    return product if c is None else product + a.dtype.type(beta) * c


@operator("Gemm", since=6)
def _gemm_with_broadcast(
    a: AnyArray,
    b: AnyArray,
    c: AnyArray,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    broadcast: int = 0,  # noqa: ARG001 (NumPy broadcasts where shapes differ)
    transA: int = 0,  # noqa: N803
    transB: int = 0,  # noqa: N803
) -> AnyArray:
    return gemm(a, b, c, alpha=alpha, beta=beta, transA=transA, transB=transB)
