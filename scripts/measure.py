"""What the benchmark measures with: interleaved rounds, processes, memory of a process tree."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from checkout import ROOT

T = TypeVar("T")
MEMORY_INTERVAL = 0.02  # seconds between two looks at a process tree's memory


def flat(lists: Iterable[Iterable[T]]) -> list[T]:
    """All values of all lists."""
    return list(chain.from_iterable(lists))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (in [0, 1]) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile of seconds, and how many there are."""
    return {
        "median": statistics.median(values),
        "p10": percentile(values, 0.1),
        "p90": percentile(values, 0.9),
        "count": len(values),
    }


def in_turn(contestants: dict[str, Callable[[], list[float]]], rounds: int) -> dict[str, list[list[float]]]:
    """Let every contestant do its part of each round, beginning with another one every time.

    Returns:
        For each contestant a list of seconds for every round.
    """
    names = list(contestants)
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(contestants[name]())
    return found


def ratio(theirs: list[list[float]], ours: list[list[float]]) -> dict[str, float]:
    """Their median over ours, and the spread of that ratio over the rounds."""
    by_round = [statistics.median(t) / statistics.median(o) for t, o in zip(theirs, ours, strict=True)]
    overall = statistics.median(flat(theirs)) / statistics.median(flat(ours))
    return {"median": overall, "p10": percentile(by_round, 0.1), "p90": percentile(by_round, 0.9)}


def repeat(action: Callable[[], Any], seconds: float, least: int = 3) -> list[float]:
    """Seconds of each call, calling for about so long, after one call that is not counted."""
    action()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return times


@dataclass(frozen=True)
class Finished:
    """A process that has ended well."""

    seconds: float
    peak_bytes: int
    """Largest PSS of the process and all its descendants together; 0 unless asked for."""
    output: str


def environment() -> dict[str, str]:
    """This process's, with the checkout's package in reach of every child."""
    return {**os.environ, "PYTHONPATH": str(ROOT)}


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
