"""Flatten: images to features, the only layer that reorders."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from mnistnet.engine.arrays import AnyArray, Shape, chw_order
from mnistnet.engine.layers.base import Bound, Buffer, Moment, SimpleLayer, Site, call


@dataclass
class Flatten(SimpleLayer, kind="flatten"):
    """(N, C, H, W) to (N, C H W) in C, H, W order, as ONNX has it; features stay as they are."""

    batch_first = True
    backward_reads_input = False
    backward_reads_output = False

    def output_shape(self, input_shape: Shape) -> Shape:
        """(C H W,)."""
        return (prod(input_shape),)

    def bind(self, x: Buffer, site: Site) -> Bound:
        """Bind one copy each way, or none where strides alone can say it."""
        if x.value.ndim == 2:
            return Bound(x, ())
        n = x.value.shape[-1]
        ordered = chw_order(x.value)
        value = _as_features(ordered, n)
        forward = []
        if value is None:
            value = site.take((ordered.size // n, n), Moment.FORWARD)
            forward.append(call(np.copyto, value.reshape(ordered.shape), ordered))
        y = Buffer(value)
        if not site.training:
            return Bound(y, forward)
        if x.grad is None:
            y.grad = site.take(value.shape, Moment.WEIGHTS, Moment.INPUT)
            return Bound(y, forward)
        d_ordered = chw_order(x.grad)
        y.grad = _as_features(d_ordered, n)
        if y.grad is not None:
            return Bound(y, forward)
        y.grad = site.take(value.shape, Moment.WEIGHTS, Moment.INPUT)
        return Bound(y, forward, [call(np.copyto, d_ordered, y.grad.reshape(ordered.shape))])


def _as_features(ordered: AnyArray, n: int) -> AnyArray | None:
    """``[C, H, W, n]`` as ``[F, n]`` if that is a view, else None."""
    view = ordered.reshape(-1, n)
    return view if np.may_share_memory(view, ordered) else None
