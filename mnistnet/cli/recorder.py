"""What a training leaves on disk, and when."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mnistnet.formats.checkpoint import Checkpoint
from mnistnet.training.settings import Settings, settings_text
from mnistnet.training.state import saved_state

if TYPE_CHECKING:
    from mnistnet.data.points import Examples
    from mnistnet.errors import DivergedError
    from mnistnet.training.runs import RunFolder
    from mnistnet.training.trainer import EpochResult, Trainer

ELSEWHERE = ("model", "start_from", "data", "train_data_dir", "replay_steps", "replay_legs")
"""Settings that a checkpoint says in another place or not at all: it holds no paths."""


@dataclass
class Recorder:
    """Writes down a trainer's work.

    From a checkpoint the files written after it can be made again, which happens on resume; lines of the CSV
    that are ahead of it are cut.
    """

    run: RunFolder
    trainer: Trainer
    settings: Settings
    facts: Callable[[], Mapping[str, Any]]
    """Says what is known of the data."""
    architecture: bytes | None = None
    """The file that describes the network, where one does: it is kept with the run."""
    _has_settings: bool = field(default=False, init=False)

    def epoch(self, result: EpochResult, *, save: bool) -> Path | None:
        """Log an epoch, and save what is worth it; returns the checkpoint's path if there is one."""
        self.run.log(result)
        replaces = self.run.replaces
        path = self._save(result, result.epoch) if save else None
        if (result.is_best or replaces) and not self.run.replaces:
            self.save_best()
        if result.is_last and self.settings.budget is not None:
            self.save_settings(over=True)
        return path

    def stopped(self) -> Path:
        """Save where the training stands between two steps."""
        return self._save(None, None)

    def untrained(self) -> Path:
        """Save a network that is not to be trained."""
        return self._save(None, 0)

    def _save(self, result: EpochResult | None, epoch: int | None) -> Path:
        """Write a checkpoint and, before the first, the settings, which it cannot go on without."""
        if not self._has_settings:
            self.save_settings()
        path = self.run.save(self._checkpoint(result), epoch)
        if not self._has_settings:  # there was an older run, with settings of its own
            self.save_settings()
        return path

    def diverged(self, error: DivergedError, training: Examples) -> DivergedError:
        """Save the batch that had no finite loss; returns the error with its path."""
        batch = np.array(error.batch, np.intp)
        if not len(batch):
            return error
        images, labels = training.inputs[batch], training.targets[batch]
        path = self.run.save_batch({"images": images, "labels": labels, "indices": batch})
        return type(error)(f"{error}; the batch is in {path}", error.batch)

    def _checkpoint(self, result: EpochResult | None) -> Checkpoint:
        """The network and how it came to be: no time and no path, so that runs can be compared."""
        trainer = self.trainer
        training = {"epoch": trainer.epoch, "step": trainer.step, **self._origin()}
        if result is not None:
            training |= {"loss": result.loss, "training_accuracy": result.training_accuracy}
            if result.validation_accuracy is not None:
                training["validation_loss"] = result.validation_loss
                training["validation_accuracy"] = result.validation_accuracy
        return Checkpoint(trainer.model, training, saved_state(trainer.state()))

    def save_best(self) -> None:
        """Write the best network so far, if there is validation."""
        best, model = self.trainer.best, self.trainer.best_model
        if best is None or model is None:
            return
        scores = {"validation_loss": best.loss, "validation_accuracy": best.accuracy}
        self.run.save_best(Checkpoint(model, {"epoch": best.epoch, **self._origin(), **scores}))

    def _origin(self) -> dict[str, Any]:
        settings = {name: value for name, value in self.settings.given().items() if name not in ELSEWHERE}
        return {"settings": settings, **self.facts()}

    def save_settings(self, *, over: bool = False) -> None:
        """Write the settings; of a training with a budget that is over, with what a replay needs."""
        settings = self.settings
        if self.architecture is not None and not self.run.replaces:
            settings = replace(settings, model=self.run.save_architecture(self.architecture).name)
        if over and settings.budget is not None and settings.replay_steps is None:
            legs = tuple(x for leg in self.trainer.legs for x in (float(leg.step), leg.progress, leg.rate))
            settings = replace(settings, replay_steps=self.trainer.steps, replay_legs=legs)
        self.run.save_settings(settings_text(settings))
        self._has_settings = not self.run.replaces
