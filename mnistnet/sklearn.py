"""A scikit-learn estimator: the engine in pipelines, grid search and cross-validation.

from mnistnet.sklearn import MnistNetClassifier

MnistNetClassifier(model="lenet", image_shape=(1, 28, 28)).fit(X, y).score(X_test, y_test)
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, prod
from numbers import Integral
from typing import Any, Self

import numpy as np

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets, unique_labels
    from sklearn.utils.validation import check_is_fitted, validate_data
except ImportError as error:
    advice = "pip install 'mnistnet[sklearn]'"
    raise ImportError(f"mnistnet.sklearn needs scikit-learn, 1.6 or newer: {advice}") from error

from mnistnet.engine.arrays import UNIT_SCALE, AnyArray, FloatArray, IntArray, PixelScale
from mnistnet.engine.division import choose_workers
from mnistnet.engine.layers import Layer
from mnistnet.engine.losses import LOSSES, loss_for
from mnistnet.engine.minibatch import Minibatches
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import SGD
from mnistnet.engine.schedules import Constant, Cosine, Schedule
from mnistnet.errors import DivergedError, ShapeError
from mnistnet.models import MODELS, Classifier
from mnistnet.training.config import LARGEST_FLOAT32
from mnistnet.training.trainer import epoch_order


class MnistNetClassifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A network of the engine as a scikit-learn classifier.

    X is (n_samples, n_features): floats are taken as they are, bytes (uint8) as 0 .. 1, as everywhere in
    mnistnet. The network computes in float32, or in float64 where X is float64. The same ``random_state``
    gives the same bits.

    Args:
        model: a name of `mnistnet.models.MODELS`, or layers, of which the last gives one probability a class.
        image_shape: (C, H, W) of the pictures in the rows of X, which networks with convolutions need.
        learning_rate: step size at the start of `fit`, from where it goes to 0 along a cosine.
        batch_size: samples in a step, at most all of them.
        nb_epochs: times that `fit` goes through the samples.
        momentum: of SGD, in [0, 1).
        weight_decay: added to the gradient, times the weight.
        random_state: of the first weights and the order of the samples.
        workers: processes to use; None means as many as help. The result does not depend on it.

    Attributes:
        classes_: (K,) the labels.
        n_features_in_: the number of features.
        network_: the trained `mnistnet.Network`.
        loss_curve_: the mean loss of every epoch.
    """

    _range: tuple[float, float]
    """The least and the largest number of X so far."""

    def __init__(
        self,
        model: str | Sequence[Layer] = "mlp",
        *,
        image_shape: Sequence[int] | None = None,
        learning_rate: float = 0.05,
        batch_size: int = 64,
        nb_epochs: int = 30,
        momentum: float = 0.9,
        weight_decay: float = 5e-4,
        random_state: Any = None,
        workers: int | None = 1,
    ) -> None:
        self.model = model
        self.image_shape = image_shape
        self.learning_rate = learning_rate
        self.batch_size = batch_size
        self.nb_epochs = nb_epochs
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.random_state = random_state
        self.workers = workers

    def fit(self, X: Any, y: Any) -> Self:  # noqa: N803
        """Train a new network.

        Args:
            X: (n_samples, n_features).
            y: (n_samples,) labels of any kind.

        Raises:
            ValueError: X or y is not fit for it, `image_shape` does not fit X, or a parameter
                is out of range.
            DivergedError: the loss is not finite any more.
        """
        rows, labels = self._checked(X, y, reset=True)
        self._begin(rows, unique_labels(labels))
        self._train(rows, labels, self.nb_epochs, Cosine())
        return self

    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> Self:  # noqa: N803
        """Go through some samples once more, with a constant learning rate.

        Args:
            X: (n_samples, n_features).
            y: (n_samples,) labels.
            classes: all labels that there will be; needed in the first call only.

        Raises:
            ValueError: as `fit`; or the first call does not say the classes.
            DivergedError: the loss is not finite any more.
        """
        first = not hasattr(self, "network_")
        rows, labels = self._checked(X, y, reset=first)
        if first:
            if classes is None:
                raise ValueError("classes: the first call of partial_fit must say them all")
            self._begin(rows, unique_labels(classes))
        low, high = _range(rows)
        self._range = min(low, self._range[0]), max(high, self._range[1])
        self._train(rows, labels, 1, Constant())
        return self

    def predict_proba(self, X: Any) -> FloatArray:  # noqa: N803
        """(n_samples, K) probabilities, in the order of ``classes_``."""
        check_is_fitted(self)
        rows = validate_data(self, X, dtype=_DTYPES, reset=False)
        return self.network_.predict(rows.reshape(len(rows), *self.network_.input_shape))

    def predict(self, X: Any) -> AnyArray:  # noqa: N803
        """(n_samples,) labels."""
        best = self.predict_proba(X).argmax(axis=1)
        labels: AnyArray = self.classes_[best]
        return labels

    def to_classifier(self, pixels: PixelScale | None = None) -> Classifier:
        """The trained network with its classes, for checkpoints and ONNX: in float32, on pictures.

        Args:
            pixels: what a byte of a picture is as a number of X; a 255th, where X was bytes or 0 to 1.

        Raises:
            ValueError: there is no ``image_shape``, or ``pixels`` is needed and not given.
        """
        check_is_fitted(self)
        if self.image_shape is None:
            raise ValueError("image_shape: only networks that see pictures can be saved")
        low, high = self._range
        if pixels is None and not 0.0 <= low <= high <= 1.0:
            raise ValueError(
                f"pixels: X was {low:g} to {high:g}, not 0 to 1: say what a byte is, such as PixelScale(1.0)"
            )
        network = Network(self.network_.layers, self.network_.input_shape)
        network.vector[...] = self.network_.vector
        names = tuple(map(str, self.classes_))
        return Classifier(network, names, pixels or UNIT_SCALE, name=_name_of(self.model))

    def _checked(self, X: Any, y: Any, *, reset: bool) -> tuple[AnyArray, AnyArray]:  # noqa: N803
        self._check_parameters()
        rows, labels = validate_data(self, X, y, dtype=_DTYPES, reset=reset)
        check_classification_targets(labels)
        return rows, labels

    def _check_parameters(self) -> None:
        """Refuse numbers out of range: what `TrainingConfig` and `SGD` refuse, as ValueError."""
        if not 0 < self.learning_rate <= LARGEST_FLOAT32:
            raise ValueError(f"learning_rate: must be finite and > 0, found {self.learning_rate}")
        workers = 1 if self.workers is None else self.workers
        counts: dict[str, tuple[Any, int]] = {
            "batch_size": (self.batch_size, 1),
            "nb_epochs": (self.nb_epochs, 0),
            "workers": (workers, 1),
        }
        for name, (value, least) in counts.items():
            if not isinstance(value, Integral):
                raise ValueError(f"{name}: must be a whole number, found {value!r:.60}")
            if value < least:
                raise ValueError(f"{name}: must be >= {least}, found {value}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum: must be >= 0 and < 1, found {self.momentum}")
        if not 0 <= self.weight_decay <= LARGEST_FLOAT32:
            raise ValueError(f"weight_decay: must be finite and >= 0, found {self.weight_decay}")

    def _begin(self, rows: AnyArray, classes: AnyArray) -> None:
        """A new network for these features and classes."""
        self.classes_ = classes
        self._range = _range(rows)
        features = rows.shape[1]
        shape = (features,) if self.image_shape is None else tuple(map(int, self.image_shape))
        if prod(shape) != features:
            raise ValueError(f"image_shape: {shape} has {prod(shape)} numbers, X has {features} features")
        if isinstance(self.model, str) and self.model not in MODELS:
            raise ValueError(f"model: expected layers or one of {', '.join(MODELS)}, found {self.model!r}")
        layers = MODELS[self.model](len(classes)) if isinstance(self.model, str) else self.model
        dtype = np.float64 if rows.dtype == np.float64 else np.float32
        random = check_random_state(self.random_state)
        self._seed = int(random.randint(2**31 - 1))
        try:
            self.network_ = Network(layers, shape, dtype).initialize(self._seed)
        except ShapeError as error:
            raise ValueError(f"model: {error}; networks with convolutions need image_shape") from error
        if self.network_.output_shape != (len(classes),):
            raise ValueError(f"model: gives {self.network_.output_shape}, y has {len(classes)} classes")
        self._state: dict[str, FloatArray] = {}
        self._steps = 0
        self.loss_curve_: list[float] = []

    def _train(self, rows: AnyArray, labels: AnyArray, epochs: int, schedule: Schedule) -> None:
        """Go through the samples ``epochs`` times."""
        network = self.network_
        count, size = len(rows), min(self.batch_size, len(rows))
        steps = -(-count // size)
        with Minibatches(
            network,
            rows,
            self._numbers_of(labels),
            loss=LOSSES[loss_for(network.layers[-1].kind)](),
            optimizer=SGD(self.momentum, self.weight_decay),
            batch_size=size,
            seed=self._seed,
            workers=choose_workers(network, size, self.workers),
        ) as minibatches:
            for name, values in self._state.items():
                minibatches.state[name][...] = values
            for epoch in range(epochs):
                minibatches.set_order(epoch_order(count, self._seed, len(self.loss_curve_) + 1))
                loss = 0.0
                for step in range(steps):
                    self._steps += 1
                    rate = self.learning_rate * schedule((epoch * steps + step) / (epochs * steps))
                    part = min(size, count - step * size)
                    loss += minibatches.step(self._steps, step * size, part, rate).loss
                if not isfinite(loss):
                    raise DivergedError(
                        f"the loss is {loss}: try a lower learning_rate than {self.learning_rate}"
                    )
                self.loss_curve_.append(loss / count)
            self._state = {name: values.copy() for name, values in minibatches.state.items()}

    def _numbers_of(self, labels: AnyArray) -> IntArray:
        """(n_samples,) positions of labels in ``classes_``."""
        numbers = np.searchsorted(self.classes_, labels)
        known = numbers < len(self.classes_)
        if not known.all() or (self.classes_[numbers] != labels).any():
            strangers = sorted(set(labels.tolist()) - set(self.classes_.tolist()))
            raise ValueError(f"y: {strangers[0]!r} is none of the classes {self.classes_.tolist()}")
        return numbers


_DTYPES = (np.float64, np.float32, np.uint8)
"""What X stays; anything else becomes the first."""


def _range(rows: AnyArray) -> tuple[float, float]:
    """The least and the largest number; bytes are taken as 0 to 1."""
    return (0.0, 1.0) if rows.dtype == np.uint8 else (float(rows.min()), float(rows.max()))


def _name_of(model: str | Sequence[Layer]) -> str:
    return model if isinstance(model, str) else "custom"
