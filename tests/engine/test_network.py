"""Networks: one flat vector, names, seeds, and what may be handed to `predict`."""

import copy
import pickle
import re
import tracemalloc

import engine_naive as naive
import numpy as np
import pytest
from engine_probes import Offset
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet import models
from mnistnet.engine import network as network_module
from mnistnet.engine.arrays import PixelScale
from mnistnet.engine.layers import (
    GELU,
    AvgPool2d,
    BatchNorm,
    Conv2d,
    Dense,
    Dropout,
    Flatten,
    GlobalAvgPool,
    LeakyReLU,
    MaxPool2d,
    ReLU,
    Sigmoid,
    Softmax,
    Tanh,
    ZeroPad2d,
)
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.network import Network
from mnistnet.engine.workers import on_threads
from mnistnet.errors import ShapeError


def small(dtype=np.float32) -> Network:
    layers = [Conv2d(2, (3, 3)), ReLU(), MaxPool2d((2, 2)), Flatten(), Dense(3), Softmax()]
    return Network(layers, (1, 6, 6), dtype).initialize(1)


def test_shapes_go_from_layer_to_layer():
    assert small().shapes == [(1, 6, 6), (2, 4, 4), (2, 4, 4), (2, 2, 2), (8,), (3,), (3,)]
    assert small().output_shape == (3,)


def test_parameters_are_views_of_one_vector_in_the_order_of_the_layers():
    network = small()
    # 2 kernels of 9, 2 biases, 3 x 8 weights, 3 biases
    assert network.size == network.vector.size == 18 + 2 + 24 + 3
    shapes = {name: view.shape for name, view in network.parameters().items()}
    assert shapes == {"0.weight": (2, 1, 3, 3), "0.bias": (2,), "4.weight": (3, 8), "4.bias": (3,)}
    network.vector[...] = np.arange(47)
    values = np.concatenate([view.ravel() for view in network.parameters().values()])
    assert_array_equal(values, np.arange(47))
    assert network.layers[4].params["bias"][0] == 44
    for view in network.parameters().values():
        assert np.shares_memory(view, network.vector)
        assert view.flags.c_contiguous


def test_any_vector_can_be_seen_by_name():
    network = small()
    other = np.arange(47.0)
    assert_array_equal(network.parameters(other)["4.bias"], [44, 45, 46])
    assert_array_equal(network.views(other)[4]["bias"], [44, 45, 46])
    assert network.views(other)[1] == {}
    assert np.shares_memory(network.parameters(other)["0.weight"], other)


def test_place_moves_the_parameters_without_copying():
    network = small()
    images = np.random.default_rng(0).random((4, 1, 6, 6), np.float32)
    before = network.predict(images)
    home = network.vector.copy()
    network.place(home)
    assert network.vector is home
    assert_array_equal(network.predict(images), before, strict=True)
    network.parameters()["4.bias"][...] = [0, 50, 0]
    assert_array_equal(home[44:], [0, 50, 0])
    assert_array_equal(network.predict(images).argmax(axis=1), [1, 1, 1, 1])
    home[...] = 0
    assert_allclose(network.predict(images), np.full((4, 3), 1 / 3), rtol=1e-6)


def test_changed_parameters_count_at_the_next_prediction():
    network = small()
    images = np.random.default_rng(0).random((4, 1, 6, 6), np.float32)
    network.predict(images)
    network.vector[...] = 0
    assert_allclose(network.predict(images), np.full((4, 3), 1 / 3), rtol=1e-6)


def test_a_network_keeps_copies_of_its_layers():
    layer = Dense(3)
    network = Network([layer, layer], (3,)).initialize(0)
    other = Network([layer], (3,)).initialize(1)
    assert layer.params == {}
    assert network.size == 24
    assert not np.shares_memory(network.layers[0].params["weight"], network.layers[1].params["weight"])
    assert not np.array_equal(other.vector, network.vector[:12])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_same_seed_gives_the_same_bits(dtype):
    one, same, other = (Network(models.lenet(10), (1, 28, 28), dtype).initialize(s).vector for s in (7, 7, 8))
    assert one.dtype == dtype
    assert one.tobytes() == same.tobytes()
    # every weight differs; the biases do not
    assert np.count_nonzero(one == other) == 8 + 16 + 128 + 10


def test_float32_and_float64_start_from_the_same_numbers():
    single, double = (Network(models.mlp(10), (1, 28, 28), t).initialize(3) for t in (np.float32, np.float64))
    assert_array_equal(single.vector, double.vector.astype(np.float32), strict=True)


def test_initialize_returns_the_network():
    network = Network([Dense(1)], (1,))
    assert network.initialize(0) is network


# parameters from elsewhere


def values_of(network: Network) -> dict[str, np.ndarray]:
    return {
        name: np.arange(view.size, dtype=np.float64).reshape(view.shape)
        for name, view in network.parameters().items()
    }


# what comes in


@pytest.mark.parametrize("name", list(models.MODELS))
@pytest.mark.parametrize("pixels", [PixelScale(), PixelScale(1 / 127.5, -1.0)], ids=str)
def test_bytes_and_the_floats_they_stand_for_give_the_same_bits(name, pixels):
    network = models.build(name).initialize(0)
    images = np.random.default_rng(0).integers(0, 256, (37, 1, 28, 28), np.uint8)
    from_bytes = network.predict(images, pixels=pixels)
    assert_array_equal(from_bytes, network.predict(pixels.apply(images)), strict=True)
    assert not np.array_equal(from_bytes[0], from_bytes[1])


@pytest.mark.parametrize("channels", [2, 3])
def test_bytes_in_several_channels(channels):
    network = Network([Conv2d(4, (3, 3)), Flatten(), Dense(3)], (channels, 6, 5)).initialize(0)
    images = np.random.default_rng(0).integers(0, 256, (9, channels, 6, 5), np.uint8)
    expected = network.predict(PixelScale().apply(images))
    assert_array_equal(network.predict(images), expected, strict=True)


@pytest.mark.parametrize("name", list(models.MODELS))
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_no_images_no_predictions(name, dtype):
    network = models.build(name).initialize(0)
    predictions = network.predict(np.zeros((0, 1, 28, 28), dtype))
    assert predictions.shape == (0, 10)
    assert predictions.dtype == np.float32


@pytest.mark.parametrize("n", [1, 31, 32, 33, 64, 65, 255, 256, 257, 300])
def test_every_image_has_its_own_row(n):
    """256 at once, then 32, then the remainder: a prediction stands where its image stood."""
    network = Network([Flatten(), Dense(2)], (1, 2, 2), np.float64).initialize(0)
    images = np.random.default_rng(0).standard_normal((n, 1, 2, 2))
    weight, bias = network.parameters()["1.weight"], network.parameters()["1.bias"]
    expected = naive.dense(images.reshape(n, 4), weight, bias)
    assert_allclose(network.predict(images), expected, rtol=1e-12, atol=1e-14)


def test_images_that_are_not_contiguous():
    network = small()
    images = np.random.default_rng(0).random((40, 6, 6, 1), np.float32)
    strange = images.transpose(0, 3, 2, 1)[::-3]
    assert not strange.flags.c_contiguous
    assert_array_equal(network.predict(strange), network.predict(np.ascontiguousarray(strange)), strict=True)
    labels = np.arange(len(strange)) % 3
    loss, _ = network.loss_and_gradients(strange, labels, SoftmaxCrossEntropy())
    assert loss == network.loss_and_gradients(strange.copy(), labels, SoftmaxCrossEntropy())[0]


def test_a_single_picture_needs_no_room_for_many():
    network = Network([MaxPool2d((4, 4)), Flatten(), Dense(3), Softmax()], (1, 512, 512)).initialize(0)
    picture = np.full((1, 1, 512, 512), 7, np.uint8)
    tracemalloc.start()
    try:
        network.predict(picture)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * picture.size


def test_predictions_do_not_change_what_they_are_given():
    network = small()
    images = np.random.default_rng(0).random((5, 1, 6, 6), np.float32)
    images.flags.writeable = False
    first = network.predict(images)
    kept = first.copy()
    network.predict(1 - images)
    assert_array_equal(first, kept)


def test_float64_images_into_a_float32_network():
    network = small()
    images = np.random.default_rng(0).random((5, 1, 6, 6))
    assert_array_equal(network.predict(images), network.predict(images.astype(np.float32)), strict=True)


@pytest.mark.parametrize("name", list(models.MODELS))
def test_one_spoilt_image_does_not_spoil_the_others(name):
    network = models.build(name).initialize(0)
    images = np.random.default_rng(0).random((40, 1, 28, 28), np.float32)
    clean = network.predict(images)
    images[5, 0, 14, 14] = np.nan
    images[35] = np.nan
    with np.errstate(invalid="ignore"):
        spoilt = network.predict(images)
    others = np.delete(np.arange(40), [5, 35])
    assert_array_equal(spoilt[others], clean[others], strict=True)
    assert np.isnan(spoilt[[5, 35]]).all()


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ((5, 28, 28), "(28, 28)"),
        ((5, 1, 27, 28), "(1, 27, 28)"),
        ((5, 784), "(784,)"),
        ((5, 3, 28, 28), "(3, 28, 28)"),
    ],
)
def test_images_of_another_shape(shape, found):
    network = models.build("mlp")
    message = f"images: expected (1, 28, 28) each, found {found}"
    with pytest.raises(ShapeError, match=f"^{re.escape(message)}$"):
        network.predict(np.zeros(shape, np.uint8))


def test_features_in_instead_of_images():
    network = Network([Dense(2)], (3,), np.float64)
    network.parameters()["0.weight"][...] = [[1, 2, 3], [4, 5, 6]]
    network.parameters()["0.bias"][...] = [0.5, -0.5]
    assert_array_equal(network.predict(np.array([[1.0, 0, -1], [2, 2, 2]])), [[-1.5, -2.5], [12.5, 29.5]])


def test_images_out():
    network = Network([Offset(2)], (2, 3, 4))
    network.parameters()["0.offset"][...] = offset = np.arange(48).reshape(2, 2, 3, 4)
    predictions = network.predict(np.zeros((2, 2, 3, 4), np.float32))
    assert predictions.flags.c_contiguous
    assert_array_equal(predictions, offset)


@pytest.mark.parametrize(("threads", "used"), [(0, 1), (1, 1), (2, 2), (3, 3), (64, 3)])
def test_any_number_of_threads_gives_the_same_bits(threads, used, monkeypatch):
    """As many as are asked for, with four times 96 images at least for each."""
    network = models.build("rsnet").initialize(threads)
    images = np.random.default_rng(threads).integers(0, 256, (96 * 13 + 7, 1, 28, 28), np.uint8)
    expected = network.predict(images)
    counts = []

    def counting(tasks):
        counts.append(len(tasks))
        on_threads(tasks)

    monkeypatch.setattr(network_module, "on_threads", counting)
    assert_array_equal(network.predict(images, threads=threads), expected, strict=True)
    assert counts == [used]


def test_shards_depend_on_network_and_batch_only():
    """32 images, half of it where an activation has more than 64 KiB, doubled beyond 64 shards."""
    lenet, wide = models.build("lenet"), models.build("wide")
    # lenet's largest is 8 x 24 x 24 x 4 bytes, wide's 32 x 26 x 26 x 4
    assert [lenet.shard_size(n) for n in (1, 64, 2048, 2049, 4097)] == [32, 32, 32, 64, 128]
    assert [wide.shard_size(n) for n in (1, 64, 1024, 1025)] == [16, 16, 16, 32]


def test_loss_and_gradients_leaves_the_parameters_alone():
    network = small()
    before = network.vector.copy()
    images = np.random.default_rng(0).random((5, 1, 6, 6), np.float32)
    _, gradients = network.loss_and_gradients(images, np.array([0, 1, 2, 0, 1]), SoftmaxCrossEntropy())
    assert_array_equal(network.vector, before)
    assert set(gradients) == set(network.parameters())
    assert not any(np.shares_memory(g, network.vector) for g in gradients.values())


@pytest.mark.parametrize(
    "first",
    [
        *(AvgPool2d((2, 3)), MaxPool2d((3, 2), padding=(1, 0)), GlobalAvgPool(), ZeroPad2d(1, 0, 2, 1)),
        *(ReLU(), LeakyReLU(0.5), Sigmoid(), Tanh(), GELU(), Dropout(0.0)),
    ],
    ids=str,
)
def test_what_lies_below_all_parameters_is_no_part_of_the_backward_pass(first):
    """A layer that the images meet first leaves the same gradients above it as its output given as images."""
    images = np.random.default_rng(4).standard_normal((7, 2, 6, 6))
    labels = np.arange(7) % 3
    rest = [Dense(3), Softmax()]
    alone = Network([first], (2, 6, 6), np.float64)
    shape = alone.output_shape
    if len(shape) == 3:
        rest = [Flatten(), *rest]
    above = Network(rest, shape, np.float64).initialize(1)
    network = Network([first, *rest], (2, 6, 6), np.float64)
    network.vector[...] = above.vector
    loss, gradients = network.loss_and_gradients(images, labels, SoftmaxCrossEntropy())
    expected_loss, expected = above.loss_and_gradients(alone.predict(images), labels, SoftmaxCrossEntropy())
    assert loss == pytest.approx(expected_loss, rel=1e-12)
    assert len(gradients) == len(expected) == 2
    for found, wanted in zip(gradients.values(), expected.values(), strict=True):
        assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)


def test_a_step_against_the_gradient_makes_the_loss_smaller():
    network = small()
    images = np.random.default_rng(0).integers(0, 256, (30, 1, 6, 6), np.uint8)
    labels = np.arange(30) % 3
    first, gradients = network.loss_and_gradients(images, labels, SoftmaxCrossEntropy())
    for name, gradient in gradients.items():
        network.parameters()[name][...] -= 0.1 * gradient
    second, _ = network.loss_and_gradients(images, labels, SoftmaxCrossEntropy())
    assert second < first


@pytest.mark.parametrize("shape", [(), (4, 5), (1, 2, 3, 4), (0,), (1, -28, 28)])
def test_an_input_shape_that_is_neither_image_nor_features_is_refused(shape):
    with pytest.raises(ShapeError, match=rf"^input shape: .* found {re.escape(str(shape))}$"):
        Network([ReLU()], shape)


def test_a_vector_of_another_size_is_refused():
    with pytest.raises(ShapeError, match=r"^vector: expected \(47,\), found \(46,\)$"):
        small().place(np.zeros(46, np.float32))


def test_a_copy_has_the_same_parameters_in_memory_of_its_own():
    layers = [Flatten(), Dense(4), BatchNorm(), ReLU(), Dense(3), Softmax()]
    network = Network(layers, (1, 3, 3)).initialize(1)
    network.parameters()["2.running_mean"][...] = 0.25
    whole, part = network.copy(), network.copy(3)
    assert whole.vector.tobytes() == network.vector.tobytes()
    assert not np.shares_memory(whole.vector, network.vector)
    assert part.output_shape == (4,)
    assert (part.parameters()["2.running_mean"] == 0.25).all()
    assert part.parameters()["1.weight"].tobytes() == network.parameters()["1.weight"].tobytes()


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))]
)
def test_a_copy_is_a_network_of_its_own_whatever_was_predicted_before(copied) -> None:
    """Plans are views of one memory: a copy of them, view by view, would answer at random."""
    rng = np.random.default_rng(0)
    seen, others = rng.random((2, 70, 1, 28, 28)).astype(np.float32)
    network = models.build("deep").initialize(3)
    network.predict(seen)
    expected = network.predict(others)
    twin = copied(network)
    assert_array_equal(twin.predict(others), expected, strict=True)
    network.vector[...] = 0.0
    assert_array_equal(twin.predict(others), expected, strict=True)
    twin.parameters()["0.weight"][...] = 0.0
    assert not twin.layers[0].params["weight"].any()


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, bool])
def test_whole_numbers_that_are_no_bytes_are_refused(dtype) -> None:
    """Taken as they are they would be 255 times what a byte means."""
    images = np.zeros((2, 1, 6, 6), dtype)
    message = re.escape(f"images: expected uint8 or floats, found {np.dtype(dtype)}: .astype(np.uint8), if")
    with pytest.raises(ShapeError, match=message):
        small().predict(images)
    with pytest.raises(ShapeError, match=message):
        small().loss_and_gradients(images, np.zeros(2, int), SoftmaxCrossEntropy())


def test_targets_are_compared_with_images_and_outputs() -> None:
    images = np.zeros((2, 1, 6, 6), np.uint8)
    with pytest.raises(ShapeError, match="targets: expected 2, one for each image, found 3"):
        small().loss_and_gradients(images, np.zeros(3, int), SoftmaxCrossEntropy())
    with pytest.raises(ShapeError, match="expected classes 0 to 2, one for each output, found 0 to 3"):
        small().loss_and_gradients(images, np.array([0, 3]), SoftmaxCrossEntropy())
