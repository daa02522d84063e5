"""The worker processes of a real training: they end with it, and their end is told."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mnistnet.formats.checkpoint import load_checkpoint

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds children in /proc")


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


@contextmanager
def training(small_data: Path, folder: Path) -> Iterator[tuple[subprocess.Popen, int]]:
    """A training on two processes, some epochs in, and its worker's process id."""
    arguments = ["--model", "mlp", "--nb-epochs", "100000", "--workers", "2"]
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "mnistnet", "train", "--train-data-dir", str(small_data)),
            *(*arguments, "--checkpoint-folder", str(folder)),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        while not (folder / "checkpoint_2.json").exists():
            assert process.poll() is None
            time.sleep(0.01)
        (worker,) = children_of(process.pid)
        yield process, worker
        process.kill()


def wait_until_gone(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_running(pid)


def test_a_killed_worker_ends_the_training_with_its_checkpoints_intact(
    small_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with training(small_data, folder) as (process, worker):
        os.kill(worker, signal.SIGKILL)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 10
    assert err == ("mnistnet: worker 1 of 2 was killed by signal 9; checkpoints already written are intact\n")
    latest = load_checkpoint(folder / "latest.json")
    assert latest.training["epoch"] >= 2
    assert not (folder / ".lock").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_worker_outlives_the_training(small_data: Path, tmp_path: Path, number: int) -> None:
    with training(small_data, tmp_path / "run") as (process, worker):
        assert is_running(worker)
        process.send_signal(number)
        process.wait(timeout=30)
        assert wait_until_gone(worker, seconds=2)


def test_ctrl_c_in_the_terminal_reaches_the_parent_alone(small_data: Path, tmp_path: Path) -> None:
    """A terminal sends SIGINT to the whole foreground group: the worker is in a group of its own."""
    with training(small_data, tmp_path / "run") as (process, worker):
        assert os.getpgid(worker) != os.getpgid(process.pid)
