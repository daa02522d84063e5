"""``mnistnet import``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistnet.cli.console import (
    DEFAULT_SIZE_LIMIT,
    SizeLimit,
    warn,
)
from mnistnet.cli.model_file import InputScale, InputShape, InputShift, read_model
from mnistnet.errors import CheckpointError, UsageError


def import_model(
    model: Annotated[
        Path, typer.Argument(help="An ONNX model (.onnx) or an rsnet checkpoint.", show_default=False)
    ],
    checkpoint_path: Annotated[Path, typer.Option(help="Where the checkpoint goes.", show_default=False)],
    input_shape: InputShape = None,
    input_scale: InputScale = None,
    input_shift: InputShift = None,
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
) -> None:
    """Turn another tool's model into a checkpoint, which can be run, trained further and exported.

    An ONNX model has to be a chain of the engine's layers, and the checkpoint is proven to compute the same.
    One that is no chain still works with: mnistnet run model.onnx picture.png

    Examples:
        mnistnet import model.onnx --checkpoint-path imported.json

        mnistnet import rsnet.json --checkpoint-path imported.json --input-shape 1,64,64
    """
    from mnistnet.files import check_target, same_file
    from mnistnet.formats.checkpoint import Checkpoint, save_checkpoint
    from mnistnet.models import Classifier

    if same_file(checkpoint_path, model):
        raise UsageError(f"--checkpoint-path: {checkpoint_path} is the model itself; choose another path")
    check_target(checkpoint_path)
    found = read_model(model, size_limit, input_shape, input_scale, input_shift)
    for note in found.notes:
        warn(f"{model}: {note}")
    classifier = found.predictor
    if not isinstance(classifier, Classifier):
        raise CheckpointError(
            f"{model}: is no chain of layers that can be trained: {found.obstacle or 'an ensemble'}; "
            "mnistnet run can run it"
        )
    save_checkpoint(checkpoint_path, Checkpoint(classifier, {"imported_from": model.name}))
    network = classifier.network
    kinds = ", ".join(layer.kind for layer in network.layers)
    typer.echo(f"Imported {model} to {checkpoint_path.absolute()}")
    typer.echo(f"{network.size:,} parameters: {kinds}")
