"""How good a classifier is on a dataset."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mnistnet.data.dataset import Dataset
from mnistnet.engine.workers import usable_cores
from mnistnet.errors import DivergedError
from mnistnet.models import Classifier


@dataclass(frozen=True)
class Evaluation:
    """What was found."""

    images: int
    correct: int
    loss: float
    """Mean cross-entropy, in nats."""

    @property
    def accuracy(self) -> float:
        """Share that is right, in [0, 1]."""
        return self.correct / self.images


def evaluate(classifier: Classifier, dataset: Dataset, *, threads: int | None = None) -> Evaluation:
    """Predict every image of ``dataset`` once; on all cores unless ``threads`` says otherwise.

    Raises:
        DivergedError: the network's outputs are not finite.
    """
    probabilities = classifier.probabilities(dataset.images, threads=threads or usable_cores())
    correct = int((probabilities.argmax(axis=1) == dataset.labels).sum())
    of_label = probabilities[np.arange(len(dataset)), dataset.labels].astype(np.float64)
    # a probability that float32 rounds to zero counts as the smallest that it can hold
    loss = -np.log(np.maximum(of_label, np.finfo(np.float32).smallest_normal)).mean()
    if not np.isfinite(loss):
        raise DivergedError(
            "the network's outputs are not finite: its training diverged; try a lower learning rate"
        )
    return Evaluation(len(dataset), correct, float(loss))
