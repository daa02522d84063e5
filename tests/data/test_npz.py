"""NumPy archives, from mnistnet and from elsewhere."""

from __future__ import annotations

import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from data_helpers import images, labels

from mnistnet.data.npz import read_npz
from mnistnet.errors import DataError


def message(path) -> str:
    with pytest.raises(DataError) as caught:
        read_npz(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "set.npz"


@pytest.mark.parametrize(
    "names",
    [
        ("images", "labels", "test_images", "test_labels"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("x_train", "y_train", "x_test", "y_test"),
    ],
)
def test_names_of_the_arrays(path, names):
    values = (images(12, 3, 2), labels(12), images(5, 3, 2, first=100), labels(5)[:, None])
    np.savez(path, **dict(zip(names, values, strict=True)))
    found = read_npz(path)
    assert found.train.images.shape == (12, 1, 3, 2)
    assert found.train.labels.tolist() == [*range(10), 0, 1]
    assert found.test.images[0, 0, 0, 0] == 100
    assert found.test.labels.tolist() == [0, 1, 2, 3, 4]
    assert found.class_names is None


def test_class_names_and_no_test_part(path):
    np.savez_compressed(path, images=images(2, 3, 2), labels=[0, 1], class_names=["cat", "Hündin"])
    found = read_npz(path)
    assert found.test is None
    assert found.class_names == ("cat", "Hündin")
    np.savez(path, images=images(2, 3, 2), labels=[0, 1], class_names=np.array([], "U1"))
    assert read_npz(path).class_names is None


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["a", "a"], "expected different names, found 'a' twice"),
        (["a", ""], "expected no empty name, found ''"),
        (["a\nb", "c"], "expected no control characters, found 'a\\nb'"),
    ],
)
def test_class_names_that_cannot_be_used(path, names, says):
    np.savez(path, images=images(2, 3, 2), labels=[0, 1], class_names=names)
    assert message(path) == f"class names: {says}"


def test_channels_last_and_first_and_fractions(path):
    colour = np.arange(2 * 4 * 5 * 3, dtype=np.uint8).reshape(2, 4, 5, 3)
    np.savez(path, images=colour, labels=[0, 1])
    last = read_npz(path).train.images
    assert np.array_equal(last, colour.transpose(0, 3, 1, 2))
    assert last.flags.c_contiguous
    np.savez(path, images=colour.transpose(0, 3, 1, 2), labels=[0, 1])
    assert np.array_equal(read_npz(path).train.images, last)
    np.savez(path, images=colour / 255, labels=[0, 1])
    assert np.array_equal(read_npz(path).train.images, last)


@pytest.mark.parametrize(
    ("arrays", "says"),
    [
        ({"x": [1]}, "expected arrays images and labels, found x"),
        ({"images": images(2, 3, 2), "labels": [0]}, "labels: counts differ: 2 images and 1 labels"),
        (
            {"images": images(2, 3, 2), "labels": [0.0, 1.0]},
            "labels: expected whole numbers (N,), found float64",
        ),
        ({"images": images(2, 3), "labels": [0, 1]}, "images: expected (N, H, W) or (N, C, H, W), found 2x3"),
        ({"images": np.zeros((0, 2, 2)), "labels": []}, "images: empty dataset: 0 images"),
        ({"images": np.full((1, 2, 2), 300), "labels": [0]}, "images: expected pixels of 0 to 255"),
        ({"images": np.array([[["a"]]]), "labels": [0]}, "images: expected numbers, found <U1"),
    ],
)
def test_arrays_that_do_not_fit(path, arrays, says):
    np.savez(path, **arrays)
    assert message(path).startswith(says)


def test_what_is_no_archive(path):
    path.write_bytes(b"PK\x03\x04 and then nothing")
    assert message(path).startswith("cannot be read as .npz: ")
    path.write_bytes(b"")
    assert message(path).startswith("cannot be read as .npz: ")
    with path.open("wb") as file:
        np.save(file, images(2, 3, 2))
    assert message(path) == "expected an .npz archive, found a single array"


def test_pickles_are_not_opened(path):
    np.savez(path, images=np.array([{"code": 1}], dtype=object), labels=[0])
    assert "pickle" in message(path)


def zipped(path, **members):
    """An archive of files that NumPy would not write so."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)


def npy(header: str, content: bytes = b"", version: bytes = b"\x01\0") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(header)) + header.encode() + content


HEADER = "{{'descr': '{}', 'fortran_order': {}, 'shape': {}}}\n"


def test_nothing_is_allocated_for_what_a_header_claims(path):
    zipped(path, images=npy(HEADER.format("|u1", False, (2**40, 28, 28))), labels=npy(""))
    tracemalloc.start()
    try:
        said = message(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert said.startswith("images: too short: 1099511627776x28x28 uint8 needs 862017116176384 bytes of data")
    assert peak < 2**20


@pytest.mark.parametrize(
    ("member", "says"),
    [
        (b"not an array", "images: its header is damaged"),
        (npy("{'descr': '|u1"), "images: its header is damaged"),
        (npy("(" * 5000), "images: its header is damaged"),
        (npy(HEADER.format("|u1", False, (1, 2, 2)), b"1234", b"\x03\0"), "images: its header is damaged"),
        (npy(HEADER.format("|u1", False, (1, -2, -2)), b"1234"), "images: expected at most 8 dimensions"),
        (npy(HEADER.format("|u1", False, (1,) * 40), b"1"), "images: expected at most 8 dimensions"),
        (npy(HEADER.format("|u1", False, (1, 2, 2)), b"123"), "images: too short: 1x2x2 uint8 needs 4 bytes"),
        (npy(HEADER.format("|u1", False, (1, 2, 2)), b"12345"), "images: expected nothing after its 4 bytes"),
        (
            npy(HEADER.format("<c8", False, (1, 1, 1)), b"12345678"),
            "images: expected numbers, found compl",
        ),
        (npy(HEADER.format("|S0", False, (1, 1, 1))), "images: expected numbers, found |S0"),
    ],
)
def test_members_that_are_no_arrays(path, member, says):
    zipped(path, images=member, labels=npy(HEADER.format("|u1", False, (1,)), b"0"))
    assert message(path).startswith(says)


def test_what_python_2_wrote_is_read_without_a_word(path):
    whole = npy("{'descr': '|u1', 'fortran_order': False, 'shape': (2L, 3L, 1L)}", bytes(range(6)))
    numbers = npy("{'descr': '<i8', 'fortran_order': False, 'shape': (2L,)}", struct.pack("<qq", 1, 0))
    zipped(path, images=whole, labels=numbers)
    found = read_npz(path).train
    assert found.images.ravel().tolist() == list(range(6))
    assert found.labels.tolist() == [1, 0]


def test_a_header_of_no_end(path):
    zipped(path, images=npy("(" * 5000), labels=npy(""))
    assert message(path) == "images: its header is damaged: expected at most 1024 bytes"


@pytest.mark.parametrize("order", "<>")
def test_names_of_what_is_no_character(path, order):
    names = np.array([0x110000], f"{order}u4").view(f"{order}U1")
    np.savez(path, images=images(2, 3, 2), labels=labels(2), class_names=names)
    assert message(path) == "class_names: expected text, found numbers that are no characters"


def test_what_does_not_fit_in_memory(path, monkeypatch):
    def fail(*_: object) -> None:
        raise MemoryError

    np.savez(path, images=images(2, 3, 2), labels=[0, 1])
    monkeypatch.setattr("mnistnet.data.npz.np.empty", fail)
    assert message(path) == "does not fit in memory"


def test_columns_first(path):
    pixels = images(2, 3, 4)
    np.savez(path, images=np.asfortranarray(pixels), labels=[0, 1])
    found = read_npz(path).train.images
    assert np.array_equal(found[:, 0], pixels)
    assert found.flags.c_contiguous


def test_only_what_numpy_packs_is_unpacked(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("images.npy", bytes(10**6))
        archive.writestr("labels.npy", b"")
    assert message(path) == "images: expected stored or deflated data, as NumPy writes them"


def test_a_damaged_archive(path):
    np.savez(path, images=images(50, 9, 9), labels=labels(50))
    content = bytearray(path.read_bytes())
    content[400] ^= 255
    path.write_bytes(content)
    assert message(path).startswith("cannot be read as .npz: Bad CRC-32")


def test_an_error_is_not_its_own_cause(path):
    """A chain of causes that never ends hangs whoever walks it."""
    np.savez(path, images=images(2, 3, 2), labels=[0])
    with pytest.raises(DataError) as caught:
        read_npz(path)
    assert caught.value.__cause__ is not caught.value
