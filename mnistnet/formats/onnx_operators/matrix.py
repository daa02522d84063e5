"""Products of matrices."""

from __future__ import annotations

import numpy as np

from mnistnet.engine.arrays import AnyArray
from mnistnet.formats.onnx_operators.registry import operator


@operator("MatMul")
def _matmul(a: AnyArray, b: AnyArray) -> AnyArray:
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
    product = np.matmul(a.T if transA else a, b.T if transB else b) * a.dtype.type(alpha)
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
