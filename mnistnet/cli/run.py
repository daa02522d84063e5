"""``mnistnet run``."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnistnet.cli.console import (
    DEFAULT_SIZE_LIMIT,
    SizeLimit,
    bar,
    blocks,
    percent,
    say,
    warn,
)
from mnistnet.cli.model_file import InputScale, InputShape, InputShift, find_model, read_model
from mnistnet.errors import CheckpointError, MnistnetError, UsageError, plain

if TYPE_CHECKING:
    from mnistnet.data.pictures import Picture, Step
    from mnistnet.formats.foreign import Predictor

BLANK, SEVERAL, UNSURE = "blank", "several digits", "low confidence"
"""The marks of ``--json``."""


def run(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint, a folder (its newest checkpoint), an ONNX model, an rsnet checkpoint.",
            show_default=False,
        ),
    ],
    images: Annotated[
        list[str],
        typer.Argument(
            help="Pictures: PNG, JPEG, PBM, PGM ..., .bin (one byte a pixel), or - for stdin.",
            show_default=False,
        ),
    ],
    input_shape: InputShape = None,
    input_scale: InputScale = None,
    input_shift: InputShift = None,
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
    split: Annotated[
        bool, typer.Option("--split", help="Read several digits from a picture, left to right.")
    ] = False,
    explain: Annotated[
        Path | None,
        typer.Option(
            help="Show how the model comes to see a picture so: here, and as a picture file (PNG).",
            show_default=False,
        ),
    ] = None,
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

        mnistnet run ckpt house-number.jpg --split --explain why.png

        mnistnet run model.onnx photo.jpg
    """
    source = find_model(checkpoint)
    if explain is not None:
        _check_explanation(explain, [source, *map(Path, images)])
    model = read_model(source, size_limit, input_shape, input_scale, input_shift)
    for note in model.notes:
        warn(f"{source}: {note}")
    predictor = model.predictor
    failed: MnistnetError | None = None
    seen: list[_Sight] = []
    for name in images:
        try:
            sights = _look(predictor, name, split=split)
        except MnistnetError as error:
            if as_json:
                typer.echo(json.dumps(_failure(name, error)))
            if len(images) == 1:
                raise
            # the other pictures are still worth reading
            warn(str(error))
            failed = error
            continue
        seen += sights
        if as_json:
            for sight in sights:
                typer.echo(json.dumps(_record(name, predictor, sight, split=split)))
        else:
            if len(images) > 1:
                typer.echo(f"{name}:")
            if explain is not None:
                for sight in sights:
                    _show_steps(sight.picture.steps)
            _show_digits(sights) if split else _show(predictor, sights[0])
    if explain is not None and seen:
        _write_explanation(explain, [sight.picture.steps for sight in seen], said=not as_json)
    if failed is not None:
        raise typer.Exit(failed.exit_code)


@dataclass(frozen=True)
class _Sight:
    """What the network makes of one picture."""

    picture: Picture
    prediction: str
    probability: float
    probabilities: list[float]
    threshold: float
    """From which on a prediction is relied on."""

    @property
    def unsure(self) -> bool:
        return self.probability < self.threshold


def _look(predictor: Predictor, name: str, *, split: bool) -> list[_Sight]:
    """What the network makes of a picture file or of stdin: of each digit on it, or of the whole."""
    from mnistnet.data.pictures import read_digits, read_picture

    content = sys.stdin.buffer.read() if name == "-" else Path(name)
    called = "stdin" if name == "-" else name
    c, h, w = predictor.input_shape
    pictures = (
        read_digits(content, (c, h, w), name=called)
        if split
        else (read_picture(content, (c, h, w), name=called),)
    )
    return [_sight(predictor, picture, called) for picture in pictures]


def _sight(predictor: Predictor, picture: Picture, name: str) -> _Sight:
    import numpy as np

    from mnistnet.data.confidence import FALLBACK

    probabilities = predictor.probabilities(picture.pixels[None])[0]
    if not np.isfinite(probabilities).all():
        raise CheckpointError(f"{name}: non-finite prediction: the checkpoint's weights are not usable")
    best = int(probabilities.argmax())
    threshold = predictor.confidence_threshold
    return _Sight(
        picture,
        predictor.class_names[best],
        float(probabilities[best]),
        probabilities.tolist(),
        FALLBACK if threshold is None else threshold,
    )


def _check_explanation(path: Path, inputs: list[Path]) -> None:
    from mnistnet.files import check_target, same_file

    check_target(path)
    if any(same_file(path, given) for given in inputs if given.exists()):
        raise UsageError(f"--explain: {path} would overwrite a file that is read")


def _write_explanation(path: Path, rows: list[tuple[Step, ...]], *, said: bool) -> None:
    from mnistnet.data.pictures.drawing import chain_picture
    from mnistnet.files import write_atomically

    write_atomically(path, chain_picture(rows))
    if said:
        typer.echo(f"Explained in {path}")


# --- for programs -----------------------------------------------------------------------------------------


def _record(name: str, predictor: Predictor, sight: _Sight, *, split: bool) -> dict[str, Any]:
    several = sight.picture.digits > 1 and not split
    marks = [mark for mark, there in ((SEVERAL, several), (UNSURE, sight.unsure)) if there]
    return {
        "image": name,
        "prediction": sight.prediction,
        "probability": sight.probability,
        "probabilities": dict(zip(predictor.class_names, sight.probabilities, strict=True)),
        "threshold": sight.threshold,
        "digits": sight.picture.digits,
        "marks": marks,
        "notes": list(sight.picture.notes),
    }


def _failure(name: str, error: MnistnetError) -> dict[str, Any]:
    from mnistnet.data.pictures.noise import BlankPictureError

    marks = [BLANK] if isinstance(error, BlankPictureError) else []
    return {"image": name, "prediction": None, "marks": marks, "error": str(error)}


# --- for people -------------------------------------------------------------------------------------------


def _show(predictor: Predictor, sight: _Sight) -> None:
    for note in sight.picture.notes:
        typer.echo(f"({note})")
    if sight.picture.digits > 1:
        typer.echo(f"({sight.picture.digits} digits side by side, read as one: --split reads each)")
    say(f"Prediction: {sight.prediction}{_doubt(sight)}")
    names = [plain(name) for name in predictor.class_names]
    width = max(map(len, names))
    for c, p in zip(names, sight.probabilities, strict=True):
        typer.echo(f"  {c:>{width}}  {percent(p):>8}  {bar(p)}".rstrip())


def _show_digits(sights: list[_Sight]) -> None:
    say(f"Predictions: {' '.join(sight.prediction for sight in sights)}")
    for sight in sights:
        say(f"  {sight.prediction}  {percent(sight.probability):>8}{_doubt(sight)}")


def _doubt(sight: _Sight) -> str:
    return f" (not sure: less than {percent(sight.threshold)})" if sight.unsure else ""


def _show_steps(steps: tuple[Step, ...]) -> None:
    """The steps as blocks, as many side by side as the terminal has room for, then their reasons."""
    side, gap = 28, "  "
    across = max(shutil.get_terminal_size().columns // (side + len(gap)), 1)
    for first in range(0, len(steps), across):
        shown = steps[first : first + across]
        titles = [f"{number}. {step.name}".ljust(side) for number, step in enumerate(shown, first + 1)]
        drawn = zip(*(blocks(step.grey, side) for step in shown), strict=True)
        for line in (titles, *drawn):
            typer.echo(gap.join(line).rstrip())
    for number, step in enumerate(steps, 1):
        typer.echo(f"{number}. {step.name}: {step.reason}")
