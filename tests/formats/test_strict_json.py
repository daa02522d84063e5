"""What the standard parser lets pass or leaves to luck."""

from math import copysign

import pytest

from mnistnet.errors import CheckpointError
from mnistnet.formats.strict_json import NonFinite, check_plain, member, parse_json, show


def test_minus_zero_keeps_its_sign() -> None:
    whole, decimal, zero = parse_json(b"[-0, -0.0, 0]")
    assert [copysign(1, number) for number in (whole, decimal, zero)] == [-1, -1, 1]


def test_numbers() -> None:
    assert parse_json(b"[1, 1.0, 18446744073709551616, -7]") == [1, 1.0, 2**64, -7]
    assert parse_json(b"9" * 300) == 10**300 - 1
    assert parse_json(b"-" + b"9" * 300) == 1 - 10**300
    for sign in (b"", b"-"):
        with pytest.raises(CheckpointError, match="number too long: 301 digits"):
            parse_json(sign + b"9" * 301)


def test_no_number_is_longer_than_can_be_read_again() -> None:
    check_plain(10**300 - 1, "training")
    for value in (10**300, -(10**300)):
        with pytest.raises(
            CheckpointError, match=r"^training\.n: number too long: expected at most 300 digits"
        ):
            check_plain({"n": value}, "training")


def test_constants_wait_for_their_place() -> None:
    found = parse_json(b"[NaN, Infinity, -Infinity]")
    assert [type(item) for item in found] == [NonFinite] * 3
    with pytest.raises(CheckpointError) as caught:
        check_plain({"a": found}, "training")
    assert str(caught.value) == "training.a[0]: non-finite (NaN)"


def test_equal_keys_in_different_objects_are_fine() -> None:
    assert parse_json(b'[{"a": 1}, {"a": {"a": 2}}]') == [{"a": 1}, {"a": {"a": 2}}]
    with pytest.raises(CheckpointError, match=r'duplicate key "\\u00e9\\n"'):
        parse_json('{"é\\n": 1, "\\u00e9\\n": 2}'.encode())


def test_raw_line_breaks_in_text_are_not_json() -> None:
    with pytest.raises(CheckpointError, match="line 1, column 3: not complete, correct JSON"):
        parse_json(b'["\n"]')


def test_levels() -> None:
    def nested(levels: int) -> object:
        value: object = 0
        for _ in range(levels):
            value = {"a": value}
        return value

    check_plain(nested(64), "training")
    with pytest.raises(CheckpointError, match="nested too deeply: expected at most 64 levels"):
        check_plain(nested(65), "training")


def test_places_and_values_in_messages() -> None:
    assert member("layers[0]", "weight") == "layers[0].weight"
    assert member("", "model") == "model"
    assert member("training", "two\nlines") == 'training."two\\nlines"'
    assert show("x" * 100) == '"' + "x" * 35 + "..."
    assert show({"a": 1}) == "an object"
    assert (show(None), show(False), show(1.5)) == ("null", "false", "1.5")
