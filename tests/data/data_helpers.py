"""What the tests of datasets share: a small folder of IDX files whose images tell their number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mnistnet.data import DIGITS, Dataset, load_data
from mnistnet.errors import DataError

DATA = Path(__file__).parents[2] / "data"
NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def images(count: int, *shape: int, first: int = 0) -> np.ndarray:
    """Images whose every pixel is the number of the image."""
    values = np.arange(first, first + count, dtype=np.uint8)
    return np.broadcast_to(values.reshape(-1, *[1] * len(shape)), (count, *shape)).copy()


def labels(count: int) -> np.ndarray:
    return (np.arange(count) % 10).astype(np.uint8)


def dataset(count: int) -> Dataset:
    return Dataset(images(count, 1, 3, 2), labels(count).astype(np.intp), DIGITS)


def message(folder: Path, where: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_data(folder)
    text = str(caught.value)
    assert text.startswith(f"{where}: ")
    assert "\n" not in text
    return text.removeprefix(f"{where}: ")
