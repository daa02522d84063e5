"""How to train: everything about a run that its data do not say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite

from mnistnet.engine.losses import Loss
from mnistnet.engine.optimizers import SGD, Optimizer
from mnistnet.engine.schedules import Cosine, Schedule
from mnistnet.engine.transform import Transform
from mnistnet.errors import UsageError
from mnistnet.training.pace import Leg

SEED_LIMIT = 2**63
LARGEST_FLOAT32 = 3.4028234e38


@dataclass(frozen=True)
class TrainingConfig:
    """How to train. Every run with the same configuration and data gives the same bits.

    Raises:
        UsageError: a value is out of range; the message names its flag.
    """

    learning_rate: float = 0.05
    batch_size: int = 64
    nb_epochs: int = 5
    budget: float | None = None
    """Seconds to train for, instead of ``nb_epochs``."""
    replay: tuple[Sequence[Leg], int] | None = None
    """The legs and the number of steps of a run with a budget, to go through once more."""
    optimizer: Optimizer = field(default_factory=lambda: SGD(momentum=0.9, weight_decay=5e-4))
    lr_schedule: Schedule = field(default_factory=Cosine)
    seed: int = 0
    loss: Loss | None = None
    """None: what suits the network's last layer."""
    transform: Transform | None = None
    """What is done to the images of every step: see ``mnistnet.data.augmentation``."""
    clip_norm: float | None = None
    """Longest gradient, as its Euclidean norm."""
    average_decay: float | None = None
    """Use an exponential moving average of the parameters, which keeps this share of itself every step."""
    patience: int | None = None
    """Stop after this many epochs without a better validation accuracy."""
    workers: int | None = None
    """Processes to use; None means as many as help. The result does not depend on it."""

    def __post_init__(self) -> None:
        for name, kind in (("optimizer", Optimizer), ("loss", Loss), ("transform", Transform)):
            value = getattr(self, name)
            if not isinstance(value, kind) and (value is not None or name == "optimizer"):
                raise UsageError(f"{name}: expected an object of class {kind.__name__}, found {value!r:.60}")
        if not callable(self.lr_schedule):
            raise UsageError(f"lr_schedule: expected an object like Cosine(), found {self.lr_schedule!r:.60}")
        if not 0 < self.learning_rate <= LARGEST_FLOAT32:
            raise UsageError(f"--learning-rate: must be finite and > 0, found {self.learning_rate}")
        if self.batch_size < 1:
            raise UsageError(f"--batch-size: must be >= 1, found {self.batch_size}")
        if self.nb_epochs < 0:
            raise UsageError(f"--nb-epochs: must be >= 0, found {self.nb_epochs}")
        if not 0 <= self.seed < SEED_LIMIT:
            raise UsageError(f"--seed: must be >= 0 and < 2**63, found {self.seed}")
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"--workers: must be >= 1, found {self.workers}")
        if self.budget is not None and not (isfinite(self.budget) and self.budget > 0):
            raise UsageError(f"--budget: must be finite and > 0 seconds, found {self.budget}")
        if self.clip_norm is not None and not (isfinite(self.clip_norm) and self.clip_norm > 0):
            raise UsageError(f"--clip-norm: must be finite and > 0, found {self.clip_norm}")
        if self.average_decay is not None and not 0 < self.average_decay < 1:
            raise UsageError(f"--average-decay: must be > 0 and < 1, found {self.average_decay}")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"--patience: must be >= 1, found {self.patience}")

    @property
    def length(self) -> str:
        """How long a training is to last, in words: ``5 epochs`` or ``60 s``."""
        return f"{self.nb_epochs} epochs" if self.budget is None else f"{self.budget:g} s"
