"""``mnistnet evaluate``."""

from __future__ import annotations

import csv
import json
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mnistnet.cli.console import (
    DEFAULT_SIZE_LIMIT,
    SizeLimit,
    class_counts,
    need_extra,
    percent,
    say,
    warn,
)
from mnistnet.cli.model_file import InputScale, InputShape, InputShift, find_model, read_model
from mnistnet.errors import DataError, ShapeError, UsageError, plain

if TYPE_CHECKING:
    from mnistnet.data.dataset import Dataset
    from mnistnet.formats.foreign import Predictor
    from mnistnet.reports.evaluation import ClassScore, Evaluation

MISTAKES = 10
WIDEST_MATRIX = 20  # classes; a wider one does not fit on a terminal


def evaluate(
    model: Annotated[
        Path,
        typer.Argument(
            help="A checkpoint, a folder: its newest, an ONNX or an rsnet model.", show_default=False
        ),
    ],
    data_dir: Annotated[
        Path | None,
        typer.Option(help="Folder or file with the data, in any form that train reads; data/ unless given."),
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="A published dataset by name: see mnistnet data list.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Everything as one JSON object on stdout.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="The table of classes as CSV on stdout.")] = False,
    plots: Annotated[
        Path | None,
        typer.Option(help="Folder for pictures of it all; needs the extra plot.", show_default=False),
    ] = None,
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
    input_shape: InputShape = None,
    input_scale: InputScale = None,
    input_shift: InputShift = None,
) -> None:
    """Say how good a model is on a test set: accuracy, each class, confusions, calibration, worst mistakes.

    Examples:
        mnistnet evaluate ckpt/lenet.json

        mnistnet evaluate ckpt --data-dir fashion --json

        mnistnet evaluate model.onnx --plots pictures
    """
    if as_json and as_csv:
        raise UsageError("--json and --csv: give one of them")
    if plots is not None:
        need_extra("--plots", "matplotlib", "plot")
    from mnistnet.cli.data import chosen_data
    from mnistnet.data.sources import load_data
    from mnistnet.reports.evaluation import evaluate as evaluate_on
    from mnistnet.training.runs import made_folder

    with nullcontext() if plots is None else made_folder(plots):
        source = find_model(model)
        read = read_model(source, size_limit, input_shape, input_scale, input_shift)
        for note in read.notes:
            warn(f"{source}: {note}")
        predictor = read.predictor
        folder = chosen_data("--data-dir", data_dir, data)
        splits = load_data(folder, class_names=predictor.class_names)
        for message in splits.warnings:
            warn(message)
        if splits.test.class_names != predictor.class_names:
            warn(f"{folder}: its classes have other names than the model's: is it the data the model is for?")
        try:
            found = evaluate_on(predictor, splits.test)
        except (DataError, ShapeError) as error:
            raise error.at(folder) from error
        if as_json:
            typer.echo(json.dumps({"model": str(source), "data": str(folder), **_figures(found)}))
        elif as_csv:
            _print_csv(found)
        else:
            typer.echo(f"{source} on {found.images} test images of {folder}")
            _print_text(found)
        if plots is not None:
            _save_plots(plots, predictor, found, splits.test, source)


def _figures(found: Evaluation) -> dict[str, object]:
    """Every figure in plain JSON values."""
    low, high = found.accuracy_interval
    return {
        "images": found.images,
        "correct": found.correct,
        "accuracy": found.accuracy,
        "accuracy_interval": [low, high],
        "loss": found.loss,
        "calibration_error": found.calibration_error,
        "classes": [_score(score) for score in found.classes],
        "confusion": found.confusion.tolist(),
        "calibration": [vars(bin_) for bin_ in found.calibration],
        "worst_mistakes": [vars(mistake) for mistake in found.worst_mistakes(MISTAKES)],
    }


def _score(score: ClassScore) -> dict[str, object]:
    return {**vars(score), "precision": score.precision, "recall": score.recall, "f1": score.f1}


def _print_csv(found: Evaluation) -> None:
    rows = [_score(score) for score in found.classes]
    writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)


def _print_text(found: Evaluation) -> None:
    from mnistnet.reports.evaluation import CALIBRATION_BINS, CONFIDENCE_LEVEL

    low, high = found.accuracy_interval
    typer.echo(
        f"Accuracy:     {percent(found.accuracy)} ({found.correct} of {found.images}; "
        f"{100 * CONFIDENCE_LEVEL:.0f} % confidence interval {percent(low)} to {percent(high)})"
    )
    typer.echo(f"Loss:         {found.loss:.4f} (cross-entropy, nats)")
    typer.echo(
        f"Calibration:  {percent(found.calibration_error)} (expected error, {CALIBRATION_BINS} bins)\n"
    )
    _print_classes(found)
    if len(found.class_names) <= WIDEST_MATRIX:
        _print_confusion(found)
    mistakes = found.worst_mistakes(MISTAKES)
    if mistakes:
        typer.echo("\nWorst mistakes")
    for mistake in mistakes:
        shares = f"{percent(mistake.confidence)} against {percent(mistake.label_probability)}"
        say(f"  image {mistake.index}: {mistake.label} read as {mistake.prediction}, {shares}")


def _print_classes(found: Evaluation) -> None:
    counts = class_counts(found)
    width = max(map(len, counts))
    typer.echo(f"{'':{width}}{'precision':>12}{'recall':>10}{'F1':>10}")
    for count, score in zip(counts, found.classes, strict=True):
        shares = f"{percent(score.precision):>12}{percent(score.recall):>10}{percent(score.f1):>10}"
        typer.echo(f"{count:{width}}{shares}")


def _print_confusion(found: Evaluation) -> None:
    """The matrix, columns numbered where names would not fit above them."""
    width = max(len(str(found.confusion.max())), 4) + 1
    names = [plain(name) for name in found.class_names]
    short = all(len(name) < width for name in names)
    columns = names if short else [str(i) for i in range(len(names))]
    rows = names if short else [f"{i} {name}" for i, name in enumerate(names)]
    margin = max(map(len, rows))
    typer.echo("\nConfusion: rows are what it is, columns what it was taken for")
    typer.echo(" " * (margin + 2) + "".join(f"{column:>{width}}" for column in columns))
    for row, counts in zip(rows, found.confusion.tolist(), strict=True):
        cells = "".join(f"{count or '.':>{width}}" for count in counts)
        typer.echo(f"  {row:>{margin}}{cells}")


def _save_plots(
    folder: Path, predictor: Predictor, found: Evaluation, test: Dataset, checkpoint: Path
) -> None:
    from mnistnet.files import write_atomically
    from mnistnet.reports.curves import read_curve
    from mnistnet.reports.plots import all_plots, png
    from mnistnet.training.runs import LOSS_CSV

    log = checkpoint.parent / LOSS_CSV
    curve = read_curve(log) if log.is_file() else ()
    # all are drawn before the first is written
    pictures = {name: png(figure) for name, figure in all_plots(predictor, found, test, curve).items()}
    for name, picture in pictures.items():
        path = folder / f"{name}.png"
        write_atomically(path, picture)
        warn(f"wrote {path}")
