"""``mnistnet export``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mnistnet.cli.console import DEFAULT_SIZE_LIMIT, SizeLimit
from mnistnet.errors import ExportError, UsageError, choose

PROOF_IMAGES = 64
INPUTS = ("float32", "uint8")
ONNX = "ONNX"


def export(
    onnx_path: Annotated[Path | None, typer.Option(help="Where the ONNX model goes.")] = None,
    html_path: Annotated[
        Path | None, typer.Option(help="Where a web page goes that reads what is drawn on it.")
    ] = None,
    rsnet_path: Annotated[Path | None, typer.Option(help="Where a checkpoint for rsnet goes.")] = None,
    checkpoint_path: Annotated[
        Path | None,
        typer.Option(help="A checkpoint, or a folder: its newest; the newest in ckpt/ unless given."),
    ] = None,
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
    opset: Annotated[
        int, typer.Option(help="Operator set, 12 to 21; 13 is read nearly everywhere.", rich_help_panel=ONNX)
    ] = 13,
    logits: Annotated[
        bool, typer.Option("--logits", help="Give logits, not probabilities.", rich_help_panel=ONNX)
    ] = False,
    input_type: Annotated[
        str,
        typer.Option(
            "--input", help="Take float32 in [0, 1], or uint8: bytes as they are.", rich_help_panel=ONNX
        ),
    ] = INPUTS[0],
    batch: Annotated[
        int | None,
        typer.Option(help="Take so many images at once; any number unless given.", rich_help_panel=ONNX),
    ] = None,
) -> None:
    """Write a trained network as ONNX, as a web page or for rsnet, and prove that it computes the same.

    The ONNX model takes images (N, C, H, W) and gives probabilities (N, K). The file is put in place only
    when ONNX's own reference evaluator agrees with the engine; mnistnet verify repeats the proof. The page is
    one file that needs no network: it compares itself with the engine when it is opened.

    Examples:
        mnistnet export --onnx-path model.onnx

        mnistnet export --onnx-path model.onnx --checkpoint-path ckpt/lenet.json --input uint8 --batch 1

        mnistnet export --html-path digit.html

        mnistnet export --rsnet-path rsnet.json
    """
    from mnistnet.cli.model_file import find_model, read_classifiers
    from mnistnet.data.proof import proof_images
    from mnistnet.files import same_file

    targets = {"--onnx-path": onnx_path, "--html-path": html_path, "--rsnet-path": rsnet_path}
    if not any(targets.values()):
        raise UsageError(f"{' or '.join(targets)}: give at least one")
    bytes_in = choose("--input", input_type, INPUTS) == "uint8"
    if onnx_path is not None:
        from mnistnet.formats.onnx_export import OnnxForm, export_onnx

        try:
            form = OnnxForm(opset, logits, bytes_in, batch)
        except ExportError as error:  # its message names the flag
            raise UsageError(str(error)) from error
    source = find_model(checkpoint_path or Path("ckpt"))
    for flag, path in targets.items():
        if path is not None and same_file(path, source):
            raise UsageError(f"{flag}: {path} is the checkpoint itself; choose another path")
        for other, taken in targets.items():
            if flag < other and path is not None and taken is not None and same_file(path, taken):
                raise UsageError(f"{flag}: {path} is {other} too: choose another path")
    model = read_classifiers(source, size_limit)
    classifier, *others = model.members
    for flag in ("--html-path", "--rsnet-path"):
        if others and targets[flag] is not None:
            raise UsageError(f"{flag}: takes a single network, found an ensemble of {len(model.members)}")
    if rsnet_path is not None:
        from mnistnet.formats.rsnet import save_rsnet

        save_rsnet(rsnet_path, classifier)
        typer.echo(f"Exported {source} to {rsnet_path.absolute()} (rsnet)")
    if html_path is None and onnx_path is None:
        return
    images, whence = proof_images(model.input_shape, PROOF_IMAGES)
    if html_path is not None:
        from mnistnet.data.dataset import DIGITS
        from mnistnet.formats.html import export_html

        page = export_html(classifier, html_path, images=images, show_images=classifier.class_names == DIGITS)
        size = f"{page.size / 1000:.0f} kB"
        typer.echo(f"Exported {source} to {html_path.absolute()} ({size}): open it in a browser")
    if onnx_path is not None:
        try:
            report = export_onnx(model, onnx_path, images=images, form=form)
        except ExportError as error:
            raise error.at(onnx_path) from error
        typer.echo(f"Exported {source} to {onnx_path.absolute()} (opset {opset}, IR {report.ir_version})")
        typer.echo(
            f"Largest difference to the engine on {report.images} {whence}: {report.largest_difference:.2g}"
        )
