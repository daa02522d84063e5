"""The Trainer: what it yields, what it refuses, and that its results depend on nothing else."""

from math import cos, pi

import numpy as np
import pytest

from mnistnet.data.dataset import Dataset
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.optimizers import SGD
from mnistnet.errors import DataError, DivergedError, UsageError
from mnistnet.models import Classifier, build
from mnistnet.reports.evaluation import evaluate
from mnistnet.training.config import TrainingConfig
from mnistnet.training.trainer import EpochResult, StepResult, Trainer, epoch_order

DIGITS = tuple(str(digit) for digit in range(10))


def dataset(count: int = 100, seed: int = 0) -> Dataset:
    """Images whose label can be read off: a bright row for each class, in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 10, count).astype(np.intp)
    images = rng.integers(0, 60, (count, 1, 28, 28), dtype=np.uint8)
    for image, label in zip(images, labels, strict=True):
        image[0, 4 + 2 * label] = 255
    return Dataset(images, labels, DIGITS)


def classifier(model: str = "mlp", seed: int = 1) -> Classifier:
    return Classifier(build(model).initialize(seed), DIGITS, name=model)


def test_it_yields_every_step_and_every_epoch() -> None:
    config = TrainingConfig(nb_epochs=2, batch_size=32, learning_rate=0.1)
    results = list(Trainer(classifier(), config).run(dataset(100)))
    kinds = [type(result) for result in results]
    assert kinds == [*[StepResult] * 4, EpochResult] * 2
    steps = [result for result in results if isinstance(result, StepResult)]
    assert [step.images for step in steps] == [32, 32, 32, 4] * 2
    assert [(step.epoch, step.step, step.steps) for step in steps[3:5]] == [(1, 4, 4), (2, 1, 4)]
    rates = [0.1 * 0.5 * (1 + cos(pi * k / 8)) for k in range(8)]
    assert [step.learning_rate for step in steps] == pytest.approx(rates)
    epochs = [result for result in results if isinstance(result, EpochResult)]
    assert (epochs[0].loss, epochs[0].training_accuracy) == (steps[3].loss, steps[3].accuracy)
    assert epochs[1].loss < epochs[0].loss
    assert all(epoch.validation_loss is None and epoch.validation_accuracy is None for epoch in epochs)


def test_the_first_steps_loss_is_the_networks() -> None:
    data, model = dataset(64), classifier()
    order = epoch_order(64, 7, 1)[:16]
    expected, _ = model.network.loss_and_gradients(
        data.images[order], data.labels[order], SoftmaxCrossEntropy(), pixels=model.pixels
    )
    first = next(Trainer(model, TrainingConfig(batch_size=16, seed=7)).run(data))
    assert isinstance(first, StepResult)
    assert first.loss == pytest.approx(expected, rel=1e-6)


def test_it_learns_what_can_be_learned() -> None:
    model = classifier()
    for _ in Trainer(model, TrainingConfig(nb_epochs=5, batch_size=32)).run(dataset(400)):
        pass
    assert evaluate(model, dataset(200, seed=9)).accuracy > 0.95


def test_validation_is_measured_after_each_epoch() -> None:
    model = classifier()
    validation = dataset(50, seed=3)
    results = list(Trainer(model, TrainingConfig(nb_epochs=2, batch_size=32)).run(dataset(100), validation))
    last = results[-1]
    assert isinstance(last, EpochResult)
    found = evaluate(model, validation)
    assert (last.validation_loss, last.validation_accuracy) == (found.loss, found.accuracy)


def test_the_same_configuration_gives_the_same_bits() -> None:
    def train(seed: int, workers: int) -> bytes:
        model = classifier()
        config = TrainingConfig(nb_epochs=1, seed=seed, workers=workers)
        for _ in Trainer(model, config).run(dataset(150)):
            pass
        return model.network.vector.tobytes()

    assert train(5, 1) == train(5, 1) == train(5, 2)
    assert train(5, 1) != train(6, 1)


def test_leaving_the_loop_leaves_a_whole_network() -> None:
    model = classifier()
    trainer = Trainer(model, TrainingConfig(nb_epochs=3, batch_size=32, workers=2))
    for result in trainer.run(dataset(100)):
        if isinstance(result, StepResult) and (result.epoch, result.step) == (2, 3):
            break
    assert (trainer.epoch, trainer.step) == (1, 3)
    before = model.network.vector.copy()
    assert np.isfinite(before).all()
    assert evaluate(model, dataset(50)).images == 50
    assert model.network.vector.tobytes() == before.tobytes()


def test_a_second_run_waits_for_the_first_to_be_left() -> None:
    trainer = Trainer(classifier(), TrainingConfig(nb_epochs=2, batch_size=25))
    steps = trainer.run(dataset())
    next(steps)
    with pytest.raises(
        UsageError, match="another run of this Trainer is not over: leave its loop, or close it"
    ):
        next(trainer.run(dataset()))
    steps.close()
    assert len(list(trainer.run(dataset()))) == 9  # of eight steps and two epochs, one step was done


def test_no_epochs_change_nothing() -> None:
    model = classifier()
    before = model.network.vector.copy()
    assert list(Trainer(model, TrainingConfig(nb_epochs=0)).run(dataset())) == []
    assert model.network.vector.tobytes() == before.tobytes()


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(DataError, match=r"^--batch-size: 101 exceeds the 100 training images$"):
        next(Trainer(classifier(), TrainingConfig(batch_size=101)).run(dataset(100)))


@pytest.mark.parametrize("workers", [1, 2])
def test_divergence_is_told_with_its_step_and_layer(workers: int) -> None:
    config = TrainingConfig(learning_rate=1e30, batch_size=64, workers=workers)
    with pytest.raises(DivergedError, match=r"at step \d+ of epoch 1: the loss is .*; try a lower"):
        for _ in Trainer(classifier(), config).run(dataset(300)):
            pass


def test_epoch_orders_are_permutations_of_their_own() -> None:
    first = epoch_order(1000, 3, 1)
    assert sorted(first.tolist()) == list(range(1000))
    assert epoch_order(1000, 3, 1).tolist() == first.tolist()
    assert epoch_order(1000, 3, 2).tolist() != first.tolist()
    assert epoch_order(1000, 4, 1).tolist() != first.tolist()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"learning_rate": 0.0}, "--learning-rate: must be finite and > 0, found 0.0"),
        ({"learning_rate": float("nan")}, "--learning-rate: must be finite and > 0, found nan"),
        ({"batch_size": 0}, "--batch-size: must be >= 1, found 0"),
        ({"nb_epochs": -1}, "--nb-epochs: must be >= 0, found -1"),
        ({"seed": -1}, "--seed: must be >= 0 and < 2**63, found -1"),
        ({"seed": 2**63}, "--seed: must be >= 0 and < 2**63, found 9223372036854775808"),
        ({"workers": 0}, "--workers: must be >= 1, found 0"),
        ({"budget": 0.0}, "--budget: must be finite and > 0 seconds, found 0.0"),
        ({"clip_norm": -1.0}, "--clip-norm: must be finite and > 0, found -1.0"),
        ({"average_decay": 1.0}, "--average-decay: must be > 0 and < 1, found 1.0"),
        ({"patience": 0}, "--patience: must be >= 1, found 0"),
        ({"optimizer": "adam"}, "optimizer: expected an object of class Optimizer, found 'adam'"),
        ({"optimizer": None}, "optimizer: expected an object of class Optimizer, found None"),
        ({"loss": "mse"}, "loss: expected an object of class Loss, found 'mse'"),
        ({"transform": "affine"}, "transform: expected an object of class Transform, found 'affine'"),
        ({"lr_schedule": "cosine"}, "lr_schedule: expected an object like Cosine(), found 'cosine'"),
    ],
)
def test_values_out_of_range_name_their_flag(values: dict, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        TrainingConfig(**values)
    assert str(caught.value) == message


def test_momentum_and_decay_are_checked_too() -> None:
    with pytest.raises(UsageError, match="--momentum"):
        SGD(momentum=1.0)
    with pytest.raises(UsageError, match="--weight-decay"):
        SGD(weight_decay=float("inf"))
