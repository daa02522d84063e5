"""Every call that changes the disk fails once, as disks fail: nothing that was there is lost.

A command runs once undisturbed, which counts its calls; then as often as it has calls, each time with another
one failing. Here the errors take turns; with MNISTNET_FAULTS=all every call meets every error.
"""

from __future__ import annotations

import errno
import os
import shutil
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from typer.main import get_command

from mnistnet.cli import main
from mnistnet.cli.app import command_line
from mnistnet.cli.resume import find_resumed
from mnistnet.data import write_idx
from mnistnet.formats.checkpoint import load_checkpoint
from mnistnet.training.runs import COLUMNS, is_run

from .disk import Disk, KilledError
from .test_resume_command import assert_same_run
from .test_train_command import files_in

ERRORS = {
    errno.ENOSPC: "no space left on",
    errno.EIO: "input/output error",
    errno.EROFS: "read-only file system",
    errno.EDQUOT: "quota exceeded",
}
ALL = os.environ.get("MNISTNET_FAULTS") == "all"
NETWORK = """{"format": "mnistnet-architecture", "version": 1,
 "input": {"channels": 1, "height": 8, "width": 8, "scale": 0.00392156862745098, "shift": 0.0},
 "layers": [{"kind": "flatten"}, {"kind": "dense", "out_features": 10}, {"kind": "softmax"}]}"""
TRAIN = ("train", "--train-data-dir", "set", "--model", "net.json", "--batch-size", "8", "--workers", "1")
MORE = ("--nb-epochs", "2", "--validation-split", "0.2", "--checkpoint-folder", "out/run")

LEFTOVER = f".latest.json.{2**22 + 1}-0.mnistnet-tmp"


@dataclass(frozen=True)
class Result:
    code: int
    err: str


Command = Callable[..., Result]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, with a dataset of tiny images, and a folder for what comes out."""
    rng = np.random.default_rng(0)
    (tmp_path / "set").mkdir()
    (tmp_path / "out").mkdir()
    for prefix, count in (("train", 40), ("t10k", 20)):
        images, labels = rng.integers(0, 256, (count, 8, 8), np.uint8), np.arange(count, dtype=np.uint8) % 10
        write_idx(tmp_path / "set" / f"{prefix}-images-idx3-ubyte", images)
        write_idx(tmp_path / "set" / f"{prefix}-labels-idx1-ubyte", labels)
    (tmp_path / "net.json").write_text(NETWORK, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command line, in this process; what takes longest, to put it together, is done once."""
    whole = get_command(command_line())
    monkeypatch.setattr("mnistnet.cli.app.command_line", lambda _wanted: whole)

    def run(*words: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["mnistnet", *words])
        with pytest.raises(SystemExit) as left:
            main()
        return Result(left.value.code or 0, capsys.readouterr().err)

    return run


def faults(count: int) -> list[tuple[int, int]]:
    """Which call fails, and how."""
    errors = list(ERRORS)
    if ALL:
        return [(call, error) for call in range(count) for error in errors]
    return [(call, errors[call % len(errors)]) for call in range(count)]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def assert_said(result: Result, error: int, where: str) -> None:
    """One line that names a file, says what failed, and the right exit code."""
    assert result.code == 8, (where, result)
    *before, line = result.err.splitlines()
    assert all(said.startswith("mnistnet: wrote ") for said in before), (where, result)
    assert line.startswith("mnistnet: "), (where, result)
    assert "out" in line.split(": ")[1], (where, result)
    assert ERRORS[error] in line, (where, result)


def assert_whole(folder: Path, leftovers: set[str]) -> None:
    """Every file of a run can be read, and nothing else is there, except for earlier leftovers."""
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.suffix == ".toml":
            tomllib.loads(path.read_text(encoding="utf-8"))
        elif path.suffix == ".csv":  # also what is to become one
            lines = path.read_bytes().decode().split("\n")
            assert lines.pop() == ""
            if not lines:  # made, and nothing to say yet
                continue
            assert lines[0] == ",".join(COLUMNS)
            assert all(line.count(",") == len(COLUMNS) - 1 for line in lines)
        elif path.suffix == ".json" and path.name != "architecture.json":
            load_checkpoint(path)
        else:
            # a lock that cannot be removed harms nobody: it is not held
            assert path.name in {"architecture.json", ".lock", *leftovers}


def go_on(command: Command, run: Path) -> None:
    """Do what a person would do when the disk is well again."""
    if not is_run(run):
        again = command(*TRAIN, *MORE)
    elif find_resumed(run).settings.seed == 0:
        again = command("train", "--resume", "out/run")
    else:  # the older run, which the new one was to replace, is there and can be gone on with
        assert command("train", "--resume", "out/run", "--nb-epochs", "4").code == 0
        again = command(*TRAIN, *MORE, "--overwrite")
    assert again.code == 0 or "nothing to do" in again.err, again


def fresh(command: Command, place: Path) -> tuple[str, ...]:
    return (*TRAIN, *MORE)


def stopped(command: Command, place: Path) -> tuple[str, ...]:
    """A run that was killed after its first epoch, its CSV ahead, with a leftover."""
    assert command(*TRAIN, *MORE).code == 0
    run = place / "out" / "run"
    shutil.copy(run / "checkpoint_1.json", run / "latest.json")
    (run / "checkpoint_2.json").unlink()
    (run / LEFTOVER).write_bytes(b"half")
    return ("train", "--resume", "out/run")


def replaced(command: Command, place: Path) -> tuple[str, ...]:
    """An older run that a new one takes the place of."""
    assert command(*TRAIN, *MORE, "--seed", "5", "--nb-epochs", "3").code == 0
    return (*TRAIN, *MORE, "--overwrite")


@pytest.mark.parametrize("prepare", [fresh, stopped, replaced])
def test_a_training_outlives_every_fault_of_the_disk(
    prepare: Callable, place: Path, command: Command
) -> None:
    out = place / "out"
    words = prepare(command, place)
    shutil.copytree(out, place / "before")
    disk = Disk(out)
    with disk.watching():
        assert command(*words).code == 0
    assert len(disk.calls) > 30
    out.rename(place / "whole")
    tolerated = set()
    for call, error in faults(len(disk.calls)):
        shutil.copytree(place / "before", out)
        failing = Disk(out)
        failing.fails_at, failing.error = call, error
        with failing.watching():
            result = command(*words)
        where = f"{disk.calls[call]} (call {call}, {errno.errorcode[error]})"
        assert_whole(out / "run", {Path(path).name for path in contents(place / "before")})
        if result.code == 0:
            tolerated.add(disk.calls[call])
        else:
            assert_said(result, error, where)
            with Disk(out).watching():
                go_on(command, out / "run")
        for tidied in (".lock", LEFTOVER):
            (out / "run" / tidied).unlink(missing_ok=True)
        assert_same_run(place / "whole" / "run", out / "run")
        shutil.rmtree(out)
    # what only tidies up, and the name in the lock, may fail without harm
    assert {call.split()[0] for call in tolerated if ".lock" not in call} <= {"unlink", "rmdir"}


@pytest.mark.parametrize("prepare", [fresh, stopped, replaced] if ALL else [replaced])
def test_a_training_outlives_a_kill_before_every_call(
    prepare: Callable, place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As kill -9, but at each moment between two changes of the disk, one after the other."""
    out = place / "out"
    words = prepare(command, place)
    shutil.copytree(out, place / "before")
    disk = Disk(out)
    with disk.watching():
        assert command(*words).code == 0
    out.rename(place / "whole")
    for call in range(len(disk.calls)):
        shutil.copytree(place / "before", out)
        killed = Disk(out)
        killed.fails_at = call
        monkeypatch.setattr(sys, "argv", ["mnistnet", *words])
        with killed.watching(), pytest.raises(KilledError):
            main()
        left = files_in(out / "run") if (out / "run").exists() else []
        assert_whole(out / "run", {name for name in left if name.endswith("-tmp")})
        with Disk(out).watching():
            go_on(command, out / "run")
        assert_same_run(place / "whole" / "run", out / "run")
        shutil.rmtree(out)


OTHERS = {
    "onnx": ("export", "--checkpoint-path", "model/best.json", "--onnx-path", "out/a"),
    "rsnet": ("export", "--checkpoint-path", "model/best.json", "--rsnet-path", "out/a"),
    "page": ("export", "--checkpoint-path", "model/best.json", "--html-path", "out/a"),
    "explain": ("run", "model/best.json", "set/digit.bin", "--explain", "out/a"),
    "npz": ("data", "convert", "set", "out/new.npz"),
    "idx": ("data", "convert", "set", "out/new"),
    "csv": ("data", "convert", "set", "out/new", "--to", "csv"),
    "pictures": ("data", "convert", "set", "out/new", "--to", "pictures"),
    "for-rsnet": ("data", "convert", "set", "out/new", "--to", "rsnet"),
    "sheet": ("data", "check", "set", "--sheet", "out/a"),
    "augmented": (
        *TRAIN,
        "--nb-epochs",
        "0",
        "--augment",
        "shift",
        "--augment-picture",
        "out/a",
        "--overwrite",
    ),
    "plots": ("evaluate", "model/best.json", "--data-dir", "set", "--plots", "out/pictures"),
    "import": ("import", "model/model.onnx", "--checkpoint-path", "out/a"),
}
NEW = {"npz", "idx", "csv", "pictures", "for-rsnet"}
"""Those that write where nothing is yet."""


@pytest.fixture
def model(place: Path, command: Command) -> Path:
    """Files that the other commands read."""
    assert command(*TRAIN, *MORE).code == 0
    folder = place / "model"
    shutil.move(place / "out" / "run", folder)
    (place / "set" / "digit.bin").write_bytes(bytes(range(64)))
    assert command("export", "--checkpoint-path", "model", "--onnx-path", "model/model.onnx").code == 0
    return folder


@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.usefixtures("model")
def test_what_other_commands_write_is_there_wholly_or_not_at_all(
    name: str, place: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    # drawing takes seconds, and does not touch the disk
    monkeypatch.setattr("mnistnet.reports.plots.all_plots", lambda *_: {"a": b"first", "b": b"second"})
    monkeypatch.setattr("mnistnet.reports.plots.png", lambda figure: figure)
    out = place / "out"
    words = OTHERS[name]
    disk = Disk(out)
    with disk.watching():
        assert command(*words).code in (0, 3)
    whole = contents(out)
    assert whole
    assert disk.calls
    for older in (False, True):
        if older and name in NEW:
            break  # what is there already is refused
        for call, error in faults(min(len(disk.calls), 24)):
            shutil.rmtree(out)
            out.mkdir()
            for path in whole if older else ():
                (out / path).parent.mkdir(exist_ok=True)
                (out / path).write_bytes(b"older")
            failing = Disk(out)
            failing.fails_at, failing.error = call, error
            with failing.watching():
                result = command(*words)
            if result.code in (0, 3):  # only tidying up has failed
                continue
            assert_said(result, error, disk.calls[call])
            allowed = (b"older", None) if older else (None,)
            for path, data in contents(out).items():
                assert data in (*allowed, whole.get(path)), (disk.calls[call], path)
