"""A trained network as one HTML page: draw a digit, and see what the network makes of it.

The page is put together from the readable files beside this one. It needs no server and no network: the
weights are inside, the forward pass is plain JavaScript, and its content security policy lets it load
nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mnistnet import __version__
from mnistnet.engine.arrays import AnyArray
from mnistnet.engine.network import Network
from mnistnet.errors import ExportError
from mnistnet.files import check_target, write_atomically
from mnistnet.models import Classifier

KINDS = frozenset({"conv2d", "dense", "flatten", "max_pool2d", "relu", "softmax"})
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
    classifier: Classifier, path: Path, *, images: npt.NDArray[np.uint8], show_images: bool = True
) -> PageReport:
    """Write a classifier as a page that reads what is drawn on it.

    Args:
        classifier: what to export; its network reads grey images.
        path: the file to create or replace.
        images: (N, 1, H, W) uint8, real images. The page carries one for each class that the engine sees in
            them, at most `EXAMPLES`, and compares its own probabilities with the engine's when it is opened.
        show_images: whether the page offers them as examples.

    Raises:
        ExportError: the network does not read grey images, or a layer has no JavaScript form.
        OutputError: the file cannot be written.
    """
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
    style, script = _text("style.css"), "\n".join(["'use strict';", *map(_text, SCRIPTS)])
    parts = {
        "policy": f"default-src 'none'; img-src data: blob:; style-src {_hash(style)}; "
        f"script-src {_hash(script)}; base-uri 'none'; form-action 'none'",
        "title": "Draw a digit" if "".join(classifier.class_names) == "0123456789" else "Draw a picture",
        "generator": f"mnistnet {__version__}",
        "style": style,
        # "<" in a name could otherwise end the element
        "model": json.dumps(model, ensure_ascii=True, allow_nan=False).replace("<", "\\u003c"),
        "weights": _base64(network.vector.astype("<f4")),
        "script": script,
    }
    return _filled(_text("page.html"), parts)


def _check(network: Network) -> None:
    for index, layer in enumerate(network.layers):
        if layer.kind not in KINDS:
            raise ExportError(f"layer {index} ({layer.kind}): has no JavaScript form")
    if len(network.input_shape) != 3 or network.input_shape[0] != 1:
        raise ExportError(
            f"the page draws in grey: expected an input of (1, H, W), found {network.input_shape}"
        )
    if not np.isfinite(network.vector).all():
        raise ExportError("the weights are not finite: train again, with a lower learning rate")


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


def _examples(classifier: Classifier, images: npt.NDArray[np.uint8]) -> list[dict[str, Any]]:
    """Images with the engine's probabilities: the first of each class that it sees, in their order."""
    probabilities = classifier.probabilities(images)
    _, first = np.unique(probabilities.argmax(axis=1), return_index=True)
    return [
        {"pixels": _base64(images[index]), "probabilities": probabilities[index].tolist()}
        for index in first[:EXAMPLES].tolist()
    ]


def _base64(values: AnyArray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode("ascii")


def _hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode('ascii')}'"


def _text(name: str) -> str:
    return (resources.files("mnistnet.formats.html") / name).read_text(encoding="utf-8")


def _filled(page: str, parts: Mapping[str, str]) -> str:
    """The page with every ``{{name}}`` replaced; what is put in is not searched again."""
    raw = ("style", "script", "model", "weights")

    def part(match: re.Match[str]) -> str:
        name = match[1]
        return parts[name] if name in raw else escape(parts[name])

    return re.sub(r"\{\{(\w+)\}\}", part, page)
