"""Checkpoints of rsnet, a neural-network engine in Rust: read, and written so that it reads them.

    {"layers": [{"Conv": {...}}, {"ReLU": {}}, ..., {"Softmax": {}}]}

Its layers are serde's externally tagged enum, its arrays ndarray's ``{"v": 1, "dim": [...], "data": [...]}``.
It saves what flowed through its layers too, which is most of a file and is cut out before parsing. It says
nothing of the input's size and scale or of class names; what this package writes says them in a member
``mnistnet`` beside ``layers``, which rsnet passes over, so one file serves both.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import singledispatch
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from mnistnet.engine.arrays import UNIT_SCALE, AnyArray, FloatArray, PixelScale, Shape
from mnistnet.engine.layers import Conv2d, Dense, Flatten, Layer, MaxPool2d, ReLU, Softmax
from mnistnet.engine.layers.base import check_size
from mnistnet.engine.network import Network
from mnistnet.errors import CheckpointError, ExportError, ShapeError
from mnistnet.files import read_limited, write_atomically
from mnistnet.formats.arrays import array_from_json, array_to_json
from mnistnet.formats.checkpoint import MOST_ACTIVATIONS, SIZE_LIMIT, SIZE_LIMIT_FLAG
from mnistnet.formats.foreign import Foreign
from mnistnet.formats.strict_json import parse_json, show
from mnistnet.models import Classifier

DEFAULT_SHAPE = (1, 28, 28)
OURS = "mnistnet"
"""The member beside ``layers`` that holds what rsnet has no place for."""

LARGEST_GUESS = 256
"""Sides of square pictures that are tried for a hint where the picture's size is wrong."""

_HEAD = 4096
_TAGGED = re.compile(rb'"layers"\s*:\s*\[\s*\{\s*"(Conv|ReLU|Pool|Flatten|FC|Softmax)"\s*:')
_CACHES = re.compile(rb'"(last_input|last_output|last_input_max_mask|k_grad|b_grad|w_grad)"\s*:\s*\{[^{}]*\}')
"""What flowed through, and gradients: arrays, in which there are no further braces."""


def looks_like_rsnet(path: Path) -> bool:
    """Whether a file begins as rsnet's checkpoints do."""
    try:
        if not path.is_file():  # opening a pipe that nobody writes to never returns
            return False
        with path.open("rb") as file:
            return _TAGGED.search(file.read(_HEAD)) is not None
    except OSError:
        return False


def load_rsnet(
    path: Path,
    *,
    limit: int = SIZE_LIMIT,
    input_shape: tuple[int, int, int] | None = None,
    pixels: PixelScale | None = None,
) -> Foreign:
    """Read an rsnet checkpoint.

    Args:
        path: the file.
        limit: the largest size in bytes that is read.
        input_shape: (C, H, W) of a picture; by default what the file says if we wrote it, else 1, 28, 28.
        pixels: what bytes mean; by default what the file says if we wrote it, else 1/255.

    Raises:
        CheckpointError: ``path: what was expected, what was found``.
    """
    data = read_limited(path, limit, CheckpointError, advice=f"raise it with {SIZE_LIMIT_FLAG}")
    try:
        return decode_rsnet(data, input_shape=input_shape, pixels=pixels)
    except CheckpointError as error:
        raise error.at(path) from error


def save_rsnet(path: Path, classifier: Classifier) -> None:
    """Write a checkpoint that rsnet reads.

    Raises:
        ExportError: ``layer i (kind): ...`` rsnet has no such layer, or a weight is not finite.
        OutputError: the file cannot be written; the previous one is kept.
    """
    write_atomically(path, encode_rsnet(classifier))


# reading ---------------------------------------------------------------------------------------------------


def decode_rsnet(
    data: bytes, *, input_shape: tuple[int, int, int] | None = None, pixels: PixelScale | None = None
) -> Foreign:
    """The classifier of a file's bytes; see `load_rsnet`.

    Raises:
        CheckpointError: ``where: what was expected, what was found``, without the file's name.
    """
    document = parse_json(_CACHES.sub(rb'"\1":null', data))
    items = document.get("layers") if isinstance(document, dict) else None
    if not isinstance(items, list) or not items:
        raise CheckpointError("layers: expected rsnet's list of layers, with at least one")
    ours = _read_ours(document[OURS]) if OURS in document else None
    shape = input_shape or (ours.shape if ours else DEFAULT_SHAPE)
    scale = pixels or (ours.pixels if ours else UNIT_SCALE)
    read = [_read_layer(item, f"layers[{index}]") for index, item in enumerate(items)]
    network = _network(read, shape)
    notes = []
    if len(network.layers) > len(read):
        notes.append("its outputs are taken as logits, to which a softmax is applied")
    if ours is None and input_shape is None:
        notes.append("pictures are taken to be 1x28x28; use --input-shape for others")
    if ours is None and pixels is None:
        notes.append(
            "bytes of a picture are divided by 255; use --input-scale if it was trained on something else"
        )
    if not np.isfinite(network.vector).all():
        notes.append(
            "some of its weights are no numbers (null), which is how rsnet writes a training that diverged"
        )
    (count,) = network.output_shape
    names = tuple(map(str, range(count))) if ours is None else ours.class_names
    if len(names) != count:
        raise CheckpointError(f"{OURS}.classes: {len(names)} names, but the network has {count} outputs")
    return Foreign(Classifier(network, names, scale, ours.name if ours else "custom"), tuple(notes))


@dataclass(frozen=True)
class _Ours:
    shape: tuple[int, int, int]
    pixels: PixelScale
    class_names: tuple[str, ...]
    name: str


def _read_ours(member: object) -> _Ours:
    """What we wrote beside the layers."""
    try:
        channels, height, width = (
            check_size(name, member["input"][name])  # type: ignore[index]
            for name in ("channels", "height", "width")
        )
        pixels = PixelScale(*(float(member["input"][name]) for name in ("scale", "shift")))  # type: ignore[index]
        names = tuple(map(str, member["classes"]))  # type: ignore[index]
        return _Ours((channels, height, width), pixels, names, str(member["model"]))  # type: ignore[index]
    except (KeyError, TypeError, ValueError, ShapeError) as error:
        raise CheckpointError(f"{OURS}: not as this package writes it ({error})") from error


_Read = tuple[Layer, dict[str, FloatArray]]


def _read_layer(item: object, where: str) -> _Read:
    """A layer and its parameters in our layout."""
    if not isinstance(item, dict) or len(item) != 1:
        raise CheckpointError(f'{where}: expected one member such as {{"ReLU": {{}}}}, found {show(item)}')
    ((tag, body),) = item.items()
    if tag not in _READERS:
        raise CheckpointError(f"{where}: unknown layer {show(tag)}: expected one of {', '.join(_READERS)}")
    where = f"{where}.{tag}"
    if not isinstance(body, dict):
        raise CheckpointError(f"{where}: expected an object, found {show(body)}")
    try:
        return _READERS[tag](body, where)
    except KeyError as error:
        raise CheckpointError(f"{where}.{error.args[0]}: missing") from error
    except ShapeError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _conv(body: Mapping[str, Any], where: str) -> _Read:
    layer = Conv2d(body["out_channels"], body["kernel_size"], body["stride"])
    shape = (layer.out_channels, check_size("in_channels", body["in_channels"]), *layer.kernel_size)
    matrix = _array(body["kernels_mat"], (shape[0], prod(shape[1:])), f"{where}.kernels_mat")
    return layer, {"weight": matrix.reshape(shape), "bias": _array(body["b"], shape[:1], f"{where}.b")}


def _dense(body: Mapping[str, Any], where: str) -> _Read:
    layer = Dense(body["output_size"])
    shape = (check_size("input_size", body["input_size"]), layer.out_features)
    weights = _array(body["weights"], shape, f"{where}.weights")
    return layer, {"weight": weights.T, "bias": _array(body["bias"], shape[1:], f"{where}.bias")}


_READERS: dict[str, Callable[[Mapping[str, Any], str], _Read]] = {
    "Conv": _conv,
    "ReLU": lambda body, where: (ReLU(), {}),  # noqa: ARG005
    "Pool": lambda body, where: (MaxPool2d(body["pool_size"]), {}),  # noqa: ARG005
    "Flatten": lambda body, where: (Flatten(), {}),  # noqa: ARG005
    "FC": _dense,
    "Softmax": lambda body, where: (Softmax(), {}),  # noqa: ARG005
}


def _array(value: Any, wanted: tuple[int, ...], where: str) -> FloatArray:
    """An array in which null is not a number: so serde writes it, and so rsnet reads it."""
    missing: list[int] = []
    if isinstance(value, dict) and isinstance(value.get("data"), list):
        missing = [index for index, number in enumerate(value["data"]) if number is None]
        value = {**value, "data": [0.0 if number is None else number for number in value["data"]]}
    values = array_from_json(value, where)
    if values.shape != wanted:
        raise CheckpointError(f"{where}: expected {wanted}, found {values.shape}")
    values.reshape(-1)[missing] = np.nan
    return values


def _network(read: list[_Read], shape: tuple[int, int, int]) -> Network:
    """The network, for pictures of ``shape``; one that gives logits gets a softmax."""
    try:
        _check_fit(read, shape)
    except ShapeError as error:
        c = read[0][1]["weight"].shape[1] if read[0][0].kind == "conv2d" else shape[0]
        fitting = [side for side in range(1, LARGEST_GUESS) if _fits(read, (c, side, side))]
        hint = f"; --input-shape {c},{fitting[0]},{fitting[0]} fits" if fitting else ""
        raise CheckpointError(f"pictures of {shape}: {error}{hint}") from error
    layers = [layer for layer, _ in read]
    if layers[-1].kind != "softmax":
        layers.append(Softmax())
    network = Network(layers, shape)
    for index, (_, parameters) in enumerate(read):
        for name, values in parameters.items():
            network.layers[index].params[name][...] = values
    return network


def _check_fit(read: list[_Read], shape: Shape) -> None:
    """Raise ShapeError where layers, parameters and pictures do not fit; nothing is allocated."""
    for index, (layer, parameters) in enumerate(read):
        where = f"layer {index} ({layer.kind})"
        try:
            wanted = layer.parameter_shapes(shape)
            shape = layer.output_shape(shape)
        except ShapeError as error:
            raise error.at(where) from error
        for name, values in parameters.items():
            if values.shape != wanted[name]:
                raise ShapeError(f"{where}: {name} should be {wanted[name]}, found {values.shape}")
        if prod(shape) > MOST_ACTIVATIONS:
            raise ShapeError(f"{where}: too large: expected at most {MOST_ACTIVATIONS} values")
    if len(shape) != 1:
        raise ShapeError(f"the output should be (K,) classes, found {shape}")


def _fits(read: list[_Read], shape: Shape) -> bool:
    try:
        _check_fit(read, shape)
    except ShapeError:
        return False
    return True


# writing ---------------------------------------------------------------------------------------------------


def encode_rsnet(classifier: Classifier) -> bytes:
    """The bytes of a file that rsnet reads, and that `decode_rsnet` reads without being told anything.

    Raises:
        ExportError: ``layer i (kind): ...`` rsnet has no such layer, or a weight is not finite.
    """
    layers = []
    for index, layer in enumerate(classifier.network.layers):
        where = f"layer {index} ({layer.kind})"
        try:
            layers.append(_tagged(layer, where))
        except CheckpointError as error:
            raise ExportError(str(error)) from error
    if len(classifier.input_shape) != 3:
        raise ExportError(
            f"rsnet takes pictures: expected an input of (C, H, W), found {classifier.input_shape}"
        )
    c, h, w = classifier.network.input_shape
    size = {"channels": c, "height": h, "width": w}
    scale = {"scale": float(classifier.pixels.scale), "shift": float(classifier.pixels.shift)}
    ours = {"model": classifier.name, "input": {**size, **scale}, "classes": list(classifier.class_names)}
    text = ",\n".join(layers)
    return f'{{"layers": [\n{text}\n],\n"{OURS}": {json.dumps(ours, ensure_ascii=False)}}}\n'.encode()


@singledispatch
def _tagged(layer: Layer, where: str) -> str:  # noqa: ARG001
    """A layer in serde's form."""
    raise ExportError(
        f"{where}: rsnet has no such layer; it has conv2d, relu, max_pool2d, flatten, dense, softmax"
    )


@_tagged.register
def _(layer: Conv2d, where: str) -> str:
    if layer != Conv2d(layer.out_channels, layer.kernel_size):
        raise ExportError(f"{where}: rsnet's Conv has no stride, padding, dilation or groups")
    weight = layer.params["weight"]
    return _text(
        "Conv",
        {
            "in_channels": weight.shape[1],
            "out_channels": len(weight),
            "kernel_size": layer.kernel_size,
            "stride": 1,
        },
        {"kernels_mat": weight.reshape(len(weight), -1), "b": layer.params["bias"]},
        where,
    )


@_tagged.register
def _(layer: Dense, where: str) -> str:
    weight = layer.params["weight"]
    sizes = {"input_size": weight.shape[1], "output_size": weight.shape[0]}
    return _text("FC", sizes, {"weights": weight.T, "bias": layer.params["bias"]}, where)


@_tagged.register
def _(layer: MaxPool2d, where: str) -> str:
    if layer != MaxPool2d(layer.kernel_size):
        raise ExportError(f"{where}: rsnet's Pool has neither padding nor a stride other than its size")
    return _text("Pool", {"pool_size": layer.kernel_size}, {}, where)


@_tagged.register
def _(layer: ReLU, where: str) -> str:  # noqa: ARG001
    return _text("ReLU", {}, {}, where)


@_tagged.register
def _(layer: Flatten, where: str) -> str:  # noqa: ARG001
    return _text("Flatten", {}, {}, where)


@_tagged.register
def _(layer: Softmax, where: str) -> str:  # noqa: ARG001
    return _text("Softmax", {}, {}, where)


def _text(tag: str, sizes: Mapping[str, Any], arrays: Mapping[str, AnyArray], where: str) -> str:
    """An externally tagged layer; the members that only training fills are left out."""
    members = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in sizes.items()]
    members += [f"{json.dumps(name)}: {array_to_json(v, f'{where}: {name}')}" for name, v in arrays.items()]
    return f'{{"{tag}": {{{", ".join(members)}}}}}'
