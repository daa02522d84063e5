"""A run's folder: what is in it, what is refused, what survives."""

import csv
import errno
import os
import shutil
import sys
from pathlib import Path

import pytest

from mnistnet.errors import OutputError, UsageError
from mnistnet.formats.checkpoint import Checkpoint, load_checkpoint
from mnistnet.models import Classifier, build
from mnistnet.training import runs
from mnistnet.training.runs import COLUMNS, RunFolder, new_folder
from mnistnet.training.trainer import EpochResult

RESULT = EpochResult(3, 0.25, 0.9, None, None, 0.01, 1.5)
VALIDATED = EpochResult(4, 0.125, 0.95, 0.5, 0.8, 0.005, 1.25)


def a_checkpoint(seed: int = 0) -> Checkpoint:
    names = tuple(str(digit) for digit in range(10))
    return Checkpoint(Classifier(build("mlp").initialize(seed), names, name="mlp"), {"epoch": seed})


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    with RunFolder(folder) as run:
        assert names_in(folder) == [".lock", "loss.csv"]  # opened, to see that it can be
        assert (folder / ".lock").read_text() == str(os.getpid())
        run.log(RESULT)
        assert run.save(a_checkpoint(1), 3) == folder / "checkpoint_3.json"
        run.log(VALIDATED)
        assert run.save(a_checkpoint(2), None) == folder / "latest.json"
    assert names_in(folder) == ["checkpoint_3.json", "latest.json", "loss.csv"]
    assert load_checkpoint(folder / "checkpoint_3.json").training == {"epoch": 1}
    assert load_checkpoint(folder / "latest.json").training == {"epoch": 2}
    assert (folder / "loss.csv").read_bytes() == (
        b"epoch,loss,accuracy,accuracy_of,training_accuracy,validation_loss,learning_rate,seconds\n"
        b"3,0.25,0.9,training,0.9,,0.01,1.500\n"
        b"4,0.125,0.8,validation,0.95,0.5,0.005,1.250\n"
    )


def test_the_csv_is_on_disk_line_by_line_and_has_always_the_same_columns(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", tmp_path / "l.csv") as run:
        for count, result in enumerate((RESULT, VALIDATED), start=1):
            run.log(result)
            with (tmp_path / "l.csv").open(encoding="utf-8", newline="") as file:
                rows = list(csv.reader(file))
            assert len(rows) == count + 1
            assert {len(row) for row in rows} == {len(COLUMNS)}


def test_a_run_is_not_overwritten_unless_told(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        run.save(a_checkpoint(), 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with (
        pytest.raises(UsageError, match=r"already holds checkpoint_1\.json; use --resume, --overwrite"),
        RunFolder(tmp_path),
    ):
        pass
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "checkpoint_of_mine.json").write_text("mine")
    with RunFolder(tmp_path, overwrite=True) as run:
        run.save(a_checkpoint(), 2)
    assert names_in(tmp_path) == [
        "checkpoint_2.json",
        "checkpoint_of_mine.json",
        "latest.json",
        "loss.csv",
        "notes.txt",
    ]


def test_an_older_run_is_kept_until_there_is_something_in_its_place(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        run.log(RESULT)
        run.save(a_checkpoint(), 1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with RunFolder(tmp_path, overwrite=True):
        pass
    with (
        pytest.raises(OutputError, match=r"the folder .* does not exist"),
        RunFolder(tmp_path, tmp_path / "no" / "l.csv", overwrite=True),
    ):
        pass
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_file_that_the_run_reads_is_not_replaced(tmp_path: Path) -> None:
    with RunFolder(tmp_path) as run:
        path = run.save(a_checkpoint(), 1)
    with (
        pytest.raises(UsageError, match=r"checkpoint_1\.json: is read by this run"),
        RunFolder(tmp_path, overwrite=True, inputs=[path]),
    ):
        pass


@pytest.mark.parametrize("name", ["latest.json", "checkpoint_7.json", ".lock"])
def test_the_csv_is_none_of_the_runs_other_files(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(UsageError, match="is the name of another file of this run"),
        RunFolder(tmp_path, tmp_path / name),
    ):
        pass


def test_a_run_with_nothing_to_say_leaves_nothing(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run"):
        pass
    assert names_in(tmp_path) == []


def test_a_refused_run_leaves_no_folder_behind(tmp_path: Path) -> None:
    csv_path = tmp_path / "l.csv"
    csv_path.write_text("old")
    with (
        pytest.raises(UsageError, match=r"l\.csv: already exists"),
        RunFolder(tmp_path / "a" / "b", csv_path),
    ):
        pass
    assert names_in(tmp_path) == ["l.csv"]
    assert csv_path.read_text() == "old"


def test_what_a_killed_process_left_is_removed(tmp_path: Path) -> None:
    leftover = tmp_path / ".latest.json.999999999-0.mnistnet-tmp"
    leftover.write_text("half")
    with RunFolder(tmp_path):
        pass
    assert not leftover.exists()


def test_a_folder_is_locked_while_it_is_used(tmp_path: Path) -> None:
    with (
        RunFolder(tmp_path),
        pytest.raises(OutputError, match=rf"locked by process {os.getpid()}, which trains in it"),
        RunFolder(tmp_path, overwrite=True),
    ):
        pass
    with RunFolder(tmp_path, overwrite=True):
        pass


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a user who is denied")
def test_a_read_only_folder_is_said(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission to write in"), RunFolder(tmp_path):
        pass


def test_a_full_disk_at_the_csv_keeps_its_lines_and_the_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes a part of the line, which is no error yet; the rest it refuses."""
    write = os.write
    takes = iter([7, -1])

    def nearly_full(descriptor: int, data: memoryview) -> int:
        if (length := next(takes)) < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, data[:length])

    with RunFolder(tmp_path) as run:
        path = run.save(a_checkpoint(), 1)
        run.log(RESULT)
        before = (tmp_path / "loss.csv").read_bytes()
        monkeypatch.setattr(os, "write", nearly_full)
        with pytest.raises(OutputError, match=r"loss\.csv: no space left .*; its lines so far are kept"):
            run.log(VALIDATED)
    assert load_checkpoint(path).training == {"epoch": 0}
    assert before.count(b"\n") == 2
    assert (tmp_path / "loss.csv").read_bytes() == before


def test_a_disk_that_takes_a_part_gets_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    with RunFolder(tmp_path) as run:
        path = run.save(a_checkpoint(), 1)
        run.log(RESULT)
    assert load_checkpoint(path).training == {"epoch": 0}
    assert len((tmp_path / "loss.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_new_folders_never_collide(tmp_path: Path) -> None:
    """Whoever makes a folder has it, also within one second; an empty one goes again."""
    with (
        new_folder(tmp_path / "ckpt", "mlp") as first,
        new_folder(tmp_path / "ckpt", "mlp") as second,
        new_folder(tmp_path / "ckpt", "mlp") as third,
    ):
        assert len({first, second, third}) == 3
        assert all(folder.is_dir() and folder.name.startswith("mlp-") for folder in (first, second, third))
        (second / "latest.json").write_bytes(b"{}")
    assert list((tmp_path / "ckpt").iterdir()) == [second]
    with new_folder(tmp_path / "other", "mlp"):
        pass
    assert not (tmp_path / "other").exists()


def test_a_removed_folder_is_said(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run", tmp_path / "loss.csv") as run:
        run.log(RESULT)
        shutil.rmtree(tmp_path / "run")
        with pytest.raises(
            OutputError, match=r"checkpoint_1\.json: cannot save: the run's folder was removed"
        ):
            run.save(a_checkpoint(), 1)
    assert len((tmp_path / "loss.csv").read_text(encoding="utf-8").splitlines()) == 2


def test_a_folder_that_goes_between_a_look_and_a_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "run"
    write = runs.write_atomically

    def late(path: Path, data: bytes) -> None:
        shutil.rmtree(folder)
        write(path, data)

    with RunFolder(folder) as run:
        monkeypatch.setattr(runs, "write_atomically", late)
        with pytest.raises(
            OutputError, match=r"checkpoint_1\.json: cannot save: the run's folder was removed"
        ):
            run.save(a_checkpoint(), 1)


def test_a_lock_file_that_was_swapped_is_taken_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its last owner removed it between our opening and our locking."""
    take, calls = runs._take, []

    def swap_once(descriptor):
        if not calls:
            (tmp_path / ".lock").unlink()
        calls.append(1)
        take(descriptor)

    monkeypatch.setattr(runs, "_take", swap_once)
    with RunFolder(tmp_path):
        assert len(calls) == 2
        assert (tmp_path / ".lock").read_text() == str(os.getpid())
