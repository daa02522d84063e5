"""The exception tree: what its docstring draws is what there is."""

import inspect
import re

import pytest

from mnistnet import errors
from mnistnet.errors import DataError, MnistnetError

CLASSES = {
    name: cls
    for name, cls in inspect.getmembers(errors, inspect.isclass)
    if issubclass(cls, MnistnetError) and cls.__module__ == errors.__name__
}
LINE = re.compile(r"^    (?P<branch>[├└]── )?(?P<name>\w+Error) +exit (?P<code>\d+) +(?P<text>.+)$", re.M)
DRAWN = [match.groupdict() for match in LINE.finditer(errors.__doc__ or "")]


def test_the_drawing_names_every_class_once():
    assert sorted(line["name"] for line in DRAWN) == sorted(CLASSES)
    assert DRAWN[0]["name"] == "MnistnetError"


@pytest.mark.parametrize("line", DRAWN, ids=lambda line: line["name"])
def test_the_drawing_shows_exit_codes_parents_and_meanings(line):
    cls = CLASSES[line["name"]]
    assert cls.exit_code == int(line["code"])
    if line["branch"]:
        assert cls.__bases__ == (MnistnetError,)
        summary = (cls.__doc__ or "").splitlines()[0]
        assert summary[0].lower() + summary[1:] == f"{line['text']}."


def test_exit_codes_are_all_different_and_never_zero():
    codes = [cls.exit_code for cls in CLASSES.values()]
    assert len(set(codes)) == len(codes)
    # 126 and above belong to the shell
    assert all(0 < code < 126 for code in codes)


@pytest.mark.parametrize("cls", CLASSES.values())
def test_at_puts_the_place_in_front(cls):
    error = cls("weight should be (8, 1, 3, 3), found (8, 3, 3)")
    placed = error.at("layer 2 (conv2d)").at("ckpt/a.json")
    assert type(placed) is cls
    assert str(placed) == "ckpt/a.json: layer 2 (conv2d): weight should be (8, 1, 3, 3), found (8, 3, 3)"
    assert str(error) == "weight should be (8, 1, 3, 3), found (8, 3, 3)"


def test_at_takes_anything_that_has_a_name(tmp_path):
    assert str(DataError("no file").at(tmp_path)) == f"{tmp_path}: no file"


def test_everything_is_caught_as_one():
    for cls in CLASSES.values():
        with pytest.raises(MnistnetError, match=r"^reason$"):
            raise cls("reason")


def test_what_a_stranger_wrote_stays_on_one_line_and_harmless():
    error = DataError("node 'a\x1b[2J\nb': expected é, found \u2028\ud800")
    assert str(error) == r"node 'a\x1b[2J b': expected é, found \u2028\ud800"
    assert str(error.at("x")) == rf"x: {error}"


def test_a_message_has_an_end():
    text = str(DataError("path: found " + "x" * 10**6 + ": do this"))
    assert len(text) < 5010
    assert text.startswith("path: found xx")
    assert text.endswith("xx: do this")
