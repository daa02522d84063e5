"""``mnistnet export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistnet.cli.console import DEFAULT_SIZE_LIMIT, SizeLimit, read_classifier
from mnistnet.errors import UsageError

PROOF_IMAGES = 64


def export(
    onnx_path: Annotated[Path, typer.Option(help="Where the ONNX model goes.", show_default=False)],
    checkpoint_path: Annotated[
        Path | None,
        typer.Option(help="A checkpoint, or a folder: its newest; the newest in ckpt/ unless given."),
    ] = None,
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
    opset: Annotated[int, typer.Option(help="ONNX operator set; 13 is read nearly everywhere.")] = 13,
) -> None:
    """Write a trained network as ONNX, and prove that it computes the same.

    The model takes float32 images (N, C, H, W) in [0, 1] and gives probabilities (N, K). The file is put
    in place only when ONNX's own reference evaluator agrees with the engine.

    Examples:
        mnistnet export --onnx-path model.onnx

        mnistnet export --onnx-path model.onnx --checkpoint-path ckpt/lenet.json
    """
    from mnistnet.data.proof import proof_images
    from mnistnet.files import same_file
    from mnistnet.formats.checkpoint import find_checkpoint
    from mnistnet.formats.onnx_export import export_onnx

    source = find_checkpoint(checkpoint_path or Path("ckpt"))
    if same_file(onnx_path, source):
        raise UsageError(f"--onnx-path: {onnx_path} is the checkpoint itself; choose another path")
    classifier = read_classifier(source, size_limit)
    images, whence = proof_images(classifier.network.input_shape, PROOF_IMAGES)
    report = export_onnx(classifier, onnx_path, images=images, opset=opset)
    typer.echo(f"Exported {source} to {onnx_path.absolute()} (opset {report.opset}, IR {report.ir_version})")
    typer.echo(
        f"Largest difference to the engine on {report.images} {whence}: {report.largest_difference:.2g}"
    )
