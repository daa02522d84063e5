"""A training step: the shards of a minibatch, on one process or several, with the same bits on any number.

A batch is cut into shards whose size depends on the network and the batch only. Rank r of T computes
shards r, r + T, ...: each shard leaves the gradient of its part of the mean loss in a slot of its own.
Then the ranks meet, and each one adds up all slots *in shard order*, and takes the optimizer's step, on
its own slice of the flat parameter vector. So nothing depends on who computed what.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from mnistnet.engine.arrays import UNIT_SCALE, AnyArray, FloatArray, IntArray, PixelScale
from mnistnet.engine.blas import one_thread
from mnistnet.engine.layers import layer_from_config
from mnistnet.engine.layers.base import Call, call
from mnistnet.engine.losses import LOSSES
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import OPTIMIZERS, Optimizer
from mnistnet.engine.plan import Plan
from mnistnet.engine.workers import Region, Rendezvous, Workers, usable_cores
from mnistnet.engine.workspace import Workspace

WORTH_A_WORKER = 1_000_000
"""Multiply-adds (forward, one shard) below which meeting other processes costs more than they help."""


@dataclass(frozen=True)
class StepOutcome:
    """What one step found before it changed the parameters."""

    loss: float
    """The sum of the losses of the batch's images."""
    correct: int
    """How many of them the network had right."""
    images: int


def choose_workers(network: Network, batch_size: int, requested: int | None = None) -> int:
    """How many processes to use: what is asked for, else the cores, fewer where a network is too small.

    Never more than a batch has shards.
    """
    shard = network.shard_size(batch_size)
    shards = -(-batch_size // shard)
    if requested is not None:
        return max(1, min(requested, shards))
    return min(usable_cores(), shards) if shard * network.multiply_adds >= WORTH_A_WORKER else 1


class Minibatches:
    """A network in training on a fixed set of images; a context manager.

    Args:
        network: trained in place. Until `close` its parameters live in memory shared with the workers.
        images: (N, C, H, W) or (N, F), uint8 or float.
        labels: (N,) classes.
        loss: a name of ``LOSSES``.
        optimizer: the rule of the update.
        batch_size: the largest batch that `step` will be asked for.
        pixels: what bytes mean.
        workers: how many processes, this one included (see `choose_workers`).

    Raises:
        WorkerError: a worker could not be started.
    """

    def __init__(
        self,
        network: Network,
        images: AnyArray,
        labels: IntArray,
        *,
        loss: str,
        optimizer: Optimizer,
        batch_size: int,
        pixels: PixelScale = UNIT_SCALE,
        workers: int = 1,
    ) -> None:
        self.network = network
        shard = network.shard_size(batch_size)
        slots = -(-batch_size // shard)
        rows = images.reshape(len(images), -1)
        kind = network.dtype.str
        regions = [
            Region("command", (2,), "int64"),
            Region("learning_rate", (), kind),
            Region("outcomes", (slots, 2), "float64"),
            Region("vector", (network.size,), kind),
            *(Region(f"state.{name}", (network.size,), kind) for name in optimizer.state_names),
            *(Region(f"gradient.{slot}", (network.size,), kind) for slot in range(slots)),
            Region("order", (len(rows),), "int64"),
        ]
        shared_data = [Region("labels", labels.shape, "int64"), Region("rows", rows.shape, rows.dtype.str)]
        spec = {
            "layers": [{"kind": layer.kind, **layer.config()} for layer in network.layers],
            "input_shape": network.input_shape,
            "dtype": kind,
            "loss": loss,
            "optimizer": {"name": optimizer.name, **optimizer.config()},
            "pixels": [pixels.scale, pixels.shift],
            "shard": shard,
        }
        self.workers = workers
        if workers > 1:
            regions += shared_data
        # whatever goes wrong from here on ends the workers
        with ExitStack() as stack:
            self._workers = Workers(workers, regions, f"{__name__}:serve", spec)
            stack.callback(self._workers.close)
            arrays = self._workers.arrays
            if workers > 1:
                arrays["labels"][...] = labels
                arrays["rows"][...] = rows
            else:
                arrays |= {"labels": labels.astype(np.int64), "rows": rows}
            arrays["vector"][...] = network.vector
            arrays["order"][...] = np.arange(len(rows))
            self._rank = _Rank(network, 0, workers, spec, arrays)
            stack.enter_context(one_thread())
            self._stack = stack.pop_all()
        network.place(arrays["vector"])
        self.state: Mapping[str, FloatArray] = {n: arrays[f"state.{n}"] for n in optimizer.state_names}
        """The optimizer's vectors by name, (P,) each: read or set them between steps."""
        self._arrays = arrays
        self._started = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_order(self, order: IntArray) -> None:
        """The order (N,) in which the following steps' positions count the images."""
        self._arrays["order"][...] = order

    def step(self, first: int, size: int, learning_rate: float) -> StepOutcome:
        """One step on the images at positions ``first .. first + size - 1`` of the order.

        Raises:
            WorkerError: a worker has ended; the parameters are then not to be relied on.
        """
        rendezvous, arrays = self._workers.rendezvous, self._arrays
        if not self._started:
            self._await_workers()
        arrays["command"][:] = first, size
        arrays["learning_rate"][...] = learning_rate
        rendezvous.meet()
        slots = self._rank.compute(first, size)
        rendezvous.meet()
        self._rank.update(slots)
        # summed as Python floats in shard order
        losses, hits = arrays["outcomes"][:slots].T.tolist()
        if self.workers > 1:
            rendezvous.await_others()
        return StepOutcome(sum(losses), int(sum(hits)), size)

    def close(self) -> None:
        """End the workers; the network's parameters move to memory of its own."""
        self._stack.close()
        if self.network.vector is self._arrays["vector"]:
            self.network.place(self._arrays["vector"].copy())

    def _await_workers(self) -> None:
        if self.workers > 1:
            self._workers.rendezvous.await_others()
        self._started = True


def serve(
    rank: int, ranks: int, spec: Mapping[str, Any], arrays: Mapping[str, AnyArray], rendezvous: Rendezvous
) -> None:
    """A worker: rebuild the network around the shared parameters, then step with the others for ever."""
    layers = [
        layer_from_config(config["kind"], {k: v for k, v in config.items() if k != "kind"})
        for config in spec["layers"]
    ]
    network = Network(layers, spec["input_shape"], spec["dtype"])
    network.place(arrays["vector"])
    mine = _Rank(network, rank, ranks, spec, arrays)
    command = arrays["command"]
    with one_thread():
        while True:
            rendezvous.meet()
            slots = mine.compute(int(command[0]), int(command[1]))
            rendezvous.meet()
            mine.update(slots)


class _Rank:
    """One process's part of every step."""

    def __init__(
        self,
        network: Network,
        rank: int,
        ranks: int,
        spec: Mapping[str, Any],
        arrays: Mapping[str, AnyArray],
    ) -> None:
        self._network = network
        self._rank = rank
        self._ranks = ranks
        self._shard: int = spec["shard"]
        self._loss = LOSSES[spec["loss"]]()
        settings = dict(spec["optimizer"])
        self._optimizer = OPTIMIZERS[settings.pop("name")](**settings)
        self._blueprint = network.blueprint(PixelScale(*spec["pixels"]))
        self._arrays = arrays
        self._workspaces: dict[int, Workspace] = {}
        self._plans: dict[tuple[int, int], Plan] = {}
        self._updates: dict[int, Sequence[Call]] = {}
        bounds = [network.size * r // ranks // 16 * 16 for r in range(ranks)] + [network.size]
        self._slice = slice(bounds[rank], bounds[rank + 1])

    def compute(self, first: int, size: int) -> int:
        """Fill the slots of this rank's shards; returns how many slots the batch has."""
        shard = self._shard
        slots = -(-size // shard)
        packed = set()
        with np.errstate(all="ignore"):  # a diverging training is told by its loss, not by a warning
            for slot in range(self._rank, slots, self._ranks):
                start = first + slot * shard
                n = min(shard, first + size - start)
                plan = self._plans.get((slot, n)) or self._bind(slot, n)
                if n not in packed:  # plans of one size share what they pack
                    plan.prepare()
                    packed.add(n)
                self._run(plan, slot, slice(start, start + n), size)
        return slots

    def _run(self, plan: Plan, slot: int, where: slice, size: int) -> None:
        arrays = self._arrays
        index = arrays["order"][where]
        loss = plan.loss
        np.take(arrays["labels"], index, out=loss.labels, mode="clip")
        loss.scale[...] = 1.0 / size
        plan.load(arrays["rows"], index)
        plan.run()
        arrays["outcomes"][slot] = loss.loss, np.count_nonzero(loss.hits)

    def update(self, slots: int) -> None:
        """Add up the slots and take the optimizer's step, both on this rank's slice."""
        calls = self._updates.get(slots)
        if calls is None:
            calls = self._updates[slots] = self._bind_update(slots)
        with np.errstate(all="ignore"):
            for run in calls:
                run()

    def _bind(self, slot: int, n: int) -> Plan:
        plan = Plan(
            self._blueprint,
            n,
            loss=self._loss,
            gradients=self._network.views(self._arrays[f"gradient.{slot}"]),
            workspace=self._workspaces.get(n),
        )
        self._workspaces[n] = plan.workspace
        plan.prepare()  # binding cleared what the other plans of this size had packed
        self._plans[slot, n] = plan
        return plan

    def _bind_update(self, slots: int) -> Sequence[Call]:
        arrays, where = self._arrays, self._slice
        total, *others = (arrays[f"gradient.{slot}"][where] for slot in range(slots))
        state = {name: arrays[f"state.{name}"][where] for name in self._optimizer.state_names}
        return [
            *(call(np.add, total, other, out=total) for other in others),
            *self._optimizer.bind(arrays["vector"][where], total, state, arrays["learning_rate"]),
        ]
