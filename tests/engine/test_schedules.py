"""Learning-rate schedules at the points where their values are known."""

from math import sqrt

import pytest

from mnistnet.engine.schedules import SCHEDULES, constant, cosine


@pytest.mark.parametrize("progress", [0.0, 0.25, 0.5, 0.999])
def test_constant(progress):
    assert constant(progress) == 1.0


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
    assert cosine(progress) == pytest.approx(factor, abs=1e-15)


def test_cosine_falls_from_one_towards_zero_and_stays_positive():
    values = [cosine(i / 1000) for i in range(1000)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) == 1000
    # near the end (pi (1 - t))^2 / 4
    assert values[-1] == pytest.approx(9.8696 / 4 * 1e-6, rel=1e-3)


def test_names():
    assert SCHEDULES["constant"] is constant
    assert SCHEDULES["cosine"] is cosine
