"""A training that is taken up again anywhere ends with the bits of one that was never interrupted."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from test_trainer import DIGITS, classifier, dataset

from mnistnet.data.augmentation import Shift
from mnistnet.engine.layers import BatchNorm, Dense, Dropout, Flatten, ReLU, Softmax
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import SGD, Adam
from mnistnet.errors import CheckpointError, DivergedError, UsageError
from mnistnet.formats.checkpoint import SavedState
from mnistnet.models import Classifier
from mnistnet.training.config import TrainingConfig
from mnistnet.training.pace import Leg, Replayed, Timed
from mnistnet.training.state import saved_state, trainer_state
from mnistnet.training.trainer import BEST, Best, EpochResult, StepResult, Trainer, TrainerState

TRAIN, VALIDATION = dataset(100), dataset(50, seed=3)
CONFIG = TrainingConfig(
    batch_size=32,
    nb_epochs=3,
    learning_rate=0.02,
    optimizer=SGD(0.9, 1e-3),
    average_decay=0.9,
    clip_norm=1.0,
    workers=1,
)


def without_time(results: list) -> list:
    return [replace(r, seconds=0.0) if isinstance(r, EpochResult) else r for r in results]


def bits(state: TrainerState) -> tuple:
    vectors = {name: vector.tobytes() for name, vector in state.vectors.items()}
    return (*(getattr(state, name) for name in ("epoch", "step", "steps", "best")), vectors)


@pytest.mark.parametrize("optimizer", [SGD(0.9, 1e-3), Adam()], ids=lambda o: o.name)
def test_interrupted_at_every_step(optimizer: SGD | Adam) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    whole = Trainer(classifier(), config)
    expected = without_time(list(whole.run(TRAIN, VALIDATION)))
    assert len(expected) == 3 * (4 + 1)
    for stop in range(1, len(expected) + 1):
        first = Trainer(classifier(), config)
        run = first.run(TRAIN, VALIDATION)
        before = [next(run) for _ in range(stop)]
        state = first.state()
        run.close()  # type: ignore[attr-defined]
        second = Trainer(classifier(seed=99), config, state)
        after = list(second.run(TRAIN, VALIDATION))
        assert without_time([*before, *after]) == expected
        assert bits(second.state()) == bits(whole.state())
        assert second.classifier.network.vector.tobytes() == whole.classifier.network.vector.tobytes()


def test_the_state_can_be_had_when_the_loop_was_left() -> None:
    trainer = Trainer(classifier(), CONFIG)
    run = trainer.run(TRAIN)
    for _ in range(6):
        next(run)
    during = trainer.state()
    run.close()  # type: ignore[attr-defined]
    assert bits(trainer.state()) == bits(during)
    rest = list(trainer.run(TRAIN))
    assert bits(trainer.state()) == bits(finished(CONFIG).state())
    assert isinstance(rest[-1], EpochResult)
    assert rest[-1].is_last


def finished(config: TrainingConfig) -> Trainer:
    trainer = Trainer(classifier(), config)
    for _ in trainer.run(TRAIN):
        pass
    return trainer


def test_a_finished_training_has_nothing_to_do_until_it_gets_more_epochs() -> None:
    state = finished(CONFIG).state()
    assert list(Trainer(classifier(), CONFIG, state).run(TRAIN)) == []
    more = Trainer(classifier(), replace(CONFIG, nb_epochs=4), state)
    results = list(more.run(TRAIN))
    assert [type(result) for result in results] == [*[StepResult] * 4, EpochResult]
    # the cosine of four epochs, three quarters down
    assert results[0].learning_rate == pytest.approx(0.02 * 0.5 * (1 + np.cos(np.pi * 0.75)))


def test_a_state_of_something_else_is_refused() -> None:
    state = finished(CONFIG).state()
    with pytest.raises(UsageError, match="expected the vectors first_moment, parameters, second_moment, "):
        Trainer(classifier(), replace(CONFIG, optimizer=Adam(), average_decay=None), state)
    with pytest.raises(UsageError, match=r"parameters: expected \(925,\), found \(101770,\)"):
        Trainer(classifier("rsnet"), CONFIG, state)


@pytest.mark.parametrize(
    "changed",
    [{"step": 4}, {"step": 10**9}, {"images": 10**6}, {"correct": 10**6}, {"steps": 0}, {"step": 0}],
    ids=str,
)
def test_a_position_that_no_training_has_is_refused(changed: dict[str, int]) -> None:
    trainer = Trainer(classifier(), CONFIG)
    run = trainer.run(TRAIN)
    for _ in range(3):
        next(run)
    state = replace(trainer.state(), **changed)
    with pytest.raises(UsageError, match=r"^state: \d+ steps into an epoch expected \d+ images"):
        next(Trainer(classifier(), CONFIG, state).run(TRAIN))


def test_a_best_epoch_needs_its_parameters() -> None:
    state = replace(finished(CONFIG).state(), best=Best(1, 0.5, 0.5, 0.5))
    with pytest.raises(UsageError, match="state: expected a vector best where there is a best epoch"):
        Trainer(classifier(), CONFIG, state)


def test_counts_have_an_end() -> None:
    saved = saved_state(finished(CONFIG).state())
    position = {**saved.position, "epoch": 2**64}
    with pytest.raises(CheckpointError, match=r"state.position.epoch: input should be less than"):
        trainer_state(SavedState(position, saved.vectors))


def test_the_network_ends_with_the_average() -> None:
    trainer = finished(CONFIG)
    vector = trainer.classifier.network.vector
    assert vector.tobytes() == trainer.state().vectors["average"].tobytes()
    assert vector.tobytes() != trainer.state().vectors["parameters"].tobytes()
    assert trainer.model.network.vector.tobytes() == vector.tobytes()


def break_off(trainer: Trainer) -> list[EpochResult]:
    """Leave in the middle of the third epoch."""
    epochs = []
    for result in trainer.run(TRAIN, VALIDATION):
        if isinstance(result, EpochResult):
            epochs.append(result)
        elif result.epoch == 3:
            break
    return epochs


@pytest.mark.parametrize("leave", [break_off, lambda t: [r for r in t.run(TRAIN, VALIDATION) if r]])
def test_the_best_epochs_parameters_are_restored_however_it_ends(leave: Callable) -> None:
    # so high a rate that epochs get worse again
    config = TrainingConfig(batch_size=32, nb_epochs=5, learning_rate=0.3, workers=1)
    trainer = Trainer(classifier(), config)
    epochs = [result for result in leave(trainer) if isinstance(result, EpochResult)]
    best = max(epochs, key=lambda e: (e.validation_accuracy, -e.validation_loss))
    assert trainer.best is not None
    assert trainer.best.epoch == best.epoch
    assert [e.epoch for e in epochs if e.is_best][-1] == best.epoch
    vectors = trainer.state().vectors
    assert trainer.classifier.network.vector.tobytes() == vectors[BEST].tobytes()


def test_patience_ends_a_training_that_gets_no_better() -> None:
    # a rate so small that no prediction changes, in validation images that the network does not know
    config = TrainingConfig(
        batch_size=32, nb_epochs=50, learning_rate=1e-30, patience=3, workers=1, optimizer=SGD()
    )
    trainer = Trainer(classifier(), config)
    epochs = [r for r in trainer.run(TRAIN, VALIDATION) if isinstance(r, EpochResult)]
    assert [(e.is_best, e.is_last) for e in epochs] == [
        (True, False),
        (False, False),
        (False, False),
        (False, True),
    ]
    assert list(trainer.run(TRAIN, VALIDATION)) == []


class Clock:
    """Says how late it is; every look takes a while."""

    def __init__(self, tick: float) -> None:
        self.now, self.tick = 0.0, tick

    def __call__(self) -> float:
        self.now += self.tick
        return self.now


def test_a_timed_pace_ends_on_time_whatever_a_step_takes() -> None:
    clock = Clock(0.0)
    pace = Timed(60.0, clock=clock)
    seen = []
    step = 0
    while not pace.is_over(step):
        seen.append(pace.progress(step))
        clock.now += 0.5 if step == 0 else 0.01 if clock.now < 30 else 0.02
        step += 1
    assert clock.now == pytest.approx(60, rel=0.02)
    assert seen == sorted(seen)
    assert seen[0] == 0.0
    assert max(np.diff(seen)) < 0.02
    assert len(pace.legs) < 400
    replayed = Replayed(pace.legs, step)
    assert [replayed.progress(k) for k in range(step)] == seen
    assert [replayed.is_over(k) for k in (step - 1, step)] == [False, True]


def test_a_timed_pace_goes_on_where_it_was() -> None:
    pace = Timed(10.0, [Leg(0, 0.0, 0.0), Leg(50, 0.5, 0.01)], Clock(0.0))
    assert pace.progress(50) == 0.5
    assert pace.progress(51) == pytest.approx(0.5, abs=0.02)  # no time has gone by since


def test_a_budget_is_replayed_to_the_same_bits() -> None:
    config = TrainingConfig(batch_size=32, budget=0.2, workers=1)
    trainer = Trainer(classifier(), config)
    results = list(trainer.run(TRAIN))
    last = results[-1]
    assert isinstance(last, EpochResult)
    assert last.is_last
    state = trainer.state()
    again = Trainer(classifier(), replace(config, replay=(state.legs, state.steps)))
    assert without_time(list(again.run(TRAIN))) == without_time(results)
    assert bits(again.state()) == bits(state)


def test_a_diverged_batch_is_named_with_the_layer() -> None:
    model = classifier()
    model.network.layers[1].params["weight"][...] = 3e38
    with pytest.raises(DivergedError, match=r"step 1 of epoch 1: .* layer 1 \(dense\) is not fin") as caught:
        next(iter(Trainer(model, CONFIG).run(TRAIN)))
    assert len(caught.value.batch) == 32


def test_statistics_and_dropout_go_on_too() -> None:
    """A network with batch normalization and dropout, augmented, interrupted in its second epoch."""
    layers = [Flatten(), Dense(16), BatchNorm(), ReLU(), Dropout(0.5), Dense(10), Softmax()]
    config = replace(CONFIG, transform=Shift(2))

    def trainer(state: TrainerState | None = None) -> Trainer:
        network = Network(layers, (1, 28, 28)).initialize(1)
        return Trainer(Classifier(network, DIGITS), config, state)

    whole = trainer()
    expected = without_time(list(whole.run(TRAIN)))
    first = trainer()
    run = first.run(TRAIN)
    before = [next(run) for _ in range(7)]
    second = trainer(first.state())
    assert without_time([*before, *second.run(TRAIN)]) == expected
    assert bits(second.state()) == bits(whole.state())
