"""A few real images that come with the package, to prove an exported model on."""

from __future__ import annotations

from importlib import resources

import numpy as np

from mnistnet.data.idx import read_idx
from mnistnet.engine.arrays import AnyArray

RESOURCE = "proof-images-idx3-ubyte.gz"


def proof_images(shape: tuple[int, ...], count: int = 64) -> tuple[AnyArray, str]:
    """The first ``count`` (at most 64) MNIST test images, in the shape of a network's input.

    Args:
        shape: (C, H, W). Other sizes than 1x28x28 get the digits resampled by nearest neighbour, shifted a
            little in each further channel. Or (F,): then it is points, always the same, in -1 .. 1.
        count: how many.

    Returns:
        Images (N, C, H, W) as bytes, or float32 points (N, F); and what to call them.
    """
    if len(shape) == 1:
        points = np.random.default_rng(0).uniform(-1.0, 1.0, (count, *shape)).astype(np.float32)
        return points, f"points in -1 .. 1 with {shape[0]} coordinates"
    with resources.as_file(resources.files("mnistnet.data") / RESOURCE) as path:
        digits = read_idx(path)[:count]
    c, h, w = shape
    if (c, h, w) == (1, *digits.shape[1:]):
        return digits[:, None], "MNIST test images"
    rows = np.arange(h) * digits.shape[1] // h
    columns = np.arange(w) * digits.shape[2] // w
    resized = digits[:, rows][:, :, columns]
    channels = [np.roll(resized, channel, axis=2) for channel in range(c)]
    return np.ascontiguousarray(np.stack(channels, axis=1)), f"MNIST test images resampled to {c}x{h}x{w}"
