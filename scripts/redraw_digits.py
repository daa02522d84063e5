"""Redraw MNIST test digits as photo-like pictures and see how well a checkpoint still reads them.

Each digit is drawn in a random size and place on a picture of 100 to 800 pixels: ink darker than paper in
uneven light, noise, JPEG. The pictures depend on the seed and the digit's number alone. Run from anywhere:

    python scripts/redraw_digits.py
    python scripts/redraw_digits.py --kind shadow --keep wrong
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from mnistnet import load_checkpoint, load_data, read_picture
from mnistnet.data.pictures import Picture
from mnistnet.errors import PictureError

ROOT = Path(__file__).resolve().parents[1]
KINDS = ("photo", "shadow", "tight", "thin")


def redraw(digit: np.ndarray, kind: str, rng: np.random.Generator) -> bytes:
    """A JPEG of the digit, uint8 (28, 28), as a person's camera may see it.

    "photo" is the usual picture; "shadow" has the edge of a shadow across it, "tight" is cropped to the ink,
    "thin" is drawn with a fine pen.
    """
    height, width = (int(side) for side in rng.integers(100, 801, 2))
    side = int(rng.uniform(0.35, 0.95) * min(height, width))
    large = Image.fromarray(digit).resize((side, side), Image.Resampling.BICUBIC)
    if kind == "thin":
        size = max(side // 40, 1) * 2 + 1
        large = large.filter(ImageFilter.MinFilter(size)) if size < side / 12 else large
    ink = np.asarray(large, np.float64) / 255
    if kind == "tight":
        rows, columns = np.flatnonzero((ink > 0.3).any(axis=1)), np.flatnonzero((ink > 0.3).any(axis=0))
        canvas = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    else:
        canvas = np.zeros((height, width))
        top, left = rng.integers(0, height - side + 1), rng.integers(0, width - side + 1)
        canvas[top : top + side, left : left + side] = ink
    y, x = np.mgrid[0 : canvas.shape[0], 0 : canvas.shape[1]] / max(canvas.shape)
    light = rng.uniform(170, 240) - rng.uniform(0, 60) * x - rng.uniform(0, 60) * y
    light -= rng.uniform(0, 50) * ((x - rng.uniform(0, 1)) ** 2 + (y - rng.uniform(0, 1)) ** 2)
    if kind == "shadow":
        slope = rng.uniform(-1, 1)
        light -= rng.uniform(30, 60) * (x + slope * y > rng.uniform(0.3, 0.7))
    paper = (
        light * (1 - canvas) + rng.uniform(20, 90) * canvas + rng.normal(0, rng.uniform(2, 12), canvas.shape)
    )
    stream = io.BytesIO()
    picture = Image.fromarray(np.clip(paper, 0, 255).astype(np.uint8))
    picture.save(stream, "JPEG", quality=int(rng.integers(60, 96)))
    return stream.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=ROOT / "ckpt" / "lenet.json")
    parser.add_argument("--data", type=Path, default=ROOT / "data")
    parser.add_argument("--count", type=int, default=1000, help="how many digits, from the first")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", choices=KINDS, default="photo")
    parser.add_argument("--keep", type=Path, help="a folder for the pictures that are read wrong")
    options = parser.parse_args()

    classifier = load_checkpoint(options.checkpoint).classifier
    test = load_data(options.data).test.first(options.count)
    clean = classifier.probabilities(test.images).argmax(axis=1) == test.labels
    right = several = 0
    for number, (image, label) in enumerate(zip(test.images, test.labels, strict=True)):
        content = redraw(image[0], options.kind, np.random.default_rng([options.seed, number]))
        try:
            picture = read_picture(content, test.shape, name=str(number))
        except PictureError:
            picture = Picture(np.zeros(test.shape, np.uint8), ("no digit found",))
        found = int(classifier.probabilities(picture.pixels[np.newaxis]).argmax())
        right += found == label
        several += picture.digits > 1
        if options.keep is not None and found != label:
            options.keep.mkdir(exist_ok=True)
            (options.keep / f"{number}-{label}-as-{found}.jpg").write_bytes(content)
    print(
        f"clean {clean.mean():.1%}, redrawn ({options.kind}) {right / len(test):.1%} of {len(test)}; ", end=""
    )
    print(f"{several} taken for several digits")


if __name__ == "__main__":
    main()
