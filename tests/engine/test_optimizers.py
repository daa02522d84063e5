"""Stochastic gradient descent, three steps of it by hand."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.optimizers import OPTIMIZERS, SGD
from mnistnet.errors import UsageError


def steps(rule: SGD, start, gradients, rates, dtype=np.float64):
    """The parameters after each step."""
    parameters = np.array(start, dtype)
    gradient = np.empty_like(parameters)
    state = {name: np.zeros_like(parameters) for name in rule.state_names}
    rate = np.zeros((), dtype)
    calls = rule.bind(parameters, gradient, state, rate)
    history = []
    for g, value in zip(gradients, rates, strict=True):
        gradient[...] = g
        rate[...] = value
        for call in calls:
            call()
        history.append(parameters.copy())
    return history


# numbers that are exact in binary, so that hand and machine agree to the bit
START = [1.0, -2.0]
GRADIENTS = [[4.0, 1.0], [-2.0, 0.0], [1.0, 8.0]]
RATES = [0.5, 0.25, 0.5]


def test_plain_by_hand():
    history = steps(SGD(), START, GRADIENTS, RATES)
    # 1 - 0.5 x 4; -1 + 0.25 x 2; -0.5 - 0.5 x 1  and  -2 - 0.5; -2.5; -2.5 - 0.5 x 8
    assert_array_equal(history, [[-1, -2.5], [-0.5, -2.5], [-1, -6.5]])


def test_momentum_by_hand():
    history = steps(SGD(momentum=0.5), START, GRADIENTS, RATES)
    # velocities 4, 0.5 x 4 - 2 = 0, 0 + 1  and  1, 0.5, 0.25 + 8
    # 1 - 0.5 x 4; -1 - 0; -1 - 0.5  and  -2 - 0.5; -2.5 - 0.25 x 0.5; -2.625 - 0.5 x 8.25
    assert_array_equal(history, [[-1, -2.5], [-1, -2.625], [-1.5, -6.75]])


def test_weight_decay_by_hand():
    history = steps(SGD(weight_decay=0.25), START, GRADIENTS, RATES)
    # g + w / 4: 4.25, -2 - 1.125 / 4 = -2.28125, 1 - 0.5546875 / 4  and  0.5, -2.25 / 4, 8 - 2.109375 / 4
    first = [1 - 0.5 * 4.25, -2 - 0.5 * 0.5]
    second = [-1.125 + 0.25 * 2.28125, -2.25 + 0.25 * 0.5625]
    third = [-0.5546875 - 0.5 * 0.861328125, -2.109375 - 0.5 * 7.47265625]
    assert second == [-0.5546875, -2.109375]
    assert_array_equal(history, [first, second, third])


def test_weight_decay_enters_the_velocity():
    """As PyTorch has it: v = m v + (g + d w), w -= rate v."""
    history = steps(SGD(momentum=0.5, weight_decay=0.25), [1.0], [[4.0], [-2.0], [1.0]], [0.5, 0.25, 0.5])
    # v 4.25; 2.125 - 2 - 1.125 / 4 = -0.15625; -0.078125 + 1 - 1.0859375 / 4 = 0.650390625
    assert_array_equal(history, [[-1.125], [-1.0859375], [-1.4111328125]])


def test_the_velocity_is_what_is_kept():
    assert SGD().state_names == ()
    assert SGD(weight_decay=0.1).state_names == ()
    assert SGD(momentum=0.9).state_names == ("velocity",)
    velocity = np.array([8.0])
    parameters = np.array([1.0])
    for call in SGD(momentum=0.5).bind(parameters, np.array([1.0]), {"velocity": velocity}, np.array(0.5)):
        call()
    assert_array_equal(velocity, [5])  # 0.5 x 8 + 1
    assert_array_equal(parameters, [-1.5])


@pytest.mark.parametrize("rule", [SGD(), SGD(0.9), SGD(0.9, 1e-3), SGD(0.0, 1e-3)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_slices_give_the_bits_of_the_whole(rule, dtype):
    """Each worker updates its own slice of the parameters."""
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(37), rng.standard_normal((5, 37))
    rates = [0.1, 0.1, 0.05, 0.01, 0.0]
    whole = steps(rule, start, gradients, rates, dtype)
    parts = [
        steps(rule, start[part], gradients[:, part], rates, dtype)
        for part in (slice(0, 16), slice(16, 17), slice(17, 37), slice(5, 5))
    ]
    assert_array_equal(np.concatenate(parts, axis=1), whole, strict=True)
    assert whole[0].dtype == dtype


@pytest.mark.parametrize("rule", [SGD(), SGD(0.9, 1e-2)], ids=str)
def test_a_rate_of_zero_changes_nothing(rule):
    assert_array_equal(steps(rule, START, GRADIENTS, [0, 0, 0])[-1], START)


def test_momentum_makes_float32_steps_that_follow_the_formula():
    rng = np.random.default_rng(1)
    start, gradients = rng.standard_normal(50), rng.standard_normal((20, 50))
    w, v = start.copy(), np.zeros(50)
    for g in gradients:
        v = 0.9 * v + (g + 1e-4 * w)
        w = w - 0.05 * v
    found = steps(SGD(0.9, 1e-4), start, gradients, [0.05] * 20, np.float32)[-1]
    assert_allclose(found, w, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"momentum": 1.0}, "momentum: must be >= 0 and < 1, found 1.0"),
        ({"momentum": -0.1}, "momentum: must be >= 0 and < 1, found -0.1"),
        ({"momentum": float("nan")}, "momentum: must be >= 0 and < 1, found nan"),
        ({"momentum": float("inf")}, "momentum: must be >= 0 and < 1, found inf"),
        ({"weight_decay": -1e-4}, "weight decay: must be finite and >= 0, found -0.0001"),
        ({"weight_decay": float("inf")}, "weight decay: must be finite and >= 0, found inf"),
        ({"weight_decay": float("nan")}, "weight decay: must be finite and >= 0, found nan"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        SGD(**options)


def test_config_makes_the_same_rule_again():
    rule = SGD(0.9, 1e-3)
    assert rule.config() == {"momentum": 0.9, "weight_decay": 1e-3}
    assert OPTIMIZERS[rule.name](**rule.config()) == rule
