"""The named architectures: sizes worked out by hand."""

import re
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.arrays import PixelScale
from mnistnet.errors import ShapeError, UsageError
from mnistnet.models import DRAWINGS, MODELS, Classifier, build, build_drawing


@pytest.mark.parametrize(
    ("name", "size"),
    [
        # conv 8 x 1 x 25 + 8 = 208; conv 16 x 8 x 25 + 16 = 3216; 28 - 4 = 24, / 2 = 12, - 4 = 8, / 2 = 4:
        # dense 128 x (16 x 4 x 4) + 128 = 32896; dense 10 x 128 + 10 = 1290
        ("lenet", 208 + 3216 + 32896 + 1290),
        # conv 5 x 25 + 5 = 130; conv 5 x 5 x 9 + 5 = 230; conv 5 x 5 x 4 + 5 = 105; 24 / 4 = 6, - 2 = 4,
        # - 1 = 3: dense 10 x (5 x 3 x 3) + 10 = 460
        ("rsnet", 130 + 230 + 105 + 460),
        # dense 128 x 784 + 128 = 100480; dense 1290
        ("mlp", 100480 + 1290),
        ("leaky", 100480 + 1290),
        # dense 10 x 784 + 10 = 7850; dense 10 x 10 + 10 = 110
        ("sigmoid", 7850 + 110),
        # conv 32 x 9 + 32 = 320; 32 x 32 x 9 + 32 = 9248; 64 x 32 x 9 + 64 = 18496; 64 x 64 x 9 + 64 = 36928;
        # 26, 24, / 2 = 12, 10, 8, / 2 = 4: dense 128 x (64 x 4 x 4) + 128 = 131200; dense 1290
        ("wide", 320 + 9248 + 18496 + 36928 + 131200 + 1290),
        # conv 32 x 25 + 32 = 832, then as wide's last two; batch norms 4 x (32 + 64 + 64 + 128)
        ("deep", 832 + 18496 + 36928 + 131200 + 1290 + 1152),
        # conv 128 x 64 x 9 + 128 = 73856; 24 / 2 = 12, / 2 = 6, / 2 = 3: dense 128 x (128 x 3 x 3) + 128 =
        # 147584; batch norms 4 x (32 + 64 + 64 + 128 + 128)
        ("deeper", 832 + 18496 + 36928 + 73856 + 147584 + 1290 + 1664),
    ],
)
def test_parameter_counts(name, size):
    assert build(name).size == size


def test_every_model_is_counted_here():
    assert list(MODELS) == ["lenet", "rsnet", "mlp", "leaky", "sigmoid", "wide", "deep", "deeper"]


SHAPES = {
    "lenet": "8x24x24 8x24x24 8x12x12 16x8x8 16x8x8 16x4x4 256 128 128 10 10",
    "rsnet": "5x24x24 5x24x24 5x6x6 5x4x4 5x4x4 5x3x3 5x3x3 45 10 10",
    "mlp": "784 128 128 10 10",
    "leaky": "784 128 128 10 10",
    "sigmoid": "784 10 10 10 10",
    "wide": "32x26x26 32x26x26 32x24x24 32x24x24 32x12x12 64x10x10 64x10x10 64x8x8 64x8x8 64x4x4 "
    "1024 128 128 10 10",
    "deep": "32x24x24 32x24x24 32x24x24 32x12x12 64x10x10 64x10x10 64x10x10 64x8x8 64x8x8 64x8x8 64x4x4 "
    "1024 128 128 128 128 10 10",
    "deeper": "32x24x24 32x24x24 32x24x24 32x12x12 64x12x12 64x12x12 64x12x12 64x12x12 64x12x12 64x12x12 "
    "64x6x6 128x6x6 128x6x6 128x6x6 128x3x3 1152 128 128 128 128 10 10",
}


@pytest.mark.parametrize("name", list(MODELS))
def test_shapes(name):
    found = " ".join("x".join(map(str, shape)) for shape in build(name).shapes)
    assert found == f"1x28x28 {SHAPES[name]}"


@pytest.mark.parametrize("name", list(MODELS))
def test_relu_follows_every_convolution_and_hidden_dense_layer(name):
    """But for what deep and deeper have between them."""
    kinds = [layer.kind for layer in build(name).layers if layer.kind not in ("batch_norm", "dropout")]
    relu = "leaky_relu" if name == "leaky" else "relu"
    last = "sigmoid" if name == "sigmoid" else "softmax"
    assert kinds[-2:] == ["dense", last]
    for kind, following in pairwise(kinds[:-1]):
        assert (following == relu) == (kind in ("conv2d", "dense"))
    assert kinds.count(last) == 1


@pytest.mark.parametrize("name", list(MODELS))
def test_predictions_are_probabilities(name):
    network = build(name).initialize(0)
    images = np.random.default_rng(0).integers(0, 256, (5, 1, 28, 28), np.uint8)
    probabilities = network.predict(images)
    assert probabilities.shape == (5, 10)
    assert probabilities.dtype == np.float32
    assert probabilities.min() >= 0
    assert probabilities.max() <= 1
    if name != "sigmoid":  # each of its outputs is a probability of its own
        assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-6)


@pytest.mark.parametrize("name", list(MODELS))
def test_other_images_and_other_numbers_of_classes(name):
    network = build(name, (3, 32, 30), 26).initialize(0)
    assert network.predict(np.zeros((2, 3, 32, 30), np.uint8)).shape == (2, 26)


def test_an_unknown_name():
    message = "model 'resnet': expected one of lenet, rsnet, mlp, leaky, sigmoid, wide, deep, deeper"
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        build("resnet")


def test_images_too_small_for_the_model():
    # 12 - 4 = 8, / 2 = 4, and 5 does not fit into 4
    message = "layer 3 (conv2d): a kernel of 5 does not fit into 4 + 2 x 0 pixels"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        build("lenet", (1, 12, 12))


def test_two_networks_of_one_name_share_nothing():
    one, other = build("rsnet").initialize(0), build("rsnet").initialize(0)
    one.vector[...] = 0
    assert other.vector.any()


def test_a_classifier_reads_pictures_with_its_own_pipeline():
    images = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), np.uint8)
    network = build("rsnet").initialize(0)
    names = tuple("0123456789")
    plain = Classifier(network, names)
    inverted = Classifier(network, names, PixelScale(-1 / 255, 1.0))
    assert (plain.pixels, plain.name) == (PixelScale(1 / 255, 0.0), "custom")
    assert_array_equal(plain.probabilities(images), network.predict(images), strict=True)
    assert_allclose(inverted.probabilities(images), plain.probabilities(255 - images), rtol=1e-3, atol=1e-5)
    assert not np.allclose(inverted.probabilities(images), plain.probabilities(images))


@pytest.mark.parametrize(
    ("name", "outputs", "size"),
    [
        # 2 to 64, 64, 128, 64, 32, 1, each with as many biases
        ("tanh", 1, 192 + 4160 + 8320 + 8256 + 2080 + 33),
        ("tanh", 3, 192 + 4160 + 8320 + 8256 + 2080 + 99),
        # 2 to 128, 128, 128, 1
        ("sine", 1, 384 + 16512 + 16512 + 129),
        # 128 waves of (x, y); 256 to 128, 128, 3
        ("fourier", 3, 256 + 32896 + 16512 + 387),
    ],
)
def test_networks_that_draw(name, outputs, size):
    network = build_drawing(name, outputs, 50).initialize(0)
    assert (network.size, network.input_shape, network.output_shape) == (size, (2,), (outputs,))
    assert network.layers[-1].kind == "sigmoid"
    assert len(DRAWINGS) == 3


def test_the_first_frequencies_follow_the_detail():
    def frequencies(detail):
        drawn = build_drawing("fourier", 1, detail).initialize(3)
        return drawn.parameters()["0.frequencies"]

    assert_allclose(frequencies(100), 2 * frequencies(50), rtol=1e-6)
    omegas = [build_drawing("sine", 1, detail).layers[1].omega for detail in (50, 128)]
    assert omegas == pytest.approx([20.0, 51.2])


def test_a_drawing_network_that_there_is_not():
    with pytest.raises(UsageError, match=r"^model 'mlp': expected one of sine, fourier, tanh$"):
        build_drawing("mlp", 1, 50)


def test_a_classifier_has_a_name_for_each_output():
    network = build("rsnet", classes=3).initialize(1)
    assert Classifier(network, ("a", "b", "c")).class_names == ("a", "b", "c")
    with pytest.raises(
        ShapeError, match=r"class_names: expected one for each output, found 2 names for an output of \(3,\)"
    ):
        Classifier(network, ("a", "b"))
