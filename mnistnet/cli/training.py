"""Carrying out what ``mnistnet train`` was asked for: one network, or an ensemble."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from mnistnet.cli.console import bar, class_counts, percent, warn
from mnistnet.cli.request import Request, TrainingData, first_classifier, untrained
from mnistnet.cli.resume import Resumed, find_resumed, run_folder
from mnistnet.errors import DivergedError, UsageError
from mnistnet.training.settings import AUTO, Settings, settings_text

if TYPE_CHECKING:
    from mnistnet.cli.recorder import Recorder
    from mnistnet.data.dataset import Dataset
    from mnistnet.models import Classifier
    from mnistnet.reports.evaluation import Evaluation
    from mnistnet.training.runs import RunFolder
    from mnistnet.training.trainer import Best, EpochResult, Trainer

DEFAULT_RUNS = Path("ckpt")
_NO_BETTER = 0.01  # than naming one class: less is chance


def train_one(request: Request, resumed: Resumed | None, *, report: bool) -> None:
    """Train a network and say how good it is: the test set is read here and nowhere else."""
    from mnistnet.reports.evaluation import evaluate

    classifier = first_classifier(request, resumed)
    began_with = untrained(request, classifier, resumed)
    run = _run(request, classifier, resumed)
    if run.checkpoint is None:
        raise UsageError(f"{'--resume: ' if resumed is not None else ''}nothing to do: {run.ended}")
    test = request.splits.test
    result = evaluate(classifier, test)
    typer.echo("\n".join(class_counts(result)))
    before = "" if began_with is None else f"; {percent(evaluate(began_with, test).accuracy)} before training"
    typer.echo(f"Test accuracy: {percent(result.accuracy)} ({result.correct} of {result.images}){before}")
    if run.best is not None:
        typer.echo(f"Best epoch:    {run.best.epoch}, validation accuracy {percent(run.best.accuracy)}")
    typer.echo(f"Checkpoint:    {run.checkpoint}")
    typer.echo(f"Loss CSV:      {run.csv_path}")
    if report:
        _report(run, classifier, result, test)


def train_ensemble(request: Request, resume: Path | None) -> None:
    """Train the networks of an ensemble, each in a folder of its own, and say how good their mean is."""
    from mnistnet.models import Ensemble
    from mnistnet.reports.evaluation import evaluate

    with _ensemble_folder(request, resume) as folder:
        members = _members(request, resume, folder)
    test = request.splits.test
    for number, member in enumerate(members, start=1):
        typer.echo(f"Network {number}: test accuracy {percent(evaluate(member, test).accuracy)}")
    result = evaluate(Ensemble(tuple(members)), test)
    typer.echo(
        f"Test accuracy: {percent(result.accuracy)} ({result.correct} of {result.images}), the mean of all"
    )
    typer.echo(f"Ensemble:      {folder}")


@contextlib.contextmanager
def _ensemble_folder(request: Request, resume: Path | None) -> Iterator[Path]:
    """Where an ensemble is kept, locked, with its settings in it."""
    from mnistnet.files import write_atomically
    from mnistnet.training.runs import SETTINGS, is_run, lock, made_folder, members_of, new_folder

    settings = request.settings
    name = first_classifier(request, None).name  # also: what is wrong is said before anything is made
    with contextlib.ExitStack() as stack:
        folder = request.outputs.folder
        if folder is None:
            folder = stack.enter_context(new_folder(DEFAULT_RUNS, f"{name}-{settings.members}"))
        stack.enter_context(made_folder(folder))
        stack.enter_context(lock(folder))
        there = members_of(folder)
        if resume is None and there and not request.outputs.overwrite:
            raise UsageError(
                f"{folder}: already holds an ensemble; use --resume, --overwrite or another folder"
            )
        if len(there) > settings.members or is_run(folder):
            raise UsageError(f"{folder}: holds what is no part of this ensemble; use another folder")
        if resume is None:
            _clear(there, request.inputs)
        write_atomically(folder / SETTINGS, settings_text(settings).encode())
        yield folder


def _clear(runs: list[Path], inputs: list[Path]) -> None:
    """Remove an older ensemble's networks, so that none is ever taken for one of the new ensemble."""
    from mnistnet.training.runs import RunFolder

    with contextlib.ExitStack() as stack:
        # all of them may be removed before any is
        folders = [stack.enter_context(RunFolder(run, overwrite=True, inputs=inputs)) for run in runs]
        for folder in folders:
            folder.clear()


def _members(request: Request, resume: Path | None, folder: Path) -> list[Classifier]:
    """The networks of an ensemble, trained one after the other; leaves with 128 plus a signal's number."""
    from mnistnet.training.runs import is_run

    members = []
    for number in range(1, request.settings.members + 1):
        typer.echo(f"Network {number} of {request.settings.members}")
        before = None if resume is None else resume / f"member_{number}"
        resumed = find_resumed(before) if before is not None and is_run(before) else None
        asked = request.member(number, folder / f"member_{number}", resumed)
        if resume is not None and not is_run(folder / f"member_{number}"):
            # it ended before its first checkpoint, and what it may have left cannot go on
            asked = replace(asked, outputs=replace(asked.outputs, overwrite=True))
        classifier = first_classifier(asked, resumed)
        run = _run(asked, classifier, resumed)
        if run.signal and number < request.settings.members:
            name = signal.Signals(run.signal).name
            warn(f"{name}: stopped after {number} networks; all is saved in {folder}")
            sys.exit(128 + run.signal)
        members.append(classifier)
    return members


@dataclass(frozen=True)
class _Run:
    """A run that has ended."""

    folder: Path
    csv_path: Path
    checkpoint: Path | None
    """The one to use; None if there was nothing left to do."""
    best: Best | None
    ended: str
    """Why."""
    signal: int
    """The one that came when there was nothing left to stop; 0 if none did."""


def _run(request: Request, classifier: Classifier, resumed: Resumed | None) -> _Run:
    """Train in a folder, until the end or a signal."""
    from mnistnet.cli.recorder import Recorder
    from mnistnet.engine.workers import meanwhile
    from mnistnet.training.runs import new_folder
    from mnistnet.training.trainer import Trainer

    settings, images, outputs = request.settings, request.images, request.outputs
    with run_folder(
        outputs.folder,
        resumed,
        lambda: new_folder(DEFAULT_RUNS, classifier.name),
        csv_path=outputs.csv_path,
        overwrite=outputs.overwrite,
        inputs=request.inputs,
    ) as run:
        if settings.learning_rate == AUTO:
            settings = _settle_learning_rate(request, classifier, run)
        trainer = Trainer(
            classifier, settings.config(request.workers), None if resumed is None else resumed.state
        )
        architecture = Path(settings.model).read_bytes() if settings.model.endswith(".json") else None
        # a checksum of all images is in them: it is found during the first steps
        recorder = Recorder(run, trainer, settings, meanwhile(images.facts), architecture)
        _announce(trainer, images, resumed)
        saved, stopped = _train(trainer, recorder, images, outputs.stride)
        return _Run(run.folder, run.csv_path, saved, trainer.best, _why_it_ended(trainer), stopped)


def _announce(trainer: Trainer, data: TrainingData, resumed: Resumed | None) -> None:
    classifier, config = trainer.classifier, trainer.config
    held_back = f", validating on {len(data.validation)}" if data.validation is not None else ""
    typer.echo(
        f"Training {classifier.name} ({classifier.network.size} parameters) on {len(data.training)} "
        f"images{held_back}: {config.length}, batch {config.batch_size}, seed {config.seed}"
    )
    if resumed is not None:
        typer.echo(f"Going on with {resumed.path} after {trainer.epoch} epochs and {trainer.step} steps")


def _train(trainer: Trainer, recorder: Recorder, data: TrainingData, stride: int) -> tuple[Path | None, int]:
    """Train, log, save and show; leaves with 128 and the number of a signal that stops it.

    Returns:
        The checkpoint to use, None if there was nothing to do; and the signal that came too late, or 0.
    """
    from mnistnet.cli.progress import Progress
    from mnistnet.cli.signals import stop_signals
    from mnistnet.training.trainer import EpochResult

    config = trainer.config
    if config.nb_epochs == 0 and config.budget is None and not trainer.steps:
        return recorder.untrained(), 0
    went_on = trainer.steps > 0
    if went_on:
        recorder.save_best()  # a sudden end may have come between the checkpoint and this
    saved: Path | None = None
    last: EpochResult | None = None
    begun = False
    with (
        stop_signals() as received,
        Progress(None if config.budget else config.nb_epochs) as progress,
        contextlib.closing(trainer.run(data.training, data.validation)) as results,
    ):
        try:
            for event in results:
                if went_on and not begun:
                    recorder.save_settings()
                begun = True
                over = isinstance(event, EpochResult) and event.is_last
                if isinstance(event, EpochResult):
                    last = event
                    saved = recorder.epoch(event, save=event.epoch % stride == 0 or over) or saved
                    progress.finish(event)
                else:
                    progress.update(event)
                if (number := received()) and not over:
                    progress.close()
                    path = recorder.stopped()
                    done = f"{trainer.epoch} epochs and {trainer.step} steps"
                    warn(f"{signal.Signals(number).name}: stopped after {done}; saved as {path}")
                    sys.exit(128 + number)
        except BrokenPipeError:
            recorder.stopped()
            raise
        except DivergedError as error:
            raise recorder.diverged(error, data.training) from error
        stopped = received()
    if not begun:
        return None, stopped
    _warn_if_nothing_was_learned(trainer, last, data.training)
    if trainer.is_out_of_patience:
        typer.echo(_why_it_ended(trainer))
    return (recorder.run.best_path if trainer.best is not None else saved), stopped


def _warn_if_nothing_was_learned(trainer: Trainer, last: EpochResult | None, training: Dataset) -> None:
    """A learning rate that is too high, or too few steps, are seen by a network that always says the same."""
    import numpy as np

    largest = int(np.bincount(training.labels).max()) / len(training)
    if last is not None and largest < 1.0 and last.training_accuracy < largest + _NO_BETTER:
        warn(
            f"nothing learned: after {trainer.steps} steps {percent(last.training_accuracy)} of the training "
            f"images are right, and naming the most frequent class every time makes it {percent(largest)}; "
            "try --learning-rate auto, or more epochs"
        )


def _why_it_ended(trainer: Trainer) -> str:
    config = trainer.config
    if trainer.is_out_of_patience:
        return f"no better validation for {config.patience} epochs; raise --patience to go on"
    if config.budget is not None:
        return f"its {config.budget:g} s are over; raise --budget"
    return f"its {config.nb_epochs} epochs are over; raise --nb-epochs"


def _settle_learning_rate(request: Request, classifier: Classifier, run: RunFolder) -> Settings:
    """Find the learning rate by a range test, and show how."""
    from mnistnet.training.range_test import range_test

    config = replace(request.settings, learning_rate=None).config(request.workers)
    found = range_test(classifier, config, request.images.training)
    path = run.save_rates(found.curve)
    typer.echo("Learning rate range test (loss, smoothed):")
    for tried, loss in found.curve[:: max(1, len(found.curve) // 16)]:
        typer.echo(f"  {tried:9.2g}  {loss:7.3f}  {bar(loss / found.curve[0][1] / 2)}")
    typer.echo(f"Learning rate: {found.chosen:.3g}, a quarter of where the loss falls fastest (see {path})")
    return replace(request.settings, learning_rate=found.chosen)


def _report(run: _Run, classifier: Classifier, result: Evaluation, test: Dataset) -> None:
    from mnistnet.reports.curves import read_curve
    from mnistnet.reports.report import write_report

    path = run.folder / "report.html"
    # a run of no epochs has logged nothing
    write_report(path, classifier, result, test, read_curve(run.csv_path) if run.csv_path.exists() else ())
    typer.echo(f"Report:        {path}")
