"""A long training holds no more memory and no more files at its end than at its beginning (Linux).

After every epoch the memory of the training and its workers is read, with their open files and threads.
Counted is what they wrote to, pages that they share once; not the libraries, whose share depends on who else
uses them. At the end no worker and nothing in /dev/shm may be left.

    python scripts/attack_length.py --epochs 200
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from mnistnet.data import read_idx, write_idx

ROOT = Path(__file__).parents[1]
SETTLED = 20
"""Epochs after which memory may not grow any more."""
ALLOWED = 0.02
"""Growth from there to the end that is taken for noise, as a share."""


@dataclass(frozen=True)
class State:
    """A training and its workers after an epoch."""

    epoch: int
    memory: float
    """MB."""
    files: int
    threads: int


def family(pid: int) -> list[int]:
    """A process and those that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [pid, *map(int, children)]


def state(pid: int, epoch: int) -> State:
    memory = files = threads = 0
    for each in family(pid):
        process = Path(f"/proc/{each}")
        rollup = (process / "smaps_rollup").read_text(encoding="ascii")
        memory += sum(map(int, re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB", rollup, re.M)))
        files += len(os.listdir(process / "fd"))  # noqa: PTH208
        threads += len(os.listdir(process / "task"))  # noqa: PTH208
    return State(epoch, memory / 1000, files, threads)


def long_run(place: Path, epochs: int, images: int) -> list[State]:
    """Train, and look after every epoch."""
    data = place / "data"
    data.mkdir()
    for prefix, count in {"train": images, "t10k": 100}.items():
        for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"):
            write_idx(data / name, read_idx(ROOT / "data" / f"{name}.gz")[:count])
    flags = [
        "--model",
        "lenet",
        "--nb-epochs",
        str(epochs),
        "--validation-split",
        "0.2",
        "--augment",
        "shift",
    ]
    states = []
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "mnistnet", "train", "--train-data-dir", str(data), *flags),
            *("--average-decay", "0.9", "--workers", "2", "--checkpoint-folder", str(place / "run")),
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        members: list[int] = []
        for line in process.stdout:
            if (found := re.match(r"epoch (\d+)/", line)) and int(found[1]) < epochs:
                states.append(state(process.pid, int(found[1])))
                members = family(process.pid)
    assert process.returncode == 0
    deadline = time.monotonic() + 2
    while any(Path(f"/proc/{pid}").exists() for pid in members) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(Path(f"/proc/{pid}").exists() for pid in members), "a worker is left"
    return states


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--images", type=int, default=1280)
    options = parser.parse_args()
    shared = sorted(path.name for path in Path("/dev/shm").iterdir())
    with tempfile.TemporaryDirectory() as place:
        states = long_run(Path(place), options.epochs, options.images)
    new = {path.name for path in Path("/dev/shm").iterdir() if "mnistnet" in path.name} - set(shared)
    settled = [each for each in states if each.epoch >= min(SETTLED, options.epochs // 2)]
    memory = [each.memory for each in settled]
    tenth = max(1, len(memory) // 10)
    growth = median(memory[-tenth:]) / median(memory[:tenth]) - 1
    for each in (*settled[:1], settled[len(settled) // 2], settled[-1]):
        print(f"epoch {each.epoch}: {each.memory:.1f} MB, {each.files} files, {each.threads} threads")
    files = [each.files for each in settled]  # one more while a file is saved
    print(f"from epoch {settled[0].epoch} on: {min(memory):.1f} to {max(memory):.1f} MB, {growth:+.2%}")
    print(f"open files: {min(files)} to {max(files)}")
    print(f"no process left; in /dev/shm: {sorted(new) or 'nothing'}")
    return int(growth > ALLOWED or median(files[-tenth:]) > median(files[:tenth]) or bool(new))


if __name__ == "__main__":
    sys.exit(main())
