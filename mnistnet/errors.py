"""Every error that mnistnet raises on purpose, in one tree.

    MnistnetError                exit 1   something else, said in one line
    ├── UsageError               exit 2   a flag or an argument is wrong
    ├── DataError                exit 3   a dataset cannot be used as it is
    ├── CheckpointError          exit 4   a checkpoint or architecture file cannot be used
    ├── PictureError             exit 5   a picture cannot be read
    ├── ShapeError               exit 6   layers, images and parameters do not fit together
    ├── ExportError              exit 7   a model cannot be exported
    ├── OutputError              exit 8   a file or folder cannot be written
    ├── DivergedError            exit 9   the loss is not finite any more
    └── WorkerError              exit 10  a worker process ended before its work did

A message is one line: ``where: what was expected, what was found``, and what to do about it. The
command line prints it on stderr and leaves with the class's ``exit_code``; nothing else exits. Below
the edge where a file or a flag is known, code raises with what it knows; the edge adds its name with
`MnistnetError.at` and ``raise ... from``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Self

_LONGEST = 5000
"""Characters of a message."""


class MnistnetError(Exception):
    """Base of all errors raised on purpose; ``str(error)`` is the one-line message."""

    exit_code: ClassVar[int] = 1

    def __str__(self) -> str:
        text = plain(super().__str__())
        # what files from strangers say may be of any length; a path goes to 4096 characters at most
        return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 500]} ... {text[-400:]}"

    def at(self, where: object) -> Self:
        """The same error with the name of the file, field or flag in front of its message."""
        return type(self)(f"{where}: {self}")


class UsageError(MnistnetError):
    """A flag or an argument is wrong."""

    exit_code = 2


class DataError(MnistnetError):
    """A dataset cannot be used as it is."""

    exit_code = 3


class CheckpointError(MnistnetError):
    """A checkpoint or architecture file cannot be used."""

    exit_code = 4


class PictureError(MnistnetError):
    """A picture cannot be read."""

    exit_code = 5


class ShapeError(MnistnetError):
    """Layers, images and parameters do not fit together."""

    exit_code = 6


class ExportError(MnistnetError):
    """A model cannot be exported."""

    exit_code = 7


class OutputError(MnistnetError):
    """A file or folder cannot be written."""

    exit_code = 8


class DivergedError(MnistnetError):
    """The loss is not finite any more."""

    exit_code = 9

    def __init__(self, message: str, batch: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.batch = batch
        """Which of the training images were in the batch that had such a loss."""


class WorkerError(MnistnetError):
    """A worker process ended before its work did."""

    exit_code = 10


def plain(text: str) -> str:
    """Text on one line, control characters escaped: names in a file from a stranger may hold any.

    On a terminal some would move the cursor or change the title.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in " ".join(text.split("\n")))


def explain(error: OSError) -> str:
    """An operating system error in a few plain words, without the path."""
    match error:
        case FileNotFoundError():
            return "no such file"
        case PermissionError():
            return "permission denied"
        case _:
            return (error.strerror or str(error)).lower()


def any_of(choices: Sequence[str]) -> str:
    """The choices as a sentence has them: ``a``, ``a or b``, ``a, b or c``."""
    *others, last = choices
    return f"{', '.join(others)} or {last}" if others else last


def choose(flag: str, value: str, choices: tuple[str, ...]) -> str:
    """``value`` if it is one of ``choices``.

    Raises:
        UsageError: it is not; says which there are, and which one was probably meant.
    """
    if value in choices:
        return value
    from difflib import get_close_matches

    close = get_close_matches(value, choices, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise UsageError(f"{flag}: expected one of {', '.join(choices)}, found {value!r:.60}{hint}")
