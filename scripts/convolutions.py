"""One convolution alone: the engine's, bound without a network, and the forms that everybody writes first."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import checkout  # noqa: F401
import numpy as np

from mnistnet.engine.arrays import FloatArray
from mnistnet.engine.layers import Conv2d, conv
from mnistnet.engine.layers.base import Bound, Buffer, Moment, Site
from mnistnet.engine.workspace import Workspace


@dataclass
class Alone:
    """A bound convolution without bias: stride 1, no padding."""

    bound: Bound
    x: Buffer
    d_weight: FloatArray

    def run(self) -> None:
        """Forward, weight gradient and input gradient, the weights packed anew as after every step."""
        for calls in (self.bound.prepare, self.bound.forward, self.bound.backward):
            for call in calls:
                call()


def bind_alone(x: FloatArray, weight: FloatArray, dy: FloatArray) -> Alone:
    """The engine's convolution of x (N, C, H, W) with W (K, C, R, S), its output's gradient set to ``dy``."""
    n, c, h, w = x.shape
    k, _, r, s = weight.shape
    layer = Conv2d(k, (r, s))
    layer.params = {"weight": weight, "bias": np.zeros(k, weight.dtype)}
    d_weight = np.zeros_like(weight)
    operation = layer.operations()[0]
    moments = {Moment.FORWARD: 1, Moment.WEIGHTS: 2, Moment.INPUT: 3}
    workspace = Workspace()

    def bind() -> tuple[Bound, Buffer]:
        source = Buffer(
            workspace.take((h, c, w, n), weight.dtype, 0, 1), workspace.take((h, c, w, n), weight.dtype, 2, 3)
        )
        bound = operation.bind(
            source,
            Site(
                workspace=workspace,
                moments=moments,
                training=True,
                input_gradient=True,
                in_place=False,
                gradient_over_value=False,
                gradients={"weight": d_weight},
                dtype=weight.dtype,
            ),
        )
        # results stay until they are read, and the given gradient from run to run
        for array in (source.value, source.grad, bound.y.value, bound.y.grad):
            workspace.touch(array, 0)
            workspace.touch(array, 3)
        return bound, source

    bind()
    workspace.settle()
    bound, source = bind()
    source.value[...] = x.transpose(2, 1, 3, 0)
    assert bound.y.grad is not None
    bound.y.grad[...] = dy.transpose(2, 1, 3, 0)
    return Alone(bound, source, d_weight)


def engine_results(
    x: FloatArray, weight: FloatArray, dy: FloatArray, *, winograd: bool
) -> dict[str, FloatArray]:
    """Output, weight gradient and input gradient (NCHW) of the engine, in the form that is asked for."""
    with _form(winograd):
        alone = bind_alone(x, weight, dy)
    alone.run()
    assert alone.x.grad is not None
    return {
        "output": alone.bound.y.value.transpose(3, 1, 0, 2),
        "weight gradient": alone.d_weight,
        "input gradient": alone.x.grad.transpose(3, 1, 0, 2),
    }


@contextmanager
def _form(winograd: bool) -> Any:
    """Within this, convolutions are bound in Winograd's form, or directly."""
    chosen = conv.suits
    conv.suits = lambda _: winograd
    try:
        yield
    finally:
        conv.suits = chosen


def loops(x: FloatArray, weight: FloatArray, dy: FloatArray) -> dict[str, FloatArray]:
    """The definition: a loop over images, channels out and positions; NumPy only within a window."""
    k, _, r, s = weight.shape
    n, _, p, q = dy.shape
    y, d_weight, dx = np.empty_like(dy), np.zeros_like(weight), np.zeros_like(x)
    for i in range(n):
        for o in range(k):
            for a in range(p):
                for b in range(q):
                    window = x[i, :, a : a + r, b : b + s]
                    y[i, o, a, b] = np.sum(window * weight[o])
                    d_weight[o] += dy[i, o, a, b] * window
                    dx[i, :, a : a + r, b : b + s] += dy[i, o, a, b] * weight[o]
    return {"output": y, "weight gradient": d_weight, "input gradient": dx}


def full_im2col(x: FloatArray, weight: FloatArray, dy: FloatArray) -> dict[str, FloatArray]:
    """Every window written out as a column, then three matrix products: the textbook's fast form."""
    k, c, r, s = weight.shape
    n, _, p, q = dy.shape
    windows = np.lib.stride_tricks.sliding_window_view(x, (r, s), axis=(2, 3))  # (N, C, P, Q, R, S)
    columns = windows.transpose(1, 4, 5, 0, 2, 3).reshape(c * r * s, n * p * q)
    matrix = weight.reshape(k, -1)
    y = (matrix @ columns).reshape(k, n, p, q).transpose(1, 0, 2, 3)
    gradient = dy.transpose(1, 0, 2, 3).reshape(k, -1)
    d_weight = (gradient @ columns.T).reshape(weight.shape)
    d_columns = (matrix.T @ gradient).reshape(c, r, s, n, p, q)
    dx = np.zeros_like(x)
    for a in range(r):
        for b in range(s):
            dx[:, :, a : a + p, b : b + q] += d_columns[:, a, b].transpose(1, 0, 2, 3)
    return {"output": y, "weight gradient": d_weight, "input gradient": dx}


FORMS: dict[str, Callable[[FloatArray, FloatArray, FloatArray], dict[str, FloatArray]]] = {
    "naive loops": loops,
    "full im2col": full_im2col,
}
"""What everybody writes first, by name."""
