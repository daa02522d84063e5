"""The catalogue of bad inputs: of each row its message, its exit code, and what stays intact.

The numbers, `pytest.mark.catalogue`, are the rows of the project's table; ``pytest -m catalogue`` runs them.
Here the command line runs in this process, on a dataset of twelve training and six test images. What needs
a process of its own (signals, a second trainer, a closed pipe) is in the other modules of this folder, and
the last test here sees that no row is missing.
"""

from __future__ import annotations

import errno
import gzip
import importlib
import io
import json
import os
import pickle
import re
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from PIL import Image

from mnistnet.cli import main
from mnistnet.cli.recorder import Recorder
from mnistnet.data import write_idx
from mnistnet.formats.checkpoint import Checkpoint, save_checkpoint
from mnistnet.models import Classifier, build
from mnistnet.training.runs import RunFolder

from .conftest import Result

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
TEST_IMAGES, TEST_LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
Hurt = Callable[[Path], object]


def digits(count: int, side: int = 28) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, side, side), np.uint8)


def numbers(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint8) % 10


def header(*sizes: int, code: int = 8) -> bytes:
    return bytes([0, 0, code, len(sizes)]) + struct.pack(f">{len(sizes)}I", *sizes)


def write(name: str, content: bytes) -> Hurt:
    return lambda folder: (folder / name).write_bytes(content)


def idx(name: str, values: np.ndarray) -> Hurt:
    return lambda folder: write_idx(folder / name, values)


def squeezed(change: Callable[[bytes], bytes]) -> Hurt:
    """The training images gzipped, and then changed."""

    def hurt(folder: Path) -> None:
        raw = folder / IMAGES
        (folder / f"{IMAGES}.gz").write_bytes(change(gzip.compress(raw.read_bytes(), mtime=0)))
        raw.unlink()

    return hurt


def instead(name: str, content: str) -> Hurt:
    """Another form than IDX."""

    def hurt(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        (folder / name).write_text(content, encoding="utf-8")

    return hurt


def without(name: str) -> Hurt:
    return lambda folder: (folder / name).unlink()


def replaced_by_pipe(folder: Path) -> None:
    (folder / IMAGES).unlink()
    os.mkfifo(folder / IMAGES)


def all_32x32(folder: Path) -> None:
    write_idx(folder / IMAGES, digits(12, 32))
    write_idx(folder / TEST_IMAGES, digits(6, 32))


def flipped_crc(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


ROW = "1," + ",".join(["7"] * 784) + "\n"
BAD_CELL = "1,7,{}" + ",7" * 782 + "\n"
BOMB = gzip.compress(header(12, 28, 28) + bytes(30_000_000))


@dataclass(frozen=True)
class Case:
    row: int
    hurt: Hurt
    says: str
    more: tuple[str, ...] = ()


DATA = [
    Case(
        14, lambda folder: folder.rename(folder.with_name("gone")), "set: no such file or folder; train with"
    ),
    *(
        Case(15, without(name), f"{name}: no such file")
        for name in (IMAGES, LABELS, TEST_IMAGES, TEST_LABELS)
    ),
    Case(16, write(IMAGES, b""), f"{IMAGES}: header incomplete: needs at least 4 bytes, found 0 (empty)"),
    Case(
        16, write(IMAGES, header(12, 28, 28)[:15]), f"{IMAGES}: header incomplete: 3 dimensions need 16 bytes"
    ),
    Case(17, write(IMAGES, b"<!DOCTYPE html>"), f"{IMAGES}: not an IDX file: expected first bytes 00 00 08"),
    Case(17, write(IMAGES, b"\x89PNG\r\n\x1a\n"), "which looks like a PNG picture"),
    Case(18, idx(IMAGES, numbers(12)), f"{IMAGES}: expected 3 dimensions, found 1"),
    Case(
        19, idx(LABELS, numbers(12).astype(np.float32)), f"{LABELS}: expected unsigned bytes, found float32"
    ),
    Case(
        20, write(IMAGES, header(12, 28, 28) + bytes(99)), "12x28x28 uint8 needs 9408 bytes of data, found 99"
    ),
    Case(
        21, write(LABELS, header(12) + bytes(15)), f"{LABELS}: expected nothing after the data, found 3 extra"
    ),
    Case(
        22,
        write(IMAGES, header(2**32 - 1, 2**16, 2**16)),
        f"{IMAGES}: file too short: 4294967295x65536x65536",
    ),
    Case(23, write(IMAGES, header(0, 28, 28)), f"{IMAGES}: empty dataset"),
    Case(24, idx(LABELS, numbers(11)), f"{LABELS}: counts differ: expected one label for each of 12 images"),
    Case(25, idx(LABELS, np.full(12, 10, np.uint8)), f"{LABELS}: label 10 at index 0: expected 0 to 9"),
    Case(26, all_32x32, "the model expects 28x28 images, the data has 32x32", ("--model", "model.json")),
    Case(27, squeezed(lambda data: data[:-600]), f"{IMAGES}.gz: the gzip data ended early"),
    Case(28, squeezed(flipped_crc), f"{IMAGES}.gz: corrupt gzip data: its CRC is wrong"),
    Case(
        29, squeezed(lambda data: BOMB), f"{IMAGES}.gz: expands to more data: it exceeds what its header says"
    ),
    Case(30, squeezed(lambda data: data + b"junk"), "found trailing data after it (6A 75 6E 6B"),
    Case(
        31,
        squeezed(lambda data: b""),
        f"{IMAGES}.gz: header incomplete: needs at least 4 bytes, found 0 (empty)",
    ),
    Case(31, squeezed(lambda data: gzip.compress(b"")), f"{IMAGES}.gz: header incomplete"),
    Case(32, write(IMAGES, struct.pack("<4I", 0x803, 12, 28, 28) + bytes(9408)), "(byte order?)"),
    Case(36, instead("train.csv", ROW * 3 + ROW[2:]), "train.csv: line 4: 784 of 785 fields"),
    *(
        Case(
            37,
            instead("train.csv", ROW + BAD_CELL.format(cell)),
            f"line 2, column 3: expected a whole number of 0 to 255, found {cell!r}",
        )
        for cell in ("256", "-1", "abc", "nan")
    ),
    Case(38, instead("train.csv", ROW[2:] * 2), "train.csv: needs a label column"),
    Case(
        39, instead("metadata.json", '{"train": {"1": ["../x.png"]}}'), "path leaves the folder: '../x.png'"
    ),
    Case(
        40, instead("metadata.json", '{"train": {"0": ["x.png"]}}'), "train.0: labels start at 1, found '0'"
    ),
]
if hasattr(os, "mkfifo"):
    DATA.append(Case(33, replaced_by_pipe, f"{IMAGES}: not a regular file, but a named pipe"))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a sound dataset, an architecture file and a checkpoint."""
    (tmp_path / "set").mkdir()
    for name, values in (
        *((IMAGES, digits(12)), (LABELS, numbers(12))),
        *((TEST_IMAGES, digits(6)), (TEST_LABELS, numbers(6))),
    ):
        write_idx(tmp_path / "set" / name, values)
    network = build("mlp").initialize(0)
    checkpoint = tmp_path / "model.json"
    save_checkpoint(checkpoint, Checkpoint(Classifier(network, tuple("0123456789"), name="mlp"), {}))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tree(place: Path) -> dict[Path, bytes | None]:
    # not by Path.open, which a test may break
    return {path: np.fromfile(path, "u1").tobytes() if path.is_file() else None for path in place.rglob("*")}


def refused(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, place: Path, *words: str) -> str:
    """The exit code and the line on stderr of a command that is known to have changed nothing."""
    before = tree(place)
    said = told(capsys, monkeypatch, *words)
    assert said.out == ""
    assert said.err.startswith("mnistnet: ")
    assert said.err.count("\n") == 1
    assert tree(place) == before
    return f"{said.code}: {said.err}"


def told(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, *words: str) -> Result:
    """What a command prints, and its exit code."""
    monkeypatch.setattr(sys, "argv", ["mnistnet", *words])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    return Result(int(left.value.code or 0), said.out, said.err)


TRAIN = ("train", "--train-data-dir", "set", "--nb-epochs", "1", "--batch-size", "4")


def row(number: int, *values: object) -> Any:
    """The arguments of one test, marked with their row."""
    label = str(values[-1])[:30] if len(values) > 1 else number
    return pytest.param(
        *values,
        marks=pytest.mark.catalogue(number),
        id=f"row{number}-{label}",
    )


@pytest.mark.parametrize("case", [row(case.row, case) for case in DATA])
def test_data(case: Case, place: Path, capsys, monkeypatch) -> None:
    case.hurt(place / "set")
    said = refused(capsys, monkeypatch, place, *TRAIN, *(case.more or ("--model", "mlp")))
    assert said.startswith("3: ")
    assert case.says in said


@pytest.mark.catalogue(34)
def test_no_permission(place: Path, capsys, monkeypatch) -> None:
    opened = Path.open

    def refuse(self: Path, *arguments: object, **options: object) -> object:
        if self.name == LABELS:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", refuse)
        said = refused(capsys, patch, place, *TRAIN, "--model", "mlp")
    assert said == f"3: mnistnet: {Path('set') / LABELS}: permission denied\n"


# --- pictures ---------------------------------------------------------------------------------------------


def jpeg(place: Path) -> None:
    stream = io.BytesIO()
    Image.fromarray(digits(1, 90)[0]).save(stream, "JPEG")
    (place / "x").write_bytes(stream.getvalue()[:900])


def bomb(place: Path) -> None:
    chunk = b"IHDR" + struct.pack(">2I5B", 9_000, 9_000, 8, 0, 0, 0, 0)
    body = (
        struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + struct.pack(">I", 0) + b"IDAT"
    )
    (place / "x").write_bytes(b"\x89PNG\r\n\x1a\n" + body + bytes(4))


def raw(count: int) -> Hurt:
    return lambda place: (place / "x.bin").write_bytes(bytes(count))


def overflowing(place: Path) -> None:
    record = json.loads((place / "model.json").read_text(encoding="utf-8"))
    del record["checksum"]
    for layer in record["layers"]:
        if "weight" in layer:
            layer["weight"]["data"] = [3e38] * len(layer["weight"]["data"])
    (place / "model.json").write_text(json.dumps(record), encoding="utf-8")
    (place / "x.bin").write_bytes(digits(1)[0].tobytes())


PICTURES = [
    row(76, raw(783), "x.bin", 5, "x.bin: expected 784 bytes (28x28), found 783"),
    row(78, bomb, "x", 5, "x: 9000x9000 pixels exceed the limit of 50000000 pixels: make it smaller"),
    row(79, jpeg, "x", 5, "x: cannot decode the picture: "),
    row(80, raw(784), "x.bin", 5, "x.bin: no digit found: the picture is blank"),
    row(81, lambda place: None, "-", 5, "stdin: no data"),
    row(82, overflowing, "x.bin", 4, "x.bin: non-finite prediction: the checkpoint's weights are not usable"),
]


@pytest.mark.parametrize(("hurt", "name", "code", "says"), PICTURES)
def test_pictures(hurt: Hurt, name: str, code: int, says: str, place: Path, capsys, monkeypatch) -> None:
    hurt(place)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with np.errstate(all="ignore"):
        said = refused(capsys, monkeypatch, place, "run", "model.json", name)
    assert said.startswith(f"{code}: mnistnet: {says}")


@pytest.mark.catalogue(77)
@pytest.mark.parametrize("kind", ["alpha", "16 bits", "rotated", "palette"])
def test_pictures_of_every_kind_are_converted(kind: str, place: Path, capsys, monkeypatch) -> None:
    canvas = np.full((60, 40), 250, np.uint8)
    canvas[10:50, 18:24] = 10
    grey = Image.fromarray(canvas)
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = grey.convert("RGB")
    clear.putalpha(Image.fromarray(255 - canvas))
    pictures = {
        "alpha": (clear, "PNG", {}, "transparent parts filled with white"),
        "16 bits": (Image.fromarray(canvas.astype(np.uint16) * 257), "PNG", {}, "inverted"),
        "rotated": (grey.rotate(90, expand=True), "JPEG", {"exif": exif}, "rotated as its EXIF data says"),
        "palette": (grey.convert("RGB").quantize(4), "PNG", {}, "inverted"),
    }
    picture, form, more, note = pictures[kind]
    picture.save(place / "x", form, **more)
    grey.save(place / "plain.png")
    one, other = (
        told(capsys, monkeypatch, "run", "model.json", name, "--json") for name in ("x", "plain.png")
    )
    assert (one.code, one.err) == (0, "")
    (found,), (expected,) = one.json_lines, other.json_lines
    assert any(note in said for said in found["notes"])
    assert found["prediction"] == expected["prediction"]


# --- training ---------------------------------------------------------------------------------------------

RUN = (*TRAIN, "--model", "mlp", "--workers", "1", "--checkpoint-folder", "run")


@pytest.mark.catalogue(9)
def test_a_read_only_folder(place: Path, capsys, monkeypatch) -> None:
    (place / "run").mkdir()
    opened = os.open

    def refuse(path: str | Path, flags: int, *arguments: object, **options: object) -> int:
        if Path(path).parent.name == "run" and flags & os.O_CREAT:
            raise OSError(errno.EROFS, "Read-only file system", str(path))
        return opened(path, flags, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        said = refused(capsys, patch, place, *RUN)
    assert said == f"8: mnistnet: {place / 'run'}: read-only file system: choose another folder\n"


@pytest.mark.catalogue(35)
def test_data_of_mnists_size_that_are_not_mnist(place: Path, capsys, monkeypatch) -> None:
    write_idx(place / "set" / TEST_LABELS, np.zeros(10_000, np.uint8))
    write_idx(place / "set" / TEST_IMAGES, np.zeros((10_000, 28, 28), np.uint8))
    said = told(capsys, monkeypatch, *RUN, "--nb-epochs", "0")
    assert said.code == 0
    assert [line.split(": ")[1] for line in said.err.splitlines()] == [
        str(Path("set") / name) for name in (TEST_IMAGES, TEST_LABELS)
    ]
    assert "has the size of MNIST's file, but not the checksum" in said.err


@pytest.fixture
def run(place: Path, capsys, monkeypatch) -> Path:
    """A run of two epochs."""
    assert told(capsys, monkeypatch, *RUN, "--nb-epochs", "2").code == 0
    return place / "run"


def kept(run: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in run.iterdir()}


GO_ON = ("train", "--resume", "run", "--workers", "1", "--nb-epochs", "4")


@pytest.mark.catalogue(41)
def test_divergence_leaves_what_there_was(run: Path, capsys, monkeypatch) -> None:
    before = kept(run)
    said = told(capsys, monkeypatch, *GO_ON, "--learning-rate", "1e30")
    assert said.code == 9
    assert said.err.count("\n") == 1
    assert re.match(r"mnistnet: training diverged at step \d of epoch 3: the loss is ", said.err)
    assert "layer" in said.err
    assert "try a lower --learning-rate than 1e+30" in said.err
    after = kept(run)
    assert {name for name, data in before.items() if after.get(name) != data} <= {"run.toml"}
    assert set(after) - set(before) == {"diverged.npz"}


def failing(call: str, number: int, part: str) -> Callable[..., object]:
    """A call of the system that fails for files with ``part`` in their path."""
    real = getattr(os, call)

    def fail(file: int | Path, *arguments: Any) -> object:
        path = Path(f"/proc/self/fd/{file}").readlink() if isinstance(file, int) else file
        if part in str(path):
            raise OSError(number, os.strerror(number))
        return real(file, *arguments)

    return fail


linux = pytest.mark.skipif(sys.platform != "linux", reason="finds a descriptor's path in /proc")


@linux
@pytest.mark.parametrize(
    ("call", "number", "reason"),
    [
        row(42, "open", errno.ENOSPC, "no space"),
        row(46, "fsync", errno.EIO, "input/output error"),
    ],
)
def test_a_checkpoint_that_cannot_be_written(
    call: str, number: int, reason: str, run: Path, capsys, monkeypatch
) -> None:
    before = kept(run)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(call, number, "checkpoint_3.json"))
        said = told(capsys, patch, *GO_ON)
    assert said.code == 8
    assert said.err.startswith(f"mnistnet: {run / 'checkpoint_3.json'}: ")
    assert reason in said.err
    assert said.err.count("\n") == 1
    after = kept(run)
    assert set(after) == set(before)
    assert all(after[name] == before[name] for name in before if name not in ("loss.csv", "run.toml"))
    assert after["loss.csv"].startswith(before["loss.csv"])
    assert told(capsys, monkeypatch, *GO_ON).code == 0


@pytest.mark.catalogue(43)
@pytest.mark.skipif(sys.platform != "linux", reason="needs /dev/full")
def test_a_csv_that_cannot_be_written(run: Path, capsys, monkeypatch) -> None:
    """``/dev/full`` takes no byte."""
    before = kept(run)
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "_cut_csv", lambda self, epoch: True)
        (run / "loss.csv").rename(run.parent / "rows.csv")
        (run / "loss.csv").symlink_to("/dev/full")
        patch.setattr("mnistnet.training.runs.check_target", lambda path: None)
        said = told(capsys, patch, *GO_ON)
    assert said.code == 8
    assert said.err == (
        f"mnistnet: {run / 'loss.csv'}: no space left on the device: free some and save again; "
        "its lines so far are kept\n"
    )
    (run / "loss.csv").unlink()
    (run.parent / "rows.csv").rename(run / "loss.csv")
    after = kept(run)
    assert all(after[name] == before[name] for name in before if name != "run.toml")


@pytest.mark.catalogue(44)
def test_what_a_killed_process_left_is_removed(run: Path, capsys, monkeypatch) -> None:
    left = run / ".latest.json.999999999-0.mnistnet-tmp"
    left.write_bytes(b"half")
    assert told(capsys, monkeypatch, *GO_ON).code == 0
    assert not left.exists()
    assert (run / "checkpoint_4.json").read_bytes() == (run / "latest.json").read_bytes()


@pytest.mark.catalogue(47)
@pytest.mark.parametrize("error", [MemoryError(), OSError(errno.ENOMEM, "Cannot allocate memory")])
def test_out_of_memory(run: Path, error: Exception, capsys, monkeypatch) -> None:
    before = kept(run)

    def fail(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("mnistnet.training.trainer.Minibatches", fail)
        said = told(capsys, patch, *GO_ON)
    assert (said.code, said.err) == (1, "mnistnet: out of memory; lower --batch-size, or use --limit\n")
    assert kept(run) == before


@pytest.mark.catalogue(48)
def test_a_folder_that_goes_away(place: Path, capsys, monkeypatch) -> None:
    real = Recorder.epoch

    def vanish(self: Recorder, result: Any, *, save: bool) -> Any:
        if result.epoch == 2:
            shutil.rmtree(self.run.folder)
        return real(self, result, save=save)

    monkeypatch.setattr(Recorder, "epoch", vanish)
    said = told(capsys, monkeypatch, *RUN, "--nb-epochs", "3", "--loss-csv-path", "rows.csv")
    assert said.code == 8
    assert said.err.startswith(f"mnistnet: {place / 'run' / 'checkpoint_2.json'}: ")
    assert said.err.count("\n") == 1
    assert len((place / "rows.csv").read_text().splitlines()) == 3


# --- checkpoints ------------------------------------------------------------------------------------------


def edited(change: Callable[[dict[str, Any]], object]) -> Hurt:
    """The sound checkpoint with a change made by hand."""

    def hurt(place: Path) -> None:
        record = json.loads((place / "model.json").read_text(encoding="utf-8"))
        del record["checksum"]
        change(record)
        (place / "bad.json").write_text(json.dumps(record), encoding="utf-8")

    return hurt


def bad(content: bytes) -> Hurt:
    return lambda place: (place / "bad.json").write_bytes(content)


def bytes_of(change: Callable[[bytes], bytes]) -> Hurt:
    return lambda place: (place / "bad.json").write_bytes(change((place / "model.json").read_bytes()))


def put(*path: Any) -> Hurt:
    """The last of these at the place that the others name."""
    *place, name, value = path

    def change(record: Any) -> None:
        for step in place:
            record = record[step]
        if value is ...:
            del record[name]
        else:
            record[name] = value

    return edited(change)


def sparse(place: Path) -> None:
    with (place / "bad.json").open("wb") as file:
        file.truncate(2**20 * 256 + 1)


class Bomb:
    """Unpickled, it ends the test."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return pytest.fail, ("unpickled",)


def npz_bytes() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, weight=np.zeros(3))
    return stream.getvalue()


WEIGHT = ("layers", 1, "weight")
CHECKPOINTS = [
    row(49, lambda place: None, "bad.json: no such file or folder: expected a checkpoint; train one first"),
    row(49, lambda place: (place / "bad.json").mkdir(), "bad.json: no checkpoint in this folder"),
    row(50, bad(b""), "bad.json: empty file: expected JSON"),
    row(51, bytes_of(lambda data: data[:300]), "bad.json: line 11, column 4: not complete, correct JSON"),
    row(52, bytes_of(lambda data: b"\xef\xbb\xbf" + data), "begins with a byte-order mark"),
    row(52, bytes_of(lambda data: data.decode().encode("utf-16")), "looks like UTF-16 or binary data"),
    row(52, bad(bytes(range(128, 256))), "bad.json: not UTF-8 JSON"),
    row(53, bad(pickle.dumps(Bomb())), "found a Python pickle (never unpickled or unpacked)"),
    row(53, bad(npz_bytes()), "found a zip archive (.pt, .npz, .keras)"),
    row(53, bad(b"\x89HDF\r\n\x1a\n" + bytes(9)), "found an HDF5 file"),
    row(54, sparse, "more than the limit of 268435456 bytes: raise it with --size-limit"),
    row(55, bad(b"[" * 100_000), "bad.json: nested too deeply: expected at most 64 levels"),
    row(56, bad(b'{"version": ' + b"1" * 5000 + b"}"), "number too long: 5000 digits, expected at most 300"),
    row(57, put(*WEIGHT, "data", 5, float("nan")), "layers[1].weight.data[5]: non-finite"),
    row(57, put(*WEIGHT, "data", 5, float("inf")), "layers[1].weight.data[5]: non-finite"),
    row(
        58,
        put(*WEIGHT, "data", 5, None),
        "layers[1].weight.data[5]: non-finite: expected a number, found null",
    ),
    row(59, put(*WEIGHT, "data", 5, 1e39), "layers[1].weight.data[5]: exceeds float32"),
    row(60, bytes_of(lambda data: data.replace(b"{", b'{"format": "x",', 1)), 'duplicate key "format"'),
    row(
        61,
        put("layers", 2, "kind", "rely"),
        'layers[2].kind: unknown layer "rely": expected one of avg_',
    ),
    row(62, put("version", 2), "version: 2 needs a newer mnistnet; this one reads up to 1"),
    row(63, put("input", "height", ...), "bad.json: input.height: missing"),
    row(64, put("layers", 3, "bias", "dim", [4]), "layers[3].bias: dim [4] and data disagree: 4 against 10"),
    row(65, put("layers", 3, "bias", "dim", [-1]), "layers[3].bias.dim[0]: bad dimension -1"),
    row(65, put("layers", 3, "bias", "dim", [1.5]), "layers[3].bias.dim[0]: bad dimension 1.5"),
    row(65, put("layers", 3, "bias", "dim", [True]), "layers[3].bias.dim[0]: bad dimension true"),
    row(
        66,
        put("layers", 1, "out_features", 64),
        "layer 1 (dense): weight should be (64, 784), found (128",
    ),
    row(67, put("input", "height", 30), "layer 1 (dense): weight should be (128, 840), found (128, 784)"),
    row(
        68,
        bytes_of(lambda data: data.replace(b'"mlp"', b'"mlq"')),
        "checksum: corrupt: the bytes do not match",
    ),
    row(69, put(*WEIGHT, "data", 5, "0.5"), 'layers[1].weight.data[5]: not a number: found "0.5"'),
    row(70, put("layers", []), "layers: empty network: expected at least one layer"),
]


@pytest.mark.parametrize(("hurt", "says"), CHECKPOINTS)
def test_checkpoints(hurt: Hurt, says: str, place: Path, capsys, monkeypatch) -> None:
    (place / "x.bin").write_bytes(digits(1)[0].tobytes())
    hurt(place)
    said = refused(capsys, monkeypatch, place, "run", "bad.json", "x.bin")
    assert said.startswith("4: mnistnet: bad.json: ")
    assert says in said


# --- going on ---------------------------------------------------------------------------------------------


@pytest.mark.catalogue(71)
def test_going_on_with_other_data(run: Path, place: Path, capsys, monkeypatch) -> None:
    write_idx(place / "set" / LABELS, numbers(12)[::-1])
    said = refused(capsys, monkeypatch, place, *GO_ON)
    assert said.startswith("3: mnistnet: --resume: the run's data were others: expected data sha256:")


@pytest.mark.catalogue(71)
def test_going_on_with_another_network(run: Path, place: Path, capsys, monkeypatch) -> None:
    said = refused(capsys, monkeypatch, place, *GO_ON, "--model", "lenet")
    assert said == (
        "2: mnistnet: --model: cannot change on --resume: the run has mlp, found lenet; start a new run\n"
    )


@pytest.mark.catalogue(72)
def test_going_on_with_an_rsnet_file(place: Path, capsys, monkeypatch) -> None:
    models = Path(__file__).parents[1] / "formats" / "models"
    shutil.copy(models / "rsnet_checkpoint_example.json", place / "rsnet.json")
    said = refused(capsys, monkeypatch, place, "train", "--resume", "rsnet.json")
    assert said.startswith("4: mnistnet: rsnet.json: has weights only, and no training to go on with")
    assert "--start-from rsnet.json" in said


@pytest.mark.catalogue(73)
def test_going_on_with_a_finished_run(run: Path, capsys, monkeypatch) -> None:
    before = kept(run)
    said = told(capsys, monkeypatch, "train", "--resume", "run", "--workers", "1")
    assert said.code == 2
    assert said.err == "mnistnet: --resume: nothing to do: its 2 epochs are over; raise --nb-epochs\n"
    assert kept(run) == before


@pytest.mark.catalogue(74, 75)
def test_going_on_from_the_checkpoint_before(run: Path, capsys, monkeypatch) -> None:
    before = kept(run)
    for name in ("latest.json", "checkpoint_2.json"):
        (run / name).write_bytes(before[name][:-100])
    with (run / "loss.csv").open("a") as file:
        file.write("3,0.1,0.")  # ahead of the checkpoint, and half a line
    said = told(capsys, monkeypatch, "train", "--resume", "run", "--workers", "1", "--overwrite")
    assert said.code == 0
    assert said.err.count("going on with the one before") == 2
    after = kept(run)
    assert {name: data for name, data in after.items() if name != "loss.csv"} == {
        name: data for name, data in before.items() if name != "loss.csv"
    }
    assert [line.split(b",")[:5] for line in after["loss.csv"].splitlines()] == [
        line.split(b",")[:5] for line in before["loss.csv"].splitlines()
    ]


# --- out and in -------------------------------------------------------------------------------------------

EXPORT = ("export", "--onnx-path", "m.onnx", "--checkpoint-path")


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        row(
            83, ("export", "--onnx-path", "set", "--checkpoint-path", "model.json"), 8, "set: is a directory"
        ),
        row(
            83,
            ("export", "--onnx-path", "model.json", "--checkpoint-path", "model.json"),
            2,
            "--onnx-path: model.json is the checkpoint itself",
        ),
        row(84, (*EXPORT, "model.json", "--opset", "6"), 2, "--opset: expected 12 to 21, found 6"),
        row(84, (*EXPORT, "model.json", "--opset", "99"), 2, "--opset: expected 12 to 21, found 99"),
        row(85, (*EXPORT, "odd.json"), 4, "layer 1 (dense): weight should be (128, 840), found (128, 784)"),
        row(86, (*EXPORT, "nan.json"), 4, "nan.json: layers[1].weight.data[5]: non-finite"),
    ],
)
def test_export(words: tuple[str, ...], code: int, says: str, place: Path, capsys, monkeypatch) -> None:
    for name, hurt in (("odd", put("input", "height", 30)), ("nan", put(*WEIGHT, "data", 5, float("nan")))):
        hurt(place)
        (place / "bad.json").rename(place / f"{name}.json")
    said = refused(capsys, monkeypatch, place, *words)
    assert said.startswith(f"{code}: ")
    assert says in said


@pytest.mark.catalogue(87)
def test_a_model_that_fails_its_proof_is_not_written(place: Path, capsys, monkeypatch) -> None:
    monkeypatch.setattr("mnistnet.formats.onnx_export.run_reference", lambda model, x: np.zeros((len(x), 10)))
    said = refused(capsys, monkeypatch, place, *EXPORT, "model.json")
    assert said.startswith("7: mnistnet: m.onnx: the self-check failed: ")
    assert "nothing was written" in said


def graph(*nodes: onnx.NodeProto, outside: bool = False) -> Hurt:
    """An ONNX model that adds ``c``, or does what the nodes say."""

    def hurt(place: Path) -> None:
        x, y = (
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["N", 1, 4, 4]) for name in ("x", "y")
        )
        c = onnx.numpy_helper.from_array(np.zeros(4, np.float32), "c")
        if outside:
            c.ClearField("raw_data")
            c.data_location = onnx.TensorProto.EXTERNAL
            c.external_data.add(key="location", value="../secret.bin")
            (place.parent / "secret.bin").write_bytes(bytes(16))
        made = helper.make_graph(nodes or [helper.make_node("Add", ["x", "c"], ["y"])], "g", [x], [y], [c])
        (place / "m.onnx").write_bytes(helper.make_model(made).SerializeToString())

    return hurt


@pytest.mark.parametrize("command", ["import", "run", "verify", "evaluate"])
@pytest.mark.parametrize(
    ("hurt", "says"),
    [
        row(88, graph(outside=True), "initializer 'c': external data refused: only what is in the file"),
        row(89, lambda place: (place / "m.onnx").write_bytes(b""), "empty file: expected an ONNX model"),
        row(
            89,
            lambda place: (place / "m.onnx").write_bytes(onnx.ModelProto(ir_version=8).SerializeToString()),
            "no graph: expected an ONNX model with nodes and outputs",
        ),
        row(
            90,
            graph(helper.make_node("Einsum", ["x"], ["y"], name="odd")),
            "node 'odd': operator Einsum is not supported; those that are: Abs, ",
        ),
    ],
)
def test_import(command: str, hurt: Hurt, says: str, place: Path, capsys, monkeypatch) -> None:
    hurt(place)
    (place / "x.bin").write_bytes(bytes(16))
    more = {
        "import": ("--checkpoint-path", "out.json"),
        "run": ("x.bin",),
        "evaluate": ("--data-dir", "set"),
    }
    said = refused(capsys, monkeypatch, place, command, "m.onnx", *more.get(command, ()))
    assert said.startswith("4: mnistnet: m.onnx: ")
    assert says in said


# --- everywhere -------------------------------------------------------------------------------------------


@pytest.mark.catalogue(93)
def test_plain_text_without_a_terminal(place: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "40")
    (place / "x.bin").write_bytes(digits(1)[0].tobytes())
    for words in (("train", "--help"), ("run", "model.json", "x.bin"), RUN, ("info", "model.json")):
        said = told(capsys, monkeypatch, *words)
        assert said.code == 0
        assert "\x1b" not in said.out + said.err
        assert "\r" not in said.out
        assert said.out.strip()
    assert max(map(len, told(capsys, monkeypatch, "train", "--help").out.splitlines())) <= 40


ROWS = range(1, 94)


def rows_tested() -> set[int]:
    """The rows that the tests of this folder are marked with."""
    found: set[int] = set()
    for path in Path(__file__).parent.glob("test_*.py"):
        module = importlib.import_module(f".{path.stem}", __package__)
        for function in vars(module).values():
            for mark in getattr(function, "pytestmark", ()):
                params = mark.args[1] if mark.name == "parametrize" else ()
                marks = [mark, *(each for param in params for each in getattr(param, "marks", ()))]
                found |= {number for each in marks if each.name == "catalogue" for number in each.args}
    return found


def test_every_row_is_tested() -> None:
    assert rows_tested() == set(ROWS)
