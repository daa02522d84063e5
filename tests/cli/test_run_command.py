"""``mnistnet run`` through real processes, with the checkpoint and the samples that come along."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .conftest import ROOT, Mnistnet

LENET = ROOT / "ckpt" / "lenet.json"
SAMPLES = ROOT / "data" / "samples"
EXPORT_LOGITS = ("export", "--onnx-path", "m.onnx", "--checkpoint-path", "logits.json")


def photo_of(digit: int, seed: int) -> Image.Image:
    """A sample as a photo-like picture: dark on white, off-centre, 200 x 300, a little noise."""
    rng = np.random.default_rng(seed)
    pixels = np.fromfile(SAMPLES / f"{digit}.bin", np.uint8).reshape(28, 28)
    side = int(rng.integers(80, 150))
    ink = Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC)
    canvas = np.full((300, 200), 235.0)
    top, left = rng.integers(0, 300 - side), rng.integers(0, 200 - side)
    canvas[top : top + side, left : left + side] -= 200 / 255 * np.asarray(ink, np.float64)
    canvas += rng.normal(0, 3, canvas.shape)
    return Image.fromarray(canvas.clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("suffix", ["png", "bin"])
def test_every_sample_is_read_right(mnistnet: Mnistnet, suffix: str) -> None:
    paths = [SAMPLES / f"{digit}.{suffix}" for digit in range(10)]
    result = mnistnet("run", LENET, *paths, "--json")
    assert result.code == 0
    assert result.err == ""
    assert [line["prediction"] for line in result.json_lines] == [str(digit) for digit in range(10)]
    assert [line["image"] for line in result.json_lines] == [str(path) for path in paths]
    for line in result.json_lines:
        assert sum(line["probabilities"].values()) == pytest.approx(1, abs=1e-5)
        assert line["probability"] == max(line["probabilities"].values())
        assert line["notes"] == []


@pytest.mark.parametrize("kind", ["png", "jpeg", "pgm"])
def test_photo_like_pictures_are_read_right(mnistnet: Mnistnet, tmp_path: Path, kind: str) -> None:
    paths = []
    for digit in range(10):
        paths.append(tmp_path / f"photo {digit}.{kind}")
        photo_of(digit, digit).save(paths[-1])
    result = mnistnet("run", LENET, *paths, "--json")
    assert [line["prediction"] for line in result.json_lines] == [str(digit) for digit in range(10)]
    assert all("invert" in " ".join(line["notes"]) for line in result.json_lines)


def test_a_person_reads_a_prediction_and_a_table(mnistnet: Mnistnet) -> None:
    result = mnistnet("run", LENET, SAMPLES / "7.png")
    lines = result.out.splitlines()
    assert lines[0] == "Prediction: 7"
    assert len(lines) == 11
    shares = [float(line.split()[1]) for line in lines[1:]]
    assert sum(shares) == pytest.approx(100, abs=0.06)
    assert max(shares) == shares[7]
    assert lines[8].count("█") == round(shares[7] / 100 * 30)


def test_plain_characters_where_the_terminal_knows_no_others() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mnistnet", "run", str(LENET), str(SAMPLES / "7.png")],
        capture_output=True,
        env={"PATH": "", "PYTHONIOENCODING": "ascii"},
    )
    assert done.returncode == 0
    assert done.stdout.isascii()
    assert b"#####" in done.stdout


def test_a_folder_means_its_newest_checkpoint(mnistnet: Mnistnet, trained: Path) -> None:
    from_folder = mnistnet("run", trained, SAMPLES / "1.bin", "--json")
    from_file = mnistnet("run", trained / "checkpoint_3.json", SAMPLES / "1.bin", "--json")
    older = mnistnet("run", trained / "checkpoint_1.json", SAMPLES / "1.bin", "--json")
    assert from_folder.out == from_file.out
    assert from_folder.out != older.out
    assert mnistnet("run", trained.parent, SAMPLES / "1.bin", "--json").out == from_file.out


@pytest.mark.parametrize("suffix", ["png", "bin"])
def test_a_picture_from_standard_input(mnistnet: Mnistnet, suffix: str) -> None:
    result = mnistnet("run", LENET, "-", "--json", stdin=(SAMPLES / f"4.{suffix}").read_bytes())
    (line,) = result.json_lines
    assert (line["image"], line["prediction"]) == ("-", "4")


def test_a_digit_drawn_dark_on_light_at_its_own_size_is_inverted_and_said(
    mnistnet: Mnistnet, tmp_path: Path
) -> None:
    pixels = 255 - np.fromfile(SAMPLES / "5.bin", np.uint8).reshape(28, 28)
    Image.fromarray(pixels).save(tmp_path / "5.png")
    result = mnistnet("run", LENET, "5.png")
    assert "Prediction: 5" in result.out
    assert "invert" in result.out.splitlines()[0]


def test_the_readable_pictures_are_read_although_one_is_not(mnistnet: Mnistnet, tmp_path: Path) -> None:
    (tmp_path / "bad.bin").write_bytes(bytes(783))
    result = mnistnet("run", LENET, SAMPLES / "3.png", "bad.bin", SAMPLES / "8.png", "--json")
    assert [line["prediction"] for line in result.json_lines] == ["3", "8"]
    assert result.code == 5
    assert result.err == "mnistnet: bad.bin: expected 784 bytes (28x28), found 783\n"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("short.bin", bytes(783), "expected 784 bytes (28x28), found 783"),
        ("-", b"", "no data"),
        ("empty.png", b"", "no data"),
        ("text.png", b"hello", ""),
        ("missing.png", None, ""),
    ],
)
def test_a_bad_picture_is_one_line(
    mnistnet: Mnistnet, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    if content is not None and name != "-":
        (tmp_path / name).write_bytes(content)
    result = mnistnet("run", LENET, name, stdin=b"" if content is None else content)
    assert result.code == 5
    assert result.out == ""
    assert result.err.startswith(f"mnistnet: {'stdin' if name == '-' else name}: ")
    assert message in result.err
    assert result.err.count("\n") == 1


def test_a_blank_picture_is_no_digit(mnistnet: Mnistnet, tmp_path: Path) -> None:
    for name, size in (("own.png", (28, 28)), ("other.png", (200, 300))):
        Image.new("L", size, 250).save(tmp_path / name)
        result = mnistnet("run", LENET, name)
        assert result.code == 5
        assert "no digit found" in result.err


def test_a_bomb_is_refused_by_its_header(mnistnet: Mnistnet, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("1", (40_000, 40_000)).save(buffer, "png")
    (tmp_path / "bomb.png").write_bytes(buffer.getvalue())
    result = mnistnet("run", LENET, "bomb.png")
    assert result.code == 5
    assert "pixel" in result.err


def test_a_network_that_overflows_says_so(mnistnet: Mnistnet, tmp_path: Path, trained: Path) -> None:
    record = json.loads((trained / "latest.json").read_text())
    del record["checksum"]
    for layer in record["layers"]:
        if "weight" in layer:
            layer["weight"]["data"] = [3e38] * len(layer["weight"]["data"])
    (tmp_path / "huge.json").write_text(json.dumps(record))
    result = mnistnet("run", "huge.json", SAMPLES / "1.png")
    assert result.code == 4
    assert "non-finite prediction" in result.err
    assert result.err.count("\n") == 1


def test_a_network_that_gives_no_probabilities_is_refused(
    mnistnet: Mnistnet, tmp_path: Path, trained: Path
) -> None:
    record = json.loads((trained / "latest.json").read_text())
    del record["checksum"]
    record["layers"].pop()
    (tmp_path / "logits.json").write_text(json.dumps(record))
    message = "mnistnet: logits.json: the last layer should be softmax or sigmoid, found dense\n"
    for arguments in (("run", "logits.json", SAMPLES / "1.png"), EXPORT_LOGITS):
        result = mnistnet(*arguments)
        assert (result.code, result.out, result.err) == (4, "", message)


def test_no_checkpoint_is_said_with_its_path(mnistnet: Mnistnet, tmp_path: Path) -> None:
    assert mnistnet("run", "nowhere", SAMPLES / "1.png").err.startswith("mnistnet: nowhere: ")
    (tmp_path / "empty").mkdir()
    result = mnistnet("run", "empty", SAMPLES / "1.png")
    assert result.code == 4
    assert result.err.startswith("mnistnet: empty: ")


def test_paths_with_spaces_unicode_and_a_leading_dash(mnistnet: Mnistnet, tmp_path: Path) -> None:
    content = (SAMPLES / "2.png").read_bytes()
    for name in ("a b.png", "zwölf ½.png", "-x.png"):
        (tmp_path / name).write_bytes(content)
    result = mnistnet("run", "--json", LENET, "--", "a b.png", "zwölf ½.png", "-x.png")
    assert [line["prediction"] for line in result.json_lines] == ["2", "2", "2"]


def test_a_reader_that_stops_early_ends_it_quietly() -> None:
    arguments = [str(SAMPLES / "1.png")] * 300
    with subprocess.Popen(
        [sys.executable, "-m", "mnistnet", "run", str(LENET), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
