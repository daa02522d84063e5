"""Optimizers: how a gradient changes the parameters, on one flat vector or any slice of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, ClassVar

import numpy as np

from mnistnet.engine.arrays import FloatArray
from mnistnet.engine.layers.base import Call, call
from mnistnet.errors import UsageError


class Optimizer(ABC):
    """A rule bound to slices of the parameter, gradient and state vectors."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def state_names(self) -> tuple[str, ...]:
        """Names of the vectors, as long as the parameters, that the rule keeps between steps (start: 0)."""

    @abstractmethod
    def bind(
        self,
        parameters: FloatArray,
        gradient: FloatArray,
        state: Mapping[str, FloatArray],
        learning_rate: FloatArray,
    ) -> Sequence[Call]:
        """Prepare one step in place.

        Args:
            parameters: (P,), changed.
            gradient: (P,), of the mean loss; used up.
            state: a (P,) vector for each of ``state_names``, changed.
            learning_rate: 0-d, read at every step.
        """

    def config(self) -> dict[str, Any]:
        """The rule's settings by name."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum where it is not 0.

    ``g += weight_decay w;  v = momentum v + g;  w -= learning_rate v``: Sutskever et al. 2013 with the
    learning rate outside the velocity, as PyTorch has it. Weight decay takes in every parameter.

    Raises:
        UsageError: momentum is not in [0, 1), or weight decay is negative or not finite.
    """

    momentum: float = 0.0
    weight_decay: float = 0.0
    name = "sgd"

    def __post_init__(self) -> None:
        if not 0 <= self.momentum < 1:
            raise UsageError(f"momentum: must be >= 0 and < 1, found {self.momentum}")
        if not (isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise UsageError(f"weight decay: must be finite and >= 0, found {self.weight_decay}")

    @property
    def state_names(self) -> tuple[str, ...]:
        """The velocity, if there is momentum."""
        return ("velocity",) if self.momentum else ()

    def bind(
        self,
        parameters: FloatArray,
        gradient: FloatArray,
        state: Mapping[str, FloatArray],
        learning_rate: FloatArray,
    ) -> Sequence[Call]:
        """Prepare one step in place."""
        calls: list[Call] = []
        step = gradient
        if self.weight_decay:
            decay = np.empty_like(gradient)
            calls += [
                call(np.multiply, parameters, parameters.dtype.type(self.weight_decay), out=decay),
                call(np.add, gradient, decay, out=gradient),
            ]
        if self.momentum:
            step = state["velocity"]
            calls += [
                call(np.multiply, step, parameters.dtype.type(self.momentum), out=step),
                call(np.add, step, gradient, out=step),
            ]
        calls += [
            call(np.multiply, step, learning_rate, out=gradient),
            call(np.subtract, parameters, gradient, out=parameters),
        ]
        return calls


OPTIMIZERS: dict[str, type[SGD]] = {SGD.name: SGD}
"""Every rule by name."""
