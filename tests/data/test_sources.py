"""The form of a source is told by what is in it, and the form does not matter to what is trained."""

from __future__ import annotations

import numpy as np
import pytest
from data_helpers import message

from mnistnet.data import load_data
from mnistnet.data.sources import LOOKED_FOR
from mnistnet.errors import DataError


def test_a_folder_without_data_is_told_what_was_looked_for(tmp_path):
    assert message(tmp_path, tmp_path) == f"no data here: looked for {LOOKED_FOR}; found an empty folder"
    for number in range(7):
        (tmp_path / f"{number}.txt").touch()
    says = message(tmp_path, tmp_path)
    assert says.endswith("found 0.txt, 1.txt, 2.txt, 3.txt, 4.txt and 2 more")


def test_a_file_of_another_kind(tmp_path):
    (tmp_path / "a.zip").touch()
    assert message(tmp_path / "a.zip", tmp_path / "a.zip") == (
        "expected a folder, a .csv, .csv.gz or .npz file; found another file"
    )


def test_without_a_test_part_a_seventh_is_kept_back(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, images=np.arange(70, dtype=np.uint8)[:, None, None], labels=np.zeros(70, int))
    splits = load_data(path)
    assert (len(splits.train), len(splits.test)) == (60, 10)
    assert splits.warnings == (f"{path}: no test part: 10 of its images, drawn at random, are kept for it",)
    assert np.array_equal(load_data(path).test.images, splits.test.images)
    both = np.concatenate([splits.train.images, splits.test.images]).ravel()
    assert sorted(both.tolist()) == list(range(70))


def test_one_image_is_too_few_for_two_parts(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 2, 2)), labels=[0])
    with pytest.raises(DataError, match=r"a\.npz: validation split: expected at least 2 images, found 1"):
        load_data(tmp_path / "a.npz")


def test_one_archive_in_a_folder(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((9, 2, 2)), labels=[0] * 9)
    assert len(load_data(tmp_path).train) == 8


def test_a_path_may_be_text(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.zeros((9, 2, 2)), labels=[0] * 9)
    assert len(load_data(str(tmp_path)).train) == 8
    with pytest.raises(DataError, match="nowhere: no such file or folder"):
        load_data("nowhere")
