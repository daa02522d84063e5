"""The dataset doctor, on MNIST's own images hurt in one way at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_helpers import DATA, NAMES
from PIL import Image

from mnistnet.data import write_idx
from mnistnet.data.convert import write_data
from mnistnet.data.dataset import MOST_CLASSES, Found, Part
from mnistnet.data.doctor import Diagnosis, examine
from mnistnet.data.sources import find_data


@pytest.fixture(scope="module")
def sound() -> Found:
    """A few hundred of MNIST's images; ten classes in both parts."""
    found = find_data(DATA)
    assert found.test is not None
    return replace(found, train=first(found.train, 500), test=first(found.test, 200))


def first(part: Part, count: int) -> Part:
    return replace(part, images=part.images[:count], labels=part.labels[:count])


def examined(found: Found, folder: Path, form: str = "idx") -> Diagnosis:
    write_data(found, folder / "set", form)
    return examine(folder / "set")


def check(
    sound: Found,
    folder: Path,
    change: Callable[[Part], Part],
    says: str,
    repair: str,
    form: str = "idx",
    mended: Found | None = None,
) -> None:
    """One finding, and a repair that gives the sound data back."""
    diagnosis = examined(sound.changed(change), folder, form)
    (finding,) = diagnosis.findings
    assert says in finding.text
    assert finding.repair == repair
    expected = sound if mended is None else mended
    assert diagnosis.mended is not None
    for one, other in zip(diagnosis.mended.parts, expected.parts, strict=True):
        assert np.array_equal(one.images, other.images)
        assert np.array_equal(one.labels, other.labels)


def test_nothing_is_wrong_with_mnist(sound, tmp_path):
    assert examine(DATA).findings == ()
    assert examined(sound, tmp_path).findings == ()


def test_transposed(sound, tmp_path):
    check(
        sound,
        tmp_path,
        lambda part: replace(part, images=part.images.transpose(0, 1, 3, 2)),
        "transposed: the mean digits are like MNIST's to 0.5",
        "rows and columns swapped",
    )


def test_inverted(sound, tmp_path):
    check(
        sound,
        tmp_path,
        lambda part: replace(part, images=255 - part.images),
        "inverted: 100% of the images have a light ground",
        "every pixel taken from 255",
    )


def test_inverted_and_transposed_and_off_by_one(sound, tmp_path):
    def hurt(part: Part) -> Part:
        images = 255 - np.ascontiguousarray(part.images.transpose(0, 1, 3, 2))
        return replace(part, images=images, labels=part.labels + 1)

    diagnosis = examined(sound.changed(hurt), tmp_path)
    assert [finding.text.partition(":")[0] for finding in diagnosis.findings] == [
        "labels are off by one",
        "inverted",
        "transposed",
    ]
    assert diagnosis.mended is not None
    assert np.array_equal(diagnosis.mended.train.images, sound.train.images)
    assert np.array_equal(diagnosis.mended.train.labels, sound.train.labels)
    write_data(diagnosis.mended, tmp_path / "mended", "idx")
    assert examine(tmp_path / "mended").findings == ()


def test_labels_off_by_one(sound, tmp_path):
    check(
        sound,
        tmp_path,
        lambda part: replace(part, labels=part.labels + 1),
        "labels are off by one: they run from 1 to 10, expected from 0",
        "1 taken from every label",
    )


def test_a_label_that_is_no_class_at_all(sound, tmp_path):
    hurt = replace(sound.train, labels=np.where(np.arange(500) == 3, 2_000_000_000, sound.train.labels))
    (finding,) = examined(replace(sound, train=hurt), tmp_path).findings
    assert finding.text.startswith("labels run from 0 to 2000000000, but there are 10 classes")
    assert finding.mended is None


def test_fractions_stored_as_bytes(sound, tmp_path):
    binary = sound.changed(lambda part: replace(part, images=(part.images > 127).astype(np.uint8)))
    check(
        binary,
        tmp_path,
        lambda part: part,
        "pixels are 0 and 1 only",
        "every pixel multiplied by 255",
        mended=binary.changed(lambda part: replace(part, images=part.images * np.uint8(255))),
    )


def test_test_images_among_the_training_images(sound, tmp_path):
    assert sound.test is not None
    train = replace(
        sound.train,
        images=np.concatenate([sound.train.images, sound.test.images[:3]]),
        labels=np.concatenate([sound.train.labels, sound.test.labels[:3]]),
    )
    diagnosis = examined(replace(sound, train=train), tmp_path)
    (finding,) = diagnosis.findings
    assert finding.text == "3 training images that are in the test part too: 500, 501, 502"
    assert diagnosis.mended is not None
    assert np.array_equal(diagnosis.mended.train.images, sound.train.images)


def test_copies_and_torn_labels(sound, tmp_path):
    images, labels = sound.train.images.copy(), sound.train.labels.copy()
    images[7], labels[7] = images[3], labels[3]
    images[9], labels[9] = images[3], (labels[3] + 1) % 10
    train = replace(sound.train, images=images, labels=labels)
    texts = [finding.text for finding in examined(replace(sound, train=train), tmp_path).findings]
    places = f"3 is {labels[3]}, 7 is {labels[3]}, 9 is {labels[9]}"
    assert texts == [
        f"train: 1 image with more than one label, such as: {places}",
        "train: 2 images that are there already",
    ]


def test_a_missing_class_and_blank_images(sound, tmp_path):
    kept = sound.train.labels != 4
    images = sound.train.images[kept].copy()
    images[11] = 40
    train = replace(sound.train, images=images, labels=sound.train.labels[kept])
    texts = [finding.text for finding in examined(replace(sound, train=train), tmp_path).findings]
    assert texts == ["train: 1 blank image, at 11", "train: no images of 4"]


def test_uneven_classes(sound, tmp_path):
    kept = (sound.train.labels != 4) | (np.cumsum(sound.train.labels == 4) <= 2)
    train = replace(sound.train, images=sound.train.images[kept], labels=sound.train.labels[kept])
    (finding,) = examined(replace(sound, train=train), tmp_path).findings
    assert finding.text.startswith("train: uneven: ")
    assert finding.text.endswith(", 2 of 4")


def test_damaged_pictures_are_named_and_left_out(sound, tmp_path):
    write_data(sound, tmp_path / "set", "pictures")
    paths = sorted((tmp_path / "set" / "train").rglob("*.png"))
    paths[3].write_bytes(b"")
    paths[7].write_bytes(paths[7].read_bytes()[:50])
    diagnosis = examine(tmp_path / "set")
    assert [finding.text.partition(": ")[0] for finding in diagnosis.findings] == sorted(
        map(str, (paths[3], paths[7])), key=lambda path: Path(path).name
    )
    assert diagnosis.mended is not None
    assert len(diagnosis.mended.train.labels) == 498


def test_pictures_of_two_sizes_do_not_hide_the_damaged_ones(sound, tmp_path):
    write_data(sound, tmp_path / "set", "pictures")
    paths = sorted((tmp_path / "set" / "train").rglob("*.png"), key=lambda path: path.name)
    paths[3].write_bytes(b"")
    Image.new("L", (9, 9)).save(paths[7])
    findings = examine(tmp_path / "set").findings
    assert [finding.text.partition(": ")[0] for finding in findings] == [str(paths[3]), str(paths[7])]


def test_every_damaged_idx_file_is_named(sound, tmp_path):
    write_data(sound, tmp_path / "set", "idx")
    for name in NAMES[:2]:
        path = tmp_path / "set" / f"{name}.gz"
        path.write_bytes(path.read_bytes()[:-9])
    diagnosis = examine(tmp_path / "set")
    assert diagnosis.found is None
    assert [finding.text.partition(": ")[0] for finding in diagnosis.findings] == [
        str(tmp_path / "set" / f"{name}.gz") for name in NAMES[:2]
    ]


def test_letters_as_emnist_has_them(sound, tmp_path):
    """Turned and numbered from 1, without names: the numbers are mended, the turn is only suspected."""
    folder = tmp_path / "emnist"
    folder.mkdir()
    labels = (np.arange(500) % 26 + 1).astype(np.uint8)
    for part in ("train", "test"):
        turned = sound.train.images[:, 0].transpose(0, 2, 1)
        if part == "test":
            turned = np.maximum(turned, 1)  # the same digits, but not the same bytes
        write_idx(folder / f"emnist-letters-{part}-images-idx3-ubyte", turned)
        write_idx(folder / f"emnist-letters-{part}-labels-idx1-ubyte", labels)
    findings = examine(folder).findings
    assert findings[0].text == "labels are off by one: they run from 1 to 26, expected from 0"
    assert findings[1].text.startswith("perhaps transposed: 8")
    assert findings[1].mended is None


def test_parts_of_two_shapes(sound, tmp_path):
    images = np.ascontiguousarray(sound.test.images[:, :, :20])
    diagnosis = examined(replace(sound, test=replace(sound.test, images=images)), tmp_path)
    (finding,) = diagnosis.findings
    assert finding.text == (
        "test: images of 1x20x28, expected 1x28x28 like the training images;"
        " mnistnet data convert --size 28x28 makes them one size"
    )
    colour = sound.test.images.repeat(3, axis=1)
    (tmp_path / "colour").mkdir()
    hurt = replace(sound, test=replace(sound.test, images=colour))
    (finding,) = examined(hurt, tmp_path / "colour").findings
    assert finding.text == "test: images of 3x28x28, expected 1x28x28 like the training images"


def test_class_folders_a_level_too_deep(sound, tmp_path):
    (tmp_path / "photos" / "images").mkdir(parents=True)
    for number, image in enumerate(sound.train.images[:9, 0]):
        Image.fromarray(image).save(tmp_path / "photos" / "images" / f"{number}.png")
    texts = [finding.text for finding in examine(tmp_path / "photos").findings]
    assert texts == ["all images are of one class, expected at least two classes"]


@pytest.mark.parametrize("highest", [MOST_CLASSES, MOST_CLASSES + 1])
def test_labels_from_1_to_more_than_there_can_be_classes(sound, tmp_path, highest):
    numbers = sound.train.labels + 1
    numbers[7] = highest
    hurt = replace(sound, train=replace(sound.train, labels=numbers), test=None)
    np.savez(tmp_path / "a.npz", images=hurt.train.images, labels=hurt.train.labels)
    finding = examine(tmp_path / "a.npz").findings[0]
    if highest > MOST_CLASSES:
        assert finding.text.startswith("labels run from 1 to 65537, but there are 10 classes")
        assert finding.mended is None
    else:
        assert finding.text == "labels are off by one: they run from 1 to 65536, expected from 0"
        assert finding.mended.class_names[-1] == "65536"


def test_nothing_there(tmp_path):
    diagnosis = examine(tmp_path / "none")
    assert diagnosis.found is None
    assert diagnosis.findings[0].text.startswith(f"{tmp_path / 'none'}: no such file or folder")
