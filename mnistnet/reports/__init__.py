"""What a model does, said in figures and pictures."""

from mnistnet.reports.evaluation import Evaluation, evaluate

__all__ = ["Evaluation", "evaluate"]
