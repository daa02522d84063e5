"""Folders of four IDX files."""

from __future__ import annotations

import gzip
import hashlib
import time
from pathlib import Path

import numpy as np
import pytest
from data_helpers import DATA, NAMES, images, labels, message

from mnistnet.data import Splits, load_data, write_idx
from mnistnet.data.catalog import CATALOG, dataset_of

# --- folders ----------------------------------------------------------------------------------------------


def test_reads_four_raw_files(folder):
    splits = load_data(folder)
    assert splits.train.images.shape == (12, 1, 3, 2)
    assert splits.train.images[11].ravel().tolist() == [11] * 6
    assert splits.train.labels.tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert splits.train.labels.dtype == np.intp
    assert splits.test.images[0].ravel().tolist() == [100] * 6
    assert splits.test.class_names == tuple("0123456789")
    assert splits.warnings == ()


def test_gzip_and_the_other_spelling(folder):
    for name in NAMES:
        path = folder / name
        other = folder / (name.replace("-idx", ".idx") + ".gz")
        other.write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert len(load_data(folder).train) == 12


def test_raw_is_preferred(folder):
    (folder / f"{NAMES[0]}.gz").write_bytes(b"not read")
    assert len(load_data(folder).train) == 12


def test_colour_images(folder):
    write_idx(folder / NAMES[0], images(12, 3, 4, 4))
    write_idx(folder / NAMES[2], images(5, 3, 4, 4))
    assert load_data(folder).train.shape == (3, 4, 4)


def test_more_classes_on_request(folder):
    write_idx(folder / NAMES[1], np.full(12, 25, np.uint8))
    (folder / "classes.txt").write_text("\n".join("abcdefghijklmnopqrstuvwxyz"), encoding="utf-8")
    splits = load_data(folder)
    assert splits.train.class_names[splits.train.labels[0]] == "z"
    assert splits.test.class_names == splits.train.class_names


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"a\nb\na\n", "expected different names, found 'a' twice"),
        (b"\n \n", "expected the name of every class, one a line, found none"),
        (b"\xff\xfe", "expected UTF-8 text, found other bytes"),
    ],
)
def test_class_names_that_are_none(folder, content, says):
    (folder / "classes.txt").write_bytes(content)
    assert message(folder, folder / "classes.txt") == says


@pytest.mark.parametrize("kind", [np.int8, np.int16, np.int32, np.float32, np.float64])
def test_any_type_of_idx_becomes_bytes(folder, kind):
    write_idx(folder / NAMES[0], images(12, 3, 2).astype(kind))
    assert load_data(folder).train.images[11].ravel().tolist() == [11] * 6


def test_fractions_are_scaled(folder):
    write_idx(folder / NAMES[0], (images(12, 3, 2) / np.float32(11)).astype(np.float32))
    assert load_data(folder).train.images[:, 0, 0, 0].tolist()[-2:] == [232, 255]  # 10 / 11 * 255 = 231.8


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (
            np.full((12, 3, 2), 1.5, np.float32),
            "expected whole pixels of 0 to 255, found fractions up to 1.5",
        ),
        (np.full((12, 3, 2), -1, np.int8), "0 to 255 or fractions of 0 to 1, found -1 to -1"),
        (np.full((12, 3, 2), 256, np.int16), "0 to 255 or fractions of 0 to 1, found 256 to 256"),
        (np.full((12, 3, 2), np.nan, np.float64), "0 to 255 or fractions of 0 to 1, found nan to nan"),
    ],
)
def test_pixels_that_are_no_bytes(folder, values, says):
    write_idx(folder / NAMES[0], values)
    assert message(folder, folder / NAMES[0]).endswith(says)


def test_emnists_names(folder):
    for name in NAMES:
        (folder / name).rename(folder / f"emnist-digits-{name.replace('t10k', 'test')}")
    assert len(load_data(folder).test) == 5
    write_idx(folder / "emnist-letters-train-labels-idx1-ubyte", labels(3))
    says = message(folder, folder)
    assert says == "expected one dataset, found IDX files that begin with 'emnist-digits-', 'emnist-letters-'"


def test_row_14_missing_folder(tmp_path):
    says = message(tmp_path / "none", tmp_path / "none")
    assert says.startswith("no such file or folder; train with --data mnist")
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/" in says


@pytest.mark.parametrize("name", NAMES)
def test_row_15_one_file_missing(folder, name):
    (folder / name).unlink()
    assert message(folder, folder / name) == "no such file, neither raw nor .gz"


def test_row_18_labels_in_place_of_images(folder):
    write_idx(folder / NAMES[0], labels(12))
    assert message(folder, folder / NAMES[0]).startswith("expected 3 dimensions, found 1")


def test_row_19_float_labels(folder):
    write_idx(folder / NAMES[1], labels(12).astype(np.float32))
    assert message(folder, folder / NAMES[1]).startswith("expected unsigned bytes, found float32")


def test_row_24_counts_differ(folder):
    write_idx(folder / NAMES[1], labels(11))
    says = message(folder, folder / NAMES[1])
    assert says.startswith("counts differ: expected one label for each of 12 images")
    assert says.endswith("found 11 labels")


def test_row_25_label_out_of_range(folder):
    wrong = labels(12)
    wrong[[7, 9]] = 10, 200
    write_idx(folder / NAMES[1], wrong)
    assert message(folder, folder / NAMES[1]) == (
        "label 10 at index 7: expected 0 to 9; a classes.txt beside the data names other classes, one a line"
    )


def test_images_of_two_sizes(folder):
    write_idx(folder / NAMES[2], images(5, 4, 4))
    says = message(folder, folder / NAMES[2])
    assert says == "expected images of 1x3x2 like the training set's, found 1x4x4"


# --- checksums --------------------------------------------------------------------------------------------


def mnist_labels() -> np.ndarray:
    return np.frombuffer(gzip.decompress((DATA / f"{NAMES[3]}.gz").read_bytes())[8:], np.uint8)


@pytest.fixture
def published_size(folder: Path) -> Path:
    """A folder whose test labels are MNIST's own, with made-up test images of another size."""
    write_idx(folder / NAMES[2], np.ones((10_000, 3, 2), np.uint8))
    write_idx(folder / NAMES[3], mnist_labels())
    return folder


def test_mnists_own_file_raises_no_warning(published_size):
    assert load_data(published_size).warnings == ()


def test_row_35_another_checksum_is_a_warning_only(published_size):
    changed = mnist_labels().copy()
    changed[5] = 9 - changed[5]
    write_idx(published_size / NAMES[3], changed)
    (warning,) = load_data(published_size).warnings
    assert warning.startswith(
        f"{published_size / NAMES[3]}: has the size of MNIST's file, but not the checksum"
    )


def test_another_dataset_that_names_its_classes_raises_no_warning(folder):
    """KMNIST, say, as it is in the cache: every file has the size of MNIST's."""
    for name, values in zip(
        NAMES,
        (
            np.zeros((60_000, 28, 28), np.uint8),
            labels(60_000),
            np.zeros((10_000, 28, 28), np.uint8),
            labels(10_000),
        ),
        strict=True,
    ):
        write_idx(folder / name, values)
    assert len(load_data(folder).warnings) == 4
    (folder / "classes.txt").write_text("\n".join(CATALOG["kmnist"].class_names), encoding="utf-8")
    splits = load_data(folder)
    assert splits.warnings == ()
    assert splits.train.class_names[3] == "tsu"
    # as beside MNIST in the cache, where a damaged file is still told
    (folder / "classes.txt").write_text("\n".join("0123456789"))
    assert len(load_data(folder).warnings) == 4


def test_a_mixture_of_datasets_is_a_warning(published_size, monkeypatch):
    write_idx(published_size / NAMES[0], np.ones((60_000, 3, 2), np.uint8))
    write_idx(published_size / NAMES[1], np.zeros(60_000, np.uint8))
    train_labels = hashlib.sha256((published_size / NAMES[1]).read_bytes()).hexdigest()
    monkeypatch.setattr(
        "mnistnet.data.idx_folder.dataset_of",
        lambda digest: "Fashion-MNIST" if digest == train_labels else dataset_of(digest),
    )
    assert load_data(published_size).warnings == (
        f"{published_size}: mixes files of Fashion-MNIST and MNIST",
    )


# --- the shipped data -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist() -> Splits:
    return load_data(DATA)


def test_mnist_as_published(mnist):
    assert mnist.warnings == ()
    assert mnist.train.images.shape == (60_000, 1, 28, 28)
    assert mnist.test.images.shape == (10_000, 1, 28, 28)
    # counts by class as in every description of MNIST
    expected = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(mnist.test.labels).tolist() == expected
    # 0.1307: the mean that the world normalizes MNIST with
    assert mnist.train.images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)


def test_mnist_is_read_fast(mnist):
    begin = time.perf_counter()
    load_data(DATA)
    assert time.perf_counter() - begin < 2.0  # 0.2 s on an idle machine


def test_shipped_samples_are_the_first_test_image_of_each_digit(mnist):
    for digit in range(10):
        index = int((mnist.test.labels == digit).argmax())
        assert (DATA / "samples" / f"{digit}.bin").read_bytes() == mnist.test.images[index].tobytes()


def test_readme_states_the_checksums_of_what_is_shipped():
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    for name in NAMES:
        content = gzip.decompress((DATA / f"{name}.gz").read_bytes())
        assert f"{len(content):,}" in readme
        assert hashlib.sha256(content).hexdigest() in readme
