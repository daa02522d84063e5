"""SIGINT and SIGTERM while work is under way."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Within this, SIGINT, SIGTERM and SIGHUP ask to stop at the next step; a second one stops at once."""
    received: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        received.append(number)

    numbers = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as nohup sets it
        numbers.append(signal.SIGHUP)
    older = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in older.items():
            signal.signal(number, handler)
