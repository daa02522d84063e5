"""Worker processes that are started before there is work for them."""

import contextlib
import errno
import subprocess
import sys

import numpy as np
import pytest

from mnistnet.engine import crew as crew_module
from mnistnet.engine.crew import started_ahead, take_crew
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.minibatch import Minibatches
from mnistnet.engine.optimizers import SGD
from mnistnet.engine.workers import Region, Workers
from mnistnet.errors import WorkerError
from mnistnet.models import build

posix = pytest.mark.skipif(sys.platform == "win32", reason="pipes that close are POSIX's")

MODULE = "mnistnet.engine.minibatch"


def of_the_crew_ahead() -> list[subprocess.Popen]:
    (crew,) = crew_module._ahead
    return list(crew.processes)


@posix
def test_the_next_workers_take_over_what_was_started_ahead() -> None:
    with started_ahead(1, "mnistnet.engine.workers"):
        (process,) = of_the_crew_ahead()
        with contextlib.closing(Workers(2, [], "builtins:print", {})) as workers:
            assert list(workers.processes) == [process]
            assert not crew_module._ahead
    assert process.returncode is not None


@posix
@pytest.mark.parametrize(("ahead", "wanted"), [(3, 1), (1, 3), (2, 2)])
def test_too_many_are_sent_home_and_missing_ones_are_started(ahead: int, wanted: int) -> None:
    with started_ahead(ahead, MODULE):
        first = of_the_crew_ahead()
        with contextlib.closing(
            Workers(wanted + 1, [Region("a", (3,), "int8")], "builtins:print", {})
        ) as workers:
            there = list(workers.processes)
            assert len(there) == wanted
            assert there[: min(ahead, wanted)] == first[:wanted]
            assert all(process.returncode is not None for process in first[wanted:])
            workers.arrays["a"][...] = 7
    assert all(process.returncode is not None for process in there)


def test_whoever_is_not_wanted_is_ended() -> None:
    with started_ahead(2, MODULE):
        processes = of_the_crew_ahead()
        assert all(process.poll() is None for process in processes)
    assert all(process.returncode is not None for process in processes)
    assert not crew_module._ahead


def test_work_for_one_process_sends_home_whoever_was_started_ahead() -> None:
    with started_ahead(1, MODULE):
        (process,) = of_the_crew_ahead()
        alone = Workers(1, [Region("a", (3,), "int8")], "builtins:print", {})
        assert process.returncode is not None
        alone.close()


def test_one_process_needs_no_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(crew_module, "Block", none_left)
    Workers(1, [Region("a", (3,), "int8")], "builtins:print", {}).close()


def test_one_that_could_not_be_started_leaves_no_log_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Or the next one's would be taken for that of another."""
    popen = subprocess.Popen

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    with contextlib.ExitStack() as stack:
        monkeypatch.setattr(subprocess, "Popen", fail)
        stack.enter_context(started_ahead(1, MODULE))
        monkeypatch.setattr(subprocess, "Popen", popen)
        monkeypatch.setattr(crew_module, "BOOT", "raise SystemExit('no such thing')")
        workers = stack.enter_context(contextlib.closing(Workers(2, [], "builtins:print", {})))
        with pytest.raises(WorkerError, match="ended with exit code 1: no such thing"):
            workers.rendezvous.await_others()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_while_they_start_ends_them(
    error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    popen, started = subprocess.Popen, []

    def interrupted(*arguments: object, **options: object) -> subprocess.Popen:
        if started:
            raise error
        started.append(popen(*arguments, **options))
        return started[0]

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(error), started_ahead(2, MODULE):
        pass
    assert started[0].returncode is not None
    assert not crew_module._ahead


def test_an_error_ends_them_too() -> None:
    with pytest.raises(ValueError, match="the data"), started_ahead(1, MODULE):
        (process,) = of_the_crew_ahead()
        raise ValueError("the data")
    assert process.returncode is not None


@posix
def test_a_worker_that_is_never_told_anything_leaves_without_a_word() -> None:
    crew = take_crew()
    crew.start(1, MODULE)
    (process,) = crew.processes
    assert process.stdin is not None
    process.stdin.close()  # as when its parent is killed
    assert process.wait(timeout=30) == 0
    assert crew.said_by(0) == []
    crew.close()


def test_none_ahead_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with started_ahead(0, MODULE):
        assert not crew_module._ahead
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with started_ahead(2, MODULE):
        assert of_the_crew_ahead() == []
    assert not crew_module._ahead


def test_there_is_one_crew_ahead_at_most() -> None:
    with started_ahead(1, MODULE):
        before = of_the_crew_ahead()
        with started_ahead(1, MODULE):
            assert of_the_crew_ahead() == before
        assert of_the_crew_ahead() == before


def test_what_was_started_ahead_works_as_well() -> None:
    images = np.random.default_rng(5).integers(0, 256, (64, 1, 28, 28), dtype=np.uint8)
    losses = []
    for ahead in (0, 1):
        with started_ahead(ahead, MODULE):
            minibatches = Minibatches(
                build("mlp").initialize(3),
                images,
                np.arange(64) % 10,
                loss=SoftmaxCrossEntropy(),
                optimizer=SGD(0.9),
                batch_size=64,
                workers=2,
            )
            with minibatches:
                losses.append([minibatches.step(number, 0, 64, 0.1).loss for number in (1, 2, 3)])
    assert losses[0] == losses[1]
    assert losses[0][2] < losses[0][0]
