"""The roofline: how fast a training step could be if nothing but arithmetic and memory took time.

    least = (GEMM flops / peak + least traffic / L2 speed) / cores

- GEMM flops: three products a layer (output, weight gradient, input gradient; two for the first layer), with
  the multiplications and additions of *direct* convolution. Winograd's form needs fewer, so that a network
  with it may reach more than 100 %.
- peak: the best that NumPy's BLAS does on one core over several shapes, measured.
- least traffic: every array that a layer must read or write once in each pass, the max-pool in front of bias
  and ReLU: rows lowered along the width (written, read back as their gradient), pool (in, out, gradients),
  bias and activation (read and written once forward, once backward), the parameters' update.
- L2 speed: bytes read and written by a copy within one core's L2, measured.
"""

from __future__ import annotations

from math import prod

import checkout  # noqa: F401
import numpy as np

from mnistnet.engine.blas import one_thread
from mnistnet.engine.network import Network
from mnistnet.reports.timing import repeat

SHAPES = (
    # batch of products, M, K, N
    (16, 16, 200, 256), (16, 16, 200, 128), (16, 32, 96, 256), (16, 64, 192, 64), (1, 128, 256, 32),
    (1, 384, 384, 384), (1, 1024, 1024, 1024),
)  # fmt: skip
L2_ARRAY = 256 * 1024
"""Bytes of source and of target: together half of an L2 cache of 1 MB."""


def gemm_peak(seconds: float = 0.2) -> tuple[float, str]:
    """Best flops a second of one core, and the shape where they were found."""
    best, where = 0.0, ""
    rng = np.random.default_rng(0)
    with one_thread():
        for count, m, k, n in SHAPES:
            a = rng.standard_normal((m, k), np.float32)
            b = rng.standard_normal((count, k, n), np.float32)
            out = np.empty((count, m, n), np.float32)
            times = repeat(lambda a=a, b=b, out=out: np.matmul(a, b, out=out), seconds)
            flops = 2 * count * m * k * n / min(times)
            if flops > best:
                best, where = flops, f"{m}x{k} times {k}x{n}"
    return best, where


def copy_speed(seconds: float = 0.2) -> float:
    """Bytes a second, read and written, of a copy within L2 on one core."""
    source = np.ones(L2_ARRAY // 4, np.float32)
    target = np.empty_like(source)

    def copies() -> None:
        for _ in range(20):
            np.copyto(target, source)

    return 20 * 2 * L2_ARRAY / min(repeat(copies, seconds))


def step_flops(network: Network) -> float:
    """GEMM flops of one image in a training step."""
    products = 2
    flops = 0.0
    for layer, shape in zip(network.layers, network.shapes, strict=False):
        work = layer.multiply_adds(shape)
        if work:
            flops += 2.0 * work * products
            products = 3
    return flops


def step_traffic(network: Network, batch: int) -> float:
    """Least bytes of one image in a training step beside the products."""
    numbers = 5 * network.size / batch  # gradient, velocity (read, written), parameter (read, written)
    first = True
    pixels = prod(network.input_shape)
    numbers += pixels * 1.25  # a byte read, a float written
    for index, layer in enumerate(network.layers):
        inputs, outputs = prod(network.shapes[index]), prod(network.shapes[index + 1])
        kind = layer.kind
        if kind == "conv2d":
            c, h, _ = network.shapes[index]
            lowered = c * h * layer.config()["kernel_size"][1] * network.shapes[index + 1][2]
            numbers += (inputs + lowered) * (1 if first else 2)
            numbers += 4 * _pooled(network, index)  # bias and ReLU, forward and backward
        elif kind == "dense":
            numbers += 4 * outputs
        elif kind == "max_pool2d":
            numbers += 3 * inputs + 2 * outputs
        first = first and not layer.multiply_adds(network.shapes[index])
    return numbers * network.dtype.itemsize


def least_seconds(network: Network, batch: int, peak: float, speed: float, cores: int) -> float:
    """What a training step of ``batch`` images takes at the roofline."""
    return batch * (step_flops(network) / peak + step_traffic(network, batch) / speed) / cores


def _pooled(network: Network, index: int) -> int:
    """How many numbers bias and ReLU work on: those behind the pool, if one follows."""
    following = index + 2
    if following < len(network.layers) and network.layers[following].kind == "max_pool2d":
        return prod(network.shapes[following + 1])
    return prod(network.shapes[index + 1])
