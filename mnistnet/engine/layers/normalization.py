"""BatchNorm: every channel brought to mean 0 and variance 1 over the images at hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from mnistnet.engine.arrays import FloatArray, Shape
from mnistnet.engine.layers.base import (
    Bound,
    Buffer,
    Call,
    Moment,
    SimpleLayer,
    Site,
    call,
    check_number,
)
from mnistnet.engine.layers.channels import broadcast_to_rows, by_channel, channel_products, channel_sums


@dataclass
class BatchNorm(SimpleLayer, kind="batch_norm"):
    """``y = weight (x - mean) / sqrt(variance + epsilon) + bias``, by channel or feature.

    Ioffe and Szegedy 2015, alg. 1; x and y (N, K, H, W) or (N, K), every parameter (K,). In training, mean
    and (biased) variance are those of the shard, not of the batch: ghost batch normalization (Hoffer et al.
    2017, sec. 4). So no shard waits for another, and the bits do not depend on the number of workers.
    ``running_mean`` and ``running_var`` (unbiased, as PyTorch has it) follow the mean over the shards with
    ``momentum``, and stand for both in inference. Where a shard has a single number of a channel its variance
    counts as 0, and y is the bias.

    With m numbers x_i of a channel, xhat its normalized x: dweight = sum dy xhat, dbias = sum dy,
    dx = weight / sqrt(variance + epsilon) (dy - dbias / m - xhat dweight / m).
    """

    epsilon: float = 1e-5
    momentum: float = 0.1
    parameter_names = ("weight", "bias")
    backward_reads_input = False  # it keeps the centred input
    backward_reads_output = False

    def __post_init__(self) -> None:
        # smaller ones would vanish beside a variance in float32
        self.epsilon = check_number("epsilon", self.epsilon, 1e-12, 1.0)
        self.momentum = check_number("momentum", self.momentum, 0.0, 1.0)

    @property
    def statistics(self) -> Mapping[str, float]:
        """Mean and variance."""
        return {"running_mean": self.momentum, "running_var": self.momentum}

    def output_shape(self, input_shape: Shape) -> Shape:
        """The input's."""
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        """Weight, bias, running mean and variance, (K,) each."""
        return dict.fromkeys(("weight", "bias", "running_mean", "running_var"), input_shape[:1])

    def initialize(self, input_shape: Shape, rng: np.random.Generator) -> None:  # noqa: ARG002
        """Mean 0 and variance 1, before and after."""
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.params[name][...] = value

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind a product and a sum in inference; in training, five passes over the data and six backward."""
        return self._bind_training(x, site) if site.training else self._bind_inference(x, site)

    def _bind_inference(self, x: Buffer, site: Site) -> Bound:
        weight, bias = self.params["weight"], self.params["bias"]
        mean, variance = self.params["running_mean"], self.params["running_var"]
        y = site.output_like(x)
        values, result = by_channel(x.value), by_channel(y.value)
        scale, shift = np.zeros((2, len(weight)), weight.dtype)
        (scales, spread_scale), (shifts, spread_shift) = (
            broadcast_to_rows(f, values, site) for f in (scale, shift)
        )
        prepare: list[Call] = [
            *self._inverse_deviation(variance, scale),
            call(np.multiply, scale, weight, out=scale),
            call(np.multiply, scale, mean, out=shift),
            call(np.subtract, bias, shift, out=shift),
            *spread_scale,
            *spread_shift,
        ]
        forward = [
            call(np.multiply, values, scales, out=result),
            call(np.add, result, shifts, out=result),
        ]
        return Bound(y, forward, prepare=prepare)

    def _bind_training(self, x: Buffer, site: Site) -> Bound:
        weight, bias = self.params["weight"], self.params["bias"]
        mean, variance = site.gradients["running_mean"], site.gradients["running_var"]
        d_weight, d_bias = site.gradients["weight"], site.gradients["bias"]
        values = by_channel(x.value)
        p, k, m = values.shape
        count = p * m
        # a factor for each channel, repeated as one row of the image has it: a pass over long rows takes
        # half the time of one that begins anew at each channel
        row = site.take((k, m), Moment.FORWARD)
        y = site.output_like(x)
        assert y.grad is not None
        result = by_channel(y.value)
        centred = site.take((p, k, m), Moment.FORWARD, Moment.INPUT)
        inverse = site.take((k,), Moment.FORWARD, Moment.INPUT)
        factor = site.take((k,), Moment.FORWARD)
        forward: list[Call] = [
            *channel_sums(values, mean, site, Moment.FORWARD),
            call(np.divide, mean, mean.dtype.type(count), out=mean),
            call(np.copyto, row, mean[:, None]),
            call(np.subtract, values, row, out=centred),
            *channel_products(centred, centred, variance, site, Moment.FORWARD),
            call(np.divide, variance, mean.dtype.type(count), out=factor),
            call(np.divide, variance, mean.dtype.type(max(1, count - 1)), out=variance),
            *self._inverse_deviation(factor, inverse),
            call(np.multiply, inverse, weight, out=factor),
            call(np.copyto, row, factor[:, None]),
            call(np.multiply, centred, row, out=result),
            call(np.copyto, row, bias[:, None]),
            call(np.add, result, row, out=result),
        ]
        dy = by_channel(y.grad)
        backward: list[Call] = [
            *channel_sums(dy, d_bias, site, Moment.WEIGHTS),
            *channel_products(dy, centred, d_weight, site, Moment.WEIGHTS),
            call(np.multiply, d_weight, inverse, out=d_weight),
        ]
        if site.input_gradient:
            row = site.take((k, m), Moment.INPUT)
            factor = site.take((k,), Moment.INPUT)
            share = mean.dtype.type(-1.0 / count)
            backward += [
                call(np.multiply, d_weight, inverse, out=factor),
                call(np.multiply, factor, share, out=factor),
                call(np.copyto, row, factor[:, None]),
                call(np.multiply, centred, row, out=centred),
                call(np.add, dy, centred, out=dy),
                call(np.multiply, d_bias, share, out=factor),
                call(np.copyto, row, factor[:, None]),
                call(np.add, dy, row, out=dy),
                call(np.multiply, inverse, weight, out=factor),
                call(np.copyto, row, factor[:, None]),
                call(np.multiply, dy, row, out=dy),
            ]
        return Bound(y, forward, backward)

    def _inverse_deviation(self, variance: FloatArray, out: FloatArray) -> list[Call]:
        """``out = 1 / sqrt(variance + epsilon)``."""
        return [
            call(np.add, variance, variance.dtype.type(self.epsilon), out=out),
            call(np.sqrt, out, out=out),
            call(np.divide, out.dtype.type(1), out, out=out),
        ]
