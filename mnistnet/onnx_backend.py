"""A backend in the terms of ``onnx.backend.base``: what tools that drive any ONNX runtime expect of one.

    prepared = mnistnet.onnx_backend.prepare(onnx.load("model.onnx"))
    prepared.run([images])

The official test-suite, ``onnx.backend.test``, runs against this.
"""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep

from mnistnet.engine.arrays import AnyArray
from mnistnet.errors import CheckpointError
from mnistnet.formats.onnx_executor import run_graph
from mnistnet.formats.onnx_graph import Graph, graph_of


class MnistnetRep(BackendRep):
    """A model that is ready to run."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

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
        outputs = [value.name for value in self.graph.outputs]
        return namedtuple("Outputs", outputs, rename=True)(*run_graph(self.graph, arrays))


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
