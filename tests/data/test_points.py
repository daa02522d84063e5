"""Points: what fits together, and that a Trainer learns from them as from images."""

import numpy as np
import pytest

from mnistnet.data.points import Points, pixel_centres
from mnistnet.engine.layers import Dense, Softmax
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import SGD
from mnistnet.errors import DataError
from mnistnet.models import Classifier
from mnistnet.training.config import TrainingConfig
from mnistnet.training.trainer import EpochResult, Trainer

LINE = np.linspace(-1, 1, 20, dtype=np.float32)[:, None]


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        (LINE[:, 0], LINE, r"inputs: expected float \(N, F\), found float32 \(20,\)"),
        (LINE.astype(np.uint8), LINE, r"inputs: expected float \(N, F\), found uint8 \(20, 1\)"),
        (LINE[:0], LINE[:0], r"inputs: expected float \(N, F\), found float32 \(0, 1\)"),
        (LINE, LINE[:, 0], r"targets: expected float .N, K. or whole numbers .N,., found float32 \(20,\)"),
        (LINE, LINE[:19], "counts differ: 20 inputs and 19 targets"),
        (LINE * np.float32(np.nan), LINE, "inputs: expected finite numbers, found others"),
        (LINE, np.full_like(LINE, np.inf), "targets: expected finite numbers, found others"),
    ],
)
def test_what_does_not_fit(inputs, targets, message) -> None:
    with pytest.raises(DataError, match=f"^{message}$"):
        Points(inputs, targets)


def test_the_fingerprint_tells_points_apart_and_not_their_precision() -> None:
    points = Points(LINE, 2 * LINE)
    assert len(points) == 20
    assert Points(LINE.astype(np.float64), (2 * LINE).astype(np.float64)).fingerprint == points.fingerprint
    assert Points(np.asfortranarray(LINE), 2 * LINE).fingerprint == points.fingerprint
    assert Points(LINE, 3 * LINE).fingerprint != points.fingerprint
    assert Points(LINE + 1, 2 * LINE).fingerprint != points.fingerprint
    assert Points(LINE, np.arange(20)).fingerprint != points.fingerprint


def test_a_line_is_learned_and_so_are_classes() -> None:
    """y = 3 x - 0.5 by gradient descent, which least squares gives exactly; then which side of 0.2."""
    network = Network([Dense(1)], (1,)).initialize(0)
    config = TrainingConfig(learning_rate=0.5, batch_size=20, nb_epochs=300, optimizer=SGD())
    list(Trainer(Classifier(network, ("y",)), config).run(Points(LINE, 3 * LINE - 0.5)))
    np.testing.assert_allclose(network.vector, [3.0, -0.5], atol=1e-3)

    sides = Points(LINE, (LINE[:, 0] > 0.2).astype(np.intp))
    network = Network([Dense(2), Softmax()], (1,)).initialize(0)
    config = TrainingConfig(learning_rate=5.0, batch_size=10, nb_epochs=100, optimizer=SGD())
    *_, last = Trainer(Classifier(network, ("left", "right")), config).run(sides)
    assert isinstance(last, EpochResult)
    assert last.training_accuracy == 1.0


def test_pixels_are_where_they_are() -> None:
    """Two by three pixels by hand: the longer side from -1 to 1, centres half a pixel inside, y down."""
    found = pixel_centres((3, 2), (3, 2))
    across, down = [-2 / 3, 0, 2 / 3], [-1 / 3, 1 / 3]
    np.testing.assert_allclose(found, [(x, y) for y in down for x in across], atol=1e-7)
    assert found.dtype == np.float32
    # another size shows the same frame: every second column of a picture twice as wide is no column of it
    wide = pixel_centres((6, 4), (3, 2))
    np.testing.assert_allclose(wide[:6, 0], [-5 / 6, -3 / 6, -1 / 6, 1 / 6, 3 / 6, 5 / 6], atol=1e-7)
    np.testing.assert_allclose(wide[::6, 1], [-3 / 6, -1 / 6, 1 / 6, 3 / 6], atol=1e-7)
    np.testing.assert_array_equal(pixel_centres((6, 4), (3, 2), slice(1, 3)), wide[6:18])
