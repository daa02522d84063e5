"""``mnistnet train``."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mnistnet.cli.console import (
    DEFAULT_SIZE_LIMIT,
    bar,
    check_last_layer,
    check_pictures,
    class_counts,
    need_extra,
    percent,
    process_count,
    warn,
)
from mnistnet.cli.resume import (
    Resumed,
    check_data,
    ensemble_settings,
    find_resumed,
    instead,
    run_folder,
    said_now,
    settings_on_resume,
)
from mnistnet.cli.signals import PIPE_CLOSED
from mnistnet.errors import CheckpointError, DataError, DivergedError, MnistnetError, UsageError, choose
from mnistnet.training.settings import (
    AUTO,
    Settings,
    rate,
    read_settings,
    recipe_settings,
    seconds,
    settings_text,
)

if TYPE_CHECKING:
    from mnistnet.cli.recorder import Recorder
    from mnistnet.data.dataset import Dataset, Splits
    from mnistnet.engine.network import Network
    from mnistnet.models import Classifier
    from mnistnet.reports.evaluation import Evaluation
    from mnistnet.training.runs import RunFolder
    from mnistnet.training.trainer import Best, Trainer

DEFAULT_RUNS = Path("ckpt")
CUSTOM = "custom"
FROM_FILES = ("replay_steps", "replay_legs")
"""Settings without a flag: they come from a run's file."""


def _option(panel: str, text: str, *names: str, **more: Any) -> Any:
    return typer.Option(*names, help=text, rich_help_panel=panel, show_envvar=False, **more)


def _use_config(context: typer.Context, value: Path | None) -> Path | None:
    _let_files_speak(context, "config", None if value is None else read_settings(value))
    return value


def _use_recipe(context: typer.Context, value: str | None) -> str | None:
    _let_files_speak(context, "recipe", None if value is None else recipe_settings(value))
    return value


def _let_files_speak(context: typer.Context, which: str, settings: dict[str, Any] | None) -> None:
    """Files say what neither flags nor environment say; a recipe counts less than a configuration."""
    context.meta[which] = settings or {}
    context.default_map = {**context.meta.get("recipe", {}), **context.meta.get("config", {})}


TRAINING, NETWORK, DATA, OUTPUT, RUN = "Training", "Network", "Data", "Output", "Run"


def train(
    context: typer.Context,
    model: Annotated[
        str, _option(NETWORK, "A named network, or the path of an architecture file (.json).")
    ] = Settings.model,
    start_from: Annotated[
        str | None,
        _option(NETWORK, "Train the network of a checkpoint or ONNX model further, from its weights."),
    ] = None,
    learning_rate: Annotated[
        Any,
        _option(
            TRAINING,
            "Step size at the schedule's height, or auto: found by a range test. "
            "0.05 unless given; 0.001 for adam and adamw.",
            parser=rate,
            metavar="RATE",
        ),
    ] = None,
    batch_size: Annotated[int, _option(TRAINING, "Images in a step.")] = Settings.batch_size,
    nb_epochs: Annotated[
        int, _option(TRAINING, "Times to go through the images; 0 saves the untrained network.")
    ] = Settings.nb_epochs,
    budget: Annotated[
        Any,
        _option(TRAINING, "Train for this long instead: 60s, 5m, 1h.", parser=seconds, metavar="TIME"),
    ] = None,
    optimizer: Annotated[
        str, _option(TRAINING, "sgd, momentum, nesterov, adam or adamw.")
    ] = Settings.optimizer,
    momentum: Annotated[
        float | None, _option(TRAINING, "Of momentum and nesterov, in [0, 1); 0.9 unless given.")
    ] = None,
    beta1: Annotated[
        float | None, _option(TRAINING, "Of adam and adamw, in [0, 1); 0.9 unless given.")
    ] = None,
    beta2: Annotated[
        float | None, _option(TRAINING, "Of adam and adamw, in [0, 1); 0.999 unless given.")
    ] = None,
    weight_decay: Annotated[
        float | None,
        _option(TRAINING, "0.0005 unless given; 0 for adam, and 0.01, decoupled, for adamw."),
    ] = None,
    lr_schedule: Annotated[
        str, _option(TRAINING, "constant, step, cosine or one-cycle.")
    ] = Settings.lr_schedule,
    lr_gamma: Annotated[float | None, _option(TRAINING, "Of step: the factor at each fall; 0.1.")] = None,
    lr_steps: Annotated[
        list[float] | None,
        _option(TRAINING, "Of step: when to fall, as shares of the training; 1/3 and 2/3."),
    ] = None,
    lr_peak: Annotated[
        float | None, _option(TRAINING, "Of one-cycle: when it is highest, as a share; 0.3.")
    ] = None,
    warmup: Annotated[
        float | None, _option(TRAINING, "Share of the training in which the rate climbs first.")
    ] = None,
    loss: Annotated[
        str,
        _option(
            TRAINING,
            "cross_entropy, binary_cross_entropy, mean_squared_error; auto: what suits the last layer.",
        ),
    ] = Settings.loss,
    label_smoothing: Annotated[
        float | None, _option(TRAINING, "Share of each label that goes to all classes, in [0, 1).")
    ] = None,
    clip_norm: Annotated[float | None, _option(TRAINING, "Longest gradient (Euclidean norm).")] = None,
    average_decay: Annotated[
        float | None,
        _option(TRAINING, "Use a moving average of the weights that keeps this share of itself a step."),
    ] = None,
    augment: Annotated[
        str, _option(TRAINING, "Change every image anew: none, shift, affine or elastic.")
    ] = Settings.augment,
    augment_picture: Annotated[
        Path | None, _option(TRAINING, "Write a PNG of images as they are and as --augment changes them.")
    ] = None,
    seed: Annotated[
        int, _option(TRAINING, "Same seed, same bits: with any number of workers.")
    ] = Settings.seed,
    members: Annotated[
        int, _option(TRAINING, "Train so many networks, seed after seed; their mean counts.")
    ] = Settings.members,
    workers: Annotated[str, _option(TRAINING, "Processes to use: a number, or auto.")] = AUTO,
    train_data_dir: Annotated[
        str | None,
        _option(DATA, "Folder or file with the data, in any form of README.md; data/ unless given."),
    ] = None,
    data: Annotated[
        str | None,
        _option(DATA, "A published dataset by name, downloaded if need be: see mnistnet data list."),
    ] = None,
    validation_split: Annotated[
        float,
        _option(DATA, "Share of the training images kept back to measure every epoch on."),
    ] = Settings.validation_split,
    patience: Annotated[
        int | None, _option(DATA, "Stop after so many epochs without a better validation.")
    ] = None,
    limit: Annotated[int | None, _option(DATA, "Train on the first N images only.")] = None,
    checkpoint_folder: Annotated[
        Path | None, _option(OUTPUT, "Where this run is kept; a new folder below ckpt/ unless given.")
    ] = None,
    checkpoint_stride: Annotated[
        int, _option(OUTPUT, "Save every so many epochs, and always after the last.")
    ] = 1,
    loss_csv_path: Annotated[
        Path | None,
        _option(OUTPUT, "Loss and accuracy by epoch; loss.csv in the run's folder unless given."),
    ] = None,
    overwrite: Annotated[
        bool, _option(OUTPUT, "Replace a run that is there already.", "--overwrite")
    ] = False,
    report: Annotated[
        bool,
        _option(OUTPUT, "Also write report.html, with plots; needs the extra plot.", "--report"),
    ] = False,
    resume: Annotated[
        Path | None, _option(RUN, "Go on with a run: its folder, or one of its checkpoints.")
    ] = None,
    recipe: Annotated[
        str | None,
        _option(RUN, "Settings that do well: fast, accurate or best.", callback=_use_recipe, is_eager=True),
    ] = None,
    config: Annotated[
        Path | None,
        _option(
            RUN,
            "Settings from a TOML file, such as a run's run.toml; flags and MNISTNET_* count more.",
            callback=_use_config,
            is_eager=True,
        ),
    ] = None,
    print_config: Annotated[
        bool, _option(RUN, "Print the settings as TOML, and do nothing else.", "--print-config")
    ] = False,
) -> None:
    """Train a network and keep it: checkpoints, a loss CSV, and the test accuracy at the end.

    Examples:
        mnistnet train

        mnistnet train --model mlp --nb-epochs 10 --validation-split 0.1

        mnistnet train --resume ckpt/lenet-20261121-120000 --nb-epochs 10
    """
    settings = _settings(context)
    resumed = ensemble = None
    if resume is not None:
        if config is not None or recipe is not None:
            raise UsageError("--resume: takes the run's own settings: leave --config and --recipe away")
        before = ensemble = ensemble_settings(resume)
        if before is None:
            resumed = find_resumed(resume)
            check_pictures(resumed.path, resumed.checkpoint.classifier.input_shape)
            before = resumed.settings
        settings = settings_on_resume(context, settings, before)
    folder = checkpoint_folder or (resume if ensemble is not None else None)
    outputs = _Outputs(folder, loss_csv_path, checkpoint_stride, overwrite)
    said = said_now(context)
    if "model" in said and "start_from" in said:
        raise UsageError("--start-from: brings its own network: leave --model away")
    _check(settings, outputs)
    processes = process_count(workers)
    if print_config:
        typer.echo(settings_text(settings), nl=False)
        return
    if augment_picture is not None:
        _check_picture(augment_picture, settings, overwrite=overwrite)
    if report:
        need_extra("--report", "matplotlib", "plot")
        if settings.members > 1:
            raise UsageError("--report: is about a single network: leave --members away")
    source = _source(settings)
    _refuse_inputs_as_outputs(source, settings, loss_csv_path)
    session = _Session(settings, _load(source), processes, outputs)
    if augment_picture is not None:
        _draw_augmented(augment_picture, session)
    try:
        if settings.members > 1:
            _train_members(session, resume if ensemble is not None else None)
        else:
            _train_one(session, resumed, report=report)
    except BrokenPipeError:  # nobody reads on: quiet, but whoever asks shall not think that it was trained
        sys.exit(PIPE_CLOSED)


@dataclass(frozen=True)
class _Outputs:
    """Where a run is kept."""

    folder: Path | None
    csv_path: Path | None
    stride: int
    overwrite: bool


@dataclass(frozen=True)
class _Session:
    """All that was asked for."""

    settings: Settings
    splits: Splits
    workers: int | None
    outputs: _Outputs

    @cached_property
    def images(self) -> _Data:
        """The data as these settings divide them."""
        return _divide(self.splits, self.settings)

    def member(self, number: int, folder: Path, resumed: Resumed | None) -> _Session:
        """What is asked for one network of an ensemble, the first of which has number 1."""
        settings = replace(self.settings, members=1, seed=self.settings.seed + number - 1)
        if resumed is not None and settings.learning_rate == AUTO:  # it was found when the member began
            settings = replace(settings, learning_rate=resumed.settings.learning_rate)
        return replace(self, settings=settings, outputs=replace(self.outputs, folder=folder))


def _check_picture(path: Path, settings: Settings, *, overwrite: bool) -> None:
    from mnistnet.files import check_target

    if settings.augment == "none":
        raise UsageError("--augment-picture: needs --augment shift, affine or elastic")
    check_target(path)
    if path.exists() and not overwrite:
        raise UsageError(f"--augment-picture: {path} already exists; use --overwrite or another path")


def _draw_augmented(path: Path, session: _Session) -> None:
    """A row for each of the first images: as it is, then as it might be shown to the network."""
    from mnistnet.data.augmentation import examples
    from mnistnet.data.pictures_sheet import contact_sheet
    from mnistnet.engine.streams import TRANSFORM, stream
    from mnistnet.files import write_atomically

    augmentation = session.settings.augmentation
    assert augmentation is not None
    images = session.images.training.images[:8]
    sheet = contact_sheet(examples(augmentation, images, 11, stream(session.settings.seed, TRANSFORM, 0)))
    write_atomically(path, sheet)
    typer.echo(f"Augmented images are shown in {path}")


def _train_one(session: _Session, resumed: Resumed | None, *, report: bool) -> None:
    """Train a network and say how good it is: the test set is read here and nowhere else."""
    from mnistnet.reports.evaluation import evaluate

    classifier = _first_classifier(session, resumed)
    untrained = _untrained(session, classifier, resumed)
    run = _run(session, classifier, resumed)
    if run.checkpoint is None:
        raise UsageError(f"{'--resume: ' if resumed is not None else ''}nothing to do: {run.ended}")
    test = session.splits.test
    result = evaluate(classifier, test)
    typer.echo("\n".join(class_counts(result)))
    before = "" if untrained is None else f"; {percent(evaluate(untrained, test).accuracy)} before training"
    typer.echo(f"Test accuracy: {percent(result.accuracy)} ({result.correct} of {result.images}){before}")
    if run.best is not None:
        typer.echo(f"Best epoch:    {run.best.epoch}, validation accuracy {percent(run.best.accuracy)}")
    typer.echo(f"Checkpoint:    {run.checkpoint}")
    typer.echo(f"Loss CSV:      {run.csv_path}")
    if report:
        _report(run, classifier, result, test)


def _train_members(session: _Session, resume: Path | None) -> None:
    """Train the networks of an ensemble, each in a folder of its own, and say how good their mean is."""
    from mnistnet.models import Ensemble
    from mnistnet.reports.evaluation import evaluate

    with _ensemble_folder(session, resume) as folder:
        members = _members(session, resume, folder)
    test = session.splits.test
    for number, member in enumerate(members, start=1):
        typer.echo(f"Network {number}: test accuracy {percent(evaluate(member, test).accuracy)}")
    result = evaluate(Ensemble(tuple(members)), test)
    typer.echo(
        f"Test accuracy: {percent(result.accuracy)} ({result.correct} of {result.images}), the mean of all"
    )
    typer.echo(f"Ensemble:      {folder}")


@contextlib.contextmanager
def _ensemble_folder(session: _Session, resume: Path | None) -> Iterator[Path]:
    """Where an ensemble is kept, with its settings in it."""
    from mnistnet.files import write_atomically
    from mnistnet.training.runs import SETTINGS, is_run, make_folders, members_of, new_folder

    settings = session.settings
    name = _first_classifier(session, None).name  # also: what is wrong is said before anything is made
    with contextlib.ExitStack() as stack:
        folder = session.outputs.folder
        if folder is None:
            folder = stack.enter_context(new_folder(DEFAULT_RUNS, f"{name}-{settings.members}"))
        there = members_of(folder)
        if resume is None and there and not session.outputs.overwrite:
            raise UsageError(
                f"{folder}: already holds an ensemble; use --resume, --overwrite or another folder"
            )
        if len(there) > settings.members or is_run(folder):
            raise UsageError(f"{folder}: holds what is no part of this ensemble; use another folder")
        make_folders(folder)
        write_atomically(folder / SETTINGS, settings_text(settings).encode())
        yield folder


def _members(session: _Session, resume: Path | None, folder: Path) -> list[Classifier]:
    """The networks of an ensemble, trained one after the other; leaves with 128 plus a signal's number."""
    from mnistnet.training.runs import is_run

    members = []
    for number in range(1, session.settings.members + 1):
        typer.echo(f"Network {number} of {session.settings.members}")
        before = None if resume is None else resume / f"member_{number}"
        resumed = find_resumed(before) if before is not None and is_run(before) else None
        asked = session.member(number, folder / f"member_{number}", resumed)
        classifier = _first_classifier(asked, resumed)
        run = _run(asked, classifier, resumed)
        if run.signal and number < session.settings.members:
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


def _run(session: _Session, classifier: Classifier, resumed: Resumed | None) -> _Run:
    """Train in a folder, until the end or a signal."""
    from mnistnet.cli.recorder import Recorder
    from mnistnet.training.runs import new_folder
    from mnistnet.training.trainer import Trainer

    settings, images, outputs = session.settings, session.images, session.outputs
    with run_folder(
        outputs.folder,
        resumed,
        lambda: new_folder(DEFAULT_RUNS, classifier.name),
        csv_path=outputs.csv_path,
        overwrite=outputs.overwrite,
        inputs=[Path(path) for path in (settings.model, settings.start_from) if path is not None],
    ) as run:
        if settings.learning_rate == AUTO:
            settings = _settle_learning_rate(session, classifier, run)
        trainer = Trainer(
            classifier, settings.config(session.workers), None if resumed is None else resumed.state
        )
        architecture = Path(settings.model).read_bytes() if settings.model.endswith(".json") else None
        recorder = Recorder(run, trainer, settings, images.facts, architecture)
        _announce(trainer, images, resumed)
        saved, stopped = _train(trainer, recorder, images, outputs.stride)
        return _Run(run.folder, run.csv_path, saved, trainer.best, _why_it_ended(trainer), stopped)


@dataclass(frozen=True)
class _Data:
    """What a run learns from and is measured on."""

    whole: Dataset
    """All training images, before any were taken away for validation."""
    training: Dataset
    validation: Dataset | None

    @property
    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of it."""
        return {
            "train_images": len(self.training),
            "validation_images": 0 if self.validation is None else len(self.validation),
            "data": self.training.fingerprint,
        }


def _settings(context: typer.Context) -> Settings:
    """What flags, environment and files say, in this order."""
    names = [field.name for field in fields(Settings) if field.name in context.params]
    values = {name: context.params[name] for name in names}
    if values["lr_steps"] is not None:
        values["lr_steps"] = tuple(values["lr_steps"]) or None
    said = said_now(context)
    files = context.default_map or {}
    values |= {name: files[name] for name in FROM_FILES if name in files}
    values |= instead({name: values[name] for name in said})
    return Settings(**values).without_strangers(said)


def _check(settings: Settings, outputs: _Outputs) -> None:
    """Say what is wrong before the data are read."""
    if outputs.stride < 1:
        raise UsageError(f"--checkpoint-stride: must be >= 1, found {outputs.stride}")
    if settings.members < 1:
        raise UsageError(f"--members: must be >= 1, found {settings.members}")
    if settings.members > 1 and outputs.csv_path is not None:
        raise UsageError("--loss-csv-path: each of the --members has a CSV in its own folder; leave it away")
    replace(
        settings, learning_rate=None if settings.learning_rate == AUTO else settings.learning_rate
    ).config()
    if not 0 <= settings.validation_split < 1:
        raise UsageError(f"--validation-split: must be >= 0 and < 1, found {settings.validation_split}")
    if settings.limit is not None and settings.limit < 1:
        raise UsageError(f"--limit: must be >= 1, found {settings.limit}")
    if not settings.model.endswith(".json"):
        from mnistnet.models import MODELS

        if settings.model != CUSTOM:  # as of a run whose network came from a file
            choose("--model", settings.model, tuple(MODELS))
    try:
        settings_text(settings).encode()
    except UnicodeEncodeError as error:
        raise UsageError("settings: expected Unicode text in every path, found other bytes") from error
    if settings.patience is not None and not settings.validation_split:
        raise UsageError("--patience: needs --validation-split, whose images it is measured on")


def _source(settings: Settings) -> Path:
    """Where the data are, after they were fetched if need be."""
    from mnistnet.cli.data import chosen_data

    folder = settings.train_data_dir
    return chosen_data("--train-data-dir", None if folder is None else Path(folder), settings.data)


def _load(source: Path) -> Splits:
    from mnistnet.data.sources import load_data

    splits = load_data(source)
    for message in splits.warnings:
        warn(message)
    return splits


def _divide(splits: Splits, settings: Settings) -> _Data:
    """Take the images that are not wanted, and those for validation, away from the training images."""
    if settings.limit is not None and settings.limit > len(splits.train):
        raise UsageError(f"--limit: {settings.limit} exceeds the {len(splits.train)} training images")
    training = splits.train if settings.limit is None else splits.train.first(settings.limit)
    validation = None
    if settings.validation_split:
        training, validation = training.split(settings.validation_split, settings.seed)
    if settings.batch_size > len(training):
        raise DataError(f"--batch-size: {settings.batch_size} exceeds the {len(training)} training images")
    return _Data(splits.train, training, validation)


def _first_classifier(session: _Session, resumed: Resumed | None) -> Classifier:
    """A new network, or the one that training goes on with."""
    if resumed is None:
        classifier = _new_classifier(session.settings, session.images.whole)
    else:
        check_data(resumed, session.images.whole, session.images.facts)
        classifier = resumed.checkpoint.classifier
    _check_loss(session.settings, classifier)
    return classifier


def _new_classifier(settings: Settings, data: Dataset) -> Classifier:
    """The network to train: named, described by an architecture file, or with its weights from a model."""
    from mnistnet.models import MODELS, Classifier, build

    model = settings.model
    if settings.start_from is not None:
        return _started(Path(settings.start_from), data)
    if model.endswith(".json"):
        return _described(Path(model), data, settings.seed)
    choose("--model", model, tuple(MODELS))
    network = build(model, data.shape, len(data.class_names))
    return Classifier(network.initialize(settings.seed), data.class_names, name=model)


def _described(path: Path, data: Dataset, seed: int) -> Classifier:
    from mnistnet.engine.network import Network
    from mnistnet.formats.checkpoint import load_architecture
    from mnistnet.models import Classifier

    architecture = load_architecture(path)
    check_last_layer(path, architecture.layers[-1].kind)
    check_pictures(path, architecture.input_shape)
    network = Network(architecture.layers, architecture.input_shape)
    _check_fit(path, network, data)
    names = architecture.class_names or data.class_names
    return Classifier(network.initialize(seed), names, architecture.pixels, architecture.name)


def _started(path: Path, data: Dataset) -> Classifier:
    from mnistnet.cli.model_file import find_model, read_model
    from mnistnet.models import Classifier

    found = read_model(find_model(path), DEFAULT_SIZE_LIMIT)
    for note in found.notes:
        warn(f"{path}: {note}")
    if not isinstance(found.predictor, Classifier):
        why = found.obstacle or "an ensemble"
        raise CheckpointError(f"--start-from: {path}: expected a network that can be trained, found {why}")
    _check_fit(path, found.predictor.network, data)
    if found.predictor.class_names != data.class_names:
        warn(f"--start-from: {path}: its classes have other names than the data's, which count from now on")
    return replace(found.predictor, class_names=data.class_names, confidence_threshold=None)


def _check_fit(path: Path, network: Network, data: Dataset) -> None:
    if network.input_shape != data.shape:
        raise DataError(
            f"{path}: the model expects {_size(network.input_shape)} images, the data has {_size(data.shape)}"
        )
    if network.output_shape != (len(data.class_names),):
        raise DataError(
            f"{path}: the model gives {network.output_shape} outputs, "
            f"the data has {len(data.class_names)} classes"
        )


def _check_loss(settings: Settings, classifier: Classifier) -> None:
    """Refuse a loss that does not go with the network's last layer, before anything is made."""
    from mnistnet.engine.losses import LOSSES

    last = classifier.network.layers[-1].kind
    wanted = LOSSES[settings.loss].fuses if settings.loss in LOSSES else None
    if wanted not in (None, last):
        raise UsageError(
            f"--loss: {settings.loss} goes with a network that ends in {wanted}, found {last}; "
            "auto chooses what suits it"
        )


def _untrained(session: _Session, classifier: Classifier, resumed: Resumed | None) -> Classifier | None:
    """What the training began with; None where it cannot be had any more."""
    if resumed is not None:
        try:
            return _new_classifier(session.settings, session.splits.train)
        except MnistnetError:  # a file that has gone
            return None
    return replace(classifier, network=classifier.network.copy())


def _size(shape: tuple[int, ...]) -> str:
    c, h, w = shape
    return f"{h}x{w}" if c == 1 else f"{c}x{h}x{w}"


def _refuse_inputs_as_outputs(source: Path, settings: Settings, csv_path: Path | None) -> None:
    if csv_path is None or not csv_path.exists():
        return
    paths = (*(source.iterdir() if source.is_dir() else [source]), Path(settings.model))
    inputs = [path for path in paths if path.is_file()]
    if any(csv_path.samefile(path) for path in inputs):
        raise UsageError(f"--loss-csv-path: {csv_path} would overwrite data that is read")


def _announce(trainer: Trainer, data: _Data, resumed: Resumed | None) -> None:
    classifier, config = trainer.classifier, trainer.config
    held_back = f", validating on {len(data.validation)}" if data.validation is not None else ""
    typer.echo(
        f"Training {classifier.name} ({classifier.network.size} parameters) on {len(data.training)} "
        f"images{held_back}: {config.length}, batch {config.batch_size}, seed {config.seed}"
    )
    if resumed is not None:
        typer.echo(f"Going on with {resumed.path} after {trainer.epoch} epochs and {trainer.step} steps")


def _train(trainer: Trainer, recorder: Recorder, data: _Data, stride: int) -> tuple[Path | None, int]:
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
    if trainer.is_out_of_patience:
        typer.echo(_why_it_ended(trainer))
    return (recorder.run.best_path if trainer.best is not None else saved), stopped


def _why_it_ended(trainer: Trainer) -> str:
    config = trainer.config
    if trainer.is_out_of_patience:
        return f"no better validation for {config.patience} epochs; raise --patience to go on"
    if config.budget is not None:
        return f"its {config.budget:g} s are over; raise --budget"
    return f"its {config.nb_epochs} epochs are over; raise --nb-epochs"


def _settle_learning_rate(session: _Session, classifier: Classifier, run: RunFolder) -> Settings:
    """Find the learning rate by a range test, and show how."""
    from mnistnet.training.range_test import range_test

    config = replace(session.settings, learning_rate=None).config(session.workers)
    found = range_test(classifier, config, session.images.training)
    path = run.save_rates(found.curve)
    typer.echo("Learning rate range test (loss, smoothed):")
    for tried, loss in found.curve[:: max(1, len(found.curve) // 16)]:
        typer.echo(f"  {tried:9.2g}  {loss:7.3f}  {bar(loss / found.curve[0][1] / 2)}")
    typer.echo(f"Learning rate: {found.chosen:.3g}, a quarter of where the loss falls fastest (see {path})")
    return replace(session.settings, learning_rate=found.chosen)


def _report(run: _Run, classifier: Classifier, result: Evaluation, test: Dataset) -> None:
    from mnistnet.reports.curves import read_curve
    from mnistnet.reports.report import write_report

    path = run.folder / "report.html"
    # a run of no epochs has logged nothing
    write_report(path, classifier, result, test, read_curve(run.csv_path) if run.csv_path.exists() else ())
    typer.echo(f"Report:        {path}")
