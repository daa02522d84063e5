"""``mnistnet data`` through real processes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistnet.data import read_idx, write_idx

from .conftest import Mnistnet


def test_the_catalogue_is_listed_and_says_what_is_there(
    mnistnet: Mnistnet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MNISTNET_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache" / "kmnist").mkdir(parents=True)
    (tmp_path / "cache" / "kmnist" / "classes.txt").touch()
    lines = mnistnet("data", "list").out.splitlines()
    names = [line.split()[0] for line in lines]
    assert names == [
        *("name", "mnist", "fashion-mnist", "kmnist", "emnist-balanced", "emnist-digits", "emnist-letters")
    ]
    assert [str(tmp_path / "cache") in line for line in lines] == [name == "kmnist" for name in names]


def test_a_name_that_is_not_in_the_catalogue(mnistnet: Mnistnet) -> None:
    for arguments in (("data", "get", "mnits"), ("train", "--data", "mnits")):
        result = mnistnet(*arguments)
        assert result.code == 2
        assert result.err.endswith("found 'mnits'; did you mean mnist?\n")
        assert result.err.count("\n") == 1


def test_training_on_a_dataset_of_the_cache(
    mnistnet: Mnistnet, tmp_path: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "cache" / "fashion-mnist"
    cached.mkdir(parents=True)
    for path in small_data.iterdir():
        (cached / path.name).write_bytes(path.read_bytes())
    (cached / "classes.txt").write_text("\n".join("abcdefghij"), encoding="utf-8")
    monkeypatch.setenv("MNISTNET_CACHE", str(tmp_path / "cache"))
    result = mnistnet("train", "--data", "fashion-mnist", "--model", "mlp", "--nb-epochs", 1)
    assert (result.code, result.err) == (0, "")
    shown = mnistnet("run", "ckpt", Path(__file__).parents[2] / "data" / "samples" / "7.png", "--json")
    assert shown.json_lines[0]["prediction"] in "abcdefghij"
    both = mnistnet("train", "--data", "mnist", "--train-data-dir", "x")
    assert both.code == 2
    assert both.err == "mnistnet: --data: give either --data or --train-data-dir, found both\n"


def test_check_convert_and_fix(mnistnet: Mnistnet, tmp_path: Path, small_data: Path) -> None:
    sound = mnistnet("data", "check", small_data, "--sheet", "sheet.png")
    assert (sound.code, sound.err) == (0, "")
    assert "Nothing wrong found." in sound.out
    with Image.open(tmp_path / "sheet.png") as picture:
        assert picture.width > 700

    hurt = tmp_path / "hurt"
    hurt.mkdir()
    for path in small_data.iterdir():
        values = read_idx(path)
        write_idx(hurt / path.name, values.transpose(0, 2, 1) if values.ndim == 3 else values + np.uint8(1))
    light = tmp_path / "light"
    light.mkdir()
    for path in small_data.iterdir():
        values = read_idx(path)
        write_idx(light / path.name, 255 - values if values.ndim == 3 else values)
    trained = mnistnet("train", "--model", "mlp", "--nb-epochs", 0, "--train-data-dir", "light")
    assert trained.code == 0
    assert trained.err.startswith("mnistnet: light: the images have a light ground, but mnistnet run")
    assert trained.err.endswith("; mnistnet data check light --fix NEW turns them round\n")

    before = {path: path.read_bytes() for path in hurt.iterdir()}
    found = mnistnet("data", "check", hurt)
    assert found.code == 3
    assert "! labels are off by one" in found.out
    assert "(--fix: rows and columns swapped)" in found.out
    fixed = mnistnet("data", "check", hurt, "--fix", "mended")
    assert fixed.code == 0
    assert {path: path.read_bytes() for path in hurt.iterdir()} == before

    converted = mnistnet("data", "convert", "mended", "set.npz")
    assert converted.out == "640 and 200 images: set.npz\n"
    with np.load(tmp_path / "set.npz") as archive:
        assert np.array_equal(archive["images"][:, 0], read_idx(small_data / "train-images-idx3-ubyte"))
        assert np.array_equal(archive["labels"], read_idx(small_data / "train-labels-idx1-ubyte"))


def test_a_mended_copy_can_be_read_again_whatever_its_name(
    mnistnet: Mnistnet, tmp_path: Path, small_data: Path
) -> None:
    test_images, test_labels, images, labels = (read_idx(path) for path in sorted(small_data.iterdir()))
    arrays = {"images": images, "labels": labels + np.uint8(1)}
    np.savez(tmp_path / "hurt.npz", **arrays, test_images=test_images, test_labels=test_labels + np.uint8(1))
    assert mnistnet("data", "convert", "hurt.npz", "hurt").code == 0
    for source in ("hurt.npz", "hurt"):
        for name, form in ((f"{source}-mended.npz", "npz"), (f"{source}-mended", "idx")):
            fixed = mnistnet("data", "check", source, "--fix", name)
            assert (fixed.code, fixed.err) == (0, "")
            again = mnistnet("data", "check", name)
            assert again.out.startswith(f"{name}: {form}, images of 1x28x28, 10 classes")
            assert "Nothing wrong found." in again.out


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such names")
def test_a_finding_cannot_steer_the_terminal(mnistnet: Mnistnet, tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "\x1b[31m\n.png").touch()
    found = mnistnet("data", "check", "photos")
    assert found.code == 3
    assert "\\x1b[31m .png: " in found.out
    assert "\x1b" not in found.out


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("convert", "nowhere", "x"), 3, "nowhere: no such file or folder"),
        (("convert", "DATA", "x", "--to", "npy"), 2, "--to: expected one of idx, csv, pictures, rsnet, npz"),
        (("convert", "DATA", "x", "--to", "npz"), 2, "--to: npz goes with a file, found x"),
        (("convert", "DATA", "x.npz", "--to", "csv"), 2, "--to: csv goes with a folder, found x.npz"),
        (
            ("convert", "DATA", "x", "--size", "28"),
            2,
            "--size: expected WIDTHxHEIGHT, such as 28x28, found '28'",
        ),
        (("convert", "DATA", "."), 8, ".: exists already: choose another path"),
        (("check", "DATA", "--fix", "new"), 3, "there is nothing that --fix can mend safely"),
        (("check", "DATA", "--sheet", "no/sheet.png"), 8, "no/sheet.png: the folder no does not exist"),
    ],
)
def test_wrong_use_is_one_line_and_leaves_nothing(
    mnistnet: Mnistnet, tmp_path: Path, small_data: Path, arguments: tuple[str, ...], code: int, says: str
) -> None:
    result = mnistnet("data", *(small_data if word == "DATA" else word for word in arguments))
    assert result.code == code
    assert says in result.err
    assert result.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_a_subcommand_help_is_shown(mnistnet: Mnistnet) -> None:
    result = mnistnet("data")
    assert (result.code, result.err) == (0, "")
    assert "Get published datasets, check and convert your own." in result.out
