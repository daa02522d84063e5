"""Datasets in memory and folders of IDX files."""

from __future__ import annotations

import gzip
import hashlib
import time
from pathlib import Path

import numpy as np
import pytest

from mnistnet.data import DIGITS, Dataset, Splits, load_folder, write_idx
from mnistnet.data.catalog import dataset_of, has_published_size
from mnistnet.errors import DataError

DATA = Path(__file__).parents[2] / "data"
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def images(count: int, *shape: int, first: int = 0) -> np.ndarray:
    """Images whose every pixel is the number of the image."""
    values = np.arange(first, first + count, dtype=np.uint8)
    return np.broadcast_to(values.reshape(-1, *[1] * len(shape)), (count, *shape)).copy()


def labels(count: int) -> np.ndarray:
    return (np.arange(count) % 10).astype(np.uint8)


def dataset(count: int) -> Dataset:
    return Dataset(images(count, 1, 3, 2), labels(count).astype(np.intp), DIGITS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve training and five test images of 3x2 pixels."""
    write_idx(tmp_path / NAMES[0], images(12, 3, 2))
    write_idx(tmp_path / NAMES[1], labels(12))
    write_idx(tmp_path / NAMES[2], images(5, 3, 2, first=100))
    write_idx(tmp_path / NAMES[3], labels(5))
    return tmp_path


def message(folder: Path, where: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_folder(folder)
    text = str(caught.value)
    assert text.startswith(f"{where}: ")
    assert "\n" not in text
    return text.removeprefix(f"{where}: ")


# --- Dataset ----------------------------------------------------------------------------------------------


def test_length_and_shape():
    assert len(dataset(7)) == 7
    assert dataset(7).shape == (1, 3, 2)


def test_first():
    few = dataset(7).first(2)
    assert few.images[:, 0, 0, 0].tolist() == [0, 1]
    assert few.labels.tolist() == [0, 1]
    assert len(dataset(7).first(7)) == 7


@pytest.mark.parametrize("count", [0, -1, 8])
def test_first_out_of_range(count):
    with pytest.raises(DataError, match=f"expected a limit of 1 to 7 images, found {count}"):
        dataset(7).first(count)


def test_split_parts_every_image_once_in_order_with_its_label():
    train, validation = dataset(50).split(0.2, 1)
    assert (len(train), len(validation)) == (40, 10)
    seen = [part.images[:, 0, 0, 0] for part in (train, validation)]
    assert sorted(np.concatenate(seen).tolist()) == list(range(50))
    for part, numbers in zip((train, validation), seen, strict=True):
        assert numbers.tolist() == sorted(numbers.tolist())
        assert part.labels.tolist() == (numbers % 10).tolist()
        assert part.class_names == DIGITS


def test_split_depends_on_the_seed_alone():
    def chosen(seed: int) -> list[int]:
        return dataset(50).split(0.2, seed)[1].images[:, 0, 0, 0].tolist()

    assert chosen(1) == chosen(1)
    assert chosen(1) != chosen(2)
    assert chosen(2**64 - 1) != chosen(2)


@pytest.mark.parametrize(("fraction", "expected"), [(1e-9, 1), (0.999, 4), (0.5, 2)])
def test_split_leaves_an_image_on_each_side(fraction, expected):
    assert len(dataset(5).split(fraction, 0)[1]) == expected


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 1.5, float("nan")])
def test_split_fraction_out_of_range(fraction):
    with pytest.raises(DataError, match="expected a fraction above 0 and below 1"):
        dataset(5).split(fraction, 0)


def test_split_needs_two_images():
    with pytest.raises(DataError, match="expected at least 2 images, found 1"):
        dataset(1).split(0.5, 0)


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_split_seed_out_of_range(seed):
    with pytest.raises(DataError, match="seed: expected 0 to 18446744073709551615"):
        dataset(5).split(0.5, seed)


@pytest.mark.parametrize(
    ("pixels", "classes", "says"),
    [
        (np.zeros((2, 1, 3, 2), np.float32), np.zeros(2, np.intp), "expected contiguous uint8"),
        (np.zeros((2, 3, 2), np.uint8), np.zeros(2, np.intp), "expected contiguous uint8"),
        (np.zeros((2, 1, 3, 2), np.uint8)[..., ::-1], np.zeros(2, np.intp), "expected contiguous uint8"),
        (np.zeros((2, 1, 3, 2), np.uint8), np.zeros(2, np.uint8), "expected intp"),
        (np.zeros((2, 1, 3, 2), np.uint8), np.zeros(3, np.intp), "counts differ: 2 images and 3 labels"),
        (np.zeros((0, 1, 3, 2), np.uint8), np.zeros(0, np.intp), "empty dataset: 0 images"),
        (np.zeros((2, 1, 3, 2), np.uint8), np.array([0, 10], np.intp), "label 10 at index 1"),
        (np.zeros((2, 1, 3, 2), np.uint8), np.array([-1, 0], np.intp), "label -1 at index 0"),
    ],
)
def test_parts_that_do_not_fit(pixels, classes, says):
    with pytest.raises(DataError, match=says):
        Dataset(pixels, classes, DIGITS)


# --- folders ----------------------------------------------------------------------------------------------


def test_reads_four_raw_files(folder):
    splits = load_folder(folder)
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
    assert len(load_folder(folder).train) == 12


def test_raw_is_preferred(folder):
    (folder / f"{NAMES[0]}.gz").write_bytes(b"not read")
    assert len(load_folder(folder).train) == 12


def test_colour_images(folder):
    write_idx(folder / NAMES[0], images(12, 3, 4, 4))
    write_idx(folder / NAMES[2], images(5, 3, 4, 4))
    assert load_folder(folder).train.shape == (3, 4, 4)


def test_more_classes_on_request(folder):
    write_idx(folder / NAMES[1], np.full(12, 25, np.uint8))
    splits = load_folder(folder, class_names=tuple("abcdefghijklmnopqrstuvwxyz"))
    assert splits.train.class_names[splits.train.labels[0]] == "z"


def test_row_14_missing_folder(tmp_path):
    says = message(tmp_path / "none", tmp_path / "none")
    assert says.startswith("no such folder; expected the four MNIST files")
    assert "https://ossci-datasets.s3.amazonaws.com/mnist/" in says


def test_folder_is_a_file(folder):
    assert message(folder / NAMES[0], folder / NAMES[0]).startswith("not a directory")


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
    assert message(folder, folder / NAMES[1]) == "label 10 at index 7: expected 0 to 9"


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
    assert load_folder(published_size).warnings == ()


def test_row_35_another_checksum_is_a_warning_only(published_size):
    changed = mnist_labels().copy()
    changed[5] = 9 - changed[5]
    write_idx(published_size / NAMES[3], changed)
    (warning,) = load_folder(published_size).warnings
    assert warning.startswith(
        f"{published_size / NAMES[3]}: has the size of MNIST's file, but not the checksum"
    )


def test_a_mixture_of_datasets_is_a_warning(published_size, monkeypatch):
    write_idx(published_size / NAMES[0], np.ones((60_000, 3, 2), np.uint8))
    write_idx(published_size / NAMES[1], np.zeros(60_000, np.uint8))
    train_labels = hashlib.sha256((published_size / NAMES[1]).read_bytes()).hexdigest()
    monkeypatch.setattr(
        "mnistnet.data.dataset.dataset_of",
        lambda digest: "Fashion-MNIST" if digest == train_labels else dataset_of(digest),
    )
    assert load_folder(published_size).warnings == (
        f"{published_size}: mixes files of Fashion-MNIST and MNIST",
    )


def test_catalog():
    digest = hashlib.sha256(gzip.decompress((DATA / f"{NAMES[3]}.gz").read_bytes())).hexdigest()
    assert dataset_of(digest) == "MNIST"
    assert dataset_of("0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34") == "Fashion-MNIST"
    assert dataset_of("0" * 64) is None
    assert has_published_size(7840016)
    assert not has_published_size(7840017)


# --- the shipped data -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mnist() -> Splits:
    return load_folder(DATA)


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
    load_folder(DATA)
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
