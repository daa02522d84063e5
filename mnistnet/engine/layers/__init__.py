"""The layers, one room each; importing this registers them all."""

from mnistnet.engine.layers.activation import LeakyReLU, ReLU, Sigmoid, Softmax, Tanh
from mnistnet.engine.layers.base import LAYER_KINDS, Layer, layer_from_config
from mnistnet.engine.layers.conv import Conv2d
from mnistnet.engine.layers.dense import Dense
from mnistnet.engine.layers.dropout import Dropout
from mnistnet.engine.layers.flatten import Flatten
from mnistnet.engine.layers.gelu import GELU
from mnistnet.engine.layers.normalization import BatchNorm
from mnistnet.engine.layers.padding import ZeroPad2d
from mnistnet.engine.layers.pool import AvgPool2d, GlobalAvgPool, MaxPool2d
from mnistnet.engine.layers.waves import FourierFeatures, Sine, siren_bound

__all__ = [
    "GELU",
    "LAYER_KINDS",
    "AvgPool2d",
    "BatchNorm",
    "Conv2d",
    "Dense",
    "Dropout",
    "Flatten",
    "FourierFeatures",
    "GlobalAvgPool",
    "Layer",
    "LeakyReLU",
    "MaxPool2d",
    "ReLU",
    "Sigmoid",
    "Sine",
    "Softmax",
    "Tanh",
    "ZeroPad2d",
    "layer_from_config",
    "siren_bound",
]
