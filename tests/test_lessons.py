"""The lessons run, learn what they say, and draw it."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LESSONS = Path(__file__).parents[1] / "scripts" / "lessons"


def taught(name: str, folder: Path) -> tuple[list[str], np.ndarray]:
    """What a lesson prints, and its picture (H, W, 3)."""
    path = folder / "a.png"
    command = [sys.executable, LESSONS / f"{name}.py", path]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    with Image.open(path) as picture:
        return done.stdout.splitlines(), np.array(picture.convert("RGB"))


def numbers(line: str) -> list[float]:
    return [float(number) for number in re.findall(r"-?\d+\.\d+", line)]


def test_a_line_is_the_one_of_least_squares(tmp_path: Path) -> None:
    (learned, closed), picture = taught("linear_regression", tmp_path)
    assert numbers(learned) == pytest.approx(numbers(closed), abs=2e-3)
    assert numbers(closed) == pytest.approx([0.7, 0.2], abs=0.1)
    assert picture.shape == (300, 300, 3)


def test_one_layer_learns_three_gates(tmp_path: Path) -> None:
    lines, picture = taught("logic_gates", tmp_path)
    assert [line.split()[0] for line in lines] == ["AND", "OR", "NAND"]
    assert all(line.endswith("right") for line in lines)
    assert picture.shape == (300, 912, 3)


def test_only_a_hidden_layer_learns_xor(tmp_path: Path) -> None:
    (without, with_one), picture = taught("xor", tmp_path)
    assert numbers(without)[-1] > 0.45
    assert numbers(with_one)[-1] < 0.1
    # along one diagonal the picture is red, along the other blue, a little away from the points
    right = picture[:, 306:].astype(int)
    assert all(right[y, x, 0] > right[y, x, 2] for y, x in ((20, 280), (280, 20)))
    assert all(right[y, x, 2] > right[y, x, 0] for y, x in ((20, 20), (280, 280)))


def test_two_moons_are_told_apart_where_nothing_was_learned(tmp_path: Path) -> None:
    (line,), picture = taught("two_moons", tmp_path)
    assert int(line.split()[0]) > 970
    assert picture.shape == (300, 300, 3)
