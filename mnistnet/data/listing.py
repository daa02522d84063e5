"""What lies in a folder, and in which order people expect it."""

from __future__ import annotations

import re
from pathlib import Path

from mnistnet.errors import DataError, explain


def names_in(folder: Path) -> list[str]:
    """The names in a folder in natural order, without hidden ones.

    Raises:
        DataError: it is no folder, or cannot be listed.
    """
    try:
        names = [path.name for path in folder.iterdir() if not path.name.startswith(".")]
    except NotADirectoryError as error:
        raise DataError(f"{folder}: not a directory") from error
    except FileNotFoundError as error:
        raise DataError(f"{folder}: no such folder") from error
    except OSError as error:
        raise DataError(f"{folder}: {explain(error)}") from error
    return sorted(names, key=natural)


def natural(name: str) -> tuple[tuple[str | tuple[int, str], ...], str]:
    """A sort key by which numbers inside names count as numbers: ``2.png`` before ``10.png``."""
    # text and digits alternate, so that text is only ever compared with text
    pieces = re.split(r"([0-9]+)", name)
    return tuple(_number(piece) if i % 2 else piece for i, piece in enumerate(pieces)), name


def _number(digits: str) -> tuple[int, str]:
    """What sorts as the number does, however long it is."""
    significant = digits.lstrip("0")
    return len(significant), significant
