"""Losses: what training makes small."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from mnistnet.engine.arrays import AnyArray, FloatArray, IntArray
from mnistnet.engine.layers.activation import logistic
from mnistnet.engine.layers.base import Buffer, Call, Moment, Site, call
from mnistnet.errors import ShapeError, UsageError


@dataclass
class BoundLoss:
    """A loss bound to one shard: load the targets, set ``scale``, run, read ``loss`` and ``hits``."""

    load_targets: Callable[[AnyArray, IntArray | slice], None]
    """Take the shard's targets, those at an index, from all: (N,) classes or (N, K) values."""
    scale: FloatArray
    """0-d: 1 / the number of images in the whole batch, which the gradient is multiplied by."""
    loss: FloatArray
    """0-d: the sum of the losses of the shard's images, where the site `measures`."""
    hits: npt.NDArray[np.bool_]
    """(n,), likewise: whether an image's outputs are right. Of a class the largest output has to be its own;
    of values every output has to be nearer than 0.5."""
    calls: Sequence[Call]


class Loss(ABC):
    """A loss of the network's output and the targets, averaged over the batch; a frozen dataclass."""

    name: ClassVar[str]
    fuses: ClassVar[str | None] = None
    """Kind of the last layer that the loss computes itself, in a stabler and faster form, and that a network
    must have to be trained with it. None: any will do."""
    takes_values: ClassVar[bool] = True
    """Targets may be values, not only classes."""

    @abstractmethod
    def bind(self, outputs: Buffer, site: Site) -> BoundLoss:
        """Prepare the calls that fill ``outputs.grad``, and ``loss`` and ``hits`` where the site measures."""

    def config(self) -> dict[str, Any]:
        """The settings by name."""
        return asdict(self)  # type: ignore[call-overload,no-any-return]

    def check(self, last_layer: str, outputs: int, targets: AnyArray) -> None:
        """See whether a network can be trained for this.

        Args:
            last_layer: the kind of the network's last layer.
            outputs: K, how many outputs it has.
            targets: of all N images.

        Raises:
            ShapeError: the last layer or the targets do not fit.
        """
        if self.fuses not in (None, last_layer):
            raise ShapeError(
                f"loss {self.name}: expected a network that ends in {self.fuses}, found {last_layer}"
            )
        self.check_targets(outputs, targets)

    def check_targets(self, outputs: int, targets: AnyArray) -> None:
        """See whether targets fit a network of so many outputs.

        Raises:
            ShapeError: they are of another form, or name a class that there is not.
        """
        of_classes = targets.ndim == 1 and targets.dtype.kind in "iu"
        if not (of_classes or (self.takes_values and targets.shape[1:] == (outputs,))):
            wanted = f" or (N, {outputs}) values" if self.takes_values else ""
            found = f"{targets.dtype} {targets.shape}"
            raise ShapeError(f"loss {self.name}: expected targets (N,) classes{wanted}, found {found}")
        if of_classes and not 0 <= targets.min() <= targets.max() < outputs:
            hint = "; a single output takes values (N, 1)" if outputs == 1 and self.takes_values else ""
            raise ShapeError(
                f"loss {self.name}: expected classes 0 to {outputs - 1}, one for each output, "
                f"found {targets.min()} to {targets.max()}{hint}"
            )


class _Targets:
    """What the outputs [K, n] of a shard should be.

    Args:
        table: (K, K), the wanted outputs of each class in its column.
        n: images in the shard.
    """

    def __init__(self, table: FloatArray, n: int) -> None:
        self.wanted = np.zeros((len(table), n), table.dtype)
        self.hits = np.zeros(n, np.bool_)
        self._table = table
        self._labels = np.zeros(n, np.intp)
        self._best = np.zeros(n, np.intp)
        self._by_image = np.zeros((n, len(table)), table.dtype)
        self._of_classes = True

    def load(self, targets: AnyArray, index: IntArray | slice) -> None:
        """See `BoundLoss.load_targets`."""
        self._of_classes = targets.ndim == 1
        if self._of_classes:
            self._labels[:] = targets[index]
            self._table.take(self._labels, 1, self.wanted, "clip")
        else:
            self.wanted[...] = targets[index].T

    def judging(self, outputs: FloatArray, site: Site) -> Sequence[Call]:
        """What fills ``hits``; of a class any increasing function of the outputs will do."""
        return [call(self._judge, outputs)] if site.measures else ()

    def _judge(self, outputs: FloatArray) -> None:
        if self._of_classes:
            self._by_image[...] = outputs.T  # which argmax would do as well, but not as fast
            self._by_image.argmax(1, self._best)
            np.equal(self._best, self._labels, out=self.hits)
        else:
            np.all(np.abs(outputs - self.wanted) < 0.5, axis=0, out=self.hits)


@dataclass(frozen=True)
class SoftmaxCrossEntropy(Loss):
    """``-sum_k t_k log softmax(z)_k``, the mean over the batch; its gradient is ``(softmax(z) - t) / N``.

    The target t is 1 at the label; with label smoothing (Szegedy et al. 2016, sec. 7) it is
    ``1 - label_smoothing`` there, and ``label_smoothing / K`` more everywhere.

    Fused with the softmax layer, whose output it is defined on: with m the largest logit,
    ``log sum_j exp(z_j - m) - sum_k t_k (z_k - m)`` never takes the logarithm of a probability that was
    rounded to zero.

    Raises:
        UsageError: the label smoothing is not in [0, 1).
    """

    label_smoothing: float = 0.0
    name = "cross_entropy"
    fuses = "softmax"
    takes_values = False

    def __post_init__(self) -> None:
        if not 0 <= self.label_smoothing < 1:
            raise UsageError(f"--label-smoothing: must be >= 0 and < 1, found {self.label_smoothing}")

    def bind(self, outputs: Buffer, site: Site) -> BoundLoss:
        """In place on the logits [K, n]; only the last call writes to their gradient."""
        logits = outputs.value
        k, n = logits.shape
        # where the layer below needs its output again, the loss works beside it
        z = logits if site.in_place else site.take((k, n), Moment.FORWARD)
        smoothing = self.label_smoothing
        targets = _Targets(np.eye(k, dtype=z.dtype) * (1 - smoothing) + z.dtype.type(smoothing / k), n)
        product = site.take((k, n), Moment.FORWARD)
        row = site.take((1, n), Moment.FORWARD)
        losses = site.take((n,), Moment.FORWARD)
        loss = np.zeros((), z.dtype)
        scale = np.ones((), z.dtype)
        before_exp: list[Call] = [
            call(np.multiply, z, targets.wanted, out=product),
            call(np.add.reduce, product, axis=0, out=losses),
        ]
        after_sum: list[Call] = [
            call(np.log, row, out=row),
            call(np.subtract, row[0], losses, out=losses),
            call(np.add.reduce, losses, out=loss),
        ]
        calls = [
            *targets.judging(logits, site),
            call(np.maximum.reduce, logits, axis=0, out=row, keepdims=True),
            call(np.subtract, logits, row, out=z),
            *(before_exp if site.measures else ()),
            call(np.exp, z, out=z),
            call(np.add.reduce, z, axis=0, out=row, keepdims=True),
            call(np.divide, z, row, out=z),
            *(after_sum if site.measures else ()),
            call(np.subtract, z, targets.wanted, out=z),
            call(np.multiply, z, scale, out=outputs.grad),
        ]
        return BoundLoss(targets.load, scale, loss, targets.hits, calls)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """``-t log y - (1 - t) log(1 - y)`` with y = sigmoid(z), the mean over batch and outputs, as in PyTorch.

    A class stands for 1 at its own output and 0 at the others. The gradient is ``(y - t) / (N K)``. Fused
    with the sigmoid layer: ``max(z, 0) - z t + log(1 + exp(-|z|))`` takes no logarithm of a probability that
    was rounded to zero.
    """

    name = "binary_cross_entropy"
    fuses = "sigmoid"

    def bind(self, outputs: Buffer, site: Site) -> BoundLoss:
        """In place on the logits [K, n]; only the last call writes to their gradient."""
        z = outputs.value
        k, n = z.shape
        one = z.dtype.type(1)
        y = z if site.in_place else site.take((k, n), Moment.FORWARD)
        targets = _Targets(np.eye(k, dtype=z.dtype), n)
        losses = site.take((k, n), Moment.FORWARD)
        product = site.take((k, n), Moment.FORWARD)
        loss = np.zeros((), z.dtype)
        scale = np.ones((), z.dtype)
        measuring: list[Call] = [
            call(np.abs, z, out=losses),
            call(np.negative, losses, out=losses),
            call(np.exp, losses, out=losses),
            call(np.log1p, losses, out=losses),
            call(np.maximum, z, 0 * one, out=product),
            call(np.add, losses, product, out=losses),
            call(np.multiply, z, targets.wanted, out=product),
            call(np.subtract, losses, product, out=losses),
            call(np.add.reduce, losses, axis=None, out=loss),
            call(np.divide, loss, one * k, out=loss),
        ]
        calls = [
            *(measuring if site.measures else ()),
            *logistic(z, y),
            *targets.judging(y, site),
            call(np.subtract, y, targets.wanted, out=y),
            call(np.divide, y, one * k, out=y),
            call(np.multiply, y, scale, out=outputs.grad),
        ]
        return BoundLoss(targets.load, scale, loss, targets.hits, calls)


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """``(y - t)^2``, the mean over batch and outputs, as in PyTorch; its gradient is ``2 (y - t) / (N K)``.

    Of whatever the network gives, behind any last layer. A class stands for 1 at its own output and 0 at the
    others.
    """

    name = "mean_squared_error"

    def bind(self, outputs: Buffer, site: Site) -> BoundLoss:
        """In place on the outputs [K, n]; only the last call writes to their gradient."""
        y = outputs.value
        k, n = y.shape
        difference = y if site.in_place else site.take((k, n), Moment.FORWARD)
        targets = _Targets(np.eye(k, dtype=y.dtype), n)
        squares = site.take((k, n), Moment.FORWARD)
        loss = np.zeros((), y.dtype)
        scale = np.ones((), y.dtype)
        measuring: list[Call] = [
            call(np.multiply, difference, difference, out=squares),
            call(np.add.reduce, squares, axis=None, out=loss),
            call(np.divide, loss, y.dtype.type(k), out=loss),
        ]
        calls = [
            *targets.judging(y, site),
            call(np.subtract, y, targets.wanted, out=difference),
            *(measuring if site.measures else ()),
            call(np.multiply, difference, y.dtype.type(2 / k), out=difference),
            call(np.multiply, difference, scale, out=outputs.grad),
        ]
        return BoundLoss(targets.load, scale, loss, targets.hits, calls)


LOSSES: dict[str, type[Loss]] = {
    cls.name: cls for cls in (SoftmaxCrossEntropy, BinaryCrossEntropy, MeanSquaredError)
}
"""Every loss by the name that a run's configuration gives it."""


def loss_for(last_layer: str) -> str:
    """The name of the loss that a network with this kind of last layer calls for."""
    return next((name for name, cls in LOSSES.items() if cls.fuses == last_layer), MeanSquaredError.name)
