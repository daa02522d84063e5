"""Files on disk: written whole or not at all, opened only if they are files, read up to a limit.

The edge where operating system errors become ours. A reader never meets half a file, and a save that fails
leaves the previous file as it was: the bytes go to a temporary file in the same folder, reach the disk, and
only then take the name.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import BinaryIO

from mnistnet.errors import MnistnetError, OutputError, explain

WINDOWS_TRIES = 20
"""How often a rename is tried that Windows refuses while somebody reads the old file; 50 ms apart."""

_TEMPORARY = re.compile(r"\.(?P<name>.+)\.(?P<pid>[0-9]{1,10})-[0-9]+\.mnistnet-tmp", re.DOTALL)
_POSIX = os.name == "posix"
_FLAGS = getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NO_FOLDER_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF}
"""What file systems answer that cannot sync a folder: nothing is wrong then, and nothing can be done."""
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def write_atomically(path: Path, data: bytes) -> None:
    """Put ``data`` at ``path``, wholly on disk or not at all.

    A symbolic link is followed: the file it points to is replaced. Whatever goes wrong, the temporary
    file is removed, also on Ctrl-C; before the final rename the previous file is never touched. What a
    killed process left of the same file goes too, an hour later.

    Args:
        path: the file to create or replace, in a folder that exists.
        data: all of its bytes.

    Raises:
        OutputError: one line with the path, the reason and what to do.
    """
    check_target(path)
    target = Path(os.path.realpath(path))
    try:
        temporary = _write_temporary(target, data)
        try:
            _rename(temporary, target)
        except BaseException:
            _discard(temporary)
            raise
    except OSError as error:
        raise OutputError(f"{path}: {why_not_written(error, target)}; {_kept(target)}") from error
    # no younger ones: another machine, or a container whose processes we do not see, may be writing there
    remove_leftovers(target.parent, of=target.name, older_than=3600.0)
    try:
        sync_folder(target.parent)
    except OSError as error:
        raise OutputError(
            f"{path}: written, but the disk does not confirm it ({explain(error)}): check it and save again"
        ) from error


def check_target(path: Path) -> None:
    """Refuse, before any work is done for it, an output path that can never be written.

    Raises:
        OutputError: the path is a directory or a device, or its folder does not exist.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not path.parent.exists():
            raise OutputError(f"{path}: the folder {path.parent} does not exist: create it first") from None
        return
    except OSError as error:
        raise OutputError(f"{path}: {why_not_written(error, path)}") from error
    if stat.S_ISDIR(mode):
        raise OutputError(f"{path}: is a directory: give the name of a file")
    if not stat.S_ISREG(mode):
        # a rename would put a plain file in the place of /dev/null
        raise OutputError(f"{path}: is not a regular file: give the name of a file")


def write_new(path: Path, data: bytes) -> None:
    """Put ``data`` in a file that is not there yet, in a folder that nobody sees until it is whole.

    Raises:
        OSError: it cannot be written.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
    try:
        _write_all(descriptor, data)
    finally:
        os.close(descriptor)


class LineFile:
    """A text file that grows line by line, each of them on disk whole or not at all.

    Args:
        path: the file, made if it is missing; what it holds stays.

    Raises:
        OutputError: it cannot be opened, or, of the methods, written; one line with the path and the reason.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | _FLAGS, 0o666)
        except OSError as error:
            raise OutputError(f"{path}: {why_not_written(error, path)}") from error

    def clear(self) -> None:
        """Take all lines away."""
        try:
            os.ftruncate(self._descriptor, 0)
        except OSError as error:
            raise self._failure(error) from error

    def append(self, line: bytes) -> None:
        """Add a line; it is on disk when this returns, and when this raises nothing of it is left."""
        try:
            before = os.fstat(self._descriptor).st_size
            try:
                _write_all(self._descriptor, line)
                os.fsync(self._descriptor)
            except OSError:
                # a full disk may have taken a part of it
                with contextlib.suppress(OSError):
                    os.ftruncate(self._descriptor, before)
                raise
        except OSError as error:
            raise self._failure(error) from error

    def close(self) -> None:
        """Give up the file."""
        with contextlib.suppress(OSError):  # every line is on disk already
            os.close(self._descriptor)

    def _failure(self, error: OSError) -> OutputError:
        return OutputError(f"{self._path}: {why_not_written(error, self._path)}; its lines so far are kept")


def remove_leftovers(folder: Path, of: str | None = None, *, older_than: float = 0.0) -> tuple[Path, ...]:
    """Delete the temporary files that a killed process left in ``folder``.

    Without ``older_than``, call it before this process writes there: a file that bears our own process id is
    then an older one's (in a container every run may have the same id). Files of processes that live are
    kept, and so is everything that `write_atomically` did not name. Never raises for a file that cannot be
    deleted.

    Args:
        folder: where to look.
        of: the name of the only file whose leftovers are deleted, in a folder that is not ours alone.
        older_than: seconds that a leftover has not been written to.

    Returns:
        What was deleted.
    """
    removed = []
    try:
        files = sorted(folder.iterdir())
    except OSError:
        return ()
    for leftover in files:
        match = _TEMPORARY.fullmatch(leftover.name)
        if match is None or of not in (None, match["name"]) or _is_another_living_process(int(match["pid"])):
            continue
        try:
            status = leftover.lstat()
            if stat.S_ISREG(status.st_mode) and time.time() - status.st_mtime >= older_than:
                leftover.unlink()
                removed.append(leftover)
        except OSError:
            continue
    return tuple(removed)


@contextlib.contextmanager
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


def read_limited(path: Path, limit: int, error_class: type[MnistnetError], *, advice: str = "") -> bytes:
    """All bytes of a regular file, which is measured before it is read.

    Args:
        path: the file; a symbolic link is followed.
        limit: the largest size in bytes that is read.
        error_class: what to raise.
        advice: what to do about a file that is too large, such as the flag that raises the limit.

    Raises:
        MnistnetError: of ``error_class``: missing, not a regular file, no permission, too large.
    """
    with regular_file(path, error_class) as (file, size):
        # a buffer as large as the limit would be made for it; a file may have grown since it was measured
        data = file.read(size + 1) if size <= limit else b""
        if len(data) > size:
            data += file.read(limit + 1 - len(data))
    size = max(size, len(data))
    if size > limit:
        hint = f": {advice}" if advice else ""
        raise error_class(f"{path}: {size} bytes, more than the limit of {limit} bytes{hint}")
    return data


def same_file(first: Path, second: Path) -> bool:
    """Whether two paths name one file, existing or yet to be written: for refusing to overwrite an input."""
    try:
        return first.samefile(second)
    except OSError:
        return os.path.normcase(os.path.realpath(first)) == os.path.normcase(os.path.realpath(second))


def temporaries(target: Path) -> Iterator[Path]:
    """Names beside ``target`` for what is to become it, as `remove_leftovers` knows them."""
    for attempt in count():
        yield target.with_name(f".{target.name}.{os.getpid()}-{attempt}.mnistnet-tmp")


def _write_temporary(target: Path, data: bytes) -> Path:
    """Write and sync ``data`` beside ``target``; the new file's path."""
    # exclusive creation: neither a link that somebody planted nor another thread's file is ever written to
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS
    for temporary in temporaries(target):
        try:
            descriptor = os.open(temporary, flags, 0o666)
            break
        except FileExistsError:
            continue
    try:
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)  # where a network's disk says that it is full
    except BaseException:
        _discard(temporary)
        raise
    return temporary


def _write_all(descriptor: int, data: bytes) -> None:
    """Write all of ``data``: a disk that is nearly full takes a part, and says so at the next attempt."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _rename(temporary: Path, target: Path) -> None:
    """Let a file take a name that another may have; on Windows once nobody reads the other any more."""
    for _ in range(0 if _POSIX else WINDOWS_TRIES):
        try:
            temporary.replace(target)
        except PermissionError:
            time.sleep(0.05)
        else:
            return
    temporary.replace(target)


def _discard(temporary: Path) -> None:
    """Remove a file that came to nothing; what hinders that must not hide what went wrong before."""
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    """Make the names in ``folder`` survive a power failure, where the system can.

    Raises:
        OSError: the disk failed.
    """
    if not _POSIX:
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # a folder that we may write but not read
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FOLDER_SYNC:
            raise
    finally:
        os.close(descriptor)


def _is_another_living_process(pid: int) -> bool:
    """Whether ``pid`` runs and is not us. On Windows the open file itself refuses to be deleted."""
    if not _POSIX or pid == os.getpid():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True  # not ours to judge
    return True


def why_not_written(error: OSError, target: Path) -> str:
    """Why a file or folder could not be written, and what to do."""
    match error.errno:
        case errno.ENOSPC:
            return "no space left on the device: free some and save again"
        case errno.EDQUOT:
            return "disk quota exceeded: free some space and save again"
        case errno.EROFS:
            return "read-only file system: choose another folder"
        case errno.EACCES | errno.EPERM:
            return f"no permission to write in {target.parent}: choose another folder"
        case errno.ENOTDIR:
            return f"{target.parent} is not a directory: choose another folder"
        case _:
            return f"save failed ({explain(error)})"


def _kept(target: Path) -> str:
    return "the previous file is kept" if os.path.lexists(target) else "nothing was written"
