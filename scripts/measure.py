"""What the benchmark measures with beside `mnistnet.reports.timing`: processes, memory of a process tree."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from checkout import ROOT

MEMORY_INTERVAL = 0.02  # seconds between two looks at a process tree's memory


@dataclass(frozen=True)
class Finished:
    """A process that has ended well."""

    seconds: float
    peak_bytes: int
    """Largest PSS of the process and all its descendants together; 0 unless asked for."""
    output: str


def environment() -> dict[str, str]:
    """This process's, with the checkout's package in reach of every child, compiled as if installed."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPATH": str(ROOT)}


def run_python(*arguments: str, watch_memory: bool = False) -> Finished:
    """Run this interpreter with these arguments, from its start to its end.

    Raises:
        RuntimeError: it failed; the message has the last line that it said.
    """
    started = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=environment(),
    )
    peak: list[int] = [0]
    over = threading.Event()

    def watch() -> None:
        while not over.wait(MEMORY_INTERVAL):
            peak[0] = max(peak[0], tree_memory(process.pid))

    watcher = threading.Thread(target=watch)
    if watch_memory:
        watcher.start()
    output, errors = process.communicate()
    seconds = time.perf_counter() - started
    over.set()
    if watch_memory:
        watcher.join()
    if process.returncode:
        last = (errors.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{' '.join(arguments[:4])} ended with {process.returncode}: {last}")
    return Finished(seconds, peak[0], output)


def descendants(pid: int) -> list[int]:
    """The children of a process, their children, and so on (Linux)."""
    found = []
    try:
        for path in Path(f"/proc/{pid}/task").iterdir():
            for child in (path / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    except OSError:
        pass  # it has ended meanwhile
    return found


def tree_memory(pid: int) -> int:
    """Bytes of proportional set size (shared pages counted once) of a process and its descendants (Linux)."""
    total = 0
    for one in (pid, *descendants(pid)):
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total
