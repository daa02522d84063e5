"""How far a training has come: the share of it that is done, which the learning-rate schedule follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

MEASUREMENTS = 100
"""How often, about, a budget's speed is measured."""


class Pace(ABC):
    """Says before every step how far the training is; steps are counted from 0 over all epochs."""

    @abstractmethod
    def progress(self, step: int) -> float:
        """Share of the training that is done before ``step``, in [0, 1]. Asked for each step in turn."""

    @abstractmethod
    def is_over(self, step: int) -> bool:
        """Whether ``step`` is no longer part of the training."""


@dataclass(frozen=True)
class Counted(Pace):
    """A training of a known number of steps."""

    total: int

    def progress(self, step: int) -> float:
        """``step / total``."""
        return step / self.total

    def is_over(self, step: int) -> bool:
        """After the last step."""
        return step >= self.total


@dataclass(frozen=True)
class Leg:
    """A stretch of a timed training: from ``step`` on, progress grows by ``rate`` a step."""

    step: int
    progress: float
    rate: float

    def at(self, step: int) -> float:
        """Progress before ``step``, at most 1."""
        return min(1.0, self.progress + (step - self.step) * self.rate)


@dataclass
class Timed(Pace):
    """A training that ends when its time is up.

    Every hundredth of the budget the clock is read, and from there on progress grows evenly towards the step
    at which the time will be up: so the schedule ends on time, and the legs are all that a replay needs
    to give every step the same learning rate.

    Args:
        budget: seconds.
        legs: of a training that is taken up again: its time counts as spent.
        first: the step at which the time begins, where there are no legs.
        clock: seconds from any origin.
    """

    budget: float
    legs: list[Leg] = field(default_factory=list)
    first: int = 0
    clock: Callable[[], float] = monotonic

    def __post_init__(self) -> None:
        self.legs = list(self.legs) or [Leg(self.first, 0.0, 0.0)]
        last = self.legs[-1]
        self._began = self.clock() - last.progress * self.budget
        self._next = last.step + 1

    def progress(self, step: int) -> float:
        """As the last measurement foretold it."""
        if step >= self._next:
            self._measure(step)
        return _progress(self.legs, step)

    def is_over(self, step: int) -> bool:
        """When the time is up."""
        return self.progress(step) >= 1.0

    def _measure(self, step: int) -> None:
        done = min(1.0, max(1e-9, (self.clock() - self._began) / self.budget))
        taken = step - self.legs[0].step
        left = taken * (1.0 - done) / done  # steps, at the speed there was so far
        # never backwards, where it was faster than foretold
        progress = max(done, _progress(self.legs, step))
        self.legs.append(Leg(step, progress, (1.0 - progress) / left if left else 0.0))
        self._next = step + max(1, round((taken + left) / MEASUREMENTS))


@dataclass(frozen=True)
class Replayed(Pace):
    """A timed training once more, without a clock: the same progress before every step."""

    legs: Sequence[Leg]
    total: int
    """Its number of steps."""

    def progress(self, step: int) -> float:
        """As it was."""
        return _progress(self.legs, step)

    def is_over(self, step: int) -> bool:
        """After the last step."""
        return step >= self.total


def _progress(legs: Sequence[Leg], step: int) -> float:
    """On the last leg that has begun."""
    return next((leg.at(step) for leg in reversed(legs) if leg.step <= step), 0.0)
