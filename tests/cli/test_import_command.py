"""``mnistnet import`` and ``verify``, and ``run`` on what is no checkpoint, through real processes."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mnistnet.formats.checkpoint import load_checkpoint

from .conftest import ROOT, Mnistnet

LENET = ROOT / "ckpt" / "lenet.json"
SEVEN = ROOT / "data" / "samples" / "7.png"
MODELS = ROOT / "tests" / "formats" / "models"


def test_out_verified_run_and_in_again(mnistnet: Mnistnet, tmp_path: Path) -> None:
    flags = ("--input", "uint8", "--logits", "--opset", 12, "--batch", 1)
    assert mnistnet("export", "--onnx-path", "m.onnx", "--checkpoint-path", LENET, *flags).code == 0
    verified = mnistnet("verify", "m.onnx")
    assert verified.code == 0
    assert verified.out.startswith("m.onnx: the golden output is reproduced\n  mnistnet 0.1.0")
    assert "onnxruntime" in verified.out
    run = mnistnet("run", "m.onnx", SEVEN, "--json")
    assert (run.code, run.err) == (0, "")
    assert run.json_lines[0]["prediction"] == "7"
    imported = mnistnet("import", "m.onnx", "--checkpoint-path", "back.json")
    assert (imported.code, imported.err) == (0, "")
    first, second = imported.out.splitlines()
    assert first == f"Imported m.onnx to {tmp_path / 'back.json'}"
    assert second.startswith("37,610 parameters: conv2d, relu, max_pool2d, ")
    back, before = (load_checkpoint(path).classifier for path in (tmp_path / "back.json", LENET))
    np.testing.assert_array_equal(back.network.vector, before.network.vector)
    assert back.pixels.scale == pytest.approx(before.pixels.scale, rel=1e-6)


def test_a_model_of_another_tool_says_what_was_assumed(mnistnet: Mnistnet) -> None:
    run = mnistnet("run", MODELS / "keras.onnx", SEVEN, "--json")
    assert run.code == 0
    assert set(run.json_lines[0]["probabilities"]) == set("0123456789")
    assert "keras.onnx: bytes of a picture are divided by 255; use --input-scale" in run.err
    told = mnistnet("run", MODELS / "keras.onnx", SEVEN, "--json", "--input-scale", "0.00392156862745098")
    assert (told.code, told.err) == (0, "")
    assert told.json_lines == run.json_lines


def residual(path: Path) -> None:
    """A model that is no chain: the image's features, twice."""
    values = np.random.default_rng(0).standard_normal((784, 10)).astype(np.float32) / 28
    node = helper.make_node
    nodes = [
        node("Flatten", ["x"], ["f"]),
        node("Tanh", ["f"], ["t"]),
        node("Add", ["f", "t"], ["s"]),
        node("MatMul", ["s", "w"], ["y"]),
    ]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 1, 28, 28])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 10])
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(values, "w")])
    onnx.save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)


def test_what_is_no_chain_runs_but_cannot_be_imported(mnistnet: Mnistnet, tmp_path: Path) -> None:
    residual(tmp_path / "res.onnx")
    assert mnistnet("run", "res.onnx", SEVEN).code == 0
    result = mnistnet("import", "res.onnx", "--checkpoint-path", "out.json")
    assert result.code == 4
    last = result.err.splitlines()[-1]
    assert last.startswith(
        "mnistnet: res.onnx: is no chain of layers that can be trained: node 2 (Add): reads f"
    )
    assert last.endswith("; mnistnet run can run it")
    assert not (tmp_path / "out.json").exists()


def test_rsnet_there_and_back(mnistnet: Mnistnet, tmp_path: Path) -> None:
    assert mnistnet("export", "--rsnet-path", "rs.json", "--checkpoint-path", LENET).code == 0
    assert mnistnet("run", "rs.json", SEVEN, "--json").json_lines[0]["prediction"] == "7"
    assert mnistnet("import", "rs.json", "--checkpoint-path", "back.json").code == 0
    back = load_checkpoint(tmp_path / "back.json").classifier
    np.testing.assert_array_equal(back.network.vector, load_checkpoint(LENET).classifier.network.vector)
    example = mnistnet("import", MODELS / "rsnet_checkpoint_minimal.json", "--checkpoint-path", "m.json")
    assert example.code == 4
    assert "--input-shape 1,3,3 fits" in example.err
    flags = ("--checkpoint-path", "m.json", "--input-shape", "1,3,3")
    assert mnistnet("import", MODELS / "rsnet_checkpoint_minimal.json", *flags).code == 0
    assert json.loads((tmp_path / "m.json").read_text())["training"]["imported_from"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("run", LENET, SEVEN, "--input-scale", "1"), 2, "--input-scale: is for ONNX and rsnet models"),
        (("run", "x.onnx", SEVEN, "--input-shape", "28"), 2, "--input-shape: expected C,H,W such as 1,28,28"),
        (("run", "x.onnx", SEVEN, "--input-scale", "nan"), 2, "--input-scale: must be a finite number"),
        (("run", "x.onnx", SEVEN), 4, "x.onnx: not an ONNX model: the file is damaged, or of another format"),
        (("verify", "x.onnx"), 4, "x.onnx: not an ONNX model"),
        (
            ("import", "x.onnx", "--checkpoint-path", "x.onnx"),
            2,
            "--checkpoint-path: x.onnx is the model itself",
        ),
        (
            ("export", "--onnx-path", "m.onnx", "--input", "int8"),
            2,
            "--input: expected one of float32, uint8",
        ),
        (
            ("export", "--onnx-path", "m.onnx", "--checkpoint-path", LENET, "--batch", "0"),
            2,
            "--batch: expected 1 to 4096 images, found 0",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else None,
)
def test_wrong_ones(
    mnistnet: Mnistnet, tmp_path: Path, arguments: tuple[object, ...], code: int, message: str
) -> None:
    (tmp_path / "x.onnx").write_bytes(b"<html>no model</html>")
    result = mnistnet(*arguments)
    assert result.code == code
    assert message in result.err
    assert result.err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.onnx"]
