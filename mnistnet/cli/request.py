"""What a training was asked for: its settings, its data, and the network it begins with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnistnet.cli.console import check_last_layer, check_pictures, warn
from mnistnet.cli.resume import Resumed, check_data
from mnistnet.errors import CheckpointError, DataError, MnistnetError, UsageError, choose
from mnistnet.training.settings import AUTO, Settings

if TYPE_CHECKING:
    from mnistnet.data.dataset import Dataset, Splits
    from mnistnet.engine.network import Network
    from mnistnet.models import Classifier

_SAMPLE = 256  # images that are looked at for the colour of the ground


@dataclass(frozen=True)
class Outputs:
    """Where a run is kept."""

    folder: Path | None
    csv_path: Path | None
    stride: int
    overwrite: bool


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from and is measured on."""

    whole: Dataset
    """All training images, before any were taken away for validation."""
    training: Dataset
    validation: Dataset | None

    def facts(self) -> dict[str, Any]:
        """What a checkpoint says of it."""
        return {
            "train_images": len(self.training),
            "validation_images": 0 if self.validation is None else len(self.validation),
            "data": self.training.fingerprint,
        }


@dataclass(frozen=True)
class Request:
    """All that was asked for."""

    settings: Settings
    splits: Splits
    workers: int | None
    outputs: Outputs
    size_limit: int
    """MiB, of a model or an architecture that is read."""

    @cached_property
    def images(self) -> TrainingData:
        """The data as these settings divide them."""
        return _divide(self.splits, self.settings)

    @property
    def inputs(self) -> list[Path]:
        """Files that are read beside the data, and must not be replaced."""
        return [Path(path) for path in (self.settings.model, self.settings.start_from) if path is not None]

    def member(self, number: int, folder: Path, resumed: Resumed | None) -> Request:
        """What is asked for one network of an ensemble, the first of which has number 1."""
        settings = replace(self.settings, members=1, seed=self.settings.seed + number - 1)
        if settings.budget is not None:  # which all of them share
            settings = replace(settings, budget=settings.budget / self.settings.members)
        if resumed is not None and settings.learning_rate == AUTO:  # it was found when the member began
            settings = replace(settings, learning_rate=resumed.settings.learning_rate)
        return replace(self, settings=settings, outputs=replace(self.outputs, folder=folder))


def data_source(settings: Settings) -> Path:
    """Where the data are, after they were fetched if need be."""
    from mnistnet.cli.data import chosen_data

    folder = settings.train_data_dir
    return chosen_data("--train-data-dir", None if folder is None else Path(folder), settings.data)


def load_splits(source: Path) -> Splits:
    """The data in a file or folder; what looks wrong in them is said."""
    from mnistnet.data.sources import load_data

    splits = load_data(source)
    for message in splits.warnings:
        warn(message)
    _warn_of_light_grounds(source, splits.train)
    return splits


def _warn_of_light_grounds(source: Path, training: Dataset) -> None:
    """Training takes images as they are; ``mnistnet run`` makes grey pictures bright on dark."""
    from mnistnet.data.pictures.planes import MOSTLY_LIGHT, has_light_ground

    sample = training.images[:: max(len(training) // _SAMPLE, 1)]
    if training.shape[0] == 1 and has_light_ground(sample[:, 0]).mean() >= MOSTLY_LIGHT:
        warn(
            f"{source}: the images have a light ground, but mnistnet run shows a network dark grounds only; "
            f"mnistnet data check {source} --fix NEW turns them round"
        )


def _divide(splits: Splits, settings: Settings) -> TrainingData:
    """Take the images that are not wanted, and those for validation, away from the training images."""
    if settings.limit is not None and settings.limit > len(splits.train):
        raise UsageError(f"--limit: {settings.limit} exceeds the {len(splits.train)} training images")
    training = splits.train if settings.limit is None else splits.train.first(settings.limit)
    validation = None
    if settings.validation_split:
        training, validation = training.split(settings.validation_split, settings.seed)
    if settings.batch_size > len(training):
        raise DataError(f"--batch-size: {settings.batch_size} exceeds the {len(training)} training images")
    return TrainingData(splits.train, training, validation)


def first_classifier(request: Request, resumed: Resumed | None) -> Classifier:
    """A new network, or the one that training goes on with."""
    if resumed is None:
        classifier = _new_classifier(request, request.images.whole)
    else:
        check_data(resumed, request.images.whole, request.images.facts())
        classifier = resumed.checkpoint.classifier
    _check_loss(request.settings, classifier)
    return classifier


def _new_classifier(request: Request, data: Dataset) -> Classifier:
    """The network to train: named, described by an architecture file, or with its weights from a model."""
    from mnistnet.models import MODELS, Classifier, build

    settings = request.settings
    model = settings.model
    if settings.start_from is not None:
        return _started(Path(settings.start_from), data, request.size_limit)
    if model.endswith(".json"):
        return _described(Path(model), data, settings.seed, request.size_limit)
    choose("--model", model, tuple(MODELS))
    network = build(model, data.shape, len(data.class_names))
    return Classifier(network.initialize(settings.seed), data.class_names, name=model)


def _described(path: Path, data: Dataset, seed: int, size_limit: int) -> Classifier:
    from mnistnet.engine.network import Network
    from mnistnet.formats.checkpoint import load_architecture
    from mnistnet.models import Classifier

    architecture = load_architecture(path, limit=size_limit * 2**20)
    check_last_layer(path, architecture.layers[-1].kind)
    check_pictures(path, architecture.input_shape)
    network = Network(architecture.layers, architecture.input_shape)
    _check_fit(path, network, data)
    names = architecture.class_names or data.class_names
    return Classifier(network.initialize(seed), names, architecture.pixels, architecture.name)


def _started(path: Path, data: Dataset, size_limit: int) -> Classifier:
    from mnistnet.cli.model_file import find_model, read_model
    from mnistnet.models import Classifier

    found = read_model(find_model(path), size_limit)
    for note in found.notes:
        warn(f"{path}: {note}")
    if not isinstance(found.predictor, Classifier):
        why = found.obstacle or "an ensemble"
        raise CheckpointError(f"--start-from: {path}: expected a network that can be trained, found {why}")
    _check_fit(path, found.predictor.network, data)
    if found.predictor.class_names != data.class_names:
        warn(f"--start-from: {path}: its classes have other names than the data's, which count from now on")
    return replace(found.predictor, class_names=data.class_names, confidence_threshold=None)


def _check_fit(path: Path, network: Network, data: Dataset) -> None:
    if network.input_shape != data.shape:
        raise DataError(
            f"{path}: the model expects {_size(network.input_shape)} images, the data has {_size(data.shape)}"
        )
    if network.output_shape != (len(data.class_names),):
        raise DataError(
            f"{path}: the model gives {network.output_shape} outputs, "
            f"the data has {len(data.class_names)} classes"
        )


def _size(shape: tuple[int, ...]) -> str:
    c, h, w = shape
    return f"{h}x{w}" if c == 1 else f"{c}x{h}x{w}"


def _check_loss(settings: Settings, classifier: Classifier) -> None:
    """Refuse a loss that does not go with the network's last layer, before anything is made."""
    from mnistnet.engine.losses import LOSSES

    last = classifier.network.layers[-1].kind
    wanted = LOSSES[settings.loss].fuses if settings.loss in LOSSES else None
    if wanted not in (None, last):
        raise UsageError(
            f"--loss: {settings.loss} goes with a network that ends in {wanted}, found {last}; "
            "auto chooses what suits it"
        )


def untrained(request: Request, classifier: Classifier, resumed: Resumed | None) -> Classifier | None:
    """What the training began with; None where it cannot be had any more."""
    if resumed is not None:
        try:
            return _new_classifier(request, request.splits.train)
        except MnistnetError:  # a file that has gone
            return None
    return replace(classifier, network=classifier.network.copy())
