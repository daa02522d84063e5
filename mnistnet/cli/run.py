"""``mnistnet run``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistnet.cli.console import DEFAULT_SIZE_LIMIT, SizeLimit, bar, percent, read_classifier, warn
from mnistnet.errors import CheckpointError, MnistnetError

if TYPE_CHECKING:
    from mnistnet.data.pictures import Picture
    from mnistnet.models import Classifier


def run(
    checkpoint: Annotated[
        Path, typer.Argument(help="A checkpoint, or a folder: its newest checkpoint.", show_default=False)
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Pictures: PNG, JPEG, PBM, PGM ..., .bin (one byte a pixel), or - for stdin.",
            show_default=False,
        ),
    ],
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a line on stdout, nothing else.")
    ] = False,
) -> None:
    """Say what a trained network sees in pictures.

    A picture of the network's own size is taken as it is; any other is brought to the form of its training
    images: ink bright on dark, cropped, scaled, centred.

    Examples:
        mnistnet run ckpt/lenet.json data/samples/7.png

        mnistnet run ckpt photo.jpg scan.png --json
    """
    from mnistnet.data.pictures import read_picture
    from mnistnet.formats.checkpoint import find_checkpoint

    classifier = read_classifier(find_checkpoint(checkpoint), size_limit)
    shape = classifier.network.input_shape
    failed: MnistnetError | None = None
    for name in images:
        try:
            source = sys.stdin.buffer.read() if name == "-" else Path(name)
            picture = read_picture(source, shape, name="stdin" if name == "-" else name)  # type: ignore[arg-type]
            _show(classifier, picture, name, as_json=as_json, many=len(images) > 1)
        except MnistnetError as error:
            if len(images) == 1:
                raise
            # the other pictures are still worth reading
            warn(str(error))
            failed = error
    if failed is not None:
        raise typer.Exit(failed.exit_code)


def _show(classifier: Classifier, picture: Picture, name: str, *, as_json: bool, many: bool) -> None:
    import numpy as np

    probabilities = classifier.probabilities(picture.pixels[None])[0]
    if not np.isfinite(probabilities).all():
        raise CheckpointError(f"{name}: non-finite prediction: the checkpoint's weights are not usable")
    best = int(probabilities.argmax())
    prediction = classifier.class_names[best]
    if as_json:
        shares = {c: float(p) for c, p in zip(classifier.class_names, probabilities, strict=True)}
        record = {
            "image": name,
            "prediction": prediction,
            "probability": float(probabilities[best]),
            "probabilities": shares,
            "notes": list(picture.notes),
        }
        typer.echo(json.dumps(record, ensure_ascii=False))
        return
    if many:
        typer.echo(f"{name}:")
    for note in picture.notes:
        typer.echo(f"({note})")
    typer.echo(f"Prediction: {prediction}")
    width = max(len(c) for c in classifier.class_names)
    for c, p in zip(classifier.class_names, probabilities.tolist(), strict=True):
        typer.echo(f"  {c:>{width}}  {percent(p):>8}  {bar(p)}".rstrip())
