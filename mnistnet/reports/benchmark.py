"""How fast this machine trains and predicts: mnistnet, and beside it what else is installed.

The contestants take turns, with the same weights on the same images; what is said is the median over all
rounds. scripts/benchmark.py measures far more, with every contestant in a process of its own.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from itertools import count, cycle
from typing import Any

import numpy as np

from mnistnet.engine.arrays import AnyArray, IntArray
from mnistnet.engine.division import choose_workers
from mnistnet.engine.losses import LOSSES, loss_for
from mnistnet.engine.minibatch import Minibatches
from mnistnet.engine.optimizers import SGD
from mnistnet.engine.workers import usable_cores
from mnistnet.models import Classifier, build
from mnistnet.reports.timing import flat, in_turn, repeat

LEARNING_RATE, MOMENTUM = 1e-3, 0.9
IMAGES = 2048
PREDICTED = 1000
"""Images that are predicted for one figure."""
PREDICTION_BATCHES = (100, 250, 1000)
"""Of how many images the others may take at once, whichever is fastest for them."""
LATENCY_CALLS = 20
"""One image is so quick that this many in a row are timed."""
PAUSE = 0.1
"""Seconds before each turn, in which threads of the one before fall asleep."""

Turn = Callable[[], list[float]]
"""One contestant's part of a round: seconds for each image."""


@dataclass(frozen=True)
class BenchmarkSettings:
    """How to measure."""

    batch_size: int = 64
    cores: int = field(default_factory=usable_cores)
    rounds: int = 5
    seconds: float = 0.3
    """Of one turn."""


@dataclass(frozen=True)
class Speed:
    """How fast one contestant is with one network; None for what it cannot do."""

    network: str
    contestant: str
    training: float | None
    """Images a second."""
    prediction: float | None
    """Images a second."""
    latency: float | None
    """Seconds for one image alone."""


def measure(model: str, settings: BenchmarkSettings) -> Iterator[Speed]:
    """Measure a named network; mnistnet comes first.

    Raises:
        UsageError: there is no such network.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (IMAGES, 1, 28, 28), np.uint8)
    labels = rng.integers(0, 10, IMAGES)
    classifier = Classifier(build(model).initialize(seed=0), tuple("0123456789"), name=model)
    contestants: dict[str, Mapping[str, Turn]] = {}
    for name, (package, turns_of) in CONTESTANTS.items():
        if package is None or find_spec(package):
            contestants[name] = turns_of(classifier, images, labels, settings)
    medians = {
        task: _medians({name: turns[task] for name, turns in contestants.items() if task in turns}, settings)
        for task in ("training", "prediction", "latency")
    }
    for name in contestants:
        training, prediction, latency = (found.get(name) for found in medians.values())
        yield Speed(model, name, _rate(training), _rate(prediction), latency)


def left_out() -> list[str]:
    """The contestants that are not installed."""
    return [name for name, (package, _) in CONTESTANTS.items() if package and not find_spec(package)]


def _medians(turns: Mapping[str, Turn], settings: BenchmarkSettings) -> dict[str, float]:
    """Seconds for each image, the median over all rounds."""
    rested = {name: partial(_rest_then, turn) for name, turn in turns.items()}
    return {name: statistics.median(flat(times)) for name, times in in_turn(rested, settings.rounds).items()}


def _rest_then(turn: Turn) -> list[float]:
    time.sleep(PAUSE)
    return turn()


def _rate(seconds: float | None) -> float | None:
    return None if seconds is None else 1 / seconds


def _per_image(action: Callable[[], object], images: int, settings: BenchmarkSettings) -> list[float]:
    return [seconds / images for seconds in repeat(action, settings.seconds)]


def _fastest(predict: Callable[[Any], object], images: Any) -> Callable[[], object]:
    """The prediction of all images in batches of the size that suits the contestant best."""

    def in_batches(size: int) -> None:
        for first in range(0, PREDICTED, size):
            predict(images[first : first + size])

    choices = [partial(in_batches, size) for size in PREDICTION_BATCHES]
    return min(choices, key=lambda action: min(repeat(action, 0)))


def _several(action: Callable[[], object]) -> None:
    for _ in range(LATENCY_CALLS):
        action()


def _mnistnet(
    classifier: Classifier, images: AnyArray, labels: IntArray, settings: BenchmarkSettings
) -> dict[str, Turn]:
    """Training with the processes it would take by itself; prediction from bytes."""
    network, size = classifier.network, settings.batch_size
    workers = min(choose_workers(network, size), settings.cores)

    def training() -> list[float]:
        loss = LOSSES[loss_for(network.layers[-1].kind)]()
        positions = cycle(range(0, len(images) - size + 1, size))
        # anew in every turn: idle workers look for work now and then, which would cost the others
        with Minibatches(
            network, images, labels, loss=loss, optimizer=SGD(MOMENTUM), batch_size=size, workers=workers
        ) as minibatches:
            minibatches.set_order(np.arange(len(images)))
            steps = count(1)
            return _per_image(
                lambda: minibatches.step(next(steps), next(positions), size, LEARNING_RATE), size, settings
            )

    many, one = images[:PREDICTED], images[:1]
    predict = partial(network.predict, many, threads=settings.cores)
    alone = partial(_several, partial(network.predict, one))
    return {
        "training": training,
        "prediction": lambda: _per_image(predict, len(many), settings),
        "latency": lambda: _per_image(alone, LATENCY_CALLS, settings),
    }


def _torch(
    classifier: Classifier, images: AnyArray, labels: IntArray, settings: BenchmarkSettings
) -> dict[str, Turn]:
    """PyTorch as one gets it without thinking about it; floats are ready before it is timed."""
    import torch
    from torch.nn import functional

    from mnistnet.reports.torch_twin import twin

    torch.set_num_threads(settings.cores)
    size, last = settings.batch_size, classifier.network.layers[-1].kind
    model = twin(classifier.network)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)
    ready = torch.from_numpy(classifier.pixels.apply(images))
    targets = torch.from_numpy(labels)
    if last == "sigmoid":
        targets = functional.one_hot(targets, classifier.network.output_shape[0]).float()
    loss_of = functional.binary_cross_entropy_with_logits if last == "sigmoid" else functional.cross_entropy
    activation = torch.sigmoid if last == "sigmoid" else partial(torch.softmax, dim=1)
    batches = cycle(zip(ready.split(size)[:-1], targets.split(size)[:-1], strict=True))

    def step() -> None:
        x, y = next(batches)
        optimizer.zero_grad()
        loss_of(model(x), y).backward()
        optimizer.step()

    def predict(x: Any) -> object:
        with torch.inference_mode():
            return activation(model(x))

    def training() -> list[float]:
        model.train()
        return _per_image(step, size, settings)

    def predicting(action: Callable[[], object], images: int) -> list[float]:
        model.eval()
        return _per_image(action, images, settings)

    many = _fastest(predict, ready)
    one = partial(_several, partial(predict, ready[:1]))
    return {
        "training": training,
        "prediction": lambda: predicting(many, PREDICTED),
        "latency": lambda: predicting(one, LATENCY_CALLS),
    }


def _onnxruntime(
    classifier: Classifier,
    images: AnyArray,
    labels: IntArray,  # noqa: ARG001
    settings: BenchmarkSettings,
) -> dict[str, Turn]:
    """Onnxruntime on what mnistnet exports; floats are ready before it is timed. It does not train."""
    import onnxruntime

    from mnistnet.formats.onnx_export import INPUT, to_onnx

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = settings.cores
    session = onnxruntime.InferenceSession(
        to_onnx(classifier).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    ready = images[:PREDICTED].astype(np.float32) / np.float32(255)

    def predict(x: AnyArray) -> object:
        return session.run(None, {INPUT: x})

    many = _fastest(predict, ready)
    one = partial(_several, partial(predict, ready[:1]))
    return {
        "prediction": lambda: _per_image(many, PREDICTED, settings),
        "latency": lambda: _per_image(one, LATENCY_CALLS, settings),
    }


CONTESTANTS: dict[str, tuple[str | None, Callable[..., Mapping[str, Turn]]]] = {
    "mnistnet": (None, _mnistnet),
    "PyTorch": ("torch", _torch),
    "onnxruntime": ("onnxruntime", _onnxruntime),
}
"""By name: the package that it needs, and what gives its turns."""
