"""The layers, one room each; importing this registers them all."""

from mnistnet.engine.layers.activation import LeakyReLU, ReLU, Sigmoid, Softmax
from mnistnet.engine.layers.base import LAYER_KINDS, Layer, layer_from_config
from mnistnet.engine.layers.conv import Conv2d
from mnistnet.engine.layers.dense import Dense
from mnistnet.engine.layers.dropout import Dropout
from mnistnet.engine.layers.flatten import Flatten
from mnistnet.engine.layers.normalization import BatchNorm
from mnistnet.engine.layers.pool import MaxPool2d

__all__ = [
    "LAYER_KINDS",
    "BatchNorm",
    "Conv2d",
    "Dense",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "MaxPool2d",
    "ReLU",
    "Sigmoid",
    "Softmax",
    "layer_from_config",
]
