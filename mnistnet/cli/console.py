"""What the subcommands share in talking to a person."""

from __future__ import annotations

import sys
from collections.abc import Container, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistnet.errors import CheckpointError, UsageError, plain
from mnistnet.training.settings import AUTO

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from mnistnet.models import Classifier
    from mnistnet.reports.evaluation import Evaluation

SizeLimit = Annotated[int, typer.Option(help="Largest model to read, in MiB.", min=1, max=1 << 20)]
DEFAULT_SIZE_LIMIT = 256


def warn(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"mnistnet: {' '.join(message.split())}\n")


def say(line: str) -> None:
    """One line on stdout; what it quotes from a file can neither end it nor steer the terminal."""
    typer.echo(plain(line))


def read_classifier(path: Path, size_limit: int) -> Classifier:
    """The classifier of a checkpoint file of at most ``size_limit`` MiB.

    Raises:
        CheckpointError: it cannot be used, or does not give probabilities.
    """
    from mnistnet.formats.checkpoint import load_checkpoint

    classifier = load_checkpoint(path, limit=size_limit * 2**20).classifier
    check_last_layer(path, classifier.network.layers[-1].kind)
    return classifier


def check_last_layer(where: object, kind: str) -> None:
    """Raise CheckpointError unless a network that ends in this kind of layer gives probabilities."""
    if kind not in ("softmax", "sigmoid"):
        raise CheckpointError(f"{where}: the last layer should be softmax or sigmoid, found {kind}")


def check_pictures(where: object, input_shape: tuple[int, ...]) -> None:
    """Raise CheckpointError unless a network with this input, (C, H, W) or (F,), takes pictures."""
    if len(input_shape) != 3:
        raise CheckpointError(
            f"{where}: expected a network that takes pictures, found one of {input_shape[0]} numbers; "
            "what has learned a picture is drawn and trained by mnistnet reconstruct"
        )


def need_extra(flag: str, package: str, extra: str) -> None:
    """Make sure of an optional package before any work is done that needs it in the end.

    Raises:
        UsageError: it is not installed; says how to get it.
    """
    if find_spec(package) is None:
        raise UsageError(f"{flag}: needs {package}, which is not installed: pip install 'mnistnet[{extra}]'")


def percent(share: float) -> str:
    """A share in [0, 1] as ``99.12 %``."""
    return f"{100 * share:.2f} %"


def class_counts(evaluation: Evaluation) -> list[str]:
    """A line for each class: how many of its images were right."""
    what = "Digit" if evaluation.class_names == tuple("0123456789") else "Class"
    return [f"{what} {plain(score.name)}: {score.correct} of {score.images}" for score in evaluation.classes]


def print_table(rows: Sequence[Sequence[str]], left: Container[int]) -> None:
    """Columns aligned to the right, those of ``left`` to the left."""
    rows = [[plain(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (
            f"{cell:{'<' if i in left else '>'}{width}}"
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        typer.echo("  ".join(("", *cells)).rstrip())


def bar(share: float, width: int = 30) -> str:
    """A share in [0, 1] as a bar of at most ``width`` characters; plain ASCII where the terminal needs it."""
    if not _shows("▏█"):
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + (" ▏▎▍▌▋▊▉"[eighths % 8] if eighths % 8 else "")


def blocks(grey: npt.NDArray[np.uint8], side: int = 28) -> list[str]:
    """A picture (H, W) as ``side // 2`` lines of ``side`` characters, each twice as high as wide."""
    import numpy as np

    from mnistnet.data.pictures.decode import resized

    h, w = grey.shape
    scale = side / max(h, w)
    lines, columns = max(round(h * scale / 2), 1), max(round(w * scale), 1)
    levels = " ░▒▓█" if _shows("░▒▓█") else " .:*#"
    shades = np.minimum(resized(grey[np.newaxis], (lines, columns))[0] // 51, len(levels) - 1)
    drawn = ["".join(levels[shade] for shade in row).center(side) for row in shades.tolist()]
    above = (side // 2 - lines) // 2
    return [" " * side] * above + drawn + [" " * side] * (side // 2 - lines - above)


def _shows(characters: str) -> bool:
    """Whether the terminal has these characters."""
    try:
        characters.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def process_count(workers: str) -> int | None:
    """What ``--workers`` says; None for as many as help.

    Raises:
        UsageError: it is neither a number nor auto.
    """
    if workers == AUTO:
        return None
    try:
        return int(workers)
    except ValueError as error:
        raise UsageError(f"--workers: expected a number >= 1 or auto, found {workers!r}") from error
