"""Datasets in memory."""

from __future__ import annotations

import numpy as np
import pytest
from data_helpers import dataset

from mnistnet.data import DIGITS, Dataset
from mnistnet.data.dataset import check_class_names
from mnistnet.errors import DataError


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


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (("a", "b", "a"), "expected different names, found 'a' twice"),
        (("a", ""), "expected no empty name, found ''"),
        (("a", " "), "expected no empty name, found ' '"),
        (("a\nb",), r"expected no control characters, found 'a\nb'"),
        (("a\x1b[31m",), r"expected no control characters, found 'a\x1b[31m'"),
        (("a\u2028b",), r"expected no control characters, found 'a\u2028b'"),
        (("a\u2029b",), r"expected no control characters, found 'a\u2029b'"),
        (("a\udc80",), r"expected no control characters, found 'a\udc80'"),
    ],
)
def test_class_names_that_cannot_be_used(names, says):
    with pytest.raises(DataError) as caught:
        check_class_names(names)
    assert str(caught.value) == says


def test_class_names_of_any_script():
    # a zero-width non-joiner, as Persian has it, and an emoji that is joined of three
    check_class_names(("T-shirt/top", "\u0645\u06cc\u200c\u062e", "👩\u200d🔬", "数 字", "é"))
