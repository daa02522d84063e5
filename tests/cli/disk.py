"""A disk that fails on demand: calls of ``os`` that change files below a folder are counted, and one fails.

All that mnistnet writes goes through these functions; `scripts/attack_faults.py` does the same below Python,
where the system calls are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

BY_PATH = ("mkdir", "rmdir", "unlink", "remove", "rename", "replace")
BY_DESCRIPTOR = ("write", "fsync", "ftruncate")
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class KilledError(BaseException):
    """Nothing that was called afterwards has happened, also not what would have cleared up."""


class Disk:
    """What happens below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.calls: list[str] = []
        """What was called, such as ``replace loss.csv``; a temporary file by its final name."""
        self.fails_at = -1
        """The number of the call that fails, from 0."""
        self.error = 0
        """With what ``errno``; 0: the process is killed there."""
        self._open: dict[int, str] = {}

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Stand between ``os`` and who calls it; nothing is synced really, which only takes time."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "open", self._opened(os.open))
            patch.setattr(os, "close", self._closed(os.close))
            for name in BY_PATH:
                patch.setattr(os, name, self._path_call(name, getattr(os, name)))
            for name in BY_DESCRIPTOR:
                real = (lambda _: None) if name == "fsync" else getattr(os, name)
                patch.setattr(os, name, self._descriptor_call(name, real))
            if os.name == "posix":
                import fcntl

                patch.setattr(fcntl, "flock", self._descriptor_call("flock", fcntl.flock))
            yield

    def _count(self, call: str, file: str) -> None:
        self.calls.append(f"{call} {file}")
        if not self.error and 0 <= self.fails_at < len(self.calls):
            raise KilledError
        if len(self.calls) - 1 == self.fails_at:
            raise OSError(self.error, os.strerror(self.error), file)

    def _name(self, path: Any, dir_fd: int | None = None) -> str | None:
        """A path's name if it is below the root."""
        if dir_fd is not None:
            return os.fspath(path) if dir_fd in self._open else None
        absolute = Path.cwd() / path
        return absolute.name if self.root in absolute.parents else None

    def _opened(self, real: Callable[..., int]) -> Callable[..., int]:
        def call(path: Any, flags: int, *more: Any, dir_fd: int | None = None, **options: Any) -> int:
            name = self._name(path, dir_fd)
            if name is not None and flags & WRITING:
                self._count("open", name)
            descriptor = real(path, flags, *more, dir_fd=dir_fd, **options)
            if name is not None:
                self._open[descriptor] = name
            return descriptor

        return call

    def _closed(self, real: Callable[[int], None]) -> Callable[[int], None]:
        def call(descriptor: int) -> None:
            self._open.pop(descriptor, None)
            real(descriptor)

        return call

    def _path_call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *more: Any, dir_fd: int | None = None, **options: Any) -> Any:
            file = self._name(path, dir_fd)
            if file is not None:
                self._count(name, Path(more[0]).name if name in ("rename", "replace") else file)
            if dir_fd is not None:
                options["dir_fd"] = dir_fd
            return real(path, *more, **options)

        return call

    def _descriptor_call(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(file: Any, *more: Any) -> Any:
            if file in self._open:
                self._count(name, self._open[file])
            return real(file, *more)

        return call
