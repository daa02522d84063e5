"""How a network that learns a picture is watched: a line, a picture that is overwritten, a film."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mnistnet.cli.console import percent, warn
from mnistnet.cli.progress import LINE_INTERVAL
from mnistnet.errors import OutputError

if TYPE_CHECKING:
    from mnistnet.data.pictures.raster import Raster
    from mnistnet.engine.arrays import FloatArray
    from mnistnet.engine.network import Network
    from mnistnet.training.trainer import StepResult

FRAMES = 60
"""Of a film of the whole training; close together at its beginning, where most happens."""
FILM_SIDE = 256
PREVIEW_SIDE = 512


@dataclass(frozen=True)
class Likeness:
    """How close a network comes to its picture, at the picture's own size."""

    size: tuple[int, int]
    decibels: float
    """PSNR."""
    right: int | None
    """Pixels on the right side, of a black and white picture."""

    def __str__(self) -> str:
        width, height = self.size
        count = width * height
        right = "" if self.right is None else f", {percent(self.right / count)} of pixels right"
        return f"PSNR {self.decibels:.2f} dB{right}"


def likeness(network: Network, original: Raster) -> Likeness:
    """Compare a network's drawing with the picture that it was to learn."""
    from mnistnet.data.pictures.raster import INK
    from mnistnet.reports.reconstruction import draw, peak_signal_to_noise, right_pixels

    drawn = draw(network, original.size, original.size)
    right = right_pixels(drawn, original.values) if original.tone == INK else None
    return Likeness(original.size, peak_signal_to_noise(drawn, original.values), right)


def within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """A size (width, height) made smaller, if need be, until its longer side is at most ``side``."""
    scale = min(1.0, side / max(size))
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


@dataclass
class Easel:
    """Looks at the network between steps; nothing of it changes what is learned.

    A context manager that takes the bar away at its end.
    """

    network: Network
    original: Raster
    size: tuple[int, int]
    """Of the picture that is wanted in the end."""
    length: str
    """The whole training, in words."""
    preview: Path | None
    interval: float
    """Seconds between two looks."""
    film: Path | None
    _frames: list[FloatArray] = field(default_factory=list)
    _bar: Any = None

    def __post_init__(self) -> None:
        self._looked = self._said = time.monotonic()
        self._terminal = sys.stderr.isatty()

    def __enter__(self) -> Easel:
        if self._terminal:
            from tqdm import tqdm

            tqdm.monitor_interval = 0  # no thread of its own
            shape = "{percentage:3.0f}%|{bar}| {elapsed}{postfix}"
            self._bar = tqdm(total=1.0, bar_format=shape, leave=False, file=sys.stderr, dynamic_ncols=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def step(self, event: StepResult) -> None:
        """Take notice of a step: a frame, a preview and a line where they are due."""
        if self.film is not None and event.progress >= (len(self._frames) / FRAMES) ** 2:
            self._frames.append(self._drawn(FILM_SIDE))
        if self._bar is not None:
            self._bar.n = min(1.0, event.progress)
        now = time.monotonic()
        if now - self._looked < self.interval:
            return
        self._looked = now
        self.show()
        if self._bar is None and now - self._said < LINE_INTERVAL:
            return
        self._said = now
        found = likeness(self.network, self.original)
        line = f"epoch {event.epoch} of {self.length}, loss {event.loss:.5f}, {found}"
        if self._bar is None:
            warn(line)
        else:
            self._bar.set_postfix_str(line)

    def show(self) -> None:
        """Overwrite the preview; a disk that is full is no reason to end a training."""
        if self.preview is None:
            return
        from mnistnet.data.pictures.raster import encode_raster
        from mnistnet.files import write_atomically

        picture = encode_raster(self._drawn(PREVIEW_SIDE), self.preview.suffix.lower())
        try:
            write_atomically(self.preview, picture)
        except OutputError as error:
            warn(f"{error}; there are no more previews")
            self.preview = None

    def finish(self) -> None:
        """Put the last look into preview and film, and write the film."""
        self.show()
        if self.film is None:
            return
        from mnistnet.data.pictures.raster import encode_film
        from mnistnet.files import write_atomically

        self._frames.append(self._drawn(FILM_SIDE))
        write_atomically(self.film, encode_film(self._frames))

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _drawn(self, side: int) -> FloatArray:
        from mnistnet.reports.reconstruction import draw

        return draw(self.network, within(self.size, side), self.original.size)


def say(found: Likeness) -> None:
    """The result in a line."""
    width, height = found.size
    if found.right is not None:
        count = width * height
        typer.echo(
            f"Pixels right: {percent(found.right / count)} ({found.right} of {count}) at {width}x{height}"
        )
    else:
        typer.echo(f"PSNR:         {found.decibels:.2f} dB at {width}x{height}")
