"""What is said of a checkpoint: counted by hand."""

from __future__ import annotations

import numpy as np

from mnistnet.data.dataset import DIGITS
from mnistnet.engine.arrays import PixelScale
from mnistnet.formats.checkpoint import Checkpoint
from mnistnet.models import Classifier, build
from mnistnet.reports.summary import compare, summarize


def checkpoint(model: str = "rsnet", seed: int = 1, **training: object) -> Checkpoint:
    return Checkpoint(
        Classifier(build(model).initialize(seed), DIGITS, name=model), {"seed": seed, **training}
    )


def test_layers_are_counted_by_hand() -> None:
    found = summarize(checkpoint())
    assert [
        (layer.kind, layer.output_shape, layer.parameters, layer.multiply_adds) for layer in found.layers
    ] == [
        ("conv2d", (5, 24, 24), 5 * 25 + 5, 5 * 24 * 24 * 25),
        ("relu", (5, 24, 24), 0, 0),
        ("max_pool2d", (5, 6, 6), 0, 0),
        ("conv2d", (5, 4, 4), 5 * 5 * 9 + 5, 5 * 4 * 4 * 5 * 9),
        ("relu", (5, 4, 4), 0, 0),
        ("conv2d", (5, 3, 3), 5 * 5 * 4 + 5, 5 * 3 * 3 * 5 * 4),
        ("relu", (5, 3, 3), 0, 0),
        ("flatten", (45,), 0, 0),
        ("dense", (10,), 450 + 10, 450),
        ("softmax", (10,), 0, 0),
    ]
    assert (found.parameters, found.parameter_bytes) == (925, 4 * 925)
    assert found.multiply_adds == 72000 + 3600 + 900 + 450
    # at the least the picture in bytes and numbers, and the first layer's output
    assert found.prediction_bytes > 784 * 5 + 4 * 5 * 24 * 24
    assert found.training == {"seed": 1}


def test_a_checkpoint_is_the_same_as_itself() -> None:
    assert compare(checkpoint(), checkpoint()).same


def test_what_differs_is_named_and_measured() -> None:
    first, second = checkpoint(seed=1, epoch=3), checkpoint(seed=2, epoch=3, note="x")
    ours, theirs = (c.classifier.network.parameters() for c in (first, second))
    theirs["3.bias"][2] += np.float32(0.5)
    found = compare(first, second)
    assert not found.same
    assert found.facts == {"training.seed": (1, 2), "training.note": (None, "x")}
    assert found.weights.keys() == ours.keys()
    assert found.weights["3.bias"] == 0.5
    assert found.weights["8.weight"] == np.abs(ours["8.weight"] - theirs["8.weight"]).max()


def test_other_networks_are_compared_layer_by_layer() -> None:
    first = checkpoint("mlp")
    other = Classifier(
        build("mlp", classes=3).initialize(1), ("a", "b", "c"), PixelScale(1 / 127.5, -1.0), "mlp"
    )
    found = compare(first, Checkpoint(other, {"seed": 1}))
    assert list(found.facts) == ["classes", "scale", "shift", "parameters", "multiply_adds", "layers[3]"]
    assert found.facts["layers[3]"] == (
        {"kind": "dense", "out_features": 10},
        {"kind": "dense", "out_features": 3},
    )
    assert found.facts["parameters"] == (101_770, 784 * 128 + 128 + 128 * 3 + 3)
    assert found.weights == {"1.weight": 0.0, "1.bias": 0.0}
