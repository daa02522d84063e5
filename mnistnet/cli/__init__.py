"""The command line: the only place that prints or exits."""

from __future__ import annotations

import sys
from typing import NoReturn

__all__ = ["main"]


def main() -> NoReturn:
    """Run the command line and leave with its exit code."""
    try:
        from mnistnet.cli.app import main as run
    except KeyboardInterrupt:  # while Typer was loaded
        sys.exit(130)
    run()
