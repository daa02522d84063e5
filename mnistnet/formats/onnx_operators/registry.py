"""Which function computes which operator, and from which opset on.

An operator is a function of arrays: the node's inputs by position (None where one is left out), the node's
attributes by name with the specification's defaults. It returns an array, or a tuple where there are several
outputs. What an operator means may change with the opset, so each version that differs is a function of its
own, registered with the opset since which it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from inspect import Parameter, signature
from typing import Any, TypeVar

from mnistnet.engine.arrays import AnyArray
from mnistnet.errors import CheckpointError

Attributes = Mapping[str, Any]
Function = Callable[..., "AnyArray | tuple[AnyArray, ...]"]
_Function = TypeVar("_Function", bound=Function)

_OPERATORS: dict[str, dict[int, Function]] = {}


def operator(*names: str, since: int = 1) -> Callable[[_Function], _Function]:
    """Register a function as one or more operators, from opset ``since`` on."""

    def register(function: _Function) -> _Function:
        for name in names:
            _OPERATORS.setdefault(name, {})[since] = function
        return function

    return register


def supported_operators() -> tuple[str, ...]:
    """The names of all operators there are, sorted."""
    return tuple(sorted(_OPERATORS))


def find_operator(name: str, opset: int, domain: str, attributes: Attributes) -> Function:
    """The function of an operator in an opset.

    Raises:
        CheckpointError: the operator, the opset or one of the attributes is not supported.
    """
    versions = _OPERATORS.get(name, {}) if domain in ("", "ai.onnx") else {}
    since = max((version for version in versions if version <= opset), default=None)
    if since is None:
        shown = f"{domain:.80}.{name:.80}" if domain else f"{name:.80}"
        if versions:
            raise CheckpointError(
                f"operator {shown} is supported from opset {min(versions)} on, found {opset}"
            )
        raise CheckpointError(
            f"operator {shown} is not supported; those that are: {', '.join(supported_operators())}"
        )
    function = versions[since]
    for attribute in attributes:
        if attribute not in _attributes_of(function):
            raise CheckpointError(f"attribute {attribute:.80} of operator {name} is not supported")
    return function


@cache
def _attributes_of(function: Function) -> frozenset[str]:
    parameters = signature(function).parameters.values()
    return frozenset(p.name for p in parameters if p.kind is Parameter.KEYWORD_ONLY)
