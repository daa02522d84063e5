"""From which probability on a prediction can be relied on, found on images that no training has seen."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mnistnet.errors import DataError

TARGET = 0.995
"""The share of the accepted predictions that has to be right."""
FALLBACK = 0.9
"""The threshold of a network that none was calibrated for.

Of the shipped network's predictions on MNIST's test set 97.8 % reach it, and 99.86 % of those are right.
"""


def calibrate(
    probabilities: npt.NDArray[np.floating], labels: npt.NDArray[np.integer], target: float = TARGET
) -> float:
    """The smallest threshold at which the accepted validation predictions are right often enough.

    A prediction is accepted when the probability of its class reaches the threshold. Candidates are the
    probabilities that occur. There is no temperature: the probabilities stay what the network gives.

    Args:
        probabilities: (N, K) of the validation images.
        labels: (N,), what they really are.
        target: the share that has to be right, above 0 and at most 1.

    Returns:
        The threshold, above 0 and at most 1; 1 where even the surest predictions are wrong too often.

    Raises:
        DataError: there are no images, or the two differ in number.
    """
    if len(labels) == 0 or len(probabilities) != len(labels):
        raise DataError(f"calibration: {len(probabilities)} predictions and {len(labels)} labels")
    confidence = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    surest_first = np.argsort(-confidence, kind="stable")
    confidence, right = confidence[surest_first], right[surest_first]
    share = np.cumsum(right) / np.arange(1, len(right) + 1)
    # equal probabilities are accepted together or not at all
    last_of_equals = np.append(confidence[1:] < confidence[:-1], True)
    good = np.flatnonzero(last_of_equals & (share >= target))
    return float(confidence[good[-1]]) if good.size else 1.0
