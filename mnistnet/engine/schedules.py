"""Learning-rate schedules: a factor for each step of a training."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi

Schedule = Callable[[float], float]
"""From the progress of the training in [0, 1) to a factor of the learning rate."""


def constant(progress: float) -> float:  # noqa: ARG001
    """Always 1."""
    return 1.0


def cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, eq. 5, without restarts)."""
    return 0.5 * (1.0 + cos(pi * progress))


SCHEDULES: dict[str, Schedule] = {"constant": constant, "cosine": cosine}
"""Every schedule by name."""
