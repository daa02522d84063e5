"""Dense: every output feature a weighted sum of every input feature."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod, sqrt
from typing import Any

import numpy as np

from mnistnet.engine.arrays import FloatArray, Shape
from mnistnet.engine.blas import block_of, cuts_products, largest_divisor
from mnistnet.engine.layers.base import (
    FIRST_BIAS,
    Bound,
    Buffer,
    Call,
    Dealt,
    Layer,
    Moment,
    Operation,
    Site,
    call,
    check_number,
    check_size,
    he_normal,
)
from mnistnet.engine.layers.channels import broadcast_to_rows, by_channel, channel_sums
from mnistnet.engine.layers.lowering import GRADIENT_TILE, product
from mnistnet.errors import ShapeError

FIRST_ROWS = 8
"""Rows of a first layer's weights in one product, at most: a little faster than 16 or 32."""
FEW_OUTPUTS = 16
MANY_IMAGES = 64
"""With no more outputs and at least so many images the weights' gradient is cut: see `_with_long_sums`."""


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
        """Bind three products, each cut into pieces that suit the GEMM.

        A team deals out the pieces of the weights. They are the same in any team, and so are their bits. This
        process finds its share of the outputs, and of the gradient of the weights; where outputs have been
        dealt out in front, its share of the gradient of the input; one process finds that of the weights.
        """
        weight, team = self.params["weight"], site.team
        (f_out, f_in), n = weight.shape, x.value.shape[1]
        rows, images = _at_once(f_out, x.value, dealt=team is not None)
        mine = slice(None) if team is None else team.share(f_out, dealt_at_once(f_out))

        def pieces(values: FloatArray) -> FloatArray:
            return values[mine].reshape(-1, rows, values.shape[1])

        if team is None:
            y = Buffer(site.take((f_out, n), Moment.FORWARD))
        else:
            y = Buffer(team.outputs[: f_out * n].reshape(f_out, n))
        forward = product(pieces(weight), x.value, pieces(y.value), images)
        if site.input_scale is not None:
            forward.append(call(np.multiply, y.value[mine], site.input_scale, out=y.value[mine]))
        if not site.training:
            return Bound(y, forward)
        y.grad = site.take((f_out, n), Moment.WEIGHTS, Moment.INPUT)
        backward: list[Call] = []
        if site.weight_gradient:
            if site.input_scale is not None:
                backward.append(call(np.multiply, y.grad[mine], site.input_scale, out=y.grad[mine]))
            columns = None  # as suits any product
            if x.value.flags.c_contiguous and f_out <= FEW_OUTPUTS and n >= MANY_IMAGES:
                columns = _with_long_sums(f_in, f_out)
            backward += product(pieces(y.grad), x.value.T, pieces(site.gradients["weight"]), columns)
        if site.input_gradient:
            assert x.grad is not None
            block = block_of(f_in, n * f_out) if site.wanted is None else dealt_at_once(f_in)
            wanted = site.wanted or slice(None)
            transposed = weight[:, wanted].reshape(f_out, -1, block).transpose(1, 2, 0)
            backward.append(call(np.matmul, transposed, y.grad, out=x.grad[wanted].reshape(-1, block, n)))
        if team is None:
            return Bound(y, forward, backward)
        return Bound(Buffer(y.value[mine], y.grad[mine]), forward, backward, dealt=Dealt(y, mine))


def dealt_at_once(f_out: int) -> int:
    """How many outputs of F out are dealt out together: by their number alone, the same on every machine."""
    return largest_divisor(f_out, 32)


def _at_once(f_out: int, x: FloatArray, *, dealt: bool) -> tuple[int, int]:
    """How many rows of the weights are multiplied by how many images of x [F in, n] at once."""
    f_in, n = x.shape
    if x.flags.c_contiguous and not dealt:
        return block_of(f_out, n * f_in), n
    # a first layer: its images are rows
    whole = dealt_at_once(f_out) if dealt else f_out
    if not cuts_products():
        return whole, n
    rows = largest_divisor(whole, FIRST_ROWS, least=4)
    return rows, _with_long_sums(n, rows)


def _with_long_sums(columns: int, rows: int) -> int:
    # where both factors lie along the sum, OpenBLAS's kernel for small products takes results of some 1,200
    # numbers only; the general one is 1.4 times slower, and three times where there are few rows
    return largest_divisor(columns, GRADIENT_TILE // rows) if cuts_products() else columns


class AddBias(Operation):
    """``y = x + b``, one number a channel of ``[P, K, Q, n]`` or a feature of ``[F, n]``."""

    by_feature = True
    commutes_with_max = True
    backward_reads_input = False
    backward_reads_output = False
    parameter_names = ("bias",)

    def __init__(self, params: dict[str, FloatArray]) -> None:
        self.params = params

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind one addition; backward only sums, for the gradient passes through unchanged."""
        y = site.output_like(x)
        values = by_channel(x.value)
        share = site.share or slice(None)
        bias, prepare = broadcast_to_rows(self.params["bias"][share], values, site)
        forward = [call(np.add, values, bias, out=by_channel(y.value))]
        if not (site.training and site.weight_gradient):
            return Bound(y, forward, (), prepare)
        assert y.grad is not None
        sums = site.gradients["bias"][share]
        if site.share is None:
            return Bound(y, forward, channel_sums(by_channel(y.grad), sums, site, Moment.WEIGHTS), prepare)
        # piece by piece, like the weights: where a product begins decides how it rounds
        pieces = y.grad.reshape(-1, dealt_at_once(len(self.params["bias"])), y.grad.shape[1])
        ones = np.ones(pieces.shape[2], pieces.dtype)
        return Bound(y, forward, [call(np.matmul, pieces, ones, out=sums.reshape(pieces.shape[:2]))], prepare)
