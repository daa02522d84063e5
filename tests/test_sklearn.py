"""The scikit-learn estimator: scikit-learn's own checks, and what its users do with it."""

import copy
import pickle
import re
import warnings
from functools import partial
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler
from sklearn.utils.estimator_checks import estimator_checks_generator

from mnistnet.engine.arrays import PixelScale
from mnistnet.engine.layers import Conv2d, Dense, Flatten, ReLU, Softmax
from mnistnet.errors import DivergedError
from mnistnet.sklearn import MnistNetClassifier

DIGITS, LABELS = load_digits(return_X_y=True)  # 8 x 8 pixels, 0 .. 16
NAMES = np.array(["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"])


def _checks() -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return list(estimator_checks_generator(MnistNetClassifier()))


@pytest.mark.parametrize(("estimator", "check"), _checks(), ids=lambda value: getattr(value, "__name__", ""))
def test_scikit_learns_own_checks(estimator: Any, check: Any) -> None:
    """Every one; where it skips itself something that it wants is not installed or not switched on."""
    with np.errstate(all="warn"):  # what NumPy itself does
        check(estimator)


def test_digits_in_a_pipeline() -> None:
    pipeline = make_pipeline(MinMaxScaler(), MnistNetClassifier(random_state=0, nb_epochs=15))
    scores = cross_val_score(pipeline, DIGITS, NAMES[LABELS], cv=3)
    assert scores.min() > 0.9


def test_grid_search_over_its_parameters() -> None:
    grid = {"learning_rate": [1e-5, 0.05], "model": ["mlp"]}
    search = GridSearchCV(MnistNetClassifier(nb_epochs=5, random_state=0), grid, cv=2)
    search.fit(DIGITS[:400] / 16, LABELS[:400])
    assert search.best_params_["learning_rate"] == 0.05


def test_pictures_and_layers_of_ones_own() -> None:
    layers = [Conv2d(4, 3, padding=1, stride=2), ReLU(), Flatten(), Dense(10), Softmax()]
    estimator = MnistNetClassifier(layers, image_shape=(1, 8, 8), nb_epochs=15, random_state=1)
    as_bytes = (DIGITS * 15).astype(np.uint8)
    estimator.fit(as_bytes[:1200], LABELS[:1200])
    assert estimator.score(as_bytes[1200:], LABELS[1200:]) > 0.85
    assert estimator.network_.dtype == np.float32
    classifier = estimator.to_classifier()
    found = classifier.probabilities(as_bytes[1200:].reshape(-1, 1, 8, 8))
    np.testing.assert_array_equal(found, estimator.predict_proba(as_bytes[1200:]))
    assert classifier.class_names == tuple("0123456789")


def test_partial_fit_goes_on() -> None:
    estimator = MnistNetClassifier(random_state=0, learning_rate=0.02)
    scores = []
    for _ in range(8):
        for start in (0, 500):
            part = slice(start, start + 500)
            estimator.partial_fit(DIGITS[part] / 16, NAMES[LABELS[part]], classes=NAMES)
        scores.append(estimator.score(DIGITS[1000:] / 16, NAMES[LABELS[1000:]]))
    assert scores[0] < scores[-1]
    assert scores[-1] > 0.85
    assert len(estimator.loss_curve_) == 16
    assert estimator.predict_proba(DIGITS[:3] / 16).shape == (3, 10)


def test_the_same_random_state_gives_the_same_bits() -> None:
    data = DIGITS[:300] / 16, LABELS[:300]
    first = MnistNetClassifier(random_state=3, nb_epochs=2).fit(*data)
    second = clone(first).fit(*data)
    np.testing.assert_array_equal(first.network_.vector, second.network_.vector)
    other = clone(first).set_params(random_state=4).fit(*data)
    assert (first.network_.vector != other.network_.vector).any()


def test_what_does_not_fit() -> None:
    with pytest.raises(NotFittedError):
        MnistNetClassifier().predict(DIGITS)
    with pytest.raises(ValueError, match="classes: the first call of partial_fit must say them all"):
        MnistNetClassifier().partial_fit(DIGITS, LABELS)
    with pytest.raises(ValueError, match=r"image_shape: \(1, 9, 9\) has 81 numbers, X has 64 features"):
        MnistNetClassifier(image_shape=(1, 9, 9)).fit(DIGITS, LABELS)
    with pytest.raises(ValueError, match=r"model: gives \(3,\), y has 10 classes"):
        MnistNetClassifier([Dense(3), Softmax()]).fit(DIGITS, LABELS)
    with pytest.raises(ValueError, match=r"model: expected layers or one of lenet, .*, found 'nope'"):
        MnistNetClassifier("nope").fit(DIGITS, LABELS)
    with pytest.raises(ValueError, match=r"model: layer 0 .*; networks with convolutions need image_shape"):
        MnistNetClassifier("lenet").fit(DIGITS, LABELS)
    with pytest.raises(ValueError, match="batch_size: must be >= 1, found 0"):
        MnistNetClassifier(batch_size=0).fit(DIGITS, LABELS)
    with pytest.raises(ValueError, match="y: 3 is none of the classes"):
        MnistNetClassifier().partial_fit(DIGITS, LABELS, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="image_shape: only networks that see pictures can be saved"):
        MnistNetClassifier(nb_epochs=1).fit(DIGITS, LABELS).to_classifier()
    with pytest.raises(DivergedError, match=r"the loss is .*: try a lower learning_rate than"):
        MnistNetClassifier(learning_rate=1e30).fit(DIGITS, LABELS)


@pytest.mark.parametrize(
    ("parameter", "value", "message"),
    [
        ("learning_rate", -1, "learning_rate: must be finite and > 0, found -1"),
        ("learning_rate", float("nan"), "learning_rate: must be finite and > 0, found nan"),
        ("nb_epochs", -1, "nb_epochs: must be >= 0, found -1"),
        ("nb_epochs", 1.5, "nb_epochs: must be a whole number, found 1.5"),
        ("batch_size", None, "batch_size: must be a whole number, found None"),
        ("workers", -1, "workers: must be >= 1, found -1"),
        ("workers", 0, "workers: must be >= 1, found 0"),
        ("momentum", 1, "momentum: must be >= 0 and < 1, found 1"),
        ("weight_decay", -0.1, "weight_decay: must be finite and >= 0, found -0.1"),
        ("weight_decay", float("inf"), "weight_decay: must be finite and >= 0, found inf"),
    ],
)
def test_parameters_out_of_range(parameter: str, value: Any, message: str) -> None:
    estimator = MnistNetClassifier(**{parameter: value})
    for fit in (estimator.fit, partial(estimator.partial_fit, classes=range(10))):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            fit(DIGITS, LABELS)
    # also what is set between two calls
    estimator = MnistNetClassifier(nb_epochs=0).fit(DIGITS[:99], LABELS[:99])
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        estimator.set_params(**{parameter: value}).partial_fit(DIGITS[:99], LABELS[:99])


def test_any_number_of_workers_gives_the_same_bits() -> None:
    data = DIGITS[:300] / 16, LABELS[:300]
    one = MnistNetClassifier(random_state=3, nb_epochs=np.int64(1)).fit(*data)
    for workers in (None, 2, 99):
        other = clone(one).set_params(workers=workers).fit(*data)
        np.testing.assert_array_equal(other.network_.vector, one.network_.vector)


@pytest.mark.parametrize("shape", [np.array([1, 8, 8]), [1, 8, 8]], ids=["array", "list"])
def test_the_shape_of_an_image_may_be_any_sequence(shape: Any) -> None:
    estimator = MnistNetClassifier(image_shape=shape, nb_epochs=0).fit(DIGITS / 16, LABELS)
    assert estimator.network_.input_shape == (1, 8, 8)
    assert estimator.to_classifier().input_shape == (1, 8, 8)
    with pytest.raises(ValueError, match=r"^image_shape: \(1, 8, 8\) has 64 numbers, X has 60 features"):
        clone(estimator).fit(DIGITS[:, :60], LABELS)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda fitted: pickle.loads(pickle.dumps(fitted))])
def test_a_copy_of_what_has_predicted_predicts_alike(copied: Any) -> None:
    data = DIGITS[:600] / 16, LABELS[:600]
    estimator = MnistNetClassifier(random_state=0, nb_epochs=3).fit(*data)
    estimator.score(*data)
    unseen = DIGITS[600:] / 16
    np.testing.assert_array_equal(copied(estimator).predict_proba(unseen), estimator.predict_proba(unseen))


def test_a_classifier_is_told_what_a_byte_is_where_the_numbers_do_not_say() -> None:
    estimator = MnistNetClassifier("mlp", image_shape=(1, 8, 8), nb_epochs=3, random_state=0)
    estimator.fit(DIGITS, LABELS)
    with pytest.raises(ValueError, match=r"pixels: X was 0 to 16, not 0 to 1: say what a byte is"):
        estimator.to_classifier()
    classifier = estimator.to_classifier(PixelScale(1.0))
    found = classifier.probabilities(DIGITS.astype(np.uint8).reshape(-1, 1, 8, 8))
    np.testing.assert_allclose(found, estimator.predict_proba(DIGITS), atol=1e-5)
    estimator.fit(DIGITS / 16, LABELS).partial_fit(DIGITS[:99] / 16, LABELS[:99])
    assert estimator.to_classifier().pixels == PixelScale()
    estimator.partial_fit(DIGITS[:99] / 8, LABELS[:99])
    with pytest.raises(ValueError, match="pixels: X was 0 to 2"):
        estimator.to_classifier()
