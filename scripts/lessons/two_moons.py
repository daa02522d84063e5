"""Lesson 4: two classes that are wound around each other, and points that were not learned from to judge by.

python scripts/lessons/two_moons.py moons.png
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from lesson import Array, dots, field, learn, picture_path, plane

from mnistnet import Adam, Dense, Points, Softmax, Tanh, TrainingConfig


def moons(count: int, seed: int) -> tuple[Array, npt.NDArray[np.intp]]:
    """So many points (N, 2) of two half circles with some noise, and which of the two each is of (N,)."""
    rng = np.random.default_rng(seed)
    kinds = np.arange(count) % 2
    angle = rng.uniform(0, np.pi, count)
    x = np.where(kinds == 0, np.cos(angle) - 0.5, 0.5 - np.cos(angle))
    y = np.where(kinds == 0, np.sin(angle) - 0.25, 0.25 - np.sin(angle))
    noisy = np.stack([x, y], axis=1) + 0.12 * rng.standard_normal((count, 2))
    return (0.85 * noisy).astype(np.float32), kinds.astype(np.intp)


def main() -> None:
    path = picture_path("two_moons.png")
    points, kinds = moons(400, seed=0)
    layers = [Dense(16), Tanh(), Dense(16), Tanh(), Dense(2), Softmax()]
    config = TrainingConfig(learning_rate=0.02, batch_size=50, nb_epochs=60, optimizer=Adam())
    network = learn(layers, Points(points, kinds), config, ["red", "blue"])
    others, truth = moons(1000, seed=1)
    right = int((network.predict(others).argmax(axis=1) == truth).sum())
    print(f"{right} of 1000 points right that were not learned from")
    image = field(network.predict(plane())[:, 1])
    dots(image, points, kinds, 3)
    image.save(path)


if __name__ == "__main__":
    main()
