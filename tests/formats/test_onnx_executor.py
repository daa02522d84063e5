"""Operators in the opsets that ONNX's own test-suite passes over, against onnxruntime."""

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_probes import model, runtime

from mnistnet.errors import CheckpointError
from mnistnet.formats.onnx_executor import run_graph
from mnistnet.formats.onnx_graph import graph_of

node = helper.make_node
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)


def run(made: onnx.ModelProto, x: Any = X) -> Any:
    (found,) = run_graph(graph_of(made), {"x": x})
    return found


CASES: list[tuple[int, str, dict[str, Any], list[Any]]] = [
    (11, "Softmax", {"axis": 2}, []),
    (11, "LogSoftmax", {}, []),
    (11, "Squeeze", {"axes": [0]}, []),
    (11, "Unsqueeze", {"axes": [0, 3]}, []),
    (11, "Clip", {}, [np.float32(-0.5), np.float32(0.5)]),
    (9, "Slice", {"starts": [1, -3], "ends": [3, -1], "axes": [1, 3]}, []),
    (10, "Slice", {}, [np.array([-1]), np.array([-100]), np.array([3]), np.array([-2])]),
    (9, "Pad", {"pads": [0, 0, 1, 2, 0, 0, 0, 1], "value": 2.5}, []),
    (13, "Pad", {}, [np.array([0, 0, 1, -2, 0, 0, -1, 1])]),
    (13, "Pad", {"mode": "reflect"}, [np.array([0, 0, 1, 2, 0, 0, 2, 1])]),
    (11, "ReduceMean", {"axes": [2, 3], "keepdims": 0}, []),
    (18, "ReduceMean", {"keepdims": 1}, [np.array([-1, -2])]),
    (11, "ReduceSum", {"axes": [-1]}, []),
    (13, "Gather", {"axis": 1}, [np.array([[2, 0]])]),
    (13, "Expand", {}, [np.array([2, 2, 3, 4, 5])]),
    (13, "Transpose", {"perm": [0, 2, 3, 1]}, []),
    (13, "GlobalMaxPool", {}, []),
    (14, "HardSwish", {}, []),
]


@pytest.mark.parametrize(("opset", "operator", "attributes", "inputs"), CASES)
def test_against_onnxruntime(opset: int, operator: str, attributes: Any, inputs: list[Any]) -> None:
    x = X[:1] if operator == "Squeeze" else X
    constants = {f"c{i}": np.asarray(value) for i, value in enumerate(inputs)}
    made = model(
        [node(operator, ["x", *constants], ["y"], **attributes)], constants, shape=x.shape, opset=opset
    )
    expected = runtime(made, x)
    found = run(made, x)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


def test_what_opset_6_called_broadcasting() -> None:
    """``axis`` says where the second operand's shape lies in the first's."""
    bias = np.array([10.0, 20.0, 30.0], np.float32)
    made = model([node("Add", ["x", "b"], ["y"], broadcast=1, axis=1)], {"b": bias}, opset=6)
    np.testing.assert_array_equal(run(made), X + bias[:, None, None])


def test_old_clip_and_dropout() -> None:
    nodes = [
        node("Clip", ["x"], ["a"], min=-0.5, max=0.25),
        node("Dropout", ["a"], ["y"], ratio=0.9, is_test=1),
    ]
    np.testing.assert_array_equal(run(model(nodes, opset=6)), np.clip(X, -0.5, 0.25))


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            model([node("Reshape", ["x", "s"], ["y"], name="r")], {"s": np.array([7, -1])}),
            r"node 'r' \(Reshape\): cannot",
        ),
        (
            model([node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((3, 3))}),
            r"node 0 \(MatMul\): cannot be computed",
        ),
        (
            model([node("ConstantOfShape", ["s"], ["y"])], {"s": np.array([2**40])}),
            r"node 0 .*at most 268435456",
        ),
        (
            model([node("Cast", ["x"], ["y"], to=16)]),
            r"node 0 \(Cast\): a Cast from float32 to ONNX's type 16",
        ),
        (
            model([node("MaxPool", ["x"], ["y"], kernel_shape=[9, 9])]),
            "a kernel of 9 does not fit into 4 pixels",
        ),
        (model([node("MaxPool", ["x"], ["y"], kernel_shape=[2])]), "do not have 2 axes"),
        (model([node("Conv", ["x", "w"], ["y"], auto_pad="MAYBE")], {"w": np.ones((1, 3, 1, 1))}), "'MAYBE'"),
        (
            model([node("BatchNormalization", ["x"] + ["c"] * 4, ["y", "a", "b", "d"])], {"c": np.ones(3)}),
            r"node 0 \(BatchNormalization\): output 2 is not supported",
        ),
    ],
)
def test_what_cannot_be_computed_is_named(made: onnx.ModelProto, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        run(made)
