"""Checkpoints: a trained classifier as one readable JSON file. The contract is docs/checkpoint-format.md.

A layer's JSON form is its kind, its configuration and its parameters by name, so a newly registered layer
needs no code here. Reading is strict, checks sizes before it allocates, and never executes anything.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from mnistnet.engine.arrays import FloatArray, PixelScale, Shape
from mnistnet.engine.layers import LAYER_KINDS, Layer, layer_from_config
from mnistnet.engine.network import Network
from mnistnet.errors import CheckpointError, ShapeError
from mnistnet.files import read_limited, write_atomically
from mnistnet.formats.arrays import array_from_json, array_to_json
from mnistnet.formats.strict_json import JSON, check_plain, member, parse_json, show
from mnistnet.models import Classifier

CHECKPOINT = "mnistnet-checkpoint"
ARCHITECTURE = "mnistnet-architecture"
VERSION = 1

SIZE_LIMIT = 256 * 2**20
"""Bytes of a file that is read unless the caller says otherwise: about 20 million parameters."""
SIZE_LIMIT_FLAG = "--size-limit"
"""The command line's flag for it, which the error message names."""

MOST_PARAMETERS = 2**28
"""Of a network: more are refused before they are allocated."""
MOST_ACTIVATIONS = 2**24
"""Numbers of a picture, and of what a layer makes of it: a few hundred bytes can ask for any number."""

_HEAD = 4096
"""How far into a file `find_checkpoint` looks for the format's name."""


@dataclass(frozen=True)
class SavedState:
    """Where a training stood, so that it can go on."""

    position: Mapping[str, JSON]
    """Plain JSON values: what they mean is the trainer's business."""
    vectors: Mapping[str, FloatArray]
    """float32 (P,) each, laid out as the network's vector."""


@dataclass(frozen=True)
class Checkpoint:
    """A classifier and how it was trained."""

    classifier: Classifier
    training: Mapping[str, JSON]
    """Plain JSON values under any names: epoch, learning_rate, seed. No times, no absolute paths."""
    state: SavedState | None = None
    """Only what is to be trained further needs one."""


@dataclass(frozen=True)
class Architecture:
    """What an architecture file says: a network still to be initialized."""

    layers: tuple[Layer, ...]
    input_shape: Shape
    """(C, H, W), or (F,)."""
    class_names: tuple[str, ...] | None
    """None where the file names no classes; otherwise one for each output."""
    pixels: PixelScale
    name: str = "custom"


def save_checkpoint(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write a checkpoint, atomically: the file at ``path`` is always a whole one.

    Raises:
        CheckpointError: the checkpoint has no JSON form, for a weight is not finite.
        OutputError: the file cannot be written; the previous one is kept.
    """
    try:
        data = encode_checkpoint(checkpoint)
    except CheckpointError as error:
        raise error.at(path) from error
    write_atomically(Path(path), data)


def load_checkpoint(path: str | os.PathLike[str], *, limit: int = SIZE_LIMIT) -> Checkpoint:
    """Read a checkpoint file.

    Args:
        path: the file, see `find_checkpoint` for folders.
        limit: the largest size in bytes that is read.

    Raises:
        CheckpointError: ``path: what was expected, what was found``.
    """
    data = _read(path, limit)
    try:
        return decode_checkpoint(data)
    except CheckpointError as error:
        raise error.at(path) from error


def load_architecture(path: str | os.PathLike[str], *, limit: int = SIZE_LIMIT) -> Architecture:
    """Read an architecture file, or a checkpoint of which only the architecture is wanted.

    Args:
        path: the file.
        limit: the largest size in bytes that is read.

    Raises:
        CheckpointError: ``path: what was expected, what was found``.
    """
    data = _read(path, limit)
    try:
        return decode_architecture(data)
    except CheckpointError as error:
        raise error.at(path) from error


def find_checkpoint(path: str | os.PathLike[str]) -> Path:
    """The checkpoint file that a person means: a file is itself, a folder is its newest checkpoint.

    A folder and its direct subfolders are searched for JSON files that begin as checkpoints do. A folder
    with a ``best.json`` or a ``latest.json`` is a run and stands for that one file, the best where there is
    validation. The newest is the one modified last.

    Raises:
        CheckpointError: there is no such file or folder, or no checkpoint in it.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise CheckpointError(f"{path}: no such file or folder: expected a checkpoint; train one first")
        return path
    found = list(_candidates(path))
    for folder in _listing(path):
        if folder.is_dir():
            found += _candidates(folder)
    if not found:
        raise CheckpointError(f"{path}: no checkpoint in this folder or its subfolders: train one first")
    return max(found, key=lambda file: (last_written(file), str(file)))


def encode_checkpoint(checkpoint: Checkpoint) -> bytes:
    """The file's bytes; the same checkpoint always gives the same.

    Raises:
        CheckpointError: a weight is not finite, the network is not float32, or `decode_checkpoint` would
            refuse the file, with its message: an entry of ``training`` is no plain JSON value, the classes
            are no different names, as many as the outputs, the confidence threshold is not in (0, 1].
    """
    classifier = checkpoint.classifier
    network = classifier.network
    training = dict(checkpoint.training)
    head: dict[str, Any] = {
        "format": CHECKPOINT,
        "version": VERSION,
        "model": classifier.name,
        "input": _input_form(network.input_shape, classifier.pixels),
        "classes": list(classifier.class_names),
    }
    if classifier.confidence_threshold is not None:
        head["confidence_threshold"] = classifier.confidence_threshold
    # as the reader will see it, without what is large
    layers = [{"kind": layer.kind, **json.loads(_text(layer.config()))} for layer in network.layers]
    document = {**head, "layers": layers, "training": training}
    if checkpoint.state is not None:
        vectors = dict.fromkeys(checkpoint.state.vectors)
        document["state"] = {"position": dict(checkpoint.state.position), "vectors": vectors}
    _check_metadata(document)
    _read_head(document, with_parameters=False)
    parts = ["{", *(f" {_text(key)}: {_text(value)}," for key, value in head.items()), ' "layers": [']
    texts = [_layer_text(index, layer) for index, layer in enumerate(network.layers)]
    parts += [",\n".join(texts), " ],", f' "training": {_block(training)},']
    if checkpoint.state is not None:
        parts += [f' "state": {_state_text(checkpoint.state, network)},']
    parts += [" "]
    covered = "\n".join(parts).encode()
    return covered + f'"checksum": {_text(_checksum(covered))}\n}}\n'.encode()


def decode_checkpoint(data: bytes) -> Checkpoint:
    """The checkpoint of a file's bytes.

    Raises:
        CheckpointError: ``where: what was expected, what was found``, without the file's name.
    """
    document = _document(data, (CHECKPOINT,))
    head, shape, pixels, layers, parameters = _read_head(document, with_parameters=True)
    network = Network(layers, shape)
    for name, view in network.parameters().items():
        view[...] = parameters[name]
    classifier = Classifier(network, tuple(head.classes), pixels, head.model, head.confidence_threshold)
    state = None if head.state is None else _read_state(head.state, network)
    return Checkpoint(classifier, head.training, state)


def decode_architecture(data: bytes) -> Architecture:
    """The architecture of a file's bytes; parameters, where it has some, are passed over.

    Raises:
        CheckpointError: ``where: what was expected, what was found``, without the file's name.
    """
    head = _validated(_document(data, (ARCHITECTURE, CHECKPOINT)), _ArchitectureForm)
    shape, pixels = _read_input({"scale": PixelScale.scale, "shift": PixelScale.shift, **head.input})
    layers, output_shape, _ = _read_layers(head.layers, shape, with_parameters=False)
    names = None if head.classes is None else tuple(head.classes)
    _check_classes(names, output_shape)
    return Architecture(tuple(layers), shape, names, pixels, head.model)


class _Form(BaseModel):
    """Strict: no conversions, no unknown members."""

    model_config = ConfigDict(strict=True, extra="forbid")


_SIZE = Field(ge=1, lt=2**31)
_SHARE = Field(None, gt=0, le=1, allow_inf_nan=False)
# what PixelScale becomes is float32
_FACTOR = Field(ge=-3.4e38, le=3.4e38, allow_inf_nan=False)


class _PicturesForm(_Form):
    channels: int = _SIZE
    height: int = _SIZE
    width: int = _SIZE
    scale: float = _FACTOR
    shift: float = _FACTOR


class _FeaturesForm(_Form):
    features: int = _SIZE
    scale: float = _FACTOR
    shift: float = _FACTOR


class _StateForm(_Form):
    position: dict[str, Any]
    vectors: dict[str, str | None]


class _CheckpointForm(_Form):
    format: str
    version: int
    model: str
    input: dict[str, Any]
    classes: list[str]
    confidence_threshold: float | None = _SHARE
    layers: list[dict[str, Any]]
    training: dict[str, Any]
    state: _StateForm | None = None
    checksum: str = ""


class _ArchitectureForm(_Form):
    format: str
    version: int
    model: str = "custom"
    input: dict[str, Any]
    classes: list[str] | None = None
    confidence_threshold: float | None = _SHARE
    layers: list[dict[str, Any]]
    training: dict[str, Any] = Field(default_factory=dict)
    state: dict[str, Any] | None = None
    checksum: str = ""


_AnyForm = TypeVar("_AnyForm", bound=_Form)


def _read_head(
    document: dict[str, Any], *, with_parameters: bool
) -> tuple[_CheckpointForm, Shape, PixelScale, list[Layer], dict[str, FloatArray]]:
    """All that a checkpoint says but its state, as reading and writing check it."""
    head = _validated(document, _CheckpointForm)
    shape, pixels = _read_input(head.input)
    layers, output_shape, parameters = _read_layers(head.layers, shape, with_parameters=with_parameters)
    _check_classes(head.classes, output_shape)
    return head, shape, pixels, layers, parameters


def _read_input(item: dict[str, Any]) -> tuple[Shape, PixelScale]:
    """What a network takes: pictures, or so many features."""
    if "features" in item:
        features = _validated(item, _FeaturesForm, "input")
        return (features.features,), PixelScale(features.scale, features.shift)
    form = _validated(item, _PicturesForm, "input")
    return (form.channels, form.height, form.width), PixelScale(form.scale, form.shift)


def _validated(document: dict[str, Any], form: type[_AnyForm], where: str = "") -> _AnyForm:
    """The document, or the member ``where`` of it, as ``form``; pydantic's first complaint becomes ours."""
    try:
        return form.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        for step in first["loc"]:
            where = f"{where}[{step}]" if isinstance(step, int) else member(where, step)
        match first["type"]:
            case "missing":
                raise CheckpointError(f"{where}: missing") from error
            case "extra_forbidden":
                known = ", ".join(form.model_fields)
                raise CheckpointError(
                    f"{where}: unknown member: notes belong in training ({known})"
                ) from error
            case _:
                message = f"{where}: {first['msg'].lower()}, found {show(first['input'])}"
                raise CheckpointError(message) from error


def _document(data: bytes, formats: tuple[str, ...]) -> dict[str, Any]:
    """The parsed document, once its format, version and checksum are right and its metadata plain."""
    document = parse_json(data)
    if not isinstance(document, dict):
        raise CheckpointError(f"expected a JSON object, found {show(document)}")
    found = document.get("format")
    if found == ARCHITECTURE and ARCHITECTURE not in formats:
        raise CheckpointError("format: an architecture, which has no weights: train it first")
    if found not in formats:
        shown = show(found) if "format" in document else "none"
        raise CheckpointError(f"format: expected {' or '.join(map(show, formats))}, found {shown}")
    if "version" not in document:
        raise CheckpointError("version: missing")
    version = document["version"]
    if type(version) is not int or version < 1:
        raise CheckpointError(f"version: expected {VERSION}, found {show(version)}")
    if version > VERSION:
        raise CheckpointError(f"version: {version} needs a newer mnistnet; this one reads up to {VERSION}")
    _verify_checksum(data, document)
    _check_metadata(document)
    return document


def _check_metadata(document: dict[str, Any]) -> None:
    """Let through only plain JSON values, apart from the layers, which are looked at one by one."""
    check_plain({key: value for key, value in document.items() if key != "layers"}, "")


def _checksum(covered: bytes) -> str:
    return f"sha256:{hashlib.sha256(covered).hexdigest()}"


def _verify_checksum(data: bytes, document: dict[str, Any]) -> None:
    """Compare the checksum member, where there is one, with the bytes in front of it."""
    if "checksum" not in document:
        return
    stated = document["checksum"]
    if not isinstance(stated, str) or not re.fullmatch("sha256:[0-9a-f]{64}", stated):
        raise CheckpointError(f'checksum: expected "sha256:" and 64 hex digits, found {show(stated)}')
    start = data.rfind(b'"checksum"')
    if next(reversed(document)) != "checksum" or start < 0:
        raise CheckpointError("checksum: expected as the last member of the file, found before its end")
    if _checksum(data[:start]) != stated:
        reason = "its line endings were changed" if b"\r\n" in data else "it is damaged"
        raise CheckpointError(
            f"checksum: corrupt: the bytes do not match, {reason}; after an edit by hand delete this member"
        )


def _check_classes(names: tuple[str, ...] | list[str] | None, output_shape: Shape) -> None:
    if len(output_shape) != 1:
        raise CheckpointError(f"layers: the output should be (K,) classes, found {output_shape}")
    if names is not None and len(names) != output_shape[0]:
        raise CheckpointError(f"classes: {len(names)} names, but the network has {output_shape[0]} outputs")
    if names is not None and len(set(names)) < len(names):
        twice = next(name for name in names if list(names).count(name) > 1)
        raise CheckpointError(f"classes: expected different names, found {show(twice)} twice")


def _read_layers(
    items: list[dict[str, Any]], shape: Shape, *, with_parameters: bool
) -> tuple[list[Layer], Shape, dict[str, FloatArray]]:
    """The layers, the network's output shape, and the parameters as `Network.parameters` names them.

    Everything is compared as Python integers before a network is built, for building it allocates.
    """
    if not items:
        raise CheckpointError("layers: empty network: expected at least one layer")
    if prod(shape) > MOST_ACTIVATIONS:
        raise CheckpointError(f"input: too large: expected at most {MOST_ACTIVATIONS} values, found {shape}")
    layers: list[Layer] = []
    parameters: dict[str, FloatArray] = {}
    size = 0
    for index, item in enumerate(items):
        where = f"layers[{index}]"
        layer = _read_layer(item, where)
        try:
            wanted = layer.parameter_shapes(shape)
            shape = layer.output_shape(shape)
        except ShapeError as error:
            raise CheckpointError(f"layer {index} ({layer.kind}): {error}") from error
        size += sum(map(prod, wanted.values()))
        if size > MOST_PARAMETERS or prod(shape) > MOST_ACTIVATIONS:
            raise CheckpointError(
                f"layer {index} ({layer.kind}): too large: expected an output of at most {MOST_ACTIVATIONS} "
                f"values and {MOST_PARAMETERS} parameters, found {shape} and {size} so far"
            )
        config = [field.name for field in fields(layer) if field.init]
        for name in item:
            if name != "kind" and name not in config and name not in wanted:
                known = ", ".join(["kind", *config, *wanted])
                raise CheckpointError(f"{member(where, name)}: unknown member: {layer.kind} has {known}")
        if with_parameters:
            for name, wanted_shape in wanted.items():
                parameters[f"{index}.{name}"] = _read_parameter(item, name, wanted_shape, index)
        layers.append(layer)
    return layers, shape, parameters


def _read_layer(item: dict[str, Any], where: str) -> Layer:
    if "kind" not in item:
        raise CheckpointError(f"{where}.kind: missing")
    kind = item["kind"]
    if not isinstance(kind, str) or kind not in LAYER_KINDS:
        raise CheckpointError(
            f"{where}.kind: unknown layer {show(kind)}: expected one of {', '.join(sorted(LAYER_KINDS))}"
        )
    # parameters are whatever is not configuration; their names are checked when the shapes are known
    names = {field.name for field in fields(LAYER_KINDS[kind]) if field.init}
    config = {name: value for name, value in item.items() if name in names}
    check_plain(config, where)
    try:
        return layer_from_config(kind, config)
    except ShapeError as error:
        raise CheckpointError(f"{where}: {error}") from error


def _read_parameter(item: dict[str, Any], name: str, wanted: Shape, index: int) -> FloatArray:
    where = f"layers[{index}].{name}"
    if name not in item:
        raise CheckpointError(f"{where}: missing")
    values = array_from_json(item[name], where)
    if values.shape != wanted:
        raise CheckpointError(
            f"layer {index} ({item['kind']}): {name} should be {wanted}, found {values.shape}"
        )
    return values


def _read(path: str | os.PathLike[str], limit: int) -> bytes:
    return read_limited(Path(path), limit, CheckpointError, advice=f"raise it with {SIZE_LIMIT_FLAG}")


def _listing(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError as error:
        raise CheckpointError(
            f"{folder}: cannot be listed ({(error.strerror or str(error)).lower()})"
        ) from error


def _candidates(folder: Path) -> list[Path]:
    """The checkpoints directly in ``folder``; only ``best.json``, else ``latest.json``, where it is a run."""
    for name in ("best.json", "latest.json"):
        if _looks_like_checkpoint(folder / name):
            return [folder / name]
    try:
        files = sorted(folder.glob("*.json"))
    except OSError:
        return []
    return [file for file in files if _looks_like_checkpoint(file)]


def last_written(file: Path) -> int:
    """When the run of a checkpoint wrote last, in nanoseconds: its best epoch may have been long before."""
    latest = file.with_name("latest.json")
    return max(
        path.stat().st_mtime_ns for path in (file, latest) if path == file or _looks_like_checkpoint(path)
    )


def _looks_like_checkpoint(path: Path) -> bool:
    """Whether a regular file names the format near its beginning: a folder may hold other JSON files."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return f'"{CHECKPOINT}"'.encode() in file.read(_HEAD)
    except OSError:
        return False


def _input_form(shape: Shape, pixels: PixelScale) -> dict[str, JSON]:
    names = ("channels", "height", "width") if len(shape) == 3 else ("features",)
    sizes = zip(names, shape, strict=True)
    return {**dict(sizes), "scale": float(pixels.scale), "shift": float(pixels.shift)}


def _state_text(state: SavedState, network: Network) -> str:
    """The state as a block of lines, every vector on one; null stands for the layers' own parameters."""
    own = network.vector.tobytes()
    vectors = {}
    for name, vector in state.vectors.items():
        if vector.dtype != np.float32 or vector.shape != (network.size,):
            raise CheckpointError(
                f"state.vectors.{name}: expected float32 ({network.size},), "
                f"found {vector.dtype} {vector.shape}"
            )
        data = vector.tobytes()
        vectors[name] = None if data == own else base64.b64encode(_little_endian(data)).decode("ascii")
    lines = ",\n".join(f"   {_text(name)}: {_text(text)}" for name, text in vectors.items())
    return f'{{\n  "position": {_text(state.position)},\n  "vectors": {{\n{lines}\n  }}\n }}'


def _read_state(form: _StateForm, network: Network) -> SavedState:
    vectors = {}
    for name, text in form.vectors.items():
        where = f"state.vectors.{name}"
        if text is None:
            vectors[name] = network.vector.copy()
            continue
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise CheckpointError(f"{where}: expected base64, found {show(text)}") from error
        if len(data) != 4 * network.size:
            raise CheckpointError(f"{where}: expected {4 * network.size} bytes, found {len(data)}")
        vectors[name] = np.frombuffer(_little_endian(data), np.float32).copy()
    return SavedState(form.position, vectors)


def _little_endian(data: bytes) -> bytes:
    """float32 bytes of this machine's order in the file's, or back."""
    return data if sys.byteorder == "little" else np.frombuffer(data, np.float32).byteswap().tobytes()


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _block(value: Mapping[str, JSON]) -> str:
    """An object with one member a line, indented as a member of the document."""
    if not value:
        return "{}"
    return "{\n" + ",\n".join(f"  {_text(key)}: {_text(item)}" for key, item in value.items()) + "\n }"


def _layer_text(index: int, layer: Layer) -> str:
    """A layer as a block of lines, every parameter on one; on a single line where it has none."""
    members = [f'"kind": {_text(layer.kind)}']
    members += [f"{_text(name)}: {_text(value)}" for name, value in layer.config().items()]
    if not layer.params:
        return f"  {{{', '.join(members)}}}"
    members += [
        f"{_text(name)}: {array_to_json(np.asarray(values), f'layer {index} ({layer.kind}): {name}')}"
        for name, values in layer.params.items()
    ]
    return "  {\n" + ",\n".join(f"   {line}" for line in members) + "\n  }"
