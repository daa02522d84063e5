"""A small dataset on disk."""

from pathlib import Path

import pytest
from data_helpers import NAMES, images, labels

from mnistnet.data import write_idx


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve training and five test images of 3x2 pixels."""
    write_idx(tmp_path / NAMES[0], images(12, 3, 2))
    write_idx(tmp_path / NAMES[1], labels(12))
    write_idx(tmp_path / NAMES[2], images(5, 3, 2, first=100))
    write_idx(tmp_path / NAMES[3], labels(5))
    return tmp_path
