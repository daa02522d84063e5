"""The command as a whole: help, version, speed of the start."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.main import get_command

import mnistnet as package
from mnistnet.cli.app import COMMANDS, command_line

from .conftest import Mnistnet


def test_help_names_the_commands_and_an_example(mnistnet: Mnistnet) -> None:
    for arguments in ((), ("--help",), ("-h",)):
        result = mnistnet(*arguments)
        assert result.code == 0
        assert all(name in result.out for name in ("train", "run", "export", "mnistnet train"))


@pytest.mark.parametrize("command", ["train", "run", "export", "reconstruct"])
def test_every_command_has_help_with_an_example(mnistnet: Mnistnet, command: str) -> None:
    result = mnistnet(command, "--help")
    assert result.code == 0
    assert "Examples:" in result.out
    assert f"mnistnet {command}" in result.out


def test_options_are_grouped(mnistnet: Mnistnet) -> None:
    out = mnistnet("train", "--help").out
    assert all(f" {group} " in out for group in ("Training", "Network", "Data", "Output"))


def test_version(mnistnet: Mnistnet) -> None:
    assert mnistnet("--version").out == f"mnistnet {package.__version__}\n"


@pytest.mark.parametrize("arguments", [("trian",), ("run",), ("export",), ("train", "--optimzer", "sgd")])
def test_wrong_usage_is_one_line_and_exit_2(mnistnet: Mnistnet, arguments: tuple[str, ...]) -> None:
    result = mnistnet(*arguments)
    assert result.code == 2
    assert result.out == ""
    assert result.err.startswith("mnistnet: ")
    assert result.err.count("\n") == 1


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, mnistnet.cli;"
        "heavy = {'numpy', 'onnx', 'PIL', 'pydantic', 'orjson', 'tqdm', 'threadpoolctl'} & set(sys.modules);"
        "sys.exit(', '.join(sorted(heavy)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_help_is_not_slow() -> None:
    """Not a benchmark: within a generous multiple of the bare interpreter with Typer, best of five."""

    def best(*arguments: str) -> float:
        times = []
        for _ in range(5):
            started = time.perf_counter()
            subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
            times.append(time.perf_counter() - started)
        return min(times)

    assert best("-m", "mnistnet", "--help") < 3 * best("-c", "import typer, rich.console") + 0.1


def test_shell_completion_can_be_shown(mnistnet: Mnistnet, monkeypatch: pytest.MonkeyPatch) -> None:
    # the shell is named here: Typer would look for one among the parents, and there may be none
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    result = mnistnet("--show-completion", "bash")
    assert result.code == 0
    assert "_MNISTNET_COMPLETE" in result.out.upper() or "complete" in result.out


ENDING = """
import atexit, sys, threading
from mnistnet.cli import command
{before}
atexit.register(print, "last words")
sys.argv = ["mnistnet", *{words!r}]
try:
    command()
finally:
    print("taken apart")
"""


@pytest.mark.parametrize(
    ("words", "before", "code", "said"),
    [
        (["--version"], "", 0, ["last words"]),
        (["nonsense"], "", 2, ["last words"]),
        # whoever watches sees it end as any other
        (["--version"], "sys.setprofile(lambda *_: None)", 0, ["taken apart", "last words"]),
    ],
)
def test_the_process_ends_at_once_but_not_before_its_last_words(
    words: list[str], before: str, code: int, said: list[str]
) -> None:
    program = ENDING.format(before=before, words=words)
    # a process that is measured is watched
    alone = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=alone, capture_output=True, text=True, check=False
    )
    assert done.returncode == code, done.stderr
    version = [f"mnistnet {package.__version__}"] if "--version" in words else []
    assert done.stdout.splitlines() == [*version, *said]


def test_a_profile_is_printed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cProfile", "-m", "mnistnet", "--version"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "function calls" in done.stdout


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_that_is_wanted_is_there_alone(name: str) -> None:
    alone = get_command(command_line(name))
    assert list(alone.commands) == [name]
    everything = get_command(command_line("nonsense"))
    assert list(everything.commands) == list(COMMANDS)
