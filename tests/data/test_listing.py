"""Names in the order that people expect."""

import pytest

from mnistnet.data.listing import names_in, natural
from mnistnet.errors import DataError


def test_numbers_inside_names_count_as_numbers():
    names = ["b", "2.png", "10.png", "a10b2", "a10b10", "a9", "1.png", "01.png", "9" * 5000]
    expected = ["01.png", "1.png", "2.png", "10.png", "9" * 5000, "a9", "a10b2", "a10b10", "b"]
    assert sorted(names, key=natural) == expected


def test_hidden_names_are_not_there(tmp_path):
    for name in ("10", "9", ".DS_Store"):
        (tmp_path / name).touch()
    assert names_in(tmp_path) == ["9", "10"]


def test_what_is_no_folder(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: not a directory"):
        names_in(tmp_path / "file")
    with pytest.raises(DataError, match="none: no such folder"):
        names_in(tmp_path / "none")
