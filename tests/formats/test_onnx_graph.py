"""ONNX files that must not be trusted, or that nobody here can run."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_probes import model

from mnistnet.errors import CheckpointError
from mnistnet.formats.onnx_graph import graph_of, load_graph, read_graph

node = helper.make_node
RELU = node("Relu", ["x"], ["y"])


def add_external(tensor: onnx.TensorProto) -> None:
    """As a hostile file has it: a path that leaves the folder."""
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")


def external() -> onnx.ModelProto:
    made = model([node("Add", ["x", "c"], ["y"])], {"c": np.zeros(4)})
    add_external(made.graph.initializer[0])
    return made


def external_attribute() -> onnx.ModelProto:
    made = model([node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(np.zeros(4))), RELU])
    add_external(made.graph.node[0].attribute[0].t)
    return made


def short() -> onnx.ModelProto:
    made = model([node("Add", ["x", "c"], ["y"])], {"c": np.zeros(4)})
    made.graph.initializer[0].dims[0] = 2**25
    return made


def huge() -> onnx.ModelProto:
    made = model([node("Add", ["x", "c"], ["y"])], {"c": np.zeros(4)})
    made.graph.initializer[0].dims[0] = 2**62
    return made


def bfloat() -> onnx.ModelProto:
    made = model([node("Add", ["x", "c"], ["y"])], {"c": np.zeros(4)})
    made.graph.initializer[0].data_type = TensorProto.BFLOAT16
    return made


def of_a_sequence() -> onnx.ModelProto:
    made = model([RELU])
    made.graph.input[0].type.CopyFrom(helper.make_sequence_type_proto(made.graph.input[0].type))
    return made


def of_no_text() -> onnx.ModelProto:
    """Protobuf takes bytes that are no UTF-8 for a text."""
    data = model([node("Relu", ["x"], ["y"])]).SerializeToString()
    return onnx.load_model_from_string(data.replace(b"Relu", b"R\xff\xfe\x00"))


def with_a_reference() -> onnx.ModelProto:
    made = model([node("Elu", ["x"], ["y"], alpha=1.0)])
    made.graph.node[0].attribute[0].ref_attr_name = "beta"
    return made


def with_functions() -> onnx.ModelProto:
    made = model([RELU])
    made.functions.append(helper.make_function("d", "f", ["a"], ["b"], [], [helper.make_opsetid("", 13)]))
    return made


def sparse() -> onnx.ModelProto:
    made = model([RELU])
    values = onnx.numpy_helper.from_array(np.ones(1, np.float32), "s")
    made.graph.sparse_initializer.append(
        helper.make_sparse_tensor(values, onnx.numpy_helper.from_array(np.zeros(1, np.int64)), [4])
    )
    return made


def by_reference() -> onnx.ModelProto:
    """As in a function, whose caller gives the attribute."""
    made = model([node("Elu", ["x"], ["y"], alpha=1.0)])
    made.graph.node[0].attribute[0].ref_attr_name = "alpha"
    return made


def of_no_name() -> onnx.ModelProto:
    """An output without a name, beside one that a node leaves out."""
    made = model([node("Dropout", ["x"], ["y", ""])])
    made.graph.output[0].name = ""
    return made


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (external(), r"initializer 'c': external data refused: only what is in the file itself"),
        (external_attribute(), r"node 0: attribute value: external data refused"),
        (short(), r"initializer 'c': its data do not fill the shape \(33554432,\)"),
        (
            huge(),
            r"initializer 'c': bad shape of \[4611686018427387904\]: expected at most 67108864 elements",
        ),
        (bfloat(), r"initializer 'c': element type 16 is not supported"),
        (of_no_text(), r"node 0: operator R\\xff\\xfe\\x00 is not supported"),
        (with_a_reference(), r"node 0: attribute alpha: Cannot get value of reference attribute"),
        (of_a_sequence(), r"'x': only tensors are supported as inputs and outputs"),
        (sparse(), r"sparse initializers are not supported"),
        (by_reference(), r"node 0: attribute alpha: Cannot get value of reference attribute: [^\n]*$"),
        (with_functions(), r"functions of a model's own are not supported"),
        (onnx.ModelProto(), r"no graph: expected an ONNX model with nodes and outputs"),
        (model([node("Relu", ["z"], ["y"])]), r"node 0 \(Relu\): nothing before it gives 'z'"),
        (model([node("Relu", ["x"], ["z"])]), r"output 'y': no node gives it"),
        (of_no_name(), r"output '': no node gives it"),
        (
            model([node("If", ["x"], ["y"], name="a")]),
            r"node 'a': operator If is not supported; those that are: A",
        ),
        (model([node("Relu", ["x"], ["y"], domain="d.e")]), r"node 0: operator d.e.Relu is not supported"),
        (model([RELU], opset=5), r"node 0: operator Relu is supported from opset 6 on, found 5"),
        (model([node("Relu", ["x"], ["y"], slope=1)]), r"node 0: attribute slope of operator Relu"),
    ],
)
def test_what_is_refused(made: onnx.ModelProto, message: str) -> None:
    with pytest.raises(CheckpointError, match=f"^{message}"):
        graph_of(made)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file: expected an ONNX model"),
        (b"<html>", "not an ONNX model: the file is damaged, or of another format"),
        (b"\x08\x07", "no graph"),
    ],
)
def test_bytes_that_are_no_model(data: bytes, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        read_graph(data)


def test_the_file_is_named_and_its_size_limited(tmp_path: Path) -> None:
    path = tmp_path / "a b.onnx"
    path.write_bytes(model([RELU]).SerializeToString())
    assert [n.op_type for n in load_graph(path).nodes] == ["Relu"]
    with pytest.raises(
        CheckpointError, match=r"a b\.onnx: \d+ bytes, more than the limit of 10 bytes: raise it"
    ):
        load_graph(path, limit=10)
    with pytest.raises(CheckpointError, match=r"none\.onnx: no such file"):
        load_graph(tmp_path / "none.onnx")
    path.write_bytes(b"<html>")
    with pytest.raises(CheckpointError, match=r"a b\.onnx: not an ONNX model"):
        load_graph(path)


def test_what_is_read() -> None:
    made = model([node("Gemm", ["x", "w"], ["y"], transB=1)], {"w": np.ones((2, 3))}, shape=["N", 3])
    graph = graph_of(made)
    assert [(v.name, v.shape, v.dtype) for v in graph.inputs] == [("x", (None, 3), np.float32)]
    assert (graph.opset, graph.nodes[0].attributes, graph.constants["w"].shape) == (13, {"transB": 1}, (2, 3))
