"""What the long attacks of scripts/attack_*.py do, in short; disks, memory and readers as they really are."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mnistnet.formats.checkpoint import load_checkpoint

from .conftest import ROOT, Mnistnet
from .test_resume_command import assert_same_run
from .test_train_command import files_in, rows_of

posix = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
MLP = ("--model", "mlp", "--nb-epochs", "3", "--workers", "1")


def attack(script: str, *flags: str) -> str:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / script, *flags],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@linux
def test_killed_again_and_again() -> None:
    assert "6 killed" in attack("attack_kill.py", "--kills", "6", "--seed", "2")


@linux
def test_a_long_training_holds_what_it_held() -> None:
    assert "no process left" in attack("attack_length.py", "--epochs", "60", "--images", "256")


def test_the_same_bytes_with_everything_that_is_drawn_at_random(
    mnistnet: Mnistnet, small_data: Path, tmp_path: Path
) -> None:
    """Batch normalization, dropout, augmentation, averages, clipping: with 1, 2 and 4 workers, and again."""
    flags = ("--model", "deep", "--nb-epochs", 1, "--limit", 256, "--batch-size", 128, "--seed", 7)
    more = ("--augment", "elastic", "--average-decay", 0.9, "--clip-norm", 1, "--validation-split", 0.2)
    for name, workers in (("a", 1), ("b", 2), ("c", 4), ("d", 4)):
        result = mnistnet(
            *("train", "--train-data-dir", small_data, *flags, *more),
            *("--workers", workers, "--checkpoint-folder", name),
        )
        assert result.code == 0, result.err
        assert_same_run(tmp_path / "a", tmp_path / name)


@contextlib.contextmanager
def small_disk(place: Path, options: str) -> Iterator[Path]:
    """A file system of its own, which needs an administrator."""
    place.mkdir()
    mount = shutil.which("mount")
    if mount is None or subprocess.run([mount, "-t", "tmpfs", "-o", options, "none", place]).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)


@linux
def test_a_disk_that_is_really_full(mnistnet: Mnistnet, small_data: Path, tmp_path: Path) -> None:
    whole = mnistnet("train", "--train-data-dir", small_data, *MLP, "--checkpoint-folder", "whole")
    assert whole.code == 0
    size = (tmp_path / "whole" / "latest.json").stat().st_size
    with small_disk(tmp_path / "disk", f"size={4 * size}") as disk:
        folder = disk / "run"
        result = mnistnet("train", "--train-data-dir", small_data, *MLP, "--checkpoint-folder", folder)
        assert result.code == 8
        message = "no space left on the device: free some and save again; "
        assert result.err.startswith(f"mnistnet: {folder / 'latest.json'}: {message}")
        assert result.err.count("\n") == 1
        assert not [name for name in files_in(folder) if name.startswith(".")]
        for name in files_in(folder):
            if name.endswith(".json"):
                load_checkpoint(folder / name)
        assert [row["epoch"] for row in rows_of(folder / "loss.csv")] == ["1", "2", "3"][
            : len(files_in(folder)) - 3
        ]
        remount(disk, "size=100m")
        resumed = mnistnet("train", "--resume", folder)
        assert resumed.code == 0, resumed.err
        assert_same_run(tmp_path / "whole", folder)


@linux
def test_a_disk_that_is_really_read_only(mnistnet: Mnistnet, small_data: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", "size=10m") as disk:
        options = ("--train-data-dir", small_data, *MLP, "--checkpoint-folder")
        assert mnistnet("train", *options, disk / "run").code == 0
        remount(disk, "ro")
        before = {path: path.read_bytes() for path in (disk / "run").iterdir()}
        for folder, flags in (("run", ("--overwrite",)), ("new", ())):
            result = mnistnet("train", *options, disk / folder, *flags)
            assert (result.code, result.out) == (8, "")
            assert "read-only file system: choose another folder" in result.err
            assert str(disk / folder) in result.err
        resumed = mnistnet("train", "--resume", disk / "run", "--nb-epochs", 4)
        assert (resumed.code, resumed.err.count("\n")) == (8, 1)
        exported = mnistnet("export", "--checkpoint-path", disk / "run", "--rsnet-path", disk / "rsnet.json")
        assert (exported.code, exported.err.count("\n")) == (8, 1)
        assert {path: path.read_bytes() for path in (disk / "run").iterdir()} == before


def train(small_data: Path, folder: Path, *more: str) -> subprocess.Popen:
    flags = [
        "--model",
        "rsnet",
        "--nb-epochs",
        "100000",
        "--workers",
        "1",
        "--checkpoint-folder",
        str(folder),
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "mnistnet", "train", "--train-data-dir", str(small_data), *flags, *more],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_epochs(process: subprocess.Popen, path: Path) -> None:
    while not path.exists():
        assert process.poll() is None
        time.sleep(0.005)


def test_trainings_that_begin_at_the_same_moment_get_folders_of_their_own(
    small_data: Path, tmp_path: Path
) -> None:
    flags = ("--train-data-dir", str(small_data), "--model", "rsnet", "--nb-epochs", "1")
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "mnistnet", "train", *flags],
            cwd=tmp_path,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=120)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    folders = list((tmp_path / "ckpt").iterdir())
    assert len(folders) == 3
    for folder in folders:
        assert_same_run(folders[0], folder)


@posix
def test_a_folder_that_goes_while_it_is_written_to(small_data: Path, tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log.csv"
    with train(small_data, folder, "--loss-csv-path", str(log)) as process:
        wait_for_epochs(process, folder / "checkpoint_2.json")
        folder.rename(tmp_path / "gone")
        _, said = process.communicate(timeout=60)
    assert process.returncode == 8
    assert said.startswith(f"mnistnet: {folder}/")
    assert said.endswith(": cannot save: the run's folder was removed\n")
    assert not folder.exists()
    load_checkpoint(tmp_path / "gone" / "latest.json")
    assert len(rows_of(log)) >= 2


@posix
def test_a_reader_always_sees_a_whole_checkpoint(small_data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with train(small_data, folder, "--validation-split", "0.1") as process:
        wait_for_epochs(process, folder / "best.json")
        seen = []
        until = time.monotonic() + 3
        while time.monotonic() < until:
            seen.append(load_checkpoint(folder / "latest.json").training["epoch"])
            load_checkpoint(folder / "best.json")
        assert process.poll() is None
        process.kill()
    assert seen == sorted(seen)
    assert len(set(seen)) > 2


@linux
@pytest.mark.parametrize("workers", [1, 2])
def test_too_little_memory_says_what_to_do(small_data: Path, tmp_path: Path, workers: int) -> None:
    import resource

    # far from both: the libraries take some 150 MB, this training 900
    limit = 500 << 20
    layers = [
        {"kind": "flatten"},
        {"kind": "dense", "out_features": 32_000},
        {"kind": "dense", "out_features": 10},
        {"kind": "softmax"},
    ]
    pixels = {"channels": 1, "height": 28, "width": 28, "scale": 1 / 255, "shift": 0.0}
    architecture = {"format": "mnistnet-architecture", "version": 1, "input": pixels, "layers": layers}
    (tmp_path / "large.json").write_text(json.dumps(architecture))
    flags = ["--model", "large.json", "--batch-size", "64", "--workers", str(workers), "--nb-epochs", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "mnistnet", "train", "--train-data-dir", str(small_data), *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit, limit)),
    )
    assert done.returncode in (1, 10)
    assert done.stderr.count("\n") == 1, done.stderr
    assert "lower --batch-size" in done.stderr or "use --workers 1" in done.stderr
    assert list((tmp_path / "ckpt").iterdir()) == [] if (tmp_path / "ckpt").exists() else True
