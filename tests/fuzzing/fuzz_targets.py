"""What the fuzzer attacks: for every format the way from a file to its use, as the command line goes it."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import islice
from math import prod
from pathlib import Path
from typing import Any

import fuzz_mutations as mutations
import numpy as np
from fuzz_mutations import Mutation
from PIL import Image
from typer.main import get_command

from mnistnet.cli.app import command_line
from mnistnet.cli.model_file import read_model
from mnistnet.cli.resume import find_resumed
from mnistnet.data.dataset import Dataset
from mnistnet.data.idx import read_idx, write_idx
from mnistnet.data.pictures import read_digits, read_picture
from mnistnet.data.pictures.decode import FORMATS, MAX_PIXELS, image_pixels
from mnistnet.data.sources import load_data
from mnistnet.engine.network import Network
from mnistnet.errors import MnistnetError
from mnistnet.formats.checkpoint import load_architecture
from mnistnet.formats.foreign import Predictor
from mnistnet.formats.onnx_import import load_onnx
from mnistnet.formats.onnx_verify import verify_onnx
from mnistnet.reports.curves import read_curve
from mnistnet.training.runs import RunFolder
from mnistnet.training.trainer import Trainer

CORPUS = Path(__file__).parents[1] / "corpus"
"""For every format small files to begin with, and every input that once broke something."""

MIB = 2**20
SMALL = 2**18
"""Numbers of a network, its values for one picture among them, up to which it is run."""

Step = Callable[[Path], object]


@dataclass(frozen=True)
class Target:
    """A format and what is done with a file of it."""

    file: str
    """The file's name, in a folder of its own."""
    steps: tuple[Step, ...]
    """Each takes the file; each may refuse it with a MnistnetError."""
    mutations: tuple[Mutation, ...]
    beside: Callable[[Path], object] = lambda folder: None
    """Puts other files, sound ones, into the folder."""
    warranted: Callable[[bytes], int] = lambda data: 64 * MIB + 100 * len(data)
    """The bytes of memory that reading and using a file may take, by its size and what it states."""


# data ------------------------------------------------------------------------------------------------------


def _four_idx_files(folder: Path) -> None:
    images = np.arange(12 * 64, dtype=np.uint8).reshape(12, 8, 8)
    labels = np.arange(12, dtype=np.uint8) % 3
    for name, values in (
        *(("train-labels-idx1-ubyte", labels), ("t10k-images-idx3-ubyte", images)),
        ("t10k-labels-idx1-ubyte", labels),
    ):
        write_idx(folder / name, values)


def _read_idx(path: Path) -> None:
    values = read_idx(path)
    assert values.size > 0
    assert values.flags.c_contiguous
    assert values.flags.writeable


def _load_data(source: Path) -> None:
    splits = load_data(source)
    for part in (splits.train, splits.test):
        assert part.images.shape == (len(part.labels), *part.shape)
        assert 0 <= part.labels.min() <= part.labels.max() < len(part.class_names)


def _load_folder(path: Path) -> None:
    _load_data(path.parent)


def _as_csv(path: Path) -> None:
    copy = path.with_name("both.csv.gz")
    shutil.copyfile(path, copy)
    try:
        _load_data(copy)
    finally:
        copy.unlink()


def _three_pictures(folder: Path) -> None:
    for index, name in enumerate(("a.png", "b.png", "c.png")):
        Image.fromarray(np.full((8, 8), 80 * index, np.uint8)).save(folder / name)


# models ----------------------------------------------------------------------------------------------------


def _predict(predictor: Predictor) -> None:
    """What ``mnistnet run`` does: the prediction may be non-finite, which it looks for and refuses."""
    c, h, w = predictor.input_shape
    picture = np.arange(c * h * w, dtype=np.int64).astype(np.uint8).reshape(1, c, h, w)
    probabilities = predictor.probabilities(picture)
    assert probabilities.shape == (1, len(predictor.class_names))


def _is_small(network: Network) -> bool:
    return network.size + sum(map(prod, network.shapes)) <= SMALL


def _run_model(path: Path) -> None:
    predictor = read_model(path, 16).predictor
    network = getattr(predictor, "network", None)
    if network is None or _is_small(network):
        _predict(predictor)


def _resume(path: Path) -> None:
    """As ``mnistnet train --resume``, for two steps."""
    resumed = find_resumed(path)
    classifier = resumed.checkpoint.classifier
    config = resumed.settings.config(1)
    trainer = Trainer(classifier, config, resumed.state)
    classes = len(classifier.class_names)
    network = classifier.network
    if (
        not _is_small(network)
        or not 1 <= config.batch_size <= 24
        or network.layers[-1].kind not in ("softmax", "sigmoid")
    ):
        return
    shape = network.input_shape
    images = np.random.default_rng(0).integers(0, 256, (24, *shape)).astype(np.uint8)
    data = Dataset(images, np.arange(24) % classes, classifier.class_names)
    with contextlib.closing(trainer.run(data, None)) as results:
        for _ in islice(results, 2):
            trainer.state()
    assert (trainer.best_model is None) == (trainer.best is None)


def _build(path: Path) -> None:
    found = load_architecture(path)
    if sum(prod(s) for layer, s in _shapes(found.layers, found.input_shape)) > SMALL:
        return
    network = Network(found.layers, found.input_shape)
    if _is_small(network):
        c, h, w = network.input_shape
        network.initialize(0).predict(np.full((1, c, h, w), 7, np.uint8), pixels=found.pixels)


def _shapes(layers, shape):
    for layer in layers:
        yield from ((layer, s) for s in layer.parameter_shapes(shape).values())
        shape = layer.output_shape(shape)
        yield layer, shape


def _run_onnx(path: Path) -> None:
    found = load_onnx(path)
    _predict(found.predictor)


# settings --------------------------------------------------------------------------------------------------


def _print_config(path: Path) -> None:
    """``mnistnet train --config run.toml --print-config``; what it prints is read again."""
    said = _train(["--config", str(path), "--print-config"])
    again = path.with_name("again.toml")
    again.write_text(said, encoding="utf-8")
    assert _train(["--config", str(again), "--print-config"]) == said


@cache
def _command() -> Any:
    return get_command(command_line())


def _train(arguments: list[str]) -> str:
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            _command()(["train", *arguments], standalone_mode=False)
        except Exception as error:
            if hasattr(error, "format_message"):  # a wrong flag, as Typer's parser found it
                raise MnistnetError(error.format_message()) from error
            raise
    return out.getvalue()


def _cut_csv(path: Path) -> None:
    """The CSV of a run that goes on after two epochs, and the report's look at it."""
    with RunFolder(path.parent, resume_after=2):
        pass
    if path.exists():
        read_curve(path)


# pictures --------------------------------------------------------------------------------------------------


def _read_digits(path: Path) -> None:
    for picture in read_digits(path, (1, 28, 28), name="picture"):
        assert picture.pixels.shape == (1, 28, 28)
        assert picture.pixels.dtype == np.uint8


def _read_coloured(path: Path) -> None:
    # every second file: it decodes once more
    if path.stat().st_size % 2:
        assert read_picture(path, (3, 32, 32), name="picture").pixels.shape == (3, 32, 32)


def _read_for_dataset(path: Path) -> None:
    if not path.stat().st_size % 2:
        image_pixels(path.read_bytes())


def _stated_pixels(data: bytes) -> int:
    """64 MiB, and 40 bytes for each pixel that a header states, where that is within the limit."""
    try:
        w, h = Image.open(io.BytesIO(data), formats=FORMATS).size
    except Exception:
        return 64 * MIB
    return 64 * MIB + (40 * w * h if w * h <= MAX_PIXELS else 0)


BYTES = mutations.by_bytes
TREE = mutations.json_tree
TARGETS = {
    "idx": Target(
        "train-images-idx3-ubyte", (_read_idx, _load_folder), (BYTES, mutations.idx_header), _four_idx_files
    ),
    "gzip": Target(
        "train-images-idx3-ubyte.gz",
        (_read_idx, _as_csv),
        (
            BYTES,
            mutations.compressed_after(BYTES),
            mutations.compressed_after(mutations.idx_header),
            mutations.compressed_after(mutations.csv_cells),
        ),
    ),
    "csv": Target("train.csv", (_load_data,), (BYTES, mutations.csv_cells)),
    "npz": Target("data.npz", (_load_data,), (BYTES, mutations.npz_members, mutations.npz_members)),
    "metadata": Target("metadata.json", (_load_folder,), (BYTES, TREE, TREE), _three_pictures),
    "checkpoint": Target("model.json", (_run_model,), (BYTES, TREE, TREE, TREE)),
    "state": Target("latest.json", (_resume,), (BYTES, TREE, TREE, TREE)),
    "architecture": Target("architecture.json", (_build,), (BYTES, TREE, TREE)),
    "rsnet": Target("rsnet.json", (_run_model,), (BYTES, TREE, TREE)),
    "onnx": Target(
        "model.onnx",
        (_run_onnx,),
        (BYTES, mutations.onnx_fields, mutations.onnx_fields, mutations.onnx_fields),
        warranted=lambda data: 256 * MIB + 100 * len(data),
    ),
    "verify": Target(
        "model.onnx",
        (verify_onnx,),
        (BYTES, mutations.onnx_fields, mutations.onnx_fields),
        warranted=lambda data: 256 * MIB + 100 * len(data),
    ),
    "picture": Target(
        "picture",
        (_read_digits, _read_coloured, _read_for_dataset),
        (BYTES, mutations.png_chunks, mutations.jpeg_segments),
        warranted=_stated_pixels,
    ),
    "toml": Target("run.toml", (_print_config,), (BYTES, mutations.toml_lines, mutations.toml_lines)),
    "loss": Target("loss.csv", (_cut_csv,), (BYTES, mutations.csv_cells)),
}
"""Every format by its name."""


@cache
def corpus(name: str) -> tuple[bytes, ...]:
    """The files that a format's inputs are made from."""
    return tuple(path.read_bytes() for path in sorted((CORPUS / name).iterdir()))


def make_folder(parent: Path, name: str) -> Path:
    """A folder with what a format's file needs beside it."""
    folder = parent / f"{name}-{os.getpid()}"
    folder.mkdir()
    TARGETS[name].beside(folder)
    return folder
