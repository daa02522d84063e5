"""A network bound to a shard size: every buffer allocated, every call prepared.

A plan lists the operations of all layers, moves each maximum in front of what commutes with it (a
max-pool before the bias and the ReLU: they then work on a quarter of the data), binds them in order,
and puts their calls into one list. Running a step is one loop over that list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mnistnet.engine.arrays import (
    UNIT_SCALE,
    AnyArray,
    FloatArray,
    IntArray,
    PixelScale,
    Shape,
    engine_shape,
    from_engine,
    rows_as_engine,
    split_batch,
)
from mnistnet.engine.blas import largest_divisor
from mnistnet.engine.layers.base import Buffer, Call, Dealt, Layer, Moment, Operation, Site, Team, call
from mnistnet.engine.losses import BoundLoss, Loss
from mnistnet.engine.streams import Noise
from mnistnet.engine.workspace import Workspace

IMAGES_AT_ONCE = 16  # that one small product transposes
LOADING = 0  # the moment at which a shard's images are loaded; operation i runs forward at i + 1


@dataclass(frozen=True)
class Blueprint:
    """What all plans of one network have in common; in a worker it is all that there is of the network."""

    layers: Sequence[Layer]
    input_shape: Shape
    dtype: np.dtype[Any]
    pixels: PixelScale = UNIT_SCALE


class Plan:
    """One network, one shard size, one worker.

    Args:
        blueprint: the layers, whose ``params`` are read at every run.
        size: n, the number of images in the shard.
        loss: what to train for; without it the plan only predicts.
        gradients: for each layer, where its parameters' gradients go; needed with ``loss``.
        noise: what layers draw from in training.
        team: who deals out the outputs of the first operation with parameters, a dense layer's product.
        workspace: an already settled workspace of a plan of the same blueprint, size and loss. The two
            plans then share all buffers: they may run in turn, not at once. Binding clears what the other
            plans had packed, so `prepare` comes next.
    """

    def __init__(
        self,
        blueprint: Blueprint,
        size: int,
        *,
        loss: Loss | None = None,
        gradients: Sequence[Mapping[str, FloatArray]] | None = None,
        noise: Noise | None = None,
        team: Team | None = None,
        workspace: Workspace | None = None,
    ) -> None:
        self.size = size
        self.blueprint = blueprint
        self._loss_rule = loss
        self._noise = noise or Noise()
        self._team = team
        self._gradients = gradients or [{}] * len(blueprint.layers)
        if workspace is None:
            self.workspace = Workspace()
            self._bind()  # the first time only measures
            self.workspace.settle()
        else:
            self.workspace = workspace
            self.workspace.rewind()
        self._bind()

    def load(self, rows: AnyArray, index: IntArray | slice) -> None:
        """Take a shard's images from all images.

        Args:
            rows: [N, C H W] uint8 (converted by the blueprint's pixel scale) or float (taken as they are).
            index: which n rows.
        """
        is_bytes = rows.dtype == np.uint8
        if isinstance(index, slice):
            np.copyto(self._rows, rows[index])
        elif is_bytes:
            rows.take(index, 0, self._bytes, "clip")  # "raise" would buffer the output
            np.copyto(self._rows, self._bytes)
        else:
            rows.take(index, 0, self._rows, "clip")
        for run in self._load_bytes if is_bytes else self._load_floats:
            run()

    def prepare(self) -> None:
        """Pack what layers derive from the parameters; once after every change of the parameters."""
        for run in self._prepare:
            run()

    def run(self) -> None:
        """One forward pass and, with a loss, the loss and the whole backward pass.

        It uses up what `load` brought: buffers are shared, the input's too.
        """
        for run in self._calls:
            run()

    @property
    def outputs(self) -> FloatArray:
        """(n, K) or (n, C, H, W) of a plan without a loss: a view, valid until the next load."""
        return from_engine(self._y.value)

    @property
    def loss(self) -> BoundLoss:
        """The bound loss of a training plan."""
        assert self._loss is not None
        return self._loss

    def _operations(self) -> list[tuple[int, Operation]]:
        """The operations with their layers' indices, each maximum in front of what commutes with it."""
        layers = list(enumerate(self.blueprint.layers))
        if self._loss_rule is not None and layers and layers[-1][1].kind == self._loss_rule.fuses:
            layers.pop()
        ordered: list[tuple[int, Operation]] = []
        for index, layer in layers:
            for operation in layer.operations():
                place = len(ordered)
                while operation.takes_max and place and ordered[place - 1][1].commutes_with_max:
                    place -= 1
                ordered.insert(place, (index, operation))
        return ordered

    def _bind(self) -> None:
        operations = self._operations()
        count = len(operations)
        training = self._loss_rule is not None
        workspace, dtype = self.workspace, self.blueprint.dtype
        trainable = [i for i, (_, op) in enumerate(operations) if op.parameter_names]
        lowest = min(trainable, default=count)

        self._prepare: list[Call] = []
        forward: list[Call] = []
        backward: list[Call] = []
        x = self._bind_input()
        overwritable = False
        dealt: Dealt | None = None  # while each process works on its share
        for i, (layer, operation) in enumerate(operations):
            wanted = None
            in_place = overwritable and not (training and operation.backward_reads_input)
            if dealt is not None and not (operation.by_feature and in_place):
                forward.append(self._bind_meeting(x, dealt))
                x, wanted, dealt, overwritable, in_place = dealt.whole, dealt.share, None, False, False
            last = count + 2 + 2 * (count - 1 - i)
            moments = {Moment.FORWARD: i + 1, Moment.WEIGHTS: last, Moment.INPUT: last + 1}
            following = operations[i + 1][1] if i + 1 < count else None
            team = self._team if i == lowest else None
            bound = operation.bind(
                x,
                Site(
                    workspace=workspace,
                    moments=moments,
                    training=training,
                    input_gradient=training and i > lowest,
                    in_place=in_place,
                    gradient_over_value=training
                    and following is not None
                    and following.gradient_over_input
                    and not operation.backward_reads_output,
                    gradients=self._gradients[layer],
                    dtype=dtype,
                    layer=layer,
                    noise=self._noise,
                    team=team,
                    share=None if dealt is None else dealt.share,
                    wanted=wanted,
                    input_scale=self._input_scale if i == lowest else None,
                    weight_gradient=self._team is None or self._team.hands_in or (team or dealt) is not None,
                ),
            )
            y, dealt = bound.y, bound.dealt or dealt
            self._keep_alive(operation, x, y, moments, training=training)
            aliases = np.may_share_memory(x.value, y.value)
            overwritable = (overwritable or not aliases) and not (
                training and operation.backward_reads_output
            )
            self._prepare += bound.prepare
            forward += bound.forward
            if i >= lowest:
                backward[:0] = bound.backward
            x = y

        if dealt is not None:
            forward.append(self._bind_meeting(x, dealt))
            x, overwritable = dealt.whole, False
        self._y = x
        workspace.touch(x.value, count + 1)
        self._loss: BoundLoss | None = None
        if self._loss_rule is not None:
            workspace.touch(x.grad, count + 1)
            moments = dict.fromkeys(Moment, count + 1)
            measures = self._team is None or self._team.measures
            site = Site(workspace, moments, True, False, overwritable, False, {}, dtype, measures=measures)
            self._loss = self._loss_rule.bind(x, site)
            forward += self._loss.calls
        self._calls = [*forward, *backward]

    def _bind_input(self) -> Buffer:
        """Bind the loading of a shard, in the layout that the first layer wants."""
        blueprint, n = self.blueprint, self.size
        shape = blueprint.input_shape
        features = int(np.prod(shape))
        dtype = blueprint.dtype
        take = self.workspace.take
        self._bytes = take((n, features), np.uint8, LOADING, LOADING)
        self._rows = take((n, features), dtype, LOADING, LOADING)
        scale, shift = (dtype.type(value) for value in (blueprint.pixels.scale, blueprint.pixels.shift))
        view = rows_as_engine(self._rows, shape)
        self._load_bytes: list[Call] = []
        self._load_floats: list[Call] = []
        self._input_scale: FloatArray | None = None
        as_it_is = view.flags.c_contiguous  # one grey image
        if self._team is not None and not shift:
            # the product that is dealt out has fewer outputs than inputs to be scaled
            x = view
            self._input_scale = np.ones((), dtype)
            self._load_bytes.append(call(self._input_scale.fill, scale))
            self._load_floats.append(call(self._input_scale.fill, 1))
        elif as_it_is or not blueprint.layers or blueprint.layers[0].batch_first:
            x = view
            self._load_bytes.append(call(np.multiply, self._rows, scale, out=self._rows))
        else:
            x = take(engine_shape(shape, n), dtype, LOADING, LOADING)
            # products with scale times the identity transpose and scale in one go, exactly, and faster than a
            # strided copy, some images at a time; floats are copied, for 0 x NaN would spoil the neighbours
            some = largest_divisor(n, IMAGES_AT_ONCE)
            source, target = (split_batch(array, n // some) for array in (view, x))
            if len(shape) == 3 and shape[0] == 1:  # rows of the same order: one long product each
                source, target = (array.reshape(len(array), features, some) for array in (source, target))
            identity = np.eye(some, dtype=dtype) * scale
            self._load_bytes.append(call(np.matmul, source, identity, out=target))
            self._load_floats.append(call(np.copyto, x, view))
        if shift:
            self._load_bytes.append(call(np.add, x, shift, out=x))
        return Buffer(x)

    def _bind_meeting(self, x: Buffer, dealt: Dealt) -> Call:
        """Everybody sees what each process has made of its share, for it was made in place."""
        assert self._team is not None
        assert np.may_share_memory(x.value, dealt.whole.value)
        return self._team.meet

    def _keep_alive(
        self, operation: Operation, x: Buffer, y: Buffer, moments: Mapping[Moment, int], *, training: bool
    ) -> None:
        """Tell the workspace until when the neighbours need what flows between them."""
        touch = self.workspace.touch
        for array in (x.value, y.value):
            touch(array, moments[Moment.FORWARD])
        if not training:
            return
        if operation.backward_reads_input:
            touch(x.value, moments[Moment.INPUT])
        if operation.backward_reads_output:
            touch(y.value, moments[Moment.INPUT])
        touch(y.grad, moments[Moment.WEIGHTS])
        touch(y.grad, moments[Moment.INPUT])
        touch(x.grad, moments[Moment.INPUT])
