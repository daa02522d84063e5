"""ONNX models that other people made: run as they are, and trained further where they are chains of layers.

A model becomes a `Classifier` whose network is proven to compute what the graph computes. Where it is no
chain of the engine's layers it becomes an `OnnxModel`, which runs operator by operator and gives the same
probabilities, only slower and without training.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from math import isqrt, prod
from pathlib import Path

import numpy as np

from mnistnet.engine.arrays import UNIT_SCALE, AnyArray, FloatArray, IntArray, PixelScale
from mnistnet.engine.layers import Layer, Sigmoid, Softmax
from mnistnet.engine.network import Network, check_images
from mnistnet.errors import CheckpointError
from mnistnet.formats.checkpoint import SIZE_LIMIT
from mnistnet.formats.foreign import Foreign
from mnistnet.formats.onnx_executor import run_graph
from mnistnet.formats.onnx_export import (
    ACTIVATION,
    INPUT_SCALE,
    INPUT_SHIFT,
    NO_ACTIVATION,
    largest_difference,
)
from mnistnet.formats.onnx_graph import Graph, Node, load_graph
from mnistnet.formats.onnx_layers import NotAChainError, chain_of
from mnistnet.formats.onnx_operators import limits
from mnistnet.formats.onnx_operators.normalization import softmax
from mnistnet.formats.onnx_operators.shapes import DTYPES
from mnistnet.models import Classifier

Picture = tuple[int, int, int]
"""(C, H, W)."""
Sizes = tuple[int | None, ...]
"""A shape, None where a size is free."""

TOLERANCE = 1e-4
"""Largest difference of a probability between the graph and the network that it became."""
PROOF_IMAGES = 3
CHUNK = 64
"""Images that a graph computes at once where it leaves their number free: an operator copies every window."""
CHUNK_VALUES = 2**18
"""Numbers that they have together at most, unless a single one has more."""


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """A model that runs operator by operator, from bytes of pictures to probabilities."""

    graph: Graph
    input_shape: Picture
    """(C, H, W) of a picture."""
    index: IntArray
    """In the shape of one sample of the graph's input: which of a picture's numbers each element is."""
    class_names: tuple[str, ...]
    pixels: PixelScale
    confidence_threshold: float | None = None

    def probabilities(self, images: AnyArray, *, threads: int = 1) -> FloatArray:  # noqa: ARG002
        """(N, K) probabilities of uint8 images (N, C, H, W), 0 = background.

        Raises:
            ShapeError: the images do not have the model's input shape.
            CheckpointError: the graph cannot be computed, or its output is not (N, K).
        """
        check_images(images, self.input_shape)
        source = self.graph.inputs[0]
        count = len(images)
        if not count:  # the answer to any image says K and the dtype
            images = np.zeros((1, *self.input_shape), np.uint8)
        rows = images.reshape(len(images), -1)[:, self.index.reshape(-1)]
        values = (
            rows if source.dtype == np.uint8 else self.pixels.apply(rows, np.float32).astype(source.dtype)
        )
        values = values.reshape(-1, *self.index.shape)
        fixed = source.shape[0] if source.shape else None
        size = fixed or max(1, min(CHUNK, CHUNK_VALUES // self.index.size))
        if fixed:
            missing = -len(values) % fixed
            values = np.concatenate([values, np.repeat(values[-1:], missing, axis=0)])
        parts = [self._run(values[start : start + size]) for start in range(0, len(values), size)]
        return np.concatenate(parts)[:count]

    def _run(self, values: AnyArray) -> FloatArray:
        (outputs,) = run_graph(self.graph, {self.graph.inputs[0].name: values})
        if outputs.ndim != 2 or len(outputs) != len(values) or outputs.dtype.kind != "f":
            expected = f"expected ({len(values)}, K) numbers"
            raise CheckpointError(f"the model's output: {expected}, found {outputs.dtype} {outputs.shape}")
        with np.errstate(all="ignore"):
            return _END[_end_of(self.graph)].probabilities(outputs)


@dataclass(frozen=True)
class _End:
    """What a model's output is, and how it becomes probabilities."""

    probabilities: Callable[[AnyArray], FloatArray]
    layer: type[Layer] | None
    """What a network whose layers give this output still needs."""
    note: str


def _of_logits(outputs: AnyArray) -> FloatArray:
    return softmax(outputs)


def _of_binary_logits(outputs: AnyArray) -> FloatArray:
    found: FloatArray = 1 / (1 + np.exp(-outputs))
    return found


_END = {
    "probabilities": _End(np.asarray, None, ""),
    "logarithms": _End(np.exp, None, "its outputs are taken as logarithms of probabilities"),
    "sigmoid": _End(_of_binary_logits, Sigmoid, ""),
    "softmax": _End(_of_logits, Softmax, ""),
    "logits": _End(_of_logits, Softmax, "its outputs are taken as logits, to which a softmax is applied"),
}


_BY_METADATA = {"softmax": "softmax", "sigmoid": "sigmoid", NO_ACTIVATION: "probabilities"}
_BY_OPERATOR = {"Softmax": "probabilities", "Sigmoid": "probabilities", "LogSoftmax": "logarithms"}
_ROUNDING = 1e-4  # by which a probability may miss 0 to 1
_UNCHANGED = {"Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze"}
"""Operators that give the numbers that they get; a Dropout in training mode is no model to ask."""


def _end_of(graph: Graph) -> str:
    """Which of `_END` a model's output is: by our metadata, else by the last operator that makes numbers."""
    said = graph.metadata.get(ACTIVATION)
    if said in _BY_METADATA:
        return _BY_METADATA[said]
    name = graph.outputs[0].name
    for node in reversed(graph.nodes):
        if name in node.outputs:
            if not _changes_nothing(node):
                return _BY_OPERATOR.get(node.op_type, "logits")
            name = node.inputs[0]
    return "logits"


def _changes_nothing(node: Node) -> bool:
    if node.op_type == "Cast":
        return np.dtype(DTYPES[node.attributes["to"]]).kind == "f"
    return node.op_type in _UNCHANGED


def load_onnx(
    path: str | os.PathLike[str],
    *,
    limit: int = SIZE_LIMIT,
    input_shape: Picture | None = None,
    pixels: PixelScale | None = None,
) -> Foreign:
    """Read an ONNX file that classifies pictures.

    Args:
        path: the file.
        limit: the largest size in bytes that is read.
        input_shape: (C, H, W) of a picture; by default what the file says.
        pixels: what turns a byte into the model's input; by default what the file's metadata say, and
            1/255 where they say nothing.

    Raises:
        CheckpointError: ``path: ...`` it cannot be used at all.
    """
    path = Path(path)
    graph = load_graph(path, limit=limit)
    try:
        return import_graph(graph, input_shape=input_shape, pixels=pixels, name=path.stem)
    except CheckpointError as error:
        raise error.at(path) from error


def import_graph(
    graph: Graph,
    *,
    input_shape: Picture | None = None,
    pixels: PixelScale | None = None,
    name: str = "custom",
) -> Foreign:
    """A graph as something that gives probabilities; see `load_onnx`.

    Raises:
        CheckpointError: it does not take one batch of pictures to one batch of probabilities.
    """
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        count = f"{len(graph.inputs)} inputs and {len(graph.outputs)} outputs"
        raise CheckpointError(f"expected a model with one input and one output, found {count}")
    notes: list[str] = []
    shape, index = _image_layout(graph, input_shape)
    scale = pixels or _pixels(graph, notes)
    model = OnnxModel(graph, shape, index, (), scale)
    # what nobody can run is refused here, with the node's name
    sample = np.random.default_rng(0).integers(0, 256, (PROOF_IMAGES, *shape), np.uint8)
    expected = model.probabilities(sample)
    classes = _class_names(graph, expected.shape[1])
    end = _END[_end_of(graph)]
    if end.note:
        notes.append(end.note)
    if expected.min() < -_ROUNDING or expected.max() > 1 + _ROUNDING:
        notes.append("its outputs are no probabilities, and are taken as they are")
    try:
        chain = chain_of(graph, shape, index)
        if chain.index.ndim != 1 or not chain.in_order:
            raise NotAChainError(f"the output should be (N, K), found {chain.index.shape} for each image")
        if end.layer is not None:
            chain.add(end.layer())
        network = chain.network()
        _check_end(network)
        scale = PixelScale(scale.scale * chain.scale, scale.shift * chain.scale + chain.shift)
        classifier = Classifier(network, classes, scale, graph.metadata.get("model", name))
        _prove(classifier, sample, expected)
    except NotAChainError as error:
        return Foreign(OnnxModel(graph, shape, index, classes, model.pixels), tuple(notes), str(error))
    return Foreign(classifier, tuple(notes))


def _check_end(network: Network) -> None:
    """Refuse a network that could be written as a checkpoint, but would not be taken from there."""
    kind = network.layers[-1].kind
    if kind not in ("softmax", "sigmoid"):
        raise NotAChainError(f"the last layer should be softmax or sigmoid, found {kind}")


def _prove(classifier: Classifier, images: AnyArray, expected: FloatArray) -> None:
    """Compare the network with the graph it came from."""
    found = classifier.probabilities(images)
    difference = largest_difference(found, expected)
    if not difference <= TOLERANCE:  # also where it is not a number
        raise NotAChainError(f"the network that it became differs by {difference:.1e} from the model")


def _image_layout(graph: Graph, wanted: Picture | None) -> tuple[Picture, IntArray]:
    """(C, H, W) of a picture, and which of its numbers each element of the graph's input is."""
    source = graph.inputs[0]
    where = f"input {source.name!r:.80}"
    bytes_or_floats = source.dtype is not None and (source.dtype == np.uint8 or source.dtype.kind == "f")
    if not bytes_or_floats or not source.shape:
        found = f"{source.dtype or 'another type'} {_shown(source.shape or ())}"
        raise CheckpointError(f"{where}: expected a batch of floats or bytes (uint8), found {found}")
    sample = tuple(size for size in _filled(source.shape[1:], wanted) if size is not None)
    if len(sample) < len(source.shape) - 1 or not 1 <= len(sample) <= 3:
        raise CheckpointError(
            f"{where}: expected (N, C, H, W) with C, H and W fixed, found {_shown(source.shape)}: "
            "say what is free with --input-shape"
        )
    shape = _picture(sample, wanted)
    if shape is None:
        raise CheckpointError(
            f"{where}: {sample[0]} features are no square picture: say it with --input-shape"
        )
    if wanted not in (None, shape):
        raise CheckpointError(
            f"--input-shape: {wanted} does not fit the model's input {_shown(source.shape)}"
        )
    if (source.shape[0] or 1) * prod(shape) > limits.MOST_PIXELS:
        expected = f"expected at most {limits.MOST_PIXELS} values"
        raise CheckpointError(f"{where}: {_shown(source.shape)} is too large: {expected}")
    index = np.arange(prod(shape))
    if _channels_last(sample):
        return shape, index.reshape(shape).transpose(1, 2, 0)
    return shape, index.reshape(sample)


def _filled(sample: Sizes, wanted: Picture | None) -> Sizes:
    """The free sizes of an input as the wanted picture has them."""
    if wanted is None:
        return sample
    c, h, w = wanted
    forms: dict[int, Sizes] = {1: (c * h * w,), 2: (h, w), 3: (h, w, c) if _channels_last(sample) else wanted}
    return tuple(a or b for a, b in zip(sample, forms.get(len(sample), sample), strict=True))


def _picture(sample: tuple[int, ...], wanted: Picture | None) -> Picture | None:
    """(C, H, W) of a picture that fills (C, H, W), (H, W, C), (H, W) or (F,); None where F leaves it open."""
    match sample:
        case (h, w, c) if _channels_last(sample):
            return (c, h, w)
        case (c, h, w):
            return (c, h, w)
        case (h, w):
            return (1, h, w)
    (features,) = sample
    if wanted is not None and prod(wanted) == features:
        return wanted
    side = isqrt(features)
    return (1, side, side) if side * side == features else None


def _channels_last(sample: Sizes) -> bool:
    """(H, W, C), as TensorFlow has it: C is 1 or 3, H and W are more or free."""
    return len(sample) == 3 and sample[2] in (1, 3) and all(size is None or size > 3 for size in sample[:2])


def _shown(shape: Sizes) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"


def _pixels(graph: Graph, notes: list[str]) -> PixelScale:
    """What turns a byte into the graph's input, by the file's metadata or by custom."""
    if graph.inputs[0].dtype == np.uint8:
        return PixelScale(1.0, 0.0)
    try:
        numbers = [float(graph.metadata[key]) for key in (INPUT_SCALE, INPUT_SHIFT)]
    except (KeyError, ValueError):
        numbers = []
    if numbers and np.isfinite(numbers).all():
        return PixelScale(*numbers)
    notes.append(
        "bytes of a picture are divided by 255; use --input-scale if the model expects something else"
    )
    return UNIT_SCALE


def _class_names(graph: Graph, count: int) -> tuple[str, ...]:
    """The names in the file's metadata, where there is one for each output; else 0, 1, 2, ..."""
    try:
        names = json.loads(graph.metadata.get("classes", ""))
    except (ValueError, RecursionError):
        names = None
    if isinstance(names, list) and len(names) == count and all(isinstance(name, str) for name in names):
        unique = tuple(dict.fromkeys(names))
        if len(unique) == count:
            return unique
    return tuple(map(str, range(count)))
