"""ONNX operators in NumPy, one function each, by the text of the specification.

Importing this registers them all. What a graph is made of is looked up with `find_operator`.
"""

from mnistnet.formats.onnx_operators import (
    elementwise,
    matrix,
    normalization,
    reductions,
    shapes,
    windows,
)
from mnistnet.formats.onnx_operators.registry import Attributes, find_operator, supported_operators

__all__ = [
    "Attributes",
    "elementwise",
    "find_operator",
    "matrix",
    "normalization",
    "reductions",
    "shapes",
    "supported_operators",
    "windows",
]
