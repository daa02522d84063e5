"""A trained network as one HTML page: draw a digit, and see what the network makes of it.

The page is put together from the readable files beside this one. It needs no server and no network: the
weights are inside, the forward pass is plain JavaScript, and its content security policy lets it load
nothing else.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnistnet import __version__
from mnistnet.engine.network import Network
from mnistnet.errors import ExportError
from mnistnet.files import check_target, write_atomically
from mnistnet.formats.html.assembly import assemble, base64_text, content_hash, text_of
from mnistnet.models import Classifier

KINDS = frozenset(
    {
        *("conv2d", "dense", "flatten", "max_pool2d", "avg_pool2d", "global_avg_pool"),
        *("batch_norm", "dropout", "relu", "leaky_relu", "gelu", "sigmoid", "tanh", "softmax", "zero_pad2d"),
        *("fourier_features", "sine"),
    }
)
"""The kinds of layers that ``forward.js`` can do."""

SCRIPTS = ("picture.js", "forward.js", "surface.js", "page.js")
"""In the order in which they become one script."""

EXAMPLES = 10
"""Pictures that the page carries, with the engine's answers: to prove itself on, and to show."""


@dataclass(frozen=True)
class PageReport:
    """What was written."""

    path: Path
    size: int
    """Bytes."""


def export_html(
    classifier: Classifier,
    path: str | os.PathLike[str],
    *,
    images: npt.NDArray[np.uint8],
    show_images: bool = True,
) -> PageReport:
    """Write a classifier as a page that reads what is drawn on it.

    Args:
        classifier: what to export; its network reads grey images.
        path: the file to create or replace.
        images: (N, 1, H, W) uint8, real images. The page carries one for each class that the engine sees in
            them, at most `EXAMPLES`, and compares its own probabilities with the engine's when it is opened.
        show_images: whether the page offers them as examples.

    Raises:
        ExportError: the network does not read grey images, a layer has no JavaScript form, or the outputs
            are not finite.
        OutputError: the file cannot be written.
    """
    path = Path(path)
    check_target(path)
    data = to_html(classifier, images, show_images=show_images).encode()
    write_atomically(path, data)
    return PageReport(path, len(data))


def to_html(classifier: Classifier, images: npt.NDArray[np.uint8], *, show_images: bool = True) -> str:
    """The page's text; see `export_html`."""
    network = classifier.network
    _check(network)
    model = {
        "name": classifier.name,
        "classes": classifier.class_names,
        "input": _input(classifier),
        "layers": _layers(network),
        "size": network.size,
        "examples": _examples(classifier, images),
        "showExamples": show_images,
    }
    style = text_of(__name__, "style.css")
    script = "\n".join(["'use strict';", *(text_of(__name__, name) for name in SCRIPTS)])
    escaped = {
        "policy": f"default-src 'none'; img-src data: blob:; style-src {content_hash(style)}; "
        f"script-src {content_hash(script)}; base-uri 'none'; form-action 'none'",
        "title": "Draw a digit" if "".join(classifier.class_names) == "0123456789" else "Draw a picture",
        "generator": f"mnistnet {__version__}",
    }
    raw = {
        "style": style,
        # "<" in a name could otherwise end the element
        "model": json.dumps(model, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c"),
        "weights": base64_text(_weights(network)),
        "script": script,
    }
    return assemble(text_of(__name__, "page.html"), escaped, raw)


def _check(network: Network) -> None:
    for index, layer in enumerate(network.layers):
        if layer.kind not in KINDS:
            raise ExportError(f"layer {index} ({layer.kind}): has no JavaScript form")
    if len(network.input_shape) != 3 or network.input_shape[0] != 1:
        raise ExportError(
            f"the page draws in grey: expected an input of (1, H, W), found {network.input_shape}"
        )


def _input(classifier: Classifier) -> dict[str, float]:
    channels, height, width = classifier.network.input_shape
    scale, shift = classifier.pixels.scale, classifier.pixels.shift
    return {"channels": channels, "height": height, "width": width, "scale": scale, "shift": shift}


def _layers(network: Network) -> list[dict[str, Any]]:
    """Every layer's kind, configuration and output shape, and how many weights each parameter takes."""
    return [
        {
            "kind": layer.kind,
            **layer.config(),
            "output": shape,
            "parameters": {name: values.size for name, values in layer.params.items()},
        }
        for layer, shape in zip(network.layers, network.shapes[1:], strict=True)
    ]


def _weights(network: Network) -> bytes:
    """Every layer's parameters in the order in which `_layers` names them, float32, little-endian."""
    return b"".join(
        values.astype("<f4").tobytes() for layer in network.layers for values in layer.params.values()
    )


def _examples(classifier: Classifier, images: npt.NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Images with the engine's probabilities: the first of each class that it sees, in their order."""
    probabilities = classifier.probabilities(images)
    if not np.isfinite(probabilities).all():
        raise ExportError("the network's outputs are not finite: train again, with a lower learning rate")
    _, first = np.unique(probabilities.argmax(axis=1), return_index=True)
    return [
        {"pixels": base64_text(images[index].tobytes()), "probabilities": probabilities[index].tolist()}
        for index in first[:EXAMPLES].tolist()
    ]
