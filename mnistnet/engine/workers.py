"""Threads, and processes that work in lock step: with ``crew`` the only concurrency in the package.

Small networks spend much of a step in the interpreter, where threads stand in each other's way, so a
training step is shared between *processes*. Each is a fresh interpreter that maps one block of shared
memory and works in lock step with its parent; nothing is pickled and nothing is forked, so it works the
same in scripts without a main guard, in notebooks, under pytest, and on Linux, macOS and Windows. How they
are started and ended is in ``crew``.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import os
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import numpy as np
import numpy.typing as npt

from mnistnet.engine.arrays import AnyArray, Shape, aligned
from mnistnet.engine.crew import Block, Crew, Process, dismiss_ahead, take_crew
from mnistnet.errors import WorkerError

POLLS = 200  # looks at a counter before giving way to others: about 10 microseconds
GIVING_WAY = 2e-3
"""Seconds of giving way before sleeping. The shortest sleep takes 0.13 ms on a virtual machine, lost beside
what a process is late by: with 0.1 ms of giving way four epochs of lenet took 4.12 instead of 3.86 s."""
LONGEST_SLEEP = 1e-3  # seconds
IDLE_AFTER = 1.0
"""Seconds of waiting after which a late answer matters less than the core: sleeps ten times longer."""
CHECK_INTERVAL = 0.05  # seconds between looks at whether the other processes live
CACHE_LINE = 8  # words: two counters in one line would be torn between the cores

MOST_WRITTEN = 1 << 30  # bytes in one go: macOS takes no 2 GiB

T = TypeVar("T")

OUT_OF_MEMORY = re.compile(
    rf"MemoryError|{re.escape(os.strerror(errno.ENOMEM))}|failed to map segment|OpenBLAS error: Memory"
)
"""How Python, the operating system, its loader of libraries and OpenBLAS say it, in a worker's last line."""


def on_threads(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """What every task returns, the first run on the calling thread; an error is raised when all have ended.

    For long calls that release the interpreter lock, as NumPy's do. The first task's error is raised before
    the others'.
    """
    results: list[T] = []
    errors: list[BaseException] = []
    for result in (tasks[0], *[meanwhile(task) for task in tasks[1:]]):
        try:
            results.append(result())
        except BaseException as error:
            errors.append(error)
    if errors:
        raise errors[0]
    return results


def meanwhile(task: Callable[[], T]) -> Callable[[], T]:
    """Begin a task on another thread; what is returned waits for it, and returns or raises what it did.

    Where the system has no thread to give, the task is done when its result is asked for.
    """
    pool = ThreadPoolExecutor(1)
    try:
        future = pool.submit(task)
    except RuntimeError:
        return cache(task)
    pool.shutdown(wait=False)
    return future.result


def usable_cores() -> int:
    """Physical cores that this process may use: its affinity and its container's CPU quota respected.

    On macOS and Windows it is all logical ones, for Python does not tell them apart.
    """
    try:
        cpus = os.sched_getaffinity(0)
    except AttributeError:  # not on macOS and Windows
        return max(1, os.cpu_count() or 1)
    cores = {_core_of(cpu) for cpu in cpus}
    return max(1, min(len(cores), _cpu_quota()))


def _core_of(cpu: int) -> tuple[str, str]:
    """A name for the physical core of a logical CPU; the CPU's own number where the kernel does not say."""
    topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
    try:
        return ((topology / "physical_package_id").read_text(), (topology / "core_id").read_text())
    except OSError:
        return ("", str(cpu))


def _cpu_quota() -> int:
    """Whole CPUs that the control group grants (version 2, then version 1); a large number if unlimited."""
    unlimited = 1 << 20
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return unlimited if quota == "max" else max(1, int(quota) // int(period))
    with contextlib.suppress(OSError, ValueError):
        root = Path("/sys/fs/cgroup/cpu")
        quota_us = int((root / "cpu.cfs_quota_us").read_text())
        return (
            unlimited if quota_us < 0 else max(1, quota_us // int((root / "cpu.cfs_period_us").read_text()))
        )
    return unlimited


@dataclass(frozen=True)
class Region:
    """One array within a block of memory."""

    name: str
    shape: Shape
    dtype: str

    @property
    def nbytes(self) -> int:
        """Its size in bytes, rounded up to a cache line."""
        return -(-prod(self.shape) * np.dtype(self.dtype).itemsize // 64) * 64


def carve(buffer: Any, regions: Sequence[Region]) -> dict[str, AnyArray]:
    """The arrays of ``regions``, one after the other in ``buffer``."""
    arrays = {}
    offset = 0
    for region in regions:
        arrays[region.name] = np.ndarray(region.shape, region.dtype, buffer, offset)
        offset += region.nbytes
    return arrays


class Rendezvous:
    """Where the ranks wait for each other: one counter each in shared memory, so no lock and no system call.

    Args:
        words: int64 (ranks * CACHE_LINE,).
        rank: this process's number; 0 is the parent.
        ranks: how many there are.
        check: called now and then while waiting; raises if the others are gone.
    """

    def __init__(
        self, words: npt.NDArray[np.int64], rank: int, ranks: int, check: Callable[[], None] = lambda: None
    ) -> None:
        self._words = memoryview(words.data)
        self._mine = rank * CACHE_LINE
        self._others = [r * CACHE_LINE for r in range(ranks) if r != rank]
        self._count = 0
        self.check = check
        self._fence = threading.Lock()
        self._fence.acquire()

    def meet(self) -> None:
        """Wait until every rank has come here as often as this one."""
        if not self._others:
            return
        self._count += 1
        self._order_memory()
        self._words[self._mine] = self._count
        self._wait_for(self._count)

    def await_others(self) -> None:
        """Wait until every other rank has come to the *next* meeting, without coming there oneself."""
        self._wait_for(self._count + 1)

    def _order_memory(self) -> None:
        # releasing and taking a lock is a full fence: what was written before is seen before the counter
        # (needed on ARM; x86 keeps the order of writes anyway)
        self._fence.release()
        self._fence.acquire()

    def _wait_for(self, target: int) -> None:
        words = self._words
        for other in self._others:
            for _ in range(POLLS):
                if words[other] >= target:
                    break
            else:
                self._wait_long(other, target)
        self._order_memory()

    def _wait_long(self, other: int, target: int) -> None:
        words = self._words
        give_way = getattr(os, "sched_yield", lambda: time.sleep(0))
        started = checked = time.perf_counter()
        while time.perf_counter() - started < GIVING_WAY:
            if words[other] >= target:
                return
            give_way()
        pause = 5e-5
        while words[other] < target:
            time.sleep(pause)
            now = time.perf_counter()
            pause = min(pause * 1.25, LONGEST_SLEEP if now - started < IDLE_AFTER else 10 * LONGEST_SLEEP)
            if now - checked > CHECK_INTERVAL:
                self.check()
                checked = now


class Workers:
    """A parent's worker processes, its shared memory, and where they meet.

    Each worker imports ``target`` (``"module:function"``) and calls it with its rank, the number of ranks,
    ``spec``, the arrays of ``regions`` and a `Rendezvous`. The function returns when the work is over.

    Args:
        ranks: how many processes work, the parent included; with 1 there is no other process.
        regions: the arrays that all ranks share.
        target: what a worker runs.
        spec: JSON for the target.

    Raises:
        WorkerError: a worker could not be started.
    """

    def __init__(self, ranks: int, regions: Sequence[Region], target: str, spec: Mapping[str, Any]) -> None:
        self.ranks = ranks
        regions = [Region("rendezvous", (ranks * CACHE_LINE,), "int64"), *regions]
        nbytes = sum(region.nbytes for region in regions)
        self._crew: Crew | None = None
        try:
            if ranks == 1:
                dismiss_ahead()
                self.arrays = carve(aligned((nbytes,), np.uint8), regions)
            else:
                self._crew = crew = take_crew()
                crew.dismiss(keep=ranks - 1, patience=0.0)
                self.arrays = carve(crew.block.allocate(nbytes), regions)
                crew.start(ranks - 1, target.split(":")[0])
            self.rendezvous = Rendezvous(self.arrays["rendezvous"], 0, ranks, self.check)
            for rank in range(1, ranks):
                crew.tell(rank - 1, self._order(rank, nbytes, regions, target, spec))
        except OSError as error:
            self.close()
            raise WorkerError(f"a worker process cannot be started: {error}; use --workers 1") from error
        except BaseException:
            self.close()
            raise

    def fill(self, name: str, values: AnyArray) -> None:
        """Give an array its first content: through the file, in half the time that untouched memory takes.

        Raises:
            WorkerError: there is no room for it.
        """
        array = self.arrays[name]
        fd = -1 if self._crew is None else self._crew.block.fd
        if fd < 0 or not values.flags.c_contiguous or values.dtype != array.dtype:
            array[...] = values
            return
        left = memoryview(values.data).cast("B")
        offset = array.ctypes.data - self.arrays["rendezvous"].ctypes.data
        try:
            while left:
                done = os.pwrite(fd, left[:MOST_WRITTEN], offset)
                left, offset = left[done:], offset + done
        except OSError as error:
            raise WorkerError(f"shared memory cannot be had: {error}; use --workers 1") from error

    @property
    def processes(self) -> Sequence[Process]:
        """The other processes, rank 1 first."""
        return self._crew.processes if self._crew is not None else ()

    def check(self) -> None:
        """Raise WorkerError if a worker has ended."""
        for index, process in enumerate(self.processes):
            code = process.poll()
            if code is not None:
                assert self._crew is not None
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                lines = self._crew.said_by(index)
                why = f": {lines[-1]}" if lines else ""
                advice = "lower --batch-size, or use --workers 1; " if OUT_OF_MEMORY.search(why) else ""
                raise WorkerError(
                    f"worker {index + 1} of {self.ranks} {how}{why}; "
                    f"{advice}checkpoints already written are intact"
                )

    def close(self) -> None:
        """End every worker and wait for it. The arrays stay valid."""
        if self._crew is not None:
            self._crew.close()
        if hasattr(self, "rendezvous"):
            # its way back to here would keep the shared memory until Python looks for cycles
            self.rendezvous.check = lambda: None

    def _order(
        self, rank: int, nbytes: int, regions: Sequence[Region], target: str, spec: Mapping[str, Any]
    ) -> dict[str, Any]:
        """What `child` reads."""
        assert self._crew is not None
        return {
            "rank": rank,
            "ranks": self.ranks,
            "nbytes": nbytes,
            "fd": self._crew.block.fd,
            "tag": self._crew.block.tag,
            "regions": [[region.name, region.shape, region.dtype] for region in regions],
            "target": target,
            "spec": spec,
        }


def child(module: str) -> NoReturn:
    """A worker process: read the order, map the memory, run the target, and never outlive the parent.

    Args:
        module: the target's; imported first, for the order may take its time.
    """
    life_line = sys.stdin.buffer.raw  # type: ignore[union-attr]
    importlib.import_module(module)
    line = life_line.readline()
    if not line:  # nobody wants anything
        os._exit(0)
    order = json.loads(line)

    def leave_with_parent() -> None:
        life_line.read(1)  # returns when the parent closes it or is gone
        os._exit(0)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    memory = Block.attach(order["nbytes"], order["fd"], order["tag"])
    arrays = carve(memory, [Region(name, tuple(shape), dtype) for name, shape, dtype in order["regions"]])
    rendezvous = Rendezvous(arrays["rendezvous"], order["rank"], order["ranks"])
    module, function = order["target"].split(":")
    run = getattr(importlib.import_module(module), function)
    try:
        run(order["rank"], order["ranks"], order["spec"], arrays, rendezvous)
    except BaseException:
        # the parent shows the last line; the thread on the life line must not get in its way
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
