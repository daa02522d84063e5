"""mnistnet: train a small image classifier on a CPU in seconds, read any picture, ship it as ONNX.

The public Python API. Names are imported from their modules when they are first used, so that the command
line's ``--help`` does not wait for NumPy::

    from mnistnet import Classifier, Trainer, TrainingConfig, build, load_data

    data = load_data("data")
    classifier = Classifier(build("lenet").initialize(seed=0), data.train.class_names)
    for result in Trainer(classifier, TrainingConfig(nb_epochs=1)).run(data.train):
        ...
    evaluate(classifier, data.test).accuracy
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnistnet.data import Dataset, Picture, Splits, load_data, read_digits, read_picture
    from mnistnet.data.augmentation import Affine, Elastic, Shift
    from mnistnet.data.points import Points
    from mnistnet.engine.arrays import PixelScale
    from mnistnet.engine.layers import (
        GELU,
        AvgPool2d,
        BatchNorm,
        Conv2d,
        Dense,
        Dropout,
        Flatten,
        FourierFeatures,
        GlobalAvgPool,
        Layer,
        LeakyReLU,
        MaxPool2d,
        ReLU,
        Sigmoid,
        Sine,
        Softmax,
        Tanh,
        ZeroPad2d,
    )
    from mnistnet.engine.losses import BinaryCrossEntropy, MeanSquaredError, SoftmaxCrossEntropy
    from mnistnet.engine.network import Network
    from mnistnet.engine.optimizers import SGD, Adam, AdamW
    from mnistnet.engine.schedules import Constant, Cosine, OneCycle, Step
    from mnistnet.engine.transform import Transform
    from mnistnet.errors import DataError, DivergedError, MnistnetError
    from mnistnet.formats import Checkpoint, find_checkpoint, load_checkpoint, save_checkpoint
    from mnistnet.formats.html import export_html
    from mnistnet.formats.onnx_export import export_onnx
    from mnistnet.formats.onnx_import import load_onnx
    from mnistnet.models import Classifier, Ensemble, build
    from mnistnet.reports import Evaluation, evaluate
    from mnistnet.training.config import TrainingConfig
    from mnistnet.training.state import saved_state, trainer_state
    from mnistnet.training.trainer import EpochResult, StepResult, Trainer, TrainerState

__version__ = "0.1.0"

_HOMES = {
    "mnistnet.data": ("Dataset", "Picture", "Splits", "load_data", "read_digits", "read_picture"),
    "mnistnet.data.augmentation": ("Affine", "Elastic", "Shift"),
    "mnistnet.data.points": ("Points",),
    "mnistnet.engine.arrays": ("PixelScale",),
    "mnistnet.engine.layers": (
        "GELU",
        "AvgPool2d",
        "BatchNorm",
        "Conv2d",
        "Dense",
        "Dropout",
        "Flatten",
        "FourierFeatures",
        "GlobalAvgPool",
        "Layer",
        "LeakyReLU",
        "MaxPool2d",
        "ReLU",
        "Sigmoid",
        "Sine",
        "Softmax",
        "Tanh",
        "ZeroPad2d",
    ),
    "mnistnet.engine.losses": ("BinaryCrossEntropy", "MeanSquaredError", "SoftmaxCrossEntropy"),
    "mnistnet.engine.network": ("Network",),
    "mnistnet.engine.optimizers": ("SGD", "Adam", "AdamW"),
    "mnistnet.engine.schedules": ("Constant", "Cosine", "OneCycle", "Step"),
    "mnistnet.engine.transform": ("Transform",),
    "mnistnet.errors": ("DataError", "DivergedError", "MnistnetError"),
    "mnistnet.formats": ("Checkpoint", "find_checkpoint", "load_checkpoint", "save_checkpoint"),
    "mnistnet.formats.html": ("export_html",),
    "mnistnet.formats.onnx_export": ("export_onnx",),
    "mnistnet.formats.onnx_import": ("load_onnx",),
    "mnistnet.models": ("Classifier", "Ensemble", "build"),
    "mnistnet.reports": ("Evaluation", "evaluate"),
    "mnistnet.training.config": ("TrainingConfig",),
    "mnistnet.training.state": ("saved_state", "trainer_state"),
    "mnistnet.training.trainer": ("EpochResult", "StepResult", "Trainer", "TrainerState"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "GELU",
    "SGD",
    "Adam",
    "AdamW",
    "Affine",
    "AvgPool2d",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Checkpoint",
    "Classifier",
    "Constant",
    "Conv2d",
    "Cosine",
    "DataError",
    "Dataset",
    "Dense",
    "DivergedError",
    "Dropout",
    "Elastic",
    "Ensemble",
    "EpochResult",
    "Evaluation",
    "Flatten",
    "FourierFeatures",
    "GlobalAvgPool",
    "Layer",
    "LeakyReLU",
    "MaxPool2d",
    "MeanSquaredError",
    "MnistnetError",
    "Network",
    "OneCycle",
    "Picture",
    "PixelScale",
    "Points",
    "ReLU",
    "Shift",
    "Sigmoid",
    "Sine",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Splits",
    "Step",
    "StepResult",
    "Tanh",
    "Trainer",
    "TrainerState",
    "TrainingConfig",
    "Transform",
    "ZeroPad2d",
    "__version__",
    "build",
    "evaluate",
    "export_html",
    "export_onnx",
    "find_checkpoint",
    "load_checkpoint",
    "load_data",
    "load_onnx",
    "read_digits",
    "read_picture",
    "save_checkpoint",
    "saved_state",
    "trainer_state",
]


# to a type checker that sees it, every name would be there
if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        if name not in _HOME_OF:
            raise AttributeError(f"module 'mnistnet' has no attribute {name!r}")
        return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return __all__
