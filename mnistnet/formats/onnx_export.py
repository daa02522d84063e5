"""ONNX: a classifier as a file that onnxruntime, OpenCV and TensorRT read, written only once it is proven.

The graph holds everything between a picture's grey values in [0, 1], or its bytes, and the probabilities.
Every layer class says in one function below which nodes it becomes. A real picture and what the engine makes
of it travel in the metadata, so that the proof can be repeated anywhere (`onnx_verify`).
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mnistnet import __version__
from mnistnet.engine.arrays import UNIT_SCALE, AnyArray, FloatArray, PixelScale
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
from mnistnet.errors import ExportError
from mnistnet.files import check_target, write_atomically
from mnistnet.formats.onnx_reference import run_reference
from mnistnet.models import Classifier, Ensemble

INPUT = "images"
FEATURES = "features"
"""The name of the input of a network that takes numbers, not pictures."""
OUTPUT = "probabilities"
LOGITS = "logits"
BATCH = "N"
"""The name of the graph's dynamic batch axis."""
GOLDEN_INPUT, GOLDEN_OUTPUT = "golden_input", "golden_output"
"""Metadata entries: a picture's bytes (C, H, W) in base64, and the graph's output for it as a JSON list.

Of a network that takes numbers they are float32, little-endian.
"""
ACTIVATION, NO_ACTIVATION = "activation", "none"
"""Metadata entry of a model whose output is logits: the kind of layer that makes probabilities of them.

"none" where the output is to be taken as it is, which the graph's last operator does not tell.
"""
INPUT_SCALE, INPUT_SHIFT = "input_scale", "input_shift"
"""Metadata entries: a byte times the one plus the other is what the graph's input is to be."""

IR_VERSIONS = {12: 7, 13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
"""Every supported opset with the oldest file version (IR) that may hold it: it reaches the most runtimes."""

TOLERANCE = 1e-5
"""Largest difference of a probability that counts as agreement; of logits, by the largest of them or 1."""

MOST_IMAGES = 4096
"""Of a fixed batch."""
PROOF_IMAGES = 256
PROOF_MULTIPLY_ADDS = 5 * 10**8
"""The proof uses at most so many images and so much work, for the reference evaluator takes its time."""


@dataclass(frozen=True)
class OnnxForm:
    """What an exported model looks like from outside.

    Raises:
        ExportError: a value is out of range; the message names its flag.
    """

    opset: int = 13
    logits: bool = False
    """The output is what goes into the last layer, a softmax or sigmoid, not the probabilities."""
    bytes_in: bool = False
    """The input is uint8, 0 .. 255, not float32 in [0, 1]."""
    batch: int | None = None
    """A fixed number of images; None leaves it free."""

    def __post_init__(self) -> None:
        if self.opset not in IR_VERSIONS:
            low, high = min(IR_VERSIONS), max(IR_VERSIONS)
            raise ExportError(f"--opset: expected {low} to {high}, found {self.opset}")
        if self.batch is not None and not 1 <= self.batch <= MOST_IMAGES:
            raise ExportError(f"--batch: expected 1 to {MOST_IMAGES} images, found {self.batch}")

    @property
    def output(self) -> str:
        """The name of the graph's output."""
        return LOGITS if self.logits else OUTPUT

    @property
    def pixels(self) -> PixelScale:
        """What makes the graph's input of a byte."""
        return PixelScale(1.0) if self.bytes_in else UNIT_SCALE

    @property
    def meaning(self) -> str:
        """The input in words."""
        return (
            "bytes, 0 = background"
            if self.bytes_in
            else "pixel values in [0, 1]: bytes / 255, 0 = background"
        )

    def layers(self, network: Network) -> tuple[Layer, ...]:
        """Those that go into the graph.

        Raises:
            ExportError: logits are wanted of a network that does not end in a softmax or sigmoid.
        """
        if not self.logits:
            return network.layers
        *layers, last = network.layers
        if last.kind not in ("softmax", "sigmoid") or not layers:
            raise ExportError(f"layer {len(layers)} ({last.kind}): logits are what a softmax or sigmoid gets")
        return tuple(layers)

    def inputs(self, images: AnyArray) -> AnyArray:
        """What the graph is given for pictures (N, C, H, W); floats (N, F) are taken as they are."""
        as_they_are = self.bytes_in or images.dtype != np.uint8
        return images if as_they_are else images.astype(np.float32) / np.float32(255.0)

    def expected(self, model: Classifier | Ensemble, images: AnyArray) -> FloatArray:
        """What the engine says the graph's output is for pictures (N, C, H, W) or numbers (N, F)."""
        if not self.logits:
            return model.probabilities(images)
        (classifier,) = model.members
        whole = classifier.network
        network = Network(self.layers(whole), whole.input_shape)
        network.vector[...] = whole.vector  # the last layer has no parameters
        return network.predict(images, pixels=classifier.pixels)


DEFAULT_FORM = OnnxForm()


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how closely it agrees with the engine."""

    path: Path
    form: OnnxForm
    ir_version: int
    nodes: int
    size: int
    """Bytes."""
    images: int
    """How many images the proof ran."""
    largest_difference: float
    """Of any output for any of these images, between the file's graph and the engine."""


def export_onnx(
    classifier: Classifier | Ensemble,
    path: str | os.PathLike[str],
    *,
    images: AnyArray,
    form: OnnxForm = DEFAULT_FORM,
) -> ExportReport:
    """Write a classifier as ONNX, if and only if the graph computes what the engine computes.

    Args:
        classifier: what to export; an ensemble becomes one graph that averages.
        path: the file to create or replace.
        images: (N, C, H, W) uint8, real images for the proof, at least one; of a network that takes numbers
            (N, F) float32. The first `PROOF_IMAGES` are used, fewer of a large network. The first of all goes
            into the file's metadata.
        form: what the model looks like from outside.

    Raises:
        ExportError: the classifier has no ONNX form, or the self-check failed and nothing was written.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    check_target(path)
    images = _proof_images(classifier, images, form)
    model = to_onnx(classifier, form)
    with np.errstate(all="ignore"):
        expected = form.expected(classifier, images)
    _add_metadata(
        model,
        {
            GOLDEN_INPUT: base64.b64encode(
                images[0].astype(images.dtype.newbyteorder("<")).tobytes()
            ).decode(),
            GOLDEN_OUTPUT: json.dumps(expected[0].tolist()),
        },
    )
    data = model.SerializeToString(deterministic=True)
    largest_difference = _self_check(data, form, images, expected)
    write_atomically(path, data)
    return ExportReport(
        path=path,
        form=form,
        ir_version=model.ir_version,
        nodes=len(model.graph.node),
        size=len(data),
        images=len(images),
        largest_difference=largest_difference,
    )


def to_onnx(classifier: Classifier | Ensemble, form: OnnxForm = DEFAULT_FORM) -> onnx.ModelProto:
    """A classifier as an ONNX model: ``images`` (N, C, H, W) to ``probabilities`` or ``logits`` (N, K).

    What the classifier makes of a byte, beyond dividing it by 255 where the input is not bytes, is inside the
    graph. The same classifier gives the same model, bit for bit. It is not checked here, see `export_onnx`.

    Raises:
        ExportError: a weight is not finite, a layer has no ONNX form, or there are no logits or bytes.
    """
    graph = _Graph()
    members = classifier.members
    source, meaning = INPUT, form.meaning
    if len(classifier.input_shape) == 1:
        if form.bytes_in:
            raise ExportError(
                f"--input uint8: the network takes {classifier.input_shape[0]} numbers, no pictures"
            )
        source, meaning = FEATURES, "numbers, taken as they are"
    if len(members) == 1:
        _add_network(graph, members[0], form, form.output)
    else:
        if form.logits:
            raise ExportError("--logits: an ensemble is the mean of probabilities and has none")
        means = [f"{number}/{form.output}" for number in range(1, len(members) + 1)]
        for number, member in enumerate(members, start=1):
            _add_network(graph, member, form, means[number - 1], f"{number}/")
        graph.nodes.append(helper.make_node("Mean", means, [form.output], name="mean"))
    number_of_images = BATCH if form.batch is None else form.batch
    shape = (number_of_images, *classifier.input_shape)
    input_type = TensorProto.UINT8 if form.bytes_in else TensorProto.FLOAT
    proto = helper.make_graph(
        graph.nodes,
        classifier.name,
        [_tensor_info(source, input_type, shape, meaning)],
        [
            _tensor_info(
                form.output,
                TensorProto.FLOAT,
                (number_of_images, len(classifier.class_names)),
                "one number a class, see the metadata entry classes",
            )
        ],
        graph.initializers,
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", form.opset)],
        ir_version=IR_VERSIONS[form.opset],
        producer_name="mnistnet",
        producer_version=__version__,
    )
    axes = ", ".join(map(str, shape))
    if form.logits:
        _add_metadata(model, {ACTIVATION: members[0].network.layers[-1].kind})
    elif len(members) > 1 or members[0].network.layers[-1].kind not in ("softmax", "sigmoid"):
        # whose last operator does not tell that its numbers are to be taken as they are
        _add_metadata(model, {ACTIVATION: NO_ACTIVATION})
    _add_metadata(
        model,
        {
            "classes": json.dumps(classifier.class_names, ensure_ascii=False),
            "model": classifier.name,
            "input": f"{'uint8' if form.bytes_in else 'float32'} ({axes}): {meaning}",
            INPUT_SCALE: repr(form.pixels.scale),
            INPUT_SHIFT: repr(form.pixels.shift),
        },
    )
    return model


def _add_network(
    graph: _Graph, classifier: Classifier, form: OnnxForm, output: str, prefix: str = ""
) -> None:
    """Add a network's nodes, from the graph's input to ``output``; all names begin with ``prefix``."""
    layers = form.layers(classifier.network)
    if len(classifier.input_shape) == 1:
        value = FEATURES
    else:
        value = _normalize(graph, INPUT, classifier.pixels, form, prefix)
    outputs = [f"{prefix}{index}.{layer.kind}" for index, layer in enumerate(layers)]
    outputs[-1] = output
    below = ""
    for index, layer in enumerate(layers):
        add_nodes(layer, OnnxSite(graph, f"{prefix}{index}", layer, value, outputs[index], below))
        value = outputs[index]
        below = below if layer.kind == Dropout.kind else layer.kind  # a runtime drops what does nothing


def _add_metadata(model: onnx.ModelProto, entries: Mapping[str, str]) -> None:
    for key, text in entries.items():
        model.metadata_props.add(key=key, value=text)


class _Graph:
    """Nodes and weights in the order in which they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []

    def weight(self, name: str, values: AnyArray) -> str:
        """Add values as float32; the name."""
        return self.constant(name, np.asarray(values, np.float32))

    def constant(self, name: str, values: AnyArray) -> str:
        """Add values as raw little-endian bytes; the name."""
        self.initializers.append(numpy_helper.from_array(np.asarray(values, order="C"), name))
        return name


class OnnxSite:
    """Where in a graph a layer becomes nodes: the value it reads, the one it must write, its weights.

    Attributes:
        input: name of the value to read.
        output: name of the value to write.
        where: the layer in messages.
        below: kind of the layer whose result ``input`` is, "" for the first.
    """

    def __init__(
        self,
        graph: _Graph,
        index: str,
        layer: Layer,
        input: str,  # noqa: A002
        output: str,
        below: str = "",
    ) -> None:
        self._graph = graph
        self._index = index
        self._layer = layer
        self.where = f"layer {index} ({layer.kind})"
        self.input = input
        self.output = output
        self.below = below

    def node(self, operator: str, *weights: str, **attributes: Any) -> None:
        """Add the node that turns ``input`` and the named parameters of the layer into ``output``.

        Raises:
            ExportError: a parameter is not finite.
        """
        values = self._layer.params
        self.apply(operator, self.input, *(self.weight(name, values[name]) for name in weights), **attributes)

    def apply(self, operator: str, *inputs: str, step: str | None = None, **attributes: Any) -> str:
        """Add one node of several that a layer becomes.

        Args:
            operator: of the node.
            inputs: names of values.
            step: a name for the node and its result; without one it is the layer's last and writes `output`.
            attributes: of the node.

        Returns:
            The name of its result.
        """
        name = ".".join([self._index, self._layer.kind, *([step] if step else [])])
        output = name if step else self.output
        self._graph.nodes.append(helper.make_node(operator, list(inputs), [output], name=name, **attributes))
        return output

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add a constant list; its name."""
        return self._graph.constant(f"{self._index}.{self._layer.kind}.{name}", np.array(values, np.int64))

    def number(self, name: str, value: float) -> str:
        """Add a constant; its name."""
        return self._graph.weight(f"{self._index}.{self._layer.kind}.{name}", np.asarray(value, np.float32))

    def weight(self, name: str, values: FloatArray) -> str:
        """Add a parameter of the layer, in whatever form; its name.

        Raises:
            ExportError: it is not finite.
        """
        if not np.isfinite(values).all():
            raise ExportError(f"{self.where}: {name} is not finite: train again, with a lower learning rate")
        return self._graph.weight(f"{self._index}.{name}", values)


@singledispatch
def add_nodes(layer: Layer, site: OnnxSite) -> None:
    """Add a layer's nodes to a graph; every layer class registers its own.

    Raises:
        ExportError: the layer has no ONNX form.
    """
    raise ExportError(f"{site.where}: {type(layer).__name__} has no ONNX form")


@add_nodes.register
def _(layer: Conv2d, site: OnnxSite) -> None:
    site.node(
        "Conv",
        "weight",
        "bias",
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.stride),
        pads=[*layer.padding, *layer.padding],
        dilations=list(layer.dilation),
        group=layer.groups,
    )


@add_nodes.register
def _(layer: ZeroPad2d, site: OnnxSite) -> None:
    pads = [0, 0, layer.top, layer.left, 0, 0, layer.bottom, layer.right]
    site.apply("Pad", site.input, site.integers("pads", pads), mode="constant")


@add_nodes.register
def _(layer: MaxPool2d, site: OnnxSite) -> None:
    _pool(layer, site, "MaxPool")


@add_nodes.register
def _(layer: AvgPool2d, site: OnnxSite) -> None:
    _pool(layer, site, "AveragePool")


def _pool(layer: MaxPool2d | AvgPool2d, site: OnnxSite, operator: str) -> None:
    x = site.input
    if site.below == ZeroPad2d.kind:
        # onnxruntime (seen in 1.31) takes zeros around a pool for the pool's own padding, and then gives
        # wrong maxima or nothing at all; a maximum with the lowest number keeps the two apart
        x = site.apply("Max", x, site.number("lowest", float(np.finfo(np.float32).min)), step="apart")
    site.apply(
        operator,
        x,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        pads=[*layer.padding, *layer.padding],
    )


@add_nodes.register
def _(layer: GlobalAvgPool, site: OnnxSite) -> None:  # noqa: ARG001
    site.apply("Flatten", site.apply("GlobalAveragePool", site.input, step="mean"), axis=1)


@add_nodes.register
def _(layer: Flatten, site: OnnxSite) -> None:  # noqa: ARG001
    site.node("Flatten", axis=1)


@add_nodes.register
def _(layer: Dense, site: OnnxSite) -> None:  # noqa: ARG001
    # weights (out, in): OpenCV reads no other Gemm
    site.node("Gemm", "weight", "bias", transB=1)


@add_nodes.register
def _(layer: ReLU, site: OnnxSite) -> None:  # noqa: ARG001
    site.node("Relu")


@add_nodes.register
def _(layer: LeakyReLU, site: OnnxSite) -> None:
    site.node("LeakyRelu", alpha=layer.slope)


@add_nodes.register
def _(layer: Sigmoid, site: OnnxSite) -> None:  # noqa: ARG001
    site.node("Sigmoid")


@add_nodes.register
def _(layer: Tanh, site: OnnxSite) -> None:  # noqa: ARG001
    site.node("Tanh")


@add_nodes.register
def _(layer: GELU, site: OnnxSite) -> None:
    # ONNX has an operator of this name from opset 20 on only
    x = site.input
    if layer.approximate == "none":
        inner = site.apply("Mul", x, site.number("scale", 0.5**0.5), step="inner")
        outer = site.apply("Erf", inner, step="outer")
    else:
        cube = site.apply("Mul", site.apply("Mul", x, x, step="square"), x, step="cube")
        bent = site.apply("Mul", cube, site.number("cubic", 0.044715), step="bent")
        scale = site.number("scale", (2 / math.pi) ** 0.5)
        inner = site.apply("Mul", site.apply("Add", x, bent, step="sum"), scale, step="inner")
        outer = site.apply("Tanh", inner, step="outer")
    twice = site.apply("Add", outer, site.number("one", 1.0), step="twice")
    weight = site.apply("Mul", twice, site.number("half", 0.5), step="weight")
    site.apply("Mul", x, weight)


@add_nodes.register
def _(layer: Sine, site: OnnxSite) -> None:
    site.apply("Sin", site.apply("Mul", site.input, site.number("omega", layer.omega), step="angle"))


@add_nodes.register
def _(layer: FourierFeatures, site: OnnxSite) -> None:
    frequencies = site.weight("frequencies", layer.params["frequencies"].T)
    angle = site.apply("MatMul", site.input, frequencies, step="angle")
    waves = [site.apply(operator, angle, step=operator.lower()) for operator in ("Cos", "Sin")]
    site.apply("Concat", *waves, axis=1)


@add_nodes.register
def _(layer: BatchNorm, site: OnnxSite) -> None:
    # momentum 1: the statistics stay as they are. No runtime looks at it, but with any other the reference
    # evaluator moves them towards its input's below opset 14
    parameters = ("weight", "bias", "running_mean", "running_var")
    site.node("BatchNormalization", *parameters, epsilon=layer.epsilon, momentum=1.0)


@add_nodes.register
def _(layer: Dropout, site: OnnxSite) -> None:  # noqa: ARG001
    # what is exported predicts, and then nothing is left out
    site.node("Identity")


@add_nodes.register
def _(layer: Softmax, site: OnnxSite) -> None:  # noqa: ARG001
    site.node("Softmax", axis=1)


def _normalize(graph: _Graph, value: str, pixels: PixelScale, form: OnnxForm, prefix: str) -> str:
    """Add what turns the graph's input into that of the network; the name of the result."""
    if form.bytes_in:
        name = f"{prefix}input.cast"
        graph.nodes.append(helper.make_node("Cast", [value], [name], name=name, to=TensorProto.FLOAT))
        value = name
    # the graph reads byte * its own scale, the network wants byte * scale + shift
    factor = pixels.scale if form.bytes_in else pixels.scale * 255.0
    for operator, number, neutral in (("Mul", factor, 1.0), ("Add", pixels.shift, 0.0)):
        constant = np.asarray(number, np.float32)
        if constant == np.float32(neutral):
            continue
        name = f"{prefix}input.{operator.lower()}"
        weight = graph.weight(f"{name}.value", constant)
        graph.nodes.append(helper.make_node(operator, [value, weight], [name], name=name))
        value = name
    return value


def _tensor_info(
    name: str, element_type: int, shape: tuple[int | str, ...], meaning: str
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element_type, shape, doc_string=meaning)


def _proof_images(classifier: Classifier | Ensemble, images: AnyArray, form: OnnxForm) -> AnyArray:
    """The images that the proof uses, if they are any and fit; whole batches where their size is fixed."""
    shape = classifier.input_shape
    kind = np.dtype(np.uint8 if len(shape) == 3 else np.float32)
    if images.dtype != kind or images.shape[1:] != shape:
        found = f"{images.dtype} {images.shape[1:]}"
        raise ExportError(f"images for the self-check: expected {kind} {shape} each, found {found}")
    if not len(images):
        raise ExportError("images for the self-check: expected at least one, found none")
    work = sum(member.network.multiply_adds for member in classifier.members)
    images = images[: max(1, min(PROOF_IMAGES, PROOF_MULTIPLY_ADDS // max(1, work)))]
    batch = form.batch or 1
    return images[np.arange(-(-len(images) // batch) * batch) % len(images)]


def _self_check(data: bytes, form: OnnxForm, images: AnyArray, expected: FloatArray) -> float:
    """The largest difference between the serialized model's output for ``images`` and what is expected.

    Raises:
        ExportError: the model is not valid ONNX, cannot be run, or differs by more than `TOLERANCE`.
    """
    # exactly the bytes that will be written, read back
    model = onnx.load_model_from_string(data)
    batch = form.batch or len(images)
    try:
        onnx.checker.check_model(model, full_check=True)
        inputs = form.inputs(images)
        found = np.concatenate(
            [run_reference(model, inputs[start : start + batch]) for start in range(0, len(images), batch)]
        )
    except Exception as error:  # whatever NumPy raises on a graph that makes no sense
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"the self-check failed: {reason or type(error).__name__}; nothing was written"
        ) from error
    if found.shape != expected.shape:
        raise ExportError(
            f"the self-check failed: expected {form.output} {expected.shape}, found {found.shape}; "
            "nothing was written"
        )
    difference = largest_difference(found, expected)
    if not difference <= tolerance_for(expected):  # also where it is not a number
        raise ExportError(
            f"the self-check failed: {form.output} differ by {difference:.1e} on {len(images)} images, "
            f"expected at most {tolerance_for(expected):.0e}; nothing was written"
        )
    return difference


def largest_difference(found: FloatArray, expected: FloatArray) -> float:
    """``max |found - expected|``; not a number where one of them is none."""
    with np.errstate(all="ignore"):
        return float(np.max(np.abs(found.astype(np.float64) - expected)))


def tolerance_for(expected: FloatArray) -> float:
    """`TOLERANCE` for outputs of this size: probabilities, or logits, which may be large."""
    return TOLERANCE * max(1.0, float(np.max(np.abs(expected), initial=0.0)))
