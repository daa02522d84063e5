"""Test-only layers and losses, and what the tests of the layers have in common.

`Offset` makes the gradient of a layer's input visible as the gradient of a parameter, and `WeightedSum`
hands a layer any gradient of its output: between the two, a layer is tested alone, through the network's
own plan, workspace and layout.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from mnistnet.engine.arrays import Shape
from mnistnet.engine.blas import one_thread
from mnistnet.engine.layers import Layer, MaxPool2d
from mnistnet.engine.layers.base import Bound, Buffer, Moment, Operation, SimpleLayer, Site, call
from mnistnet.engine.losses import BoundLoss, Loss
from mnistnet.engine.network import Network
from mnistnet.engine.plan import Plan

Array = np.ndarray[Any, Any]


def engine_axes(values: Array) -> Array:
    """(N, C, H, W) as [H, C, W, N] and (N, F) as [F, N]: written out here on purpose, not imported."""
    return np.moveaxis(values, (0, 1, 2, 3), (3, 1, 0, 2)) if values.ndim == 4 else values.T


@dataclass
class Offset(Layer):
    """``y = x + offset`` with an offset for each of ``n`` samples, so that its gradient is dy, whole."""

    n: int
    kind: ClassVar[str] = "offset"  # by name only: not registered

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def parameter_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return {"offset": (self.n, *input_shape)}

    def operations(self) -> Sequence[Operation]:
        return (AddOffset(self),)


class AddOffset(Operation):
    backward_reads_input = False
    backward_reads_output = False
    parameter_names = ("offset",)

    def __init__(self, layer: Offset) -> None:
        self.layer = layer

    def bind(self, x: Buffer, site: Site) -> Bound:
        offset = engine_axes(self.layer.params["offset"])[..., : x.value.shape[-1]]
        y = Buffer(site.take(x.value.shape, Moment.FORWARD))
        forward = [call(np.add, x.value, offset, out=y.value)]
        if not site.training:
            return Bound(y, forward)
        y.grad = site.take(x.value.shape, Moment.WEIGHTS, Moment.INPUT)
        backward = [call(np.copyto, engine_axes(site.gradients["offset"]), y.grad)]
        if x.grad is not None:
            backward.append(call(np.copyto, x.grad, y.grad))
        return Bound(y, forward, backward)


@dataclass
class Negate(SimpleLayer):
    """``y = -x``: the simplest thing that does not commute with a maximum."""

    kind: ClassVar[str] = "negate"
    backward_reads_input = False
    backward_reads_output = False

    def output_shape(self, input_shape: Shape) -> Shape:
        return input_shape

    def bind(self, x: Buffer, site: Site) -> Bound:
        y = site.output_like(x)
        if y.grad is None:
            return Bound(y, [call(np.negative, x.value, out=y.value)])
        return Bound(y, [call(np.negative, x.value, out=y.value)], [call(np.negative, y.grad, out=y.grad)])


class WeightedSum(Loss):
    """``sum(weights * y)`` over the whole batch, not its mean; weights (N, ...) as the output y.

    So the gradient of y is ``weights``, to the bit. A run leaves y in ``outputs`` (engine axes): after the
    backward pass its buffer holds something else.
    """

    outputs: Array

    def __init__(self, weights: Array) -> None:
        self.weights = weights

    def bind(self, outputs: Buffer, site: Site) -> BoundLoss:
        z = outputs.value
        n = z.shape[-1]
        weights = np.ascontiguousarray(engine_axes(self.weights), z.dtype)
        assert weights.shape == z.shape
        product = site.take(z.shape, Moment.FORWARD)
        loss = np.zeros((), z.dtype)
        self.outputs = np.zeros_like(z)
        calls = [
            call(np.copyto, self.outputs, z),
            call(np.multiply, z, weights, out=product),
            call(np.add.reduce, product, axis=None, out=loss),
            call(np.copyto, outputs.grad, weights),
        ]
        hits = np.zeros(n, np.bool_)
        return BoundLoss(lambda _targets, _index: None, np.ones((), z.dtype), loss, hits, calls)


@dataclass(frozen=True)
class Gradients:
    """What came out of one layer, and what its backward pass made of the output's gradient."""

    y: Array
    dx: Array
    parameters: dict[str, Array]


def run_layers(
    layers: Sequence[Layer], x: Array, dy: Array, parameters: dict[str, Array] | None = None
) -> Gradients:
    """Forward and backward of a chain on x (N, ...) with the gradient dy (N, ...) of its output.

    ``parameters`` by name, ``"0.weight"`` being the first of ``layers``; x's dtype is used throughout.
    """
    n = len(x)
    network = Network([Offset(n), *layers], x.shape[1:], x.dtype)
    views = network.parameters()
    views["0.offset"][...] = x
    for name, value in (parameters or {}).items():
        index, parameter = name.split(".")
        views[f"{int(index) + 1}.{parameter}"][...] = value
    images = np.zeros_like(x)
    labels = np.zeros(n, np.intp)
    _, gradients = network.loss_and_gradients(images, labels, WeightedSum(dy))
    shifted = {}
    for name, value in gradients.items():
        index, parameter = name.split(".")
        shifted[f"{int(index) - 1}.{parameter}"] = value
    plan = Plan(network.blueprint(), n)
    with one_thread():
        plan.prepare()
        plan.load(images.reshape(n, -1), slice(None))
        plan.run()
    return Gradients(plan.outputs.copy(), shifted.pop("-1.offset"), shifted)


def spaced(shape: tuple[int, ...], seed: int, gap: float = 0.05) -> Array:
    """Distinct float64 values in a random order, at least ``gap`` from each other and gap / 2 from 0.

    A step much smaller than the gap then moves no maximum and no ReLU across its kink.
    """
    size = int(np.prod(shape))
    values = (np.arange(size) - size // 2 + 0.5) * gap
    return np.random.default_rng(seed).permutation(values).reshape(shape)


def pool_never_moves(monkeypatch) -> None:
    """Let plans run every layer in the order in which it is written."""
    monkeypatch.setattr(MaxPool2d, "takes_max", False)
