"""The command line: the only place that prints or exits."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import NoReturn

__all__ = ["command", "main"]


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    try:
        from mnistnet.cli.app import main as run
    except KeyboardInterrupt:  # while Typer was loaded
        sys.exit(130)
    run()


def command() -> NoReturn:
    """`main` as all that its process does: it ends at once.

    To take every module apart first, as Python does, takes a seventh of the time in which ``mnistnet run``
    reads a picture. Whoever watches the interpreter, as a profiler does, sees it end as usual.
    """
    if sys.argv[1:2] in (["train"], ["reconstruct"]):
        # every product runs on one thread there, so NumPy need not start others
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        main()
    except SystemExit as stop:
        if _is_watched() or not isinstance(stop.code, int):
            raise
        code = stop.code
    atexit._run_exitfuncs()  # noqa: SLF001 (it has no public name)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):  # said already, or closed
            stream.flush()
    os._exit(code)


def _is_watched() -> bool:
    monitoring = getattr(sys, "monitoring", None)  # where profilers and debuggers sit from Python 3.12 on
    if monitoring is not None and any(monitoring.get_tool(tool) is not None for tool in range(6)):
        return True
    return sys.gettrace() is not None or sys.getprofile() is not None
