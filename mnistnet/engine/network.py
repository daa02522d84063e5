"""Network: ordered layers, one flat vector of parameters, and the NCHW boundary."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from math import prod
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mnistnet.engine.arrays import UNIT_SCALE, AnyArray, FloatArray, PixelScale, Shape, aligned
from mnistnet.engine.blas import one_thread
from mnistnet.engine.held import quick_switching
from mnistnet.engine.layers.base import Layer
from mnistnet.engine.losses import Loss
from mnistnet.engine.plan import Blueprint, Plan
from mnistnet.engine.ufuncs import calculate
from mnistnet.engine.workers import on_threads
from mnistnet.errors import ShapeError

T = TypeVar("T")

SHARD_SIZE = 32
MOST_SHARDS = 64
LEAST_WORK = 5_000_000
"""Multiply-adds of a shard below which its calls cost more than its arithmetic: larger ones are better."""
SMALL_SHARD_BYTES = 64 * 1024
"""Networks with a larger activation than this an image work on shards of half the size, to stay in L2."""

PREDICTED_BYTES = 2_400_000
"""What the input and the output of the largest layer of a prediction may fill, unless that is less than
`SHARD_SIZE` images: with more, images fall out of the L2 cache; with less, threads wait for each other
between calls. Measured on 10,000 images with rsnet, lenet, mlp and sigmoid."""
MOST_PREDICTED = 8 * SHARD_SIZE
"""More images at once gain nothing."""


class Network:
    """A chain of layers: (N, C, H, W) or (N, F) in, (N, K) out.

    All parameters live in one flat vector: what is trained, layer by layer, and behind it the statistics that
    layers keep of what they have seen (`Layer.statistics`), again layer by layer.

    Args:
        layers: in order; the network keeps copies of its own.
        input_shape: (C, H, W) or (F,) of one sample.
        dtype: float32, or float64 for gradient checks.

    Raises:
        ShapeError: there is no layer, or ``layer i (kind): ...`` does not fit what comes before it.
    """

    def __init__(
        self, layers: Sequence[Layer], input_shape: Sequence[int], dtype: npt.DTypeLike = np.float32
    ) -> None:
        if not layers:
            raise ShapeError("empty network: expected at least one layer")
        self.layers = tuple(replace(layer) for layer in layers)
        self.input_shape: Shape = tuple(input_shape)
        if len(self.input_shape) not in (1, 3) or min(self.input_shape) < 1:
            raise ShapeError(f"input shape: expected (C, H, W) or (F,), found {self.input_shape}")
        self.shapes: list[Shape] = [self.input_shape]
        found: list[tuple[int, str, Shape, float | None]] = []
        for index, layer in enumerate(self.layers):
            try:
                shape = layer.output_shape(self.shapes[-1])
                parameters = layer.parameter_shapes(self.shapes[-1])
            except ShapeError as error:
                raise error.at(f"layer {index} ({layer.kind})") from error
            found += [(index, name, s, layer.statistics.get(name)) for name, s in parameters.items()]
            self.shapes.append(shape)
        self._largest_activation = max(prod(shape) for shape in self.shapes)
        sizes = [prod(shape) for _, _, shape, momentum in found if momentum is None]
        self.trainable = sum(sizes)
        """How many numbers of the vector are trained; the statistics begin there."""
        self.momenta: FloatArray = np.concatenate(
            [np.zeros(0, dtype), *(np.full(prod(s), m, dtype) for _, _, s, m in found if m is not None)]
        )
        """The momentum of every number of the statistics."""
        self._slots: list[tuple[int, str, Shape, slice]] = []
        ends = {True: 0, False: self.trainable}
        for index, name, shape, momentum in found:
            start = ends[momentum is None]
            ends[momentum is None] = stop = start + prod(shape)
            self._slots.append((index, name, shape, slice(start, stop)))
        self.size = ends[False]
        """P, how many numbers the vector has."""
        self._plans: dict[tuple[int, PixelScale], deque[Plan]] = {}
        self.place(aligned((self.size,), dtype))

    def __getstate__(self) -> dict[str, Any]:
        """For pickle and copy: what makes it anew. Plans are views of one memory, and would come apart."""
        layers = tuple(replace(layer) for layer in self.layers)  # without the parameters
        return {"layers": layers, "input_shape": self.input_shape, "vector": self.vector.copy()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A network of its own, whose layers look into a vector of its own."""
        Network.__init__(self, state["layers"], state["input_shape"], state["vector"].dtype)
        self.vector[...] = state["vector"]

    @property
    def output_shape(self) -> Shape:
        """Shape of one output, (K,) for a classifier."""
        return self.shapes[-1]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The parameters' type, which everything else follows."""
        return self.vector.dtype

    def place(self, vector: FloatArray) -> None:
        """Let the parameters live in ``vector`` (P,), with the values that are there: no copy.

        Raises:
            ShapeError: the vector has another size.
        """
        if vector.shape != (self.size,):
            raise ShapeError(f"vector: expected ({self.size},), found {vector.shape}")
        self.vector = vector
        for layer, views in zip(self.layers, self.views(vector), strict=True):
            layer.params = views
        self._plans.clear()

    def views(self, vector: FloatArray) -> list[dict[str, FloatArray]]:
        """For each layer its parameters by name, as views into a vector (P,) laid out like the network's."""
        views: list[dict[str, FloatArray]] = [{} for _ in self.layers]
        for index, name, shape, where in self._slots:
            views[index][name] = vector[where].reshape(shape)
        return views

    def parameters(self, vector: FloatArray | None = None) -> dict[str, FloatArray]:
        """Views by name, ``"0.weight"``: the names that optimizer, JSON and ONNX all use."""
        vector = self.vector if vector is None else vector
        return {f"{index}.{name}": vector[where].reshape(shape) for index, name, shape, where in self._slots}

    def initialize(self, seed: int) -> Network:
        """Draw every parameter anew; the same seed gives the same values. Returns the network itself."""
        rng = np.random.Generator(np.random.Philox(key=seed))
        for layer, shape in zip(self.layers, self.shapes, strict=False):
            layer.initialize(shape, rng)
        return self

    def copy(self, count: int | None = None) -> Network:
        """A network of its own with the same parameters; of the first ``count`` layers only, if given."""
        network = Network(self.layers[:count], self.input_shape, self.dtype)
        parameters = self.parameters()
        for name, values in network.parameters().items():
            values[...] = parameters[name]
        return network

    @property
    def multiply_adds(self) -> int:
        """Multiplications of one image's forward pass, convolutions counted as direct ones."""
        return sum(layer.multiply_adds(shape) for layer, shape in zip(self.layers, self.shapes, strict=False))

    def blueprint(self, pixels: PixelScale = UNIT_SCALE) -> Blueprint:
        """What a plan needs to know."""
        return Blueprint(self.layers, self.input_shape, self.dtype, pixels)

    @property
    def _largest_bytes(self) -> int:
        """Of the largest activation of one image."""
        return self._largest_activation * self.dtype.itemsize

    def shard_size(self, batch_size: int) -> int:
        """How many images are worked on at once: by the network and the batch only, never by the workers.

        So the same seed gives the same bits with any number of workers.
        """
        size = SHARD_SIZE if self._largest_bytes <= SMALL_SHARD_BYTES else SHARD_SIZE // 2
        # two shards at least, for two workers; not so many that gradients outweigh images
        while batch_size >= 4 * size and (
            size * self.multiply_adds < LEAST_WORK or batch_size > size * MOST_SHARDS
        ):
            size *= 2
        return size

    def _images_at_once(self) -> int:
        """How many images a prediction works on: whole shards, as many as `PREDICTED_BYTES` hold."""
        # a layer's input and output, or what it is lowered to, are there together
        fit = PREDICTED_BYTES // (2 * self._largest_bytes)
        return max(SHARD_SIZE, min(fit // SHARD_SIZE * SHARD_SIZE, MOST_PREDICTED))

    def predict(self, images: AnyArray, *, pixels: PixelScale = UNIT_SCALE, threads: int = 1) -> FloatArray:
        """The network's output.

        Args:
            images: (N, C, H, W) or (N, F): uint8, converted by ``pixels``, or float, taken as they are.
            pixels: what bytes mean.
            threads: how many to use; the result has the same bits for any number.

        Returns:
            (N, K), new.

        Raises:
            ShapeError: the images do not have the network's input shape, or are neither bytes nor floats.
        """
        check_images(images, self.input_shape)
        rows = images.reshape(len(images), prod(self.input_shape))
        if rows.dtype != np.uint8:
            rows = rows.astype(self.dtype, copy=False)
        out = np.empty((len(rows), *self.output_shape), self.dtype)

        def work(starts: deque[int], size: int) -> None:
            try:
                calculate(self._predict_shards, rows, out, starts, size, pixels)
            except BaseException:
                starts.clear()  # the other threads need not go on
                raise

        done = 0
        with one_thread():
            for size in (self._images_at_once(), SHARD_SIZE):
                starts = deque(range(done, len(rows) - size + 1, size))
                if starts:
                    done = starts[-1] + size
                    used = max(1, min(threads, len(starts) // 4))
                    with quick_switching if used > 1 else nullcontext():
                        on_threads([partial(work, starts, size)] * used)
            if done < len(rows):
                work(deque([done]), len(rows) - done)
        return out

    def loss_and_gradients(
        self,
        images: AnyArray,
        targets: AnyArray,
        loss: Loss,
        *,
        pixels: PixelScale = UNIT_SCALE,
    ) -> tuple[float, dict[str, FloatArray]]:
        """Mean loss of one batch and its gradient by all that is trained, worked out as a single shard.

        Args:
            images: (N, C, H, W) or (N, F), as in `predict`.
            targets: (N,) classes, or (N, K) values where the loss takes them.
            loss: what to differentiate.
            pixels: what bytes mean.

        Raises:
            ShapeError: images or targets do not fit.
        """
        check_images(images, self.input_shape)
        loss.check_targets(prod(self.output_shape), targets)
        if len(targets) != len(images):
            raise ShapeError(f"targets: expected {len(images)}, one for each image, found {len(targets)}")
        vector = aligned((self.size,), self.dtype)
        plan = Plan(self.blueprint(pixels), len(images), loss=loss, gradients=self.views(vector))
        rows = images.reshape(len(images), prod(self.input_shape))
        with one_thread():
            plan.prepare()
            plan.load(rows if rows.dtype == np.uint8 else rows.astype(self.dtype, copy=False), slice(None))
            plan.loss.load_targets(targets, slice(None))
            plan.loss.scale[...] = 1.0 / len(images)
            calculate(plan.run)
        gradients = {
            f"{index}.{name}": vector[where].reshape(shape)
            for index, name, shape, where in self._slots
            if where.stop <= self.trainable
        }
        return float(plan.loss.loss) / len(images), gradients

    def _predict_shards(
        self, rows: AnyArray, out: FloatArray, starts: deque[int], size: int, pixels: PixelScale
    ) -> None:
        """Predict the shards that begin at ``starts``, until nobody has left one there."""
        # plans are kept for the next call; one that is in use is in nobody's list
        idle = self._plans.setdefault((size, pixels), deque())
        plan = next(_taken(idle), None) or Plan(self.blueprint(pixels), size)
        plan.prepare()
        for start in _taken(starts):
            plan.load(rows, slice(start, start + size))
            plan.run()
            out[start : start + size] = plan.outputs
        idle.append(plan)


def _taken(queue: deque[T]) -> Iterator[T]:
    """One after the other, whichever thread asks for it, until there is none."""
    while True:
        try:
            yield queue.popleft()
        except IndexError:
            return


def check_images(images: AnyArray, shape: Shape) -> None:
    """Raise ShapeError unless these are images of ``shape`` each, (C, H, W) or (F,), in bytes or floats."""
    if images.shape[1:] != shape:
        raise ShapeError(f"images: expected {shape} each, found {images.shape[1:]}")
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise ShapeError(
            f"images: expected uint8 or floats, found {images.dtype}: .astype(np.uint8), if they are bytes"
        )
