"""How a minibatch is divided among processes: into shards of images, or by the first layer's outputs.

Shards suit most networks. But where the first layer sees the pixels and holds nearly all weights, shards cost
more than they share: every process reads all weights, which the others have just changed, and a shard's
gradient is as long as they are. There a small batch is not cut. Every process takes all images and a part of
the first layer's outputs, whose weights, gradient and velocity never leave its core, and what follows of them
feature by feature; they exchange the outputs, and all of them compute the little that is left. What only one
has to know is found by one: the loss by the first, the gradients of the other layers by the last. A step of
mlp at batch 64 takes 144 instead of 188 microseconds with two workers, and 238 instead of 290 with one.
"""

from __future__ import annotations

from dataclasses import dataclass

from mnistnet.engine.arrays import Shape
from mnistnet.engine.layers.dense import dealt_at_once
from mnistnet.engine.network import Network
from mnistnet.engine.workers import usable_cores

WORTH_A_WORKER = 1_000_000
"""Multiply-adds (forward) of a shard, below which meeting other processes costs more than they help."""
WORTH_A_SHARE = 800_000
"""The same of a process's share of a batch, where outputs are dealt out."""
LEAST_SHARE = 0.9
"""The first layer's part of all multiply-adds, from which on its outputs are dealt out."""
MOST_NUMBERS = 100 * 1024
"""In the images of a batch that is not cut: they have to stay in every core's L2 cache."""


@dataclass(frozen=True)
class Division:
    """Follows from the network and the batch, never from the workers: so any number gives the same bits."""

    shard: int
    """Images that are worked on at once: the whole batch where outputs are dealt out."""
    dealt: int | None
    """The index of the layer whose outputs are dealt out, if one's are."""
    most: int
    """How many processes can have something to do."""
    worthwhile: int
    """How many help, if there are as many cores."""


def divide(network: Network, batch_size: int, *, transformed: bool = False) -> Division:
    """The division of a batch.

    Args:
        network: to be trained.
        batch_size: how many images a step sees.
        transformed: there is a `Transform`, which is done shard by shard.
    """
    dealt = None if transformed else _layer_to_deal(network, batch_size)
    if dealt is not None:
        worthwhile = batch_size * network.multiply_adds // WORTH_A_SHARE
        return Division(batch_size, dealt, _pieces(network.shapes[dealt + 1]), worthwhile)
    shard = network.shard_size(batch_size)
    shards = -(-batch_size // shard)
    return Division(shard, None, shards, shards if shard * network.multiply_adds >= WORTH_A_WORKER else 1)


def _layer_to_deal(network: Network, batch_size: int) -> int | None:
    index = next((i for i, layer in enumerate(network.layers) if layer.kind != "flatten"), 0)
    layer, shape = network.layers[index], network.shapes[index]
    if (
        layer.kind != "dense"
        or _pieces(network.shapes[index + 1]) < 2
        or batch_size * shape[0] > MOST_NUMBERS
    ):
        return None
    return index if layer.multiply_adds(shape) >= LEAST_SHARE * network.multiply_adds else None


def _pieces(output_shape: Shape) -> int:
    return output_shape[0] // dealt_at_once(output_shape[0])


def choose_workers(
    network: Network, batch_size: int, requested: int | None = None, *, transformed: bool = False
) -> int:
    """How many processes to use: what is asked for, else the cores, fewer where a network is too small.

    Never more than can have something to do. The arguments are those of `divide`, and how many are asked for.
    """
    division = divide(network, batch_size, transformed=transformed)
    wanted = min(usable_cores(), division.worthwhile) if requested is None else requested
    return max(1, min(wanted, division.most))
