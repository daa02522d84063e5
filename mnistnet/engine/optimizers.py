"""Optimizers: how a gradient changes the parameters, on one flat vector or any slice of it.

Every rule is elementwise, so slices give the bits of the whole. What a rule computes once a step (the
learning rate, Adam's bias corrections) are its *factors*: one process computes them, all read them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isfinite, sqrt
from typing import Any, ClassVar

import numpy as np

from mnistnet.engine.arrays import FloatArray
from mnistnet.engine.layers.base import Call, call
from mnistnet.errors import UsageError


@dataclass(frozen=True)
class Optimizer(ABC):
    """A rule bound to slices of the parameter, gradient and state vectors; its init fields are its config."""

    name: ClassVar[str]

    @property
    @abstractmethod
    def state_names(self) -> tuple[str, ...]:
        """Names of the vectors, as long as the parameters, that the rule keeps between steps (start: 0)."""

    @property
    @abstractmethod
    def momentum_names(self) -> tuple[str, ...]:
        """Those of ``state_names`` that follow the gradient itself, and fade where there is none.

        What is nearly zero there may become zero, so no rule may divide by them.
        """

    @abstractmethod
    def factors(self, step: int, learning_rate: float) -> tuple[float, ...]:
        """The numbers that step ``step`` (from 1, over the whole training) needs, as many at every step."""

    @property
    def factor_count(self) -> int:
        """How many `factors` there are."""
        return len(self.factors(1, 0.0))

    @abstractmethod
    def bind(
        self,
        parameters: FloatArray,
        gradient: FloatArray,
        state: Mapping[str, FloatArray],
        factors: FloatArray,
    ) -> Sequence[Call]:
        """Prepare one step in place.

        Args:
            parameters: (P,), changed.
            gradient: (P,), of the mean loss; used up.
            state: a (P,) vector for each of ``state_names``, changed.
            factors: (factor_count,) in the parameters' dtype, read at every step.
        """

    def config(self) -> dict[str, Any]:
        """The rule's settings by name."""
        return asdict(self)


@dataclass(frozen=True)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum where it is not 0.

    ``g += weight_decay w;  v = momentum v + g;  w -= learning_rate v``: Sutskever et al. 2013 with the
    learning rate outside the velocity, as PyTorch has it. Nesterov's rule looks ahead along the new velocity:
    ``w -= learning_rate (g + momentum v)``. Weight decay takes in every parameter.

    Raises:
        UsageError: momentum is not in [0, 1), or 0 with Nesterov's rule; weight decay is negative or not
            finite.
    """

    momentum: float = 0.0
    weight_decay: float = 0.0
    nesterov: bool = False
    name = "sgd"

    def __post_init__(self) -> None:
        _check_share("--momentum", self.momentum)
        _check_weight_decay(self.weight_decay)
        if self.nesterov and not self.momentum:
            raise UsageError(f"--momentum: must be > 0 with Nesterov's rule, found {self.momentum}")

    @property
    def state_names(self) -> tuple[str, ...]:
        """The velocity, if there is momentum."""
        return ("velocity",) if self.momentum else ()

    @property
    def momentum_names(self) -> tuple[str, ...]:
        """The velocity too."""
        return self.state_names

    def factors(self, step: int, learning_rate: float) -> tuple[float, ...]:  # noqa: ARG002
        """The learning rate."""
        return (learning_rate,)

    def bind(
        self,
        parameters: FloatArray,
        gradient: FloatArray,
        state: Mapping[str, FloatArray],
        factors: FloatArray,
    ) -> Sequence[Call]:
        """Prepare one step in place."""
        learning_rate = factors[0, ...]
        momentum = parameters.dtype.type(self.momentum)
        scratch = np.empty_like(gradient)
        calls = _decay_gradient(parameters, gradient, self.weight_decay, scratch)
        step = gradient
        if self.momentum:
            velocity = state["velocity"]
            calls += [
                call(np.multiply, velocity, momentum, out=velocity),
                call(np.add, velocity, gradient, out=velocity),
            ]
            step = velocity
        if self.nesterov:
            calls += [
                call(np.multiply, velocity, momentum, out=scratch),
                call(np.add, gradient, scratch, out=gradient),
            ]
            step = gradient
        calls += [
            call(np.multiply, step, learning_rate, out=gradient),
            call(np.subtract, parameters, gradient, out=parameters),
        ]
        return calls


@dataclass(frozen=True)
class Adam(Optimizer):
    """Adaptive moment estimation (Kingma and Ba 2015, algorithm 1).

    ``g += weight_decay w;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g^2``;
    ``w -= learning_rate m' / (sqrt(v') + epsilon)``, where m' = m / (1 - beta1^step) and likewise v'.
    The state holds m / (1 - beta1) and v / (1 - beta2): what is the same for every parameter then goes into
    two factors (their section 2 does so with the bias corrections), which saves three passes of thirteen.

    Raises:
        UsageError: a beta is not in [0, 1), epsilon is not positive, or weight decay is negative, or one of
            them is not finite.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    name = "adam"

    def __post_init__(self) -> None:
        _check_share("--beta1", self.beta1)
        _check_share("--beta2", self.beta2)
        if not (isfinite(self.epsilon) and self.epsilon > 0):
            raise UsageError(f"--epsilon: must be finite and > 0, found {self.epsilon}")
        _check_weight_decay(self.weight_decay)

    @property
    def state_names(self) -> tuple[str, ...]:
        """The sums behind the two moments."""
        return ("first_moment", "second_moment")

    @property
    def momentum_names(self) -> tuple[str, ...]:
        """The first; the step is divided by the second one's root."""
        return ("first_moment",)

    def factors(self, step: int, learning_rate: float) -> tuple[float, ...]:
        """``(a, e)`` in ``w -= a m / (sqrt(v) + e)`` of the sums m and v."""
        # sqrt(v') is this times the square root of the sum
        scale = sqrt((1 - self.beta2) / (1 - self.beta2**step))
        rate = learning_rate * (1 - self.beta1) / (1 - self.beta1**step)
        return (rate / scale, self.epsilon / scale)

    def bind(
        self,
        parameters: FloatArray,
        gradient: FloatArray,
        state: Mapping[str, FloatArray],
        factors: FloatArray,
    ) -> Sequence[Call]:
        """Prepare one step in place."""
        rate, epsilon = factors[0, ...], factors[1, ...]
        first, second = state["first_moment"], state["second_moment"]
        beta1, beta2 = parameters.dtype.type(self.beta1), parameters.dtype.type(self.beta2)
        return [
            *self._decay(parameters, gradient, factors),
            call(np.multiply, first, beta1, out=first),
            call(np.add, first, gradient, out=first),
            call(np.multiply, gradient, gradient, out=gradient),
            call(np.multiply, second, beta2, out=second),
            call(np.add, second, gradient, out=second),
            call(np.sqrt, second, out=gradient),
            call(np.add, gradient, epsilon, out=gradient),
            call(np.divide, first, gradient, out=gradient),
            call(np.multiply, gradient, rate, out=gradient),
            call(np.subtract, parameters, gradient, out=parameters),
        ]

    def _decay(self, parameters: FloatArray, gradient: FloatArray, factors: FloatArray) -> Sequence[Call]:  # noqa: ARG002
        return _decay_gradient(parameters, gradient, self.weight_decay, np.empty_like(gradient))


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2).

    The gradient stays as it is; ``w *= 1 - learning_rate weight_decay`` comes before Adam's step, as PyTorch
    has it.
    """

    weight_decay: float = 0.01
    name = "adamw"

    def factors(self, step: int, learning_rate: float) -> tuple[float, ...]:
        """Adam's, and what a step leaves of a weight."""
        return (*super().factors(step, learning_rate), 1 - learning_rate * self.weight_decay)

    def _decay(self, parameters: FloatArray, gradient: FloatArray, factors: FloatArray) -> Sequence[Call]:  # noqa: ARG002
        return [call(np.multiply, parameters, factors[2, ...], out=parameters)]


OPTIMIZERS: dict[str, type[Optimizer]] = {rule.name: rule for rule in (SGD, Adam, AdamW)}
"""Every rule by name."""


def _decay_gradient(
    parameters: FloatArray, gradient: FloatArray, weight_decay: float, scratch: FloatArray
) -> list[Call]:
    """The gradient of ``weight_decay |w|^2 / 2`` is added to the gradient."""
    if not weight_decay:
        return []
    return [
        call(np.multiply, parameters, parameters.dtype.type(weight_decay), out=scratch),
        call(np.add, gradient, scratch, out=gradient),
    ]


def _check_share(flag: str, value: float) -> None:
    if not 0 <= value < 1:
        raise UsageError(f"{flag}: must be >= 0 and < 1, found {value}")


def _check_weight_decay(value: float) -> None:
    if not (isfinite(value) and value >= 0):
        raise UsageError(f"--weight-decay: must be finite and >= 0, found {value}")
