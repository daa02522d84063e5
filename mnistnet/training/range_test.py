"""A learning-rate range test: train a little with ever larger steps, and see where the loss falls fastest."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isfinite

import numpy as np

from mnistnet.data.points import Examples
from mnistnet.engine.division import choose_workers
from mnistnet.engine.minibatch import Minibatches
from mnistnet.errors import DivergedError
from mnistnet.models import Classifier
from mnistnet.training.config import TrainingConfig
from mnistnet.training.trainer import epoch_order, loss_of

LOWEST, HIGHEST = 1e-5, 10.0
STEPS = 120
SMOOTHING = 0.9
"""Share that the moving average of the losses keeps of itself at every step."""
CAUTION = 0.25
"""Smoothing shows the fall when the rate has already grown on, and a whole training is longer than a test."""
GIVE_UP = 4.0
"""The test ends when the loss is this many times the lowest."""


@dataclass(frozen=True)
class RangeTest:
    """What was tried and what follows."""

    curve: tuple[tuple[float, float], ...]
    """Learning rate and smoothed loss of each step."""
    chosen: float
    """`CAUTION` times the rate at which the smoothed loss falls fastest by the rate's logarithm."""


def range_test(classifier: Classifier, config: TrainingConfig, train: Examples) -> RangeTest:
    """Take `STEPS` steps with learning rates from `LOWEST` to `HIGHEST` (Smith 2017, sec. 3.3).

    A copy of the network is trained; the classifier stays as it is. The batches are those of the first epoch.

    Args:
        classifier: with its first parameters.
        config: of the training to come, whose learning rate is not looked at.
        train: its images.

    Raises:
        DivergedError: the loss is not finite from the beginning.
    """
    network = classifier.network.copy()
    size = min(config.batch_size, len(train))
    batches = len(train) // size
    curve: list[tuple[float, float]] = []
    average, lowest = 0.0, inf
    with Minibatches(
        network,
        train.inputs,
        train.targets,
        loss=loss_of(network, config),
        optimizer=config.optimizer,
        batch_size=size,
        pixels=classifier.pixels,
        seed=config.seed,
        transform=config.transform,
        clip_norm=config.clip_norm,
        workers=choose_workers(network, size, config.workers, transformed=config.transform is not None),
    ) as minibatches:
        minibatches.set_order(epoch_order(len(train), config.seed, 1))
        for step in range(STEPS):
            rate = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
            loss = minibatches.step(step + 1, step % batches * size, size, rate).loss / size
            if not isfinite(loss):
                break
            average = SMOOTHING * average + (1 - SMOOTHING) * loss
            smooth = average / (1 - SMOOTHING ** (step + 1))
            lowest = min(lowest, smooth)
            if smooth > GIVE_UP * lowest:
                break
            curve.append((rate, smooth))
    if not curve:
        raise DivergedError("--learning-rate auto: the loss is not finite even before the first step")
    return RangeTest(tuple(curve), CAUTION * _steepest(curve))


def _steepest(curve: list[tuple[float, float]]) -> float:
    """The rate at which the loss falls fastest, before it is lowest."""
    rates, losses = np.log([rate for rate, _ in curve]), np.array([loss for _, loss in curve])
    end = int(losses.argmin()) + 1
    if end < 3:
        return curve[0][0]
    return float(np.exp(rates[:end][np.gradient(losses[:end], rates[:end]).argmin()]))
