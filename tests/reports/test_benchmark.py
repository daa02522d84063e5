"""The benchmark measures what it says, of whom it says; not how fast this machine is."""

import pytest

from mnistnet.errors import UsageError
from mnistnet.models import MODELS
from mnistnet.reports import benchmark
from mnistnet.reports.benchmark import BenchmarkSettings, left_out, measure

BRIEFLY = BenchmarkSettings(cores=1, rounds=1, seconds=0.0)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "PAUSE", 0.0)


@pytest.mark.parametrize("model", [name for name in MODELS if name != "wide"])
def test_every_contestant_that_is_there_is_measured(model: str) -> None:
    found = {speed.contestant: speed for speed in measure(model, BRIEFLY)}
    assert list(found) == [name for name in benchmark.CONTESTANTS if name not in left_out()]
    for name, speed in found.items():
        assert speed.network == model
        assert (speed.training is None) == (name == "onnxruntime")
        assert all(
            value > 0 for value in (speed.training, speed.prediction, speed.latency) if value is not None
        )


def test_an_unknown_network_is_refused() -> None:
    with pytest.raises(UsageError, match="expected one of"):
        list(measure("lenett", BRIEFLY))


def test_who_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"mnistnet": benchmark.CONTESTANTS["mnistnet"], "Other": ("no_such_package", benchmark._torch)}
    monkeypatch.setattr(benchmark, "CONTESTANTS", absent)
    assert left_out() == ["Other"]
    assert [speed.contestant for speed in measure("mlp", BRIEFLY)] == ["mnistnet"]
