"""The mathematics once more, in the most obvious way: NCHW, float64, a loop over windows.

What the engine computes is compared with this; this is compared with numbers worked out by hand
(test_naive.py). Axis letters as in the engine: N batch, C channels in, K channels out, H W input,
R S kernel, P Q output.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Pair = tuple[int, int]


def pad(x: Array, padding: Pair, value: float) -> Array:
    """A float64 copy of (N, C, H, W) with ``value`` around every image."""
    n, c, h, w = x.shape
    padded = np.full((n, c, h + 2 * padding[0], w + 2 * padding[1]), value, np.float64)
    padded[:, :, padding[0] : padding[0] + h, padding[1] : padding[1] + w] = x
    return padded


def crop(x: Array, padding: Pair) -> Array:
    """The opposite of `pad`."""
    return x[:, :, padding[0] : x.shape[2] - padding[0], padding[1] : x.shape[3] - padding[1]]


def places(shape: tuple[int, ...], kernel: Pair, stride: Pair) -> Iterator[tuple[int, int, slice, slice]]:
    """For each window that fits into (.., H, W): p, q, and the rows and columns that it covers."""
    h, w = shape[-2:]
    for p, y in enumerate(range(0, h - kernel[0] + 1, stride[0])):
        for q, x in enumerate(range(0, w - kernel[1] + 1, stride[1])):
            yield p, q, slice(y, y + kernel[0]), slice(x, x + kernel[1])


def conv2d(x: Array, weight: Array, bias: Array, stride: Pair = (1, 1), padding: Pair = (0, 0)) -> Array:
    """x (N, C, H, W), weight (K, C, R, S), bias (K,) to (N, K, P, Q)."""
    padded = pad(x, padding, 0.0)
    found = list(places(padded.shape, weight.shape[2:], stride))
    y = np.empty((len(x), len(weight), found[-1][0] + 1, found[-1][1] + 1))
    matrix = weight.astype(np.float64).reshape(len(weight), -1)
    for p, q, rows, columns in found:
        y[:, :, p, q] = padded[:, :, rows, columns].reshape(len(x), -1) @ matrix.T + bias
    return y


def conv2d_backward(
    x: Array, weight: Array, dy: Array, stride: Pair = (1, 1), padding: Pair = (0, 0)
) -> tuple[Array, Array, Array]:
    """dx (N, C, H, W), dweight (K, C, R, S), dbias (K,) from dy (N, K, P, Q)."""
    padded = pad(x, padding, 0.0)
    d_padded = np.zeros_like(padded)
    d_weight = np.zeros(weight.shape)
    matrix = weight.astype(np.float64).reshape(len(weight), -1)
    for p, q, rows, columns in places(padded.shape, weight.shape[2:], stride):
        window = padded[:, :, rows, columns]
        d_weight += (dy[:, :, p, q].T @ window.reshape(len(x), -1)).reshape(weight.shape)
        d_padded[:, :, rows, columns] += (dy[:, :, p, q] @ matrix).reshape(window.shape)
    return crop(d_padded, padding), d_weight, dy.sum(axis=(0, 2, 3))


def max_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Array:
    """x (N, C, H, W) to (N, C, P, Q)."""
    padded = pad(x, padding, -np.inf)
    found = list(places(padded.shape, kernel, stride))
    y = np.empty((*x.shape[:2], found[-1][0] + 1, found[-1][1] + 1))
    for p, q, rows, columns in found:
        y[:, :, p, q] = padded[:, :, rows, columns].max(axis=(2, 3))
    return y


def max_pool2d_backward(x: Array, dy: Array, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Array:
    """dx (N, C, H, W): each window's gradient goes to its leftmost, then topmost, maximum."""
    padded = pad(x, padding, -np.inf)
    d_padded = np.zeros_like(padded)
    n, c = x.shape[:2]
    image, channel = np.ogrid[:n, :c]
    for p, q, rows, columns in places(padded.shape, kernel, stride):
        by_column = padded[:, :, rows, columns].swapaxes(2, 3).reshape(n, c, -1)
        s, r = np.divmod(by_column.argmax(axis=2), kernel[0])
        # each (image, channel) occurs once, so plain addition by index is safe
        d_padded[image, channel, rows.start + r, columns.start + s] += dy[:, :, p, q]
    return crop(d_padded, padding)


def avg_pool2d(x: Array, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Array:
    """x (N, C, H, W) to (N, C, P, Q): the mean of the pixels that are there."""
    padded = pad(x, padding, np.nan)
    found = list(places(padded.shape, kernel, stride))
    y = np.empty((*x.shape[:2], found[-1][0] + 1, found[-1][1] + 1))
    for p, q, rows, columns in found:
        y[:, :, p, q] = np.nanmean(padded[:, :, rows, columns], axis=(2, 3))
    return y


def avg_pool2d_backward(x: Array, dy: Array, kernel: Pair, stride: Pair, padding: Pair = (0, 0)) -> Array:
    """dx (N, C, H, W): each pixel of a window gets an equal share."""
    padded = pad(x, padding, np.nan)
    d_padded = np.zeros_like(padded)
    for p, q, rows, columns in places(padded.shape, kernel, stride):
        there = np.isfinite(padded[0, 0, rows, columns])
        d_padded[:, :, rows, columns] += dy[:, :, p, q, None, None] * there / there.sum()
    return crop(d_padded, padding)


def dense(x: Array, weight: Array, bias: Array) -> Array:
    """x (N, F in), weight (F out, F in), bias (F out,) to (N, F out)."""
    return x @ weight.astype(np.float64).T + bias


def dense_backward(x: Array, weight: Array, dy: Array) -> tuple[Array, Array, Array]:
    """dx (N, F in), dweight (F out, F in), dbias (F out,)."""
    return dy @ weight.astype(np.float64), dy.T @ x, dy.sum(axis=0)


def sigmoid(x: Array) -> Array:
    """Any shape; for small -x only, or exp overflows."""
    return 1.0 / (1.0 + np.exp(-x))


def sigmoid_backward(y: Array, dy: Array) -> Array:
    """dx from the output y."""
    return dy * y * (1.0 - y)


def _normal(x: Array) -> Array:
    """The normal distribution function."""
    return np.vectorize(lambda v: 0.5 * math.erfc(-v / math.sqrt(2.0)))(x)


def gelu(x: Array) -> Array:
    """Any shape."""
    return x * _normal(x)


def gelu_backward(x: Array, dy: Array) -> Array:
    """dx; the derivative of the normal distribution function is its density."""
    return dy * (_normal(x) + x * np.exp(-0.5 * x**2) / math.sqrt(2.0 * math.pi))


def batch_norm(x: Array, weight: Array, bias: Array, epsilon: float) -> Array:
    """x (N, K, ...) normalized by its own mean and biased variance, channel by channel."""
    y = np.empty(x.shape)
    for k in range(x.shape[1]):
        values = x[:, k].astype(np.float64)
        y[:, k] = weight[k] * (values - values.mean()) / np.sqrt(values.var() + epsilon) + bias[k]
    return y


def batch_norm_backward(x: Array, weight: Array, dy: Array, epsilon: float) -> tuple[Array, Array, Array]:
    """dx (N, K, ...), dweight (K,), dbias (K,), step by step as Ioffe and Szegedy 2015 (sec. 3) have them."""
    dx = np.empty(x.shape)
    d_weight, d_bias = np.empty((2, x.shape[1]))
    for k in range(x.shape[1]):
        values, dy_k = x[:, k].astype(np.float64), dy[:, k]
        m, centred, deviation = values.size, values - values.mean(), np.sqrt(values.var() + epsilon)
        d_weight[k], d_bias[k] = (dy_k * centred / deviation).sum(), dy_k.sum()
        d_normal = dy_k * weight[k]
        d_variance = (d_normal * centred).sum() * -0.5 * deviation**-3
        d_mean = -d_normal.sum() / deviation + d_variance * -2 * centred.sum() / m
        dx[:, k] = d_normal / deviation + d_variance * 2 * centred / m + d_mean / m
    return dx, d_weight, d_bias


def softmax(x: Array) -> Array:
    """(N, K) to (N, K)."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_backward(y: Array, dy: Array) -> Array:
    """dx from the output y, by the whole Jacobian diag(y) - y y^T of each sample."""
    return np.stack([(np.diag(row) - np.outer(row, row)) @ d_row for row, d_row in zip(y, dy, strict=True)])


def cross_entropy(logits: Array, labels: Array) -> tuple[float, Array]:
    """Mean of -log softmax(logits)[label], and its gradient (N, K)."""
    probabilities = softmax(logits)
    loss = 0.0
    gradient = probabilities.copy()
    for i, label in enumerate(labels):
        loss -= float(np.log(probabilities[i, label]))
        gradient[i, label] -= 1.0
    return loss / len(labels), gradient / len(labels)


def smoothed(labels: Array, k: int, smoothing: float) -> Array:
    """(N, K): 1 - smoothing at the label, and smoothing spread over all."""
    targets = np.full((len(labels), k), smoothing / k)
    for i, label in enumerate(labels):
        targets[i, label] += 1.0 - smoothing
    return targets


def soft_cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """Mean of -sum_k t_k log softmax(logits)_k, and its gradient (N, K); the targets of a row add up to 1."""
    probabilities = softmax(logits)
    return float(-(targets * np.log(probabilities)).sum()) / len(logits), (probabilities - targets) / len(
        logits
    )


def binary_cross_entropy(logits: Array, targets: Array) -> tuple[float, Array]:
    """Mean over all outputs of -t log y - (1 - t) log(1 - y), y = sigmoid(logits), and its gradient."""
    y = sigmoid(logits)
    loss = -(targets * np.log(y) + (1.0 - targets) * np.log(1.0 - y))
    return float(loss.mean()), (y - targets) / y.size


def mean_squared_error(y: Array, targets: Array) -> tuple[float, Array]:
    """Mean over all outputs of (y - t)^2, and its gradient (N, K)."""
    return float(((y - targets) ** 2).mean()), 2.0 * (y - targets) / y.size
