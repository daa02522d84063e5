"""What the lessons share: training a small network on points, and a picture of what it has learned."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[2]))  # works from a checkout, without an installation

from mnistnet import Classifier, Layer, Network, Points, Trainer, TrainingConfig

Array = npt.NDArray[np.float32]
SIDE, REACH = 300, 1.5
COLOURS = ((196, 60, 50), (30, 90, 170))


def learn(layers: Sequence[Layer], points: Points, config: TrainingConfig, names: Sequence[str]) -> Network:
    """A network of these layers that has learned the points."""
    network = Network(layers, points.inputs.shape[1:]).initialize(config.seed)
    for _ in Trainer(Classifier(network, tuple(names)), config).run(points):
        pass
    return network


def plane(side: int = SIDE) -> Array:
    """The pixels' places (side^2, 2) of a square from -REACH to REACH, y upwards."""
    axis = np.linspace(-REACH, REACH, side, dtype=np.float32)
    x, y = np.meshgrid(axis, -axis)
    return np.stack([x.ravel(), y.ravel()], axis=1)


def place(x: float, y: float) -> tuple[float, float]:
    """Where in the picture a point is."""
    return (x + REACH) / (2 * REACH) * (SIDE - 1), (REACH - y) / (2 * REACH) * (SIDE - 1)


def field(share: Array) -> Image.Image:
    """The plane, coloured by the share (side^2,) of the second class: pale where the network is unsure."""
    side = int(np.sqrt(len(share)))
    sure = np.abs(2 * share - 1)[:, None]
    colour = np.where(share[:, None] < 0.5, COLOURS[0], COLOURS[1])
    mixed = 255 - (255 - colour) * 0.6 * sure
    return Image.fromarray(mixed.reshape(side, side, 3).astype(np.uint8)).resize((SIDE, SIDE))


def dots(image: Image.Image, points: Array, classes: npt.NDArray[np.intp], radius: float = 4) -> None:
    """Draw points (N, 2) in the colours of their classes (N,)."""
    draw = ImageDraw.Draw(image)
    for (x, y), kind in zip(points.tolist(), classes.tolist(), strict=True):
        u, v = place(x, y)
        draw.ellipse((u - radius, v - radius, u + radius, v + radius), fill=COLOURS[kind], outline="white")


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Pictures in a row."""
    row = Image.new("RGB", (sum(image.width + 6 for image in images) - 6, images[0].height), "white")
    for number, image in enumerate(images):
        row.paste(image, (number * (SIDE + 6), 0))
    return row


def picture_path(default: str) -> Path:
    """Where the picture goes: the program's argument."""
    parser = argparse.ArgumentParser(description="Learn, say what was learned, and draw it.")
    parser.add_argument("picture", nargs="?", type=Path, default=Path(default), help="a PNG to write")
    return parser.parse_args().picture
