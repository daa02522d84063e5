"""The same network in PyTorch: one module for each layer, the same parameter names, the same values."""

from __future__ import annotations

from functools import singledispatch

import checkout  # noqa: F401
import torch
from torch import nn

from mnistnet.engine.arrays import Shape
from mnistnet.engine.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU
from mnistnet.engine.network import Network


@singledispatch
def module_of(layer: Layer, input_shape: Shape) -> nn.Module:  # noqa: ARG001
    raise TypeError(f"{layer.kind}: no PyTorch module is known for it")


@module_of.register
def _(layer: Conv2d, input_shape: Shape) -> nn.Module:
    return nn.Conv2d(input_shape[0], layer.out_channels, layer.kernel_size, layer.stride, layer.padding)


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


def twin(network: Network) -> nn.Sequential:
    """The network's logits in PyTorch; its last layer, a softmax, belongs to PyTorch's loss."""
    layers = zip(network.layers[:-1], network.shapes, strict=False)
    model = nn.Sequential(*(module_of(layer, shape) for layer, shape in layers))
    model.to(torch.from_numpy(network.vector[:0].copy()).dtype)
    copy_parameters(network, model)
    return model


def copy_parameters(network: Network, model: nn.Sequential) -> None:
    """Give the model the network's parameters: both call them ``0.weight``."""
    model.load_state_dict({name: torch.from_numpy(v.copy()) for name, v in network.parameters().items()})
