"""What the model file of another tool becomes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mnistnet.engine.arrays import AnyArray, FloatArray, Shape


class Predictor(Protocol):
    """Whatever says of pictures what they show: a `Classifier`, or a model that is run as it is."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names."""

    @property
    def input_shape(self) -> Shape:
        """(C, H, W) of a picture."""

    @property
    def confidence_threshold(self) -> float | None:
        """The probability from which on a prediction is relied on; None where it was not calibrated."""

    def probabilities(self, images: AnyArray, *, threads: int = 1) -> FloatArray:
        """(N, K) probabilities of uint8 images (N, C, H, W), 0 = background."""


@dataclass(frozen=True)
class Foreign:
    """A model file, read."""

    predictor: Predictor
    notes: tuple[str, ...] = ()
    """What was assumed because the file does not say it, one line each."""
    obstacle: str = ""
    """Why the predictor is no `Classifier`, which can be trained further."""
