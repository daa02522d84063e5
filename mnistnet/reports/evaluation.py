"""How good a classifier is on a dataset: what it answered, and every figure that follows from that."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from mnistnet.data.dataset import Dataset
from mnistnet.engine.arrays import FloatArray
from mnistnet.engine.workers import usable_cores
from mnistnet.errors import DataError, DivergedError
from mnistnet.formats.foreign import Predictor

CONFIDENCE_LEVEL = 0.95
"""Of the interval around the accuracy."""
CALIBRATION_BINS = 15
"""Bins of equal width in which confidence is compared with accuracy, as in Guo et al. 2017."""


@dataclass(frozen=True)
class ClassScore:
    """How one class fares."""

    name: str
    images: int
    """Images of this class."""
    predicted: int
    """Images that were taken for this class."""
    correct: int
    """Images that are both."""

    @property
    def precision(self) -> float:
        """Share of what was taken for this class that is, in [0, 1]; 0 where nothing was."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of this class that was recognized, in [0, 1]; 0 where there is no image of it."""
        return self.correct / self.images if self.images else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall, in [0, 1]; 0 for a class that does not occur at all."""
        return 2 * self.correct / max(self.images + self.predicted, 1)


@dataclass(frozen=True)
class CalibrationBin:
    """The images whose confidence, the largest probability, is above ``low`` and at most ``high``."""

    low: float
    high: float
    images: int
    confidence: float
    """Their mean confidence; 0 where there are none."""
    accuracy: float
    """Share of them that is right; 0 where there are none."""


@dataclass(frozen=True)
class Mistake:
    """An image that was taken for another class."""

    index: int
    """In the dataset, from 0."""
    label: str
    prediction: str
    confidence: float
    """Probability of the prediction."""
    label_probability: float


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Answers on labelled images; figures are worked out when they are asked for."""

    class_names: tuple[str, ...]
    labels: npt.NDArray[np.intp]
    """(N,), N >= 1."""
    probabilities: FloatArray
    """(N, K)."""

    @property
    def images(self) -> int:
        """N."""
        return len(self.labels)

    @cached_property
    def predictions(self) -> npt.NDArray[np.intp]:
        """(N,): the most probable class of each image, the first of equals."""
        best: npt.NDArray[np.intp] = self.probabilities.argmax(axis=1)
        return best

    @cached_property
    def correct(self) -> int:
        """How many images are right."""
        return int((self.predictions == self.labels).sum())

    @property
    def accuracy(self) -> float:
        """Share that is right, in [0, 1]."""
        return self.correct / self.images

    @property
    def accuracy_interval(self) -> tuple[float, float]:
        """`share_interval` of the accuracy."""
        return share_interval(self.accuracy, self.images)

    @cached_property
    def loss(self) -> float:
        """Mean cross-entropy of the labels, in nats."""
        # a probability that float32 rounds to zero counts as the smallest that it can hold
        likely = np.maximum(self._of_label.astype(np.float64), np.finfo(np.float32).smallest_normal)
        return float(-np.log(likely).mean())

    @cached_property
    def confusion(self) -> npt.NDArray[np.intp]:
        """(K, K) counts: rows are the labels, columns the predictions."""
        k = len(self.class_names)
        return np.bincount(self.labels * k + self.predictions, minlength=k * k).reshape(k, k)

    @property
    def classes(self) -> tuple[ClassScore, ...]:
        """How each class fares, in the order of their names."""
        counts = zip(
            self.class_names,
            self.confusion.sum(axis=1).tolist(),
            self.confusion.sum(axis=0).tolist(),
            self.confusion.diagonal().tolist(),
            strict=True,
        )
        return tuple(ClassScore(*count) for count in counts)

    @cached_property
    def calibration(self) -> tuple[CalibrationBin, ...]:
        """Confidence against accuracy in `CALIBRATION_BINS` bins of equal width over (0, 1]."""
        confidence = self.probabilities.max(axis=1).astype(np.float64)
        right = self.predictions == self.labels
        place = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.intp) - 1, 0, CALIBRATION_BINS - 1)
        counts, confidences, rights = (
            np.bincount(place, weights, CALIBRATION_BINS) for weights in (None, confidence, right)
        )
        some = np.maximum(counts, 1)
        return tuple(
            CalibrationBin(i / CALIBRATION_BINS, (i + 1) / CALIBRATION_BINS, int(n), float(c), float(a))
            for i, (n, c, a) in enumerate(zip(counts, confidences / some, rights / some, strict=True))
        )

    @property
    def calibration_error(self) -> float:
        """Expected calibration error: the bins' mean |confidence - accuracy|, weighted by images, in [0, 1].

        Naeini et al. 2015.
        """
        gaps = (bin_.images * abs(bin_.confidence - bin_.accuracy) for bin_ in self.calibration)
        return sum(gaps) / self.images

    def worst_mistakes(self, count: int) -> tuple[Mistake, ...]:
        """At most ``count`` wrong answers, those first that left their label the least probability."""
        wrong = np.flatnonzero(self.predictions != self.labels)
        order = wrong[np.argsort(self._of_label[wrong], kind="stable")][:count]
        return tuple(
            Mistake(
                index,
                self.class_names[self.labels[index]],
                self.class_names[self.predictions[index]],
                float(self.probabilities[index, self.predictions[index]]),
                float(self._of_label[index]),
            )
            for index in order.tolist()
        )

    @cached_property
    def _of_label(self) -> FloatArray:
        return self.probabilities[np.arange(self.images), self.labels]


def share_interval(share: float, count: int) -> tuple[float, float]:
    """Where a share may lie that was found to be ``share`` of ``count``: Wilson's score interval (1927).

    Unlike the normal approximation it holds for few trials and for shares near 0 and 1.

    Returns:
        The ends of the interval at `CONFIDENCE_LEVEL`, in [0, 1].
    """
    z = NormalDist().inv_cdf(0.5 + CONFIDENCE_LEVEL / 2)
    centre = share + z * z / (2 * count)
    half = z * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    scale = 1 + z * z / count
    return max((centre - half) / scale, 0.0), min((centre + half) / scale, 1.0)


def evaluate(classifier: Predictor, dataset: Dataset, *, threads: int | None = None) -> Evaluation:
    """Predict every image of ``dataset`` once; on all cores unless ``threads`` says otherwise.

    Raises:
        DataError: the data have another number of classes.
        DivergedError: the network's outputs are not finite.
    """
    if len(dataset.class_names) != len(classifier.class_names):
        raise DataError(
            f"expected the model's {len(classifier.class_names)} classes, found {len(dataset.class_names)}"
        )
    probabilities = classifier.probabilities(dataset.images, threads=threads or usable_cores())
    if not np.isfinite(probabilities).all():
        raise DivergedError(
            "the network's outputs are not finite: its training diverged; try a lower learning rate"
        )
    return Evaluation(classifier.class_names, dataset.labels, probabilities)
