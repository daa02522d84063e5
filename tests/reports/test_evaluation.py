"""Figures of an evaluation: worked out by hand, and the same as scikit-learn's."""

from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from mnistnet.data.dataset import DIGITS, Dataset
from mnistnet.errors import DataError, DivergedError
from mnistnet.models import Classifier, build
from mnistnet.reports.evaluation import CALIBRATION_BINS, Evaluation, evaluate


def by_hand() -> Evaluation:
    """Six images of three classes: four right, "c" never predicted."""
    rows = [
        [0.8, 0.1, 0.1],
        [0.6, 0.4, 0.0],
        [0.3, 0.7, 0.0],
        [0.1, 0.9, 0.0],
        [0.5, 0.3, 0.2],
        [0.0, 1.0, 0.0],
    ]
    return Evaluation(("a", "b", "c"), np.array([0, 0, 1, 1, 2, 2], np.intp), np.array(rows, np.float32))


@st.composite
def drawn(draw: st.DrawFn) -> Evaluation:
    """Random answers, some classes without an image or a prediction."""
    n, k = draw(st.integers(1, 200)), draw(st.integers(2, 12))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    labels = rng.integers(0, rng.integers(1, k + 1), n)
    # not below 1e-9: scikit-learn cuts off the smallest probabilities elsewhere
    scores = rng.standard_exponential((n, k)) ** draw(st.sampled_from([0.3, 1.0, 4.0])) + 1e-9
    probabilities = (scores / scores.sum(axis=1, keepdims=True)).astype(np.float32)
    return Evaluation(tuple(map(str, range(k))), labels.astype(np.intp), probabilities)


def dataset(count: int) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(rng.integers(0, 256, (count, 1, 28, 28), np.uint8), rng.integers(0, 10, count), DIGITS)


def test_counts_by_hand() -> None:
    found = by_hand()
    assert (found.images, found.correct, found.accuracy) == (6, 4, 4 / 6)
    assert found.confusion.tolist() == [[2, 0, 0], [0, 2, 0], [1, 1, 0]]
    a, b, c = found.classes
    assert (a.name, a.images, a.predicted, a.correct) == ("a", 2, 3, 2)
    assert (a.precision, a.recall, a.f1) == (2 / 3, 1.0, pytest.approx(0.8))
    assert (b.precision, b.recall) == (2 / 3, 1.0)
    assert (c.precision, c.recall, c.f1) == (0.0, 0.0, 0.0)


def test_the_worst_mistakes_come_first() -> None:
    worst, other = by_hand().worst_mistakes(10)
    assert (worst.index, worst.label, worst.prediction, worst.confidence) == (5, "c", "b", 1.0)
    assert worst.label_probability == 0.0
    assert (other.index, other.prediction) == (4, "a")
    assert by_hand().worst_mistakes(1) == (worst,)


def test_a_probability_of_zero_has_a_finite_loss() -> None:
    smallest = -log(float(np.finfo(np.float32).smallest_normal))
    others = -sum(map(log, (0.8, 0.6, 0.7, 0.9, 0.2)))
    assert by_hand().loss == pytest.approx((others + smallest) / 6)


@pytest.mark.parametrize(
    ("correct", "images", "low", "high"),
    # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_the_interval_is_the_published_one(correct: int, images: int, low: float, high: float) -> None:
    probabilities = np.tile(np.array([1.0, 0.0], np.float32), (images, 1))
    labels = (np.arange(images) >= correct).astype(np.intp)
    found = Evaluation(("a", "b"), labels, probabilities).accuracy_interval
    assert found == pytest.approx((low, high), abs=5e-5)


@given(drawn())
def test_the_figures_are_scikit_learns(found: Evaluation) -> None:
    k = len(found.class_names)
    labels, predictions = found.labels, found.predictions
    assert found.accuracy == metrics.accuracy_score(labels, predictions)
    np.testing.assert_array_equal(
        found.confusion, metrics.confusion_matrix(labels, predictions, labels=range(k))
    )
    theirs = metrics.precision_recall_fscore_support(labels, predictions, labels=range(k), zero_division=0)
    ours = [(c.precision, c.recall, c.f1, c.images) for c in found.classes]
    np.testing.assert_allclose(ours, np.transpose(theirs), rtol=1e-12)
    probabilities = found.probabilities.astype(np.float64)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    assert found.loss == pytest.approx(
        metrics.log_loss(labels, probabilities, labels=range(k)), rel=1e-6, abs=1e-6
    )


@given(drawn())
def test_calibration_is_that_of_a_plain_loop(found: Evaluation) -> None:
    bins: list[list[tuple[float, bool]]] = [[] for _ in range(CALIBRATION_BINS)]
    for row, label in zip(found.probabilities.tolist(), found.labels.tolist(), strict=True):
        confidence = max(row)
        inside = (i for i in range(CALIBRATION_BINS) if i < confidence * CALIBRATION_BINS <= i + 1)
        bins[next(inside)].append((confidence, row.index(confidence) == label))
    error = 0.0
    for bin_, members in zip(found.calibration, bins, strict=True):
        assert bin_.images == len(members)
        if members:
            confidence, accuracy = np.mean(members, axis=0)
            assert (bin_.confidence, bin_.accuracy) == (pytest.approx(confidence), pytest.approx(accuracy))
            error += abs(confidence - accuracy) * len(members) / found.images
    assert found.calibration_error == pytest.approx(error, abs=1e-12)


def test_the_engines_answers_are_what_is_evaluated() -> None:
    model = Classifier(build("mlp").initialize(seed=1), DIGITS)
    data = dataset(60)
    found = evaluate(model, data, threads=2)
    np.testing.assert_array_equal(found.probabilities, model.probabilities(data.images))
    assert found.labels is data.labels


def test_an_untrained_networks_loss_is_that_of_guessing() -> None:
    model = Classifier(build("mlp"), DIGITS)
    assert evaluate(model, dataset(40)).loss == pytest.approx(log(10))


def test_data_of_other_classes_are_refused() -> None:
    model = Classifier(build("mlp", classes=3).initialize(seed=1), ("a", "b", "c"))
    with pytest.raises(DataError, match="expected the model's 3 classes, found 10"):
        evaluate(model, dataset(3))


def test_outputs_that_are_not_finite_are_an_error() -> None:
    model = Classifier(build("mlp").initialize(seed=1), DIGITS)
    model.network.vector[-1] = np.nan
    with pytest.raises(DivergedError, match="not finite"):
        evaluate(model, dataset(3))
