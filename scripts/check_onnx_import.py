"""Import every ONNX model of a folder and measure it on the 10,000 MNIST test images.

    python scripts/make_onnx_models.py FOLDER
    python scripts/check_onnx_import.py FOLDER

For each model: whether the answers are onnxruntime's, how far the probabilities are apart, the accuracy, and
the accuracy after one more epoch of training. Leaves with 1 if an answer or a probability differs.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from checkout import DATA

from mnistnet import Classifier, Trainer, TrainingConfig, evaluate, load_data
from mnistnet.formats.onnx_graph import load_graph
from mnistnet.formats.onnx_import import load_onnx

TOLERANCE = 1e-5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    data = load_data(DATA)
    failed = False
    print("| model | becomes | same answers | largest difference | accuracy | after one more epoch |")
    print("|---|---|---|---|---|---|")
    for path in sorted(parser.parse_args().folder.glob("*.onnx")):
        classifier = load_onnx(path).predictor
        assert isinstance(classifier, Classifier)
        expected = theirs(path, data.test.images)
        found = classifier.probabilities(data.test.images)
        same = int((found.argmax(axis=1) == expected.argmax(axis=1)).sum())
        difference = float(np.abs(found - expected).max())
        failed |= same < len(expected) or difference > TOLERANCE
        before = evaluate(classifier, data.test).accuracy
        for _ in Trainer(classifier, TrainingConfig(learning_rate=0.01, nb_epochs=1)).run(data.train):
            pass
        after = evaluate(classifier, data.test).accuracy
        layers = len(classifier.network.layers)
        print(
            f"| {path.stem} | {layers} layers | {same:,} | {difference:.1e} | {before:.2%} | {after:.2%} |",
            flush=True,
        )
    sys.exit(failed)


def theirs(path: Path, images: Any) -> Any:
    """(N, K) probabilities by onnxruntime, batch after batch as the model wants them."""
    graph = load_graph(path)
    shape = graph.inputs[0].shape
    inputs = images.astype(np.float32) / np.float32(255)
    if shape[-1] == 1:
        inputs = inputs.transpose(0, 2, 3, 1)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    size = shape[0] or 500
    name = graph.inputs[0].name
    outputs = [session.run(None, {name: inputs[i : i + size]})[0] for i in range(0, len(inputs), size)]
    found = np.concatenate(outputs).astype(np.float64)
    last = graph.nodes[-1].op_type
    if last == "Softmax":
        return found
    e = np.exp(found - found.max(axis=1, keepdims=True))  # of logarithms too: their sum is 1 already
    return e / e.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    main()
