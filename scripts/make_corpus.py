"""Write the small sound files that the fuzzer begins with, into tests/corpus/.

    python scripts/make_corpus.py

Faults that the fuzzer found lie beside them and stay.
"""

from __future__ import annotations

import gzip
import io
import json
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from checkout import ROOT
from PIL import Image

from mnistnet.cli.app import command_line
from mnistnet.data.csv_files import column_names
from mnistnet.engine.arrays import PixelScale
from mnistnet.engine.layers import layer_from_config
from mnistnet.engine.network import Network
from mnistnet.formats.checkpoint import Checkpoint, encode_checkpoint
from mnistnet.formats.onnx_export import OnnxForm, export_onnx
from mnistnet.formats.rsnet import encode_rsnet
from mnistnet.models import Classifier

CORPUS = ROOT / "tests" / "corpus"
MODELS = ROOT / "tests" / "formats" / "models"
PLAIN = (
    {"kind": "conv2d", "out_channels": 2, "kernel_size": [3, 3]},
    {"kind": "relu"},
    {"kind": "max_pool2d", "kernel_size": [2, 2]},
    {"kind": "flatten"},
    {"kind": "dense", "out_features": 3},
    {"kind": "softmax"},
)
ALL_KINDS = (
    {"kind": "zero_pad2d", "top": 1, "bottom": 0, "left": 1, "right": 0},
    {"kind": "conv2d", "out_channels": 4, "kernel_size": [3, 3], "padding": [1, 1], "groups": 2},
    {"kind": "batch_norm"},
    {"kind": "leaky_relu"},
    {"kind": "conv2d", "out_channels": 2, "kernel_size": [2, 2], "dilation": [2, 2], "stride": [1, 2]},
    {"kind": "gelu"},
    {"kind": "avg_pool2d", "kernel_size": [2, 2], "padding": [1, 1]},
    {"kind": "tanh"},
    {"kind": "dropout", "rate": 0.3},
    {"kind": "global_avg_pool"},
    {"kind": "flatten"},
    {"kind": "dense", "out_features": 3},
    {"kind": "sigmoid"},
)


def main() -> None:
    for make in (data, tables, models, exported, trained, pictures, settings):
        make()
    total = sum(path.stat().st_size for path in CORPUS.rglob("*") if path.is_file())
    print(f"{CORPUS.relative_to(ROOT)}: {total} bytes")
    sys.exit(0)


def put(name: str, content: bytes) -> None:
    path = CORPUS / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (12, 8, 8)).astype(np.uint8)


def labels() -> np.ndarray:
    return (np.arange(12) % 3).astype(np.uint8)


def idx(values: np.ndarray, code: int = 8) -> bytes:
    return (
        bytes([0, 0, code, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()
    )


def data() -> None:
    put("idx/images", idx(images()))
    put("idx/colours", idx(images()[:, None].repeat(3, 1)))
    put("idx/labels", idx(labels()))
    put("idx/float32", idx((images() / 255).astype(">f4"), 0x0D))
    put("gzip/images", gzip.compress(idx(images()), mtime=0))
    put("gzip/csv", gzip.compress(csv(), mtime=0))
    put("metadata/three", json.dumps({"train": {"1": ["a.png"], "2": ["b.png"], "3": ["c.png"]}}).encode())
    both = {"train": {"1": ["a.png", "b.png"], "2": ["./c.png"]}, "test": {"2": ["c.png"]}}
    put("metadata/both", json.dumps(both, indent=1).encode())


def csv(header: str = "") -> bytes:
    rows = (
        ",".join(map(str, [label, *image.ravel()])) for label, image in zip(labels(), images(), strict=True)
    )
    return "\n".join([*([header] if header else []), *rows, ""]).encode()


def tables() -> None:
    put("csv/plain", csv())
    put("csv/header", csv(column_names((1, 8, 8))))
    put("csv/quoted", b'"label","1x1","1x2"\r\n"0", 7,"255"\r\n1,0,3\r\n')
    for name, arrays in (
        ("train", {"images": images(), "labels": labels()}),
        ("keras", {"x_train": images(), "y_train": labels(), "x_test": images()[:3], "y_test": labels()[:3]}),
        ("names", {"images": images() / 255, "labels": labels()[:, None], "class_names": ["a", "b", "c"]}),
    ):
        packed = io.BytesIO()
        np.savez_compressed(packed, **arrays)
        put(f"npz/{name}", packed.getvalue())
    head = "epoch,loss,accuracy,accuracy_of,training_accuracy,validation_loss,learning_rate,seconds\n"
    lines = (f"{n},0.{9 - n},0.{n},training,0.{n},,0.05,1.250\n" for n in range(1, 5))
    put("loss/training", (head + "".join(lines)).encode())
    put("loss/validation", (head + "1,0.5,0.8,validation,0.7,0.25,0.05,0.100\n").encode())


def classifier(layers: tuple[dict, ...], channels: int = 1) -> Classifier:
    built = [
        layer_from_config(layer["kind"], {k: v for k, v in layer.items() if k != "kind"}) for layer in layers
    ]
    network = Network(built, (channels, 8, 8)).initialize(1)
    return Classifier(network, ("a", "b", "c"), PixelScale(1 / 255, 0.0))


def models() -> None:
    for name, layers, channels in (("plain", PLAIN, 1), ("kinds", ALL_KINDS, 2)):
        made = classifier(layers, channels)
        put(f"checkpoint/{name}", encode_checkpoint(Checkpoint(made, {"epoch": 3, "learning_rate": 0.1})))
        size = {"channels": channels, "height": 8, "width": 8}
        text = {"format": "mnistnet-architecture", "version": 1, "input": size, "layers": list(layers)}
        put(f"architecture/{name}", json.dumps({**text, "classes": ["a", "b", "c"]}, indent=1).encode())
    put("rsnet/ours", encode_rsnet(classifier(PLAIN)))
    put("rsnet/minimal", (MODELS / "rsnet_checkpoint_minimal.json").read_bytes())


def exported() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name, made, form in (
            ("float", classifier(PLAIN), OnnxForm()),
            ("bytes", classifier(PLAIN), OnnxForm(13, logits=True, bytes_in=True, batch=2)),
            ("kinds", classifier(ALL_KINDS, 2), OnnxForm(18)),
        ):
            path = Path(folder) / "model.onnx"
            c, h, w = made.network.input_shape
            proof = np.random.default_rng(0).integers(0, 256, (4, c, h, w)).astype(np.uint8)
            export_onnx(made, path, images=proof, form=form)
            put(f"onnx/{name}", path.read_bytes())
            put(f"verify/{name}", path.read_bytes())
    put("onnx/operators", _many_operators().SerializeToString())
    put("onnx/shapes", _shape_operators().SerializeToString())


def _many_operators() -> onnx.ModelProto:
    """No chain of layers: run operator by operator."""
    h = onnx.helper
    rng = np.random.default_rng(0)
    constants = {
        "w": rng.standard_normal((2, 1, 3, 3)).astype(np.float32),
        "g": rng.standard_normal((3, 8)).astype(np.float32),
        "b": np.zeros(3, np.float32),
        "s": np.array([0, -1], np.int64),
        "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
    }
    nodes = [
        h.make_node("Pad", ["x", "pads"], ["p"]),
        h.make_node("Conv", ["p", "w"], ["c"], kernel_shape=[3, 3], strides=[2, 2]),
        h.make_node("Sigmoid", ["c"], ["sig"]),
        h.make_node("Mul", ["c", "sig"], ["m"]),
        h.make_node("MaxPool", ["m"], ["q"], kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
        h.make_node("Reshape", ["q", "s"], ["f"]),
        h.make_node("Gemm", ["f", "g", "b"], ["y"], transB=1, alpha=0.5),
        h.make_node("Softmax", ["y"], ["out"], axis=1),
    ]
    return _model(nodes, constants)


def _shape_operators() -> onnx.ModelProto:
    h = onnx.helper
    constants = {
        "axes": np.array([2, 3], np.int64),
        "starts": np.array([1], np.int64),
        "ends": np.array([4], np.int64),
        "axis": np.array([1], np.int64),
        "twice": np.array([1, 2], np.int64),
    }
    nodes = [
        h.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 3, 1]),
        h.make_node("Slice", ["t", "starts", "ends", "axis"], ["u"]),
        h.make_node("Concat", ["u", "u"], ["v"], axis=1),
        h.make_node("ReduceMean", ["v"], ["r"], axes=[3], keepdims=0),
        h.make_node("Squeeze", ["r"], ["z"]) if False else h.make_node("Flatten", ["r"], ["z"], axis=1),
        h.make_node("Shape", ["z"], ["shape"]),
        h.make_node("ConstantOfShape", ["shape"], ["o"]),
        h.make_node("Add", ["z", "o"], ["a"]),
        h.make_node("LogSoftmax", ["a"], ["out"], axis=-1),
    ]
    return _model(nodes, {name: constants[name] for name in ("starts", "ends", "axis")})


def _model(nodes: list, constants: dict[str, np.ndarray]) -> onnx.ModelProto:
    h = onnx.helper
    x = h.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 1, 8, 8])
    y = h.make_tensor_value_info("out", onnx.TensorProto.FLOAT, None)
    tensors = [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()]
    graph = h.make_graph(nodes, "g", [x], [y], tensors)
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 13)], ir_version=8)


def trained() -> None:
    """Checkpoints of real runs, in the middle of an epoch and with a validation split."""
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for name in ("train", "t10k"):
            put_idx(place / f"{name}-images-idx3-ubyte", images())
            put_idx(place / f"{name}-labels-idx1-ubyte", labels())
        (place / "classes.txt").write_text("a\nb\nc\n", encoding="utf-8")
        network = place / "architecture.json"
        network.write_bytes((CORPUS / "architecture" / "plain").read_bytes())
        for name, more in (
            ("momentum", ["--optimizer", "momentum"]),
            ("adam", ["--optimizer", "adamw", "--validation-split", "0.25", "--average-decay", "0.9"]),
        ):
            flags = [
                "--train-data-dir",
                folder,
                "--model",
                str(network),
                "--batch-size",
                "4",
                "--nb-epochs",
                "2",
            ]
            run = place / name
            command_line()(
                ["train", *flags, *more, "--checkpoint-folder", str(run), "--workers", "1"],
                standalone_mode=False,
            )
            put(f"state/{name}", (run / "latest.json").read_bytes())


def put_idx(path: Path, values: np.ndarray) -> None:
    path.write_bytes(idx(values))


def pictures() -> None:
    canvas = np.full((40, 32), 250, np.uint8)
    canvas[8:32, 14:18] = 10
    grey = Image.fromarray(canvas)
    own = Image.fromarray(255 - np.asarray(grey.resize((28, 28))))
    colour = Image.merge("RGB", [grey, grey, Image.fromarray(255 - canvas)])
    alpha = colour.copy()
    alpha.putalpha(Image.fromarray(255 - canvas))
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(canvas.astype(np.uint16) * 257)
    for name, image, form, more in (
        ("grey.png", grey, "PNG", {}),
        ("own.png", own, "PNG", {}),
        ("alpha.png", alpha, "PNG", {}),
        ("palette.png", colour.quantize(8), "PNG", {"transparency": 0}),
        ("wide.png", wide, "PNG", {}),
        ("bits.png", grey.convert("1"), "PNG", {}),
        ("grey.jpg", grey, "JPEG", {}),
        ("rotated.jpg", colour, "JPEG", {"exif": exif}),
        ("progressive.jpg", colour, "JPEG", {"progressive": True}),
        ("grey.pgm", grey, "PPM", {}),
        ("bits.pbm", grey.convert("1"), "PPM", {}),
        ("colour.ppm", colour, "PPM", {}),
        ("colour.bmp", colour, "BMP", {}),
        ("palette.bmp", colour.quantize(8), "BMP", {}),
        ("moving.gif", colour.quantize(8), "GIF", {"save_all": True, "append_images": [grey.quantize(4)]}),
        ("colour.webp", colour, "WEBP", {}),
        ("alpha.webp", alpha, "WEBP", {"lossless": True}),
    ):
        stream = io.BytesIO()
        image.save(stream, form, **more)
        put(f"picture/{name}", stream.getvalue())
    put("picture/text.pgm", b"P2\n# drawn by hand\n4 4\n15\n" + b"0 0 15 0\n" * 4)
    put("picture/text.pbm", b"P1\n8 8\n" + b"0 0 0 1 1 0 0 0\n" * 8)
    put("picture/raw.bin", np.asarray(own).tobytes())


def settings() -> None:
    put("toml/plain", b'model = "lenet"\nlearning-rate = 0.05\nbatch-size = 64\nnb-epochs = 5\nseed = 3\n')
    put("toml/auto", b'model = "mlp"\nlearning-rate = "auto"\nbudget = "60s"\naugment = "affine"\n')
    for recipe in ("fast", "accurate", "best"):
        put(f"toml/{recipe}", (ROOT / "mnistnet" / "recipes" / f"{recipe}.toml").read_bytes())
    out = {
        "model": "rsnet",
        "optimizer": "adamw",
        "beta1": 0.9,
        "beta2": 0.99,
        "weight-decay": 0.01,
        "lr-schedule": "step",
        "lr-gamma": 0.1,
        "lr-steps": [0.5, 0.75],
        "warmup": 0.1,
        "validation-split": 0.1,
        "patience": 3,
        "limit": 1000,
        "members": 2,
        "label-smoothing": 0.1,
        "clip-norm": 1.0,
        "average-decay": 0.99,
        "train-data-dir": "data",
        "loss": "cross_entropy",
    }
    put("toml/many", "".join(f"{name} = {json.dumps(value)}\n" for name, value in out.items()).encode())


if __name__ == "__main__":
    main()
