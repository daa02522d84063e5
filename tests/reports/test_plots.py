"""The figures hold what was found: their data are looked at, not their pixels."""

import io
import sys

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal
from PIL import Image

from mnistnet.data.dataset import DIGITS, Dataset
from mnistnet.engine.layers import BatchNorm, Conv2d, Dense, Flatten, MaxPool2d, ReLU, Softmax
from mnistnet.engine.network import Network
from mnistnet.models import Classifier, build
from mnistnet.reports import plots
from mnistnet.reports.curves import CurvePoint
from mnistnet.reports.evaluation import Evaluation, evaluate
from mnistnet.reports.report import CAPTIONS

RNG = np.random.default_rng(0)
DATA = Dataset(RNG.integers(0, 256, (60, 1, 28, 28), np.uint8), RNG.integers(0, 10, 60), DIGITS)
LENET = Classifier(build("lenet").initialize(seed=1), DIGITS, name="lenet")
FOUND = evaluate(LENET, DATA)


def test_learning_curves_are_the_epochs() -> None:
    curve = [CurvePoint(1, 0.5, 0.8, 0.85, 0.4), CurvePoint(2, 0.3, 0.9, 0.88, 0.35)]
    loss, accuracy = plots.learning_curves(curve).axes
    assert [line.get_ydata().tolist() for line in loss.lines] == [[0.5, 0.3], [0.4, 0.35]]
    assert [line.get_ydata().tolist() for line in accuracy.lines] == [[0.8, 0.9], [0.85, 0.88]]
    assert len({(line.get_color(), line.get_marker(), line.get_linestyle()) for line in loss.lines}) == 2


def test_without_validation_there_is_one_line() -> None:
    loss, _ = plots.learning_curves([CurvePoint(1, 0.5, 0.8, None, None)]).axes
    assert len(loss.lines) == 1


def test_the_confusion_matrix_shows_every_count() -> None:
    axes = plots.confusion_matrix(FOUND).axes[0]
    shown = np.array([int(text.get_text()) for text in axes.texts]).reshape(10, 10)
    assert_array_equal(shown, FOUND.confusion)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(DIGITS)


def test_a_single_class_and_names_that_look_like_formulas_are_drawn() -> None:
    one = Evaluation(("all",), np.zeros(3, np.intp), np.ones((3, 1), np.float32))
    plots.png(plots.confusion_matrix(one))
    names = (r"$\foo$", "5$ #", "10$ {")
    rows = np.full((3, 3), 1 / 3, np.float32)
    found = Evaluation(names, np.arange(3), rows)
    plots.png(plots.confusion_matrix(found))
    plots.png(plots.worst_mistakes(found, DATA.images[:3]))


def test_many_classes_are_drawn_without_numbers() -> None:
    k = plots.MOST_NUMBERS + 1
    probabilities = np.eye(k, dtype=np.float32)
    found = Evaluation(tuple(map(str, range(k))), np.arange(k), probabilities)
    assert not plots.confusion_matrix(found).axes[0].texts


def test_the_reliability_diagram_has_a_point_for_each_bin_with_images() -> None:
    above, below = plots.reliability_diagram(FOUND).axes
    some = [bin_ for bin_ in FOUND.calibration if bin_.images]
    points = next(line for line in above.lines if line.get_marker() == "o")
    assert_allclose(points.get_xydata(), [(bin_.confidence, bin_.accuracy) for bin_ in some])
    assert [bar.get_height() for bar in below.patches] == [bin_.images for bin_ in some]


def test_the_gallery_shows_the_mistakes_and_what_they_were_read_as() -> None:
    figure = plots.worst_mistakes(FOUND, DATA.images)
    for axes, mistake in zip(figure.axes, FOUND.worst_mistakes(plots.MISTAKES), strict=True):
        assert_array_equal(axes.images[0].get_array(), DATA.images[mistake.index, 0])
        assert axes.get_title().startswith(f"{mistake.label} read as {mistake.prediction}, ")
        assert axes.get_title().endswith(f"\nimage {mistake.index}")


def test_no_mistakes_are_said_to_be_none() -> None:
    perfect = Evaluation(("a", "b"), np.array([0, 1]), np.eye(2, dtype=np.float32))
    assert plots.worst_mistakes(perfect, DATA.images[:2]).get_suptitle() == "No mistakes"


def pictures_of(figure) -> list[np.ndarray]:
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]


def test_filters_are_the_first_convolutions_weights() -> None:
    figure = plots.first_filters(LENET.network)
    assert figure is not None
    assert_array_equal(pictures_of(figure), LENET.network.layers[0].params["weight"][:, 0])


def test_a_first_dense_layers_weights_have_the_pictures_form() -> None:
    network = build("mlp").initialize(seed=1)
    figure = plots.first_filters(network)
    assert figure is not None
    assert "the first 64 of 128" in figure.get_suptitle()
    shown = network.layers[1].params["weight"][:64].reshape(64, 28, 28)
    assert_array_equal(pictures_of(figure), shown)


def test_feature_maps_are_what_the_layers_make_of_the_image() -> None:
    """Also with statistics, which lie elsewhere in the vector of a whole network than of its beginning."""
    layers = [
        Conv2d(3, (5, 5)),
        BatchNorm(),
        ReLU(),
        MaxPool2d((2, 2)),
        Flatten(),
        Dense(10),
        BatchNorm(),
        Softmax(),
    ]
    network = Network(layers, (1, 28, 28)).initialize(seed=2)
    for name, values in network.parameters().items():
        if "running" in name:
            values[...] = np.random.default_rng(3).uniform(0.5, 1.5, values.shape)
    figure = plots.feature_maps(Classifier(network, DIGITS), DATA.images[0])
    assert figure is not None
    first, *maps = pictures_of(figure)
    assert_array_equal(first, DATA.images[0, 0])
    assert [picture.shape for picture in maps] == [(24, 24)] * 3 + [(12, 12)] * 3

    image = DATA.images[0, 0] / 255.0
    windows = np.lib.stride_tricks.sliding_window_view(image, (5, 5))
    conv, norm = network.layers[0].params, network.layers[1].params
    for k in range(3):
        values = (windows * conv["weight"][k, 0]).sum(axis=(2, 3)) + conv["bias"][k]
        values = (values - norm["running_mean"][k]) / np.sqrt(norm["running_var"][k] + 1e-5)
        relu = np.maximum(values * norm["weight"][k] + norm["bias"][k], 0)
        assert_allclose(maps[k], relu, atol=1e-4)
        assert_allclose(maps[3 + k], relu.reshape(12, 2, 12, 2).max(axis=(1, 3)), atol=1e-4)


def test_what_has_no_pictures_has_no_figure() -> None:
    network = Network([Dense(3), Softmax()], (4,))
    assert plots.first_filters(network) is None
    assert plots.feature_maps(Classifier(build("mlp"), DIGITS), DATA.images[0]) is None


def test_all_plots_are_those_that_there_is_something_for() -> None:
    curve = [CurvePoint(1, 0.5, 0.8, None, None)]
    assert len(plots.all_plots(LENET, FOUND, DATA, curve)) == 6
    mlp = Classifier(build("mlp").initialize(seed=1), DIGITS)
    without = {"learning-curves", "feature-maps"}
    assert set(CAPTIONS) - set(plots.all_plots(mlp, evaluate(mlp, DATA), DATA, [])) == without


def test_of_a_model_that_is_no_classifier_only_the_answers_are_drawn() -> None:
    class Other:
        class_names = DIGITS
        input_shape = (1, 28, 28)
        confidence_threshold = None

        def probabilities(self, images: np.ndarray, *, threads: int = 1) -> np.ndarray:
            return LENET.probabilities(images, threads=threads)

    found = evaluate(Other(), DATA)
    drawn = {"confusion-matrix", "reliability", "worst-mistakes"}
    assert set(plots.all_plots(Other(), found, DATA, [])) == drawn


def test_a_figure_is_the_same_picture_every_time_without_pyplot() -> None:
    first, second = (plots.png(plots.confusion_matrix(FOUND)) for _ in range(2))
    assert first == second
    assert min(Image.open(io.BytesIO(first)).size) > 600
    assert "matplotlib.pyplot" not in sys.modules
