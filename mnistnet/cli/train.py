"""``mnistnet train``."""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnistnet.cli.console import choose, percent, warn
from mnistnet.errors import CheckpointError, DataError, UsageError

if TYPE_CHECKING:
    from mnistnet.data.dataset import Dataset
    from mnistnet.models import Classifier
    from mnistnet.training.config import TrainingConfig
    from mnistnet.training.runs import RunFolder
    from mnistnet.training.trainer import EpochResult, StepResult, Trainer

TRAINING, NETWORK, DATA, OUTPUT = "Training", "Network", "Data", "Output"
DEFAULT_RUNS = Path("ckpt")
LINE_INTERVAL = 10.0  # seconds between progress lines where there is no terminal


def train(
    model: Annotated[
        str,
        typer.Option(
            help="lenet, rsnet, mlp or wide; or the path of an architecture file (.json).",
            rich_help_panel=NETWORK,
        ),
    ] = "lenet",
    learning_rate: Annotated[
        float, typer.Option(help="Step size at the start.", rich_help_panel=TRAINING)
    ] = 0.05,
    batch_size: Annotated[int, typer.Option(help="Images in a step.", rich_help_panel=TRAINING)] = 64,
    nb_epochs: Annotated[
        int,
        typer.Option(
            help="Times to go through the images; 0 saves the untrained network.", rich_help_panel=TRAINING
        ),
    ] = 5,
    optimizer: Annotated[
        str, typer.Option(help="sgd, or momentum: SGD with momentum.", rich_help_panel=TRAINING)
    ] = "momentum",
    momentum: Annotated[
        float | None,
        typer.Option(help="In [0, 1); 0.9 unless given.", rich_help_panel=TRAINING),
    ] = None,
    weight_decay: Annotated[
        float, typer.Option(help="Added to the gradient: weight decay x weight.", rich_help_panel=TRAINING)
    ] = 5e-4,
    lr_schedule: Annotated[
        str, typer.Option(help="constant, or cosine: down to 0 at the end.", rich_help_panel=TRAINING)
    ] = "cosine",
    seed: Annotated[
        int, typer.Option(help="Same seed, same bits: with any number of workers.", rich_help_panel=TRAINING)
    ] = 0,
    workers: Annotated[
        str, typer.Option(help="Processes to use: a number, or auto.", rich_help_panel=TRAINING)
    ] = "auto",
    train_data_dir: Annotated[
        Path, typer.Option(help="Folder with the four IDX files, raw or .gz.", rich_help_panel=DATA)
    ] = Path("data"),
    validation_split: Annotated[
        float,
        typer.Option(
            help="Share of the training images kept back to measure every epoch on.", rich_help_panel=DATA
        ),
    ] = 0.0,
    limit: Annotated[
        int | None, typer.Option(help="Train on the first N images only.", rich_help_panel=DATA)
    ] = None,
    checkpoint_folder: Annotated[
        Path | None,
        typer.Option(
            help="Where this run is kept; a new folder below ckpt/ unless given.", rich_help_panel=OUTPUT
        ),
    ] = None,
    checkpoint_stride: Annotated[
        int,
        typer.Option(help="Save every so many epochs, and always after the last.", rich_help_panel=OUTPUT),
    ] = 1,
    loss_csv_path: Annotated[
        Path | None,
        typer.Option(
            help="Loss and accuracy by epoch; loss.csv in the run's folder unless given.",
            rich_help_panel=OUTPUT,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a run that is there already.", rich_help_panel=OUTPUT)
    ] = False,
) -> None:
    """Train a network and keep it: checkpoints, a loss CSV, and the test accuracy at the end.

    Examples:
        mnistnet train

        mnistnet train --model mlp --nb-epochs 10 --validation-split 0.1

        mnistnet train --train-data-dir fashion --checkpoint-folder runs/a --seed 1
    """
    from mnistnet.data.dataset import load_folder
    from mnistnet.reports.evaluation import evaluate
    from mnistnet.training.runs import RunFolder, new_folder
    from mnistnet.training.trainer import Trainer

    config = _configuration(
        learning_rate, batch_size, nb_epochs, optimizer, momentum, weight_decay, lr_schedule, seed, workers
    )
    if checkpoint_stride < 1:
        raise UsageError(f"--checkpoint-stride: must be >= 1, found {checkpoint_stride}")
    if not 0 <= validation_split < 1:
        raise UsageError(f"--validation-split: must be >= 0 and < 1, found {validation_split}")
    if limit is not None and limit < 1:
        raise UsageError(f"--limit: must be >= 1, found {limit}")
    _refuse_inputs_as_outputs(train_data_dir, loss_csv_path, model)

    splits = load_folder(train_data_dir)
    for message in splits.warnings:
        warn(message)
    training: Dataset = splits.train if limit is None else splits.train.first(limit)
    validation: Dataset | None = None
    if validation_split:
        training, validation = training.split(validation_split, seed)
    if config.batch_size > len(training):
        raise DataError(f"--batch-size: {config.batch_size} exceeds the {len(training)} training images")
    classifier = _classifier(model, splits.train, seed)

    folder = checkpoint_folder or new_folder(DEFAULT_RUNS, classifier.name)
    with RunFolder(folder, loss_csv_path, overwrite=overwrite, inputs=[Path(model)]) as run:
        trainer = Trainer(classifier, config)
        facts = {
            "train_images": len(training),
            "validation_images": 0 if validation is None else len(validation),
        }
        _announce(classifier, config, training, validation)
        saved = _train(trainer, run, training, validation, facts, checkpoint_stride)
        result = evaluate(classifier, splits.test)
        typer.echo(f"Test accuracy: {percent(result.accuracy)} ({result.correct} of {result.images})")
        typer.echo(f"Checkpoint: {saved}")
        typer.echo(f"Loss CSV:   {run.csv_path}")


def _configuration(
    learning_rate: float,
    batch_size: int,
    nb_epochs: int,
    optimizer: str,
    momentum: float | None,
    weight_decay: float,
    lr_schedule: str,
    seed: int,
    workers: str,
) -> TrainingConfig:
    from mnistnet.engine.optimizers import SGD
    from mnistnet.engine.schedules import SCHEDULES
    from mnistnet.training.config import TrainingConfig

    choose("--optimizer", optimizer, ("sgd", "momentum"))
    choose("--lr-schedule", lr_schedule, tuple(SCHEDULES))
    if optimizer == "sgd" and momentum:
        raise UsageError("--momentum: goes with --optimizer momentum, found --optimizer sgd")
    count: int | None = None
    if workers != "auto":
        try:
            count = int(workers)
        except ValueError as error:
            raise UsageError(f"--workers: expected a number >= 1 or auto, found {workers!r}") from error
    default_momentum = 0.9 if optimizer == "momentum" else 0.0
    return TrainingConfig(
        learning_rate=learning_rate,
        batch_size=batch_size,
        nb_epochs=nb_epochs,
        optimizer=SGD(default_momentum if momentum is None else momentum, weight_decay),
        lr_schedule=SCHEDULES[lr_schedule](),
        seed=seed,
        workers=count,
    )


def _classifier(model: str, data: Dataset, seed: int) -> Classifier:
    """The untrained network: named, or described by an architecture file."""
    from mnistnet.engine.network import Network
    from mnistnet.formats.checkpoint import load_architecture
    from mnistnet.models import MODELS, Classifier, build

    classes = len(data.class_names)
    if not model.endswith(".json"):
        choose("--model", model, tuple(MODELS))
        network = build(model, data.shape, classes)
        return Classifier(network.initialize(seed), data.class_names, name=model)
    architecture = load_architecture(Path(model))
    last = architecture.layers[-1].kind
    if last != "softmax":
        raise CheckpointError(f'{model}: the last layer should be {{"kind": "softmax"}}, found {last}')
    if architecture.input_shape != data.shape:
        raise DataError(
            f"{model}: the model expects {_size(architecture.input_shape)} images, "
            f"the data has {_size(data.shape)}"
        )
    network = Network(architecture.layers, architecture.input_shape)
    if network.output_shape != (classes,):
        raise DataError(
            f"{model}: the model gives {network.output_shape} outputs, the data has {classes} classes"
        )
    names = architecture.class_names or data.class_names
    return Classifier(network.initialize(seed), names, architecture.pixels, architecture.name)


def _size(shape: tuple[int, ...]) -> str:
    c, h, w = shape
    return f"{h}x{w}" if c == 1 else f"{c}x{h}x{w}"


def _refuse_inputs_as_outputs(data: Path, csv_path: Path | None, model: str) -> None:
    if csv_path is None or not csv_path.exists():
        return
    inputs = [path for path in (*(data.iterdir() if data.is_dir() else ()), Path(model)) if path.is_file()]
    if any(csv_path.samefile(path) for path in inputs):
        raise UsageError(f"--loss-csv-path: {csv_path} would overwrite data that is read")


def _announce(
    classifier: Classifier, config: TrainingConfig, training: Dataset, validation: Dataset | None
) -> None:
    network = classifier.network
    held_back = f", validating on {len(validation)}" if validation is not None else ""
    typer.echo(
        f"Training {classifier.name} ({network.size} parameters) on {len(training)} images{held_back}: "
        f"{config.nb_epochs} epochs, batch {config.batch_size}, seed {config.seed}"
    )


def _train(
    trainer: Trainer,
    run: RunFolder,
    training: Dataset,
    validation: Dataset | None,
    facts: dict[str, Any],
    stride: int,
) -> Path:
    """Train, show, log and save; returns the last checkpoint's path. Leaves with 130 or 143 on a signal."""
    from mnistnet.training.trainer import EpochResult

    nb_epochs = trainer.config.nb_epochs
    saved = run.folder
    if nb_epochs == 0:
        return run.save(_checkpoint(trainer, facts), 0)
    with _stop_signals() as received, _Progress(nb_epochs) as progress:
        result: EpochResult | None = None
        for event in trainer.run(training, validation):
            if isinstance(event, EpochResult):
                result = event
                progress.finish(event)
                run.log(event)
                if event.epoch % stride == 0 or event.epoch == nb_epochs:
                    saved = run.save(_checkpoint(trainer, facts, event), event.epoch)
            else:
                progress.update(event)
            signal_number = received()
            if signal_number and trainer.epoch < nb_epochs:
                progress.close()
                path = run.save(_checkpoint(trainer, facts, result), None)
                warn(
                    f"{signal.Signals(signal_number).name}: stopped after {trainer.epoch} epochs and "
                    f"{trainer.step} steps; saved as {path}"
                )
                sys.exit(128 + signal_number)
    return saved


def _checkpoint(trainer: Trainer, facts: dict[str, Any], result: EpochResult | None = None) -> Any:
    """What is saved: the network and how it came to be; no time and no path, so that runs can be compared."""
    from mnistnet.formats.checkpoint import Checkpoint

    config = trainer.config
    training: dict[str, Any] = {
        "epoch": trainer.epoch,
        "step": trainer.step,
        "nb_epochs": config.nb_epochs,
        "batch_size": config.batch_size,
        "learning_rate": config.learning_rate,
        "lr_schedule": config.lr_schedule.name,
        "optimizer": {"name": config.optimizer.name, **config.optimizer.config()},
        "loss_function": config.loss,
        "seed": config.seed,
        **facts,
    }
    if result is not None:
        training["loss"] = result.loss
        training["training_accuracy"] = result.training_accuracy
        if result.validation_accuracy is not None:
            training["validation_loss"] = result.validation_loss
            training["validation_accuracy"] = result.validation_accuracy
    return Checkpoint(trainer.classifier, training)


@contextlib.contextmanager
def _stop_signals() -> Iterator[Callable[[], int]]:
    """Within this, SIGINT and SIGTERM ask to stop at the next step; a second one stops at once."""
    received: list[int] = []

    def ask(number: int, _frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    numbers = (signal.SIGINT, signal.SIGTERM)
    older = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: received[0] if received else 0
    finally:
        for number, handler in older.items():
            signal.signal(number, handler)


class _Progress:
    """A bar for each epoch on a terminal, a plain line now and then elsewhere; a result line an epoch."""

    def __init__(self, nb_epochs: int) -> None:
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no thread of its own
        self._new_bar = tqdm
        self._nb_epochs = nb_epochs
        self._terminal = sys.stderr.isatty()
        self._bar: Any = None
        self._said = time.monotonic()

    def __enter__(self) -> _Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def update(self, event: StepResult) -> None:
        """Show one step."""
        if not self._terminal:
            if time.monotonic() - self._said > LINE_INTERVAL:
                self._said = time.monotonic()
                warn(
                    f"epoch {event.epoch}/{self._nb_epochs}: "
                    f"step {event.step} of {event.steps}, loss {event.loss:.4f}"
                )
            return
        if self._bar is None:
            self._bar = self._new_bar(
                total=event.steps,
                desc=f"epoch {event.epoch}/{self._nb_epochs}",
                unit="batch",
                leave=False,
                file=sys.stderr,
                dynamic_ncols=True,
            )
        if self._bar.update(1):
            self._bar.set_postfix_str(f"loss {event.loss:.4f}", refresh=False)

    def finish(self, event: EpochResult) -> None:
        """Show one epoch's result."""
        self.close()
        line = (
            f"epoch {event.epoch}/{self._nb_epochs}  loss {event.loss:.4f}  "
            f"training accuracy {percent(event.training_accuracy)}"
        )
        if event.validation_accuracy is not None:
            line += f"  validation accuracy {percent(event.validation_accuracy)}"
        typer.echo(f"{line}  {event.seconds:.1f} s")

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
