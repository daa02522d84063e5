"""Operators in the opsets that ONNX's own test-suite passes over, against onnxruntime."""

from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_probes import model, runtime

from mnistnet.errors import CheckpointError
from mnistnet.formats.onnx_executor import run_graph
from mnistnet.formats.onnx_graph import graph_of
from mnistnet.formats.onnx_operators import limits

node = helper.make_node
RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 3, 4, 5)).astype(np.float32)
LONG = np.array([1] * 40 + [-1])
"""More dimensions than ``np.broadcast`` knows."""


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
    (13, "Min", {}, [np.float32(0.5), X[:1] * 2]),
    (16, "Where", {}, []),
    (13, "PRelu", {}, [np.array([[[0.25]], [[-0.5]], [[2.0]]])]),
    (13, "ThresholdedRelu", {"alpha": 0.5}, []),
    (13, "Softplus", {}, []),
    (13, "Softsign", {}, []),
    (18, "Mish", {}, []),
    (12, "Celu", {"alpha": 0.5}, []),
    (13, "Hardmax", {"axis": 1}, []),
    (13, "InstanceNormalization", {"epsilon": 0.1}, [np.array([1.0, -2.0, 3.0]), np.array([0.0, 1.0, 5.0])]),
    (17, "LayerNormalization", {"axis": 2}, [RNG.standard_normal((4, 5))]),
    (17, "LayerNormalization", {"epsilon": 0.1}, [RNG.standard_normal(5), RNG.standard_normal(5)]),
    (18, "ReduceMax", {"keepdims": 0}, []),
    (18, "ReduceSum", {"noop_with_empty_axes": 1}, []),
    (13, "Squeeze", {}, [np.array([0])]),
    (13, "LpPool", {"kernel_shape": [2, 3], "p": 3, "strides": [1, 2]}, []),
    (13, "AveragePool", {"kernel_shape": [3, 2], "strides": [2, 2], "auto_pad": "VALID"}, []),
]


@pytest.mark.parametrize(("opset", "operator", "attributes", "inputs"), CASES)
def test_against_onnxruntime(opset: int, operator: str, attributes: Any, inputs: list[Any]) -> None:
    x = X[:1] if operator == "Squeeze" else X
    constants = {f"c{i}": np.asarray(value) for i, value in enumerate(inputs)}
    nodes = [node(operator, ["x", *constants], ["y"], **attributes)]
    if operator == "Where":
        nodes = [node("Greater", ["x", "zero"], ["c"]), node("Where", ["c", "x", "zero"], ["y"])]
        constants = {"zero": np.zeros((1, 1, 1, 5))}
    made = model(nodes, constants, shape=x.shape, opset=opset)
    expected = runtime(made, x)
    found = run(made, x)
    assert found.shape == expected.shape
    assert found.dtype == expected.dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("operator", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize(("last", "keepdims"), [(0, 1), (1, 1), (1, 0)])
def test_of_equals_the_first_or_the_last_is_meant(operator: str, last: int, keepdims: int) -> None:
    x = np.array([[3, 1, 3, 1], [2, 2, 2, 2]], np.float32)
    attributes = {"axis": 1, "keepdims": keepdims, "select_last_index": last}
    nodes = [node(operator, ["x"], ["i"], **attributes), node("Cast", ["i"], ["y"], to=1)]
    made = model(nodes, shape=x.shape)
    found = run(made, x)
    assert found.ravel().tolist() == [2 * last + (operator == "ArgMin"), 3 * last]
    np.testing.assert_array_equal(found, runtime(made, x))


@pytest.mark.parametrize(
    ("opset", "inputs", "attributes", "parts"),
    [
        (11, [], {"split": [1, 4]}, [1, 4]),
        (13, [np.array([2, 3])], {}, [2, 3]),
        (18, [], {"num_outputs": 3}, [2, 2, 1]),
    ],
)
def test_splits(opset: int, inputs: list[Any], attributes: Any, parts: list[int]) -> None:
    constants = {f"c{i}": value for i, value in enumerate(inputs)}
    names = ["a", "b", "c"][: len(parts)]
    # the parts the other way round
    nodes = [
        node("Split", ["x", *constants], names, axis=3, **attributes),
        node("Concat", names[::-1], ["y"], axis=3),
    ]
    made = model(nodes, constants, shape=X.shape, opset=opset)
    bounds = np.cumsum([0, *parts])
    expected = [X[..., first:last] for first, last in pairwise(bounds)]
    np.testing.assert_array_equal(run(made), np.concatenate(expected[::-1], axis=3))
    np.testing.assert_array_equal(run(made), runtime(made, X))


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ({"value_int": 3}, 3),
        ({"value_ints": [1, 2]}, [1, 2]),
        ({"value_float": 0.5}, 0.5),
        ({"value_floats": [0.5, 2.0]}, [0.5, 2.0]),
    ],
)
def test_constants_in_every_form(attributes: dict[str, Any], expected: Any) -> None:
    nodes = [node("Constant", [], ["c"], **attributes), node("Cast", ["c"], ["y"], to=1)]
    made = model([node("Identity", ["x"], ["unused"]), *nodes], opset=13)
    assert run(made).tolist() == expected


def test_how_many_elements_there_are() -> None:
    found = run(model([node("Size", ["x"], ["n"]), node("Cast", ["n"], ["y"], to=1)]))
    assert (found.shape, found.item()) == ((), X.size)


def test_whole_numbers_are_divided_towards_zero() -> None:
    constants = {"a": np.array([7, -7, 7, -7]), "b": np.array([2, 2, -2, -2])}
    nodes = [node("Identity", ["x"], ["unused"]), node("Div", ["a", "b"], ["q"])]
    made = model([*nodes, node("Cast", ["q"], ["y"], to=1)], constants, shape=X.shape)
    assert run(made).tolist() == [3, -3, -3, 3]
    assert runtime(made, X).tolist() == [3, -3, -3, 3]


def test_the_largest_of_nothing() -> None:
    """As ONNX has it: the least number of the type; of truths, false."""
    wanted = {
        "ReduceMax": [-np.inf, np.iinfo(np.int64).min, 0.0],
        "ReduceMin": [np.inf, np.iinfo(np.int64).max, 1.0],
    }
    for operator, expected in wanted.items():
        found = []
        for element_type in (TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL):
            nodes = [
                node("Cast", ["x"], ["t"], to=element_type),
                node(operator, ["t", "axes"], ["r"], keepdims=0),
                node("Cast", ["r"], ["y"], to=1),
            ]
            made = model(nodes, {"axes": np.array([0])}, shape=(0, 1), opset=20)
            found.append(run(made, np.zeros((0, 1), np.float32)).item())
        assert found == pytest.approx(expected), operator


def test_swish_which_onnxruntime_does_not_know_yet() -> None:
    made = model([node("Swish", ["x"], ["y"], alpha=0.5)], opset=24)
    wide = X.astype(np.float64)
    np.testing.assert_allclose(run(made), wide / (1 + np.exp(-0.5 * wide)), rtol=1e-5)


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


@pytest.mark.parametrize("axes", [[0], [0, 1], None])
def test_the_mean_of_nothing_is_no_number(axes: list[int] | None) -> None:
    """ONNX leaves it undefined, and onnxruntime says 0."""
    given = {} if axes is None else {"axes": axes}
    made = model([node("ReduceMean", ["x"], ["y"], keepdims=1, **given)], shape=(0, 1), opset=13)
    nothing = np.zeros((0, 1), np.float32)
    assert np.isnan(run(made, nothing)).all()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            model([node("Reshape", ["x", "s"], ["a"]), node("Add", ["a", "a"], ["y"])], {"s": LONG}),
            r"node 1 \(Add\): expected arrays of at most 32 dimensions",
        ),
        (
            model([node("Pad", ["x", "p"], ["y"], mode="m" * 9000)], {"p": np.zeros(8, np.int64)}),
            r"Pad's mode 'm{79} is not one of ONNX's$",
        ),
        (
            model([node("Reshape", ["x", "s"], ["y"], name="r")], {"s": np.array([7, -1])}),
            r"node 'r' \(Reshape\): cannot",
        ),
        (
            model([node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((3, 3))}),
            r"node 0 \(MatMul\): cannot be computed",
        ),
        (
            model([node("MatMul", ["x", "w"], ["y"])], {"w": np.ones((3, 1, 4, 2))}),
            r"node 0 \(MatMul\): cannot be computed",
        ),
        (
            model([node("ConstantOfShape", ["s"], ["y"])], {"s": np.array([2**40])}),
            r"node 0 .*at most 67108864",
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
        (model([node("Constant", [], ["c"]), node("Add", ["x", "c"], ["y"])]), "a Constant without a value"),
        (model([node("Split", ["x"], ["y"])], opset=11), "a Split without sizes is not supported"),
        (model([node("Split", ["x"], ["y"])], opset=13), "a Split without sizes is not supported"),
        (
            model([node("Pad", ["x", "p"], ["y"], mode="mirror")], {"p": np.zeros(8, np.int64)}),
            "Pad's mode 'mirror' is not one of ONNX's",
        ),
        (
            model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[0, 1])]),
            "kernel, strides and dilations must be >= 1 and pads >= 0",
        ),
        (
            model([node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], pads=[0, 0, -1, 0])]),
            "kernel, strides and dilations must be >= 1 and pads >= 0",
        ),
    ],
)
def test_what_cannot_be_computed_is_named(made: onnx.ModelProto, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        run(made)


def test_all_arrays_that_are_alive_have_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["a", "b", "c"]
    made = model([*(node("Relu", ["x"], [name]) for name in names), node("Sum", names, ["y"])])
    monkeypatch.setattr(limits, "MOST_ELEMENTS", 3 * X.size - 1)
    with pytest.raises(CheckpointError, match=r"^node 1 \(Relu\): arrays of \[\d+\]: expected at most"):
        run(made)
