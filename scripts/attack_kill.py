"""kill -9 at random moments, most of them while a run is being written, again and again until it is finished.

A run is started, killed, gone on with by ``--resume``, killed, ... and at last left alone. After every kill
each file of its folder has to be whole; at the end the run has to have the bytes of one that nobody disturbed
(the seconds in the CSV excepted), with no lock, leftover or process behind. Four ways to choose the moment:

- ``slow``: every system call that changes the folder takes some milliseconds more, and writes come in two
  halves, so that a random moment is nearly always within a save;
- ``sight``: as soon as a temporary file is seen in the folder;
- ``any``: at any moment of the process, its start included;
- ``worker``: not the training but one of its worker processes is killed: it has to say so and leave with 10.

With ``--signals`` the process group gets SIGINT, SIGTERM or SIGHUP instead: the process has to leave with 128
and the signal's number, in one line or none, and to leave no temporary file and no lock.

    python scripts/attack_kill.py --kills 500
    python scripts/attack_kill.py --kills 100 --signals
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from mnistnet.data import read_idx, write_idx
from mnistnet.formats.checkpoint import load_checkpoint
from mnistnet.training.runs import COLUMNS

ROOT = Path(__file__).parents[1]
IMAGES = {"train": 320, "t10k": 100}
RUN = [
    *("--model", "mlp", "--nb-epochs", "20", "--optimizer", "adam", "--validation-split", "0.2"),
    *("--augment", "shift", "--average-decay", "0.9", "--workers", "2"),
]
WAYS = {"slow": 5, "sight": 3, "any": 1, "worker": 1}
"""The ways to choose a moment, and how often each is taken."""
KNOWN = re.compile(r"(checkpoint_\d+|latest|best)\.json|run\.toml|loss\.csv")
LEFT_BEHIND = re.compile(r"\.lock|\..+\.\d+-\d+\.mnistnet-tmp")
SLOW = """
import os, random, sys, time
chance = random.Random(sys.argv.pop(1))
pause = lambda: time.sleep(chance.uniform(0, 0.004))
def slowed(call):
    def slow(*arguments, **options):
        pause()
        result = call(*arguments, **options)
        pause()
        return result
    return slow
write = os.write
def halves(descriptor, data):
    pause()
    done = write(descriptor, data[: len(data) // 2 if len(data) > 20 else None])
    pause()
    return done
os.write = halves
for name in ("fsync", "replace", "ftruncate", "unlink", "mkdir"):
    setattr(os, name, slowed(getattr(os, name)))
from mnistnet.cli import main
main()
"""


class BrokenPromiseError(Exception):
    """What must not happen has happened."""


@dataclass
class Tally:
    """What was done so far."""

    kills: Counter[str] = field(default_factory=Counter)
    within_a_write: int = 0
    """Kills that left a temporary file."""
    within_a_save: int = 0
    """Kills after some of an epoch's files and before others."""
    resumed: int = 0
    runs: int = 0

    def __str__(self) -> str:
        ways = ", ".join(f"{way} {count}" for way, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} killed or stopped ({ways}), {self.within_a_write} of them within the "
            f"write of a file, {self.within_a_save} between the files of a save; {self.resumed} resumes; "
            f"{self.runs} runs finished, each with the bytes of the undisturbed one"
        )


class Attack:
    """Runs in ``place``, compared with one that nobody disturbed."""

    def __init__(self, place: Path, seed: int, *, signals: bool = False) -> None:
        self.place = place
        self.signals = signals
        self.chance = random.Random(seed)
        self.tally = Tally()
        self.data = place / "data"
        self.data.mkdir()
        for prefix, count in IMAGES.items():
            for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"):
                write_idx(self.data / name, read_idx(ROOT / "data" / f"{name}.gz")[:count])
        self.whole = place / "whole"
        started = time.monotonic()
        done = self.finish(self.start(self.whole))
        self.seconds = time.monotonic() - started
        if done.returncode:
            raise BrokenPromiseError(f"the undisturbed run failed: {done.stderr}")

    def start(self, folder: Path) -> list[str]:
        """The flags of a run's first process."""
        return ["train", "--train-data-dir", str(self.data), *RUN, "--checkpoint-folder", str(folder)]

    def next(self, folder: Path) -> list[str]:
        """The flags of a run's next process."""
        if any(folder.glob("checkpoint_*.json")) or (folder / "latest.json").exists():
            self.tally.resumed += 1
            return ["train", "--resume", str(folder)]
        return self.start(folder)

    def finish(self, flags: list[str]) -> subprocess.CompletedProcess[str]:
        """A process that is left alone."""
        return subprocess.run(
            [sys.executable, "-m", "mnistnet", *flags],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def one_run(self, folder: Path, kills: int) -> None:
        """Kill a run so often, or until it is finished; then let it come to its end, and compare."""
        for _ in range(kills):
            way = self.chance.choices(list(WAYS), list(WAYS.values()))[0]
            flags = self.next(folder)
            killed = (
                self.stop_once(folder, flags, way) if self.signals else self.kill_once(folder, flags, way)
            )
            if not killed:
                break
            self.tally.kills[way] += 1
            self.look_at(folder)
        done = self.finish(self.next(folder))
        if done.returncode and "nothing to do" not in done.stderr:
            raise BrokenPromiseError(f"it does not go on: {done.stderr}")
        compare(self.whole, folder)
        self.tally.runs += 1

    def kill_once(self, folder: Path, flags: list[str], way: str) -> bool:
        """Start a process and kill it; whether it could still be killed."""
        with self.launch(flags, way) as process:
            workers = self.wait(process, folder, way)
            victim = workers[0] if way == "worker" and workers else 0
            alive = process.poll() is None
            if victim:
                os.kill(victim, signal.SIGKILL)
            elif alive:
                os.killpg(process.pid, signal.SIGKILL)
            assert process.stderr is not None
            said = process.stderr.read()
            code = process.wait()
        if way == "worker" and victim and code not in (0, 2):
            if code != 10 or not re.search(r"worker 1 of 2 was killed by signal 9; .* intact\n$", said):
                raise BrokenPromiseError(f"a killed worker: exit code {code}: {said}")
        elif code not in (0, -signal.SIGKILL) and not (code == 2 and "nothing to do" in said):
            raise BrokenPromiseError(f"it ended by itself with {code}: {said}")
        wait_until_gone(workers)
        return code in (10, -signal.SIGKILL)

    def stop_once(self, folder: Path, flags: list[str], way: str) -> bool:
        """Start a process and ask its group to end; whether it had not ended by itself."""
        way = "any" if way == "worker" else way
        number = self.chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
        with self.launch(flags, way) as process:
            workers = self.wait(process, folder, way)
            if process.poll() is None:
                os.killpg(process.pid, number)
            assert process.stderr is not None
            said = process.stderr.read()
            code = process.wait()
        if code == -number or (code == 128 + number and "mnistnet" not in said):
            pass  # the interpreter was not ready for a signal yet, or not any more
        elif code not in (0, 128 + number) and not (code == 2 and "nothing to do" in said):
            raise BrokenPromiseError(f"signal {number}: it ended with {code}: {said}")
        elif said.count("\n") > 1:
            raise BrokenPromiseError(f"signal {number}: it said {said}")
        elif folder.is_dir() and any(LEFT_BEHIND.fullmatch(path.name) for path in folder.iterdir()):
            raise BrokenPromiseError(f"signal {number}: it left {[path.name for path in folder.iterdir()]}")
        wait_until_gone(workers)
        return code in (-number, 128 + number)

    def launch(self, flags: list[str], way: str) -> subprocess.Popen[str]:
        """A process in a group of its own."""
        command = [sys.executable, "-m", "mnistnet", *flags]
        if way == "slow":
            command = [sys.executable, "-c", SLOW, str(self.chance.random()), *flags]
        return subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def wait(self, process: subprocess.Popen[str], folder: Path, way: str) -> list[int]:
        """Wait for the moment; the workers that the process has by then."""
        chance = self.chance
        if way == "any":
            until = time.monotonic() + chance.uniform(0, self.seconds)
            while time.monotonic() < until and process.poll() is None:
                time.sleep(0.001)
            return children_of(process.pid)
        while process.poll() is None and owner_of(folder) != process.pid:
            time.sleep(0.002)
        workers: list[int] = []
        while way == "worker" and process.poll() is None and not workers:
            workers = children_of(process.pid)
        until = time.monotonic() + (0 if way == "slow" else 0.5 * chance.random())
        while process.poll() is None and time.monotonic() < until:
            time.sleep(0.002)
        while way in ("sight", "slow") and process.poll() is None:
            if any(path.name.endswith("-tmp") for path in folder.iterdir()):
                break
        workers = children_of(process.pid) or workers
        time.sleep(chance.uniform(0, {"slow": 1.0, "sight": 0.004}.get(way, 0.0)))
        return workers

    def look_at(self, folder: Path) -> None:
        """Every file is whole; count in the midst of what the kill came."""
        if not folder.is_dir():
            return
        epochs, rows = self.look_at_files(folder)
        newest = max(epochs.values(), default=0)
        self.tally.within_a_write += any(path.name.endswith("-tmp") for path in folder.iterdir())
        self.tally.within_a_save += epochs.get("latest.json", 0) != newest or rows != newest

    @staticmethod
    def look_at_files(folder: Path) -> tuple[dict[str, int], int]:
        """Raise unless every file is whole; the epochs of the checkpoints, and the lines of the CSV."""
        names = [path.name for path in folder.iterdir()]
        strangers = [name for name in names if not KNOWN.fullmatch(name) and not LEFT_BEHIND.fullmatch(name)]
        if strangers:
            raise BrokenPromiseError(f"strangers: {strangers}")
        saved = [name for name in names if name.endswith(".json")]
        epochs = {name: int(load_checkpoint(folder / name).training["epoch"]) for name in saved}
        if "run.toml" in names:
            tomllib.loads((folder / "run.toml").read_text(encoding="utf-8"))
        elif epochs:
            raise BrokenPromiseError("checkpoints without settings")
        rows = rows_of(folder / "loss.csv") if "loss.csv" in names else []
        # a checkpoint ahead of latest.json is from a save that was cut off, and will be made again
        sure = epochs.get("latest.json", max(epochs.values(), default=0))
        if [int(row["epoch"]) for row in rows][:sure] != list(range(1, sure + 1)):
            raise BrokenPromiseError(f"the CSV lacks epochs before {sure}")
        return epochs, len(rows)


def rows_of(path: Path) -> list[dict[str, str]]:
    """The CSV's lines without their seconds; all of them complete."""
    text = path.read_text(encoding="utf-8")
    # between two halves of a line, which only the slowed process writes so
    lines = text[: text.rfind("\n") + 1].splitlines()
    if lines and lines[0].split(",") != list(COLUMNS):
        raise BrokenPromiseError(f"the CSV begins with {lines[0]}")
    rows = list(csv.DictReader(lines))
    if any(None in row.values() or None in row for row in rows):
        raise BrokenPromiseError("a line of the CSV is not complete")
    return [{**row, "seconds": ""} for row in rows]


def compare(whole: Path, folder: Path) -> None:
    """Raise unless both runs have the same files with the same bytes."""
    names = sorted(path.name for path in folder.iterdir())
    if names != sorted(path.name for path in whole.iterdir()):
        raise BrokenPromiseError(f"other files: {names}")
    for name in names:
        same = (
            rows_of(folder / name) == rows_of(whole / name)
            if name == "loss.csv"
            else (folder / name).read_bytes() == (whole / name).read_bytes()
        )
        if not same:
            raise BrokenPromiseError(f"{name} has other bytes")


def owner_of(folder: Path) -> int:
    """The process that the folder's lock names; 0 if none."""
    try:
        return int((folder / ".lock").read_bytes() or b"0")
    except OSError:
        return 0


def children_of(pid: int) -> list[int]:
    """The processes that a process has started, where Linux says so."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def wait_until_gone(pids: list[int]) -> None:
    """Raise unless these processes end within two seconds."""
    deadline = time.monotonic() + 2
    while any(is_running(pid) for pid in pids):
        if time.monotonic() > deadline:
            raise BrokenPromiseError("a worker outlived its training")
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signals", action="store_true", help="SIGINT, SIGTERM and SIGHUP instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        attack = Attack(Path(place), options.seed, signals=options.signals)
        tally = attack.tally
        while (done := tally.kills.total()) < options.kills:
            folder = Path(place) / f"run_{tally.runs}"
            try:
                attack.one_run(folder, min(attack.chance.randint(4, 16), options.kills - done))
            except BrokenPromiseError as error:
                kept = Path(tempfile.mkdtemp()) / "run"
                os.rename(folder, kept)  # noqa: PTH104
                print(f"BROKEN in {kept}: {error}\n{tally}", file=sys.stderr)
                return 1
            print(tally, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
