"""Measuring who is faster: interleaved rounds, medians and their spread."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeVar

T = TypeVar("T")


def flat(lists: Iterable[Iterable[T]]) -> list[T]:
    """All values of all lists."""
    return list(chain.from_iterable(lists))


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which ``share`` (in [0, 1]) of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def summary(values: Sequence[float]) -> dict[str, float]:
    """Median, 10th and 90th percentile of seconds, and how many there are."""
    return {
        "median": statistics.median(values),
        "p10": percentile(values, 0.1),
        "p90": percentile(values, 0.9),
        "count": len(values),
    }


def in_turn(
    contestants: Mapping[str, Callable[[], list[float]]], rounds: int
) -> dict[str, list[list[float]]]:
    """Let every contestant do its part of each round, beginning with another one every time.

    Returns:
        For each contestant a list of seconds for every round.
    """
    names = list(contestants)
    found: dict[str, list[list[float]]] = {name: [] for name in names}
    for number in range(rounds):
        start = number % len(names)
        for name in names[start:] + names[:start]:
            found[name].append(contestants[name]())
    return found


def ratio(theirs: list[list[float]], ours: list[list[float]]) -> dict[str, float]:
    """Their median over ours, and the spread of that ratio over the rounds."""
    by_round = [statistics.median(t) / statistics.median(o) for t, o in zip(theirs, ours, strict=True)]
    overall = statistics.median(flat(theirs)) / statistics.median(flat(ours))
    return {"median": overall, "p10": percentile(by_round, 0.1), "p90": percentile(by_round, 0.9)}


def repeat(action: Callable[[], Any], seconds: float, least: int = 3) -> list[float]:
    """Seconds of each call, calling for about so long, after one call that is not counted."""
    action()
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < least or time.perf_counter() < end:
        started = time.perf_counter()
        action()
        times.append(time.perf_counter() - started)
    return times
