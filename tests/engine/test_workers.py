"""Processes and threads: they meet, they end, they leave nothing behind."""

import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mnistnet.engine import crew as crew_module
from mnistnet.engine import minibatch as minibatch_module
from mnistnet.engine import workers as workers_module
from mnistnet.engine.division import choose_workers
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.minibatch import Minibatches
from mnistnet.engine.optimizers import SGD
from mnistnet.engine.workers import Region, Rendezvous, carve, meanwhile, on_threads, usable_cores
from mnistnet.errors import WorkerError
from mnistnet.models import build

posix = pytest.mark.skipif(sys.platform == "win32", reason="signals and /proc are POSIX")


def some_images(count: int = 96) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (count, 1, 28, 28), dtype=np.uint8)
    return images, rng.integers(0, 10, count)


def start(model: str = "mlp", workers: int = 2, batch_size: int = 64) -> Minibatches:
    images, labels = some_images()
    return Minibatches(
        build(model).initialize(3),
        images,
        labels,
        loss=SoftmaxCrossEntropy(),
        optimizer=SGD(0.9, 1e-4),
        batch_size=batch_size,
        workers=workers,
    )


def processes_of(minibatches: Minibatches) -> list[subprocess.Popen]:
    return minibatches._workers.processes


def is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] not in "ZX"


def test_every_task_runs_on_threads_and_an_error_comes_out() -> None:
    done = []
    on_threads([lambda i=i: done.append(i) for i in range(5)])
    assert sorted(done) == [0, 1, 2, 3, 4]

    def fail() -> None:
        raise ValueError("from a thread")

    with pytest.raises(ValueError, match="from a thread"):
        on_threads([lambda: None, fail])


def test_an_error_is_raised_when_all_tasks_have_ended_the_first_one_before_others() -> None:
    done = []

    def fail(number: int) -> None:
        raise ValueError(f"task {number}")

    with pytest.raises(ValueError, match="task 0"):
        on_threads([lambda: fail(0), lambda: fail(1), lambda: done.append(time.sleep(0.1))])
    assert done == [None]


def test_without_a_thread_to_be_had_tasks_are_done_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none_left)
    assert on_threads([lambda: 1, lambda: 2, lambda: 3]) == [1, 2, 3]
    done = []
    result = meanwhile(lambda: done.append(7) or len(done))
    assert not done
    assert [result(), result()] == [1, 1]  # once


def test_arrays_are_carved_apart_on_cache_lines() -> None:
    regions = [Region("a", (3,), "int8"), Region("b", (2, 2), "float32"), Region("c", (), "float64")]
    buffer = np.zeros(sum(region.nbytes for region in regions), np.uint8)
    arrays = carve(buffer, regions)
    arrays["a"][...] = 1
    arrays["b"][...] = 2
    arrays["c"][...] = 3
    assert arrays["a"].tolist() == [1, 1, 1]
    assert arrays["b"].tolist() == [[2, 2], [2, 2]]
    starts = [array.ctypes.data - buffer.ctypes.data for array in arrays.values()]
    assert starts == [0, 64, 128]


def test_nobody_passes_a_meeting_before_all_have_come() -> None:
    ranks, rounds = 3, 200
    words = np.zeros(ranks * workers_module.CACHE_LINE, np.int64)
    seen = np.zeros(ranks, np.int64)
    late: list[int] = []

    def walk(rank: int) -> None:
        rendezvous = Rendezvous(words, rank, ranks)
        for turn in range(1, rounds + 1):
            seen[rank] = turn
            rendezvous.meet()
            if seen.min() < turn:
                late.append(turn)
            rendezvous.meet()

    threads = [threading.Thread(target=walk, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not any(thread.is_alive() for thread in threads)
    assert late == []
    assert seen.tolist() == [rounds] * ranks


def test_cores_are_at_least_one_and_at_most_what_there_are() -> None:
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.parametrize(
    ("content", "expected"), [("max 100000", 1 << 20), ("150000 100000", 1), ("400000 100000", 4)]
)
def test_a_container_quota_is_respected(content: str, expected: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_text", lambda _self: content)
    assert workers_module._cpu_quota() == expected


def test_where_nobody_says_which_cores_may_be_used_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS and Windows."""
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, expected in ((6, 6), (1, 1), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert usable_cores() == expected


@posix
def test_logical_processors_of_one_core_count_once(monkeypatch: pytest.MonkeyPatch) -> None:
    places = {0: ("0", "0"), 1: ("0", "1"), 2: ("0", "0"), 3: ("1", "0")}  # package and core

    def read(path: Path) -> str:
        package, core = places[int(path.parts[-3].removeprefix("cpu"))]
        return package if path.name == "physical_package_id" else core

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(workers_module, "_cpu_quota", lambda: 100)
    monkeypatch.setattr(Path, "read_text", read)
    assert usable_cores() == 3
    monkeypatch.setattr(workers_module, "_cpu_quota", lambda: 2)
    assert usable_cores() == 2
    monkeypatch.setattr(workers_module, "_cpu_quota", lambda: 0)
    assert usable_cores() == 1


@posix
def test_processors_that_nobody_describes_are_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(_: Path) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 6}, raising=False)
    monkeypatch.setattr(Path, "read_text", missing)
    assert usable_cores() == 3  # no quota can be read either


@pytest.mark.parametrize(
    ("quota", "period", "expected"), [(-1, 100000, 1 << 20), (50000, 100000, 1), (300000, 100000, 3)]
)
def test_an_older_containers_quota_is_respected(
    quota: int, period: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"cpu.cfs_quota_us": str(quota), "cpu.cfs_period_us": str(period)}

    def read(path: Path) -> str:
        if path.name not in files:
            raise FileNotFoundError(path)
        return files[path.name]

    monkeypatch.setattr(Path, "read_text", read)
    assert workers_module._cpu_quota() == expected


def test_small_networks_and_batches_get_one_worker() -> None:
    lenet, mlp = build("lenet"), build("mlp")
    assert choose_workers(lenet, 32) == 1  # one shard
    assert choose_workers(lenet, 128) == min(4, usable_cores())
    assert choose_workers(lenet, 128, 3) == 3
    assert choose_workers(lenet, 64, 8) == 2  # two shards
    assert choose_workers(mlp, 1) == 1


@pytest.mark.parametrize("model", ["mlp", "lenet"])
def test_the_same_bits_with_any_number_of_workers(model: str) -> None:
    vectors, outcomes = [], []
    for workers in (1, 2, 3):
        with start(model, workers, batch_size=80) as minibatches:
            minibatches.set_order(np.random.default_rng(0).permutation(96))
            # 80 = 32 + 32 + 16; then a smaller last batch
            outcomes.append([minibatches.step(1, 0, 80, 0.1), minibatches.step(2, 80, 16, 0.05)])
            velocity = minibatches.state["velocity"].copy()
        vectors.append((minibatches.network.vector.tobytes(), velocity.tobytes()))
    assert vectors[0] == vectors[1] == vectors[2]
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_a_step_is_the_hand_written_one() -> None:
    """One worker, two shards: the optimizer's formula on the mean gradient of the whole batch."""
    images, labels = some_images()
    network = build("mlp").initialize(3)
    loss, gradients = network.loss_and_gradients(images[:64], labels[:64], SoftmaxCrossEntropy())
    flat = np.concatenate([g.ravel() for g in gradients.values()])
    before = network.vector.copy()
    expected = before - np.float32(0.1) * (flat + np.float32(1e-4) * before)
    with start("mlp", 1) as minibatches:
        outcome = minibatches.step(1, 0, 64, 0.1)
    assert outcome.loss / 64 == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(minibatches.network.vector, expected, rtol=1e-4, atol=1e-6)


def test_the_network_owns_its_parameters_again_after_closing() -> None:
    with start() as minibatches:
        minibatches.step(1, 0, 64, 0.1)
        shared = minibatches.network.vector
    network = minibatches.network
    assert network.vector is not shared
    assert network.vector.tobytes() == shared.tobytes()
    assert np.shares_memory(network.layers[1].params["weight"], network.vector)
    assert processes_of(minibatches) == []
    minibatches.close()
    assert minibatches.network is network
    assert network.vector.tobytes() == shared.tobytes()


@posix
def test_a_killed_worker_is_reported_within_a_second() -> None:
    with start() as minibatches:
        minibatches.step(1, 0, 64, 0.1)
        processes_of(minibatches)[0].kill()
        began = time.monotonic()
        with pytest.raises(WorkerError, match=r"worker 1 of 2 was killed by signal 9.*checkpoints .* intact"):
            for _ in range(10_000):
                minibatches.step(1, 0, 64, 0.1)
        assert time.monotonic() - began < 5


@posix
@pytest.mark.parametrize("without", ["memfd_create", "a permission for it"])
def test_shared_memory_is_a_file_without_a_name_where_there_is_no_other(
    without: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: str) -> int:
        raise PermissionError

    with start("mlp", 2) as minibatches:
        expected = minibatches.step(1, 0, 64, 0.1)
    if without == "memfd_create":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    else:
        monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    with start("mlp", 2) as minibatches:
        assert minibatches.step(1, 0, 64, 0.1) == expected


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="needs Linux's /proc")
def test_nothing_stays_open_and_closing_again_does_no_harm() -> None:
    with start() as minibatches:  # what is opened once and for all is open now
        minibatches.step(1, 0, 64, 0.1)
    gc.collect()
    before = open_files()
    workers = here("sleep_on", [Region("a", (3,), "int8")], {})
    assert open_files() > before
    (process,) = workers.processes
    array = workers.arrays["a"]
    workers.close()
    assert process.returncode in (0, -signal.SIGKILL)  # at once, or not soon enough
    workers.close()
    array[...] = 7  # still there
    assert array.tolist() == [7, 7, 7]
    del workers, array  # the memory goes with the last array
    gc.collect()
    assert open_files() == before


@posix
def test_a_worker_that_does_not_leave_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "BOOT", "import time; time.sleep(600)")
    workers = workers_module.Workers(2, [], "test_workers:never", {})
    (process,) = workers.processes
    began = time.monotonic()
    workers.close()
    assert 1 <= time.monotonic() - began < 10
    assert process.returncode == -signal.SIGKILL


@posix
@pytest.mark.parametrize("code", [0, 3])
def test_a_worker_that_ends_is_missed(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "BOOT", f"raise SystemExit({code})")
    workers = workers_module.Workers(3, [], "test_workers:never", {})
    try:
        with pytest.raises(
            WorkerError, match=rf"^worker [12] of 3 ended with exit code {code}; checkpoints already written"
        ):
            workers.rendezvous.await_others()
    finally:
        workers.close()


@posix
def test_a_worker_that_cannot_import_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew_module, "BOOT", "raise SystemExit('no such thing')")
    with pytest.raises(WorkerError, match="ended with exit code 1: no such thing"), start() as minibatches:
        minibatches.step(1, 0, 64, 0.1)


@posix
def test_a_worker_that_ends_before_it_is_told_anything_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    popen = subprocess.Popen

    def end_first(*arguments, **options) -> subprocess.Popen:
        process = popen(*arguments, **options)
        process.wait()
        return process

    monkeypatch.setattr(crew_module, "BOOT", "raise SystemExit('no such thing')")
    monkeypatch.setattr(crew_module.subprocess, "Popen", end_first)
    with pytest.raises(WorkerError, match="ended with exit code 1: no such thing"), start() as minibatches:
        minibatches.step(1, 0, 64, 0.1)


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen]:
    """The worker processes that the test starts."""
    processes: list[subprocess.Popen] = []
    popen = subprocess.Popen

    def remember(*arguments, **options) -> subprocess.Popen:
        processes.append(popen(*arguments, **options))
        return processes[-1]

    monkeypatch.setattr(crew_module.subprocess, "Popen", remember)
    return processes


@posix
def test_a_team_that_cannot_be_set_up_ends_its_workers(
    started: list[subprocess.Popen], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(minibatch_module, "_Rank", fail)
    with pytest.raises(MemoryError):
        start()
    assert len(started) == 1
    assert started[0].returncode is not None


def test_settings_that_are_no_json_end_what_was_started(started: list[subprocess.Popen]) -> None:
    with pytest.raises(TypeError, match="object is no JSON: <object object at"):
        workers_module.Workers(2, [], "test_workers:never", {"x": object()})
    assert len(started) == 1
    assert started[0].returncode is not None


def test_no_shared_memory_is_an_error_with_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left() -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(crew_module, "Block", none_left)
    with pytest.raises(WorkerError, match=r"cannot be started: .*No space left on device; use --workers 1"):
        workers_module.Workers(2, [], "test_workers:never", {})


def test_an_array_is_filled_through_the_file_or_through_memory() -> None:
    with contextlib.closing(
        here("sleep_on", [Region("a", (1000, 30), "int8"), Region("b", (3, 2), "f4")], {})
    ) as w:
        values = np.arange(30_000).astype(np.int8).reshape(1000, 30)
        w.fill("a", values)
        np.testing.assert_array_equal(w.arrays["a"], values)
        w.fill("a", values[::-1])  # not one after the other
        np.testing.assert_array_equal(w.arrays["a"], values[::-1])
        w.fill("b", np.arange(6).reshape(3, 2))  # of another type
        assert w.arrays["b"].tolist() == [[0, 1], [2, 3], [4, 5]]
    alone = workers_module.Workers(1, [Region("a", (1000, 30), "int8")], "test_workers:never", {})
    alone.fill("a", values)
    np.testing.assert_array_equal(alone.arrays["a"], values)


@posix
def test_shared_memory_that_runs_out_while_it_is_filled_is_an_error_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch, started: list[subprocess.Popen]
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workers_module.os, "pwrite", full)
    with pytest.raises(
        WorkerError, match=r"memory cannot be had: .*No space left on device; use --workers 1"
    ):
        start()
    assert started[0].returncode is not None


def fail_at_once(*_: object) -> None:
    raise MemoryError("unable to allocate 5 GiB")


def fail_to_map(*_: object) -> None:
    raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def sleep_on(*_: object) -> None:
    time.sleep(600)


def meet_once(rank: int, ranks: int, spec: dict, arrays: dict, rendezvous: Rendezvous) -> None:
    arrays["said"][...] = [rank, ranks, spec["number"]]
    rendezvous.meet()


def here(function: str, regions: list[Region], spec: dict) -> workers_module.Workers:
    """One worker that runs a function of this module."""
    path = str(Path(__file__).parent)
    sys.path.insert(0, path)
    try:
        return workers_module.Workers(2, regions, f"test_workers:{function}", spec)
    finally:
        sys.path.remove(path)


@posix
def test_a_worker_whose_work_is_over_ends_well() -> None:
    workers = here("meet_once", [Region("said", (3,), "int64")], {"number": 5})
    (process,) = workers.processes
    workers.rendezvous.meet()
    assert workers.arrays["said"].tolist() == [1, 2, 5]
    assert process.wait(timeout=30) == 0
    workers.close()


@posix
@pytest.mark.parametrize(
    ("function", "said"),
    [("fail_at_once", "MemoryError: unable to allocate 5 GiB"), ("fail_to_map", "Cannot allocate memory")],
)
def test_a_worker_without_memory_says_what_to_do(function: str, said: str) -> None:
    workers = here(function, [], {})
    try:
        with pytest.raises(WorkerError, match=f"{said}; lower --batch-size, or use --workers 1; checkpoints"):
            workers.rendezvous.await_others()
    finally:
        workers.close()


def test_an_interpreter_that_cannot_be_started_is_an_error_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "executable", str(Path("no") / "such" / "python"))
    with pytest.raises(WorkerError, match=r"cannot be started: .*use --workers 1"):
        start()


PARENT = """
import sys, time
import numpy as np
sys.path[:] = {path!r}
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.minibatch import Minibatches
from mnistnet.engine.optimizers import SGD
from mnistnet.models import build
images = np.zeros((64, 1, 28, 28), np.uint8)
m = Minibatches(build("mlp").initialize(0), images, np.zeros(64, np.int64), loss=SoftmaxCrossEntropy(),
                optimizer=SGD(0.9), batch_size=64, workers=2)
m.step(1, 0, 64, 0.1)
print(m._workers.processes[0].pid, flush=True)
while True:
    m.step(1, 0, 64, 0.1)
"""


@posix
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(number: int) -> None:
    """A script without a main guard, killed in the middle of its steps."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT.format(path=sys.path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        # not measured: what coverage does at SIGTERM may wait for a lock that the interrupted code holds
        env={name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")},
    )
    assert parent.stdout is not None
    with parent:
        pid = int(parent.stdout.readline())
        assert is_running(pid)
        parent.send_signal(number)
        parent.wait()
        deadline = time.monotonic() + 2
        while is_running(pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        assert not is_running(pid)


def test_workers_start_while_other_threads_run() -> None:
    """A notebook's kernel has threads: forking would not be safe, a fresh interpreter is."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        with start() as minibatches:
            assert minibatches.step(1, 0, 64, 0.1).images == 64
    finally:
        stop.set()
        thread.join()
