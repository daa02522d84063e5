"""Lesson 2: one dense layer and a sigmoid separate the plane by a straight line, which AND, OR and NAND need.

python scripts/lessons/logic_gates.py gates.png
"""

from __future__ import annotations

import numpy as np
from lesson import dots, field, learn, picture_path, plane, side_by_side

from mnistnet import SGD, Dense, Points, Sigmoid, TrainingConfig

CORNERS = np.array([[-1, -1], [-1, 1], [1, -1], [1, 1]], np.float32)
GATES = {"AND": (0, 0, 0, 1), "OR": (0, 1, 1, 1), "NAND": (1, 1, 1, 0)}


def main() -> None:
    path = picture_path("logic_gates.png")
    config = TrainingConfig(learning_rate=1.0, batch_size=4, nb_epochs=200, optimizer=SGD())
    images = []
    for name, truth in GATES.items():
        wanted = np.array(truth, np.float32)[:, None]
        network = learn([Dense(1), Sigmoid()], Points(CORNERS, wanted), config, [name])
        found = network.predict(CORNERS)[:, 0]
        right = bool(((found > 0.5) == (wanted[:, 0] > 0.5)).all())
        print(f"{name:4} {' '.join(f'{value:.2f}' for value in found)}  {'right' if right else 'wrong'}")
        image = field(network.predict(plane())[:, 0])
        dots(image, CORNERS, wanted[:, 0].astype(np.intp), 8)
        images.append(image)
    side_by_side(images).save(path)


if __name__ == "__main__":
    main()
