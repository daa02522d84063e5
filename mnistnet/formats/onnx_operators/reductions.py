"""Operators that take axes away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from mnistnet.engine.arrays import AnyArray
from mnistnet.formats.onnx_operators.registry import operator


def _extreme(x: AnyArray, sign: int) -> Any:
    """The least or the greatest number of a type: what the largest or the smallest of nothing is."""
    match x.dtype.kind:
        case "f":
            return sign * np.inf
        case "b":
            return sign > 0
        case _:
            limits = np.iinfo(x.dtype)
            return limits.max if sign > 0 else limits.min


def _mean(x: AnyArray, axis: tuple[int, ...] | None, keepdims: bool) -> AnyArray:
    """Of nothing it is not a number, of which ``np.mean`` would warn."""
    total = np.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype)
    count = x.size if axis is None else prod(x.shape[i] for i in axis)
    return np.true_divide(total, count).astype(x.dtype)


_REDUCTIONS: dict[str, tuple[int, Callable[..., AnyArray]]] = {
    "ReduceL2": (18, lambda x, **where: np.sqrt(np.sum(x * x, **where)).astype(x.dtype)),
    "ReduceMax": (18, lambda x, **where: np.max(x, **where, initial=_extreme(x, -1))),
    "ReduceMean": (18, _mean),
    "ReduceMin": (18, lambda x, **where: np.min(x, **where, initial=_extreme(x, 1))),
    "ReduceProd": (18, lambda x, **where: np.prod(x, **where, dtype=x.dtype)),
    "ReduceSum": (13, lambda x, **where: np.sum(x, **where, dtype=x.dtype)),
}
"""Every reduction with the opset since which its axes are an input, no longer an attribute."""


def _register_reduction(name: str, axes_are_input: int, f: Callable[..., AnyArray]) -> None:
    @operator(name, since=axes_are_input)
    def _(
        x: AnyArray,
        axes: AnyArray | None = None,
        *,
        keepdims: int = 1,
        noop_with_empty_axes: int = 0,
    ) -> AnyArray:
        if axes is None or not axes.size:
            return x if noop_with_empty_axes else f(x, axis=None, keepdims=bool(keepdims))
        return f(x, axis=tuple(axes.tolist()), keepdims=bool(keepdims))

    @operator(name)
    def _(x: AnyArray, *, axes: Sequence[int] | None = None, keepdims: int = 1) -> AnyArray:
        return f(x, axis=tuple(axes) if axes else None, keepdims=bool(keepdims))


for _name, (_since, _function) in _REDUCTIONS.items():
    _register_reduction(_name, _since, _function)


def _register_arg(name: str, f: Callable[..., AnyArray]) -> None:
    @operator(name)
    def _(x: AnyArray, *, axis: int = 0, keepdims: int = 1, select_last_index: int = 0) -> AnyArray:
        if not select_last_index:
            return f(x, axis=axis, keepdims=bool(keepdims)).astype(np.int64)
        from_the_end = f(np.flip(x, axis), axis=axis, keepdims=bool(keepdims))
        return (x.shape[axis] - 1 - from_the_end).astype(np.int64)


_register_arg("ArgMax", np.argmax)
_register_arg("ArgMin", np.argmin)
