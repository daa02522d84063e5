"""Learning-rate schedules at the points where their values are known, and as PyTorch has them."""

import json
import re
from math import sqrt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnistnet.engine.schedules import SCHEDULES, WARMUP_START, Constant, Cosine, OneCycle, Step
from mnistnet.errors import UsageError

VALUES = Path(__file__).parent / "pytorch_values.json"
PYTORCH = json.loads(VALUES.read_text(encoding="utf-8"))["schedules"]


@pytest.mark.parametrize("case", PYTORCH, ids=lambda case: f"{case['name']}-{case['settings']}")
def test_fifty_steps_are_those_of_pytorch(case):
    schedule = SCHEDULES[case["name"]](**case["settings"])
    assert [schedule(step / 50) for step in range(51)] == pytest.approx(case["factors"], rel=1e-12, abs=1e-15)


def test_pytorch_took_every_schedule():
    assert {case["name"] for case in PYTORCH} == set(SCHEDULES)


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.999])
def test_constant(progress):
    assert Constant()(progress) == 1.0


@pytest.mark.parametrize(
    ("progress", "factor"),
    [
        (0.0, 1.0),
        (1 / 4, (1 + sqrt(2) / 2) / 2),
        (1 / 3, 0.75),  # cos 60 degrees is 1/2
        (0.5, 0.5),
        (2 / 3, 0.25),
        (1.0, 0.0),
    ],
)
def test_cosine(progress, factor):
    assert Cosine()(progress) == pytest.approx(factor, abs=1e-15)


def test_cosine_falls_from_one_towards_zero_and_stays_positive():
    values = [Cosine()(i / 1000) for i in range(1000)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 1000
    # near the end (pi (1 - t))^2 / 4
    assert values[-1] == pytest.approx(9.8696 / 4 * 1e-6, rel=1e-3)


def test_step_falls_where_a_third_has_passed():
    schedule = Step(gamma=0.5)
    assert [schedule(step / 9) for step in range(9)] == [1, 1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.25]
    assert Step(at=())(0.9) == 1


def test_one_cycle_by_hand():
    schedule = OneCycle(peak=0.5, start_divisor=10.0, end_divisor=100.0)
    # half-way along half a cosine is the mean of its ends
    expected = [0.1, (0.1 + 1) / 2, 1.0, (1 + 0.001) / 2, 0.001]
    assert [schedule(quarter / 4) for quarter in range(5)] == pytest.approx(expected)


def test_warm_up_climbs_to_the_start_of_the_curve():
    assert WARMUP_START == 0.1
    schedule = Cosine(warmup=0.5)
    expected = [0.1, 0.55, 1.0, 0.5, 0.0]  # half-way up: (0.1 + 1) / 2
    assert [schedule(quarter / 4) for quarter in range(5)] == pytest.approx(expected, abs=1e-15)
    assert OneCycle(warmup=0.5)(0.25) == pytest.approx(0.55 / 25)


@pytest.mark.parametrize("kind", SCHEDULES.values())
@given(progress=st.floats(0, 1), warmup=st.floats(0, 0.99))
def test_factors_are_shares(kind, progress, warmup):
    assert 0 <= kind(warmup=warmup)(progress) <= 1
    assert kind()(progress) == kind().curve(progress)


@pytest.mark.parametrize(
    "schedule", [Constant(), Step(gamma=0.5, at=(0.5,)), Cosine(warmup=0.1), OneCycle(peak=0.4)], ids=str
)
def test_config_makes_the_same_schedule_again(schedule):
    assert SCHEDULES[schedule.name](**json.loads(json.dumps(schedule.config()))) == schedule


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (Constant, {"warmup": 1.0}, "--warmup: must be >= 0 and < 1, found 1.0"),
        (OneCycle, {"warmup": 1.0}, "--warmup: must be >= 0 and < 1, found 1.0"),
        (Step, {"warmup": -0.5}, "--warmup: must be >= 0 and < 1, found -0.5"),
        (Step, {"gamma": 0.0}, "--lr-gamma: must be > 0 and <= 1, found 0.0"),
        (Step, {"at": (0.5, 1.0)}, "--lr-steps: must be > 0 and < 1, found 1.0"),
        (OneCycle, {"peak": 0.0}, "--lr-peak: must be > 0 and < 1, found 0.0"),
        (OneCycle, {"start_divisor": 0.5}, "start divisor: must be finite and >= 1, found 0.5"),
        (OneCycle, {"end_divisor": float("inf")}, "end divisor: must be finite and >= 1, found inf"),
    ],
)
def test_settings_out_of_range(kind, options, message):
    with pytest.raises(UsageError, match=f"^{re.escape(message)}$"):
        kind(**options)
