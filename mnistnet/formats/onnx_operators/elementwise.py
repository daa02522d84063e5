"""Operators that treat every element alike: arithmetic, comparisons, activations."""

from __future__ import annotations

from collections.abc import Callable
from math import erf, pi, sqrt
from typing import Any

import numpy as np

from mnistnet.engine.arrays import AnyArray
from mnistnet.formats.onnx_operators.registry import operator

_FUNCTIONS: dict[str, Callable[[AnyArray], AnyArray]] = {
    "Abs": np.abs,
    "Ceil": np.ceil,
    "Cos": np.cos,
    "Exp": np.exp,
    "Floor": np.floor,
    "Log": np.log,
    "Neg": np.negative,
    "Not": np.logical_not,
    "Reciprocal": np.reciprocal,
    "Round": np.rint,
    "Sign": np.sign,
    "Sin": np.sin,
    "Sqrt": np.sqrt,
    "Tanh": np.tanh,
}
for _name, _function in _FUNCTIONS.items():
    operator(_name)(lambda x, f=_function: f(x))

_COMPARISONS: dict[str, Callable[[AnyArray, AnyArray], AnyArray]] = {
    "And": np.logical_and,
    "Equal": np.equal,
    "Greater": np.greater,
    "GreaterOrEqual": np.greater_equal,
    "Less": np.less,
    "LessOrEqual": np.less_equal,
    "Or": np.logical_or,
    "Xor": np.logical_xor,
}
for _name, _comparison in _COMPARISONS.items():
    operator(_name, since=7)(lambda a, b, f=_comparison: f(a, b))


def _divide(a: AnyArray, b: AnyArray) -> AnyArray:
    if a.dtype.kind == "f":
        return a / b
    # whole numbers are cut towards zero, NumPy's go down
    quotient = np.abs(a) // np.abs(b)
    return np.where((a < 0) != (b < 0), -quotient, quotient).astype(a.dtype)


_ARITHMETIC: dict[str, Callable[[AnyArray, AnyArray], AnyArray]] = {
    "Add": np.add,
    "Div": _divide,
    "Mul": np.multiply,
    "Pow": lambda a, b: np.power(a, b).astype(a.dtype),
    "Sub": np.subtract,
}


def _aligned(a: AnyArray, b: AnyArray, axis: int | None) -> AnyArray:
    """``b`` as opset 6 and before broadcast it: its axes begin at ``axis`` of ``a``."""
    return b if axis is None else b.reshape(b.shape + (1,) * (a.ndim - axis % a.ndim - b.ndim))


def _register_arithmetic(name: str, f: Callable[[AnyArray, AnyArray], AnyArray]) -> None:
    @operator(name, since=7)
    def _(a: AnyArray, b: AnyArray) -> AnyArray:
        return f(a, b)

    @operator(name, since=6)
    def _(a: AnyArray, b: AnyArray, *, broadcast: int = 0, axis: int | None = None) -> AnyArray:
        return f(a, _aligned(a, b, axis) if broadcast else b)


for _name, _arithmetic in _ARITHMETIC.items():
    _register_arithmetic(_name, _arithmetic)


@operator("Max", since=6)
def _max(*values: AnyArray) -> AnyArray:
    result = values[0]
    for value in values[1:]:
        result = np.maximum(result, value)
    return result


@operator("Min", since=6)
def _min(*values: AnyArray) -> AnyArray:
    result = values[0]
    for value in values[1:]:
        result = np.minimum(result, value)
    return result


@operator("Sum", since=6)
def _sum(*values: AnyArray) -> AnyArray:
    result = values[0]
    for value in values[1:]:
        result = result + value
    return result


@operator("Mean", since=6)
def _mean(*values: AnyArray) -> AnyArray:
    total = _sum(*values)
    return total / total.dtype.type(len(values))


@operator("Where", since=9)
def _where(condition: AnyArray, x: AnyArray, y: AnyArray) -> AnyArray:
    return np.where(condition, x, y)


@operator("Clip", since=6)
def _clip_by_attributes(
    x: AnyArray,
    *,
    min: float = -3.4028234663852886e38,  # noqa: A002
    max: float = 3.4028234663852886e38,  # noqa: A002
) -> AnyArray:
    return np.minimum(np.maximum(x, x.dtype.type(min)), x.dtype.type(max))


@operator("Clip", since=11)
def _clip(x: AnyArray, low: AnyArray | None = None, high: AnyArray | None = None) -> AnyArray:
    # in this order: where the limits cross, the upper one holds
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


@operator("Erf", since=9)
def _erf(x: AnyArray) -> AnyArray:
    return np.vectorize(erf, otypes=[np.float64])(x).astype(x.dtype)


# activations -----------------------------------------------------------------------------------------------


@operator("Relu", since=6)
def _relu(x: AnyArray) -> AnyArray:
    return np.maximum(x, x.dtype.type(0))


@operator("LeakyRelu", since=6)
def _leaky_relu(x: AnyArray, *, alpha: float = 0.01) -> AnyArray:
    return np.where(x < 0, _same(x, alpha) * x, x)


@operator("PRelu", since=7)
def _prelu(x: AnyArray, slope: AnyArray) -> AnyArray:
    return np.where(x < 0, slope * x, x)


@operator("ThresholdedRelu", since=10)
def _thresholded_relu(x: AnyArray, *, alpha: float = 1.0) -> AnyArray:
    return np.where(x > _same(x, alpha), x, _same(x, 0))


@operator("Sigmoid", since=6)
def _sigmoid(x: AnyArray) -> AnyArray:
    # exp of what is not positive never overflows
    tail = np.exp(-np.abs(x))
    return np.where(x < 0, tail, _same(x, 1)) / (1 + tail)


@operator("HardSigmoid", since=6)
def _hard_sigmoid(x: AnyArray, *, alpha: float = 0.2, beta: float = 0.5) -> AnyArray:
    return np.clip(_same(x, alpha) * x + _same(x, beta), _same(x, 0), _same(x, 1))


@operator("HardSwish", since=14)
def _hard_swish(x: AnyArray) -> AnyArray:
    return x * _hard_sigmoid(x, alpha=1 / 6, beta=0.5)


@operator("Swish", since=24)
def _swish(x: AnyArray, *, alpha: float = 1.0) -> AnyArray:
    return x * _sigmoid(_same(x, alpha) * x)


@operator("Softplus")
def _softplus(x: AnyArray) -> AnyArray:
    return np.logaddexp(x, _same(x, 0))


@operator("Softsign")
def _softsign(x: AnyArray) -> AnyArray:
    return x / (1 + np.abs(x))


@operator("Mish", since=18)
def _mish(x: AnyArray) -> AnyArray:
    return x * np.tanh(_softplus(x))


@operator("Elu", since=6)
def _elu(x: AnyArray, *, alpha: float = 1.0) -> AnyArray:
    return np.where(x < 0, _same(x, alpha) * np.expm1(np.minimum(x, 0)), x)


@operator("Celu", since=12)
def _celu(x: AnyArray, *, alpha: float = 1.0) -> AnyArray:
    a = _same(x, alpha)
    return np.maximum(x, 0) + np.minimum(a * np.expm1(np.minimum(x, 0) / a), 0)


@operator("Selu", since=6)
def _selu(x: AnyArray, *, alpha: float = 1.6732632423543772, gamma: float = 1.0507009873554805) -> AnyArray:
    return _same(x, gamma) * _elu(x, alpha=alpha)


@operator("Gelu", since=20)
def _gelu(x: AnyArray, *, approximate: str = "none") -> AnyArray:
    if approximate == "tanh":
        inner = np.tanh(_same(x, sqrt(2 / pi)) * (x + _same(x, 0.044715) * x**3))
    else:
        inner = _erf(x * _same(x, sqrt(0.5)))
    return _same(x, 0.5) * x * (1 + inner)


def _same(x: AnyArray, number: float) -> Any:
    """A number in the type of ``x``: an attribute never widens what it is applied to."""
    return x.dtype.type(number)
