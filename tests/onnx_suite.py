"""The official test-suite of ONNX, and which of its cases are the core that this package promises."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

from mnistnet.onnx_backend import MnistnetBackend

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
"""Without "real", whose models would be fetched from the network."""
CORE = {
    *("Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Gemm", "MatMul", "Add"),
    *("Flatten", "Reshape", "Relu", "LeakyRelu", "Sigmoid", "Tanh", "Softmax", "LogSoftmax", "Clip", "Elu"),
    *("BatchNormalization", "Dropout", "Identity", "Selu", "Gelu"),
}
CORE_TYPES = {TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL}


@dataclass(frozen=True)
class Case:
    name: str
    kind: str
    operators: tuple[str, ...]
    """In the order of the nodes, the domain in front where it is not ONNX's own."""
    in_core: bool


@contextmanager
def _hushed() -> Iterator[None]:
    """The suite makes its data when it is first asked for, of which NumPy warns here and there."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def all_cases() -> Iterator[Case]:
    """Every case that is to be had without the network."""
    for kind in KINDS:
        with _hushed():
            tests = load_model_tests(kind=kind)
        for test in tests:
            model = test.model or onnx.load(Path(test.model_dir) / "model.onnx")
            graph = model.graph
            names = tuple(f"{n.domain}.{n.op_type}" if n.domain else n.op_type for n in graph.node)
            types = {value.type.tensor_type.elem_type for value in [*graph.input, *graph.output]}
            types |= {tensor.data_type for tensor in graph.initializer}
            yield Case(test.name, kind, names, set(names) <= CORE and types <= CORE_TYPES)


def runner(parent: str) -> Runner:
    """The official runner of our backend."""
    with _hushed():
        return Runner(MnistnetBackend, parent)
