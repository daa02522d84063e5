"""``mnistnet train --resume``: which training goes on, with what settings, on what data."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mnistnet.cli.console import warn
from mnistnet.errors import CheckpointError, DataError, UsageError
from mnistnet.training.settings import KEPT_ON_RESUME, Settings, check_settings, flag, read_settings

if TYPE_CHECKING:
    from mnistnet.data.dataset import Dataset
    from mnistnet.formats.checkpoint import Checkpoint
    from mnistnet.training.trainer import TrainerState


BY_PLACE = ("model", "start_from", "train_data_dir", "data")
"""Settings that name files: a checkpoint does not have them, but its run's settings do."""


@dataclass(frozen=True)
class Resumed:
    """A training that is taken up again."""

    path: Path
    """Of its checkpoint."""
    checkpoint: Checkpoint
    state: TrainerState
    settings: Settings

    @property
    def run(self) -> Path | None:
        """Its folder; None where the checkpoint lies outside of a run."""
        from mnistnet.training.runs import is_run

        return self.path.parent if is_run(self.path.parent) else None


def find_resumed(path: Path) -> Resumed:
    """The newest checkpoint of a run's folder that can be read, or a file; and what it was trained with.

    Raises:
        CheckpointError: there is none to go on with.
    """
    from mnistnet.training.runs import SETTINGS, resumable

    candidates = resumable(path)
    for file in candidates:
        try:
            checkpoint, state = _load_state(file)
            break
        except CheckpointError as error:
            if file == candidates[-1]:
                raise
            warn(f"{error}; going on with the one before")
    try:
        settings = check_settings(checkpoint.training["settings"])  # type: ignore[arg-type]
    except (UsageError, KeyError, AttributeError) as error:
        raise CheckpointError(f"{file}: training.settings: {error}") from error
    settings["model"] = checkpoint.classifier.name
    with contextlib.suppress(UsageError):  # it only says where things are
        beside = read_settings(file.parent / SETTINGS)
        settings |= {name: beside[name] for name in BY_PLACE if name in beside}
    return Resumed(file, checkpoint, state, Settings(**settings))


def ensemble_settings(folder: Path) -> Settings | None:
    """The settings of the ensemble that a folder holds, None if it holds none."""
    from mnistnet.training.runs import SETTINGS

    if not (folder / SETTINGS).is_file():
        return None
    settings = Settings(**read_settings(folder / SETTINGS))
    return settings if settings.members > 1 else None


def _load_state(file: Path) -> tuple[Checkpoint, TrainerState]:
    from mnistnet.formats.checkpoint import load_checkpoint
    from mnistnet.training.state import trainer_state

    checkpoint = load_checkpoint(file)
    if checkpoint.state is None:
        raise CheckpointError(
            f"{file}: has weights only, and no training to go on with: "
            f"use its run's latest.json; or begin anew with --model {file}, which takes its layers"
        )
    try:
        return checkpoint, trainer_state(checkpoint.state)
    except CheckpointError as error:
        raise error.at(file) from error


def settings_on_resume(context: typer.Context, settings: Settings, run: Settings) -> Settings:
    """The run's own, but for what flags and environment say again.

    Raises:
        UsageError: one of them cannot change.
    """
    given = {name: getattr(settings, name) for name in said_now(context)}
    for name, value in given.items():
        before = getattr(run, name)
        if name in KEPT_ON_RESUME and value != before:
            raise UsageError(
                f"{flag(name)}: cannot change on --resume: the run has {before}, found {value}; "
                "start a new run"
            )
    if "data" in given or "train_data_dir" in given:  # either stands for both
        given = {"data": None, "train_data_dir": None, **given}
    return replace(run, **given)


def said_now(context: typer.Context) -> list[str]:
    """The settings that flags or the environment give, rather than files or defaults."""
    sources = {field.name: context.get_parameter_source(field.name) for field in fields(Settings)}
    return [
        name for name, source in sources.items() if source and source.name in ("COMMANDLINE", "ENVIRONMENT")
    ]


def check_data(resumed: Resumed, data: Dataset, facts: Mapping[str, Any]) -> None:
    """Refuse to go on with other data than those that the run began with; all differences are listed.

    Raises:
        DataError: they are others.
    """
    saved = resumed.checkpoint
    classifier = saved.classifier
    before: dict[str, Any] = {
        "image shape": classifier.network.input_shape,
        "classes": list(classifier.class_names),
        **{name: saved.training.get(name) for name in facts},
    }
    now = {"image shape": data.shape, "classes": list(data.class_names), **facts}
    different = [f"{name} {before[name]}, found {now[name]}" for name in now if before[name] != now[name]]
    if different:
        raise DataError(f"--resume: the run's data were others: expected {'; '.join(different)}")
