"""Losses: what training makes small."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from mnistnet.engine.arrays import FloatArray, IntArray
from mnistnet.engine.layers.base import Buffer, Call, Moment, Site, call


@dataclass
class BoundLoss:
    """A loss bound to one shard: set ``labels`` and ``scale``, run, read ``loss`` and ``hits``."""

    labels: IntArray
    """intp (n,), the classes."""
    scale: FloatArray
    """0-d: 1 / the number of images in the whole batch, which the gradient is multiplied by."""
    loss: FloatArray
    """0-d: the sum of the shard's losses, not divided."""
    hits: npt.NDArray[np.bool_]
    """(n,): whether the largest output is the label's."""
    calls: Sequence[Call]


class Loss(ABC):
    """A loss of the network's output and the labels, averaged over the batch."""

    fuses: ClassVar[str | None] = None
    """Kind of the last layer that the loss computes itself, in a stabler and faster form."""

    @abstractmethod
    def bind(self, outputs: Buffer, site: Site) -> BoundLoss:
        """Prepare the calls that fill ``outputs.grad``, ``loss`` and ``hits``."""


class SoftmaxCrossEntropy(Loss):
    """``-log softmax(z)_label``, the mean over the batch; its gradient is ``(softmax(z) - onehot) / N``.

    Fused with the softmax layer, whose output it is defined on: ``log sum_j exp(z_j - m) - (z_label - m)``
    with m the largest logit never takes the logarithm of a probability that was rounded to zero.
    """

    fuses = "softmax"

    def bind(self, outputs: Buffer, site: Site) -> BoundLoss:
        """In place on the logits [K, n]; only the last call writes to their gradient."""
        logits = outputs.value
        k, n = logits.shape
        # where the layer below needs its output again, the loss works beside it
        z = logits if site.in_place else site.take((k, n), Moment.FORWARD)
        labels = np.zeros(n, np.intp)
        table = np.eye(k, dtype=z.dtype)
        target = site.take((k, n), Moment.FORWARD)
        product = site.take((k, n), Moment.FORWARD)
        row = site.take((1, n), Moment.FORWARD)
        losses = site.take((n,), Moment.FORWARD)
        best = np.zeros(n, np.intp)
        hits = np.zeros(n, np.bool_)
        loss = np.zeros((), z.dtype)
        scale = np.ones((), z.dtype)
        calls = [
            call(np.argmax, logits, axis=0, out=best),
            call(np.equal, best, labels, out=hits),
            call(np.take, table, labels, axis=1, out=target, mode="clip"),
            call(np.maximum.reduce, logits, axis=0, out=row, keepdims=True),
            call(np.subtract, logits, row, out=z),
            call(np.multiply, z, target, out=product),
            call(np.add.reduce, product, axis=0, out=losses),
            call(np.exp, z, out=z),
            call(np.add.reduce, z, axis=0, out=row, keepdims=True),
            call(np.divide, z, row, out=z),
            call(np.log, row, out=row),
            call(np.subtract, row[0], losses, out=losses),
            call(np.add.reduce, losses, out=loss),
            call(np.subtract, z, target, out=z),
            call(np.multiply, z, scale, out=outputs.grad),
        ]
        return BoundLoss(labels, scale, loss, hits, calls)


LOSSES: dict[str, type[Loss]] = {"cross_entropy": SoftmaxCrossEntropy}
"""Every loss by the name that a run's configuration gives it."""
