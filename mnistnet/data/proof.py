"""A few real images that come with the package, to prove an exported model on."""

from __future__ import annotations

from importlib import resources

import numpy as np
import numpy.typing as npt

from mnistnet.data.idx import read_idx

RESOURCE = "proof-images-idx3-ubyte.gz"


def proof_images(shape: tuple[int, ...], count: int = 64) -> tuple[npt.NDArray[np.uint8], str]:
    """The first ``count`` (at most 64) MNIST test images, in the shape of a network's input.

    Args:
        shape: (C, H, W). Other sizes than 1x28x28 get the digits resampled by nearest neighbour, shifted a
            little in each further channel.
        count: how many.

    Returns:
        Images (N, C, H, W) as bytes, and what to call them.
    """
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
