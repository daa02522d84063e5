"""The learning curves that a run's loss CSV holds."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from mnistnet.errors import DataError
from mnistnet.files import read_limited

SIZE_LIMIT = 64 * 2**20


@dataclass(frozen=True)
class CurvePoint:
    """One epoch."""

    epoch: int
    loss: float
    training_accuracy: float
    """In [0, 1], like the next."""
    validation_accuracy: float | None
    validation_loss: float | None


def read_curve(path: Path) -> tuple[CurvePoint, ...]:
    """The epochs of a loss CSV as ``mnistnet train`` writes it; further columns are passed over.

    Raises:
        DataError: ``path: line N: ...``.
    """
    text = read_limited(path, SIZE_LIMIT, DataError).decode("utf-8", errors="replace")
    rows = csv.DictReader(io.StringIO(text))
    points = []
    try:
        for row in rows:
            points.append(_point(row))
    except KeyError as error:
        raise DataError(f"{path}: expected a loss CSV of mnistnet train: no column {error}") from error
    except (TypeError, ValueError, csv.Error) as error:
        raise DataError(f"{path}: line {rows.line_num}: expected numbers: {error!s:.200}") from error
    return tuple(points)


def _point(row: dict[str, str]) -> CurvePoint:
    on_validation = row["accuracy_of"] == "validation"
    return CurvePoint(
        epoch=int(row["epoch"]),
        loss=float(row["loss"]),
        training_accuracy=float(row["training_accuracy"]),
        validation_accuracy=float(row["accuracy"]) if on_validation else None,
        validation_loss=float(row["validation_loss"]) if row["validation_loss"] else None,
    )
