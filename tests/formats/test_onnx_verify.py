"""The proof that travels with an exported model, repeated, and what it notices."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_probes import MODELS, digits

from mnistnet.errors import CheckpointError, ExportError
from mnistnet.formats import onnx_verify
from mnistnet.formats.onnx_export import OnnxForm, export_onnx
from mnistnet.formats.onnx_verify import verify_onnx
from mnistnet.models import Classifier, build


def exported(folder: Path, form: OnnxForm = OnnxForm(), name: str = "mlp") -> Path:  # noqa: B008
    network = build(name).initialize(0)
    network.vector[...] *= 3
    path = folder / "model.onnx"
    export_onnx(Classifier(network, tuple("0123456789"), name=name), path, images=digits(5), form=form)
    return path


@pytest.mark.parametrize(
    "form",
    [
        OnnxForm(),
        OnnxForm(12, True),
        OnnxForm(21, True, True, 4),
        OnnxForm(17, False, True),
        OnnxForm(batch=3),
    ],
    ids=str,
)
@pytest.mark.parametrize("name", ["rsnet", "sigmoid"])
def test_every_runtime_agrees(tmp_path: Path, form: OnnxForm, name: str) -> None:
    found = verify_onnx(exported(tmp_path, form, name))
    assert [agreement.runtime.split()[0] for agreement in found] == ["mnistnet", "onnx", "onnxruntime"]
    assert all(agreement.largest_difference < 1e-4 for agreement in found)


def test_what_the_graph_looks_like_from_outside(tmp_path: Path) -> None:
    model = onnx.load(exported(tmp_path, OnnxForm(13, True, True, 4)))
    (given,), (output,) = model.graph.input, model.graph.output
    assert (given.name, output.name) == ("images", "logits")
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dim.dim_value for dim in given.type.tensor_type.shape.dim] == [4, 1, 28, 28]
    assert [dim.dim_value for dim in output.type.tensor_type.shape.dim] == [4, 10]
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    assert metadata["activation"] == "softmax"
    assert (metadata["input_scale"], metadata["input_shift"]) == ("1.0", "0.0")
    assert metadata["input"] == "uint8 (4, 1, 28, 28): bytes, 0 = background"
    assert len(json.loads(metadata["golden_output"])) == 10


def changed(path: Path, key: str, value: str) -> Path:
    model = onnx.load(path)
    entry = next(entry for entry in model.metadata_props if entry.key == key)
    entry.value = value
    onnx.save_model(model, path)
    return path


def test_a_weight_that_changed_is_noticed(tmp_path: Path) -> None:
    path = exported(tmp_path)
    model = onnx.load(path)
    weights = onnx.numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[:, 300:500] += np.float32(0.01)
    model.graph.initializer[0].CopyFrom(
        onnx.numpy_helper.from_array(weights, model.graph.initializer[0].name)
    )
    onnx.save_model(model, path)
    with pytest.raises(ExportError, match=r"model\.onnx: mnistnet .* differs from the golden output by "):
        verify_onnx(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("golden_input", "AAA=", "its golden input or output is damaged: cannot reshape"),
        ("golden_input", "!", "its golden input or output is damaged"),
        ("golden_output", "[", "its golden input or output is damaged"),
        ("golden_output", "[1.0]", r"gives \(1, 10\): expected the golden output's \(1, 1\)"),
        ("golden_output", "[NaN, 0, 0, 0, 0, 0, 0, 0, 0, 0]", "differs from the golden output by nan"),
        ("input_scale", "much", "its golden input or output is damaged"),
        ("input_scale", "inf", "its golden input is damaged: expected finite numbers"),
        ("input_scale", "3e38", "its golden input is damaged: expected finite numbers"),
    ],
)
def test_metadata_that_changed_is_noticed(tmp_path: Path, key: str, value: str, message: str) -> None:
    with pytest.raises((CheckpointError, ExportError), match=message):
        verify_onnx(changed(exported(tmp_path), key, value))


def test_models_of_others_have_no_proof() -> None:
    with pytest.raises(
        CheckpointError, match=r"keras\.onnx: no golden input and output in its metadata: only what"
    ):
        verify_onnx(MODELS / "keras.onnx")


def test_graphs_that_are_not_valid(tmp_path: Path) -> None:
    path = exported(tmp_path)
    model = onnx.load(path)
    model.graph.node[0].name = model.graph.node[1].name
    model.ir_version = 999
    onnx.save_model(model, path)
    with pytest.raises(ExportError, match=r"model\.onnx: not valid ONNX: "):
        verify_onnx(path)


def test_a_runtime_that_cannot_run_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no kernel\nfor this")

    monkeypatch.setattr(onnx_verify, "run_reference", fail)
    with pytest.raises(ExportError, match=r"model\.onnx: onnx \S+ cannot run it: no kernel for this$"):
        verify_onnx(exported(tmp_path))


def test_without_onnxruntime_two_runtimes_are_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_verify, "find_spec", lambda _: None)
    found = verify_onnx(exported(tmp_path))
    assert [agreement.runtime.split()[0] for agreement in found] == ["mnistnet", "onnx"]


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ({"opset": 11}, "--opset: expected 12 to 21, found 11"),
        ({"batch": 0}, "--batch: expected 1 to 4096 images, found 0"),
    ],
)
def test_forms_that_are_not_there(form: dict[str, int], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        OnnxForm(**form)


def test_a_runtime_that_fails_prints_nothing_of_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The fuzzer's find: what Python's streams are set to does not hold for onnxruntime."""
    path = exported(tmp_path)
    made = onnx.load(path)
    flatten = next(node for node in made.graph.node if node.op_type == "Flatten")
    del flatten.attribute[:]
    flatten.attribute.append(onnx.helper.make_attribute("axis", -(2**63)))
    onnx.save(made, path)
    with pytest.raises(ExportError, match=r"cannot run it|gives|not valid ONNX"):
        verify_onnx(path)
    assert capfd.readouterr() == ("", "")
