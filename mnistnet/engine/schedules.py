"""Learning-rate schedules: a factor for each moment of a training, of which only the progress counts."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass
from math import cos, isfinite, pi
from typing import Any, ClassVar

from mnistnet.errors import UsageError

WARMUP_START = 0.1
"""Where a warm-up begins, as a share of where it ends; at 0 the first step would do nothing."""


@dataclass(frozen=True, kw_only=True)
class Schedule(ABC):
    """A curve over a training, after a warm-up where that is not 0; its init fields are its config.

    The warm-up climbs linearly from a tenth of the curve's start to the start itself (Goyal et al. 2017,
    section 2.2); the whole curve follows in what is left of the training.

    Raises:
        UsageError: warmup is not in [0, 1).
    """

    warmup: float = 0.0
    """Share of the training, in [0, 1)."""
    name: ClassVar[str]

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1:
            raise UsageError(f"--warmup: must be >= 0 and < 1, found {self.warmup}")

    def __call__(self, progress: float) -> float:
        """The factor of the learning rate.

        Args:
            progress: share of the training that is done before the step, in [0, 1].
        """
        if progress < self.warmup:
            return (WARMUP_START + (1.0 - WARMUP_START) * progress / self.warmup) * self.curve(0.0)
        return self.curve((progress - self.warmup) / (1.0 - self.warmup))

    @abstractmethod
    def curve(self, progress: float) -> float:
        """The factor without warm-up."""

    def config(self) -> dict[str, Any]:
        """The schedule's settings by name."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Constant(Schedule):
    """Always 1."""

    name = "constant"

    def curve(self, progress: float) -> float:  # noqa: ARG002
        """1."""
        return 1.0


@dataclass(frozen=True, kw_only=True)
class Step(Schedule):
    """Falls to ``gamma`` times what it was at each of some moments.

    Raises:
        UsageError: gamma is not in (0, 1], or a moment is not in (0, 1).
    """

    gamma: float = 0.1
    at: tuple[float, ...] = (1 / 3, 2 / 3)
    """Progress at each fall."""
    name = "step"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "at", tuple(self.at))  # files have lists
        if not 0 < self.gamma <= 1:
            raise UsageError(f"--lr-gamma: must be > 0 and <= 1, found {self.gamma}")
        for moment in self.at:
            if not 0 < moment < 1:
                raise UsageError(f"--lr-steps: must be > 0 and < 1, found {moment}")

    def curve(self, progress: float) -> float:
        """``gamma`` to the number of moments that have come."""
        return self.gamma ** sum(progress >= moment for moment in self.at)


@dataclass(frozen=True, kw_only=True)
class Cosine(Schedule):
    """Half a cosine from 1 to 0 (Loshchilov and Hutter 2017, eq. 5, without restarts)."""

    name = "cosine"

    def curve(self, progress: float) -> float:
        """``(1 + cos(pi progress)) / 2``."""
        return _half_cosine(1.0, 0.0, progress)


@dataclass(frozen=True, kw_only=True)
class OneCycle(Schedule):
    """Up to 1, then down to next to nothing (Smith and Topin 2018), along half cosines as PyTorch has it.

    The momentum, which the paper lets swing the other way, stays as it is.

    Raises:
        UsageError: the peak is not in (0, 1), or a divisor is not finite or below 1.
    """

    peak: float = 0.3
    """Progress at which the factor is 1."""
    start_divisor: float = 25.0
    """1 by the first factor."""
    end_divisor: float = 1e4
    """The first factor by the last."""
    name = "one-cycle"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.peak < 1:
            raise UsageError(f"--lr-peak: must be > 0 and < 1, found {self.peak}")
        for flag, value in (
            ("start divisor", self.start_divisor),
            ("end divisor", self.end_divisor),
        ):
            if not (isfinite(value) and value >= 1):
                raise UsageError(f"{flag}: must be finite and >= 1, found {value}")

    def curve(self, progress: float) -> float:
        """Half a cosine to the peak, half a cosine from there."""
        start = 1.0 / self.start_divisor
        if progress < self.peak:
            return _half_cosine(start, 1.0, progress / self.peak)
        return _half_cosine(1.0, start / self.end_divisor, (progress - self.peak) / (1.0 - self.peak))


SCHEDULES: dict[str, type[Schedule]] = {kind.name: kind for kind in (Constant, Step, Cosine, OneCycle)}
"""Every schedule by name."""


def _half_cosine(start: float, end: float, progress: float) -> float:
    return end + 0.5 * (start - end) * (1.0 + cos(pi * progress))
