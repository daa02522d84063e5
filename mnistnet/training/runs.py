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
from typing import TextIO

import numpy as np

from mnistnet.engine.arrays import AnyArray
from mnistnet.errors import CheckpointError, OutputError, UsageError, explain
from mnistnet.files import check_target, remove_leftovers, write_atomically
from mnistnet.formats.checkpoint import Checkpoint, encode_checkpoint
from mnistnet.training.trainer import EpochResult

LATEST = "latest.json"
BEST_NAME = "best.json"
SETTINGS = "run.toml"
ARCHITECTURE_FILE = "architecture.json"
LOSS_CSV = "loss.csv"
RATES_CSV = "learning_rates.csv"
BAD_BATCH = "diverged.npz"
LOCK = ".lock"
CHECKPOINT_NAME = re.compile(r"checkpoint_(\d+)\.json")
BESIDE = (LATEST, BEST_NAME, SETTINGS, ARCHITECTURE_FILE, RATES_CSV, BAD_BATCH)
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
    ) -> None:
        self.folder = folder.absolute()
        self._resume_after = resume_after
        self._keep_until = keep_until
        self._inputs = inputs
        self._older: list[Path] = []
        self._begun = False
        self.csv_path = (csv_path or self.folder / LOSS_CSV).absolute()
        self._overwrite = overwrite
        self._stack = contextlib.ExitStack()
        self._csv: io.FileIO | None = None
        self._written: set[Path] = set()

    def __enter__(self) -> RunFolder:
        with contextlib.ExitStack() as stack:
            made = make_folders(self.folder)
            stack.callback(_remove_empty, made)
            stack.enter_context(_lock(self.folder))
            self._older = self._older_run() if self._resume_after is None else self._later_checkpoints()
            self._refuse_to_replace()
            remove_leftovers(self.folder)
            if self._resume_after is not None:
                self._begun = self._cut_csv(self._resume_after)
            stack.callback(self._remove_unused_csv)
            try:
                # opened before the first step, so that a bad path is found before any work; but an older CSV
                # is given up only when there is something to put in its place. Unbuffered: what a full disk
                # did not take is not tried again when the file is closed
                self._csv = stack.enter_context(self.csv_path.open("ab", buffering=0))
            except OSError as error:
                raise OutputError(f"{self.csv_path}: cannot write there: {error.strerror}") from error
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
        path = latest = self.folder / LATEST
        if epoch is not None:
            path = self.folder / f"checkpoint_{epoch}.json"
            write_atomically(path, data)
        write_atomically(latest, data)
        self._written |= {path, latest}
        self._begin()
        for older in self._older:
            if older not in self._written and older != self.csv_path:
                older.unlink(missing_ok=True)
        self._older = []
        return path

    def save_best(self, checkpoint: Checkpoint) -> Path:
        """Write ``best.json``, the network of the best epoch so far; it is for use, not for going on."""
        return self._write(BEST_NAME, self._encode(checkpoint))

    @property
    def replaces(self) -> bool:
        """Whether an older run is still there, which the first checkpoint of this one replaces."""
        return bool(self._older)

    @property
    def best_path(self) -> Path:
        """Where the best epoch's network is kept, if there is validation."""
        return self.folder / BEST_NAME

    def save_settings(self, text: str) -> Path:
        """Write ``run.toml``, which is enough to do the run again."""
        return self._write(SETTINGS, text.encode())

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
        write_atomically(path, data)
        self._written.add(path)
        return path

    def log(self, result: EpochResult) -> None:
        """One line of the loss CSV, on disk when this returns."""
        self._begin()
        on_validation = result.validation_accuracy is not None
        accuracy = result.validation_accuracy if on_validation else result.training_accuracy
        self._write_row(
            (
                result.epoch,
                repr(result.loss),
                repr(accuracy),
                "validation" if on_validation else "training",
                repr(result.training_accuracy),
                "" if result.validation_loss is None else repr(result.validation_loss),
                repr(result.learning_rate),
                f"{result.seconds:.3f}",
            )
        )

    def _begin(self) -> None:
        """Start the CSV, in the place of an older one."""
        if self._begun:
            return
        assert self._csv is not None
        self._begun = True
        self._csv.truncate(0)
        self._write_row(COLUMNS)

    def _remove_unused_csv(self) -> None:
        """A run that ended before it had anything to say leaves no empty CSV."""
        with contextlib.suppress(OSError):
            if not self._begun and self.csv_path.stat().st_size == 0:
                self.csv_path.unlink()

    def _refuse_to_replace(self) -> None:
        """Refuse whatever this run would replace without being told to, or must never replace."""
        # without a checkpoint there is nothing to protect: what is left of a run that came to nothing
        protected = [
            path for path in self._older if path.suffix == ".json" and path.name != ARCHITECTURE_FILE
        ]
        if protected and not self._overwrite:
            raise UsageError(
                f"{self.folder}: already holds {protected[0].name}; "
                + ("use --overwrite" if self._resume_after is not None else "use --resume, --overwrite")
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

    def _write_row(self, row: tuple[object, ...]) -> None:
        assert self._csv is not None
        try:
            self._csv.write(_csv_line(row).encode())
        except OSError as error:
            raise OutputError(
                f"{self.csv_path}: cannot write the loss CSV: {error.strerror}; checkpoints are kept"
            ) from error

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
            path.mkdir(exist_ok=True)
            made.insert(0, path)
    except OSError as error:
        _remove_empty(made)
        raise OutputError(f"{folder}: cannot make this folder: {error.strerror}") from error
    if not folder.is_dir():
        raise OutputError(f"{folder}: not a directory; --checkpoint-folder needs one")
    return made


def _remove_empty(folders: Sequence[Path]) -> None:
    for path in folders:
        with contextlib.suppress(OSError):
            path.rmdir()


def new_folder(base: Path, model: str) -> Path:
    """A path for a new run below ``base``, named by model and local time, that does not exist yet."""
    stem = re.sub(r"[^\w.-]+", "_", model).strip(".") or "run"
    stem = f"{stem}-{datetime.now().astimezone():%Y%m%d-%H%M%S}"
    path = base / stem
    number = 2
    while path.exists():
        path = base / f"{stem}-{number}"
        number += 1
    return path


@contextlib.contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """Hold the folder's lock file; the operating system gives it up for us however the process ends."""
    path = folder / LOCK
    with contextlib.ExitStack() as stack:
        while True:
            try:
                file = path.open("a+", encoding="ascii")
            except OSError as error:
                raise OutputError(f"{folder}: cannot write there: {error.strerror}") from error
            stack.enter_context(file)
            try:
                _take(file)
                # its last owner may have removed it between our opening and our locking: then start again
                if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    break
            except OSError as error:
                if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK):
                    raise OutputError(f"{folder}: cannot lock {path.name}: {error.strerror}") from error
                file.seek(0)
                owner = file.read().strip() or "unknown"
                raise OutputError(f"{folder}: locked by process {owner}, which trains in it") from error
        try:
            with contextlib.suppress(OSError):  # a full disk: the lock holds, only its owner is not named
                os.ftruncate(file.fileno(), 0)
                os.write(file.fileno(), str(os.getpid()).encode())
            yield
        finally:
            if sys.platform == "win32":
                file.close()  # an open file cannot be removed there
            with contextlib.suppress(OSError):
                path.unlink()


if sys.platform == "win32":
    import msvcrt

    def _take(file: TextIO) -> None:
        file.seek(1 << 20)  # Windows locks bytes against readers too: one that holds no text
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _take(file: TextIO) -> None:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
