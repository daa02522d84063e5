"""Files from strangers: what may come from them, and how much they may ask for.

The limits are those of the table in docs/reliability.md: what asks for more is refused before anything is
allocated, which is measured here.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import struct
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from mnistnet.data import csv_files, dataset, idx, image_folder
from mnistnet.data.pictures import decode, reading
from mnistnet.data.sources import load_data
from mnistnet.errors import CheckpointError, DataError, MnistnetError, PictureError
from mnistnet.formats import arrays, checkpoint, strict_json
from mnistnet.formats.checkpoint import load_architecture, load_checkpoint
from mnistnet.formats.onnx_import import load_onnx
from mnistnet.formats.onnx_operators import limits
from mnistnet.formats.onnx_verify import verify_onnx
from mnistnet.reports import curves

DOCS = Path(__file__).parents[1] / "docs" / "reliability.md"
MIB = 2**20

# data ------------------------------------------------------------------------------------------------------


def idx_claims(path: Path) -> None:
    path.write_bytes(struct.pack(">4B3I", 0, 0, 8, 3, 2**32 - 1, 2**16, 2**16))
    idx.read_idx(path)


def idx_dimensions(path: Path) -> None:
    path.write_bytes(struct.pack(">4B33I", 0, 0, 8, 33, *[1] * 33) + b"x")
    idx.read_idx(path)


def gzip_claims(path: Path) -> None:
    """More than any gzip file of this size can hold."""
    path.write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 10**6, 1000, 1000) + bytes(100)))
    idx.read_idx(path)


def gzip_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, 1, 28, 28) + bytes(50 * MIB)))
    idx.read_idx(path)


def npz_claims(path: Path) -> None:
    _npz(path, "(1099511627776, 28, 28)", b"")
    load_data(path)


def npz_bomb(path: Path) -> None:
    """Zeros that follow an honest header."""
    _npz(path, "(1, 28, 28)", bytes(50 * MIB))
    load_data(path)


def _npz(path: Path, shape: str, content: bytes) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
    member = b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + content
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", member)
        archive.writestr("labels.npy", member)


def csv_line(path: Path) -> None:
    path.write_bytes(gzip.compress(b"1," * (20 * MIB)))
    load_data(path)


def csv_bomb(path: Path) -> None:
    """A few kilobytes that expand to zeros without end."""
    path.write_bytes(gzip.compress(bytes(40 * MIB)))
    load_data(path)


def labels(path: Path) -> None:
    path.write_text(json.dumps({"train": {str(image_folder.MOST_CLASSES + 1): ["a.png"]}}))
    load_data(path.parent)


def class_names(path: Path) -> None:
    path.write_bytes(b"name\n" * MIB)
    dataset.read_class_names(path.parent)


def loss_csv(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(curves.SIZE_LIMIT + 1)
    curves.read_curve(path)


# pictures --------------------------------------------------------------------------------------------------


def picture_bomb(path: Path) -> None:
    path.write_bytes(png(9_000, 9_000))
    reading.read_picture(path, (1, 28, 28), name="x")


def picture_text(path: Path) -> None:
    """A comment that expands to 50 MiB."""
    text = b"a\0\0" + zlib.compress(bytes(50 * MIB))
    path.write_bytes(png(28, 28, (b"zTXt", text), (b"IDAT", zlib.compress(bytes(29 * 28)))))
    reading.read_picture(path, (1, 28, 28), name="x")


def picture_bytes(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(8 * decode.MAX_PIXELS + 1)
    reading.read_picture(path, (1, 28, 28), name="x")


def png(w: int, h: int, *chunks: tuple[bytes, bytes]) -> bytes:
    head = (b"IHDR", struct.pack(">2I5B", w, h, 8, 0, 0, 0, 0))
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in (head, *(chunks or [(b"IDAT", b"")]), (b"IEND", b""))
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# models ----------------------------------------------------------------------------------------------------


def document(**changes: object) -> bytes:
    size = {"channels": 1, "height": 8, "width": 8}
    layers = [{"kind": "flatten"}, {"kind": "dense", "out_features": 3}, {"kind": "softmax"}]
    made = {"format": "mnistnet-architecture", "version": 1, "input": size, "layers": layers}
    return json.dumps(made | changes).encode()


def checkpoint_size(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(checkpoint.SIZE_LIMIT + 1)
    load_checkpoint(path)


def architecture(**changes: object) -> Callable[[Path], None]:
    def ask(path: Path) -> None:
        path.write_bytes(document(**changes))
        load_architecture(path)

    return ask


wide = architecture(layers=[{"kind": "flatten"}, {"kind": "dense", "out_features": 2**23}])
large_input = architecture(input={"channels": 1, "height": 2**13, "width": 2**13})
large_output = architecture(
    layers=[{"kind": "conv2d", "out_channels": 2**20, "kernel_size": [1, 1]}, {"kind": "flatten"}]
)


def nesting(path: Path) -> None:
    path.write_bytes(b"[" * 200_000)
    load_checkpoint(path)


def training_nesting(path: Path) -> None:
    deep: object = 0
    for _ in range(100):
        deep = [deep]
    path.write_bytes(document(training={"a": deep}))
    load_architecture(path)


def long_number(path: Path) -> None:
    path.write_bytes(document().replace(b'"version": 1', b'"version": ' + b"1" * 5000))
    load_architecture(path)


def array_dimensions(path: Path) -> None:
    arrays.array_from_json({"v": 1, "dim": [1] * 9, "data": [1.0]}, "weight")


# ONNX ------------------------------------------------------------------------------------------------------


def graph(*nodes: onnx.NodeProto, shape: tuple = ("N", 1, 8, 8), **constants: object) -> bytes:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    made = helper.make_graph(list(nodes), "g", [x], [y], tensors)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    return model.SerializeToString()


def asks(*nodes: onnx.NodeProto, **more: object) -> Callable[[Path], None]:
    def ask(path: Path) -> None:
        path.write_bytes(graph(*nodes, **more))  # type: ignore[arg-type]
        load_onnx(path)

    return ask


node = helper.make_node
SHAPE = np.array([2**14, 2**13])
ONES = node("ConstantOfShape", ["s"], ["c"])
FLAT = node("Flatten", ["x"], ["f"])

filled = asks(ONES, FLAT, node("MatMul", ["f", "c"], ["y"]), s=np.array([2**15, 2**15]))
doubled = asks(
    node("Concat", ["x"] * 1000, ["a"], axis=0),
    node("Concat", ["a"] * 2000, ["y"], axis=0),
    shape=(1, 1, 8, 8),
)
broadcast = asks(node("Add", ["a", "b"], ["y"]), a=np.ones((2**15, 1)), b=np.ones((1, 2**15)))
gathered = asks(node("Gather", ["a", "b"], ["y"]), a=np.ones((1, 2**15)), b=np.zeros(2**15, np.int64))
padded = asks(node("Conv", ["x", "w"], ["y"], pads=[2**15] * 4), w=np.ones((1, 1, 3, 3), np.float32))
strided = asks(node("MaxPool", ["x"], ["y"], kernel_shape=[2**15, 2**15], pads=[2**14] * 4))
multiplied = asks(
    node("MatMul", ["a", "b"], ["y"]),
    a=np.ones((2**10, 2**4), np.float32),
    b=np.ones((2**4, 2**17), np.float32),
)
worked = asks(
    node("ConstantOfShape", ["s"], ["c"]), node("MatMul", ["c", "c"], ["y"]), s=np.array([2**12, 2**12])
)
many_pixels = asks(node("Flatten", ["x"], ["y"]), shape=("N", 1, 2**13, 2**13))
many_images = asks(node("Flatten", ["x"], ["y"]), shape=(2**40, 1, 8, 8))


def claimed_tensor(path: Path) -> None:
    model = onnx.load_model_from_string(graph(node("Add", ["x", "w"], ["y"]), w=np.ones(4, np.float32)))
    model.graph.initializer[0].dims[0] = 2**40
    path.write_bytes(model.SerializeToString())
    load_onnx(path)


def golden_batch(path: Path) -> None:
    model = onnx.load_model_from_string(graph(node("Flatten", ["x"], ["y"]), shape=(2**30, 1, 8, 8)))
    import base64

    for key, value in (
        *(("golden_input", base64.b64encode(bytes(64)).decode()), ("golden_output", "[0.5, 0.5]")),
        *(("input_scale", "1"), ("input_shift", "0")),
    ):
        model.metadata_props.add(key=key, value=value)
    path.write_bytes(model.SerializeToString())
    verify_onnx(path)


LIMITS = [
    ("train-images", idx_claims, DataError, "file too short: 4294967295x65536x65536"),
    ("train-images", idx_dimensions, DataError, "expected 1 to 32 dimensions, found 33"),
    ("train-images.gz", gzip_claims, DataError, "which so small a gzip file cannot hold"),
    ("train-images.gz", gzip_bomb, DataError, "exceeds what its header says"),
    ("set.npz", npz_claims, DataError, "images: too short: 1099511627776x28x28 uint8 needs"),
    ("set.npz", npz_bomb, DataError, "images: expected nothing after its 784 bytes"),
    ("train.csv", csv_line, DataError, "not CSV: expected lines"),
    ("train.csv", csv_bomb, DataError, "not CSV: expected"),
    ("metadata.json", labels, DataError, "expected a label of at most 65536"),
    ("classes.txt", class_names, DataError, "more than the limit of 1048576 bytes"),
    ("loss.csv", loss_csv, DataError, "more than the limit of 67108864 bytes"),
    ("x.png", picture_bomb, PictureError, "9000x9000 pixels exceed the limit of 50000000 pixels"),
    ("x.png", picture_text, PictureError, "cannot decode the picture: Decompressed data too large"),
    ("x.png", picture_bytes, PictureError, "more than the limit of 400000000 bytes"),
    (
        "a.json",
        checkpoint_size,
        CheckpointError,
        "limit of 268435456 bytes: raise it with --size",
    ),
    ("a.json", wide, CheckpointError, "layer 1 (dense): too large: expected an output of at most 16777216"),
    ("a.json", large_input, CheckpointError, "input: too large: expected at most 16777216 values"),
    ("a.json", large_output, CheckpointError, "layer 0 (conv2d): too large: expected an output of at most"),
    ("a.json", nesting, CheckpointError, "nested too deeply: expected at most 64 levels"),
    ("a.json", training_nesting, CheckpointError, "nested too deeply: expected at most 64 levels"),
    ("a.json", long_number, CheckpointError, "number too long: 5000 digits, expected at most 300"),
    ("a.json", array_dimensions, CheckpointError, "weight.dim: expected at most 8 dimensions, found 9"),
    ("a.onnx", claimed_tensor, CheckpointError, "initializer 'w': bad shape of [1099511627776]"),
    ("a.onnx", filled, CheckpointError, "node 0 (ConstantOfShape): a shape of [32768, 32768]"),
    ("a.onnx", doubled, CheckpointError, "node 1 (Concat): a result of"),
    ("a.onnx", broadcast, CheckpointError, "node 0 (Add): a result of [32768, 32768]"),
    ("a.onnx", gathered, CheckpointError, "node 0 (Gather): a result of [32768, 32768]"),
    ("a.onnx", padded, CheckpointError, "node 0 (Conv): padding of [3, 1, 65544, 65544]"),
    ("a.onnx", strided, CheckpointError, "node 0 (MaxPool): "),
    ("a.onnx", multiplied, CheckpointError, "node 0 (MatMul): a product of [1024, 131072]"),
    ("a.onnx", worked, CheckpointError, "node 1 (MatMul): 68719476736 multiplications: expected at most"),
    ("a.onnx", many_pixels, CheckpointError, "is too large: expected at most 16777216 values"),
    ("a.onnx", many_images, CheckpointError, "is too large: expected at most 16777216 values"),
    ("a.onnx", golden_batch, CheckpointError, "a batch of 1073741824: expected at most 16777216 values"),
]
MOST_MEMORY = 160 * MIB
"""More than any of these files is worth; what they ask for is between 256 MiB and all there is."""


@pytest.mark.parametrize(
    ("name", "ask", "error", "says"),
    LIMITS,
    ids=[row[3][:40] for row in LIMITS],
)
def test_what_asks_for_too_much(
    tmp_path: Path, name: str, ask: Callable[[Path], None], error: type[MnistnetError], says: str
) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(error) as caught:
            ask(tmp_path / name)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert says in str(caught.value)
    assert peak < MOST_MEMORY


def test_the_table_in_the_docs_has_every_limit() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for number in (
        *(f"{checkpoint.SIZE_LIMIT // MIB} MiB", f"{curves.SIZE_LIMIT // MIB} MiB", "1,032"),
        *(f"{decode.MAX_PIXELS:,}", f"{8 * decode.MAX_PIXELS // 10**6} MB", f"{dataset.MOST_CLASSES:,}"),
        *(f"{csv_files.LONGEST_LINE // MIB} MiB", f"{strict_json.MOST_LEVELS}", f"{strict_json.MOST_DIGITS}"),
        *(f"{checkpoint.MOST_PARAMETERS:,}", f"{checkpoint.MOST_ACTIVATIONS:,}"),
        *(f"{limits.MOST_ELEMENTS:,}", f"{limits.MOST_PRODUCTS:,}", f"{limits.MOST_PIXELS:,}"),
    ):
        assert re.search(rf"\| [^|\n]*\b{re.escape(number)}\b", text), number


def test_a_limit_is_no_obstacle_to_what_is_honest(tmp_path: Path) -> None:
    """Deflate at its very best is still read."""
    pixels = np.zeros((2000, 28, 28), np.uint8)
    packed = io.BytesIO()
    np.savez_compressed(packed, images=pixels, labels=np.zeros(2000, np.int64))
    path = tmp_path / "zeros.npz"
    path.write_bytes(packed.getvalue())
    assert load_data(path).train.images.sum() == 0
    plain = tmp_path / "zeros.gz"
    plain.write_bytes(gzip.compress(struct.pack(">4B3I", 0, 0, 8, 3, *pixels.shape) + pixels.tobytes()))
    assert idx.read_idx(plain).shape == pixels.shape
