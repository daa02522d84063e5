"""Every bad input for data and pictures: its message, its exit code, and nothing changed or left behind.

The numbers are the rows of the project's table of bad inputs. The command line runs in this process, on a
dataset of twelve training and six test images.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import struct
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistnet.cli import main
from mnistnet.data import write_idx
from mnistnet.formats.checkpoint import Checkpoint, save_checkpoint
from mnistnet.models import Classifier, build

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
    monkeypatch.setattr(sys, "argv", ["mnistnet", *words])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("mnistnet: ")
    assert said.err.count("\n") == 1
    assert tree(place) == before
    return f"{left.value.code}: {said.err}"


TRAIN = ("train", "--train-data-dir", "set", "--nb-epochs", "1", "--batch-size", "4")


@pytest.mark.parametrize("case", DATA, ids=lambda case: f"row{case.row}")
def test_data(case: Case, place: Path, capsys, monkeypatch) -> None:
    case.hurt(place / "set")
    said = refused(capsys, monkeypatch, place, *TRAIN, *(case.more or ("--model", "mlp")))
    assert said.startswith("3: ")
    assert case.says in said


def test_row_34_no_permission(place: Path, capsys, monkeypatch) -> None:
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
    (76, raw(783), "x.bin", 5, "x.bin: expected 784 bytes (28x28), found 783"),
    (78, bomb, "x", 5, "x: 9000x9000 pixels exceed the limit of 50000000 pixels: make it smaller"),
    (79, jpeg, "x", 5, "x: cannot decode the picture: "),
    (80, raw(784), "x.bin", 5, "x.bin: no digit found: the picture is blank"),
    (81, lambda place: None, "-", 5, "stdin: no data"),
    (82, overflowing, "x.bin", 4, "x.bin: non-finite prediction: the checkpoint's weights are not usable"),
]


@pytest.mark.parametrize(("row", "hurt", "name", "code", "says"), PICTURES, ids=lambda value: str(value)[:12])
def test_pictures(
    row: int, hurt: Hurt, name: str, code: int, says: str, place: Path, capsys, monkeypatch
) -> None:
    hurt(place)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
    with np.errstate(all="ignore"):
        said = refused(capsys, monkeypatch, place, "run", "model.json", name)
    assert said.startswith(f"{code}: mnistnet: {says}")
