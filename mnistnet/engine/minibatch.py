"""A training step: the shards of a minibatch, on one process or several, with the same bits on any number.

A batch is cut into shards whose size depends on the network and the batch only. Rank r of T computes
shards r, r + T, ...: each shard leaves the gradient of its part of the mean loss in a slot of its own.
Then the ranks meet, and each one adds up all slots *in shard order*, and takes the optimizer's step, on
its own slice of the flat parameter vector. So nothing depends on who computed what; and what is random is
drawn from the seed, the number of the step and the slot.

Where the first layer's outputs are dealt out instead (see ``division``), the batch is a single shard that all
ranks compute, but each only its share of these outputs and of the gradients of their parameters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from math import isfinite, prod, sqrt
from typing import Any, NamedTuple, Self

import numpy as np

from mnistnet.engine.arrays import UNIT_SCALE, AnyArray, FloatArray, IntArray, PixelScale, aligned_copy
from mnistnet.engine.blas import one_thread
from mnistnet.engine.division import divide
from mnistnet.engine.layers import layer_from_config
from mnistnet.engine.layers.base import Call, Team, call
from mnistnet.engine.losses import Loss
from mnistnet.engine.network import Network, check_images
from mnistnet.engine.optimizers import Optimizer
from mnistnet.engine.plan import Plan
from mnistnet.engine.rebuild import check_importable, description, import_modules, rebuild
from mnistnet.engine.streams import TRANSFORM, Noise, stream
from mnistnet.engine.transform import BoundTransform, Transform, transform_of
from mnistnet.engine.ufuncs import calculate
from mnistnet.engine.workers import Region, Rendezvous, Workers
from mnistnet.engine.workspace import Workspace

NORM_BLOCK = 256
"""Numbers of the gradient whose squares are added up at once. Ranks' slices begin at whole blocks, so that
the norm of a gradient has the same bits for any number of ranks."""

FLUSH_INTERVAL = 64
"""Steps after which momentum that has faded away becomes zero."""
FADED = 1e8
"""Momentum has faded below this many times the smallest normal number (in float32 below 1.2e-30)."""

AVERAGE = "average"
"""The state vector of the moving average of the parameters."""


@dataclass(frozen=True)
class StepOutcome:
    """What one step found before it changed the parameters."""

    loss: float
    """The sum of the losses of the batch's images. Where it is not finite the parameters were not changed."""
    correct: int
    """How many of them the network had right."""
    images: int


class Minibatches:
    """A network in training on a fixed set of images; a context manager.

    Args:
        network: trained in place. Until `close` its parameters live in memory shared with the workers.
        images: (N, C, H, W), or their numbers (N, F), uint8 or float.
        targets: (N,) classes, or (N, K) values where the loss takes them.
        loss: what is made small.
        optimizer: the rule of the update.
        batch_size: the largest batch that `step` will be asked for.
        pixels: what bytes mean.
        seed: of what is drawn at random in a step.
        transform: what is done to the images of a shard before the network sees them.
        clip_norm: the Euclidean norm to which a longer gradient is shortened (Pascanu et al. 2013, alg. 1).
        average_decay: d of an exponential moving average of the parameters, ``a += (1 - d)(w - a)`` after
            every step (averaging: Polyak and Juditsky 1992; this form: Kingma and Ba 2015, sec. 7.2). In the
            first steps d is at most ``step / (step + 9)``, so that the first weights are soon forgotten.
        workers: how many processes, this one included; but no more than have something to do (``division``).

    Raises:
        ShapeError: the images do not fit the network, or its last layer or the targets not the loss.
        UsageError: there are workers, but something whose class they cannot import.
        WorkerError: a worker could not be started.
    """

    def __init__(
        self,
        network: Network,
        images: AnyArray,
        targets: AnyArray,
        *,
        loss: Loss,
        optimizer: Optimizer,
        batch_size: int,
        pixels: PixelScale = UNIT_SCALE,
        seed: int = 0,
        transform: Transform | None = None,
        clip_norm: float | None = None,
        average_decay: float | None = None,
        workers: int = 1,
    ) -> None:
        loss.check(network.layers[-1].kind, prod(network.output_shape), targets)
        flat = images.shape[1:] == (prod(network.input_shape),)
        check_images(images, images.shape[1:] if flat else network.input_shape)
        if workers > 1:
            for thing in (loss, optimizer, transform, *network.layers):
                check_importable(thing)
        self.network = network
        self._optimizer = optimizer
        self._average_decay = average_decay
        division = divide(network, batch_size, transformed=transform is not None)
        workers = min(workers, division.most)
        slots = -(-batch_size // division.shard)
        rows = images.reshape(len(images), -1)
        kind = network.dtype.str
        states = [*optimizer.state_names, *([] if average_decay is None else [AVERAGE])]
        regions = [
            Region("command", (3,), "int64"),
            Region("factors", (optimizer.factor_count,), kind),
            Region("average_rate", (), kind),
            Region("outcomes", (slots, 2), "float64"),
            Region("squares", (-(-network.trainable // NORM_BLOCK),), kind),
            Region("vector", (network.size,), kind),
            *(Region(f"state.{name}", (network.size,), kind) for name in states),
            *(Region(f"gradient.{slot}", (network.size,), kind) for slot in range(slots)),
            Region("order", (len(rows),), "int64"),
        ]
        if division.dealt is not None:
            regions.append(Region("dealt", (network.shapes[division.dealt + 1][0] * batch_size,), kind))
        targets = targets.astype(np.int64 if targets.ndim == 1 else network.dtype, copy=False)
        shared_data = [
            Region("targets", targets.shape, targets.dtype.str),
            Region("rows", rows.shape, rows.dtype.str),
        ]
        spec = {
            "layers": [{"kind": layer.kind, **layer.config()} for layer in network.layers],
            "input_shape": network.input_shape,
            "dtype": kind,
            "modules": sorted({type(layer).__module__ for layer in network.layers}),
            "loss": description(loss, loss.config()),
            "optimizer": description(optimizer, optimizer.config()),
            "pixels": [pixels.scale, pixels.shift],
            "seed": seed,
            "transform": None if transform is None else transform.spec(),
            "clip_norm": None if clip_norm is None else float(clip_norm),  # as JSON gives it to the others
            "average": average_decay is not None,
            "shard": division.shard,
            "dealt": division.dealt,
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
                self._workers.fill("targets", targets)
                self._workers.fill("rows", rows)
            else:
                arrays |= {"targets": targets, "rows": rows}
            arrays["vector"][...] = network.vector
            if average_decay is not None:
                arrays[f"state.{AVERAGE}"][...] = network.vector
            arrays["order"][...] = np.arange(len(rows))
            rules = _Rules(loss, optimizer, transform)
            self._rank = _Rank(network, self._workers.rendezvous, 0, workers, spec, arrays, rules)
            stack.enter_context(one_thread())
            self._stack = stack.pop_all()
        network.place(arrays["vector"])
        self.state: Mapping[str, FloatArray] = {name: arrays[f"state.{name}"] for name in states}
        """The optimizer's vectors and the average by name, (P,) each: read or set them between steps."""
        self._arrays = arrays

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def set_order(self, order: IntArray) -> None:
        """The order (N,) in which the following steps' positions count the images."""
        self._arrays["order"][...] = order

    def step(self, number: int, first: int, size: int, learning_rate: float) -> StepOutcome:
        """One step on the images at positions ``first .. first + size - 1`` of the order.

        Args:
            number: of this step, from 1: with the seed it decides what chance brings.
            first: the first position.
            size: how many images.
            learning_rate: of this step.

        Raises:
            WorkerError: a worker has ended; the parameters are then not to be relied on.
        """
        arrays = self._arrays
        arrays["command"][:] = number, first, size
        arrays["factors"][...] = self._optimizer.factors(number, learning_rate)
        if self._average_decay is not None:
            arrays["average_rate"][...] = 1.0 - min(self._average_decay, number / (number + 9))
        losses, hits = self._rank.step()
        if self.workers > 1:
            self._workers.rendezvous.await_others()
        return StepOutcome(sum(losses), int(sum(hits)), size)

    def close(self) -> None:
        """End the workers; the network's parameters move to memory of its own."""
        self._stack.close()
        if self.network.vector is self._arrays["vector"]:
            self.network.place(aligned_copy(self._arrays["vector"]))


def serve(
    rank: int, ranks: int, spec: Mapping[str, Any], arrays: Mapping[str, AnyArray], rendezvous: Rendezvous
) -> None:
    """A worker: rebuild the network around the shared parameters, then step with the others for ever."""
    import_modules(spec["modules"])  # where layers are defined
    layers = [
        layer_from_config(config["kind"], {k: v for k, v in config.items() if k != "kind"})
        for config in spec["layers"]
    ]
    network = Network(layers, spec["input_shape"], spec["dtype"])
    network.place(arrays["vector"])
    transform = None if spec["transform"] is None else transform_of(spec["transform"])
    rules = _Rules(rebuild(spec["loss"]), rebuild(spec["optimizer"]), transform)
    mine = _Rank(network, rendezvous, rank, ranks, spec, arrays, rules)
    with one_thread():
        while True:
            mine.step()


class _Rules(NamedTuple):
    """What a step does, beside the network."""

    loss: Loss
    optimizer: Optimizer
    transform: Transform | None


class _Rank:
    """One process's part of every step."""

    def __init__(
        self,
        network: Network,
        rendezvous: Rendezvous,
        rank: int,
        ranks: int,
        spec: Mapping[str, Any],
        arrays: Mapping[str, AnyArray],
        rules: _Rules,
    ) -> None:
        self._network = network
        self._meet = rendezvous.meet
        self._rank = rank
        self._ranks = ranks
        self._shard: int = spec["shard"]
        self._loss, self._optimizer, self._transform = rules
        self._blueprint = network.blueprint(PixelScale(*spec["pixels"]))
        self._seed: int = spec["seed"]
        self._clip_norm: float | None = spec["clip_norm"]
        self._averages: bool = spec["average"]
        self._arrays = arrays
        self._workspaces: dict[int, Workspace] = {}
        self._plans: dict[tuple[int, int], Plan] = {}
        self._transforms: dict[int, BoundTransform] = {}
        self._updates: dict[int, Sequence[Call]] = {}
        blocks = -(-network.trainable // NORM_BLOCK)
        bounds = [blocks * r // ranks * NORM_BLOCK for r in range(ranks)] + [network.trainable]
        self._slice = slice(bounds[rank], bounds[rank + 1])
        self._noise = Noise(self._seed)
        self._dealt: int | None = spec["dealt"]
        self._team = None if self._dealt is None else Team(rank, ranks, arrays["dealt"], self._meet)

    def step(self) -> tuple[list[float], list[float]]:
        """What the command says, in lock step with the other ranks.

        Returns:
            The loss and the number of hits of every slot, in shard order.
        """
        self._meet()
        return calculate(self._calculate, *self._arrays["command"].tolist())

    def _calculate(self, number: int, first: int, size: int) -> tuple[list[float], list[float]]:
        slots = self._compute(number, first, size)
        self._meet()
        losses, hits = self._arrays["outcomes"][:slots].T.tolist()
        if isfinite(sum(losses)):  # a diverging training is told by its loss
            self._update(slots)
            if number % FLUSH_INTERVAL == 0:
                self._flush()
        return losses, hits

    def _compute(self, number: int, first: int, size: int) -> int:
        """Fill the slots of this rank's shards; returns how many slots the batch has."""
        shard = self._shard
        slots = -(-size // shard)
        packed = set()
        # where outputs are dealt out there is one slot, which all ranks compute
        for slot in range(self._rank, slots, self._ranks) if self._team is None else range(slots):
            start = first + slot * shard
            n = min(shard, first + size - start)
            plan = self._plans.get((slot, n)) or self._bind(slot, n)
            if n not in packed:  # plans of one size share what they pack
                plan.prepare()
                packed.add(n)
            self._run(plan, number, slot, slice(start, start + n), size)
        return slots

    def _run(self, plan: Plan, number: int, slot: int, where: slice, size: int) -> None:
        arrays = self._arrays
        index = arrays["order"][where]
        loss = plan.loss
        loss.load_targets(arrays["targets"], index)
        loss.scale[...] = 1.0 / size
        if self._transform is None:
            plan.load(arrays["rows"], index)
        else:
            plan.load(self._transformed(index, stream(self._seed, TRANSFORM, number, slot)), slice(None))
        self._noise.step, self._noise.slot = number, slot
        plan.run()
        if self._team is not None and not self._team.measures:
            return
        if self._team is None and len(self._network.momenta):
            # a shard's measurements count by its share of the batch
            arrays[f"gradient.{slot}"][self._network.trainable :] *= len(index) / size
        arrays["outcomes"][slot] = loss.loss, np.count_nonzero(loss.hits)

    def _transformed(self, index: IntArray, rng: np.random.Generator) -> AnyArray:
        """The rows [n, C H W] of a shard's transformed images."""
        assert self._transform is not None
        n, shape = len(index), self._network.input_shape
        transform = self._transforms.get(n)
        if transform is None:
            transform = self._transforms[n] = self._transform.bind(n, shape)
        images = self._arrays["rows"][index].reshape(n, *shape)
        return transform(images, rng).reshape(n, -1)

    def _update(self, slots: int) -> None:
        """Add up the slots and take the optimizer's step, both on this rank's slice."""
        calls = self._updates.get(slots)
        if calls is None:
            calls = self._updates[slots] = self._bind_update(slots)
        for run in calls:
            run()

    def _flush(self) -> None:
        """Let momentum that is too small to move anything be zero, on this rank's slice.

        Where the gradient is zero for long, as at a pixel that nearly no image uses, momentum halves every
        few steps until it is subnormal, and there rounding keeps it. Many processors take a hundred times as
        long over such a number: on an Intel server one in forty made a step of mlp take 0.43 instead of
        0.31 ms.
        """
        for name in self._optimizer.momentum_names:
            momentum = self._arrays[f"state.{name}"][self._slice]
            momentum[np.abs(momentum) < FADED * np.finfo(momentum.dtype).smallest_normal] = 0

    def _bind(self, slot: int, n: int) -> Plan:
        plan = Plan(
            self._blueprint,
            n,
            loss=self._loss,
            gradients=self._gradients(slot),
            noise=self._noise,
            team=self._team,
            workspace=self._workspaces.get(n),
        )
        self._workspaces[n] = plan.workspace
        plan.prepare()  # binding cleared what the other plans of this size had packed
        self._plans[slot, n] = plan
        return plan

    def _gradients(self, slot: int) -> Sequence[Mapping[str, FloatArray]]:
        """Where the gradients of a slot go."""
        shared = self._network.views(self._arrays[f"gradient.{slot}"])
        if self._dealt is None or self._team is None or self._team.hands_in:
            return shared
        # but for the shares of what is dealt out all ranks find the same, if they look for it at all
        own = self._network.views(np.empty_like(self._arrays[f"gradient.{slot}"]))
        own[self._dealt] = shared[self._dealt]
        return own

    def _bind_update(self, slots: int) -> Sequence[Call]:
        arrays, where = self._arrays, self._slice
        total, calls = self._bind_sum(slots, where)
        state = {name: arrays[f"state.{name}"][where] for name in self._optimizer.state_names}
        if self._clip_norm is not None:
            calls += self._bind_clipping(total, self._clip_norm)
        calls += self._optimizer.bind(arrays["vector"][where], total, state, arrays["factors"])
        calls += self._bind_average(where, total)
        if self._rank == self._ranks - 1:  # the statistics are few
            calls += self._bind_statistics(slots)
        return calls

    def _bind_sum(self, slots: int, where: slice) -> tuple[FloatArray, list[Call]]:
        """The sum of the slots, in the place of the first one."""
        total, *others = (self._arrays[f"gradient.{slot}"][where] for slot in range(slots))
        return total, [call(np.add, total, other, out=total) for other in others]

    def _bind_average(self, where: slice, scratch: FloatArray) -> Sequence[Call]:
        """Let the moving average, where there is one, follow the vector."""
        if not self._averages:
            return ()
        average = self._arrays[f"state.{AVERAGE}"][where]
        return (
            call(np.subtract, self._arrays["vector"][where], average, out=scratch),
            call(np.multiply, scratch, self._arrays["average_rate"], out=scratch),
            call(np.add, average, scratch, out=average),
        )

    def _bind_statistics(self, slots: int) -> Sequence[Call]:
        """Let the layers' statistics follow what the shards have measured."""
        where = slice(self._network.trainable, None)
        measured, calls = self._bind_sum(slots, where)
        statistics = self._arrays["vector"][where]
        if not len(statistics):
            return ()
        return [
            *calls,
            call(np.subtract, measured, statistics, out=measured),
            call(np.multiply, measured, self._network.momenta, out=measured),
            call(np.add, statistics, measured, out=statistics),
            *self._bind_average(where, measured),
        ]

    def _bind_clipping(self, gradient: FloatArray, clip_norm: float) -> Sequence[Call]:
        """Shorten the gradient, of which this is the rank's slice, to at most ``clip_norm``."""
        squares = self._arrays["squares"]
        whole = len(gradient) // NORM_BLOCK * NORM_BLOCK
        first = self._slice.start // NORM_BLOCK
        last = first + whole // NORM_BLOCK
        products = np.empty((last - first, NORM_BLOCK), gradient.dtype)
        blocks, rest = gradient[:whole].reshape(products.shape), gradient[whole:]

        def shorten() -> None:
            length = sqrt(squares.sum(dtype=np.float64))  # of all ranks, and each adds them up alike
            if length > clip_norm:
                np.multiply(gradient, gradient.dtype.type(clip_norm / length), out=gradient)

        return [
            call(np.multiply, blocks, blocks, out=products),
            call(np.add.reduce, products, axis=1, out=squares[first:last]),
            *([call(np.dot, rest, rest, out=squares[last:].reshape(()))] if len(rest) else []),
            self._meet,
            shorten,
        ]
