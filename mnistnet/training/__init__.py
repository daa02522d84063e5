"""Training: the Trainer, and runs on disk."""

from mnistnet.training.trainer import EpochResult, StepResult, Trainer, TrainingConfig

__all__ = ["EpochResult", "StepResult", "Trainer", "TrainingConfig"]
