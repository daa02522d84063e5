"""Settings of the whole process that hold as long as somebody needs them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager


class Held(AbstractContextManager[None]):
    """The first one in changes a setting, the last one out changes it back: reentrant, shared by all threads.

    Args:
        change: changes it, and returns what changes it back.
    """

    def __init__(self, change: Callable[[], Callable[[], object]]) -> None:
        self._change = change
        self._lock = threading.Lock()
        self._inside = 0
        self._change_back: Callable[[], object]

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._change_back = self._change()
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if not self._inside:
                self._change_back()


def _switch_soon() -> Callable[[], object]:
    before = sys.getswitchinterval()
    if before > SWITCH_INTERVAL:
        sys.setswitchinterval(SWITCH_INTERVAL)
    return lambda: sys.setswitchinterval(before) if before > SWITCH_INTERVAL else None


SWITCH_INTERVAL = 1e-4  # seconds; less gains nothing

quick_switching = Held(_switch_soon)
"""While several threads compute: whoever waits for the interpreter lock gets it soon.

The one that has it gives it up for each operator, but takes it again before the other has awoken, until that
one has waited for Python's switch interval, 5 ms: as long as a thousand images take. With a shorter interval
lenet takes 43 instead of 47 ms for 10,000 images on two threads, rsnet 19 instead of 22.
"""
