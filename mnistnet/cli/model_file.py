"""Model files of every kind, as the subcommands open them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistnet.cli.console import check_pictures, read_classifier
from mnistnet.cli.resume import ensemble_settings
from mnistnet.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from mnistnet.engine.arrays import PixelScale
    from mnistnet.formats.foreign import Foreign
    from mnistnet.models import Classifier, Ensemble

LARGEST = 3.4e38
"""Below which a number is one in float32 too."""
InputShape = Annotated[
    str | None, typer.Option(help="C,H,W of a picture, where an ONNX or rsnet model does not say it.")
]
InputScale = Annotated[
    float | None,
    typer.Option(help="Input = byte x scale + shift, where an ONNX or rsnet model does not say it; 1/255."),
]
InputShift = Annotated[float | None, typer.Option(help="See --input-scale; 0.")]


def find_model(path: Path) -> Path:
    """The model that a person means: a file, an ensemble's folder, or the newest of either in a folder.

    An ensemble is as old as what was written last in it.

    Raises:
        CheckpointError: there is none.
    """
    from mnistnet.formats.checkpoint import find_checkpoint, last_written
    from mnistnet.training.runs import members_of

    if members_of(path):
        return path
    below = sorted({member.parent for member in path.glob("*/member_*")})
    found = [folder for folder in below if members_of(folder)]
    try:
        found.append(find_checkpoint(path))
    except CheckpointError:
        if not found:
            raise

    def age(model: Path) -> int:
        return max(last_written(find_checkpoint(network)) for network in members_of(model) or [model])

    return max(found, key=age) if len(found) > 1 else found[0]


def read_classifiers(source: Path, size_limit: int) -> Classifier | Ensemble:
    """A checkpoint's classifier, or the ensemble of a folder, from what `find_model` has found.

    Raises:
        CheckpointError: it cannot be used, or does not give probabilities.
    """
    from mnistnet.formats.checkpoint import find_checkpoint
    from mnistnet.models import Ensemble
    from mnistnet.training.runs import members_of

    members = members_of(source)
    if not members:
        return read_classifier(source, size_limit)
    asked = ensemble_settings(source)
    if asked is not None and len(members) < asked.members:
        raise CheckpointError(
            f"{source}: an ensemble of which {len(members)} of {asked.members} networks are trained: "
            f"go on with mnistnet train --resume {source}"
        )
    return Ensemble(tuple(read_classifier(find_checkpoint(path), size_limit) for path in members))


def read_model(
    path: Path,
    size_limit: int,
    input_shape: str | None = None,
    input_scale: float | None = None,
    input_shift: float | None = None,
) -> Foreign:
    """What gives probabilities of pictures: a checkpoint, an ensemble, an ONNX model, an rsnet checkpoint.

    Args:
        path: the file; what it is is seen from its name and its first bytes.
        size_limit: MiB.
        input_shape: of the flag; this and the next two must be None for a checkpoint, which says them itself.
        input_scale: of the flag.
        input_shift: of the flag.

    Raises:
        CheckpointError: it cannot be used, or does not give probabilities.
        UsageError: a flag is wrong, or not for this kind of file.
    """
    from mnistnet.formats.foreign import Foreign
    from mnistnet.formats.rsnet import load_rsnet, looks_like_rsnet

    limit = size_limit * 2**20
    shape = _input_shape(input_shape)
    pixels = _pixels(input_scale, input_shift)
    if path.suffix.lower() == ".onnx":
        from mnistnet.formats.onnx_import import load_onnx

        return load_onnx(path, limit=limit, input_shape=shape, pixels=pixels)
    if not path.is_dir() and looks_like_rsnet(path):
        return load_rsnet(path, limit=limit, input_shape=shape, pixels=pixels)
    for flag, value in (("--input-shape", shape), ("--input-scale", pixels)):
        if value is not None:
            raise UsageError(f"{flag}: is for ONNX and rsnet models; {path} says it itself")
    found = read_classifiers(path, size_limit)
    check_pictures(path, found.input_shape)
    return Foreign(found)


def _input_shape(text: str | None) -> tuple[int, int, int] | None:
    if text is None:
        return None
    try:
        c, h, w = (int(number) for number in text.split(","))
    except ValueError:
        c = h = w = 0
    if min(c, h, w) < 1 or max(c, h, w) >= 2**31:
        raise UsageError(f"--input-shape: expected C,H,W such as 1,28,28, found {text!r}")
    return c, h, w


def _pixels(scale: float | None, shift: float | None) -> PixelScale | None:
    from mnistnet.engine.arrays import PixelScale

    for flag, value in (("--input-scale", scale), ("--input-shift", shift)):
        if value is not None and not abs(value) < LARGEST:
            raise UsageError(f"{flag}: must be a finite number, found {value}")
    if scale is None and shift is None:
        return None
    return PixelScale(PixelScale.scale if scale is None else scale, shift or 0.0)
