"""Lesson 1: one dense layer with one input and one output is a straight line.

Gradient descent on the mean squared error finds the line that least squares gives in closed form.

    python scripts/lessons/linear_regression.py line.png
"""

from __future__ import annotations

import numpy as np
from lesson import COLOURS, REACH, SIDE, dots, learn, picture_path, place
from PIL import Image, ImageDraw

from mnistnet import SGD, Dense, Points, TrainingConfig


def main() -> None:
    path = picture_path("linear_regression.png")
    rng = np.random.default_rng(0)
    x = rng.uniform(-1.3, 1.3, (60, 1)).astype(np.float32)
    y = (0.7 * x + 0.2 + 0.15 * rng.standard_normal(x.shape)).astype(np.float32)
    config = TrainingConfig(learning_rate=0.2, batch_size=len(x), nb_epochs=200, optimizer=SGD())
    network = learn([Dense(1)], Points(x, y), config, ["y"])
    slope, height = network.vector.tolist()
    closed = np.polyfit(x[:, 0].astype(float), y[:, 0].astype(float), 1)
    print(f"learned:       y = {slope:.4f} x + {height:.4f}")
    print(f"least squares: y = {closed[0]:.4f} x + {closed[1]:.4f}")
    image = Image.new("RGB", (SIDE, SIDE), "white")
    ends = [place(side, slope * side + height) for side in (-REACH, REACH)]
    ImageDraw.Draw(image).line([*ends[0], *ends[1]], fill=COLOURS[0], width=3)
    dots(image, np.concatenate([x, y], axis=1), np.ones(len(x), np.intp), 3)
    image.save(path)


if __name__ == "__main__":
    main()
