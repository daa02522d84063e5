"""An ONNX graph as a chain of the engine's layers, where it is one: then it can be trained further.

The nodes are gone through in order. What depends on no input is computed (`onnx_executor`), so reshaped
weights and shapes put together from pieces are plain numbers when a layer needs them. What moves elements
without changing them (Reshape, Flatten, Transpose, ...) becomes no layer: it is done to the elements'
numbers, and the next layer sees in which order they are. Every other operator has a function below.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field
from itertools import islice
from math import erf, pi, prod
from typing import TypeVar

import numpy as np

from mnistnet.engine.arrays import AnyArray, FloatArray, IntArray, Shape
from mnistnet.engine.layers import (
    GELU,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    FourierFeatures,
    GlobalAvgPool,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Sine,
    Softmax,
    Tanh,
    ZeroPad2d,
)
from mnistnet.engine.network import Network
from mnistnet.errors import CheckpointError, ShapeError
from mnistnet.formats.onnx_executor import run_and_free, run_node
from mnistnet.formats.onnx_graph import Graph, Node
from mnistnet.formats.onnx_operators import limits
from mnistnet.formats.onnx_operators.windows import Sliding, sliding

PROBE = 2
"""How many images to imagine where the model leaves their number free."""

_Handler = Callable[["Chain", Node], None]
_AnyHandler = TypeVar("_AnyHandler", bound=_Handler)
_HANDLERS: dict[str, _Handler] = {}


class NotAChainError(CheckpointError):
    """A graph has no form as a chain of the engine's layers; says which node is in the way."""


@dataclass
class Chain:
    """The layers found so far, and what flows out of the last one."""

    graph: Graph
    batch: int
    """How many images the graph's shapes are worked out for."""
    value: str
    """The name in the graph of what flows out."""
    index: IntArray
    """In the graph's shape of one sample: which of the engine's numbers (in C, H, W order) each is."""
    shape: Shape
    """The engine's shape of one sample."""
    constants: dict[str, AnyArray]
    input_shape: Shape
    """The engine's shape of one sample of the input."""
    layers: list[Layer] = field(default_factory=list)
    parameters: dict[str, FloatArray] = field(default_factory=dict)
    """By the network's names, ``"0.weight"``."""
    scale: float = 1.0
    shift: float = 0.0
    """What is done to the input in front of the first layer: ``scale x + shift``."""
    logarithms: bool = False
    """The graph ends in a LogSoftmax, whose place a Softmax takes."""

    def add(self, layer: Layer, **parameters: AnyArray) -> None:
        """Append a layer, whose output takes the order that the engine has."""
        try:
            shape = layer.output_shape(self.shape)
            wanted = layer.parameter_shapes(self.shape)
        except ShapeError as error:
            raise NotAChainError(str(error)) from error
        for name, values in parameters.items():
            if values.shape != wanted[name]:
                raise NotAChainError(f"its {name} should be {wanted[name]}, found {values.shape}")
            self.parameters[f"{len(self.layers)}.{name}"] = values.astype(np.float32)
        self.layers.append(layer)
        if shape != self.shape:
            self.shape = shape
            self.index = np.arange(prod(shape)).reshape(shape)

    def constant(self, node: Node, position: int) -> AnyArray | None:
        """A node's input that must not depend on the images; None where it is left out."""
        if position >= len(node.inputs) or not node.inputs[position]:
            return None
        if node.inputs[position] not in self.constants:
            raise NotAChainError(f"its input {node.inputs[position]!r:.80} depends on the images")
        return self.constants[node.inputs[position]]

    def weight(self, node: Node, position: int) -> AnyArray:
        """A node's input that must be there, and must not depend on the images."""
        values = self.constant(node, position)
        if values is None:
            raise NotAChainError(f"its input {position} is missing")
        return values

    def as_images(self) -> None:
        """See to it that the next layer finds images in the order N, C, H, W."""
        if len(self.shape) != 3 or self.index.shape != self.shape or not self.in_order:
            raise NotAChainError(f"expects images in the order N, C, H, W, found {self.index.shape} each")

    def as_features(self) -> None:
        """See to it that the next layer finds features, in whatever order."""
        if self.index.ndim != 1:
            raise NotAChainError(f"expects features, found {self.index.shape} for each image")
        if len(self.shape) == 3:
            index = self.index
            self.add(Flatten())
            self.index = index

    def fold(self, node: Node, kept: Set[str]) -> None:
        """Work out a node that depends on no image; what no later node reads goes, unless it is ``kept``.

        Raises:
            NotAChainError: ``node ...`` cannot be computed, or too much is alive at once: a graph that runs
                keeps its constants for a shorter time.
        """
        try:
            run_and_free(self.graph, node, self.constants, kept)
        except CheckpointError as error:
            raise NotAChainError(str(error)) from error

    @property
    def in_order(self) -> bool:
        """The graph's elements are in the engine's order."""
        return bool((self.index.reshape(-1) == np.arange(self.index.size)).all())

    def network(self) -> Network:
        """The chain as a network."""
        try:
            network = Network(self.layers, self.input_shape)
        except ShapeError as error:
            raise NotAChainError(str(error)) from error
        for name, view in network.parameters().items():
            view[...] = self.parameters[name]
        return network


@np.errstate(all="ignore")  # what is not finite shows where the network is compared with its graph
def chain_of(graph: Graph, input_shape: Shape, index: IntArray) -> Chain:
    """The layers that a graph is made of.

    Args:
        graph: with one input and one output.
        input_shape: (C, H, W) of the images that the network is to take.
        index: in the shape of one sample of the graph's input: which of the image's numbers, in C, H, W
            order, each element is.

    Raises:
        NotAChainError: ``node ...`` has no form as a layer, or reads what came before another one.
    """
    (source,) = graph.inputs
    batch = source.shape[0] if source.shape else None
    constants = dict(graph.constants)
    chain = Chain(graph, batch or PROBE, source.name, index, input_shape, constants, input_shape)
    nodes: deque[Node] = deque()
    known, kept = set(constants), {value.name for value in graph.outputs}
    for node in graph.nodes:
        if known.issuperset(filter(None, node.inputs)):
            chain.fold(node, kept)
            known |= set(node.outputs)
        else:
            nodes.append(node)
            kept |= set(node.inputs)
    while nodes:
        found = _group(chain, nodes)
        if found is not None:
            layer, parameters, region = found
            chain.add(layer, **parameters)
            chain.value = region[-1].outputs[0]
            for _ in region:
                nodes.popleft()
        else:
            _follow(chain, nodes.popleft())
    if [value.name for value in graph.outputs] != [chain.value]:
        raise NotAChainError("the output is not what the last node gives")
    return chain


def _follow(chain: Chain, node: Node) -> None:
    """Take one node into the chain."""
    flowing = {name for name in node.inputs if name and name not in chain.constants}
    if flowing - {chain.value}:
        names = ", ".join(sorted(flowing - {chain.value}))
        raise NotAChainError(f"{node.where} ({node.op_type}): reads {names}: the graph is no simple chain")
    if not flowing:
        chain.fold(node, {value.name for value in chain.graph.outputs})
    elif node.op_type in ("Shape", "Size"):
        chain.constants |= run_node(node, chain.graph.opset, {chain.value: _numbered(chain)})
    elif node.op_type not in _HANDLERS:
        raise NotAChainError(f"{node.where} ({node.op_type}): no layer does this")
    else:
        try:
            _HANDLERS[node.op_type](chain, node)
        except (NotAChainError, ShapeError, TypeError, ValueError, LookupError) as error:
            raise NotAChainError(f"{node.where} ({node.op_type}): {error}") from error
        chain.value = node.outputs[0]


# activations in pieces -------------------------------------------------------------------------------------

_PIECES = {"Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Erf", "Tanh", "Sigmoid", "Exp", "Neg", "Max", "Min"}
CURVE_TOLERANCE = 1e-5
_GRID = np.linspace(-9.0, 9.0, 1801, dtype=np.float32)
_NORMAL = np.vectorize(erf, otypes=[np.float64])(_GRID * 0.5**0.5)
_CURVES: dict[str, FloatArray] = {
    "none": _GRID * (1.0 + _NORMAL) / 2.0,
    "tanh": _GRID * (1.0 + np.tanh((2.0 / pi) ** 0.5 * (_GRID + 0.044715 * _GRID**3.0))) / 2.0,
}
"""GELU's two forms on a grid: exporters put them together in many ways, from opset 20 on as one node."""


_Found = tuple[Layer, dict[str, AnyArray], list[Node]]
"""A layer that several nodes are together, its parameters, and these nodes."""


def _group(chain: Chain, nodes: Sequence[Node]) -> _Found | None:
    """A layer that the next nodes are together."""
    try:
        return _activation(chain, nodes) or _waves(chain, nodes)
    except (ShapeError, LookupError) as error:  # numbers that the layer does not take, or a node cut short
        raise NotAChainError(f"{nodes[0].where} ({nodes[0].op_type}): {error}") from error


def _activation(chain: Chain, nodes: Sequence[Node]) -> _Found | None:
    """A layer that a group of nodes computes together, known by its curve, and the nodes."""
    values = {**chain.constants, chain.value: _GRID}
    inside = {chain.value}
    region: list[Node] = []
    for node in nodes:
        constants = [chain.constants[name] for name in node.inputs if name in chain.constants]
        read = set(node.inputs) - set(chain.constants)
        if node.op_type not in _PIECES or not read <= inside or any(c.size != 1 for c in constants):
            return None
        region.append(node)
        values |= run_node(node, chain.graph.opset, values)
        # a curve is whole where nothing but its last node's output is read by what follows
        if not inside & {name for other in islice(nodes, len(region), None) for name in other.inputs}:
            curve = values[node.outputs[0]].reshape(-1)
            for name, expected in _CURVES.items():
                if curve.shape == expected.shape and np.abs(curve - expected).max() < CURVE_TOLERANCE:
                    return GELU(name), {}, region
        inside |= set(node.outputs)
    return None


def _waves(chain: Chain, nodes: Sequence[Node]) -> _Found | None:
    """A sine with its factor, or the cosines and sines of one product side by side."""
    region = list(islice(nodes, 4))
    operators = [node.op_type for node in region]
    if operators[:2] == ["Mul", "Sin"] and region[1].inputs == region[0].outputs:
        factors = [chain.constants[name] for name in region[0].inputs if name in chain.constants]
        read = {name for node in islice(nodes, 2, None) for name in node.inputs}
        alone = not read & set(region[0].outputs)
        fits = chain.value in region[0].inputs and len(factors) == 1 and factors[0].size == 1
        if fits and factors[0].item() > 0 and alone:
            return Sine(factors[0].item()), {}, region[:2]
    if operators == ["MatMul", "Cos", "Sin", "Concat"] and chain.index.ndim == 1 and chain.in_order:
        product, cosine, sine, both = region
        frequencies = chain.constants.get(product.inputs[1], np.zeros(0)).T
        fits = product.inputs[0] == chain.value and frequencies.shape[1:] == chain.index.shape
        apart = cosine.inputs == sine.inputs == product.outputs
        ordered = both.inputs == (*cosine.outputs, *sine.outputs) and both.attributes["axis"] in (1, -1)
        if fits and apart and ordered:
            chain.as_features()
            return FourierFeatures(len(frequencies)), {"frequencies": frequencies}, region
    return None


def _layer(*operators: str) -> Callable[[_AnyHandler], _AnyHandler]:
    """Register the function that turns an operator into layers."""

    def register(function: _AnyHandler) -> _AnyHandler:
        _HANDLERS.update(dict.fromkeys(operators, function))
        return function

    return register


# what becomes no layer -------------------------------------------------------------------------------------


def _numbered(chain: Chain) -> IntArray:
    """(batch, *sample): every element's own number, image after image."""
    if chain.batch * chain.index.size > limits.MOST_ELEMENTS:
        raise NotAChainError(f"{chain.batch} images of {chain.index.shape} are too large")
    return np.arange(chain.batch * chain.index.size).reshape(chain.batch, *chain.index.shape)


@_layer("Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity")
def _move(chain: Chain, node: Node) -> None:
    """Elements change places or the shape they stand in: seen by doing it to their numbers."""
    count = chain.index.size
    values = {**chain.constants, chain.value: _numbered(chain)}
    moved = run_node(node, chain.graph.opset, values)[node.outputs[0]]
    apart = moved.shape[:1] == (chain.batch,) and bool(
        (moved.reshape(chain.batch, -1) // count == np.arange(chain.batch)[:, None]).all()
    )
    if not apart:
        raise NotAChainError(f"gives {moved.shape}: every image should stay a row of its own")
    chain.index = chain.index.reshape(-1)[moved[0]]


@_layer("Cast")
def _cast(chain: Chain, node: Node) -> None:  # noqa: ARG001
    if node.attributes["to"] != 1:
        raise NotAChainError("only a cast to float32 changes nothing")


@_layer("Add", "Sub", "Mul", "Div")
def _affine(chain: Chain, node: Node) -> None:
    """Numbers known beforehand: part of the input's scale, or of the weights of the layer above."""
    first = node.inputs[0] == chain.value
    if first and node.inputs[1] == chain.value:
        raise NotAChainError("reads the same value twice")
    constant = chain.weight(node, 1 if first else 0).astype(np.float64)
    axis = node.attributes.get("axis")
    if axis is not None:  # before opset 7
        constant = constant.reshape(*constant.shape, *[1] * (chain.index.ndim + 1 - axis - constant.ndim))
    scale: FloatArray | float = 1.0
    shift: FloatArray | float = 0.0
    match node.op_type:
        case "Add":
            shift = constant
        case "Sub":
            scale, shift = (1.0, -constant) if first else (-1.0, constant)
        case "Mul":
            scale = constant
        case _:
            if not first:
                raise NotAChainError("divides by what flows through")
            scale = 1.0 / constant
    if not chain.layers:
        if constant.size != 1 or constant.ndim > chain.index.ndim + 1:
            raise NotAChainError("scales the input's elements differently")
        chain.shift = np.asarray(chain.shift * scale + shift).item()
        chain.scale = np.asarray(chain.scale * scale).item()
        return
    _into_weights(chain, _by_channel(chain, scale), _by_channel(chain, shift))


def _into_weights(chain: Chain, scale: FloatArray, shift: FloatArray) -> None:
    """``scale y + shift`` where y is the output of a convolution or a dense layer."""
    number = len(chain.layers) - 1
    weight, bias = chain.parameters.get(f"{number}.weight"), chain.parameters.get(f"{number}.bias")
    if weight is None or bias is None or chain.layers[-1].kind not in ("conv2d", "dense"):
        raise NotAChainError("only behind a convolution or a product can numbers be taken into the weights")
    if len(scale) != len(weight):
        raise NotAChainError(f"has {len(scale)} numbers, not one for each of {len(weight)} outputs above it")
    rows = scale.reshape(-1, *[1] * (weight.ndim - 1))
    chain.parameters[f"{number}.weight"] = (weight * rows).astype(np.float32)
    chain.parameters[f"{number}.bias"] = (bias * scale + shift).astype(np.float32)


def _by_channel(chain: Chain, values: FloatArray | float) -> FloatArray:
    """A constant that is added to or multiplied with (N, K, ...) as one number a channel, (K,)."""
    sample = chain.index.shape
    numbers = np.asarray(values)
    if numbers.ndim > len(sample) and numbers.shape[0] == 1:
        numbers = numbers[0]
    try:
        spread = np.broadcast_to(numbers, sample)
    except ValueError as error:
        raise NotAChainError(f"its constant {numbers.shape} does not fit {sample}") from error
    by_channel = spread.reshape(sample[0], -1)
    if not chain.in_order or (by_channel != by_channel[:, :1]).any():
        raise NotAChainError("its constant differs within a channel")
    return by_channel[:, 0]


# products --------------------------------------------------------------------------------------------------


@_layer("Gemm")
def _gemm(chain: Chain, node: Node) -> None:
    given = node.attributes
    if given.get("transA"):
        raise NotAChainError("transposes the images")
    weight = chain.weight(node, 1) * np.float32(given.get("alpha", 1.0))
    bias = chain.constant(node, 2)
    if bias is not None:
        bias = bias * np.float32(given.get("beta", 1.0))
    _dense(chain, weight if given.get("transB") else weight.T, bias)


@_layer("MatMul")
def _matmul(chain: Chain, node: Node) -> None:
    weight = chain.weight(node, 1)
    if weight.ndim != 2:
        raise NotAChainError(f"multiplies by {weight.shape}: expected a matrix")
    _dense(chain, weight.T, None)


def _dense(chain: Chain, weight: AnyArray, bias: AnyArray | None) -> None:
    """A dense layer with a weight (out, in), whose columns are put into the engine's order."""
    chain.as_features()
    if weight.shape[1:] != chain.index.shape:
        raise NotAChainError(f"a weight of {weight.shape} does not fit {chain.index.size} features")
    ordered = np.empty_like(weight)
    ordered[:, chain.index] = weight
    out = len(weight)
    if bias is None:
        bias = np.zeros(out)
    # (N, 1), also where N is the number of classes, would be one number for each image
    if bias.shape not in {(), (1,), (1, 1), (out,), (1, out)}:
        raise NotAChainError(f"a bias of {bias.shape}: expected one number for each of {out} outputs")
    flat = np.broadcast_to(bias.reshape(-1), out)
    chain.index = np.arange(chain.index.size)
    chain.add(Dense(out), weight=ordered, bias=flat)


# windows ---------------------------------------------------------------------------------------------------


def _sliding(chain: Chain, node: Node, kernel: tuple[int, ...]) -> Sliding:
    """The geometry of a node's windows on the chain's images."""
    names = ("strides", "dilations", "pads", "auto_pad", "ceil_mode")
    given = {name: node.attributes[name] for name in names if name in node.attributes}
    try:
        return sliding(chain.shape[1:], kernel, **given)
    except CheckpointError as error:
        raise NotAChainError(str(error)) from error


def _pad(chain: Chain, s: Sliding) -> None:
    """What a layer's own padding cannot say, as a layer of zeros."""
    (top, bottom), (left, right) = s.pads_and_overhang
    chain.add(ZeroPad2d(top, bottom, left, right))


def _symmetric(s: Sliding) -> tuple[int, int] | None:
    """The padding, where it is the same on both sides and no window reaches beyond it."""
    (top, bottom), (left, right) = s.pads_and_overhang
    return (top, left) if (top, left) == (bottom, right) else None


@_layer("Conv")
def _conv(chain: Chain, node: Node) -> None:
    chain.as_images()
    weight = chain.weight(node, 1)
    if weight.ndim != 4:
        raise NotAChainError(f"a weight of {weight.shape}: expected (K, C, R, S)")
    s = _sliding(chain, node, tuple(node.attributes.get("kernel_shape", weight.shape[2:])))
    padding = _symmetric(s)
    if padding is None:
        _pad(chain, s)
    out = len(weight)
    bias = chain.constant(node, 2)
    geometry = _pair(s.kernel), _pair(s.strides), padding or (0, 0), _pair(s.dilations)
    layer = Conv2d(out, *geometry, node.attributes.get("group", 1))
    chain.add(layer, weight=weight, bias=np.zeros(out) if bias is None else bias)


@_layer("MaxPool")
def _max_pool(chain: Chain, node: Node) -> None:
    chain.as_images()
    s = _sliding(chain, node, tuple(node.attributes["kernel_shape"]))
    if s.dilations != (1, 1):
        raise NotAChainError("has dilations")
    padding = _symmetric(s)
    if padding is None:
        if not chain.layers or chain.layers[-1].kind != "relu":
            raise NotAChainError("pads one side more than the other, and not behind a Relu")
        # nothing is below zero: zeros around it never win against a number inside
        _pad(chain, s)
    chain.add(MaxPool2d(_pair(s.kernel), _pair(s.strides), padding or (0, 0)))


@_layer("AveragePool")
def _average_pool(chain: Chain, node: Node) -> None:
    chain.as_images()
    s = _sliding(chain, node, tuple(node.attributes["kernel_shape"]))
    padding = _symmetric(s)
    if s.dilations != (1, 1) or any(s.overhang):
        raise NotAChainError("has dilations, or windows that reach beyond the padding")
    if node.attributes.get("count_include_pad") and np.any(s.pads):
        _pad(chain, s)
        padding = (0, 0)
    if padding is None:
        raise NotAChainError("pads one side more than the other")
    chain.add(AvgPool2d(_pair(s.kernel), _pair(s.strides), padding))


@_layer("GlobalAveragePool")
def _global_average_pool(chain: Chain, node: Node) -> None:  # noqa: ARG001
    chain.as_images()
    chain.add(GlobalAvgPool())
    chain.index = chain.index.reshape(-1, 1, 1)


@_layer("ReduceMean")
def _reduce_mean(chain: Chain, node: Node) -> None:
    """The mean of all pixels is `GlobalAvgPool`."""
    chain.as_images()
    # from opset 18 on the axes are an input
    given = chain.constant(node, 1)
    axes = node.attributes.get("axes", ()) if given is None else given.tolist()
    if {axis % 4 for axis in axes} != {2, 3}:
        raise NotAChainError("is not over height and width")
    chain.add(GlobalAvgPool())
    if node.attributes.get("keepdims", 1):
        chain.index = chain.index.reshape(-1, 1, 1)


@_layer("Pad")
def _zero_pad(chain: Chain, node: Node) -> None:
    chain.as_images()
    given = node.attributes
    # from opset 11 on what were attributes are inputs
    pads = given["pads"] if "pads" in given else chain.weight(node, 1).tolist()
    value, axes = chain.constant(node, 2), chain.constant(node, 3)
    filling = given.get("value", 0.0) if value is None else value.item()
    which = range(4) if axes is None else (axes % 4).tolist()
    sides = dict(zip(which, zip(pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True), strict=True))
    outside = [sides.pop(axis, (0, 0)) for axis in (0, 1)]
    if given.get("mode", "constant") != "constant" or filling or np.any(outside):
        raise NotAChainError("pads with something else than zeros, or not around the images")
    (top, bottom), (left, right) = sides.get(2, (0, 0)), sides.get(3, (0, 0))
    chain.add(ZeroPad2d(top, bottom, left, right))


@_layer("GlobalMaxPool")
def _global_max_pool(chain: Chain, node: Node) -> None:  # noqa: ARG001
    chain.as_images()
    chain.add(MaxPool2d(_pair(chain.shape[1:])))


def _pair(sizes: tuple[int, ...]) -> tuple[int, int]:
    first, second = sizes
    return first, second


# elementwise -----------------------------------------------------------------------------------------------


@_layer("Relu")
def _relu(chain: Chain, node: Node) -> None:  # noqa: ARG001
    chain.add(ReLU())


@_layer("Max")
def _max(chain: Chain, node: Node) -> None:
    """With 0 it is a ReLU; with the lowest number it is nothing."""
    constants = [chain.constants[name] for name in node.inputs if name in chain.constants]
    numbers = np.concatenate([constant.reshape(-1) for constant in constants] or [np.array([np.nan])])
    if len(node.inputs) != 2 or not ((numbers == 0).all() or (numbers <= np.finfo(np.float32).min).all()):
        raise NotAChainError("is neither with 0 nor with the lowest number")
    if numbers[0] == 0:
        chain.add(ReLU())


@_layer("LeakyRelu")
def _leaky_relu(chain: Chain, node: Node) -> None:
    chain.add(LeakyReLU(float(node.attributes.get("alpha", 0.01))))


@_layer("Sigmoid")
def _sigmoid(chain: Chain, node: Node) -> None:  # noqa: ARG001
    chain.add(Sigmoid())


@_layer("Tanh")
def _tanh(chain: Chain, node: Node) -> None:  # noqa: ARG001
    chain.add(Tanh())


@_layer("Sin")
def _sine(chain: Chain, node: Node) -> None:  # noqa: ARG001
    chain.add(Sine(1.0))


@_layer("Gelu")
def _gelu(chain: Chain, node: Node) -> None:
    chain.add(GELU(node.attributes.get("approximate", "none")))


@_layer("Dropout")
def _dropout(chain: Chain, node: Node) -> None:
    training, ratio = chain.constant(node, 2), chain.constant(node, 1)
    if training is not None and training.any():
        raise NotAChainError("is in training mode")
    # from opset 12 on the ratio is an input
    chain.add(Dropout(node.attributes.get("ratio", 0.5) if ratio is None else ratio.item()))


@_layer("BatchNormalization")
def _batch_norm(chain: Chain, node: Node) -> None:
    given = node.attributes
    if given.get("training_mode") or (chain.graph.opset < 7 and not given.get("is_test")):
        raise NotAChainError("is in training mode")
    if chain.index.ndim == 1:
        chain.as_features()
    if chain.index.shape != chain.shape or not chain.in_order:
        raise NotAChainError(f"expects channels or features, found {chain.index.shape} for each image")
    names = ("weight", "bias", "running_mean", "running_var")
    parameters = {name: chain.weight(node, 1 + i) for i, name in enumerate(names)}
    # ONNX's momentum is the share that stays, ours the share that is new
    momentum = 1.0 - given.get("momentum", 0.9)
    chain.add(BatchNorm(float(given.get("epsilon", 1e-5)), momentum or BatchNorm.momentum), **parameters)


@_layer("Softmax", "LogSoftmax")
def _softmax(chain: Chain, node: Node) -> None:
    chain.as_features()
    if not chain.in_order or node.attributes.get("axis", 1) not in (1, -1):
        raise NotAChainError("is not over the classes")
    chain.logarithms = node.op_type == "LogSoftmax"
    if chain.logarithms and node.outputs[0] != chain.graph.outputs[0].name:
        raise NotAChainError("is not the last node")
    chain.add(Softmax())
