"""Arrays in JSON come back bit for bit."""

import json
import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mnistnet.errors import CheckpointError
from mnistnet.formats.arrays import array_from_json, array_to_json

FINITE_BITS = st.integers(0, 2**32 - 1).filter(lambda bits: (bits >> 23) & 0xFF != 0xFF)


@given(st.lists(FINITE_BITS, max_size=40))
@example([0x80000000, 0x00000000])  # -0.0 and 0.0
@example([0x00000001, 0x807FFFFF])  # subnormals
@example([0x7F7FFFFF, 0xFF7FFFFF])  # the largest
@example([0x15AE43FD, 0x95AE43FD, 0x15AE43FC, 0x15AE43FE])  # the one that two roundings would move
@example([0x4CBEBC20, 0x4B7FFFFF, 0x3F800000])  # whole numbers
def test_bits_survive(bits: list[int]) -> None:
    values = np.array(bits, np.uint32).view(np.float32)
    text = array_to_json(values, "x")
    # struct is another road from decimals to float32 than ours
    data = json.loads(text)["data"]
    assert [struct.unpack("<I", struct.pack("<f", number))[0] for number in data] == bits
    back = array_from_json(json.loads(text), "x")
    assert back.dtype == np.float32
    assert back.view(np.uint32).tolist() == bits


def test_hand_computed_text() -> None:
    values = np.array([[0.1, -2.0, 1e-7], [3.4028235e38, -0.0, 1 / 3]], np.float32)
    assert array_to_json(values, "x") == (
        '{"v": 1, "dim": [2, 3], "data": [0.1,-2.0,1e-7,3.4028235e+38,-0.0,0.33333334]}'
    )


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (), (1, 1, 1, 1, 1, 1, 1, 1)])
def test_odd_shapes(shape: tuple[int, ...]) -> None:
    back = array_from_json(json.loads(array_to_json(np.ones(shape, np.float32), "x")), "x")
    assert back.shape == shape


def test_other_layouts_are_written_in_c_order() -> None:
    values = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert json.loads(array_to_json(values, "x")) == {"v": 1, "dim": [3, 2], "data": [0, 3, 1, 4, 2, 5]}


def test_what_is_not_written() -> None:
    with pytest.raises(CheckpointError, match="x: non-finite at number 1: found nan"):
        array_to_json(np.array([1, np.nan], np.float32), "x")
    with pytest.raises(CheckpointError, match="x: expected float32, found float64"):
        array_to_json(np.ones(1), "x")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1.0], 'w: expected an array {"v", "dim", "data"}, found a list of 1'),
        ({"v": 1, "dim": [1]}, "w.data: missing"),
        (
            {"v": 1, "dim": [1], "data": [1], "x": 0},
            'w: unknown member "x" in an array: expected v, dim, data',
        ),
        ({"v": 2, "dim": [1], "data": [1]}, "w.v: expected 1, found 2"),
        ({"v": True, "dim": [1], "data": [1]}, "w.v: expected 1, found true"),
        ({"v": 1, "dim": 1, "data": [1]}, "w.dim: expected a list of dimensions, found 1"),
        ({"v": 1, "dim": [1] * 9, "data": [1]}, "w.dim: expected at most 8 dimensions, found 9"),
        ({"v": 1, "dim": [1], "data": 1}, "w.data: expected a list of numbers, found 1"),
        ({"v": 1, "dim": [1], "data": [[1]]}, "w.data[0]: not a number: found a list of 1"),
        ({"v": 1, "dim": [2], "data": [1, True]}, "w.data[1]: not a number: found true"),
        (
            {"v": 1, "dim": [1], "data": [10**299]},
            "w.data[0]: exceeds float32 (at most 3.4028235e+38): found 1",
        ),
    ],
)
def test_what_is_not_read(value: object, message: str) -> None:
    with pytest.raises(CheckpointError) as caught:
        array_from_json(value, "w")
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("dim", [[2**31 - 1] * 8, [2**31 - 1], [2**16] * 4, [2**30, 2**30, 16]])
def test_a_claimed_size_is_not_allocated(dim: list[int]) -> None:
    # in 64 bits, 2**16 to the 4th wraps around to the 0 numbers that are there
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match="against 0 numbers"):
            array_from_json({"v": 1, "dim": dim, "data": []}, "w")
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
