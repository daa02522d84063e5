"""Sine and Fourier features: by hand, their first values, and that training leaves the frequencies alone."""

import math

import numpy as np
import pytest
from engine_probes import run_layers
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.layers import Dense, FourierFeatures, Sigmoid, Sine, siren_bound
from mnistnet.engine.losses import MeanSquaredError
from mnistnet.engine.minibatch import AVERAGE, Minibatches
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import AdamW


def test_sine_is_the_formula():
    x = np.linspace(-9, 9, 301)[None]
    found = run_layers([Sine(2.5)], x, np.full_like(x, 3.0))
    assert_allclose(found.y[0], [math.sin(2.5 * v) for v in x[0]], rtol=1e-12, atol=1e-14)
    assert_allclose(found.dx[0], [7.5 * math.cos(2.5 * v) for v in x[0]], rtol=1e-12, atol=1e-14)


def test_fourier_features_by_hand():
    """Two waves of a point in the plane; a quarter, a half and a third of a turn."""
    frequencies = np.array([[math.pi / 2, 0.0], [math.pi / 2, math.pi / 3]])
    x, dy = np.array([[1.0, 0.0], [1.0, -0.5]]), np.array([[1.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])
    found = run_layers([FourierFeatures(2)], x, dy, {"0.frequencies": frequencies})
    assert_allclose(found.y, [[0, 0, 1, 1], [0, 0.5, 1, math.sqrt(0.75)]], atol=1e-15)
    # dz = dy_sin cos(z) - dy_cos sin(z), and dx = W^T dz
    first, second = np.array([-1.0, -2.0]), np.array([-1.0, 4 * 0.5 - 2 * math.sqrt(0.75)])
    assert_allclose(found.dx, [first @ frequencies, second @ frequencies], atol=1e-14)
    assert found.parameters == {}


def test_the_first_weights_of_a_siren():
    """Sitzmann et al. 2020, sec. 3.2: sines of whatever layer are spread alike, here over 20,000 points."""
    omega, width = 30.0, 256
    layers = [
        *(Dense(width, siren_bound(2, omega, first=True)), Sine(omega)),
        *(Dense(width, siren_bound(width, omega)), Sine(omega)),
        *(Dense(width, siren_bound(width, omega)), Sine(omega)),
    ]
    network = Network(layers, (2,)).initialize(3)
    first, second = network.parameters()["0.weight"], network.parameters()["2.weight"]
    assert 0.49 < np.abs(first).max() <= 0.5
    bound = math.sqrt(6 / width) / omega
    assert 0.99 * bound < np.abs(second).max() <= bound
    assert second.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert 0.9 / math.sqrt(2) < np.abs(network.parameters()["0.bias"]).max() <= 1 / math.sqrt(2)
    points = np.random.default_rng(0).uniform(-1, 1, (20_000, 2)).astype(np.float32)
    for depth in (2, 4, 6):
        sines = network.copy(depth).predict(points)
        # arcsine-distributed: the deviation is 1 / sqrt(2)
        assert sines.std() == pytest.approx(math.sqrt(0.5), rel=0.03), depth


def test_frequencies_are_normal_and_follow_from_the_seed():
    network = Network([FourierFeatures(5000, 2.0)], (3,)).initialize(1)
    frequencies = network.parameters()["0.frequencies"]
    assert frequencies.shape == (5000, 3)
    assert frequencies.std() == pytest.approx(2 * math.pi * 2.0, rel=0.02)
    assert abs(frequencies.mean()) < 5 * 4 * math.pi / math.sqrt(15_000)
    assert_array_equal(Network([FourierFeatures(5000, 2.0)], (3,)).initialize(1).vector, network.vector)
    assert network.trainable == 0


@pytest.mark.parametrize("workers", [1, 2])
def test_training_leaves_the_frequencies_as_they_were_drawn(workers):
    layers = [FourierFeatures(6, 1.5), Dense(8), Sine(1.0), Dense(1), Sigmoid()]
    network = Network(layers, (2,)).initialize(0)
    rng = np.random.default_rng(0)
    inputs = rng.uniform(-1, 1, (300, 2)).astype(np.float32)
    targets = rng.random((300, 1)).astype(np.float32)
    before = network.vector.copy()
    with Minibatches(
        network,
        inputs,
        targets,
        loss=MeanSquaredError(),
        optimizer=AdamW(weight_decay=0.1),
        batch_size=300,
        average_decay=0.9,
        workers=workers,
    ) as minibatches:
        for step in range(1, 6):
            minibatches.step(step, 0, 300, 0.01)
        average = minibatches.state[AVERAGE].copy()
    fixed = slice(network.trainable, None)
    assert network.size - network.trainable == 12
    assert_array_equal(network.vector[fixed], before[fixed], strict=True)
    assert_array_equal(average[fixed], before[fixed], strict=True)
    assert not np.any(network.vector[: network.trainable] == before[: network.trainable])
