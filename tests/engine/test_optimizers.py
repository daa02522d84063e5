"""Three steps of every rule by hand, and fifty as PyTorch takes them."""

import json
import re
from itertools import pairwise
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.optimizers import OPTIMIZERS, SGD, Adam, AdamW, Optimizer
from mnistnet.errors import UsageError

PYTORCH = json.loads((Path(__file__).parent / "pytorch_values.json").read_text(encoding="utf-8"))
RULES = [
    SGD(),
    SGD(0.0, 1e-3),
    SGD(0.9),
    SGD(0.9, 1e-3),
    SGD(0.9, nesterov=True),
    SGD(0.9, 1e-3, nesterov=True),
    Adam(),
    Adam(weight_decay=1e-3),
    AdamW(),
]


def steps(rule: Optimizer, start, gradients, rates, dtype=np.float64):
    """The parameters after each step."""
    parameters = np.array(start, dtype)
    gradient = np.empty_like(parameters)
    state = {name: np.zeros_like(parameters) for name in rule.state_names}
    factors = np.zeros(rule.factor_count, dtype)
    calls = rule.bind(parameters, gradient, state, factors)
    history = []
    for number, (g, rate) in enumerate(zip(gradients, rates, strict=True), 1):
        gradient[...] = g
        factors[...] = rule.factors(number, rate)
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
    for call in SGD(momentum=0.5).bind(parameters, np.array([1.0]), {"velocity": velocity}, np.array([0.5])):
        call()
    assert_array_equal(velocity, [5])  # 0.5 x 8 + 1
    assert_array_equal(parameters, [-1.5])


def test_nesterov_by_hand():
    history = steps(SGD(momentum=0.5, nesterov=True), START, GRADIENTS, RATES)
    # velocities 4, 0, 1 and 1, 0.5, 8.25 as above; g + v / 2: 6, -2, 1.5 and 1.5, 0.25, 12.125
    assert_array_equal(history, [[-2, -2.75], [-1.5, -2.8125], [-2.25, -8.875]])


def test_the_first_steps_of_adam_by_hand():
    """Kingma and Ba, algorithm 1, for one parameter with gradients 3 and 1."""
    history = steps(Adam(beta1=0.5, beta2=0.75, epsilon=0.5), [2.0], [[3.0], [1.0]], [0.5, 0.25])
    first = 2.0 - 0.5 * 3 / (3 + 0.5)  # corrected for its bias, the first mean is the gradient itself
    # m 1.5, then 0.75 + 0.5 = 1.25, by 1 - 1/4; v 9/4, then 27/16 + 1/4 = 31/16, by 1 - 9/16
    second = first - 0.25 * (1.25 / 0.75) / (sqrt(31 / 7) + 0.5)
    assert_allclose(history, [[first], [second]], rtol=1e-15)


def test_adam_keeps_sums():
    first, second = np.array([2.0]), np.array([8.0])
    rule = Adam(beta1=0.5, beta2=0.75)
    state = {"first_moment": first, "second_moment": second}
    assert rule.state_names == tuple(state)
    for call in rule.bind(np.array([0.0]), np.array([3.0]), state, np.ones(2)):
        call()
    assert (first, second) == (4, 15)  # 2 / 2 + 3, 8 x 3/4 + 3 x 3


def test_decoupled_decay_by_hand():
    """Without a gradient AdamW only shrinks the weights; Adam's decay is a gradient, of which it takes 1."""
    zeros = [[0.0]] * 3
    assert_array_equal(steps(AdamW(weight_decay=0.5), [8.0], zeros, RATES), [[6.0], [5.25], [3.9375]])
    moved = steps(Adam(weight_decay=0.5), [8.0], zeros[:1], [0.5])
    assert_allclose(moved, [[7.5]], rtol=1e-8)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", PYTORCH["rules"], ids=lambda case: f"{case['name']}-{case['settings']}")
def test_fifty_steps_are_those_of_pytorch(case, dtype):
    rule = OPTIMIZERS[case["name"]](**case["settings"])
    history = steps(rule, PYTORCH["start"], PYTORCH["gradients"], PYTORCH["rates"], dtype)
    found = [history[step - 1] for step in PYTORCH["shown"]]
    tolerance = 1e-6 if dtype == "float32" else 1e-14
    assert_allclose(found, case[dtype], rtol=tolerance, atol=tolerance)


def test_pytorch_took_every_rule_with_and_without_decay():
    settings = [(case["name"], case["settings"]) for case in PYTORCH["rules"]]
    assert {name for name, _ in settings} == set(OPTIMIZERS)
    assert len({name for name, found in settings if found["weight_decay"]}) == len(OPTIMIZERS)


@pytest.mark.parametrize("rule", RULES, ids=str)
@given(
    cuts=st.lists(st.integers(0, 37), max_size=4).map(sorted),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_slices_give_the_bits_of_the_whole(rule, cuts, dtype):
    """Each worker updates its own slice of the parameters."""
    rng = np.random.default_rng(0)
    start, gradients = rng.standard_normal(37), rng.standard_normal((5, 37))
    rates = [0.1, 0.1, 0.05, 0.01, 0.0]
    whole = steps(rule, start, gradients, rates, dtype)
    parts = [
        steps(rule, start[first:last], gradients[:, first:last], rates, dtype)
        for first, last in pairwise([0, *cuts, 37])
    ]
    assert_array_equal(np.concatenate(parts, axis=1), whole, strict=True)
    assert whole[0].dtype == dtype


@pytest.mark.parametrize("rule", RULES, ids=str)
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
    ("rule", "options", "message"),
    [
        (SGD, {"momentum": 1.0}, "--momentum: must be >= 0 and < 1, found 1.0"),
        (SGD, {"momentum": -0.1}, "--momentum: must be >= 0 and < 1, found -0.1"),
        (SGD, {"momentum": float("nan")}, "--momentum: must be >= 0 and < 1, found nan"),
        (SGD, {"momentum": float("inf")}, "--momentum: must be >= 0 and < 1, found inf"),
        (SGD, {"weight_decay": -1e-4}, "--weight-decay: must be finite and >= 0, found -0.0001"),
        (SGD, {"weight_decay": float("inf")}, "--weight-decay: must be finite and >= 0, found inf"),
        (SGD, {"weight_decay": float("nan")}, "--weight-decay: must be finite and >= 0, found nan"),
        (SGD, {"nesterov": True}, "--momentum: must be > 0 with Nesterov's rule, found 0.0"),
        (Adam, {"beta1": 1.0}, "--beta1: must be >= 0 and < 1, found 1.0"),
        (Adam, {"beta2": -0.5}, "--beta2: must be >= 0 and < 1, found -0.5"),
        (Adam, {"epsilon": 0.0}, "--epsilon: must be finite and > 0, found 0.0"),
        (AdamW, {"weight_decay": -1.0}, "--weight-decay: must be finite and >= 0, found -1.0"),
    ],
)
def test_settings_out_of_range(rule, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        rule(**options)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_config_makes_the_same_rule_again(rule):
    assert OPTIMIZERS[rule.name](**json.loads(json.dumps(rule.config()))) == rule


def test_config_names_the_settings():
    assert SGD(0.9, 1e-3).config() == {"momentum": 0.9, "weight_decay": 1e-3, "nesterov": False}
    assert AdamW().config() == {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8, "weight_decay": 0.01}
