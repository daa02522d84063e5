"""ONNX models as this package sees them: read within limits, checked, and turned into plain Python.

Nothing outside the file is ever read: tensors with external data, whose path may point anywhere, are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from mnistnet.engine.arrays import AnyArray
from mnistnet.errors import CheckpointError
from mnistnet.files import read_limited
from mnistnet.formats.checkpoint import SIZE_LIMIT, SIZE_LIMIT_FLAG
from mnistnet.formats.onnx_operators import find_operator
from mnistnet.formats.onnx_operators.limits import bounded
from mnistnet.formats.onnx_operators.shapes import DTYPES

_EXTERNAL = "external data refused: only what is in the file itself is read; save it as one file"


@dataclass(frozen=True, eq=False)
class Node:
    """One operator of a graph."""

    index: int
    op_type: str
    domain: str
    name: str
    inputs: tuple[str, ...]
    """Names of values, empty where an input is left out."""
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    """Numbers, texts, lists of them, and arrays."""

    @property
    def where(self) -> str:
        """The node in messages."""
        return f"node {self.name!r:.80}" if self.name else f"node {self.index}"


@dataclass(frozen=True)
class Value:
    """An input or output of a graph."""

    name: str
    dtype: np.dtype[Any] | None
    """None where it is none of NumPy's."""
    shape: tuple[int | None, ...] | None
    """None where a size is free, or where there is no shape at all."""


@dataclass(frozen=True)
class Graph:
    """A whole model, read and checked."""

    inputs: tuple[Value, ...]
    """Without those that an initializer gives."""
    outputs: tuple[Value, ...]
    constants: Mapping[str, AnyArray]
    """The initializers by name."""
    nodes: tuple[Node, ...]
    """Each behind those whose outputs it reads."""
    opset: int
    metadata: Mapping[str, str]

    @cached_property
    def last_use(self) -> Mapping[str, int]:
        """The index of the last node that reads a value, by the value's name."""
        return {name: node.index for node in self.nodes for name in node.inputs}


def load_graph(path: Path, *, limit: int = SIZE_LIMIT) -> Graph:
    """Read an ONNX file.

    Args:
        path: the file.
        limit: the largest size in bytes that is read.

    Raises:
        CheckpointError: ``path: what was expected, what was found``.
    """
    data = read_limited(path, limit, CheckpointError, advice=f"raise it with {SIZE_LIMIT_FLAG}")
    try:
        return read_graph(data)
    except CheckpointError as error:
        raise error.at(path) from error


def read_graph(data: bytes) -> Graph:
    """The graph of a file's bytes.

    Raises:
        CheckpointError: no ONNX model, no graph in it, external data, or a type or structure that is not
            supported.
    """
    if not data:
        raise CheckpointError("empty file: expected an ONNX model")
    try:
        model = onnx.load_model_from_string(data)
    except Exception as error:  # protobuf's DecodeError, which is not ours to import
        raise CheckpointError("not an ONNX model: the file is damaged, or of another format") from error
    return graph_of(model)


def graph_of(model: onnx.ModelProto) -> Graph:
    """The graph of a model in memory.

    Raises:
        CheckpointError: as `read_graph`.
    """
    proto = model.graph
    if not proto.node and not proto.output:
        raise CheckpointError("no graph: expected an ONNX model with nodes and outputs")
    if model.functions:
        raise CheckpointError("functions of a model's own are not supported: export it without them")
    if proto.sparse_initializer:
        raise CheckpointError("sparse initializers are not supported")
    constants = {
        _text(tensor.name): _array(tensor, f"initializer {tensor.name!r:.80}") for tensor in proto.initializer
    }
    nodes = tuple(_node(index, node) for index, node in enumerate(proto.node))
    _refuse_external_data(model)
    inputs = tuple(_value(info) for info in proto.input if _text(info.name) not in constants)
    outputs = tuple(map(_value, proto.output))
    _check_order(nodes, {*constants, *(value.name for value in inputs)}, outputs)
    opset = max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=1)
    graph = Graph(
        inputs,
        outputs,
        constants,
        nodes,
        opset,
        {_text(entry.key): _text(entry.value) for entry in model.metadata_props},
    )
    _check_operators(graph)
    return graph


def _refuse_external_data(message: Any) -> None:
    """Also where this package never looks: whoever else is given the model might."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for item in (value,) if hasattr(value, "ListFields") else value:
            if isinstance(item, TensorProto) and _is_external(item):
                raise CheckpointError(f"tensor {item.name!r:.80}: {_EXTERNAL}")
            _refuse_external_data(item)


def _is_external(tensor: TensorProto) -> bool:
    return tensor.data_location == TensorProto.EXTERNAL or len(tensor.external_data) > 0


def _text(name: str | bytes) -> str:
    """A name; protobuf gives bytes where a file has something else than UTF-8."""
    return name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name


def _check_order(nodes: Iterable[Node], known: set[str], outputs: Sequence[Value]) -> None:
    """Every value must be there before it is read."""
    for node in nodes:
        for name in node.inputs:
            if name and name not in known:
                raise CheckpointError(f"{node.where} ({node.op_type}): nothing before it gives {name!r:.80}")
        known |= set(filter(None, node.outputs))  # an empty name is an output left out
    for value in outputs:
        if value.name not in known:
            raise CheckpointError(f"output {value.name!r:.80}: no node gives it")


def _check_operators(graph: Graph) -> None:
    for node in graph.nodes:
        try:
            find_operator(node.op_type, graph.opset, node.domain, node.attributes)
        except CheckpointError as error:
            raise error.at(node.where) from error


def _node(index: int, proto: onnx.NodeProto) -> Node:
    kind, domain, name = (_text(text) for text in (proto.op_type, proto.domain, proto.name))
    node = Node(
        index, kind, domain, name, tuple(map(_text, proto.input)), tuple(map(_text, proto.output)), {}
    )
    attributes = {_text(entry.name): _attribute(entry, node) for entry in proto.attribute}
    return Node(**{**vars(node), "attributes": attributes})


def _attribute(proto: onnx.AttributeProto, node: Node) -> Any:
    if proto.type == onnx.AttributeProto.TENSOR:
        return _array(proto.t, f"{node.where}: attribute {_text(proto.name):.80}")
    try:
        value = helper.get_attribute_value(proto)
    except ValueError as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"{node.where}: attribute {_text(proto.name):.80}: {reason}") from error
    if isinstance(value, float):
        return float(str(np.float32(value)))  # 0.1 as it was meant, not 0.10000000149011612
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _array(tensor: onnx.TensorProto, where: str) -> AnyArray:
    """The values of a tensor that lies in the file itself; its claims are compared before it is read."""
    if _is_external(tensor):
        raise CheckpointError(f"{where}: {_EXTERNAL}")
    if tensor.data_type not in DTYPES:
        raise CheckpointError(f"{where}: element type {tensor.data_type} is not supported")
    shape = tuple(tensor.dims)
    try:
        bounded(shape, "bad shape")
    except CheckpointError as error:
        raise error.at(where) from error
    try:
        return numpy_helper.to_array(tensor)
    except (ValueError, TypeError) as error:
        raise CheckpointError(f"{where}: its data do not fill the shape {shape}") from error


def _value(info: onnx.ValueInfoProto) -> Value:
    if not info.type.HasField("tensor_type"):
        raise CheckpointError(f"{info.name!r:.80}: only tensors are supported as inputs and outputs")
    kind = info.type.tensor_type
    dtype = DTYPES.get(kind.elem_type)
    shape = None
    if kind.HasField("shape"):
        shape = tuple(
            size.dim_value if size.HasField("dim_value") and size.dim_value > 0 else None
            for size in kind.shape.dim
        )
    return Value(_text(info.name), None if dtype is None else np.dtype(dtype), shape)
