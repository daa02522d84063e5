"""Lesson 3: no straight line separates XOR; a hidden layer of four does.

python scripts/lessons/xor.py xor.png
"""

from __future__ import annotations

import numpy as np
from lesson import dots, field, learn, picture_path, plane, side_by_side

from mnistnet import SGD, Dense, Points, Sigmoid, Tanh, TrainingConfig

CORNERS = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)
WANTED = np.array([[0], [1], [1], [0]], np.float32)
NETWORKS = {
    "without a hidden layer": [Dense(1), Sigmoid()],
    "with a hidden layer": [Dense(4), Tanh(), Dense(1), Sigmoid()],
}


def main() -> None:
    path = picture_path("xor.png")
    config = TrainingConfig(learning_rate=0.5, batch_size=4, nb_epochs=500, optimizer=SGD(momentum=0.9))
    images = []
    for name, layers in NETWORKS.items():
        network = learn(layers, Points(CORNERS, WANTED), config, ["XOR"])
        found = network.predict(CORNERS)
        farthest = float(abs(found - WANTED).max())
        print(f"{name:22} {' '.join(f'{value:.2f}' for value in found[:, 0])}  {farthest:.2f} off at most")
        image = field(network.predict(plane())[:, 0])
        dots(image, CORNERS, WANTED[:, 0].astype(np.intp), 8)
        images.append(image)
    side_by_side(images).save(path)


if __name__ == "__main__":
    main()
