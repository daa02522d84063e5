"""Write data/samples/: one image of each digit from the MNIST test set, as raw bytes and as PNG.

And the package's own: the first 64 test images, on which every ONNX export is proven, and the mean image of
each digit of the training set, by which the dataset doctor tells transposed digits.

The rule: of each digit the first image of the test set, in the order of the file. ``--index 5=15`` takes
test image 15 for digit 5 instead; its label has to agree. Run from anywhere:

    python scripts/make_samples.py
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from mnistnet.data import load_data, write_idx
from mnistnet.data.doctor import MEAN_DIGITS
from mnistnet.data.proof import RESOURCE

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "data"
PROOF_IMAGES = 64


def digit_and_index(text: str) -> tuple[int, int]:
    digit, _, index = text.partition("=")
    return int(digit), int(index)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--index", type=digit_and_index, action="append", default=[], metavar="DIGIT=INDEX",
        help="take this test image (counted from 0) for this digit",
    )  # fmt: skip
    chosen = dict(parser.parse_args().index)
    data = load_data(DATA)
    train, test = data.train, data.test
    folder = DATA / "samples"
    folder.mkdir(exist_ok=True)
    for digit in range(10):
        index = chosen.get(digit, int((test.labels == digit).argmax()))
        if not 0 <= index < len(test) or test.labels[index] != digit:
            parser.error(f"--index: test image {index} is not a {digit}")
        pixels = test.images[index, 0]
        (folder / f"{digit}.bin").write_bytes(pixels.tobytes())
        Image.fromarray(pixels).save(folder / f"{digit}.png", optimize=True)
        print(f"{digit}: test image {index}")
    package = ROOT / "mnistnet" / "data"
    write_idx(package / RESOURCE, test.images[:PROOF_IMAGES, 0])
    means = np.stack([train.images[train.labels == digit, 0].mean(axis=0) for digit in range(10)])
    write_idx(package / MEAN_DIGITS, np.rint(means).astype(np.uint8))


if __name__ == "__main__":
    main()
