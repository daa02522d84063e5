"""What a network that has learned a picture draws, and how close that comes."""

from __future__ import annotations

from math import inf, log10

import numpy as np

from mnistnet.data.points import pixel_centres
from mnistnet.engine.arrays import FloatArray
from mnistnet.engine.network import Network
from mnistnet.engine.workers import usable_cores

AT_ONCE = 1 << 18
"""Points whose values are computed in one go: a picture of any size takes a bounded amount of memory."""


def draw(network: Network, size: tuple[int, int], frame: tuple[int, int]) -> FloatArray:
    """The picture of a network from coordinates to K numbers: float32 (H, W, K).

    Args:
        network: (N, 2) in, (N, K) out.
        size: (width, height) in pixels.
        frame: see `pixel_centres`.
    """
    width, height = size
    out = np.empty((height * width, *network.output_shape), network.dtype)
    rows = max(1, AT_ONCE // width)
    threads = usable_cores()
    for top in range(0, height, rows):
        stop = min(top + rows, height)
        centres = pixel_centres(size, frame, slice(top, stop))
        out[top * width : stop * width] = network.predict(centres, threads=threads)
    return out.reshape(height, width, -1)


def peak_signal_to_noise(drawn: FloatArray, original: FloatArray) -> float:
    """``-10 log10`` of the mean squared difference of numbers in 0 .. 1, in dB; drawn ones are cut off."""
    error = float(np.mean((np.clip(drawn, 0.0, 1.0) - original) ** 2, dtype=np.float64))
    return -10.0 * log10(error) if error > 0.0 else inf


def right_pixels(drawn: FloatArray, original: FloatArray) -> int:
    """How many pixels of a black and white picture (H, W, 1) are on the right side of 0.5."""
    return int(np.count_nonzero((drawn >= 0.5) == (original >= 0.5)))
