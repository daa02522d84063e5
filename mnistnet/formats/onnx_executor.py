"""Running an ONNX graph operator by operator, in NumPy: for what is no chain of the engine's layers."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np

from mnistnet.engine.arrays import AnyArray
from mnistnet.engine.blas import one_thread
from mnistnet.errors import CheckpointError
from mnistnet.formats.onnx_graph import Graph, Node
from mnistnet.formats.onnx_operators import find_operator
from mnistnet.formats.onnx_operators.limits import bounded, check_broadcast


def run_graph(graph: Graph, inputs: Mapping[str, AnyArray]) -> list[AnyArray]:
    """The graph's outputs, in order, for its inputs by name.

    Raises:
        CheckpointError: an input is missing, or ``node ...`` cannot be computed.
    """
    values: dict[str, AnyArray] = {**graph.constants, **inputs}
    for value in graph.inputs:
        if value.name not in inputs:
            raise CheckpointError(f"input {value.name!r:.80}: missing")
    kept = {value.name for value in graph.outputs}
    with one_thread():
        for node in graph.nodes:
            run_and_free(graph, node, values, kept)
    return [values[value.name] for value in graph.outputs]


def run_and_free(graph: Graph, node: Node, values: dict[str, AnyArray], kept: Set[str]) -> None:
    """Run one node: its outputs join ``values``, and what no later node reads leaves them.

    Args:
        graph: the node's.
        node: one whose inputs are in ``values``.
        values: arrays by name.
        kept: the names of those that stay.

    Raises:
        CheckpointError: ``node ...`` cannot be computed, or too much is alive at once.
    """
    values |= run_node(node, graph.opset, values)
    _check_alive(node, values)
    for name in set(node.inputs) - kept:
        if graph.last_use[name] == node.index:
            values.pop(name, None)


def _check_alive(node: Node, values: Mapping[str, AnyArray]) -> None:
    try:
        bounded((sum(value.size for value in values.values()),), "arrays")
    except CheckpointError as error:
        raise error.at(f"{node.where} ({node.op_type})") from error


def run_node(node: Node, opset: int, values: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    """The outputs of one node by name.

    Raises:
        CheckpointError: ``node ...`` cannot be computed; says which and why.
    """
    inputs = [values[name] if name else None for name in node.inputs]
    try:
        check_broadcast(value for value in inputs if value is not None)
        function = find_operator(node.op_type, opset, node.domain, node.attributes)
        # the specification lets numbers overflow; who asked looks at the result
        with np.errstate(all="ignore"):
            found = function(*inputs, **node.attributes)
    except CheckpointError as error:
        raise error.at(f"{node.where} ({node.op_type})") from error
    except (ValueError, TypeError, IndexError, ArithmeticError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{node.where} ({node.op_type}): cannot be computed as the file has it: {reason}"
        ) from error
    outputs = found if isinstance(found, tuple) else (found,)
    if len(outputs) < len(node.outputs):
        raise CheckpointError(f"{node.where} ({node.op_type}): output {len(outputs) + 1} is not supported")
    # NumPy turns a 0-d array into a scalar now and then
    return {name: np.asarray(value) for name, value in zip(node.outputs, outputs, strict=False) if name}
