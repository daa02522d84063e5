"""The calibrated threshold, by hand and by trying every candidate."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistnet.data.confidence import calibrate
from mnistnet.errors import DataError


def two_classes(confidence: list[float], right: list[bool]) -> tuple[np.ndarray, np.ndarray]:
    """Predictions of class 1 with these probabilities, and labels that make them right or wrong."""
    probabilities = np.array([[1 - p, p] for p in confidence])
    return probabilities, np.array([int(each) for each in right])


def test_by_hand():
    arrays = two_classes([0.99, 0.9, 0.8, 0.7, 0.6], [True, True, False, True, True])
    assert calibrate(*arrays, target=0.75) == 0.6  # 4 of 5
    assert calibrate(*arrays, target=0.9) == 0.9  # 2 of 2; 0.8 makes it 2 of 3
    assert calibrate(*arrays, target=1.0) == 0.9


def test_the_surest_is_wrong():
    assert calibrate(*two_classes([0.99, 0.9], [False, False])) == 1.0


def test_equals_are_accepted_together():
    assert calibrate(*two_classes([0.9, 0.8, 0.8], [True, True, False]), target=0.9) == 0.9


def test_one_wrong_among_the_surest_is_made_up_for_by_many_right():
    arrays = two_classes([0.99] + [0.9] * 300, [False] + [True] * 300)
    assert calibrate(*arrays) == 0.9


@given(
    st.lists(st.tuples(st.integers(51, 100), st.booleans()), min_size=1, max_size=40),
    st.sampled_from([0.5, 0.8, 0.995, 1.0]),
)
def test_against_trying_every_candidate(pairs, target):
    confidence, right = [p / 100 for p, _ in pairs], [r for _, r in pairs]
    good = [
        candidate
        for candidate in confidence
        if np.mean([r for p, r in zip(confidence, right, strict=True) if p >= candidate]) >= target
    ]
    assert calibrate(*two_classes(confidence, right), target=target) == min(good, default=1.0)


def test_nothing_to_calibrate_on():
    with pytest.raises(DataError, match="calibration: 0 predictions and 0 labels"):
        calibrate(np.zeros((0, 2)), np.zeros(0, int))
    with pytest.raises(DataError, match="calibration: 1 predictions and 2 labels"):
        calibrate(np.zeros((1, 2)), np.zeros(2, int))
