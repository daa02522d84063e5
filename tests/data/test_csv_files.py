"""CSV: as Kaggle has it and as people make it, fast on plain numbers, exact about every mistake."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mnistnet.data import csv_files
from mnistnet.data.csv_files import read_csv_file, read_csv_folder
from mnistnet.errors import DataError

ROWS = ["7,0,10,200,255", "1,1,2,3,4", "0,9,99,100,0"]
PIXELS = [[[[0, 10], [200, 255]]], [[[1, 2], [3, 4]]], [[[9, 99], [100, 0]]]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "digits.csv"


def check(path: Path, content: str | bytes) -> None:
    """Every way to write `ROWS` is read as the same three images."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    train = read_csv_file(path).train
    assert train.images.tolist() == PIXELS
    assert train.labels.tolist() == [7, 1, 0]


def message(path: Path, content: bytes) -> str:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_csv_file(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text.removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    "header",
    ["", "label,1x1,1x2,2x1,2x2\n", "label,pixel0,pixel1,pixel2,pixel3\n", '"label","a","b","c","d"\n'],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("last", ["", "\n", "\n\n"])
def test_with_or_without_header_and_last_line_end(path, header, end, last):
    check(path, (header + "\n".join(ROWS) + last).replace("\n", end))


def test_gzip_byte_order_mark_blanks_and_quotes(path):
    plain = "\n".join(ROWS)
    check(path, gzip.compress(plain.encode()))
    check(path, b"\xef\xbb\xbf" + plain.encode())
    check(path, plain.replace(",", ", "))
    check(path, "\n".join('"' + row.replace(",", '","') + '"' for row in ROWS))
    check(path, plain.replace(",9,99", ",009,099"))


def test_the_label_may_be_the_last_column(path):
    path.write_text("1x1,1x2,class\n1,2,0\n3,4,1\n")
    train = read_csv_file(path).train
    assert train.images.tolist() == [[[[1, 2]]], [[[3, 4]]]]
    assert train.labels.tolist() == [0, 1]


@pytest.mark.parametrize("last", [False, True])
def test_pixels_named_by_their_numbers_as_pandas_has_them(path, last):
    lines = ["0,1,2,3,label", *(row[2:] + row[1::-1] for row in ROWS)] if last else ["label,0,1,2,3", *ROWS]
    check(path, "\n".join(lines))


def test_colour_in_the_header(path):
    path.write_text(
        "label," + ",".join(f"{c}x1x{x}" for c in (1, 2, 3) for x in (1, 2)) + "\n0,1,2,3,4,5,6\n"
    )
    assert read_csv_file(path).train.images.tolist() == [[[[1, 2]], [[3, 4]], [[5, 6]]]]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    table=hnp.arrays(np.uint8, st.tuples(st.integers(1, 40), st.sampled_from([2, 5, 10]))),
    piece=st.integers(1, 300),
)
def test_like_numpys_own_writer_in_pieces_of_any_size(path, table, piece):
    np.savetxt(path, table, "%d", delimiter=",")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_files, "_PIECE", piece)
        train = read_csv_file(path).train
    assert np.array_equal(train.labels, table[:, 0])
    assert np.array_equal(train.images.reshape(len(table), -1), table[:, 1:])


@pytest.mark.parametrize("row", ["1,2,3", "1,2,3,4,5,6", ""])
def test_row_36_ragged(path, row):
    lines = [*ROWS, row, ROWS[0]]
    if row:
        assert message(path, "\n".join(lines).encode()) == f"line 4: {len(row.split(','))} of 5 fields"
    else:
        path.write_text("\n".join(lines))
        assert len(read_csv_file(path).train.labels) == 4  # an empty line is no row


@pytest.mark.parametrize("cell", ["256", "-1", "abc", "nan", "", "1.5", "1e2", "0001", "٣"])
@pytest.mark.parametrize("header", [0, 1])
def test_row_37_a_cell_that_is_no_pixel(path, cell, header):
    lines = ["label,1x1,1x2,2x1,2x2"] * header + [*ROWS, f"1,2,{cell},4,5", ROWS[0]]
    says = message(path, "\n".join(lines).encode())
    shown = cell.encode().decode("utf-8")
    assert says == f"line {4 + header}, column 3: expected a whole number of 0 to 255, found {shown!r}"


def test_mistakes_are_found_in_any_piece(path, monkeypatch):
    monkeypatch.setattr(csv_files, "_PIECE", 40)
    lines = ROWS * 20
    lines[50] = "1,2,3,x,5"
    assert message(path, "\n".join(lines).encode()).startswith("line 51, column 4: ")


@pytest.mark.parametrize(
    "content", [b"pixel0,pixel1,pixel2,pixel3\n1,2,3,4\n", b"1,2,3,4\n5,6,7,8\n"], ids=["header", "none"]
)
def test_row_38_no_labels(path, content):
    assert message(path, content).startswith("needs a label column: ")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty: expected a line for each image"),
        (b"\n\n", "empty: expected a line for each image"),
        (b"label,1x1,1x2,2x1,2x2\n", "empty dataset: a header and no images"),
        (b"1,2,3\n", "line 1: expected a label and a square number of pixels"),
        (b"\x89PNG\r\n\x1a\n\0\0", "not CSV: expected text, found 89 50 4E 47"),
        (gzip.compress(b"1,2\n" * 99, mtime=0)[:-9], "the gzip data ended early"),
    ],
)
def test_what_is_no_csv(path, content, says):
    assert message(path, content).startswith(says)


def test_a_file_without_lines_is_not_read_to_its_end(path, monkeypatch):
    monkeypatch.setattr(csv_files, "LONGEST_LINE", 1000)
    monkeypatch.setattr(csv_files, "_PIECE", 100)
    assert message(path, gzip.compress(b"1" * 1_000_000)).startswith(
        "not CSV: expected lines, found 1100 bytes"
    )


def test_folders_and_partners(tmp_path):
    (tmp_path / "mnist_train.csv").write_text("\n".join(ROWS))
    (tmp_path / "mnist_test.csv.gz").write_bytes(gzip.compress(ROWS[1].encode()))
    assert len(read_csv_folder(tmp_path).test.labels) == 1
    assert read_csv_file(tmp_path / "mnist_train.csv").test is None  # .csv.gz is another name
    (tmp_path / "mnist_test.csv").write_text(ROWS[0])
    assert read_csv_file(tmp_path / "mnist_train.csv").test.labels.tolist() == [7]
    with pytest.raises(DataError, match="expected one CSV file with test in its name, found mnist_test"):
        read_csv_folder(tmp_path)


def test_kaggles_competition_has_no_labels_in_its_test_file(tmp_path):
    (tmp_path / "train.csv").write_text("label,pixel0,pixel1,pixel2,pixel3\n" + "\n".join(ROWS))
    (tmp_path / "test.csv").write_text("pixel0,pixel1,pixel2,pixel3\n1,2,3,4\n")
    (tmp_path / "sample_submission.csv").write_text("ImageId,Label\n1,0\n")
    found = read_csv_folder(tmp_path)
    assert found.test is None
    assert found.warnings == (f"{tmp_path / 'test.csv'}: has no labels and is not used",)
    splits = found.splits()
    assert (len(splits.train), len(splits.test)) == (2, 1)
    assert splits.warnings[1].startswith(f"{tmp_path}: no test part: 1 of its images")
