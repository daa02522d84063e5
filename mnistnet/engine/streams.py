"""Chance without a history: every random number follows from the seed and from where it is used.

Philox (Salmon et al. 2011) turns a key and a counter into random numbers. A stream's key is the seed and its
purpose, its counter begins with the place: so a worker needs to know nothing of what others have drawn, and
a training that is taken up again nothing of what was drawn before.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

TRANSFORM = int.from_bytes(b"images", "big")
NOISE = int.from_bytes(b"noise", "big")


def stream(seed: int, purpose: int, *place: int) -> np.random.Generator:
    """The random numbers of one place.

    Args:
        seed: of the run, ``0 <= seed < 2**64``.
        purpose: keeps the streams of one seed apart.
        place: at most three whole numbers >= 0, such as the number of a step and a slot.
    """
    counter = [0, *place, *[0] * (3 - len(place))]
    key = np.array([seed, purpose], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=np.array(counter, np.uint64)))


@dataclass
class Noise:
    """What layers draw while they are trained, such as the mask of a dropout.

    It follows from the seed, the number of the step, the slot of the shard and the layer: never from what was
    drawn before, nor from who draws it. ``step`` and ``slot`` are set before each run.
    """

    seed: int = 0
    step: int = 0
    slot: int = 0

    def halfwords(self, layer: int, count: int) -> npt.NDArray[np.uint16]:
        """(count,) uniform numbers of 0 .. 65535 for the layer of this index."""
        generator = stream(self.seed, NOISE, self.step, self.slot, layer)
        return generator.bit_generator.random_raw(-(-count // 4)).view(np.uint16)[:count]
