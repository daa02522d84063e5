"""Every system call by which a training changes its folder fails once: below Python, in real processes.

strace counts the calls of an undisturbed run, and then lets one of them fail in each further run. After each
the process has to have left with one line that says which file and why, every file has to be whole, and the
run has to come to the same bytes when it goes on. What strace saw also proves that nothing is written by
another way than the calls which the tests in tests/cli/test_faults.py stand in front of.

    python scripts/attack_faults.py
    python scripts/attack_faults.py --errors ENOSPC EIO EROFS EDQUOT
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from attack_kill import ROOT, Attack, BrokenPromiseError, compare

from mnistnet.data import read_idx, write_idx

CALLS = [
    *("openat", "write", "pwrite64", "writev", "fsync", "fdatasync", "ftruncate", "flock"),
    *("rename", "renameat", "renameat2", "mkdir", "unlink", "rmdir"),
]
WRITING = re.compile(r"O_CREAT|O_WRONLY|O_RDWR")
ERRORS = {
    "ENOSPC": "no space left on",
    "EIO": "input/output error",
    "EROFS": "read-only file system",
    "EDQUOT": "quota exceeded",
}
RUN = ["--model", "rsnet", "--nb-epochs", "2", "--validation-split", "0.25", "--workers", "1"]


@dataclass(frozen=True)
class Call:
    """One system call of a run."""

    name: str
    number: int
    """Among those of its name, from 1."""
    line: str
    """As strace shows it."""


class Faults:
    """Trainings in ``place``, one fault each."""

    def __init__(self, place: Path) -> None:
        self.data = place / "data"
        self.data.mkdir()
        for prefix, count in {"train": 128, "t10k": 50}.items():
            for name in (f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"):
                write_idx(self.data / name, read_idx(ROOT / "data" / f"{name}.gz")[:count])
        self.folder, self.whole, self.log = place / "run", place / "whole", place / "strace.txt"

    def train(self, *options: str) -> subprocess.CompletedProcess[str]:
        """A training below strace, whose first thread it watches: the only one that writes."""
        flags = ["train", "--train-data-dir", str(self.data), *RUN, "--checkpoint-folder", str(self.folder)]
        strace = ["strace", "-qq", "-y", "-e", f"trace={','.join(CALLS)}", "-o", str(self.log), *options]
        return finished([*strace, sys.executable, "-m", "mnistnet", *flags])

    def calls(self) -> list[Call]:
        """The calls of the last training that changed its folder."""
        counts: Counter[str] = Counter()
        found = []
        for line in self.log.read_text(encoding="utf-8", errors="replace").splitlines():
            name = line.partition("(")[0]
            counts[name] += 1
            if str(self.folder) in line and (name != "openat" or WRITING.search(line)):
                found.append(Call(name, counts[name], line))
        return found

    def one(self, call: Call, error: str) -> bool:
        """One training with one fault; whether it went on in spite of it."""
        shutil.rmtree(self.folder, ignore_errors=True)
        done = self.train("-e", f"inject={call.name}:error={error}:when={call.number}")
        hit = [line for line in self.log.read_text(errors="replace").splitlines() if "(INJECTED)" in line]
        if len(hit) != 1 or str(self.folder) not in hit[0]:
            raise BrokenPromiseError(f"another call was hit than {call}: {hit}")
        if done.returncode not in (0, 8):
            raise BrokenPromiseError(f"exit code {done.returncode}: {done.stderr}")
        if done.returncode:
            line = done.stderr.splitlines()
            if len(line) != 1 or ERRORS[error] not in line[0] or str(self.folder) not in line[0]:
                raise BrokenPromiseError(f"it says {done.stderr}")
            if self.folder.exists():
                Attack.look_at_files(self.folder)
            self.go_on()
        (self.folder / ".lock").unlink(missing_ok=True)  # when it was the lock that could not be removed
        compare(self.whole, self.folder)
        return done.returncode == 0

    def go_on(self) -> None:
        """Without the fault."""
        flags = ["--train-data-dir", str(self.data), *RUN, "--checkpoint-folder", str(self.folder)]
        if any(self.folder.glob("checkpoint_*.json")):
            flags = ["--resume", str(self.folder)]
        done = finished([sys.executable, "-m", "mnistnet", "train", *flags])
        if done.returncode and "nothing to do" not in done.stderr:
            raise BrokenPromiseError(f"it does not go on: {done.stderr}")


def finished(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--errors", nargs="*", choices=list(ERRORS), help="each for every call; in turns else"
    )
    options = parser.parse_args()
    if shutil.which("strace") is None:
        print("needs strace (Linux)", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as place:
        faults = Faults(Path(place))
        done = faults.train()
        if done.returncode:
            print(done.stderr, file=sys.stderr)
            return 1
        calls = faults.calls()
        faults.folder.rename(faults.whole)
        names = ", ".join(f"{name} {count}" for name, count in Counter(call.name for call in calls).items())
        print(f"{len(calls)} calls change the folder: {names}", flush=True)
        tolerated: list[Call] = []
        count = 0
        for number, call in enumerate(calls):
            for error in options.errors or [list(ERRORS)[number % len(ERRORS)]]:
                try:
                    if faults.one(call, error):
                        tolerated.append(call)
                except BrokenPromiseError as broken:
                    print(f"BROKEN: {call} {error}: {broken}", file=sys.stderr)
                    return 1
                count += 1
        print(
            f"{count} faults: {count - len(tolerated)} ended the training, which said so and could go on to"
        )
        print(f"the same bytes; {len(tolerated)} did no harm:")
        for call in dict.fromkeys(tolerated):
            print(f"  {call.line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
