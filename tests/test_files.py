"""Writing whole or not at all, reading up to a limit."""

import errno
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from mnistnet import files
from mnistnet.errors import CheckpointError, OutputError
from mnistnet.files import (
    check_target,
    read_limited,
    remove_leftovers,
    same_file,
    write_atomically,
)

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")


def test_creates_and_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a name, ünïcode.json"
    write_atomically(path, b"first")
    assert path.read_bytes() == b"first"
    write_atomically(path, b"second")
    assert path.read_bytes() == b"second"
    assert list(tmp_path.iterdir()) == [path]


def test_relative_path_and_leading_dash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_atomically(Path("-x.json"), b"data")
    assert (tmp_path / "-x.json").read_bytes() == b"data"


def test_the_file_reaches_the_disk_before_it_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    seen = []

    def fsync(descriptor: int) -> None:
        seen.append(path.read_bytes())

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(path, b"new")
    assert seen == ([b"old", b"new"] if os.name == "posix" else [b"old"])


def _fail(number: int) -> Callable[..., None]:
    def call(*args: object, **kwargs: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


def _nearly_full() -> Callable[..., int]:
    """A disk that takes three bytes, then no more."""
    write, takes = os.write, iter([3])

    def call(descriptor: int, data: bytes) -> int:
        if length := next(takes, 0):
            return write(descriptor, data[:length])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return call


FAILURES = [
    ("open", errno.EROFS, "read-only file system: choose another folder"),
    ("open", errno.EACCES, "no permission to write in"),
    ("open", errno.EPERM, "no permission to write in"),
    ("open", errno.EDQUOT, "disk quota exceeded"),
    ("open", errno.ENOSPC, "no space left on the device"),
    ("open", errno.ENOENT, "save failed (no such file)"),
    ("fsync", errno.EIO, "save failed"),
    ("fsync", errno.ENOSPC, "no space left on the device"),
    ("write", None, "no space left on the device"),
    ("close", errno.EDQUOT, "disk quota exceeded"),
    ("replace", errno.EACCES, "no permission to write in"),
]


@pytest.mark.parametrize(("function", "number", "message"), FAILURES)
@pytest.mark.parametrize("previous", [b"previous", None])
def test_failures_keep_the_previous_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    function: str,
    number: int | None,
    message: str,
    previous: bytes | None,
) -> None:
    path = tmp_path / "a.json"
    if previous is not None:
        path.write_bytes(previous)
    before = sorted(tmp_path.iterdir())
    with monkeypatch.context() as patch:
        patch.setattr(os, function, _nearly_full() if number is None else _fail(number))
        with pytest.raises(OutputError) as caught:
            write_atomically(path, b"0123456789")
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert message in text
    assert "\n" not in text
    assert ("previous file is kept" in text) == (previous is not None)
    assert sorted(tmp_path.iterdir()) == before
    assert previous is None or path.read_bytes() == previous


@posix
def test_unconfirmed_rename_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, OSError(errno.EIO, "Input/output error")])

    def fsync(descriptor: int) -> None:
        if answer := next(answers):
            raise answer

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OutputError, match="written, but the disk does not confirm it"):
        write_atomically(tmp_path / "a.json", b"data")


@posix
def test_file_systems_that_cannot_sync_a_folder_are_fine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([None, OSError(errno.EINVAL, "Invalid argument")])

    def fsync(descriptor: int) -> None:
        if answer := next(answers):
            raise answer

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "a.json", b"data")
    assert (tmp_path / "a.json").read_bytes() == b"data"


def test_what_hinders_the_clearing_up_does_not_hide_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "fsync", _fail(errno.ENOSPC))
    monkeypatch.setattr(os, "unlink", _fail(errno.EROFS))
    with pytest.raises(OutputError, match="no space left on the device"):
        write_atomically(tmp_path / "a.json", b"data")


def test_a_reader_holds_up_a_rename_on_windows_only_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses to replace a file that somebody has open."""
    replace, refusals = os.replace, iter([True] * 3)

    def refuse_at_first(source: Path, target: Path) -> None:
        if next(refusals, False):
            raise PermissionError(errno.EACCES, "Access is denied")
        replace(source, target)

    monkeypatch.setattr(files, "_POSIX", False)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    monkeypatch.setattr(os, "replace", refuse_at_first)
    (tmp_path / "a.json").write_bytes(b"old")
    write_atomically(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"new"
    monkeypatch.setattr(os, "replace", _fail(errno.EACCES))
    with pytest.raises(OutputError, match=r"no permission to write in .*; the previous file is kept"):
        write_atomically(tmp_path / "a.json", b"newer")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "a.json", b"data")
    assert list(tmp_path.iterdir()) == []


def test_paths_that_can_never_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"x")
    for write in (check_target, lambda path: write_atomically(path, b"data")):
        with pytest.raises(OutputError, match="folder: is a directory: give the name of a file"):
            write(tmp_path / "folder")
        with pytest.raises(OutputError, match="missing does not exist: create it first"):
            write(tmp_path / "missing" / "a.json")
    with pytest.raises(OutputError):
        write_atomically(tmp_path / "file" / "a.json", b"data")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]


@posix
def test_devices_are_not_replaced() -> None:
    with pytest.raises(OutputError, match="/dev/null: is not a regular file"):
        write_atomically(Path("/dev/null"), b"data")
    assert Path("/dev/null").is_char_device()


@posix
def test_a_link_is_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_bytes(b"old")
    (tmp_path / "link").symlink_to(target)
    write_atomically(tmp_path / "link", b"new")
    assert target.read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()


@posix
def test_killed_while_saving(tmp_path: Path) -> None:
    path = tmp_path / "latest.json"
    path.write_bytes(b"previous")
    program = (
        "import os, pathlib, signal, sys\n"
        "from mnistnet.files import write_atomically\n"
        "os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)\n"
        "write_atomically(pathlib.Path(sys.argv[1]), b'half')\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, str(path)], check=False)
    assert killed.returncode == -9
    assert path.read_bytes() == b"previous"
    leftover = [file for file in tmp_path.iterdir() if file != path]
    assert len(leftover) == 1
    assert remove_leftovers(tmp_path) == tuple(leftover)
    assert list(tmp_path.iterdir()) == [path]


@posix
def test_leftovers_are_told_from_other_files(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    dead, ours, living = ended.pid, os.getpid(), os.getppid()
    gone = [f".a.json.{dead}-0.mnistnet-tmp", f".b.json.{ours}-3.mnistnet-tmp"]
    kept = [
        f".a.json.{living}-0.mnistnet-tmp",
        f"a.json.{dead}-0.mnistnet-tmp",
        f".a.json.{dead}.tmp",
        ".a.json.99999999999-0.mnistnet-tmp",
        "latest.json",
    ]
    for name in gone + kept:
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / f".d.{dead}-0.mnistnet-tmp").mkdir()
    assert [path.name for path in remove_leftovers(tmp_path)] == gone
    assert {path.name for path in tmp_path.iterdir()} == {*kept, f".d.{dead}-0.mnistnet-tmp"}
    assert remove_leftovers(tmp_path / "missing") == ()


def test_what_a_killed_save_left_goes_an_hour_later(tmp_path: Path) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    left = [f"a.onnx.{ended.pid}-0", f"a.onnx.{os.getpid()}-7"]
    kept = [f"a.onnx.{os.getppid()}-0", f"b.onnx.{ended.pid}-0", f"a.onnx.{ended.pid}-1"]
    for name in (*left, *kept):
        path = tmp_path / f".{name}.mnistnet-tmp"
        path.write_bytes(b"half")
        hours = 0 if name.endswith("-1") else 2  # another container may be writing it
        os.utime(path, (time.time() - hours * 3600,) * 2)
    write_atomically(tmp_path / "a.onnx", b"whole")
    assert {path.name for path in tmp_path.iterdir()} == {"a.onnx", *(f".{n}.mnistnet-tmp" for n in kept)}


def test_a_leftover_with_our_process_id_is_not_in_the_way(tmp_path: Path) -> None:
    stale = tmp_path / f".a.json.{os.getpid()}-0.mnistnet-tmp"
    stale.write_bytes(b"stale")
    write_atomically(tmp_path / "a.json", b"new")
    assert (tmp_path / "a.json").read_bytes() == b"new"
    assert stale.read_bytes() == b"stale"


def test_read_limited(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"12345")
    assert read_limited(path, 5, CheckpointError) == b"12345"
    with pytest.raises(CheckpointError) as caught:
        read_limited(path, 4, CheckpointError, advice="raise it with --x")
    assert str(caught.value) == f"{path}: 5 bytes, more than the limit of 4 bytes: raise it with --x"
    with pytest.raises(CheckpointError, match="missing: no such file"):
        read_limited(tmp_path / "missing", 5, CheckpointError)
    with pytest.raises(CheckpointError, match="not a regular file, but a directory"):
        read_limited(tmp_path, 5, CheckpointError)


@posix
def test_read_limited_does_not_wait_for_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CheckpointError, match="not a regular file, but a named pipe"):
        read_limited(tmp_path / "pipe", 5, CheckpointError)


def test_read_limited_measures_what_it_read_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"")
    small = path.stat()
    path.write_bytes(b"123456789")
    monkeypatch.setattr(Path, "stat", lambda self, **_: small)
    with pytest.raises(CheckpointError, match="more than the limit of 4 bytes"):
        read_limited(path, 4, CheckpointError)


def test_read_limited_needs_memory_for_the_file_not_for_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "small"
    path.write_bytes(b"x" * 1000)
    tracemalloc.start()
    try:
        read_limited(path, 2**30, CheckpointError)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_read_limited_reads_what_has_grown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "growing"
    path.write_bytes(b"1")
    small = path.stat()
    path.write_bytes(b"123456789")
    monkeypatch.setattr(Path, "stat", lambda self, **_: small)
    assert read_limited(path, 9, CheckpointError) == b"123456789"


def test_same_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    monkeypatch.chdir(tmp_path)
    assert same_file(path, Path("a"))  # neither exists yet
    path.write_bytes(b"")
    assert same_file(path, Path("a"))
    assert not same_file(path, tmp_path / "b")
    (tmp_path / "folder").mkdir()
    assert same_file(path, tmp_path / "folder" / ".." / "a")
    os.link(path, tmp_path / "hard")
    assert same_file(path, tmp_path / "hard")
