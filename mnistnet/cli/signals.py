"""What signals do: nothing is left half done, whenever they come."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator

PIPE_CLOSED = 141
"""The exit code of a training whose reader has gone, as a shell has it for SIGPIPE: 128 + 13."""


def end_in_order() -> None:
    """From now on SIGTERM and SIGHUP end the process as Ctrl-C does: by way of all that clears up."""

    def leave(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    with contextlib.suppress(ValueError):  # not in the main thread, where there are no signals
        for number in _numbers():
            if signal.getsignal(number) == signal.SIG_DFL:  # SIGHUP is ignored after nohup
                signal.signal(number, leave)


def _numbers() -> list[int]:
    # SIGHUP is not on Windows, and SIGBREAK, which comes when a console is closed, only there
    names = ("SIGTERM", "SIGHUP", "SIGBREAK")
    return [getattr(signal, name) for name in names if hasattr(signal, name)]


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[], int]]:
    """Within this, SIGINT, SIGTERM and SIGHUP ask to stop at the next step; a second one stops at once."""
    received: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
        received.append(number)

    numbers = [signal.SIGINT, *(n for n in _numbers() if signal.getsignal(n) != signal.SIG_IGN)]
    older = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in older.items():
            signal.signal(number, handler)
