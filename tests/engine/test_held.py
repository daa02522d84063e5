"""Settings of the process: changed by the first, changed back by the last."""

import sys
from collections.abc import Iterator

import numpy as np
import pytest

from mnistnet.engine.arrays import AnyArray
from mnistnet.engine.held import SWITCH_INTERVAL, Held, quick_switching
from mnistnet.engine.network import Network
from mnistnet.engine.plan import Plan
from mnistnet.models import build


def test_the_first_changes_and_the_last_changes_back() -> None:
    done: list[str] = []

    def change() -> object:
        done.append("changed")
        return lambda: done.append("back")

    held = Held(change)  # type: ignore[arg-type]
    with held:
        with held:
            pass
        assert done == ["changed"]
    assert done == ["changed", "back"]
    with held:
        assert done[2:] == ["changed"]


def test_a_change_that_fails_is_tried_again() -> None:
    tries: list[int] = []

    def change() -> object:
        tries.append(1)
        if len(tries) == 1:
            raise OSError("not now")
        return lambda: None

    held = Held(change)  # type: ignore[arg-type]
    with pytest.raises(OSError, match=r"^not now$"), held:
        pass
    with held:
        assert len(tries) == 2


@pytest.fixture
def interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("interval")
@pytest.mark.parametrize(("before", "inside"), [(5e-3, SWITCH_INTERVAL), (2e-5, 2e-5)])
def test_switching_is_quick_but_never_slower_than_it_was(before: float, inside: float) -> None:
    sys.setswitchinterval(before)
    with quick_switching:
        assert sys.getswitchinterval() == pytest.approx(inside)
    assert sys.getswitchinterval() == pytest.approx(before)


def test_an_error_on_one_thread_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    load = Plan.load

    def fail_once(self: Plan, rows: AnyArray, index: slice) -> None:
        begun.append(index.start)
        if len(begun) == 3:
            raise MemoryError
        load(self, rows, index)

    monkeypatch.setattr(Plan, "load", fail_once)
    network, images = build("mlp").initialize(0), np.zeros((20_000, 1, 28, 28), np.uint8)
    with pytest.raises(MemoryError):
        network.predict(images, threads=2)
    assert len(begun) < 20  # of 78


def test_threads_that_predict_switch_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []
    shards = Network._predict_shards

    def look(self: Network, *arguments: object) -> None:
        seen.append(sys.getswitchinterval())
        shards(self, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Network, "_predict_shards", look)
    network, images = build("sigmoid").initialize(0), np.zeros((4096, 1, 28, 28), np.uint8)
    before = sys.getswitchinterval()
    network.predict(images, threads=2)
    assert seen == [pytest.approx(SWITCH_INTERVAL)] * 2
    seen.clear()
    network.predict(images)
    assert seen == [before]
    assert sys.getswitchinterval() == before
