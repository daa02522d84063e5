"""Folders of pictures: classes by subfolder, or by metadata.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnistnet.data.image_folder import read_image_folder, read_metadata_folder
from mnistnet.data.sources import find_data
from mnistnet.errors import DataError


def put(path: Path, value: int, size: tuple[int, int] = (3, 2), mode: str = "L") -> None:
    """A picture all of whose pixels are ``value``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (size[1], size[0]), value if mode == "L" else (value, 0, 0)).save(path)


def message(read, folder: Path) -> str:
    before = sorted(folder.rglob("*"))
    with pytest.raises(DataError) as caught:
        read(folder)
    assert sorted(folder.rglob("*")) == before
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_classes_in_natural_order_without_a_test_part(tmp_path):
    put(tmp_path / "class 10" / "a.png", 10)
    put(tmp_path / "class 9" / "b.png", 9)
    found = read_image_folder(tmp_path)
    assert found.class_names == ("class 9", "class 10")
    assert found.train.images.shape == (2, 1, 3, 2)
    assert found.train.images[:, 0, 0, 0].tolist() == [10, 9]
    assert found.train.labels.tolist() == [1, 0]
    assert found.test is None


def test_images_are_in_the_order_of_their_numbers_whatever_their_class(tmp_path):
    for number, name in enumerate("caabcb"):
        put(tmp_path / "train" / name / f"{number * 5}.png", number)
    put(tmp_path / "test" / "b" / "x.jpg", 100)
    found = read_image_folder(tmp_path)
    assert found.train.images[:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4, 5]
    assert found.train.labels.tolist() == [2, 0, 0, 1, 2, 1]
    assert found.test.labels.tolist() == [1]  # a and c are missing there, which shifts nothing


def test_digits_keep_their_labels_although_some_are_missing(tmp_path):
    for digit in (1, 7):
        put(tmp_path / str(digit) / "a.png", digit)
    found = read_image_folder(tmp_path)
    assert found.train.labels.tolist() == [1, 7]
    assert found.class_names == tuple("0123456789")


def test_an_empty_subfolder_is_a_class(tmp_path):
    put(tmp_path / "train" / "cat" / "a.png", 1)
    (tmp_path / "train" / "ape").mkdir()
    found = read_image_folder(tmp_path)
    assert found.class_names == ("ape", "cat")
    assert found.train.labels.tolist() == [1]


@pytest.mark.parametrize("names", [("dog", "T-shirt"), ("1", "0")], ids=["by name", "by label"])
def test_classes_file_states_the_order(tmp_path, names):
    (tmp_path / "classes.txt").write_text("T-shirt\ndog\n", encoding="utf-8")
    put(tmp_path / names[0] / "0.png", 5)
    put(tmp_path / names[1] / "1.png", 6)
    found = read_image_folder(tmp_path)
    assert found.class_names == ("T-shirt", "dog")
    assert found.train.labels.tolist() == [1, 0]


def test_a_subfolder_that_is_no_class(tmp_path):
    (tmp_path / "classes.txt").write_text("dog\n", encoding="utf-8")
    put(tmp_path / "cat" / "0.png", 5)
    says = message(read_image_folder, tmp_path)
    assert says == f"{tmp_path / 'cat'}: expected a class of classes.txt, found another subfolder"


def test_one_picture_in_colour_makes_all_three_channels(tmp_path):
    put(tmp_path / "a" / "0.png", 5)
    put(tmp_path / "a" / "1.png", 9, mode="RGB")
    images = read_image_folder(tmp_path).train.images
    assert images[:, :, 0, 0].tolist() == [[5, 5, 5], [9, 0, 0]]


@pytest.mark.parametrize("coloured", ["train", "test"])
def test_one_part_in_colour_makes_all_three_channels_of_the_other(tmp_path, coloured):
    for part in ("train", "test"):
        put(tmp_path / part / "a" / "0.png", 5)
    put(tmp_path / coloured / "a" / "1.png", 9, mode="RGB")
    listed = {
        part: [str(path.relative_to(tmp_path)) for path in sorted((tmp_path / part).rglob("*.png"))]
        for part in ("train", "test")
    }
    metadata(tmp_path, {part: {"1": names} for part, names in listed.items()})
    for read in (read_image_folder, read_metadata_folder):
        splits = read(tmp_path).splits()
        for part, images in (("train", splits.train.images), ("test", splits.test.images)):
            assert images[:, :, 0, 0].tolist() == [[5, 5, 5], [9, 0, 0]][: 1 + (part == coloured)]


def test_a_class_that_is_called_train(tmp_path):
    put(tmp_path / "train" / "0.png", 5)
    put(tmp_path / "car" / "1.png", 6)
    found = find_data(tmp_path)
    assert found.class_names == ("car", "train")
    assert found.train.labels.tolist() == [1, 0]
    put(tmp_path / "training" / "car" / "0.png", 7)
    assert find_data(tmp_path).train.images[:, 0, 0, 0].tolist() == [7]


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such names")
def test_a_folder_whose_name_is_two_lines(tmp_path):
    put(tmp_path / "a\nb" / "0.png", 5)
    put(tmp_path / "c" / "0.png", 5)
    assert message(read_image_folder, tmp_path) == (
        f"{tmp_path}: class names: expected no control characters, found 'a\\nb'"
    )


def test_other_files_and_hidden_ones_are_passed_over(tmp_path):
    put(tmp_path / "a" / "0.png", 5)
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / "._0.png").write_text("what a Mac leaves behind")
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "readme.txt").write_text("x")
    assert read_image_folder(tmp_path).class_names == ("a",)


def test_pictures_of_two_sizes(tmp_path):
    put(tmp_path / "a" / "0.png", 5)
    put(tmp_path / "a" / "1.png", 5, (4, 6))
    says = message(read_image_folder, tmp_path)
    where = tmp_path / "a" / "1.png"
    assert says.startswith(
        f"{where}: expected 2x3 pixels like 0.png, found 6x4; mnistnet data convert --size 2x3 "
    )


def test_row_79_a_damaged_picture_is_named_or_left_out(tmp_path):
    put(tmp_path / "a" / "0.png", 5)
    bad = tmp_path / "a" / "1.png"
    noise = np.random.default_rng(0).integers(0, 256, (30, 20), np.uint8)
    Image.fromarray(noise).save(bad)
    bad.write_bytes(bad.read_bytes()[:300])
    assert message(read_image_folder, tmp_path).startswith(f"{bad}: cannot decode the picture: ")
    damaged: list[str] = []
    assert len(read_image_folder(tmp_path, damaged).train.labels) == 1
    assert len(damaged) == 1
    assert damaged[0].startswith(f"{bad}: ")


# --- metadata.json ----------------------------------------------------------------------------------------


def metadata(folder: Path, document: object) -> Path:
    path = folder / "metadata.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    return path


def test_metadata(tmp_path):
    for name, value in (("a.png", 1), ("deep/b.png", 2), ("c.png", 3), ("d.png", 4)):
        put(tmp_path / name, value)
    metadata(tmp_path, {"train": {"10": ["c.png"], "2": ["a.png", "deep/b.png"]}, "test": {"1": ["d.png"]}})
    found = read_metadata_folder(tmp_path)
    assert found.train.images[:, 0, 0, 0].tolist() == [1, 2, 3]
    assert found.train.labels.tolist() == [1, 1, 9]
    assert found.test.labels.tolist() == [0]
    assert found.class_names == tuple(str(label) for label in range(1, 11))


@pytest.mark.parametrize("name", ["../a.png", "x/../../a.png", "{outside}"])
def test_row_39_a_path_that_leaves_the_folder(tmp_path, name):
    folder = tmp_path / "set"
    folder.mkdir()
    put(tmp_path / "a.png", 1)
    path = metadata(folder, {"train": {"1": [name.replace("{outside}", str(tmp_path / "a.png"))]}})
    assert message(read_metadata_folder, folder).startswith(f"{path}: train.1: path leaves the folder: ")


def test_a_path_of_no_end(tmp_path):
    path = metadata(tmp_path, {"train": {"1": ["a" + ".png" * 256]}})
    assert message(read_metadata_folder, tmp_path) == (
        f"{path}: train.1: expected a path of at most 1024 characters"
    )


@pytest.mark.parametrize("label", ["0", "-1", "a", "1.5", ""])
def test_row_40_labels_start_at_1(tmp_path, label):
    path = metadata(tmp_path, {"train": {label: ["a.png"]}})
    assert message(read_metadata_folder, tmp_path) == (
        f"{path}: train.{label}: labels start at 1, found {label!r}"
    )


@pytest.mark.parametrize("label", ["65537", "9" * 5000])
def test_a_label_that_would_make_too_many_classes(tmp_path, label):
    path = metadata(tmp_path, {"train": {label: ["a.png"]}})
    assert message(read_metadata_folder, tmp_path) == (
        f"{path}: train.{label[:60]}: expected a label of at most 65536"
    )


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ("{", "expected JSON, found a mistake"),
        ("[" * 100_000, "expected JSON, found a mistake"),
        ([], 'expected {"train"'),
        ({"train": []}, 'expected {"train"'),
        ({"train": {}}, "train: empty dataset: no pictures are listed"),
        ({"train": {"1": "a.png"}}, "train.1: expected a list of paths"),
        ({"train": {"1": [3]}}, "train.1: expected a list of paths"),
        ({"train": {"1": []}}, "empty dataset: no pictures"),
        ({"train": {"1": ["a.png"]}, "test": [1]}, "test: expected an object of lists by label, found [1]"),
    ],
)
def test_metadata_of_another_form(tmp_path, document, says):
    put(tmp_path / "a.png", 1)
    path = metadata(tmp_path, document)
    assert message(read_metadata_folder, tmp_path).startswith(f"{path}: {says}")


@pytest.mark.parametrize("name", ["a\0.png", "\ud800.png", "a" * 5000 + ".png"], ids=["null", "half", "long"])
def test_what_cannot_be_a_path(tmp_path, name):
    metadata(tmp_path, {"train": {"1": [name]}})
    with pytest.raises(DataError) as caught:
        read_metadata_folder(tmp_path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 6000


def test_a_listed_picture_that_is_missing(tmp_path):
    metadata(tmp_path, {"train": {"1": ["a.png"]}})
    assert message(read_metadata_folder, tmp_path) == f"{tmp_path / 'a.png'}: no such file"


def test_like_pillow(tmp_path):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (5, 4, 3), np.uint8)
    (tmp_path / "a").mkdir()
    Image.fromarray(pixels).save(tmp_path / "a" / "0.png")
    assert np.array_equal(read_image_folder(tmp_path).train.images[0], pixels.transpose(2, 0, 1))
