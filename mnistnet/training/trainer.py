"""The Trainer: a network, a configuration, data; it yields results, and prints and writes nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from math import isfinite
from time import perf_counter

import numpy as np

from mnistnet.data.dataset import Dataset
from mnistnet.engine.minibatch import Minibatches, choose_workers
from mnistnet.engine.optimizers import SGD, Optimizer
from mnistnet.engine.schedules import SCHEDULES
from mnistnet.errors import DataError, DivergedError, UsageError
from mnistnet.models import Classifier
from mnistnet.reports.evaluation import evaluate

SEED_LIMIT = 2**63
LARGEST_FLOAT32 = 3.4028234e38


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. Every run with the same configuration and data gives the same bits.

    Raises:
        UsageError: a value is out of range; the message names its flag.
    """

    learning_rate: float = 0.05
    batch_size: int = 64
    nb_epochs: int = 5
    optimizer: Optimizer = field(default_factory=lambda: SGD(momentum=0.9, weight_decay=5e-4))
    lr_schedule: str = "cosine"
    seed: int = 0
    loss: str = "cross_entropy"
    workers: int | None = None
    """Processes to use; None means as many as help. The result does not depend on it."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate <= LARGEST_FLOAT32:
            raise UsageError(f"--learning-rate: must be finite and > 0, found {self.learning_rate}")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size: must be >= 1, found {self.batch_size}")
        if self.nb_epochs < 0:
            raise UsageError(f"--nb-epochs: must be >= 0, found {self.nb_epochs}")
        if not 0 <= self.seed < SEED_LIMIT:
            raise UsageError(f"--seed: must be >= 0 and < 2**63, found {self.seed}")
        if self.lr_schedule not in SCHEDULES:
            raise UsageError(f"--lr-schedule: expected {' or '.join(SCHEDULES)}, found {self.lr_schedule!r}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers: must be >= 1, found {self.workers}")


@dataclass(frozen=True)
class StepResult:
    """One step of an epoch."""

    epoch: int
    """From 1."""
    step: int
    """From 1 within the epoch."""
    steps: int
    """Steps in an epoch."""
    images: int
    """Images trained on in this step."""
    loss: float
    """Mean over the epoch's images so far."""
    accuracy: float
    """Share of the epoch's images so far that were right when they were trained on, in [0, 1]."""
    learning_rate: float


@dataclass(frozen=True)
class EpochResult:
    """One epoch, measured."""

    epoch: int
    loss: float
    """Mean training loss, each image's taken when it was trained on."""
    training_accuracy: float
    """In [0, 1], taken likewise."""
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    """Of the last step."""
    seconds: float
    """Of training, without validation."""


class Trainer:
    """Trains a classifier's network in place.

    Args:
        classifier: whose network is trained, from the values that it has.
        config: how.
    """

    def __init__(self, classifier: Classifier, config: TrainingConfig) -> None:
        self.classifier = classifier
        self.config = config
        self.epoch = 0
        """Whole epochs done."""
        self.step = 0
        """Steps done in the epoch that is under way."""

    def run(self, train: Dataset, validation: Dataset | None = None) -> Iterator[StepResult | EpochResult]:
        """Train; the caller prints, saves and stops (by leaving the loop).

        Between two results the network's parameters are whole: they may be saved, not changed.

        Raises:
            DataError: a batch is larger than the data.
            DivergedError: the loss is not finite any more.
            WorkerError: a worker process has ended.
        """
        config, network = self.config, self.classifier.network
        if config.batch_size > len(train):
            raise DataError(f"--batch-size: {config.batch_size} exceeds the {len(train)} training images")
        if config.nb_epochs == 0:
            return
        workers = choose_workers(network, config.batch_size, config.workers)
        with Minibatches(
            network,
            train.images,
            train.labels,
            loss=config.loss,
            optimizer=config.optimizer,
            batch_size=config.batch_size,
            pixels=self.classifier.pixels,
            workers=workers,
        ) as minibatches:
            for epoch in range(1, config.nb_epochs + 1):
                minibatches.set_order(epoch_order(len(train), config.seed, epoch))
                result = yield from self._epoch(minibatches, epoch, len(train))
                if not np.isfinite(network.vector).all():
                    # the last step's loss was finite still; what it made of the parameters is not
                    raise DivergedError(self._explain(result.loss, epoch, self.step))
                self.epoch, self.step = epoch, 0
                if validation is not None:
                    found = evaluate(self.classifier, validation)
                    result = replace(result, validation_loss=found.loss, validation_accuracy=found.accuracy)
                yield result

    def _epoch(
        self, minibatches: Minibatches, epoch: int, count: int
    ) -> Generator[StepResult, None, EpochResult]:
        config = self.config
        schedule = SCHEDULES[config.lr_schedule]()
        size = config.batch_size
        steps = -(-count // size)
        total_steps = steps * config.nb_epochs
        loss = 0.0
        correct = done = 0
        learning_rate = config.learning_rate
        seconds = 0.0
        for step in range(steps):
            started = perf_counter()
            learning_rate = config.learning_rate * schedule(((epoch - 1) * steps + step) / total_steps)
            outcome = minibatches.step(
                (epoch - 1) * steps + step + 1, step * size, min(size, count - step * size), learning_rate
            )
            seconds += perf_counter() - started
            if not isfinite(outcome.loss):
                raise DivergedError(self._explain(outcome.loss, epoch, step + 1))
            loss += outcome.loss
            correct += outcome.correct
            done += outcome.images
            self.step = step + 1
            yield StepResult(
                epoch, step + 1, steps, outcome.images, loss / done, correct / done, learning_rate
            )
        return EpochResult(epoch, loss / done, correct / done, None, None, learning_rate, seconds)

    def _explain(self, loss: float, epoch: int, step: int) -> str:
        broken = [n for n, v in self.classifier.network.parameters().items() if not np.isfinite(v).all()]
        where = ""
        if broken:
            index = int(broken[0].split(".")[0])
            where = f" and layer {index} ({self.classifier.network.layers[index].kind}) is not finite"
        return (
            f"training diverged at step {step} of epoch {epoch}: the loss is {loss}{where}; try a lower "
            f"--learning-rate than {self.config.learning_rate:g}; checkpoints already written are intact"
        )


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The order (N,) in which an epoch sees the images: a permutation drawn from seed and epoch alone.

    Counter-based (Philox: Salmon et al. 2011), so that any epoch's order can be had without those before.
    """
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)
