"""What the subcommands share in talking to a person."""

from __future__ import annotations

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistnet.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from mnistnet.models import Classifier

SizeLimit = Annotated[int, typer.Option(help="Largest checkpoint to read, in MiB.", min=1, max=1 << 20)]
DEFAULT_SIZE_LIMIT = 256


def warn(message: str) -> None:
    """One line on stderr."""
    sys.stderr.write(f"mnistnet: {' '.join(message.split())}\n")


def read_classifier(path: Path, size_limit: int) -> Classifier:
    """The classifier of a checkpoint file of at most ``size_limit`` MiB.

    Raises:
        CheckpointError: it cannot be used, or does not give probabilities.
    """
    from mnistnet.formats.checkpoint import load_checkpoint

    classifier = load_checkpoint(path, limit=size_limit * 2**20).classifier
    last = classifier.network.layers[-1].kind
    if last != "softmax":
        raise CheckpointError(f'{path}: the last layer should be {{"kind": "softmax"}}, found {last}')
    return classifier


def choose(flag: str, value: str, choices: tuple[str, ...]) -> str:
    """``value`` if it is one of ``choices``.

    Raises:
        UsageError: it is not; says which there are, and which one was probably meant.
    """
    if value in choices:
        return value
    close = get_close_matches(value, choices, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"{flag}: expected one of {', '.join(choices)}, found {value!r}{hint}")


def percent(share: float) -> str:
    """A share in [0, 1] as ``99.12 %``."""
    return f"{100 * share:.2f} %"


def bar(share: float, width: int = 30) -> str:
    """A share in [0, 1] as a bar of at most ``width`` characters; plain ASCII where the terminal needs it."""
    encoding = getattr(sys.stdout, "encoding", None) or "ascii"
    blocks = " ▏▎▍▌▋▊▉█"
    try:
        blocks.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    return "█" * (eighths // 8) + (blocks[eighths % 8] if eighths % 8 else "")
