"""``mnistnet train``."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from mnistnet.cli.ahead import made_ready
from mnistnet.cli.console import DEFAULT_SIZE_LIMIT, SizeLimit, check_pictures, need_extra, process_count
from mnistnet.cli.request import Outputs, Request, data_source, load_splits
from mnistnet.cli.resume import ensemble_settings, find_resumed, instead, said_now, settings_on_resume
from mnistnet.cli.signals import PIPE_CLOSED
from mnistnet.cli.training import train_ensemble, train_one
from mnistnet.errors import UsageError, choose
from mnistnet.training.settings import (
    AUTO,
    Settings,
    laid_over,
    rate,
    read_settings,
    recipe_settings,
    seconds,
    settings_text,
)

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
    context.default_map = laid_over(context.meta.get("recipe", {}), context.meta.get("config", {}))


TRAINING, NETWORK, DATA, OUTPUT, RUN = "Training", "Network", "Data", "Output", "Run"


def train(
    context: typer.Context,
    model: Annotated[
        str, _option(NETWORK, "A named network, or the path of an architecture file (.json).")
    ] = Settings.model,
    start_from: Annotated[
        str | None,
        _option(
            NETWORK, "Train the network of a checkpoint, an ONNX or an rsnet model further, from its weights."
        ),
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
        _option(
            TRAINING,
            "Of step: when to fall, as a share of the training; give it for every fall. 1/3 and 2/3.",
        ),
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
    augment_strength: Annotated[
        float | None, _option(TRAINING, "How much --augment changes them, as a multiple of its default.")
    ] = None,
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
    size_limit: SizeLimit = DEFAULT_SIZE_LIMIT,
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
    outputs = Outputs(folder, loss_csv_path, checkpoint_stride, overwrite)
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
    source = data_source(settings)
    _refuse_inputs_as_outputs(source, settings, loss_csv_path)
    try:
        with made_ready(settings, processes) as wait_for_imports:
            request = Request(settings, load_splits(source), processes, outputs, size_limit)
            wait_for_imports()
            if augment_picture is not None:
                _draw_augmented(augment_picture, request)
            if settings.members > 1:
                train_ensemble(request, resume if ensemble is not None else None)
            else:
                train_one(request, resumed, report=report)
    except BrokenPipeError:  # nobody reads on: quiet, but whoever asks shall not think that it was trained
        sys.exit(PIPE_CLOSED)


def _check_picture(path: Path, settings: Settings, *, overwrite: bool) -> None:
    from mnistnet.files import check_target

    if settings.augment == "none":
        raise UsageError("--augment-picture: needs --augment shift, affine or elastic")
    check_target(path)
    if path.exists() and not overwrite:
        raise UsageError(f"--augment-picture: {path} already exists; use --overwrite or another path")


def _draw_augmented(path: Path, request: Request) -> None:
    """A row for each of the first images: as it is, then as it might be shown to the network."""
    from mnistnet.data.augmentation import examples
    from mnistnet.data.pictures_sheet import contact_sheet
    from mnistnet.engine.streams import TRANSFORM, stream
    from mnistnet.files import write_atomically

    augmentation = request.settings.augmentation
    assert augmentation is not None
    images = request.images.training.images[:8]
    sheet = contact_sheet(examples(augmentation, images, 11, stream(request.settings.seed, TRANSFORM, 0)))
    write_atomically(path, sheet)
    typer.echo(f"Augmented images are shown in {path}")


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


def _check(settings: Settings, outputs: Outputs) -> None:
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


def _refuse_inputs_as_outputs(source: Path, settings: Settings, csv_path: Path | None) -> None:
    if csv_path is None or not csv_path.exists():
        return
    paths = (*(source.iterdir() if source.is_dir() else [source]), Path(settings.model))
    inputs = [path for path in paths if path.is_file()]
    if any(csv_path.samefile(path) for path in inputs):
        raise UsageError(f"--loss-csv-path: {csv_path} would overwrite data that is read")
