"""The Trainer: a network, a configuration, data; it yields results, and prints and writes nothing."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from time import perf_counter

import numpy as np

from mnistnet.data.confidence import calibrate
from mnistnet.data.dataset import Dataset
from mnistnet.data.points import Examples
from mnistnet.engine.arrays import FloatArray, IntArray, aligned_copy
from mnistnet.engine.division import choose_workers
from mnistnet.engine.losses import LOSSES, Loss, loss_for
from mnistnet.engine.minibatch import AVERAGE, Minibatches
from mnistnet.engine.network import Network
from mnistnet.errors import DataError, DivergedError, UsageError
from mnistnet.models import Classifier
from mnistnet.reports import evaluate
from mnistnet.training.config import TrainingConfig
from mnistnet.training.pace import Counted, Leg, Pace, Replayed, Timed

PARAMETERS = "parameters"
BEST = "best"


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
    progress: float
    """Share of the whole training that is done, in [0, 1]."""


@dataclass(frozen=True)
class EpochResult:
    """One epoch, measured."""

    epoch: int
    loss: float
    """Mean training loss, each image's taken when it was trained on."""
    training_accuracy: float
    """In [0, 1], taken likewise."""
    validation_loss: float | None
    """Mean cross-entropy, whatever the training's loss is."""
    validation_accuracy: float | None
    learning_rate: float
    """Of the last step."""
    seconds: float
    """Of training, without validation; since the training was last taken up."""
    is_best: bool = False
    """Whether no epoch before had this validation accuracy, or had it with this small a loss."""
    is_last: bool = False
    """Whether the training ends with it."""


@dataclass(frozen=True)
class Best:
    """The epoch with the best validation."""

    epoch: int
    accuracy: float
    loss: float
    threshold: float
    """The probability from which on a prediction can be relied on (`mnistnet.data.confidence`)."""


@dataclass(frozen=True)
class TrainerState:
    """Where a training is between two steps: all that another Trainer needs to go on with the same bits.

    Nothing random is part of it: orders, dropout and augmentation follow from the seed and the position.
    """

    epoch: int
    """Whole epochs done."""
    step: int
    """Steps done in the epoch that is under way."""
    steps: int
    """Steps done in all."""
    loss: float
    """Sum over the images of the epoch that is under way."""
    correct: int
    images: int
    best: Best | None
    budget: float | None
    """Seconds that the training was given, if it was."""
    legs: tuple[Leg, ...]
    """Its pace."""
    vectors: Mapping[str, FloatArray]
    """(P,) each: ``parameters``, the optimizer's, and where there are such ``average`` and ``best``."""


class Trainer:
    """Trains a classifier's network in place.

    Args:
        classifier: whose network is trained, from the values that it has.
        config: how.
        state: of a training of the same network, to go on with. The configuration may say other things than
            it did then, as long as the optimizer keeps the same vectors.

    Raises:
        UsageError: the state does not fit the network or the configuration.
    """

    def __init__(
        self, classifier: Classifier, config: TrainingConfig, state: TrainerState | None = None
    ) -> None:
        self.classifier = classifier
        self.config = config
        self._averaged = config.average_decay is not None
        self._running = False
        self._model = classifier
        if self._averaged:
            network = classifier.network
            self._model = replace(classifier, network=Network(network.layers, network.input_shape))
        vectors = _first_vectors(classifier.network, config)
        if state is None:
            state = TrainerState(0, 0, 0, 0.0, 0, 0, None, config.budget, (), vectors)
        _check_vectors(state.vectors, vectors)
        if (state.best is None) != (BEST not in state.vectors):
            raise UsageError(f"state: expected a vector {BEST} where there is a best epoch, and nowhere else")
        self.epoch = state.epoch
        """Whole epochs done."""
        self.step = state.step
        """Steps done in the epoch that is under way."""
        self.steps = state.steps
        """Steps done in all."""
        self.best = state.best
        """The epoch with the best validation; its parameters are the network's when the training ends."""
        self._loss, self._correct, self._images = state.loss, state.correct, state.images
        longer = state.budget / config.budget if state.budget and config.budget else 1.0
        self._legs = [Leg(leg.step, leg.progress * longer, leg.rate * longer) for leg in state.legs]
        self._vectors = {name: vector.copy() for name, vector in state.vectors.items()}
        self._use_result()

    @property
    def model(self) -> Classifier:
        """The classifier as it would be used now: where parameters are averaged, with the average.

        Its parameters change with the next step.
        """
        return self._model

    @property
    def best_model(self) -> Classifier | None:
        """A copy of the classifier with the parameters of the best epoch; None without validation."""
        if self.best is None:
            return None
        network = self.classifier.network.copy()
        network.vector[...] = self._vectors[BEST]
        return replace(self.classifier, network=network, confidence_threshold=self.best.threshold)

    @property
    def legs(self) -> tuple[Leg, ...]:
        """The pace of a training with a budget so far."""
        return tuple(leg for leg in self._legs if leg.step <= self.steps)

    @property
    def is_out_of_patience(self) -> bool:
        """Whether the best validation was ``patience`` epochs ago."""
        patience, best = self.config.patience, self.best
        return patience is not None and best is not None and self.epoch - best.epoch >= patience

    def state(self) -> TrainerState:
        """All that is needed to go on from here: a copy."""
        return TrainerState(
            self.epoch,
            self.step,
            self.steps,
            self._loss,
            self._correct,
            self._images,
            self.best,
            self.config.budget,
            self.legs,
            {name: vector.copy() for name, vector in self._vectors.items()},
        )

    def run(
        self, train: Examples, validation: Dataset | None = None
    ) -> Generator[StepResult | EpochResult, None, None]:
        """Train from where the training is; the caller prints, saves and stops (by leaving the loop).

        Between two results `model` and `state` are whole: they may be saved, not changed. When the loop is
        left, however it is left, the network has the parameters of the best epoch if there was validation,
        else their average if there is one, else the last.

        Raises:
            DataError: a batch is larger than the data.
            UsageError: the state is not one of a training with such batches of so many images, or another
                run is under way.
            DivergedError: the loss is not finite any more.
            WorkerError: a worker process has ended.
        """
        if self._running:
            raise UsageError("another run of this Trainer is not over: leave its loop, or close it")
        config, network = self.config, self.classifier.network
        if config.batch_size > len(train):
            raise DataError(f"--batch-size: {config.batch_size} exceeds the {len(train)} training images")
        self._check_position(len(train))
        pace = self._pace(len(train))
        unmeasured = self._images == len(train)  # left between an epoch's last step and its result
        if not unmeasured and (pace.is_over(self.steps) or self.is_out_of_patience):
            return
        network.vector[...] = self._vectors[PARAMETERS]
        self._running = True
        try:
            with Minibatches(
                network,
                train.inputs,
                train.targets,
                loss=loss_of(network, config),
                optimizer=config.optimizer,
                batch_size=config.batch_size,
                pixels=self.classifier.pixels,
                seed=config.seed,
                transform=config.transform,
                clip_norm=config.clip_norm,
                average_decay=config.average_decay,
                workers=choose_workers(
                    network,
                    config.batch_size,
                    config.workers,
                    transformed=config.transform is not None,
                ),
            ) as minibatches:
                self._attach(minibatches)
                yield from self._epochs(minibatches, pace, train, validation)
        finally:
            self._detach()
            self._running = False

    def _check_position(self, count: int) -> None:
        seen = min(self.step * self.config.batch_size, count)
        if self._images != seen or self._correct > seen or self.steps < self.step:
            raise UsageError(
                f"state: {self.step} steps into an epoch expected {seen} images of {count} seen, "
                f"found {self._images}, {self._correct} of them right, after {self.steps} steps in all"
            )

    def _pace(self, count: int) -> Pace:
        config = self.config
        if config.replay is not None:
            self._legs = list(config.replay[0])
            return Replayed(*config.replay)
        if config.budget is not None:
            timed = Timed(config.budget, self._legs, self.steps)
            self._legs = timed.legs
            return timed
        return Counted(config.nb_epochs * -(-count // config.batch_size))

    def _attach(self, minibatches: Minibatches) -> None:
        """Let the vectors be those that the workers share."""
        for name, vector in minibatches.state.items():
            vector[...] = self._vectors[name]
        self._vectors |= {PARAMETERS: self.classifier.network.vector, **minibatches.state}
        if self._averaged:
            self._model.network.place(self._vectors[AVERAGE])

    def _detach(self) -> None:
        self._vectors = {name: vector.copy() for name, vector in self._vectors.items()}
        self._use_result()

    def _use_result(self) -> None:
        """Give the networks the parameters that a training which ends here leaves them."""
        now = self._vectors[AVERAGE if self._averaged else PARAMETERS]
        result = self._vectors.get(BEST, now)
        self.classifier.network.vector[...] = result
        if self._averaged:
            self._model.network.place(aligned_copy(result))

    def _epochs(
        self, minibatches: Minibatches, pace: Pace, train: Examples, validation: Dataset | None
    ) -> Iterator[StepResult | EpochResult]:
        over = False
        while not over:
            epoch = self.epoch + 1
            order = epoch_order(len(train), self.config.seed, epoch)
            minibatches.set_order(order)
            result = yield from self._epoch(minibatches, pace, train, order)
            if not np.isfinite(self._vectors[PARAMETERS]).all():
                # the last step's loss was finite still; what it made of the parameters is not
                size = self.config.batch_size
                raise self._diverged("nan", self.step, train, order[(self.step - 1) * size :][:size])
            if self._images == len(train):  # not cut short by a budget
                self.epoch, self.step = epoch, 0
                self._loss, self._correct, self._images = 0.0, 0, 0
            if validation is not None:
                result = self._validate(result, validation)
            over = pace.is_over(self.steps) or self.is_out_of_patience
            yield replace(result, is_last=over)

    def _epoch(
        self, minibatches: Minibatches, pace: Pace, train: Examples, order: IntArray
    ) -> Generator[StepResult, None, EpochResult]:
        """What is left of an epoch."""
        count, size = len(train), self.config.batch_size
        steps = -(-count // size)
        epoch = self.epoch + 1
        seconds = 0.0
        while self.step < steps and not pace.is_over(self.steps):
            learning_rate = self._learning_rate(pace, self.steps)
            first = self.step * size
            started = perf_counter()
            outcome = minibatches.step(self.steps + 1, first, min(size, count - first), learning_rate)
            seconds += perf_counter() - started
            if not isfinite(outcome.loss):
                loss = str(outcome.loss)
                raise self._diverged(loss, self.step + 1, train, order[first : first + size])
            self.step += 1
            self.steps += 1
            self._loss += outcome.loss
            self._correct += outcome.correct
            self._images += outcome.images
            yield StepResult(
                epoch,
                self.step,
                steps,
                outcome.images,
                self._loss / self._images,
                self._correct / self._images,
                learning_rate,
                pace.progress(self.steps),
            )
        return EpochResult(
            epoch,
            self._loss / self._images,
            self._correct / self._images,
            None,
            None,
            self._learning_rate(pace, self.steps - 1),
            seconds,
        )

    def _learning_rate(self, pace: Pace, step: int) -> float:
        return self.config.learning_rate * self.config.lr_schedule(pace.progress(step))

    def _validate(self, result: EpochResult, validation: Dataset) -> EpochResult:
        found = evaluate(self.model, validation)
        best = self.best
        is_best = best is None or (-found.accuracy, found.loss) < (-best.accuracy, best.loss)
        if is_best:
            threshold = calibrate(found.probabilities, found.labels)
            self.best = Best(result.epoch, found.accuracy, found.loss, threshold)
            self._vectors[BEST] = self.model.network.vector.copy()
        return replace(
            result, validation_loss=found.loss, validation_accuracy=found.accuracy, is_best=is_best
        )

    def _diverged(self, loss: str, step: int, train: Examples, batch: IntArray) -> DivergedError:
        network, config = self.classifier.network, self.config
        broken = _first_broken_layer(network, self.classifier.pixels.apply(train.inputs[batch]))
        where = "" if broken is None else f" and layer {broken} ({network.layers[broken].kind}) is not finite"
        clip = "" if config.clip_norm is not None else " or --clip-norm 1"
        return DivergedError(
            f"training diverged at step {step} of epoch {self.epoch + 1}: "
            f"the loss is {loss}{where}; try a lower --learning-rate than {config.learning_rate:g}{clip}; "
            "checkpoints already written are intact",
            batch=batch.tolist(),
        )


def loss_of(network: Network, config: TrainingConfig) -> Loss:
    """The configuration's loss; where it has none, the one that suits the network's last layer."""
    return config.loss or LOSSES[loss_for(network.layers[-1].kind)]()


def _first_broken_layer(network: Network, images: FloatArray) -> int | None:
    """The first layer with a parameter that is not finite, else the first whose output is not."""
    for name, values in network.parameters().items():
        if not np.isfinite(values).all():
            return int(name.split(".")[0])
    for index in range(len(network.layers) if len(images) else 0):
        if not np.isfinite(network.copy(index + 1).predict(images)).all():
            return index
    return None


def _first_vectors(network: Network, config: TrainingConfig) -> dict[str, FloatArray]:
    """The vectors of a training that has not begun."""
    vectors = {PARAMETERS: network.vector}
    if config.average_decay is not None:
        vectors[AVERAGE] = network.vector
    return vectors | {name: np.zeros_like(network.vector) for name in config.optimizer.state_names}


def _check_vectors(vectors: Mapping[str, FloatArray], wanted: Mapping[str, FloatArray]) -> None:
    if vectors.keys() - {BEST} != wanted.keys():
        names, found = (", ".join(sorted(some)) for some in (wanted, vectors))
        raise UsageError(f"state: expected the vectors {names}, found {found}")
    for name, vector in vectors.items():
        if vector.shape != wanted[PARAMETERS].shape:
            raise UsageError(f"state: {name}: expected {wanted[PARAMETERS].shape}, found {vector.shape}")


def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """The order (N,) in which an epoch sees the images: a permutation drawn from seed and epoch alone.

    Counter-based (Philox: Salmon et al. 2011), so that any epoch's order can be had without those before.
    """
    key = np.array([seed, epoch], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key)).permutation(count)
