"""mnistnet: train a small image classifier on a CPU in seconds, read any picture, ship it as ONNX.

The public Python API. Names are imported from their modules when they are first used, so that the command
line's ``--help`` does not wait for NumPy::

    from mnistnet import Classifier, Trainer, TrainingConfig, build, load_data

    data = load_data(Path("data"))
    classifier = Classifier(build("lenet").initialize(seed=0), data.train.class_names)
    for result in Trainer(classifier, TrainingConfig(nb_epochs=1)).run(data.train):
        ...
    evaluate(classifier, data.test).accuracy
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistnet.data import Dataset, Picture, Splits, load_data, read_digits, read_picture
    from mnistnet.data.points import Points
    from mnistnet.engine.arrays import PixelScale
    from mnistnet.engine.layers import (
        Conv2d,
        Dense,
        Flatten,
        FourierFeatures,
        Layer,
        MaxPool2d,
        ReLU,
        Sigmoid,
        Sine,
        Softmax,
        Tanh,
        ZeroPad2d,
    )
    from mnistnet.engine.network import Network
    from mnistnet.engine.optimizers import SGD, Adam, AdamW
    from mnistnet.errors import MnistnetError
    from mnistnet.formats import Checkpoint, find_checkpoint, load_checkpoint, save_checkpoint
    from mnistnet.formats.html import export_html
    from mnistnet.formats.onnx_export import export_onnx
    from mnistnet.models import Classifier, build
    from mnistnet.reports import Evaluation, evaluate
    from mnistnet.training.config import TrainingConfig
    from mnistnet.training.trainer import EpochResult, StepResult, Trainer, TrainerState

__version__ = "0.1.0"

_HOMES = {
    "mnistnet.data": ("Dataset", "Picture", "Splits", "load_data", "read_digits", "read_picture"),
    "mnistnet.data.points": ("Points",),
    "mnistnet.engine.arrays": ("PixelScale",),
    "mnistnet.engine.layers": (
        "Conv2d",
        "Dense",
        "Flatten",
        "FourierFeatures",
        "Layer",
        "MaxPool2d",
        "ReLU",
        "Sigmoid",
        "Sine",
        "Softmax",
        "Tanh",
        "ZeroPad2d",
    ),
    "mnistnet.engine.network": ("Network",),
    "mnistnet.engine.optimizers": ("SGD", "Adam", "AdamW"),
    "mnistnet.errors": ("MnistnetError",),
    "mnistnet.formats": ("Checkpoint", "find_checkpoint", "load_checkpoint", "save_checkpoint"),
    "mnistnet.formats.html": ("export_html",),
    "mnistnet.formats.onnx_export": ("export_onnx",),
    "mnistnet.models": ("Classifier", "build"),
    "mnistnet.reports": ("Evaluation", "evaluate"),
    "mnistnet.training.config": ("TrainingConfig",),
    "mnistnet.training.trainer": ("EpochResult", "StepResult", "Trainer", "TrainerState"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "SGD",
    "Adam",
    "AdamW",
    "Checkpoint",
    "Classifier",
    "Conv2d",
    "Dataset",
    "Dense",
    "EpochResult",
    "Evaluation",
    "Flatten",
    "FourierFeatures",
    "Layer",
    "MaxPool2d",
    "MnistnetError",
    "Network",
    "Picture",
    "PixelScale",
    "Points",
    "ReLU",
    "Sigmoid",
    "Sine",
    "Softmax",
    "Splits",
    "StepResult",
    "Tanh",
    "Trainer",
    "TrainerState",
    "TrainingConfig",
    "ZeroPad2d",
    "__version__",
    "build",
    "evaluate",
    "export_html",
    "export_onnx",
    "find_checkpoint",
    "load_checkpoint",
    "load_data",
    "read_digits",
    "read_picture",
    "save_checkpoint",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'mnistnet' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
