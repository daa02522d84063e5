"""``mnistnet export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistnet.cli.console import DEFAULT_SIZE_LIMIT, SizeLimit, read_classifier
from mnistnet.errors import UsageError

PROOF_IMAGES = 64


def export(
    onnx_path: Annotated[Path | None, typer.Option(help="Where the ONNX model goes.")] = None,
    html_path: Annotated[
        Path | None, typer.Option(help="Where a web page goes that reads what is drawn on it.")
    ] = None,
    checkpoint_path: Annotated[
        Path | None,
        typer.Option(help="A checkpoint, or a folder: its newest; the newest in ckpt/ unless given."),
    ] = None,
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
    opset: Annotated[int, typer.Option(help="ONNX operator set; 13 is read nearly everywhere.")] = 13,
) -> None:
    """Write a trained network as ONNX or as a web page, and prove that it computes the same.

    The ONNX model takes float32 images (N, C, H, W) in [0, 1] and gives probabilities (N, K). The file is put
    in place only when ONNX's own reference evaluator agrees with the engine. The page is one file that needs
    no network: it compares itself with the engine when it is opened.

    Examples:
        mnistnet export --onnx-path model.onnx

        mnistnet export --onnx-path model.onnx --checkpoint-path ckpt/lenet.json

        mnistnet export --html-path digit.html
    """
    from mnistnet.data.proof import proof_images
    from mnistnet.files import same_file
    from mnistnet.formats.checkpoint import find_checkpoint

    targets = {"--onnx-path": onnx_path, "--html-path": html_path}
    if not any(targets.values()):
        raise UsageError(f"{' or '.join(targets)}: give at least one")
    source = find_checkpoint(checkpoint_path or Path("ckpt"))
    for flag, path in targets.items():
        if path is not None and same_file(path, source):
            raise UsageError(f"{flag}: {path} is the checkpoint itself; choose another path")
    classifier = read_classifier(source, size_limit)
    images, whence = proof_images(classifier.network.input_shape, PROOF_IMAGES)
    if html_path is not None:
        from mnistnet.data.dataset import DIGITS
        from mnistnet.formats.html import export_html

        page = export_html(classifier, html_path, images=images, show_images=classifier.class_names == DIGITS)
        size = f"{page.size / 1000:.0f} kB"
        typer.echo(f"Exported {source} to {html_path.absolute()} ({size}): open it in a browser")
    if onnx_path is None:
        return
    from mnistnet.formats.onnx_export import export_onnx

    report = export_onnx(classifier, onnx_path, images=images, opset=opset)
    typer.echo(f"Exported {source} to {onnx_path.absolute()} (opset {report.opset}, IR {report.ir_version})")
    typer.echo(
        f"Largest difference to the engine on {report.images} {whence}: {report.largest_difference:.2g}"
    )
