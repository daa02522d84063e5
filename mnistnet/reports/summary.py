"""What is inside a checkpoint, and in what two of them differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from mnistnet.engine.arrays import Shape
from mnistnet.engine.plan import Plan
from mnistnet.formats.checkpoint import Checkpoint
from mnistnet.formats.strict_json import JSON


@dataclass(frozen=True)
class LayerSummary:
    """One layer."""

    kind: str
    config: Mapping[str, Any]
    output_shape: Shape
    """(C, H, W) or (F,) of one image."""
    parameters: int
    multiply_adds: int
    """Of one image's forward pass."""


@dataclass(frozen=True)
class Summary:
    """A checkpoint without its weights."""

    model: str
    classes: tuple[str, ...]
    input_shape: Shape
    scale: float
    """What the network sees of a byte: ``byte * scale + shift``."""
    shift: float
    layers: tuple[LayerSummary, ...]
    parameter_bytes: int
    prediction_bytes: int
    """Buffers for the prediction of one image."""
    training: Mapping[str, JSON]

    @property
    def parameters(self) -> int:
        """Numbers in all layers."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def multiply_adds(self) -> int:
        """Of one image's forward pass."""
        return sum(layer.multiply_adds for layer in self.layers)


@dataclass(frozen=True)
class Comparison:
    """In what two checkpoints differ."""

    facts: Mapping[str, tuple[JSON, JSON]]
    """What is not the same, by name, such as ``training.seed``: the first's and the second's, or None."""
    weights: Mapping[str, float]
    """For each parameter that both have, in one shape, the largest difference of a number in it."""

    @property
    def same(self) -> bool:
        """Whether the two agree in all facts and weights."""
        return not self.facts and not any(self.weights.values())


def summarize(checkpoint: Checkpoint) -> Summary:
    """Everything about a checkpoint but its numbers."""
    classifier = checkpoint.classifier
    network, pixels = classifier.network, classifier.pixels
    return Summary(
        model=classifier.name,
        classes=classifier.class_names,
        input_shape=network.input_shape,
        scale=pixels.scale,
        shift=pixels.shift,
        layers=tuple(
            LayerSummary(
                layer.kind,
                layer.config(),
                output_shape,
                sum(prod(shape) for shape in layer.parameter_shapes(input_shape).values()),
                layer.multiply_adds(input_shape),
            )
            for layer, input_shape, output_shape in zip(
                network.layers, network.shapes, network.shapes[1:], strict=False
            )
        ),
        parameter_bytes=network.vector.nbytes,
        prediction_bytes=Plan(network.blueprint(pixels), 1).workspace.nbytes,
        training=_flat(checkpoint.training),
    )


def _flat(training: Mapping[str, JSON]) -> dict[str, JSON]:
    """A run's settings in front of its other facts; the loss that is a setting gets a name of its own."""
    facts = dict(training)
    settings = facts.pop("settings", None)
    if not isinstance(settings, Mapping):  # a file by somebody else
        return dict(training)
    return {{"loss": "loss_function"}.get(name, name): value for name, value in settings.items()} | facts


def compare(first: Checkpoint, second: Checkpoint) -> Comparison:
    """In what two checkpoints differ: facts by name, and how far their weights are apart."""
    ours, theirs = _facts(first), _facts(second)
    names = sorted({**ours, **theirs}, key=lambda name: name.startswith("training."))
    facts = {name: (ours.get(name), theirs.get(name)) for name in names if ours.get(name) != theirs.get(name)}
    others = second.classifier.network.parameters()
    weights = {
        name: float(np.abs(values - others[name]).max())
        for name, values in first.classifier.network.parameters().items()
        if name in others and others[name].shape == values.shape
    }
    return Comparison(facts, weights)


def _facts(checkpoint: Checkpoint) -> dict[str, JSON]:
    """Every fact under a name of its own, in the order of the file."""
    summary = summarize(checkpoint)
    facts: dict[str, JSON] = {
        "model": summary.model,
        "classes": list(summary.classes),
        "input": list(summary.input_shape),
        "scale": summary.scale,
        "shift": summary.shift,
        "parameters": summary.parameters,
        "multiply_adds": summary.multiply_adds,
        "confidence_threshold": checkpoint.classifier.confidence_threshold,
    }
    for index, layer in enumerate(summary.layers):
        facts[f"layers[{index}]"] = {"kind": layer.kind, **layer.config}
    return facts | {f"training.{name}": value for name, value in summary.training.items()}
