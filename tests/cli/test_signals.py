"""Signals and closed pipes at every moment, through real processes."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mnistnet.formats.checkpoint import load_checkpoint

from .test_train_command import files_in

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
"""Known by name: Windows, where this file is only read, lacks some."""


@contextlib.contextmanager
def training(small_data: Path, folder: Path, *more: str) -> Iterator[subprocess.Popen]:
    """A long training in a process group of its own, as a terminal starts it."""
    flags = ["--model", "mlp", "--nb-epochs", "100000", "--workers", "2", "--checkpoint-folder", str(folder)]
    with subprocess.Popen(
        [sys.executable, "-m", "mnistnet", "train", "--train-data-dir", str(small_data), *flags, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def wait_for(found: Callable[[], bool], process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 60
    while not found():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.002)


def temporaries(folder: Path) -> list[str]:
    return [name for name in files_in(folder) if name.endswith("-tmp")]


def code_of(name: str) -> int:
    return 128 + getattr(signal, name)


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_to_the_whole_group_during_a_save(small_data: Path, tmp_path: Path, name: str) -> None:
    """As a terminal sends it; the save is finished first."""
    folder = tmp_path / "run"
    with training(small_data, folder) as process:
        wait_for(lambda: (folder / "latest.json").exists() and bool(temporaries(folder)), process)
        os.killpg(process.pid, getattr(signal, name))
        _, said = process.communicate(timeout=60)
    assert process.returncode == code_of(name)
    assert said.startswith(f"mnistnet: {name}: stopped after ")
    assert said.count("\n") == 1
    assert not temporaries(folder)
    assert ".lock" not in files_in(folder)
    load_checkpoint(folder / "latest.json")


@pytest.mark.parametrize("name", NAMES)
def test_a_second_signal_ends_it_now(small_data: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "run"
    # a program that never comes to its next step
    program = (
        "import mnistnet.engine.minibatch as m, sys, time\n"
        "step = m.Minibatches.step\n"
        "def stuck(self, number, *more):\n"
        "    if number == 12: print('stuck', flush=True); time.sleep(60)\n"
        "    return step(self, number, *more)\n"
        "m.Minibatches.step = stuck\n"
        "from mnistnet.cli import main\n"
        "main()\n"
    )
    flags = ["--model", "mlp", "--train-data-dir", str(small_data), "--checkpoint-folder", str(folder)]
    with subprocess.Popen(
        [sys.executable, "-c", program, "train", *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        while process.stdout.readline() != "stuck\n":
            assert process.poll() is None
        process.send_signal(getattr(signal, name))
        time.sleep(0.3)
        assert process.poll() is None  # it waits for the step
        process.send_signal(getattr(signal, name))
        _, said = process.communicate(timeout=20)
    assert process.returncode == code_of(name)
    assert said in ("", "mnistnet: interrupted\n")
    assert files_in(folder) == ["checkpoint_1.json", "latest.json", "loss.csv", "run.toml"]


@pytest.mark.parametrize("name", NAMES)
def test_a_signal_before_the_first_step_leaves_nothing(small_data: Path, tmp_path: Path, name: str) -> None:
    """From the lock on, at random moments: stopped with all saved, or nothing there."""
    chance = random.Random(name)
    for number in range(2):
        folder = tmp_path / f"run_{number}"
        with training(small_data, folder) as process:
            wait_for((folder / ".lock").exists, process)
            time.sleep(chance.uniform(0, 0.15))
            process.send_signal(getattr(signal, name))
            _, said = process.communicate(timeout=60)
        assert process.returncode == code_of(name), said
        assert said.count("\n") <= 1
        if folder.exists():
            load_checkpoint(folder / "latest.json")
            assert not temporaries(folder)
            assert ".lock" not in files_in(folder)


def test_a_hangup_that_is_ignored_stays_ignored(small_data: Path, tmp_path: Path) -> None:
    """As after nohup."""
    folder = tmp_path / "run"
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with training(small_data, folder) as process:
            for epoch in (1, 5):
                wait_for((folder / f"checkpoint_{epoch}.json").exists, process)
                process.send_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


COMMANDS = {
    "help": ("--help",),
    "settings": ("train", "--print-config"),
    "info": ("info", "{run}"),
    "run": ("run", "{run}", "{place}/digit.bin"),
    "evaluate": ("evaluate", "{run}", "--data-dir", "{data}"),
    "export": ("export", "--checkpoint-path", "{run}", "--rsnet-path", "{place}/a.json"),
    "list": ("data", "list"),
    "check": ("data", "check", "{data}"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_that_has_gone_ends_a_command_quietly(
    name: str, small_data: Path, trained: Path, tmp_path: Path
) -> None:
    (tmp_path / "digit.bin").write_bytes(bytes(range(256)) * 3 + bytes(16))
    words = [word.format(run=trained, data=small_data, place=tmp_path) for word in COMMANDS[name]]
    assert piped(words, lines=0) == (0, "")


@pytest.mark.parametrize("lines", [0, 2])
def test_a_training_whose_reader_has_gone_is_saved_and_does_not_count_as_done(
    lines: int, small_data: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    flags = ("--model", "mlp", "--nb-epochs", "100000", "--checkpoint-folder", str(folder))
    assert piped(["train", "--train-data-dir", str(small_data), *flags], lines) == (141, "")
    if lines:
        assert load_checkpoint(folder / "latest.json").training["epoch"] >= 1
        assert ".lock" not in files_in(folder)
    else:
        assert not folder.exists()


def test_a_picture_whose_reader_has_gone_is_not_drawn(tmp_path: Path) -> None:
    """Its first line is printed when it is learned."""
    spiral = Path(__file__).parents[2] / "data" / "samples" / "spiral.pbm"
    words = ["reconstruct", str(spiral), "--nb-epochs", "1", "-o", str(tmp_path / "out.png")]
    folder = tmp_path / "run"
    assert piped([*words, "--checkpoint-folder", str(folder)], lines=0) == (141, "")
    assert not folder.exists()
    assert not (tmp_path / "out.png").exists()


def piped(words: list[str], lines: int) -> tuple[int, str]:
    """The exit code and the last words of a command whose reader goes after so many lines."""
    with subprocess.Popen(
        [sys.executable, "-m", "mnistnet", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(lines):
            process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        return process.wait(timeout=60), said
