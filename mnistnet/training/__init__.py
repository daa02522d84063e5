"""Training: the Trainer, evaluation, and runs on disk."""

from mnistnet.training.evaluation import Evaluation, evaluate
from mnistnet.training.trainer import EpochResult, StepResult, Trainer, TrainingConfig

__all__ = ["EpochResult", "Evaluation", "StepResult", "Trainer", "TrainingConfig", "evaluate"]
