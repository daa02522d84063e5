"""Every checkpoint that cannot be used is refused in one line that says why."""

import copy
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mnistnet.errors import CheckpointError
from mnistnet.formats import load_checkpoint, save_checkpoint
from mnistnet.formats.checkpoint import SIZE_LIMIT_FLAG


def array(*dim: int) -> dict[str, Any]:
    count = int(np.prod(dim))
    return {"v": 1, "dim": list(dim), "data": [0.5] * count}


def document() -> dict[str, Any]:
    """A checkpoint written by hand: 1 x 6 x 6 to 2 x 4 x 4 to 32 features to 3 classes."""
    return {
        "format": "mnistnet-checkpoint",
        "version": 1,
        "model": "custom",
        "input": {"channels": 1, "height": 6, "width": 6, "scale": 1 / 255, "shift": 0},
        "classes": ["a", "b", "c"],
        "layers": [
            {
                "kind": "conv2d",
                "out_channels": 2,
                "kernel_size": 3,
                "weight": array(2, 1, 3, 3),
                "bias": array(2),
            },
            {"kind": "relu"},
            {"kind": "flatten"},
            {"kind": "dense", "out_features": 3, "weight": array(3, 32), "bias": array(3)},
            {"kind": "softmax"},
        ],
        "training": {},
    }


DELETE = object()


def changed(path: str, value: object) -> dict[str, Any]:
    """The document with one member replaced, ``layers.0.bias.dim``, or deleted."""
    result = copy.deepcopy(document())
    *folders, last = path.split(".")
    target: Any = result
    for step in folders:
        target = target[int(step)] if step.isdigit() else target[step]
    key = int(last) if last.isdigit() else last
    if value is DELETE:
        del target[key]
    else:
        target[key] = value
    return result


def complaint(tmp_path: Path, data: bytes, **options: Any) -> str:
    """What is said about a file of these bytes, without the file's name; the file stays as it is."""
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert len(text) < len(str(path)) + 300
    assert path.read_bytes() == data
    assert list(tmp_path.iterdir()) == [path]
    return text.removeprefix(f"{path}: ")


def text_of(value: object) -> bytes:
    return json.dumps(value).encode()


def test_the_document_by_hand_is_accepted(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    for data in (
        text_of(document()),
        json.dumps(document(), indent=4).replace("\n", "\r\n").encode() + b"\n\n",
    ):
        path.write_bytes(data)
        assert load_checkpoint(path).classifier.network.shapes[-1] == (3,)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(tmp_path / "a.json")
    assert str(caught.value) == f"{tmp_path / 'a.json'}: no such file"


def _pickle() -> bytes:
    class Bomb:
        def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
            return (pytest.fail, ("unpickled",))

    return pickle.dumps(Bomb())


def _zip() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", _pickle())
    return file.getvalue()


def _npz() -> bytes:
    file = io.BytesIO()
    np.savez(file, weight=np.zeros(3))
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file: expected JSON"),
        (text_of(document())[:100], "line 1, column 101: not complete, correct JSON"),
        (
            b'{\n "format": "mnistnet-checkpoint",\n "version": ',
            "line 3, column 13: not complete, correct JSON",
        ),
        (b"   \n", "line 2, column 1: not complete, correct JSON"),
        (text_of(document()) + b" {}", "not complete, correct JSON (Extra data)"),
        (b"\xef\xbb\xbf" + text_of(document()), "byte-order mark; save it as UTF-8 without BOM"),
        (text_of(document()).decode().encode("utf-16"), "looks like UTF-16 or binary data"),
        (text_of(document()).decode().encode("utf-16-be"), "looks like UTF-16 or binary data"),
        (b'{"format": "\xe9"}', "not UTF-8 JSON: found byte 0xe9 at offset 12"),
        (bytes(range(128, 256)), "not UTF-8 JSON"),
        (_pickle(), "foreign format: expected JSON, found a Python pickle (never unpickled or unpacked)"),
        (pickle.dumps([1], 2), "found a Python pickle"),
        (_zip(), "found a zip archive (.pt, .npz, .keras)"),
        (_npz(), "found a zip archive (.pt, .npz, .keras)"),
        (b"\x89HDF\r\n\x1a\n\0\0\0", "found an HDF5 file"),
        (b"\x93NUMPY\x01\0", "found a NumPy array file"),
        (b"\x08\0\0\0\0\0\0\0{}", "UTF-16 or binary data"),
        (b"\x40\0\0\0\0\0\0\0" + b'{"a":', "found a safetensors file"),
        (b"\0\0\x08\x03\0\0\xea\x60", "found an IDX dataset"),
        (b"[" * 100_000, "nested too deeply: expected at most 64 levels"),
        (b"[" * 100_000 + b"]" * 100_000, "nested too deeply: expected at most 64 levels"),
        (b'{"version": ' + b"1" * 5000 + b"}", "number too long: 5000 digits, expected at most 300"),
        (b'{"a": 1, "format": 2, "a": 3}', 'duplicate key "a": expected every key once in an object'),
        (b"[]", "expected a JSON object, found a list of 0"),
        (b"{}", 'format: expected "mnistnet-checkpoint", found none'),
        (b'{"format": "rsnet"}', 'format: expected "mnistnet-checkpoint", found "rsnet"'),
        (b'{"format": null}', 'format: expected "mnistnet-checkpoint", found null'),
    ],
)
def test_not_our_json(tmp_path: Path, data: bytes, message: str) -> None:
    assert message in complaint(tmp_path, data)


def test_size_cap(tmp_path: Path) -> None:
    data = text_of(document())
    said = complaint(tmp_path, data, limit=1000)
    assert said == f"{len(data)} bytes, more than the limit of 1000 bytes: raise it with {SIZE_LIMIT_FLAG}"


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("version", 2, "version: 2 needs a newer mnistnet; this one reads up to 1"),
        ("version", "1", 'version: expected 1, found "1"'),
        ("version", True, "version: expected 1, found true"),
        ("version", 0, "version: expected 1, found 0"),
        ("version", DELETE, "version: missing"),
        ("model", DELETE, "model: missing"),
        ("input", DELETE, "input: missing"),
        ("input.height", DELETE, "input.height: missing"),
        ("input.scale", DELETE, "input.scale: missing"),
        ("classes", DELETE, "classes: missing"),
        ("layers", DELETE, "layers: missing"),
        ("training", DELETE, "training: missing"),
        ("layers.0.kind", DELETE, "layers[0].kind: missing"),
        ("layers.0.out_channels", DELETE, "layers[0]: missing field out_channels in conv2d"),
        ("layers.3.bias", DELETE, "layers[3].bias: missing"),
        ("layers.3.bias.dim", DELETE, "layers[3].bias.dim: missing"),
        ("model", 3, "model: input should be a valid string, found 3"),
        ("input.width", 6.0, "input.width: input should be a valid integer, found 6.0"),
        ("input.width", True, "input.width: input should be a valid integer, found true"),
        ("input.width", 0, "input.width: input should be greater than or equal to 1, found 0"),
        ("input.scale", "1", 'input.scale: input should be a valid number, found "1"'),
        ("input.scale", 1e39, "input.scale: input should be less than or equal to"),
        ("input.crop", 1, "input.crop: unknown member"),
        ("classes.1", 7, "classes[1]: input should be a valid string, found 7"),
        ("classes", ["a", "b", "a"], 'classes: expected different names, found "a" twice'),
        ("classes", ["a", "b"], "classes: 2 names, but the network has 3 outputs"),
        ("extra", 1, "extra: unknown member: notes belong in training"),
        ("training", [], "training: input should be a valid dictionary, found a list of 0"),
        ("training", {"a": "\ud800"}, "training.a: not Unicode text: found a lone surrogate"),
        ("layers", [], "layers: empty network: expected at least one layer"),
        ("layers", {}, "layers: input should be a valid list, found an object"),
        ("layers.1", "relu", 'layers[1]: input should be a valid dictionary, found "relu"'),
        (
            "layers.1.kind",
            "conv3d",
            'layers[1].kind: unknown layer "conv3d": expected one of avg_pool2d, batch',
        ),
        ("layers.1.kind", ["relu"], "layers[1].kind: unknown layer a list of 1"),
        ("layers.1.kind", "x" * 10_000, 'layers[1].kind: unknown layer "xxx'),
        ("layers.1.slope", 1, "layers[1].slope: unknown member: relu has kind"),
        ("layers.0.out_channels", 2.0, "layers[0]: out_channels must be a whole number >= 1, found 2.0"),
        ("layers.0.out_channels", 3, "layer 0 (conv2d): weight should be (3, 1, 3, 3), found (2, 1, 3, 3)"),
        (
            "layers.0.weight",
            array(2, 3, 3, 1),
            "layer 0 (conv2d): weight should be (2, 1, 3, 3), found (2, 3, 3, 1)",
        ),
        (
            "layers.0.weight",
            [0.5],
            'layers[0].weight: expected an array {"v", "dim", "data"}, found a list of 1',
        ),
        ("layers.0.kernel_size", 7, "layer 0 (conv2d): a kernel of 7 does not fit"),
        ("layers.3.weight", array(3, 30), "layer 3 (dense): weight should be (3, 32), found (3, 30)"),
        ("input.height", 7, "layer 3 (dense): weight should be (3, 40), found (3, 32)"),
        (
            "layers.3.bias.data",
            [1, 2, 3, 4],
            "layers[3].bias: dim [3] and data disagree: 3 against 4 numbers",
        ),
        ("layers.3.bias.dim", [4], "layers[3].bias: dim [4] and data disagree: 4 against 3 numbers"),
        ("layers.3.bias.dim", [-1], "layers[3].bias.dim[0]: bad dimension -1: expected a whole number"),
        ("layers.3.weight.dim", [3, 1.5], "layers[3].weight.dim[1]: bad dimension 1.5"),
        ("layers.3.bias.dim", [True], "layers[3].bias.dim[0]: bad dimension true"),
        (
            "layers.3.bias.dim",
            [2**31 - 1] * 3,
            f"layers[3].bias: dim {[2**31 - 1] * 3} and data disagree: {(2**31 - 1) ** 3} against 3 numbers",
        ),
        ("layers.3.bias.data.1", None, "layers[3].bias.data[1]: non-finite: expected a number, found null"),
        (
            "layers.3.weight.data.17",
            float("nan"),
            "layers[3].weight.data[17]: non-finite: expected a number, found NaN",
        ),
        (
            "layers.3.weight.data.95",
            float("-inf"),
            "layers[3].weight.data[95]: non-finite: expected a number, found -Inf",
        ),
        (
            "layers.3.bias.data.2",
            1e39,
            "layers[3].bias.data[2]: exceeds float32 (at most 3.4028235e+38): found 1e+39",
        ),
        ("layers.3.bias.data.0", 10**39, "layers[3].bias.data[0]: exceeds float32"),
        ("layers.3.bias.data.0", "0.5", 'layers[3].bias.data[0]: not a number: found "0.5"'),
        ("layers.3.bias.data.0", False, "layers[3].bias.data[0]: not a number: found false"),
        ("input.shift", float("nan"), "input.shift: non-finite (NaN)"),
        ("training", {"loss": [float("inf")]}, "training.loss[0]: non-finite (Infinity)"),
        ("layers.0.out_channels", float("inf"), "layers[0].out_channels: non-finite (Infinity)"),
        ("checksum", "sha256:0", 'checksum: expected "sha256:" and 64 hex digits, found "sha256:0"'),
        ("checksum", None, 'checksum: expected "sha256:" and 64 hex digits, found null'),
        ("checksum", "sha256:" + 64 * "0", "checksum: corrupt: the bytes do not match, it is damaged"),
    ],
)
def test_wrong_content(tmp_path: Path, path: str, value: object, message: str) -> None:
    assert complaint(tmp_path, text_of(changed(path, value))).startswith(message)


def test_a_float_that_only_overflows_when_read(tmp_path: Path) -> None:
    data = text_of(document()).replace(b"0.5", b"1e400", 1)
    assert complaint(tmp_path, data).startswith("layers[0].weight.data[0]: exceeds float32")


def test_nesting_inside_training(tmp_path: Path) -> None:
    deep: Any = 0
    for _ in range(200):
        deep = [deep]
    assert "nested too deeply: expected at most 64 levels" in complaint(
        tmp_path, text_of(changed("training", {"a": deep}))
    )
    for path in ("layers.0.weight", "layers.0.kernel_size", "layers.0.bias.data", "model", "classes"):
        assert complaint(tmp_path, text_of(changed(path, deep)))


def test_checksum_not_last(tmp_path: Path) -> None:
    data = text_of({"checksum": "sha256:" + 64 * "0", **document()})
    assert complaint(tmp_path, data).startswith("checksum: expected as the last member of the file")


def test_any_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text_of(document()))
    save_checkpoint(path, load_checkpoint(path))
    good = path.read_bytes()
    for offset in range(0, len(good), 7):
        for flip in (1, 16, 128):
            path.write_bytes(good[:offset] + bytes([good[offset] ^ flip]) + good[offset + 1 :])
            try:
                load_checkpoint(path)
            except CheckpointError:
                continue
            # whitespace after the checksum may change into other whitespace
            assert offset >= good.rindex(b'"checksum"')
            assert good[offset : offset + 1] in (b" ", b"\n")


def test_changed_line_ends_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(text_of(document()))
    save_checkpoint(path, load_checkpoint(path))
    data = path.read_bytes().replace(b"\n", b"\r\n")
    assert "its line endings were changed" in complaint(tmp_path, data)
