"""Processes and threads: the only concurrency in the package.

Small networks spend much of a step in the interpreter, where threads stand in each other's way, so a
training step is shared between *processes*. Each is a fresh interpreter that maps one block of shared
memory and works in lock step with its parent; nothing is pickled and nothing is forked, so it works the
same in scripts without a main guard, in notebooks, under pytest, and on Linux, macOS and Windows.

- The block has no name in the file system (an anonymous memory file, an unlinked temporary file, or
  Windows's own shared memory), so that nothing is left behind however the processes end.
- A worker's standard input is its life line: the parent never writes to it after the start, and when the
  parent ends, in whatever way, the operating system closes it and the worker leaves at once.
- Workers are in a process group of their own: Ctrl-C reaches the parent alone, which then stops them.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import mmap
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import numpy as np
import numpy.typing as npt

from mnistnet.engine.arrays import AnyArray, Shape, aligned
from mnistnet.errors import WorkerError

POLLS = 200  # looks at a counter before giving way to others: about 10 microseconds
YIELDS = 200  # times of giving way before sleeping
LONGEST_SLEEP = 1e-3  # seconds
IDLE_AFTER = (
    1.0  # seconds of waiting after which a late answer matters less than the core: sleeps ten times longer
)
CHECK_INTERVAL = 0.05  # seconds between looks at whether the other processes live
CACHE_LINE = 8  # words: two counters in one line would be torn between the cores

OUT_OF_MEMORY = re.compile(
    rf"MemoryError|{re.escape(os.strerror(errno.ENOMEM))}|failed to map segment|OpenBLAS error: Memory"
)
"""How Python, the operating system, its loader of libraries and OpenBLAS say it, in a worker's last line."""

BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); import mnistnet.engine.workers as w; w.child()"
)


def on_threads(tasks: Sequence[Callable[[], None]]) -> None:
    """Run every task, the first on the calling thread; the first exception is raised when all have ended.

    For long NumPy calls, which release the interpreter lock.
    """
    if len(tasks) == 1:
        tasks[0]()
        return
    with ThreadPoolExecutor(len(tasks) - 1) as pool:
        futures = [pool.submit(task) for task in tasks[1:]]
        tasks[0]()
    for future in futures:
        future.result()


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


class _Block:
    """Shared memory without a name in the file system."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = max(1, nbytes)
        self.tag = ""
        self.fd = -1
        if sys.platform == "win32":  # pragma: no cover (Windows has no files without a name)
            self.tag = f"mnistnet-{os.getpid()}-{os.urandom(8).hex()}"
            self.map = mmap.mmap(-1, self.nbytes, tagname=self.tag)
            return
        try:
            self.fd = os.memfd_create("mnistnet")
        except (AttributeError, OSError):  # not on macOS, nor in every sandbox
            with tempfile.TemporaryFile() as file:
                self.fd = os.dup(file.fileno())
        os.ftruncate(self.fd, self.nbytes)
        self.map = mmap.mmap(self.fd, self.nbytes)

    @staticmethod
    def attach(nbytes: int, fd: int, tag: str) -> mmap.mmap:
        """The same memory in a worker."""
        if sys.platform == "win32":  # pragma: no cover (as above)
            return mmap.mmap(-1, nbytes, tagname=tag)
        return mmap.mmap(fd, nbytes)

    def close(self) -> None:
        """Give up the file; the memory itself goes when the last array into it does."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


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
        for _ in range(YIELDS):
            if words[other] >= target:
                return
            give_way()
        pause = 5e-5
        started = checked = time.monotonic()
        while words[other] < target:
            time.sleep(pause)
            now = time.monotonic()
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
        self._processes: list[subprocess.Popen[bytes]] = []
        self._logs: list[BinaryIO] = []
        self._block: _Block | None = None
        try:
            if ranks == 1:
                self.arrays = carve(aligned((nbytes,), np.uint8), regions)
            else:
                self._block = _Block(nbytes)
                self.arrays = carve(self._block.map, regions)
            self.rendezvous = Rendezvous(self.arrays["rendezvous"], 0, ranks, self.check)
            for rank in range(1, ranks):
                self._start(rank, regions, target, spec)
        except OSError as error:
            self.close()
            raise WorkerError(f"a worker process cannot be started: {error}; use --workers 1") from error
        except BaseException:
            self.close()
            raise

    def check(self) -> None:
        """Raise WorkerError if a worker has ended."""
        for rank, process in enumerate(self._processes, start=1):
            code = process.poll()
            if code is not None:
                how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
                lines = self._log_of(rank - 1)
                why = f": {lines[-1]}" if lines else ""
                advice = "lower --batch-size, or use --workers 1; " if OUT_OF_MEMORY.search(why) else ""
                raise WorkerError(
                    f"worker {rank} of {self.ranks} {how}{why}; "
                    f"{advice}checkpoints already written are intact"
                )

    def close(self) -> None:
        """End every worker and wait for it. The arrays stay valid."""
        for process in self._processes:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()  # the life line
        for process in self._processes:
            try:
                process.wait(timeout=1.0)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self._logs:
            log.close()
        self._processes.clear()
        self._logs.clear()
        if self._block is not None:
            self._block.close()
        if hasattr(self, "rendezvous"):
            # its way back to here would keep the shared memory until Python looks for cycles
            self.rendezvous.check = lambda: None

    def _start(self, rank: int, regions: Sequence[Region], target: str, spec: Mapping[str, Any]) -> None:
        assert self._block is not None
        log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
        self._logs.append(log)
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT, json.dumps([str(p) for p in sys.path])],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=() if self._block.fd < 0 else (self._block.fd,),
            # one BLAS thread from the start: no pool of threads, none of its memory
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )
        self._processes.append(process)
        order = {
            "rank": rank,
            "ranks": self.ranks,
            "nbytes": self._block.nbytes,
            "fd": self._block.fd,
            "tag": self._block.tag,
            "regions": [[region.name, region.shape, region.dtype] for region in regions],
            "target": target,
            "spec": spec,
        }
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already: `check` says why
            process.stdin.write(json.dumps(order, default=_numpy_as_json).encode() + b"\n")
            process.stdin.flush()

    def _log_of(self, index: int) -> list[str]:
        log = self._logs[index]
        log.seek(0)
        return log.read().decode(errors="replace").strip().splitlines()


def _numpy_as_json(value: Any) -> Any:
    """What ``json`` does not know, if it is a number or an array of NumPy's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON: {value!r:.60}")


def child() -> NoReturn:
    """A worker process: read the order, map the memory, run the target, and never outlive the parent."""
    life_line = sys.stdin.buffer.raw  # type: ignore[union-attr]
    order = json.loads(life_line.readline())

    def leave_with_parent() -> None:
        life_line.read(1)  # returns when the parent closes it or is gone
        os._exit(0)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    memory = _Block.attach(order["nbytes"], order["fd"], order["tag"])
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
