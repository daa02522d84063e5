"""IDX files: every byte by hand, every bad one by its message."""

from __future__ import annotations

import gzip
import os
import stat
import struct
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mnistnet.data.idx import idx_header, read_idx, write_idx
from mnistnet.errors import DataError, OutputError

CODES = {0x08: "B", 0x09: "b", 0x0B: "h", 0x0C: "i", 0x0D: "f", 0x0E: "d"}


def idx(*sizes: int, data: bytes | None = None, code: int = 0x08) -> bytes:
    """An IDX file by the letter of the format; one byte an item unless ``data`` is given."""
    count = 1
    for size in sizes:
        count *= size
    body = bytes(i % 251 for i in range(count)) if data is None else data
    return bytes([0, 0, code, len(sizes)]) + b"".join(struct.pack(">I", size) for size in sizes) + body


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "some-idx3-ubyte"


def message(path: Path, content: bytes, **wanted: object) -> str:
    """What `read_idx` has to say about a file of ``content``: one line that begins with the path."""
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_idx(path, **wanted)  # type: ignore[arg-type]
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert path.read_bytes() == content
    return text.removeprefix(f"{path}: ")


# --- good files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("code", "letter"), CODES.items())
@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["raw", "gzip"])
def test_reads_every_type_big_endian(path, code, letter, pack):
    numbers = [0, 1, 2, 100, 127, 3]
    path.write_bytes(pack(idx(2, 3, data=struct.pack(f">6{letter}", *numbers), code=code)))
    values = read_idx(path)
    assert values.tolist() == [[0, 1, 2], [100, 127, 3]]
    assert values.dtype == np.dtype(letter)
    assert values.dtype.isnative
    assert values.flags.writeable
    assert values.flags.c_contiguous


def test_negative_and_wide_numbers(path):
    path.write_bytes(b"\x00\x00\x0b\x01\x00\x00\x00\x02\x01\x02\xff\xfe")
    assert read_idx(path).tolist() == [258, -2]


def test_gzip_is_known_by_its_bytes_not_by_its_name(tmp_path):
    zipped, plain = tmp_path / "a", tmp_path / "b.gz"
    zipped.write_bytes(gzip.compress(idx(3)))
    plain.write_bytes(idx(3))
    assert read_idx(zipped).tolist() == read_idx(plain).tolist() == [0, 1, 2]


def test_a_gzip_larger_than_one_chunk(path):
    noise = np.random.default_rng(0).integers(0, 256, 700_000, np.uint8).tobytes()
    path.write_bytes(gzip.compress(idx(700, 1000, data=noise), 1))
    assert read_idx(path).tobytes() == noise


def test_path_with_spaces_and_unicode(tmp_path):
    path = tmp_path / "-mes données 数.gz"
    write_idx(path, np.arange(3, dtype=np.uint8))
    assert read_idx(path).tolist() == [0, 1, 2]


@given(
    values=st.sampled_from([np.uint8, np.int8, np.int16, np.int32, np.float32, np.float64]).flatmap(
        lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5))
    ),
    suffix=st.sampled_from(["", ".gz"]),
    swapped=st.booleans(),
)
@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path, values, suffix, swapped):
    path = tmp_path / f"round{suffix}"
    write_idx(path, values.astype(values.dtype.newbyteorder()) if swapped else values)
    found = read_idx(path, dimensions=values.ndim, dtype=values.dtype)
    assert found.shape == values.shape
    assert found.tobytes() == values.tobytes()  # bits, so that NaN counts too
    assert {each.name for each in tmp_path.iterdir()} <= {"round", "round.gz"}  # nothing temporary stays


def test_written_bytes(tmp_path):
    values = np.array([[1, 2], [3, 4]], np.int16).T  # not contiguous: written in its own C order
    expected = bytes.fromhex("00000B02 00000002 00000002 0001 0003 0002 0004")
    write_idx(tmp_path / "a", values)
    write_idx(tmp_path / "a.gz", values)
    assert (tmp_path / "a").read_bytes() == expected
    assert gzip.decompress((tmp_path / "a.gz").read_bytes()) == expected
    assert idx_header(values) == expected[:12]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (np.zeros(3, np.int64), "not int64"),
        (np.zeros((0, 3), np.uint8), "at least one number"),
        (np.uint8(3).reshape(()), "1 to 32 dimensions"),
    ],
)
def test_refuses_to_write_what_idx_cannot_hold(tmp_path, values, says):
    with pytest.raises(DataError, match=says):
        write_idx(tmp_path / "a", values)
    assert not list(tmp_path.iterdir())


def test_writing_into_a_missing_folder(tmp_path):
    path = tmp_path / "missing" / "a"
    with pytest.raises(OutputError, match="missing does not exist: create it first"):
        write_idx(path, np.zeros(1, np.uint8))


def test_a_failed_write_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / "a"
    path.mkdir()  # cannot be replaced by a file
    with pytest.raises(OutputError, match="is a directory"):
        write_idx(path, np.zeros(1, np.uint8))
    assert list(tmp_path.iterdir()) == [path]


# --- bad files, by their row in the table of bad inputs ---------------------------------------------------


def test_missing(path):
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(caught.value) == f"{path}: no such file"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "header incomplete: needs at least 4 bytes, found 0 (empty)"),
        (b"\0\0\x08", "header incomplete: needs at least 4 bytes, found 3"),
        (b"\0\0\x08\x03\0\0\0\x01\0\0", "header incomplete: 3 dimensions need 16 bytes, found 10"),
    ],
)
def test_row_16_header_incomplete(path, content, says):
    assert message(path, content) == says
    assert message(path, gzip.compress(content)) == says


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"<!DOCTYPE html><title>403", "found 3C 21 44 4F 43 54 59 50 ('<!DOCTYP'), which looks like HTML"),
        (b"\x89PNG\r\n\x1a\n\0\0", "('.PNG....'), which looks like a PNG picture"),
        (b"<", "found 3C ('<'), which looks like HTML"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
        (b"\0\0\x0a\x01\0\0\0\x01\0", "found 00 00 0A 01 00 00 00 01"),
    ],
)
def test_row_17_something_else(path, content, says):
    for packed in (content, gzip.compress(content)):
        text = message(path, packed)
        assert text.startswith("not an IDX file: expected first bytes 00 00 08, ")
        assert says in text


def test_row_18_labels_given_as_images(path):
    assert message(path, idx(4), dimensions=3) == "expected 3 dimensions, found 1"
    assert message(path, idx(4), dimensions=(3, 4)) == "expected 3 dimensions, found 1; 4 would do too"
    assert message(path, idx(4, 2, 2), dimensions=1) == "expected 1 dimension, found 3"


@pytest.mark.parametrize("count", [0, 33, 255])
def test_absurd_numbers_of_dimensions(path, count):
    content = bytes([0, 0, 8, count]) + b"\0\0\0\x01" * count + b"\x05"
    assert message(path, content) == f"expected 1 to 32 dimensions, found {count}"


def test_row_19_float_labels(path):
    content = idx(2, data=struct.pack(">2f", 1, 2), code=0x0D)
    assert message(path, content, dtype=np.uint8) == "expected unsigned bytes, found float32 (IDX type 0D)"


def test_row_20_truncated(path):
    says = "file too short: 2x3 uint8 needs 6 bytes of data, found 5"
    assert message(path, idx(2, 3)[:-1]) == says
    assert message(path, gzip.compress(idx(2, 3)[:-1])) == says


def test_row_21_trailing_bytes(path):
    assert message(path, idx(2, 3) + b"12345") == "expected nothing after the data, found 5 extra bytes"


@pytest.mark.parametrize("sizes", [(2**32 - 1,) * 3, (2**31, 2**31, 4), (60000, 2**30, 28)])
def test_row_22_huge_dimensions_allocate_nothing(path, sizes):
    # the middle one's product is 2**64, which 64-bit arithmetic takes for 0
    content = idx(*sizes, data=b"1234")
    needed = sizes[0] * sizes[1] * sizes[2]
    tracemalloc.start()
    try:
        assert f"uint8 needs {needed} bytes of data, found 4" in message(path, content)
        assert "which so small a gzip file cannot hold" in message(path, gzip.compress(content))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("sizes", [(0, 28, 28), (5, 0, 28), (0, 2**32 - 1, 2**32 - 1)])
def test_row_23_no_images(path, sizes):
    by = "x".join(map(str, sizes))
    assert message(path, idx(*sizes, data=b"")) == f"empty dataset: its sizes are {by}"


def test_row_27_truncated_gzip(path):
    whole = gzip.compress(idx(2000, data=np.random.default_rng(0).bytes(2000)))
    assert "the gzip data ended early: file too short: 2000 uint8 needs 2000 bytes" in message(
        path, whole[:-500]
    )
    assert message(path, whole[:-3]) == "the gzip data ended early: its checksum is missing"
    assert "the gzip data ended early: header incomplete" in message(path, whole[:11])


def test_row_28_wrong_crc(path):
    whole = bytearray(gzip.compress(idx(2000)))
    whole[-8] ^= 1
    assert message(path, bytes(whole)) == "corrupt gzip data: its CRC is wrong"


def test_damaged_gzip(path):
    whole = bytearray(gzip.compress(idx(2000)))
    whole[10] |= 7  # a block of the type that does not exist
    assert message(path, bytes(whole)) == "corrupt gzip data: invalid block type"


def test_row_29_gzip_bomb_is_not_expanded(path):
    bomb = gzip.compress(idx(10, data=bytes(50_000_000)))
    tracemalloc.start()
    try:
        assert message(path, bomb) == "expands to more data: it exceeds what its header says"
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


def test_row_30_junk_after_the_gzip(path):
    whole = gzip.compress(idx(2, 3))
    says = "expected one gzip stream, found trailing data after it"
    assert message(path, whole + b"junk") == f"{says} (6A 75 6E 6B ('junk'))"
    assert message(path, whole + whole) == f"{says} (a second gzip stream)"
    assert message(path, whole + bytes(300_000)).startswith(says)


def test_row_31_empty_gzip(path):
    assert message(path, gzip.compress(b"")) == "header incomplete: needs at least 4 bytes, found 0 (empty)"


def test_row_32_little_endian(path):
    swapped = struct.pack("<4I", 0x0803, 60000, 28, 28)
    assert "byte order?" in message(path, swapped + bytes(10))
    sizes_only = b"\0\0\x08\x01" + struct.pack("<I", 5) + b"12345"
    assert message(path, sizes_only).endswith("found 5; are the sizes little-endian (byte order?)")
    assert "byte order?" in message(path, gzip.compress(sizes_only))
    assert "byte order?" not in message(path, idx(100, 28, 28)[:-1])


def test_row_33_directory(tmp_path):
    with pytest.raises(DataError, match="not a regular file, but a directory"):
        read_idx(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")
def test_row_33_fifo_does_not_hang(path):
    os.mkfifo(path)
    with pytest.raises(DataError, match="not a regular file, but a named pipe"):
        read_idx(path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="no devices as files on this system")
def test_row_33_device():
    with pytest.raises(DataError, match="/dev/zero: not a regular file, but a device"):
        read_idx(Path("/dev/zero"))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="this user may read everything")
def test_row_34_no_permission(path):
    path.write_bytes(idx(3))
    path.chmod(0)
    try:
        with pytest.raises(DataError, match="permission denied"):
            read_idx(path)
    finally:
        path.chmod(stat.S_IRUSR | stat.S_IWUSR)


def test_row_34_no_permission_said_by_the_system(path, monkeypatch):
    path.write_bytes(idx(3))

    def refuse(*args: object, **kwargs: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError) as caught:
        read_idx(path)
    assert str(caught.value) == f"{path}: permission denied"
