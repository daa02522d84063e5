"""Real processes on a small part of the real data."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mnistnet.data.idx import read_idx, write_idx

ROOT = Path(__file__).parents[2]
PARTS = {
    "train-images-idx3-ubyte": 640,
    "train-labels-idx1-ubyte": 640,
    "t10k-images-idx3-ubyte": 200,
    "t10k-labels-idx1-ubyte": 200,
}


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json_lines(self) -> list[dict]:
        return [json.loads(line) for line in self.out.splitlines()]


Mnistnet = Callable[..., Result]


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 640 training and 200 test images of MNIST."""
    folder = tmp_path_factory.mktemp("small")
    for name, count in PARTS.items():
        write_idx(folder / name, read_idx(ROOT / "data" / f"{name}.gz")[:count])
    return folder


@pytest.fixture
def mnistnet(tmp_path: Path) -> Mnistnet:
    """Run the command in a process of its own, in an empty folder."""

    def run(*arguments: object, stdin: bytes = b"", timeout: float = 120) -> Result:
        done = subprocess.run(
            [sys.executable, "-m", "mnistnet", *map(str, arguments)],
            cwd=tmp_path,
            input=stdin,
            capture_output=True,
            timeout=timeout,
            env={**os.environ, "PYTHONWARNINGS": "error", "COLUMNS": "100", "PYTHONIOENCODING": "utf-8"},
        )
        return Result(done.returncode, done.stdout.decode(), done.stderr.decode())

    return run


@pytest.fixture(scope="session")
def trained(small_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one short run."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    subprocess.run(
        [
            *(sys.executable, "-m", "mnistnet", "train", "--model", "mlp", "--nb-epochs", "3"),
            *("--train-data-dir", str(small_data), "--checkpoint-folder", str(folder)),
        ],
        check=True,
        capture_output=True,
    )
    return folder
