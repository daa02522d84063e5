"""Softmax and its relatives, normalizations, dropout."""

from __future__ import annotations

from collections.abc import Callable
from math import prod

import numpy as np

from mnistnet.engine.arrays import AnyArray
from mnistnet.formats.onnx_operators.limits import check_broadcast
from mnistnet.formats.onnx_operators.registry import operator


def softmax(x: AnyArray, *, axis: int = -1) -> AnyArray:
    """``exp(x) / sum exp(x)`` along an axis, the largest subtracted first."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def _log_softmax(x: AnyArray, *, axis: int = -1) -> AnyArray:
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _hardmax(x: AnyArray, *, axis: int = -1) -> AnyArray:
    first = np.expand_dims(x.argmax(axis=axis), axis)
    result = np.zeros_like(x)
    np.put_along_axis(result, first, x.dtype.type(1), axis)
    return result


def _register_along_an_axis(name: str, f: Callable[..., AnyArray]) -> None:
    operator(name, since=13)(f)

    @operator(name)
    def _(x: AnyArray, *, axis: int = 1) -> AnyArray:
        # before opset 13: over all axes from this one on, taken as one
        rows = x.reshape(prod(x.shape[: axis % x.ndim]), -1)
        return f(rows, axis=1).reshape(x.shape)


for _name, _function in (("Softmax", softmax), ("LogSoftmax", _log_softmax), ("Hardmax", _hardmax)):
    _register_along_an_axis(_name, _function)


def _normalize(
    x: AnyArray, scale: AnyArray, bias: AnyArray, mean: AnyArray, variance: AnyArray, epsilon: float
) -> AnyArray:
    """``scale (x - mean) / sqrt(variance + epsilon) + bias`` for each channel of (N, C, ...)."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    s, b, m, v = (values.reshape(shape) for values in (scale, bias, mean, variance))
    check_broadcast((x, s, b, m, v))
    return (s * (x - m) / np.sqrt(v + v.dtype.type(epsilon)) + b).astype(x.dtype)


@operator("BatchNormalization", since=6)
def _batch_normalization_6(
    x: AnyArray,
    scale: AnyArray,
    bias: AnyArray,
    mean: AnyArray,
    variance: AnyArray,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    is_test: int = 0,
    spatial: int = 1,  # noqa: ARG001 (the statistics' shape says it)
) -> AnyArray | tuple[AnyArray, ...]:
    return _batch_normalization(
        x, scale, bias, mean, variance, epsilon=epsilon, momentum=momentum, training_mode=int(not is_test)
    )


@operator("BatchNormalization", since=7)
def _batch_normalization_7(
    x: AnyArray,
    scale: AnyArray,
    bias: AnyArray,
    mean: AnyArray,
    variance: AnyArray,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,  # noqa: ARG001 (of training)
    spatial: int = 1,  # noqa: ARG001 (the statistics' shape says it)
) -> AnyArray:
    return _normalize(x, scale, bias, mean, variance, epsilon)


@operator("BatchNormalization", since=14)
def _batch_normalization(
    x: AnyArray,
    scale: AnyArray,
    bias: AnyArray,
    mean: AnyArray,
    variance: AnyArray,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> AnyArray | tuple[AnyArray, ...]:
    if not training_mode:
        return _normalize(x, scale, bias, mean, variance, epsilon)
    axes = (0, *range(2, x.ndim))
    batch_mean, batch_variance = x.mean(axis=axes), x.var(axis=axes)
    keep = mean.dtype.type(momentum)
    return (
        _normalize(x, scale, bias, batch_mean, batch_variance, epsilon),
        mean * keep + batch_mean * (1 - keep),
        variance * keep + batch_variance * (1 - keep),
    )


@operator("InstanceNormalization", since=6)
def _instance_normalization(
    x: AnyArray, scale: AnyArray, bias: AnyArray, *, epsilon: float = 1e-5
) -> AnyArray:
    axes = tuple(range(2, x.ndim))
    mean, variance = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    shape = (1, -1) + (1,) * (x.ndim - 2)
    check_broadcast((x, scale.reshape(shape), bias.reshape(shape)))
    normalized = (x - mean) / np.sqrt(variance + x.dtype.type(epsilon))
    return scale.reshape(shape) * normalized + bias.reshape(shape)


@operator("LayerNormalization", since=17)
def _layer_normalization(
    x: AnyArray,
    scale: AnyArray,
    bias: AnyArray | None = None,
    *,
    axis: int = -1,
    epsilon: float = 1e-5,
    stash_type: int = 1,  # noqa: ARG001 (float32 is what there is)
) -> tuple[AnyArray, ...]:
    axes = tuple(range(axis % x.ndim, x.ndim))
    mean = x.mean(axis=axes, keepdims=True)
    inverse = 1 / np.sqrt(x.var(axis=axes, keepdims=True) + x.dtype.type(epsilon))
    y = (x - mean) * inverse * scale
    return (y if bias is None else y + bias), mean, inverse


@operator("Dropout", since=7)
def _dropout_7(x: AnyArray, *, ratio: float = 0.5) -> tuple[AnyArray, ...]:  # noqa: ARG001
    return x, np.ones(x.shape, np.bool_)


@operator("Dropout", since=6)
def _dropout_6(x: AnyArray, *, ratio: float = 0.5, is_test: int = 0) -> tuple[AnyArray, ...]:
    return _dropout(x, np.asarray(ratio), np.asarray(not is_test))


@operator("Dropout", since=12)
def _dropout(
    x: AnyArray, ratio: AnyArray | None = None, training: AnyArray | None = None, *, seed: int = 0
) -> tuple[AnyArray, ...]:
    share = 0.5 if ratio is None else ratio.item()
    if training is None or not training or share == 0:
        return x, np.ones(x.shape, np.bool_)
    # the legacy generator: the specification leaves the draws open, its test-suite expects these
    mask = np.random.RandomState(seed).uniform(0, 1, x.shape) >= share
    return (mask * x * (1 / (1 - share))).astype(x.dtype), mask
