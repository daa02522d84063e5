"""A backend in the terms of ``onnx.backend.base``: what tools that drive any ONNX runtime expect of one.

    prepared = mnistnet.onnx_backend.prepare(onnx.load("model.onnx"))
    prepared.run([images])

A graph that is a chain of layers runs on the engine, as a network; any other operator by operator. The
official test-suite, ``onnx.backend.test``, runs against both.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from mnistnet.engine.arrays import AnyArray
from mnistnet.engine.network import Network
from mnistnet.errors import CheckpointError
from mnistnet.formats.onnx_executor import run_graph
from mnistnet.formats.onnx_graph import Graph, graph_of
from mnistnet.formats.onnx_layers import Chain, chain_of


class MnistnetRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.engine = _engine(graph)
        """The graph as a network; None where it is no chain of layers."""

    def run(self, inputs: Any, **_: Any) -> tuple[AnyArray, ...]:
        """The outputs, by position and by name.

        Args:
            inputs: arrays in the order of the model's inputs, or by name, or one array alone.

        Raises:
            CheckpointError: the inputs do not fit, or a node cannot be computed.
        """
        names = [value.name for value in self.graph.inputs]
        if isinstance(inputs, Mapping):
            arrays = {name: np.asarray(value) for name, value in inputs.items()}
        else:
            given = inputs if isinstance(inputs, Sequence) else [inputs]
            if len(given) > len(names):
                raise CheckpointError(
                    f"expected {len(names)} inputs ({', '.join(names)}), found {len(given)}"
                )
            arrays = {name: np.asarray(value) for name, value in zip(names, given, strict=False)}
        names = [value.name for value in self.graph.outputs]
        return namedtuple("Outputs", names, rename=True)(*self._outputs(arrays))

    def _outputs(self, arrays: Mapping[str, AnyArray]) -> list[AnyArray]:
        given = next(iter(arrays.values()), None)
        if self.engine is None or given is None or not self.engine.takes(given):
            return run_graph(self.graph, arrays)
        return [self.engine.run(given)]


@dataclass(frozen=True)
class _Engine:
    """A network, and what is done around it."""

    chain: Chain
    network: Network

    def takes(self, values: AnyArray) -> bool:
        """Whether the network computes these as the graph does."""
        return values.dtype == np.float32 and values.shape[1:] == self.network.input_shape

    def run(self, values: AnyArray) -> AnyArray:
        """The graph's output, in its own order and shape."""
        scaled = values * np.float32(self.chain.scale) + np.float32(self.chain.shift)
        found = self.network.predict(scaled)
        return found.reshape(len(found), prod(self.network.output_shape))[:, self.chain.index]


def _engine(graph: Graph) -> _Engine | None:
    """A graph's network, if it is a chain of layers that takes one input of a fixed shape."""
    if len(graph.inputs) != 1 or len(graph.outputs) != 1:
        return None
    shape = (graph.inputs[0].shape or ())[1:]
    sizes = tuple(size for size in shape if size is not None)
    if len(sizes) < len(shape) or len(sizes) not in (1, 3):
        return None
    try:
        chain = chain_of(graph, sizes, np.arange(prod(sizes)).reshape(sizes))
        # where a softmax stands for its logarithm, the network is for classifying only
        return None if chain.logarithms or not chain.layers else _Engine(chain, chain.network())
    except CheckpointError:
        return None


class MnistnetBackend(Backend):
    """Runs ONNX models on the CPU, in NumPy."""

    @classmethod
    def prepare(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> MnistnetRep:
        """Check a model and make it ready.

        Raises:
            CheckpointError: an operator, a type or a structure is not supported; says which node.
            ValueError: the device is not the CPU.
        """
        if not cls.supports_device(device):
            raise ValueError(f"device {device!r}: expected 'CPU'")
        return MnistnetRep(graph_of(model))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """The CPU only."""
        return device == "CPU"

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **_: Any) -> bool:
        """Whether `prepare` takes the model."""
        try:
            cls.prepare(model, device)
        except (CheckpointError, ValueError):
            return False
        return True


prepare = MnistnetBackend.prepare
run_model = MnistnetBackend.run_model
supports_device = MnistnetBackend.supports_device
is_compatible = MnistnetBackend.is_compatible
