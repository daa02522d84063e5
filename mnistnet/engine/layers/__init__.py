"""The layers, one room each; importing this registers them all."""

from mnistnet.engine.layers.activation import ReLU, Softmax
from mnistnet.engine.layers.base import LAYER_KINDS, Layer, layer_from_config
from mnistnet.engine.layers.conv import Conv2d
from mnistnet.engine.layers.dense import Dense
from mnistnet.engine.layers.flatten import Flatten
from mnistnet.engine.layers.pool import MaxPool2d

__all__ = [
    "LAYER_KINDS",
    "Conv2d",
    "Dense",
    "Flatten",
    "Layer",
    "MaxPool2d",
    "ReLU",
    "Softmax",
    "layer_from_config",
]
