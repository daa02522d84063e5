"""Batch normalization: by hand, against the naive loops, at its edges, and its statistics in a training."""

import engine_naive as naive
import numpy as np
import pytest
from engine_probes import WeightedSum, run_layers
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.layers import BatchNorm, Conv2d, Dense, Dropout, Flatten, ReLU, Softmax
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.minibatch import AVERAGE, Minibatches
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import SGD
from mnistnet.engine.plan import Plan

NAMES = ("weight", "bias", "running_mean", "running_var")


def trained(layer: BatchNorm, x, dy, weight, bias):
    """y, dx, dweight, dbias, measured mean and variance of one training pass."""
    network = Network([layer], x.shape[1:], x.dtype)
    network.parameters()["0.weight"][...] = weight
    network.parameters()["0.bias"][...] = bias
    measured = np.full_like(network.vector, np.nan)
    loss = WeightedSum(dy)
    plan = Plan(network.blueprint(), len(x), loss=loss, gradients=network.views(measured))
    plan.load(x.reshape(len(x), -1), slice(None))
    plan.run()
    found = run_layers([layer], x, dy, {"0.weight": weight, "0.bias": bias})
    y = np.moveaxis(loss.outputs, -1, 0)
    return y if y.ndim == 2 else y.transpose(0, 2, 1, 3), found.dx, *network.parameters(measured).values()


def test_by_hand():
    x = np.array([[1.0, 7.0], [5.0, 7.0]])
    dy = np.array([[9.0, 1.0], [0.0, 3.0]])
    weight, bias = np.array([3.0, 9.0]), np.array([10.0, 0.5])
    y, dx, d_weight, d_bias, mean, variance = trained(BatchNorm(epsilon=1.0), x, dy, weight, bias)
    # mean 3, biased variance 4, deviation sqrt(5); then no variance, deviation 1
    root = np.sqrt(5)
    assert_allclose(y, [[10 - 6 / root, 0.5], [10 + 6 / root, 0.5]], rtol=1e-14)
    assert_allclose(d_weight, [-18 / root, 0], rtol=1e-14)
    assert_array_equal(d_bias, [9, 4])
    # 3 / root times 9 - 9/2 - (-2 / root)(-18 / root) / 2 = 0.9; 9 times 1 - 2
    assert_allclose(dx, [[2.7 / root, -9], [-2.7 / root, 9]], rtol=1e-13)
    assert_array_equal(mean, [3, 7])
    assert_array_equal(variance, [8, 0])  # over 2 - 1


@st.composite
def shards(draw: st.DrawFn):
    n, k = draw(st.integers(1, 33)), draw(st.integers(1, 40))
    if draw(st.booleans()):
        return (n, k)
    return (n, k, draw(st.integers(1, 6)), draw(st.integers(1, 6)))


@given(shards(), st.sampled_from([1e-5, 0.3]), st.sampled_from([np.float32, np.float64]))
def test_is_the_naive_loop(shape, epsilon, dtype):
    rng = np.random.default_rng(shape[0])
    x, dy = rng.standard_normal((2, *shape)).astype(dtype)
    weight, bias = rng.standard_normal((2, shape[1])).astype(dtype)
    y, dx, d_weight, d_bias, mean, variance = trained(BatchNorm(epsilon), x, dy, weight, bias)
    # few values of a channel may lie so close together that rounding is magnified
    loose = {"rtol": 2e-3, "atol": 2e-3} if dtype == np.float32 else {"rtol": 1e-9, "atol": 1e-9}
    assert_allclose(y, naive.batch_norm(x, weight, bias, epsilon), **loose)
    expected = naive.batch_norm_backward(x, weight, dy, epsilon)
    for found, value in zip((dx, d_weight, d_bias), expected, strict=True):
        assert_allclose(found, value, **loose)
    axes = (0, *range(2, x.ndim))
    assert_allclose(mean, x.mean(axes), rtol=1e-4, atol=1e-5)
    count = x.size // shape[1]
    unbiased = x.var(axes, dtype=np.float64) * count / max(1, count - 1)
    assert_allclose(variance, unbiased, rtol=1e-4, atol=1e-6)


def test_a_mean_far_from_zero_does_not_spoil_the_variance():
    """The mean of the squares minus the square of the mean would: float32 has 7 digits."""
    x = (1e3 + np.random.default_rng(0).standard_normal((8, 1, 9, 9))).astype(np.float32)
    y, *_ = trained(BatchNorm(), x, np.zeros_like(x), np.float32(1), np.float32(0))
    assert y.mean() == pytest.approx(0, abs=1e-3)
    assert y.std() == pytest.approx(1, rel=1e-3)


@pytest.mark.parametrize("shape", [(1, 3), (1, 2, 1, 1)])
def test_a_single_number_becomes_the_bias(shape):
    x = np.full(shape, 5.0, np.float32)
    y, dx, d_weight, d_bias, mean, variance = trained(BatchNorm(), x, np.ones_like(x), 2.0, 0.25)
    assert_array_equal(y, np.full(shape, 0.25))
    assert_array_equal(dx, np.zeros(shape))
    for found, value in ((d_weight, 0), (d_bias, 1), (mean, 5), (variance, 0)):
        assert_array_equal(found, np.full(shape[1], value))


@pytest.mark.parametrize("shape", [(3, 4, 5), (6,)])
def test_inference_goes_by_the_running_statistics(shape):
    network = Network([BatchNorm(epsilon=0.5)], shape, np.float64)
    rng = np.random.default_rng(0)
    values = {name: rng.uniform(0.5, 2, shape[0]) for name in NAMES}
    for name, value in values.items():
        network.parameters()[f"0.{name}"][...] = value
    x = rng.standard_normal((70, *shape))
    weight, bias, mean, variance = (v.reshape(-1, *[1] * (len(shape) - 1)) for v in values.values())
    assert_allclose(
        network.predict(x), weight * (x - mean) / np.sqrt(variance + 0.5) + bias, rtol=1e-12, atol=1e-12
    )


def test_starts_as_nearly_nothing():
    network = Network([BatchNorm()], (2, 3, 3)).initialize(0)
    assert [v.tolist() for v in network.parameters().values()] == [[1, 1], [0, 0], [0, 0], [1, 1]]
    x = np.random.default_rng(0).standard_normal((4, 2, 3, 3)).astype(np.float32)
    assert_allclose(network.predict(x), x, rtol=1e-5)


def test_statistics_lie_behind_all_that_is_trained():
    network = Network([BatchNorm(momentum=0.25), Flatten(), Dense(3), BatchNorm()], (2, 1, 2))
    network.vector[...] = np.arange(network.size)
    found = {name: view.ravel().tolist() for name, view in network.parameters().items()}
    assert (network.trainable, network.size) == (2 * 2 + 4 * 3 + 3 + 2 * 3, 25 + 2 * 2 + 2 * 3)
    assert found["0.bias"] == [2, 3]
    assert found["2.weight"][0] == 4
    assert found["3.bias"] == [22, 23, 24]
    assert (found["0.running_mean"], found["0.running_var"]) == ([25, 26], [27, 28])
    assert found["3.running_var"] == [32, 33, 34]
    assert_allclose(network.momenta, [0.25] * 4 + [0.1] * 6, rtol=1e-7)
    assert list(found)[:5] == [*(f"0.{name}" for name in NAMES), "2.weight"]


def test_gradients_are_of_what_is_trained():
    network = Network([BatchNorm(), Softmax()], (3,)).initialize(0)
    _, gradients = network.loss_and_gradients(
        np.eye(3, dtype=np.float32), np.arange(3), WeightedSum(np.eye(3))
    )
    assert list(gradients) == ["0.weight", "0.bias"]


# in training: shards, workers, momentum

COUNT, SHARD = 80, 32


def start(workers: int = 1, momentum: float = 0.5, **settings) -> Minibatches:
    layers = [
        Conv2d(3, (5, 5)),
        BatchNorm(momentum=momentum),
        ReLU(),
        Flatten(),
        Dropout(0.5),
        Dense(10),
        BatchNorm(momentum=momentum),
        Softmax(),
    ]
    network = Network(layers, (1, 9, 9)).initialize(1)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, 1, 9, 9), dtype=np.uint8)
    return Minibatches(
        network,
        images,
        rng.integers(0, 10, COUNT),
        **{"loss": SoftmaxCrossEntropy(), "optimizer": SGD(0.9, 1e-3), "batch_size": COUNT, **settings},
        workers=workers,
    )


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.1, "average_decay": 0.9, "seed": 3}], ids=str)
def test_the_same_bits_with_any_number_of_workers(settings):
    found = []
    for workers in (1, 2, 3):
        with start(workers, **settings) as team:
            # shards of 32, 32 and 16 images; then of 32 and 8
            outcomes = [team.step(1, 0, 80, 0.1), team.step(2, 40, 40, 0.1), team.step(3, 0, 80, 0.1)]
            state = [vector.tobytes() for vector in team.state.values()]
        found.append((outcomes, state, team.network.vector.tobytes()))
    assert found[0] == found[1] == found[2]


def test_running_statistics_follow_the_mean_of_the_shards():
    with start(momentum=0.25, average_decay=0.5) as team:
        network = team.network
        conv = Network(network.layers[:1], (1, 9, 9))
        conv.vector[...] = network.vector[: conv.size]
        before = network.vector.copy()
        team.step(1, 0, COUNT, 0.1)
        images = team._arrays["rows"].reshape(COUNT, 1, 9, 9)
        values = conv.predict(images).astype(np.float64)
        parts = [values[i : i + SHARD] for i in (0, 32, 64)]
        mean = sum(len(part) * part.mean((0, 2, 3)) for part in parts) / COUNT
        variance = sum(
            len(part) * part.transpose(1, 0, 2, 3).reshape(3, -1).var(axis=1, ddof=1) for part in parts
        )
        found = network.parameters()
        assert_allclose(found["1.running_mean"], 0.25 * mean, rtol=1e-4, atol=1e-6)
        assert_allclose(found["1.running_var"], 0.75 + 0.25 * variance / COUNT, rtol=1e-4)
        average = team.state[AVERAGE]
        assert_allclose(average, before + 0.9 * (network.vector - before), rtol=1e-5, atol=1e-6)
        assert not team.state["velocity"][network.trainable :].any()


def test_training_ends_where_inference_begins():
    """After many steps at rate 0 the running statistics are those of the data."""
    with start(momentum=0.2, batch_size=COUNT) as team:
        for number in range(1, 60):
            team.step(number, 0, COUNT, 0.0)
        images = team._arrays["rows"].reshape(COUNT, 1, 9, 9)
        y = Network(team.network.layers[:2], (1, 9, 9))
        for name, view in y.parameters().items():
            view[...] = team.network.parameters()[name]
        normal = y.predict(images)
    assert_allclose(normal.mean((0, 2, 3)), 0, atol=0.02)
    assert_allclose(normal.std((0, 2, 3)), 1, atol=0.05)
