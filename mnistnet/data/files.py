"""Opening a file that a person named: the edge where operating system errors become ours."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from mnistnet.errors import MnistnetError, explain

_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


@contextmanager
def regular_file(path: Path, error_class: type[MnistnetError]) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file for reading and give it with its size in bytes.

    Args:
        path: the file; a symbolic link is followed.
        error_class: what an operating system error becomes, also one inside the ``with`` block.

    Raises:
        MnistnetError: of ``error_class``: missing, not a regular file, no permission, read error.
    """
    try:
        # looked at before it is opened: opening a pipe that nobody writes to never returns
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = next((name for is_kind, name in _KINDS if is_kind(status.st_mode)), "something else")
            raise error_class(f"{path}: not a regular file, but {kind}")
        with path.open("rb") as file:
            yield file, status.st_size
    except OSError as error:
        raise error_class(f"{path}: {explain(error)}") from error
