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
        assert (line["notes"], line["marks"], line["digits"]) == ([], [], 1)


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
    assert [line["prediction"] for line in result.json_lines] == ["3", None, "8"]
    assert result.json_lines[1]["error"] == "bad.bin: expected 784 bytes (28x28), found 783"
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
        marked = mnistnet("run", LENET, name, "--json")
        assert (marked.code, marked.err) == (5, result.err)
        (line,) = marked.json_lines
        assert (line["prediction"], line["marks"]) == (None, ["blank"])


def number(path: Path, digits: str) -> None:
    """Samples side by side, dark on light, in another size than theirs."""
    ink = np.concatenate(
        [np.fromfile(SAMPLES / f"{d}.bin", np.uint8).reshape(28, 28) for d in digits], axis=1
    )
    picture = Image.fromarray(235 - (np.pad(ink, 8) * 0.8).astype(np.uint8))
    picture.resize((picture.width * 3, picture.height * 3), Image.Resampling.BICUBIC).save(path)


def test_several_digits_are_said_marked_and_split(mnistnet: Mnistnet, tmp_path: Path) -> None:
    number(tmp_path / "year.png", "1984")
    one = mnistnet("run", LENET, "year.png")
    assert "(4 digits side by side, read as one: --split reads each)" in one.out
    assert "several digits" in mnistnet("run", LENET, "year.png", "--json").json_lines[0]["marks"]
    assert mnistnet("run", LENET, "year.png", "--split").out.startswith("Predictions: 1 9 8 4\n  1  ")
    lines = mnistnet("run", LENET, "year.png", "--split", "--json").json_lines
    assert [line["prediction"] for line in lines] == list("1984")
    assert all(line["digits"] == 4 and "several digits" not in line["marks"] for line in lines)


def test_low_confidence_is_said_and_marked_by_the_checkpoints_own_threshold(
    mnistnet: Mnistnet, tmp_path: Path
) -> None:
    record = json.loads(LENET.read_text(encoding="utf-8"))
    del record["checksum"]
    record["confidence_threshold"] = 1.0
    (tmp_path / "strict.json").write_text(json.dumps(record), encoding="utf-8")
    sure = mnistnet("run", LENET, SAMPLES / "9.png", "--json").json_lines[0]
    assert (sure["marks"], sure["threshold"]) == ([], 0.9)
    assert sure["probability"] < 1
    unsure = mnistnet("run", "strict.json", SAMPLES / "9.png", "--json").json_lines[0]
    assert (unsure["marks"], unsure["threshold"]) == (["low confidence"], 1.0)
    said = mnistnet("run", "strict.json", SAMPLES / "9.png").out.splitlines()[0]
    assert said == "Prediction: 9 (not sure: less than 100.00 %)"


def test_explained_as_blocks_with_reasons_and_as_a_picture(mnistnet: Mnistnet, tmp_path: Path) -> None:
    photo_of(7, 0).save(tmp_path / "seven.jpg", quality=90)
    result = mnistnet("run", LENET, "seven.jpg", SAMPLES / "3.png", "--explain", "why.png")
    assert (result.code, result.err) == (0, "")
    assert "1. photo                      2. ink                        3. clean\n" in result.out
    assert "6. centred: centre of mass moved to the middle of 28x28" in result.out
    assert "█" in result.out
    assert result.out.endswith("Explained in why.png\n")
    with Image.open(tmp_path / "why.png") as picture:
        assert picture.size == (6 * 220, 2 * 276)
    quiet = mnistnet("run", LENET, "seven.jpg", "--json", "--explain", "why.png")
    assert len(quiet.json_lines) == 1


def test_an_explanation_overwrites_nothing_that_is_read(mnistnet: Mnistnet, tmp_path: Path) -> None:
    photo_of(7, 0).save(tmp_path / "seven.png")
    before = (tmp_path / "seven.png").read_bytes()
    result = mnistnet("run", LENET, "seven.png", "--explain", "./seven.png")
    assert result.code == 2
    assert result.err == "mnistnet: --explain: seven.png would overwrite a file that is read\n"
    assert (tmp_path / "seven.png").read_bytes() == before
    assert mnistnet("run", LENET, "seven.png", "--explain", "no/why.png").code == 8


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


def test_names_in_a_file_cannot_steer_the_terminal(mnistnet: Mnistnet, tmp_path: Path, trained: Path) -> None:
    record = json.loads((trained / "latest.json").read_text())
    del record["checksum"]
    record["classes"] = [f"\x1b]0;pwned\x07{name}\nPrediction: 5" for name in "0123456789"]
    record["model"] = "\x1b[2J"
    (tmp_path / "evil.json").write_text(json.dumps(record))
    for arguments in (
        ("run", "evil.json", SAMPLES / "1.png"),
        ("run", "evil.json", SAMPLES / "1.png", "--split"),
        ("info", "evil.json"),
        ("info", "evil.json", "--diff", trained),
    ):
        result = mnistnet(*arguments)
        assert result.code == 0
        assert "\x1b" not in result.out + result.err
        assert not any(line.startswith("Prediction: 5") for line in result.out.splitlines())


def test_no_checkpoint_is_said_with_its_path(mnistnet: Mnistnet, tmp_path: Path) -> None:
    assert mnistnet("run", "nowhere", SAMPLES / "1.png").err.startswith("mnistnet: nowhere: ")
    (tmp_path / "empty").mkdir()
    result = mnistnet("run", "empty", SAMPLES / "1.png")
    assert result.code == 4
    assert result.err.startswith("mnistnet: empty: ")


@pytest.mark.catalogue(91)
def test_paths_with_spaces_unicode_and_a_leading_dash(mnistnet: Mnistnet, tmp_path: Path) -> None:
    content = (SAMPLES / "2.png").read_bytes()
    for name in ("a b.png", "zwölf ½.png", "-x.png"):
        (tmp_path / name).write_bytes(content)
    result = mnistnet("run", "--json", LENET, "--", "a b.png", "zwölf ½.png", "-x.png")
    assert [line["prediction"] for line in result.json_lines] == ["2", "2", "2"]


@pytest.mark.catalogue(92)
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
