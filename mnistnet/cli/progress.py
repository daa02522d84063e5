"""How a training is shown while it runs."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import typer

from mnistnet.cli.console import percent, warn

if TYPE_CHECKING:
    from mnistnet.training.trainer import EpochResult, StepResult

LINE_INTERVAL = 10.0  # seconds between progress lines where there is no terminal


class Progress:
    """A bar for each epoch on a terminal, a plain line now and then elsewhere; a result line an epoch."""

    def __init__(self, nb_epochs: int | None) -> None:
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no thread of its own
        self._new_bar = tqdm
        self._of = "" if nb_epochs is None else f"/{nb_epochs}"
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._said = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, event: StepResult) -> None:
        """Show one step."""
        if not self._terminal:
            if time.monotonic() - self._said > LINE_INTERVAL:
                self._said = time.monotonic()
                warn(
                    f"epoch {event.epoch}{self._of}: "
                    f"step {event.step} of {event.steps}, loss {event.loss:.4f}"
                )
            return
        if self._bar is None:
            self._bar = self._new_bar(
                total=event.steps,
                initial=event.step - 1,
                desc=f"epoch {event.epoch}{self._of}",
                unit="batch",
                leave=False,
                file=sys.stderr,
                dynamic_ncols=True,
            )
        if self._bar.update(1):
            self._bar.set_postfix_str(f"loss {event.loss:.4f}", refresh=False)

    def finish(self, event: EpochResult) -> None:
        """Show one epoch's result."""
        self.close()
        line = (
            f"epoch {event.epoch}{self._of}  loss {event.loss:.4f}  "
            f"training accuracy {percent(event.training_accuracy)}"
        )
        if event.validation_accuracy is not None:
            line += f"  validation accuracy {percent(event.validation_accuracy)}"
        typer.echo(f"{line}  {event.seconds:.1f} s")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
