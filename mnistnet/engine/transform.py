"""What may be done to the images of a shard before the network sees them: the place of data augmentation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mnistnet.engine.arrays import AnyArray, Shape
from mnistnet.engine.rebuild import description, rebuild

BoundTransform = Callable[[AnyArray, np.random.Generator], AnyArray]
"""From images (n, C, H, W) and a source of chance to images of the same shape, valid until the next call."""


class Transform(ABC):
    """A frozen dataclass of settings that binds to a shard's shape.

    Every worker rebuilds it by the name of its class, which must be importable.
    """

    @abstractmethod
    def bind(self, n: int, shape: Shape) -> BoundTransform:
        """Prepare for shards of ``n`` images of ``shape`` (C, H, W)."""

    def spec(self) -> dict[str, Any]:
        """Its class and settings as JSON."""
        return description(self, asdict(self))  # type: ignore[call-overload]


def transform_of(spec: Mapping[str, Any]) -> Transform:
    """The transform that `Transform.spec` described."""
    transform: Transform = rebuild(spec)
    return transform
