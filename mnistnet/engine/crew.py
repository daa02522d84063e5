"""Worker processes that have no work yet, and the memory that they will share.

- The memory has no name in the file system (an anonymous memory file, an unlinked temporary file, or
  Windows's own shared memory), so that nothing is left behind however the processes end.
- A worker's standard input is its life line: after its order the parent never writes to it, and when the
  parent ends, in whatever way, the operating system closes it and the worker leaves at once.
- Workers are in a process group of their own: Ctrl-C reaches the parent alone, which then stops them.

An interpreter takes 0.2 seconds until it can compute, which a command may spend on reading its data:
`started_ahead`.
"""

from __future__ import annotations

import contextlib
import json
import mmap
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO

import numpy as np

BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "import mnistnet.engine.workers as w; w.child(sys.argv[2])"
)


Process = subprocess.Popen[bytes]


class Block:
    """Shared memory without a name in the file system; its size comes later than itself."""

    def __init__(self) -> None:
        self.tag = ""
        self.fd = -1
        if sys.platform == "win32":  # pragma: no cover (Windows has no files without a name)
            self.tag = f"mnistnet-{os.getpid()}-{os.urandom(8).hex()}"
            return
        try:
            self.fd = os.memfd_create("mnistnet")
        except (AttributeError, OSError):  # not on macOS, nor in every sandbox
            with tempfile.TemporaryFile() as file:
                self.fd = os.dup(file.fileno())

    def allocate(self, nbytes: int) -> mmap.mmap:
        """So many bytes of it, all zero."""
        if self.fd >= 0:  # pragma: no branch (Windows has no file)
            os.ftruncate(self.fd, nbytes)
        return self.attach(nbytes, self.fd, self.tag)

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


class Crew:
    """Worker processes that have not been told yet what to do, and the memory that they will share."""

    def __init__(self) -> None:
        self.processes: list[Process] = []
        self.block = Block()
        self._logs: list[BinaryIO] = []

    def start(self, count: int, module: str) -> None:
        """Start interpreters that import ``module``, up to ``count`` in all.

        Raises:
            OSError: the system does not start one.
        """
        while len(self.processes) < count:
            log = tempfile.TemporaryFile()  # noqa: SIM115 (closed with the worker)
            try:
                self.processes.append(self._started(module, log))
            except BaseException:
                log.close()
                raise
            self._logs.append(log)

    def _started(self, module: str, log: BinaryIO) -> Process:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", BOOT, json.dumps([str(p) for p in sys.path]), module],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=() if self.block.fd < 0 else (self.block.fd,),
            # one BLAS thread from the start: no pool of threads, none of its memory
            env={
                **os.environ,
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
                "MKL_NUM_THREADS": "1",
            },
            start_new_session=True,
            creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
        )

    def tell(self, index: int, order: Mapping[str, Any]) -> None:
        """What a process is to do."""
        pipe = self.processes[index].stdin
        assert pipe is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended already: `Workers.check` says why
            pipe.write(json.dumps(order, default=_numpy_as_json).encode() + b"\n")
            pipe.flush()

    def said_by(self, index: int) -> list[str]:
        """The lines that a process wrote to stderr."""
        log = self._logs[index]
        log.seek(0)
        return log.read().decode(errors="replace").strip().splitlines()

    def dismiss(self, keep: int = 0, patience: float = 1.0) -> None:
        """End all processes but the first, and wait for them.

        Args:
            keep: how many stay.
            patience: seconds after which who has not left is ended.
        """
        leaving = self.processes[keep:]
        for process in leaving:
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()  # the life line
        for process in leaving:
            try:
                process.wait(timeout=patience)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for log in self._logs[keep:]:
            log.close()
        del self.processes[keep:], self._logs[keep:]

    def close(self) -> None:
        """End every process, and give up the memory's file."""
        self.dismiss()
        self.block.close()


_ahead: list[Crew] = []
"""At most one crew that was started ahead of its work."""


def take_crew() -> Crew:
    """The crew that was started ahead, or a new one without processes."""
    with contextlib.suppress(IndexError):
        return _ahead.pop()
    return Crew()


def dismiss_ahead() -> None:
    """End a crew that was started ahead and that nobody will come for."""
    while _ahead:
        crew = _ahead.pop()
        crew.dismiss(patience=0.0)
        crew.close()


@contextlib.contextmanager
def started_ahead(count: int, module: str) -> Iterator[None]:
    """Start worker processes now, while something else is done; the next `Workers` takes them over.

    Args:
        count: how many; `Workers` starts who is missing, and sends home who is too many.
        module: that of their ``target``, which they import at once.
    """
    if count < 1 or _ahead:
        yield
        return
    try:
        with contextlib.suppress(OSError):  # `Workers` says it if there cannot be one
            _ahead.append(Crew())
            _ahead[0].start(count, module)
        yield
    finally:
        dismiss_ahead()


def _numpy_as_json(value: Any) -> Any:
    """What ``json`` does not know, if it is a number or an array of NumPy's."""
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is no JSON: {value!r:.60}")
