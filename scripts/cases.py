"""What is measured: a network, a batch size, an image size; and the same data and weights for everybody."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import numpy.typing as npt
from checkout import DATA

from mnistnet.data import load_data
from mnistnet.engine.layers import Conv2d, Layer
from mnistnet.engine.network import Network
from mnistnet.models import MODELS

LEARNING_RATE = 0.02
MOMENTUM = 0.9
CLASSES = 10


@dataclass(frozen=True)
class Case:
    """One thing to measure."""

    network: str
    batch: int
    side: int = 28
    """Height and width of the images, MNIST's resampled."""
    width: int = 1
    """Factor of every convolution's channels."""

    def build(self) -> Network:
        """The network, with the same weights every time."""
        layers: list[Layer] = MODELS[self.network](CLASSES)
        if self.width != 1:
            layers = [_widened(layer, self.width) for layer in layers]
        return Network(layers, (1, self.side, self.side)).initialize(0)

    def images(self) -> npt.NDArray[np.uint8]:
        """The training images, uint8 (N, 1, side, side)."""
        images = training_set()[0]
        if self.side == 28:
            return images
        nearest = np.arange(self.side) * 28 // self.side
        return np.ascontiguousarray(images[:, :, nearest][:, :, :, nearest])

    def position(self, step: int, count: int) -> int:
        """Where in the order of ``count`` images the batch of a step begins."""
        return step % (count // self.batch) * self.batch


def _widened(layer: Layer, width: int) -> Layer:
    return replace(layer, out_channels=layer.out_channels * width) if isinstance(layer, Conv2d) else layer


@cache
def training_set() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.intp]]:
    """MNIST's training images (60000, 1, 28, 28) and labels."""
    train = load_data(DATA).train
    return train.images, train.labels


@cache
def test_set() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.intp]]:
    """MNIST's test images (10000, 1, 28, 28) and labels."""
    test = load_data(DATA).test
    return test.images, test.labels


def order(count: int) -> npt.NDArray[np.int64]:
    """The order in which everybody sees the images."""
    return np.random.default_rng(0).permutation(count)
