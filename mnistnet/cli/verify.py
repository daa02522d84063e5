"""``mnistnet verify``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mnistnet.cli.console import DEFAULT_SIZE_LIMIT, SizeLimit


def verify(
    model: Annotated[
        Path, typer.Argument(help="An ONNX model that mnistnet export wrote.", show_default=False)
    ],
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
) -> None:
    r"""Repeat the proof of an exported model: the picture in its metadata gives the output that is there too.

    With onnxruntime installed (pip install 'mnistnet\[verify]') it has to agree as well.

    Examples:
        mnistnet verify model.onnx
    """
    from mnistnet.formats.onnx_verify import verify_onnx

    agreements = verify_onnx(model, limit=size_limit * 2**20)
    typer.echo(f"{model}: the golden output is reproduced")
    width = max(len(agreement.runtime) for agreement in agreements)
    for agreement in agreements:
        typer.echo(f"  {agreement.runtime:<{width}}  largest difference {agreement.largest_difference:.2g}")
    if not find_spec("onnxruntime"):
        typer.echo("  onnxruntime is not installed: pip install 'mnistnet[verify]'")
