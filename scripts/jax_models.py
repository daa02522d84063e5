"""The same network in JAX, images and kernels with their channels innermost, as XLA likes them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import singledispatch
from typing import Any

import jax
from jax import lax
from jax import numpy as jnp

from mnistnet.engine.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU
from mnistnet.engine.network import Network


def parameters_of(network: Network) -> list[dict[str, Any]]:
    """For each layer its parameters; kernels (K, C, R, S) become (R, S, C, K), dense weights (in, out)."""
    axes = {4: (2, 3, 1, 0), 2: (1, 0), 1: (0,)}
    return [
        {name: jnp.asarray(value.transpose(axes[value.ndim])) for name, value in layer.params.items()}
        for layer in network.layers[:-1]
    ]


def logits_of(layers: Sequence[Layer], values: Sequence[dict[str, Any]], x: Any) -> Any:
    """(N, H, W, C) images to (N, K) logits."""
    for layer, parameters in zip(layers, values, strict=True):
        x = apply(layer, parameters, x)
    return x


@singledispatch
def apply(layer: Layer, parameters: dict[str, Any], x: Any) -> Any:  # noqa: ARG001
    raise TypeError(f"{layer.kind}: no JAX form is known for it")


@apply.register
def _(layer: Conv2d, parameters: dict[str, Any], x: Any) -> Any:
    padding = [(size, size) for size in layer.padding]
    dimensions = ("NHWC", "HWIO", "NHWC")
    y = lax.conv_general_dilated(x, parameters["weight"], layer.stride, padding, dimension_numbers=dimensions)
    return y + parameters["bias"]


@apply.register
def _(layer: MaxPool2d, parameters: dict[str, Any], x: Any) -> Any:  # noqa: ARG001
    window = (1, *layer.kernel_size, 1)
    padding = [(0, 0), *((size, size) for size in layer.padding), (0, 0)]
    return lax.reduce_window(x, -jnp.inf, lax.max, window, (1, *layer.strides, 1), padding)


@apply.register
def _(layer: Flatten, parameters: dict[str, Any], x: Any) -> Any:  # noqa: ARG001
    return x.transpose(0, 3, 1, 2).reshape(len(x), -1)


@apply.register
def _(layer: Dense, parameters: dict[str, Any], x: Any) -> Any:  # noqa: ARG001
    return x @ parameters["weight"] + parameters["bias"]


@apply.register
def _(layer: ReLU, parameters: dict[str, Any], x: Any) -> Any:  # noqa: ARG001
    return jax.nn.relu(x)
