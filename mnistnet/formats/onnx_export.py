"""ONNX: a classifier as a file that onnxruntime, OpenCV and TensorRT read, written only once it is proven.

The graph holds everything between a picture's grey values in [0, 1] and the probabilities. Every layer
class says in one function below which nodes it becomes.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mnistnet import __version__
from mnistnet.engine.arrays import AnyArray, FloatArray, PixelScale, Shape
from mnistnet.engine.layers import (
    GELU,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    Layer,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
    ZeroPad2d,
)
from mnistnet.errors import ExportError
from mnistnet.files import check_target, write_atomically
from mnistnet.models import Classifier

INPUT = "images"
MEANING = "pixel values in [0, 1]: bytes / 255, 0 = background"
OUTPUT = "probabilities"
BATCH = "N"
"""The name of the graph's dynamic batch axis."""

IR_VERSIONS = {13: 7, 14: 7, 15: 8, 16: 8, 17: 8, 18: 8, 19: 9, 20: 9, 21: 10}
"""Every supported opset with the oldest file version (IR) that may hold it.

Older opsets have another Softmax; the oldest IR reaches the most runtimes.
"""

TOLERANCE = 1e-5
"""Largest difference of a probability that counts as agreement."""

PROOF_IMAGES = 256
PROOF_MULTIPLY_ADDS = 5 * 10**8
"""The proof uses at most so many images and so much work, for the reference evaluator takes its time."""


@dataclass(frozen=True)
class ExportReport:
    """What was written, and how closely it agrees with the engine."""

    path: Path
    opset: int
    ir_version: int
    nodes: int
    size: int
    """Bytes."""
    images: int
    """How many images the proof ran."""
    largest_difference: float
    """Of any probability of any of these images, between the file's graph and the engine."""


def export_onnx(
    classifier: Classifier, path: Path, *, images: npt.NDArray[np.uint8], opset: int = 13
) -> ExportReport:
    """Write a classifier as ONNX, if and only if the graph computes what the engine computes.

    Args:
        classifier: what to export.
        path: the file to create or replace.
        images: (N, C, H, W) uint8, real images for the proof, at least one. The first `PROOF_IMAGES` are
            used, fewer of a large network.
        opset: a key of `IR_VERSIONS`.

    Raises:
        ExportError: the classifier has no ONNX form, or the self-check failed and nothing was written.
        OutputError: the file cannot be written.
    """
    check_target(path)
    images = _proof_images(classifier, images)
    model = to_onnx(classifier, opset)
    data = model.SerializeToString(deterministic=True)
    largest_difference = _self_check(data, classifier, images)
    write_atomically(path, data)
    return ExportReport(
        path=path,
        opset=opset,
        ir_version=model.ir_version,
        nodes=len(model.graph.node),
        size=len(data),
        images=len(images),
        largest_difference=largest_difference,
    )


def to_onnx(classifier: Classifier, opset: int = 13) -> onnx.ModelProto:
    """A classifier as an ONNX model: float32 ``images`` (N, C, H, W) in [0, 1] to ``probabilities`` (N, K).

    What the classifier makes of a byte beyond dividing it by 255 is inside the graph. The same classifier
    gives the same model, bit for bit. It is not checked here, see `export_onnx`.

    Raises:
        ExportError: the opset is not supported, a weight is not finite, or a layer has no ONNX form.
    """
    if opset not in IR_VERSIONS:
        low, high = min(IR_VERSIONS), max(IR_VERSIONS)
        raise ExportError(f"opset {opset}: expected {low} to {high}")
    network = classifier.network
    graph = _Graph()
    value = _normalize(graph, INPUT, classifier.pixels)
    last = len(network.layers) - 1
    for index, layer in enumerate(network.layers):
        site = OnnxSite(graph, index, layer, value, OUTPUT if index == last else f"{index}.{layer.kind}")
        add_nodes(layer, site)
        value = site.output
    proto = helper.make_graph(
        graph.nodes,
        classifier.name,
        [_tensor_info(INPUT, network.input_shape, MEANING)],
        [
            _tensor_info(
                OUTPUT, network.output_shape, "one probability a class, see the metadata entry classes"
            )
        ],
        graph.initializers,
    )
    model = helper.make_model(
        proto,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=IR_VERSIONS[opset],
        producer_name="mnistnet",
        producer_version=__version__,
    )
    axes = ", ".join([BATCH, *map(str, network.input_shape)])
    metadata = {
        "classes": json.dumps(classifier.class_names, ensure_ascii=False),
        "model": classifier.name,
        "input": f"float32 ({axes}): {MEANING}",
    }
    for key, text in metadata.items():
        model.metadata_props.add(key=key, value=text)
    return model


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
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name


class OnnxSite:
    """Where in a graph a layer becomes nodes: the value it reads, the one it must write, its weights.

    Attributes:
        input: name of the value to read.
        output: name of the value to write.
        where: the layer in messages.
    """

    def __init__(self, graph: _Graph, index: int, layer: Layer, input: str, output: str) -> None:  # noqa: A002
        self._graph = graph
        self._index = index
        self._layer = layer
        self.where = f"layer {index} ({layer.kind})"
        self.input = input
        self.output = output

    def node(self, operator: str, *weights: str, **attributes: Any) -> None:
        """Add the node that turns ``input`` and the named parameters of the layer into ``output``.

        Raises:
            ExportError: a parameter is not finite.
        """
        self.apply(operator, self.input, *map(self._weight, weights), **attributes)

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
        name = ".".join([str(self._index), self._layer.kind, *([step] if step else [])])
        output = name if step else self.output
        self._graph.nodes.append(helper.make_node(operator, list(inputs), [output], name=name, **attributes))
        return output

    def integers(self, name: str, values: Sequence[int]) -> str:
        """Add a constant list; its name."""
        return self._graph.constant(f"{self._index}.{self._layer.kind}.{name}", np.array(values, np.int64))

    def number(self, name: str, value: float) -> str:
        """Add a constant; its name."""
        return self._graph.weight(f"{self._index}.{self._layer.kind}.{name}", np.asarray(value, np.float32))

    def _weight(self, name: str) -> str:
        values = self._layer.params[name]
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
    site.node(
        "MaxPool",
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        pads=[*layer.padding, *layer.padding],
    )


@add_nodes.register
def _(layer: AvgPool2d, site: OnnxSite) -> None:
    site.node(
        "AveragePool",
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


def _normalize(graph: _Graph, value: str, pixels: PixelScale) -> str:
    """Add what ``pixels`` does to a byte beyond dividing it by 255; the name of the result."""
    # the graph reads byte / 255, the network wants byte * scale + shift
    for operator, number, neutral in (("Mul", pixels.scale * 255.0, 1.0), ("Add", pixels.shift, 0.0)):
        factor = np.asarray(number, np.float32)
        if factor == np.float32(neutral):
            continue
        name = f"input.{operator.lower()}"
        constant = graph.weight(f"{name}.value", factor)
        graph.nodes.append(helper.make_node(operator, [value, constant], [name], name=name))
        value = name
    return value


def _tensor_info(name: str, shape: Shape, meaning: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [BATCH, *shape], doc_string=meaning)


def _proof_images(classifier: Classifier, images: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The images that the proof uses, if they are any and fit."""
    network = classifier.network
    if images.dtype != np.uint8 or images.shape[1:] != network.input_shape:
        raise ExportError(
            f"images for the self-check: expected uint8 {network.input_shape} each, "
            f"found {images.dtype} {images.shape[1:]}"
        )
    if not len(images):
        raise ExportError("images for the self-check: expected at least one, found none")
    return images[: max(1, min(PROOF_IMAGES, PROOF_MULTIPLY_ADDS // max(1, network.multiply_adds)))]


def _self_check(data: bytes, classifier: Classifier, images: npt.NDArray[np.uint8]) -> float:
    """The largest difference between the serialized model and the engine on ``images``.

    Raises:
        ExportError: the model is not valid ONNX, cannot be run, or differs by more than `TOLERANCE`.
    """
    with np.errstate(all="ignore"):
        expected = classifier.probabilities(images)
    # exactly the bytes that will be written, read back
    model = onnx.load_model_from_string(data)
    try:
        onnx.checker.check_model(model, full_check=True)
        found = _run_reference(model, images.astype(np.float32) / np.float32(255.0))
    except Exception as error:  # whatever NumPy raises on a graph that makes no sense
        reason = " ".join(str(error).split())[:200]
        raise ExportError(
            f"the self-check failed: {reason or type(error).__name__}; nothing was written"
        ) from error
    if found.shape != expected.shape:
        raise ExportError(
            f"the self-check failed: expected probabilities {expected.shape}, found {found.shape}; "
            "nothing was written"
        )
    difference = float(np.max(np.abs(found.astype(np.float64) - expected)))
    if not difference <= TOLERANCE:  # also where it is not a number
        raise ExportError(
            f"the self-check failed: probabilities differ by {difference:.1e} on {len(images)} images, "
            f"expected at most {TOLERANCE:.0e}; nothing was written"
        )
    return difference


def _run_reference(model: onnx.ModelProto, images: FloatArray) -> FloatArray:
    """What onnx's own evaluator, which shares no code with the engine, makes of float32 images."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ReferenceEvaluator(model).run([OUTPUT], {INPUT: images})
    return cast("list[FloatArray]", found)[0]
