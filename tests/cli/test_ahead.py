"""What is made ready while the data are read."""

import pytest

from mnistnet.cli.ahead import _processes
from mnistnet.training.settings import Settings


@pytest.mark.parametrize(
    ("settings", "workers", "expected"),
    [
        (Settings(), 2, 1),
        (Settings(), 1, 0),
        (Settings(batch_size=128), 4, 3),
        (Settings(batch_size=32), 4, 0),  # no more than have something to do
        (Settings(augment="shift", model="mlp"), 2, 1),
        (Settings(nb_epochs=0), 2, 0),  # nothing is trained
        (Settings(nb_epochs=0, budget=5.0), 2, 1),
        (Settings(model="net.json"), 2, 0),  # not known before it is read
        (Settings(start_from="a.onnx"), 2, 0),
    ],
)
def test_as_many_processes_as_mnist_would_want(settings: Settings, workers: int, expected: int) -> None:
    assert _processes(settings, workers) == expected
