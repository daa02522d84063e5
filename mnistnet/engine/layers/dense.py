"""Dense: every output feature a weighted sum of every input feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from mnistnet.engine.arrays import FloatArray, Shape
from mnistnet.engine.blas import block_of
from mnistnet.engine.layers.base import (
    FIRST_BIAS,
    Bound,
    Buffer,
    Layer,
    Moment,
    Operation,
    Site,
    call,
    check_number,
    check_size,
    he_normal,
)
from mnistnet.engine.layers.channels import by_channel, channel_sums
from mnistnet.errors import ShapeError


@dataclass
class Dense(Layer, kind="dense"):
    """``y = W x + b`` on features: x (N, F in), W (F out, F in), b (F out,), y (N, F out).

    dW = sum over n of dy x^T, db = sum over n of dy, dx = W^T dy.

    With an ``init_bound`` b the first weights are uniform in -b .. b and the biases in +-1 / sqrt(F in), as
    what comes next may want them (see `Sine`); without one they are He's.
    """

    out_features: int
    init_bound: float | None = None
    batch_first = True

    def __post_init__(self) -> None:
        check_size("out_features", self.out_features)
        if self.init_bound is not None:
            self.init_bound = check_number("init_bound", self.init_bound, 0.0, 1e6)

    def config(self) -> dict[str, Any]:
        """The init fields; ``init_bound`` only where there is one, as in older files."""
        config = super().config()
        if self.init_bound is None:
            del config["init_bound"]
        return config

    def output_shape(self, input_shape: Shape) -> Shape:
        """(F out,); expects features (F in,)."""
        if len(input_shape) != 1:
            raise ShapeError(f"expected features, found {input_shape}: put a flatten layer in front")
        return (self.out_features,)

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Weight (F out, F in) and bias (F out,)."""
        return {"weight": (self.out_features, prod(input_shape)), "bias": (self.out_features,)}

    def initialize(self, input_shape: Shape, rng: np.random.Generator) -> None:
        """He-normal weights and biases off zero (`FIRST_BIAS`), or both uniform."""
        weight, bias = self.params["weight"], self.params["bias"]
        fan_in = prod(input_shape)
        if self.init_bound is None:
            he_normal(weight, fan_in, rng)
            bias[...] = FIRST_BIAS
        else:
            weight[...] = rng.uniform(-self.init_bound, self.init_bound, weight.shape)
            bias[...] = rng.uniform(-1.0, 1.0, bias.shape) / sqrt(fan_in)

    def operations(self) -> Sequence[Operation]:
        """The matrix product, then the bias."""
        return (MatMul(self.params), AddBias(self.params))

    def multiply_adds(self, input_shape: Shape) -> int:
        """F out x F in."""
        return self.out_features * prod(input_shape)


class MatMul(Operation):
    """``y = W x`` on ``[F, n]``."""

    backward_reads_output = False
    parameter_names = ("weight",)

    def __init__(self, params: dict[str, FloatArray]) -> None:
        self.params = params

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind three products, each cut along its rows into pieces that suit the GEMM."""
        weight = self.params["weight"]
        f_out, f_in = weight.shape
        n = x.value.shape[1]
        y = Buffer(site.take((f_out, n), Moment.FORWARD))
        rows = block_of(f_out, n * f_in)
        pieces = weight.reshape(-1, rows, f_in)
        forward = [call(np.matmul, pieces, x.value, out=y.value.reshape(-1, rows, n))]
        if not site.training:
            return Bound(y, forward)
        y.grad = site.take((f_out, n), Moment.WEIGHTS, Moment.INPUT)
        d_weight = site.gradients["weight"].reshape(-1, rows, f_in)
        backward = [call(np.matmul, y.grad.reshape(-1, rows, n), x.value.T, out=d_weight)]
        if site.input_gradient:
            assert x.grad is not None
            block = block_of(f_in, n * f_out)
            transposed = weight.reshape(f_out, -1, block).transpose(1, 2, 0)
            backward.append(call(np.matmul, transposed, y.grad, out=x.grad.reshape(-1, block, n)))
        return Bound(y, forward, backward)


class AddBias(Operation):
    """``y = x + b``, one number a channel of ``[P, K, Q, n]`` or a feature of ``[F, n]``."""

    commutes_with_max = True
    backward_reads_input = False
    backward_reads_output = False
    parameter_names = ("bias",)

    def __init__(self, params: dict[str, FloatArray]) -> None:
        self.params = params

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind one addition; backward only sums, for the gradient passes through unchanged."""
        bias = self.params["bias"]
        y = site.output_like(x)
        forward = [call(np.add, by_channel(x.value), bias[:, None], out=by_channel(y.value))]
        if not site.training:
            return Bound(y, forward)
        assert y.grad is not None
        backward = channel_sums(by_channel(y.grad), site.gradients["bias"], site, Moment.WEIGHTS)
        return Bound(y, forward, backward)
