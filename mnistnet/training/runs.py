"""A run on disk: its folder, its checkpoints, its loss CSV, and the lock that keeps a second trainer out."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mnistnet.engine.arrays import AnyArray
from mnistnet.errors import CheckpointError, OutputError, UsageError, explain
from mnistnet.files import (
    LineFile,
    check_target,
    remove_leftovers,
    sync_folder,
    why_not_written,
    write_atomically,
)
from mnistnet.formats.checkpoint import Checkpoint, encode_checkpoint

if TYPE_CHECKING:  # whoever only looks for a run needs no trainer
    from mnistnet.training.trainer import EpochResult

LATEST = "latest.json"
BEST_NAME = "best.json"
SETTINGS = "run.toml"
NEXT_SETTINGS, NEXT_CSV = "run.next.toml", "next.csv"
"""Settings and CSV of a run that is about to replace another, whose own are still needed."""
ARCHITECTURE_FILE = "architecture.json"
LOSS_CSV = "loss.csv"
RATES_CSV = "learning_rates.csv"
BAD_BATCH = "diverged.npz"
LOCK = ".lock"
CHECKPOINT_NAME = re.compile(r"checkpoint_(\d+)\.json")
BESIDE = (LATEST, BEST_NAME, SETTINGS, NEXT_SETTINGS, NEXT_CSV, ARCHITECTURE_FILE, RATES_CSV, BAD_BATCH)
"""What a run's folder may hold beside numbered checkpoints and the CSV."""
COLUMNS = (
    "epoch",
    "loss",
    "accuracy",
    "accuracy_of",
    "training_accuracy",
    "validation_loss",
    "learning_rate",
    "seconds",
)


class RunFolder:
    """One run's folder; a context manager that holds the folder's lock.

    Args:
        folder: where the run is kept; made if missing.
        csv_path: the loss CSV; ``loss.csv`` in the folder if None.
        overwrite: whether an older run in the folder may be replaced. It is kept until the first
            checkpoint of this run is on disk.
        inputs: files that the run reads and must not replace.
        resume_after: go on with the run in the folder after so many epochs: in the CSV the lines of later
            ones are cut.
        took_over: the checkpoint, in the folder, of a run that goes on and ended while it replaced another:
            what is left of the other goes.
        keep_until: of a run that goes on, the last epoch whose checkpoint may be there already; replacing
            later ones needs ``overwrite``.

    Raises:
        OutputError: the folder cannot be written to, is not a folder, or another process trains in it.
        UsageError: it holds a run and ``overwrite`` is false.
    """

    def __init__(
        self,
        folder: Path,
        csv_path: Path | None = None,
        *,
        overwrite: bool = False,
        inputs: Sequence[Path] = (),
        resume_after: int | None = None,
        keep_until: int = 0,
        took_over: Path | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self._resume_after = resume_after
        self._keep_until = keep_until
        self._took_over = took_over
        self._inputs = inputs
        self._older: list[Path] = []
        self._begun = False
        self.csv_path = (csv_path or self.folder / LOSS_CSV).absolute()
        self._overwrite = overwrite
        self._stack = contextlib.ExitStack()
        self._csv: LineFile | None = None
        self._written: set[Path] = set()
        self._rows: list[tuple[object, ...]] = []
        """Lines for the CSV once this run has replaced an older one."""

    def __enter__(self) -> RunFolder:
        with contextlib.ExitStack() as stack:
            made = make_folders(self.folder)
            stack.callback(_remove_empty, made)
            stack.enter_context(lock(self.folder))
            if self._took_over is not None:
                self._finish_taking_over(self._took_over)
            self._older = self._older_run() if self._resume_after is None else self._later_checkpoints()
            self._refuse_to_replace()
            remove_leftovers(self.folder)
            remove_leftovers(self.csv_path.parent, of=self.csv_path.name)
            if self._resume_after is not None:
                self._begun = self._cut_csv(self._resume_after)
            stack.callback(self._remove_unused_csv)
            # opened before the first step, so that a bad path is found before any work; but an older CSV is
            # given up only when there is something to put in its place
            self._csv = LineFile(self.csv_path)
            stack.callback(self._csv.close)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def save(self, checkpoint: Checkpoint, epoch: int | None) -> Path:
        """Write ``checkpoint_<epoch>.json`` (if an epoch is given) and ``latest.json``, whole or not at all.

        Returns:
            The path of the file to name to a person.
        """
        data = self._encode(checkpoint)
        if self.replaces and not self._rows:
            self._log_beside()
        names = [LATEST] if epoch is None else [f"checkpoint_{epoch}.json", LATEST]
        paths = [self._write(name, data) for name in names]
        if not self._begun:
            self._append(*self._rows)
        for older in self._older:
            if older not in self._written and older != self.csv_path:
                self._remove(older)
        if self._older:
            self._remove(self.folder / NEXT_CSV)
        self._older = []
        return paths[0]

    def save_best(self, checkpoint: Checkpoint) -> Path:
        """Write ``best.json``, the network of the best epoch so far; it is for use, not for going on."""
        return self._write(BEST_NAME, self._encode(checkpoint))

    def clear(self) -> None:
        """Remove the older run, where it shall not even be kept until this one has a checkpoint."""
        for older in self._older:
            self._remove(older)
        self._older = []

    @property
    def replaces(self) -> bool:
        """Whether an older run is still there, which the first checkpoint of this one replaces."""
        return bool(self._protected()) and self._resume_after is None

    @property
    def best_path(self) -> Path:
        """Where the best epoch's network is kept, if there is validation."""
        return self.folder / BEST_NAME

    def save_settings(self, text: str) -> Path:
        """Write ``run.toml``, which is enough to do the run again; beside an older run, ``run.next.toml``."""
        if self.replaces:
            return self._write(NEXT_SETTINGS, text.encode())
        path = self._write(SETTINGS, text.encode())
        for name in (NEXT_CSV, NEXT_SETTINGS):  # in this order: see `_finish_taking_over`
            self._remove(self.folder / name)
        return path

    def save_architecture(self, data: bytes) -> Path:
        """Write ``architecture.json``: what ``run.toml`` names as the model, if that is a file."""
        return self._write(ARCHITECTURE_FILE, data)

    def save_batch(self, batch: Mapping[str, AnyArray]) -> Path:
        """Write ``diverged.npz``: the arrays of a batch that training broke on."""
        data = io.BytesIO()
        np.savez_compressed(data, **batch)  # type: ignore[arg-type]
        return self._write(BAD_BATCH, data.getvalue())

    def save_rates(self, rows: Sequence[tuple[float, float]]) -> Path:
        """Write ``learning_rates.csv``: the learning rates that were tried and the loss at each."""
        lines = [f"{rate!r},{loss!r}\n" for rate, loss in rows]
        return self._write(RATES_CSV, "".join(["learning_rate,loss\n", *lines]).encode())

    def _encode(self, checkpoint: Checkpoint) -> bytes:
        try:
            return encode_checkpoint(checkpoint)
        except CheckpointError as error:
            raise error.at(self.folder) from error

    def _write(self, name: str, data: bytes) -> Path:
        path = self.folder / name
        try:
            self._check_folder(path)
            write_atomically(path, data)
        except OutputError:
            self._check_folder(path)  # it may have gone just now
            raise
        self._written.add(path)
        return path

    def _check_folder(self, path: Path) -> None:
        if not self.folder.is_dir():
            raise OutputError(f"{path}: cannot save: the run's folder was removed")

    def _remove(self, older: Path) -> None:
        try:
            older.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(f"{older}: cannot remove what an older run left: {explain(error)}") from error

    def log(self, result: EpochResult) -> None:
        """One line of the loss CSV, on disk when this returns; the first comes with the header."""
        on_validation = result.validation_accuracy is not None
        accuracy = result.validation_accuracy if on_validation else result.training_accuracy
        row = (
            result.epoch,
            repr(result.loss),
            repr(accuracy),
            "validation" if on_validation else "training",
            repr(result.training_accuracy),
            "" if result.validation_loss is None else repr(result.validation_loss),
            repr(result.learning_rate),
            f"{result.seconds:.3f}",
        )
        if self.replaces:
            self._rows.append(row)
            self._log_beside()
        else:
            self._append(row)

    def _log_beside(self) -> None:
        """The CSV as it will be, while the older run has its own."""
        self._write(NEXT_CSV, "".join(map(_csv_line, (COLUMNS, *self._rows))).encode())

    def _append(self, *rows: tuple[object, ...]) -> None:
        """Write rows to the CSV, which begins anew with its header in the place of an older one."""
        assert self._csv is not None
        if not self._begun:
            self._csv.clear()
            rows = (COLUMNS, *rows)
        self._csv.append("".join(map(_csv_line, rows)).encode())
        self._begun = True

    def _finish_taking_over(self, checkpoint: Path) -> None:
        """Do the rest of what was cut off when this run's first checkpoint had replaced an older one's.

        Each step may be done again. The first checkpoint decides whose the folder is, and the settings, which
        come last, whether anything is left to do.
        """
        latest, beside = self.folder / LATEST, self.folder / NEXT_CSV
        ours = checkpoint.read_bytes()
        if checkpoint != latest:
            write_atomically(latest, ours)
        if beside.exists():
            write_atomically(self.csv_path, beside.read_bytes())
        kept = {latest, self.csv_path, *(self.folder / name for name in (NEXT_CSV, SETTINGS, NEXT_SETTINGS))}
        for path in self._older_run():
            if path not in kept and path.read_bytes() != ours:
                self._remove(path)
        self._remove(beside)
        write_atomically(self.folder / SETTINGS, (self.folder / NEXT_SETTINGS).read_bytes())
        self._remove(self.folder / NEXT_SETTINGS)

    def _remove_unused_csv(self) -> None:
        """A run that ended before it had anything to say leaves no empty CSV."""
        with contextlib.suppress(OSError):
            if not self._begun and self.csv_path.stat().st_size == 0:
                self.csv_path.unlink()

    def _protected(self) -> list[Path]:
        """The older run's networks: without any it came to nothing, and there is nothing to protect."""
        return [path for path in self._older if path.suffix == ".json" and path.name != ARCHITECTURE_FILE]

    def _refuse_to_replace(self) -> None:
        """Refuse whatever this run would replace without being told to, or must never replace."""
        protected = self._protected()
        # what ended before its first checkpoint may have a best.json, and cannot go on
        goes_on = self._resume_after is None and is_run(self.folder)
        if protected and not self._overwrite:
            raise UsageError(
                f"{self.folder}: already holds {protected[0].name}; "
                + ("use --resume, --overwrite" if goes_on else "use --overwrite")
                + " or another folder"
            )
        for path in self._inputs:
            if any(path.exists() and path.samefile(older) for older in self._older):
                raise UsageError(f"{path}: is read by this run, which would replace it; use another folder")
        name = self.csv_path.name
        if self.csv_path.parent == self.folder and (
            name in (*BESIDE, LOCK) or CHECKPOINT_NAME.fullmatch(name)
        ):
            raise UsageError(f"{self.csv_path}: is the name of another file of this run; use another path")
        check_target(self.csv_path)
        ours = self._resume_after is not None or (
            self.csv_path == self.folder / LOSS_CSV and self._begins_as_csv()
        )
        if not self._overwrite and not ours and self.csv_path.exists() and self.csv_path.stat().st_size:
            raise UsageError(f"{self.csv_path}: already exists; use --overwrite or another path")

    def _older_run(self) -> list[Path]:
        names = (LATEST, LOSS_CSV, *BESIDE[1:])
        files = [*_numbered(self.folder).values(), *(self.folder / name for name in names)]
        return [path for path in files if path.is_file() and path.stat().st_size]

    def _later_checkpoints(self) -> list[Path]:
        return [path for epoch, path in _numbered(self.folder).items() if epoch > self._keep_until]

    def _begins_as_csv(self) -> bool:
        try:
            with self.csv_path.open("rb") as file:
                return file.readline(1000) == _csv_line(COLUMNS).encode()
        except OSError:
            return False

    def _cut_csv(self, epochs: int) -> bool:
        """Take the lines of later epochs, or half a line, out of the CSV; whether any are left."""
        try:
            text = self.csv_path.read_text(encoding="utf-8") if self.csv_path.exists() else ""
        except OSError as error:
            raise OutputError(f"{self.csv_path}: cannot be read: {explain(error)}") from error
        except UnicodeDecodeError:
            text = "\0"  # certainly not ours
        lines = text.splitlines(keepends=True)
        if text and lines[0] != _csv_line(COLUMNS) and not self._overwrite:
            raise UsageError(f"{self.csv_path}: is no loss CSV; use --overwrite or another path")
        whole = [line for line in lines[1:] if re.match(r"\d+,.*\n", line)]
        kept = [line for line in whole if int(line.split(",")[0]) <= epochs]
        if lines[:1] != [_csv_line(COLUMNS)]:
            return False
        if len(kept) + 1 < len(lines):
            write_atomically(self.csv_path, "".join([lines[0], *kept]).encode())
        return True


def _numbered(folder: Path) -> dict[int, Path]:
    """The checkpoints of a run by epoch, in order."""
    found = {}
    for path in folder.iterdir():
        if name := CHECKPOINT_NAME.fullmatch(path.name):
            found[int(name[1])] = path
    return dict(sorted(found.items()))


def _csv_line(row: tuple[object, ...]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(row)
    return line.getvalue()


def resumable(path: Path) -> list[Path]:
    """The checkpoints that a training can go on from, the newest first: a file is itself, a folder a run.

    Raises:
        CheckpointError: there is none.
    """
    if not path.is_dir():
        if not path.exists():
            raise CheckpointError(f"{path}: no such file or folder: expected a checkpoint or a run's folder")
        return [path]
    found = [*reversed(_numbered(path).values())]
    if (path / LATEST).is_file():
        found.insert(0, path / LATEST)
    if not found:
        raise CheckpointError(f"{path}: no run to go on with: expected {LATEST} or checkpoint_<epoch>.json")
    return found


def logged_beside(folder: Path) -> int | None:
    """How many epochs a run that is about to replace another has logged; None where there is no such run."""
    try:
        return len((folder / NEXT_CSV).read_bytes().splitlines()) - 1
    except OSError:
        return None


def is_run(folder: Path) -> bool:
    """Whether a training has left a checkpoint in the folder."""
    return (folder / LATEST).is_file() or (folder.is_dir() and bool(_numbered(folder)))


def members_of(folder: Path) -> list[Path]:
    """The runs of an ensemble's folder, in their order; none where it holds no ensemble."""
    found = [path for path in folder.glob("member_*") if is_run(path)] if folder.is_dir() else []
    return [] if is_run(folder) else sorted(found, key=lambda path: (len(path.name), path.name))


def make_folders(folder: Path) -> list[Path]:
    """Make a folder and its parents where they are missing.

    Returns:
        Those that were made, the innermost first: for an error before anything is in them.

    Raises:
        OutputError: it cannot be made, or is no folder.
    """
    missing = []
    for path in (folder, *folder.parents):
        if path.exists():
            break
        missing.append(path)
    made: list[Path] = []
    try:
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):  # somebody else was faster
                path.mkdir()
                made.insert(0, path)
                sync_folder(path.parent)
    except OSError as error:
        _remove_empty(made)
        why = why_not_written(error, folder)
        raise OutputError(f"{folder}: cannot make this folder: {why}") from error
    if not folder.is_dir():
        raise OutputError(f"{folder}: not a directory: give the name of a folder")
    return made


@contextlib.contextmanager
def made_folder(folder: Path) -> Iterator[None]:
    """A folder made if it is missing, with its parents; what was made goes again if it stays empty.

    Raises:
        OutputError: it cannot be made.
    """
    made = make_folders(folder)
    try:
        yield
    finally:
        _remove_empty(made)


def _remove_empty(folders: Sequence[Path]) -> None:
    for path in folders:
        with contextlib.suppress(OSError):
            path.rmdir()


@contextlib.contextmanager
def new_folder(base: Path, model: str) -> Iterator[Path]:
    """A new folder for a run below ``base``, named by model and local time; it goes again if it stays empty.

    Raises:
        OutputError: it cannot be made.
    """
    stem = re.sub(r"[^\w.-]+", "_", model).strip(".") or "run"
    stem = f"{stem}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    path, number = base / stem, 1
    # whoever makes a folder has it: two trainings that begin in the same second get one each
    while path not in (made := make_folders(path)):
        number += 1
        path = base / f"{stem}-{number}"
    try:
        yield path
    finally:
        _remove_empty(made)


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a folder's lock file; the operating system gives it up for us however the process ends.

    Raises:
        OutputError: another process has it, or the folder cannot be written to.
    """
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        while True:
            try:
                descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
            except OSError as error:
                raise OutputError(f"{folder}: {why_not_written(error, path)}") from error
            closing = contextlib.ExitStack()
            closing.callback(os.close, descriptor)
            stack.enter_context(closing)
            _take_or_refuse(descriptor, folder)
            # its last owner may have removed it between our opening and our locking: then start again
            if _is_named(descriptor, path):
                break
        try:
            with contextlib.suppress(OSError):  # a full disk: the lock holds, only its owner is not named
                os.ftruncate(descriptor, 0)
                os.write(descriptor, str(os.getpid()).encode())
            yield
        finally:
            if sys.platform == "win32":
                closing.close()  # an open file cannot be removed there
            with contextlib.suppress(OSError):
                path.unlink()


def _take_or_refuse(descriptor: int, folder: Path) -> None:
    try:
        _take(descriptor)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK):
            raise OutputError(f"{folder}: cannot lock {LOCK}: {explain(error)}") from error
        os.lseek(descriptor, 0, os.SEEK_SET)
        owner = os.read(descriptor, 20).decode("ascii", "replace").strip() or "unknown"
        raise OutputError(f"{folder}: locked by process {owner}, which trains in it") from error


def _is_named(descriptor: int, path: Path) -> bool:
    """Whether an open file still has its name."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


if sys.platform == "win32":
    import msvcrt

    def _take(descriptor: int) -> None:
        # Windows locks bytes against readers too: one that holds no text
        os.lseek(descriptor, 1 << 20, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
