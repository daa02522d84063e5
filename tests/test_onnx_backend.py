"""ONNX's own test-suite against our backend, by the official runner; and the backend's manners."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_suite import all_cases, runner

from mnistnet import onnx_backend
from mnistnet.errors import CheckpointError
from mnistnet.onnx_backend import MnistnetBackend

CHOSEN = {f"{case.name}_cpu" for case in all_cases() if case.in_core}


def _core_suite() -> dict[str, type]:
    """The runner's test classes, without the thousands of cases that are not asked for."""
    classes = runner(__name__).test_cases
    for cls in classes.values():
        for name in [name for name in vars(cls) if name.startswith("test_") and name not in CHOSEN]:
            delattr(cls, name)
    return classes


globals().update(_core_suite())


def test_the_core_is_all_there() -> None:
    found = [name for cls in _core_suite().values() for name in vars(cls) if name.startswith("test_")]
    assert set(found) == CHOSEN
    assert len(found) >= 207


def _model(*nodes: onnx.NodeProto, opset: int = 13) -> onnx.ModelProto:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


RELU = _model(helper.make_node("Relu", ["x"], ["y"]))
X = np.array([[-1, 2]], np.float32)


@pytest.mark.parametrize("inputs", [X, [X], (X,), {"x": X}], ids=["array", "list", "tuple", "dict"])
def test_inputs_in_every_form(inputs: object) -> None:
    outputs = onnx_backend.prepare(RELU).run(inputs)
    assert outputs.y.tolist() == [[0, 2]]
    assert outputs[0] is outputs.y


def test_as_a_module_in_the_terms_of_onnx() -> None:
    assert onnx_backend.run_model(RELU, [X]).y.tolist() == [[0, 2]]
    assert onnx_backend.supports_device("CPU")
    assert not onnx_backend.supports_device("CUDA")
    assert MnistnetBackend.is_compatible(RELU)
    with pytest.raises(ValueError, match="device 'CUDA': expected 'CPU'"):
        onnx_backend.prepare(RELU, "CUDA")


def test_what_is_not_supported_is_named() -> None:
    relu = helper.make_node("Relu", ["x"], ["a"])
    model = _model(relu, helper.make_node("Sine", ["a"], ["y"], name="wave"))
    assert not MnistnetBackend.is_compatible(model)
    with pytest.raises(CheckpointError, match=r"^node 'wave': operator Sine is not supported; .* Conv, "):
        onnx_backend.prepare(model)


def test_chains_run_on_the_engine_and_others_operator_by_operator() -> None:
    """Both ways are among the cases above."""
    assert onnx_backend.prepare(RELU).engine is not None
    residual = _model(helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Add", ["a", "x"], ["y"]))
    prepared = onnx_backend.prepare(residual)
    assert prepared.engine is None
    assert prepared.run(X).y.tolist() == [[-1, 4]]
    # another type than the engine's
    assert onnx_backend.prepare(RELU).run(X.astype(np.float64)).y.dtype == np.float64


def test_no_images_give_no_rows() -> None:
    prepared = onnx_backend.prepare(RELU)
    assert prepared.engine is not None
    assert prepared.run(X[:0]).y.shape == (0, 2)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [([], "input 'x': missing"), ([X, X], r"expected 1 inputs \(x\), found 2")],
)
def test_inputs_that_do_not_fit(inputs: list[object], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        onnx_backend.prepare(RELU).run(inputs)
