"""``mnistnet train --resume``: which training goes on, with what settings, on what data."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from mnistnet.cli.console import warn
from mnistnet.errors import CheckpointError, DataError, UsageError
from mnistnet.training.settings import AUTO, KEPT_ON_RESUME, Settings, check_settings, flag, read_settings

if TYPE_CHECKING:
    from mnistnet.data.dataset import Dataset
    from mnistnet.formats.checkpoint import Checkpoint
    from mnistnet.training.runs import RunFolder
    from mnistnet.training.trainer import TrainerState


BESIDE = ("model", "start_from", "train_data_dir", "data", "replay_steps", "replay_legs")
"""Settings that a checkpoint does not have, but the file of its run's settings."""


REPLAY_BREAKERS = {
    *("budget", "nb_epochs", "batch_size", "limit", "validation_split", "patience", "data", "train_data_dir")
}
"""Settings that a replay of a training with a budget cannot have otherwise."""


@dataclass(frozen=True)
class Resumed:
    """A training that is taken up again."""

    path: Path
    """Of its checkpoint."""
    checkpoint: Checkpoint
    state: TrainerState
    settings: Settings
    by_folder: bool
    """The newest of a run was asked for, not this very file."""
    took_over: bool = False
    """It ended while it replaced an older run."""

    @property
    def run(self) -> Path | None:
        """Its folder; None where the checkpoint lies outside of a run."""
        from mnistnet.training.runs import is_run

        return self.path.parent if is_run(self.path.parent) else None

    @property
    def keep_until(self) -> int:
        """The last epoch whose checkpoint may be there already.

        Of a folder any: later ones come from a save that was cut off, or are damaged. Of a file, an epoch
        that a budget cut short has its checkpoint too.
        """
        return sys.maxsize if self.by_folder else self.state.epoch + bool(self.state.step)


def find_resumed(path: Path) -> Resumed:
    """The newest checkpoint of a run's folder that can be read, or a file; and what it was trained with.

    Raises:
        CheckpointError: there is none to go on with.
    """
    from mnistnet.training.runs import resumable

    candidates = resumable(path)
    if path.is_dir() and (taking_over := _cut_off_taking_over(candidates)) is not None:
        return taking_over
    for file in candidates:
        try:
            resumed = _read_resumed(file)
            break
        except CheckpointError as error:
            if file == candidates[-1]:
                raise
            warn(f"{error}; going on with the one before")
    return replace(resumed, by_folder=path.is_dir())


def _read_resumed(file: Path) -> Resumed:
    checkpoint, state = _load_state(file)
    saved = checkpoint.training.get("settings")
    if not isinstance(saved, dict):
        raise CheckpointError(f"{file}: training.settings: missing: its training cannot go on")
    try:
        settings = {**check_settings(saved), "model": checkpoint.classifier.name}
        Settings(**settings)
    except UsageError as error:
        raise CheckpointError(f"{file}: training.settings: {error}") from error
    settings |= _settings_beside(file, settings)
    return Resumed(file, checkpoint, state, Settings(**settings), by_folder=False)


def _settings_beside(file: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What a checkpoint does not have of its run's settings, which only says where things are."""
    from mnistnet.training.runs import NEXT_SETTINGS, SETTINGS

    for name in (NEXT_SETTINGS, SETTINGS):
        with contextlib.suppress(UsageError):
            beside = read_settings(file.with_name(name))
            # in a folder where one run was to replace another there are two of them
            if all(beside[key] == settings.get(key) for key in KEPT_ON_RESUME & set(beside) - set(BESIDE)):
                return {key: beside[key] for key in BESIDE if key in beside}
    return {}


def _cut_off_taking_over(candidates: list[Path]) -> Resumed | None:
    """The run that ended when its first checkpoint had just replaced an older run's, if there is one.

    It is known by its settings, which are there under another name until nothing is left of the older run.
    """
    from mnistnet.training.runs import NEXT_SETTINGS, logged_beside

    folder = candidates[0].parent
    try:
        beside = read_settings(folder / NEXT_SETTINGS)
    except UsageError:
        return None
    wanted = {key: value for key, value in beside.items() if key not in BESIDE}
    for file in candidates:
        with contextlib.suppress(CheckpointError):
            resumed = _read_resumed(file)
            found = {key: value for key, value in resumed.settings.given().items() if key not in BESIDE}
            if found == wanted and logged_beside(folder) in (None, resumed.state.epoch):
                return replace(resumed, by_folder=True, took_over=True)
    return None


def ensemble_settings(folder: Path) -> Settings | None:
    """The settings of the ensemble that a folder holds, None if it holds none."""
    from mnistnet.training.runs import SETTINGS

    if not (folder / SETTINGS).is_file():
        return None
    settings = Settings(**read_settings(folder / SETTINGS))
    return settings if settings.members > 1 else None


def _load_state(file: Path) -> tuple[Checkpoint, TrainerState]:
    from mnistnet.formats.checkpoint import SIZE_LIMIT, load_checkpoint
    from mnistnet.formats.rsnet import looks_like_rsnet
    from mnistnet.training.state import trainer_state

    if file.suffix.lower() == ".onnx" or looks_like_rsnet(file):
        raise CheckpointError(
            f"{file}: has weights only, and no training to go on with: begin anew with --start-from {file}"
        )
    # what train has written, train reads, however large
    checkpoint = load_checkpoint(file, limit=max(SIZE_LIMIT, file.stat().st_size))
    if checkpoint.state is None:
        raise CheckpointError(
            f"{file}: has weights only, and no training to go on with: "
            f"use its run's latest.json; or begin anew with --model {file}, which takes its layers"
        )
    try:
        return checkpoint, trainer_state(checkpoint.state)
    except CheckpointError as error:
        raise error.at(file) from error


@contextlib.contextmanager
def run_folder(
    folder: Path | None,
    resumed: Resumed | None,
    otherwise: Callable[[], AbstractContextManager[Path]],
    *,
    csv_path: Path | None,
    overwrite: bool,
    inputs: Sequence[Path],
) -> Iterator[RunFolder]:
    """The folder that keeps a training: the one that was given, that of the run that goes on, or a new one.

    Args:
        folder: what was given, if it was.
        resumed: the training that goes on, if one does.
        otherwise: makes a new folder, which goes again if it stays empty.
        csv_path: see `RunFolder`, as for the next two.
        overwrite: whether what is there may be replaced.
        inputs: files that are read.

    Raises:
        UsageError: the run has come further than the checkpoint from which it is to go on.
    """
    from mnistnet.files import same_file
    from mnistnet.training.runs import RunFolder

    home = None if resumed is None else resumed.run
    folder = folder or home
    goes_on = resumed is not None and folder is not None and home is not None and same_file(folder, home)
    if resumed is not None and goes_on and not overwrite:
        _protect_later(resumed)
    with contextlib.ExitStack() as stack:
        run = RunFolder(
            stack.enter_context(otherwise()) if folder is None else folder,
            csv_path,
            overwrite=overwrite,
            inputs=inputs,
            resume_after=resumed.state.epoch if resumed is not None and goes_on else None,
            keep_until=0 if resumed is None else resumed.keep_until,
            took_over=resumed.path if resumed is not None and resumed.took_over and goes_on else None,
        )
        yield stack.enter_context(run)


def _protect_later(resumed: Resumed) -> None:
    """Refuse to go on from a checkpoint where the run's newest has come further."""
    from mnistnet.training.runs import LATEST

    latest = resumed.path.with_name(LATEST)
    if resumed.by_folder or not latest.is_file() or latest.read_bytes() == resumed.path.read_bytes():
        return
    raise UsageError(f"{latest.parent}: already holds a later {LATEST}; use --overwrite or another folder")


def settings_on_resume(context: typer.Context, settings: Settings, run: Settings) -> Settings:
    """The run's own, but for what flags and environment say again.

    Raises:
        UsageError: one of them cannot change.
    """
    given = {name: getattr(settings, name) for name in said_now(context)}
    for name, value in given.items():
        before = getattr(run, name)
        if name in KEPT_ON_RESUME and value != before:
            had = "its default" if before is None else before
            raise UsageError(
                f"{_said_by(context, name)}: cannot change on --resume: the run has {had}, found {value}; "
                "start a new run"
            )
    if given.get("learning_rate") == AUTO:
        raise UsageError("--learning-rate: auto is for new runs")
    merged = replace(run, **instead(given)).without_strangers(given)
    if run.learning_rate != AUTO and _kept(merged) != _kept(run):
        raise UsageError("--momentum: cannot become 0, or cease to be 0, on --resume")
    return merged


def _said_by(context: typer.Context, name: str) -> str:
    """The flag that gives a setting, or the environment variable that stands for it."""
    source = context.get_parameter_source(name)
    if source is not None and source.name == "ENVIRONMENT":
        return f"{context.auto_envvar_prefix}_{name.upper()}"
    return flag(name)


def _kept(settings: Settings) -> tuple[str, ...]:
    """What the optimizer keeps between steps."""
    return settings.config().optimizer.state_names


def instead(given: dict[str, Any]) -> dict[str, Any]:
    """What was said, and without a value what it stands in the place of."""
    if "data" in given or "train_data_dir" in given:
        given = {"data": None, "train_data_dir": None, **given}
    if REPLAY_BREAKERS & set(given):
        given = {"replay_steps": None, "replay_legs": None, **given}
    if "nb_epochs" in given:
        given = {"budget": None, **given}
    return given


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
        "number of classes": len(classifier.class_names),
        **{name: saved.training.get(name) for name in facts},
    }
    now = {"image shape": data.shape, "number of classes": len(data.class_names), **facts}
    different = [f"{name} {before[name]}, found {now[name]}" for name in now if before[name] != now[name]]
    if different:
        raise DataError(f"--resume: the run's data were others: expected {'; '.join(different)}")
