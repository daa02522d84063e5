"""Examples that are no labelled images: points with a value, or a class, at each."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mnistnet.engine.arrays import AnyArray, FloatArray
from mnistnet.errors import DataError


class Examples(Protocol):
    """What a network learns from: labelled images (`Dataset`) or `Points`."""

    @property
    def inputs(self) -> AnyArray:
        """(N, C, H, W) or (N, F), uint8 or float."""

    @property
    def targets(self) -> AnyArray:
        """(N,) classes, or (N, K) values."""

    def __len__(self) -> int:
        """N."""


@dataclass(frozen=True, eq=False)
class Points:
    """A function to learn, by its values or classes at some points.

    Raises:
        DataError: the two do not fit together, or a number is not finite.
    """

    inputs: FloatArray
    """float (N, F), N >= 1; taken as they are."""
    targets: AnyArray
    """Float (N, K), or whole numbers (N,): classes from 0 on."""

    def __post_init__(self) -> None:
        inputs, targets = self.inputs, self.targets
        if inputs.ndim != 2 or inputs.dtype.kind != "f" or not inputs.size:
            raise DataError(f"inputs: expected float (N, F), found {inputs.dtype} {inputs.shape}")
        classes = targets.ndim == 1 and targets.dtype.kind in "iu"
        if not classes and not (targets.ndim == 2 and targets.dtype.kind == "f" and targets.size):
            found = f"{targets.dtype} {targets.shape}"
            raise DataError(f"targets: expected float (N, K) or whole numbers (N,), found {found}")
        if len(inputs) != len(targets):
            raise DataError(f"counts differ: {len(inputs)} inputs and {len(targets)} targets")
        for name, values in (("inputs", inputs), ("targets", targets)):
            if not np.isfinite(values).all():
                raise DataError(f"{name}: expected finite numbers, found others")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def fingerprint(self) -> str:
        """``sha256:`` and 64 hex digits: of both as little-endian float64; of classes as int64."""
        digest = hashlib.sha256(np.ascontiguousarray(self.inputs, "<f8").data)
        kind = "<f8" if self.targets.dtype.kind == "f" else "<i8"
        digest.update(np.ascontiguousarray(self.targets, kind).data)
        return f"sha256:{digest.hexdigest()}"


def pixel_centres(size: tuple[int, int], frame: tuple[int, int], rows: slice = slice(None)) -> FloatArray:
    """Where the pixels of a picture are: float32 (H W, 2), x to the right and y down, row after row.

    The longer side of the frame goes from -1 to 1, the other one as far as it is shorter.

    Args:
        size: (width, height) of the picture, in pixels.
        frame: (width, height) of the picture that it shows, in any unit.
        rows: only these rows of the picture.
    """
    across, down = (
        ((2 * np.arange(count) + 1) / count - 1.0) * (side / max(frame))
        for count, side in zip(size, frame, strict=True)
    )
    x, y = np.meshgrid(across, down[rows])
    return np.stack([x.ravel(), y.ravel()], axis=1).astype(np.float32)
