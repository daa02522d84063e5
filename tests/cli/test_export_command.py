"""``mnistnet export`` through real processes, and what onnxruntime makes of its files."""

import json
import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from mnistnet.data.sources import load_data
from mnistnet.formats.checkpoint import load_checkpoint

from .conftest import ROOT, Mnistnet

LENET = ROOT / "ckpt" / "lenet.json"


def test_the_exported_model_agrees_on_all_test_images(mnistnet: Mnistnet, tmp_path: Path) -> None:
    """The issue's figure: probabilities within 1e-5 of the engine on all 10,000 images."""
    result = mnistnet("export", "--onnx-path", "lenet.onnx", "--checkpoint-path", LENET)
    assert result.code == 0
    assert result.err == ""
    lines = result.out.splitlines()
    assert lines[0] == f"Exported {LENET} to {tmp_path / 'lenet.onnx'} (opset 13, IR 7)"
    found = re.fullmatch(r"Largest difference to the engine on 64 MNIST test images: (\S+)", lines[1])
    assert found
    assert float(found[1]) < 1e-5

    images = load_data(ROOT / "data").test.images
    session = onnxruntime.InferenceSession(tmp_path / "lenet.onnx", providers=["CPUExecutionProvider"])
    (entry,) = session.get_inputs()
    theirs = session.run(None, {entry.name: images.astype(np.float32) / np.float32(255)})[0]
    ours = load_checkpoint(LENET).classifier.probabilities(images)
    assert np.abs(theirs - ours).max() < 1e-5


def test_the_newest_run_is_exported_when_none_is_named(
    mnistnet: Mnistnet, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "ckpt").mkdir()
    (tmp_path / "ckpt" / "run").mkdir()
    (tmp_path / "ckpt" / "run" / "latest.json").write_bytes((trained / "latest.json").read_bytes())
    assert mnistnet("export", "--onnx-path", "m.onnx").code == 0
    model = onnx.load(tmp_path / "m.onnx")
    assert [i.domain for i in model.opset_import] == [""]
    assert (model.opset_import[0].version, model.ir_version) == (13, 7)


@pytest.mark.parametrize("opset", [6, 99])
def test_an_opset_out_of_range_is_refused(mnistnet: Mnistnet, tmp_path: Path, opset: int) -> None:
    result = mnistnet("export", "--onnx-path", "m.onnx", "--checkpoint-path", LENET, "--opset", opset)
    assert result.code == 2
    assert result.err == f"mnistnet: --opset: expected 12 to 21, found {opset}\n"
    assert list(tmp_path.iterdir()) == []


def test_neither_a_folder_nor_the_checkpoint_is_written_over(
    mnistnet: Mnistnet, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "folder").mkdir()
    checkpoint = trained / "checkpoint_2.json"
    before = checkpoint.read_bytes()
    onto_folder = mnistnet("export", "--onnx-path", "folder", "--checkpoint-path", LENET)
    assert onto_folder.code == 8
    assert "is a directory" in onto_folder.err
    onto_itself = mnistnet("export", "--onnx-path", checkpoint, "--checkpoint-path", checkpoint)
    assert onto_itself.code == 2
    assert "is the checkpoint itself" in onto_itself.err
    twice = mnistnet("export", "--onnx-path", "m", "--html-path", "./m", "--checkpoint-path", LENET)
    assert (twice.code, twice.err) == (
        2,
        "mnistnet: --html-path: m is --onnx-path too: choose another path\n",
    )
    assert not (tmp_path / "m").exists()
    assert checkpoint.read_bytes() == before
    assert list((tmp_path / "folder").iterdir()) == []


def test_weights_that_do_not_fit_are_refused(mnistnet: Mnistnet, trained: Path, tmp_path: Path) -> None:
    record = json.loads((trained / "latest.json").read_text())
    record["input"]["height"] = 30
    del record["checksum"]
    (tmp_path / "odd.json").write_text(json.dumps(record))
    result = mnistnet("export", "--onnx-path", "m.onnx", "--checkpoint-path", "odd.json")
    assert result.code == 4
    assert re.search(r"odd\.json: layer 1 \(dense\).*840.*784", result.err)
    assert not (tmp_path / "m.onnx").exists()


def test_a_page_is_written(mnistnet: Mnistnet, tmp_path: Path) -> None:
    result = mnistnet("export", "--html-path", "digit.html", "--checkpoint-path", LENET)
    assert (result.code, result.err) == (0, "")
    target = tmp_path / "digit.html"
    assert (
        result.out
        == f"Exported {LENET} to {target} ({target.stat().st_size / 1000:.0f} kB): open it in a browser\n"
    )
    assert list(tmp_path.iterdir()) == [target]


def test_something_to_export_to_is_needed(mnistnet: Mnistnet) -> None:
    result = mnistnet("export", "--checkpoint-path", LENET)
    assert (result.code, result.err) == (
        2,
        "mnistnet: --onnx-path or --html-path or --rsnet-path: give at least one\n",
    )
