"""The same network in PyTorch: one module for each layer, the same parameter names, the same values.

PyTorch is no dependency of this package, not even an optional one: only who measures against it, and has it,
imports this module.
"""

from __future__ import annotations

from functools import singledispatch

import torch
from torch import nn

from mnistnet.engine.arrays import Shape
from mnistnet.engine.layers import (
    GELU,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Tanh,
    ZeroPad2d,
)
from mnistnet.engine.network import Network


@singledispatch
def module_of(layer: Layer, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    """The PyTorch module that does what a layer does; every layer class registers its own."""
    raise TypeError(f"{layer.kind}: no PyTorch module is known for it")


@module_of.register
def _(layer: Conv2d, input_shape: Shape) -> nn.Module:
    geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.groups)
    return nn.Conv2d(input_shape[0], layer.out_channels, *geometry)


@module_of.register
def _(layer: ZeroPad2d, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.ZeroPad2d((layer.left, layer.right, layer.top, layer.bottom))


@module_of.register
def _(layer: MaxPool2d, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.MaxPool2d(layer.kernel_size, layer.strides, layer.padding)


@module_of.register
def _(layer: Dense, input_shape: Shape) -> nn.Module:
    return nn.Linear(input_shape[0], layer.out_features)


@module_of.register
def _(layer: Flatten, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.Flatten()


@module_of.register
def _(layer: ReLU, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.ReLU()


@module_of.register
def _(layer: LeakyReLU, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.LeakyReLU(layer.slope)


@module_of.register
def _(layer: Sigmoid, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.Sigmoid()


@module_of.register
def _(layer: Tanh, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.Tanh()


@module_of.register
def _(layer: GELU, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.GELU(layer.approximate)


@module_of.register
def _(layer: AvgPool2d, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.AvgPool2d(layer.kernel_size, layer.strides, layer.padding, count_include_pad=False)


@module_of.register
def _(layer: GlobalAvgPool, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


@module_of.register
def _(layer: BatchNorm, input_shape: Shape) -> nn.Module:
    kind = nn.BatchNorm2d if len(input_shape) == 3 else nn.BatchNorm1d
    return kind(input_shape[0], layer.epsilon, layer.momentum)


@module_of.register
def _(layer: Dropout, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    return nn.Dropout(layer.rate)


def twin(network: Network) -> nn.Sequential:
    """The network's logits in PyTorch; its last layer, a softmax or sigmoid, belongs to PyTorch's loss."""
    layers = zip(network.layers[:-1], network.shapes, strict=False)
    model = nn.Sequential(*(module_of(layer, shape) for layer, shape in layers))
    model.to(torch.from_numpy(network.vector[:0].copy()).dtype)
    copy_parameters(network, model)
    return model


def copy_parameters(network: Network, model: nn.Sequential) -> None:
    """Give the model the network's parameters: both call them ``0.weight``."""
    ours = {name: torch.from_numpy(values.copy()) for name, values in network.parameters().items()}
    # PyTorch's batch normalization counts its batches too
    model.load_state_dict({**model.state_dict(), **ours})
