"""What a step may do beside the optimizer's rule: clip, average, transform, stand still at a bad loss."""

import gc
import weakref
from dataclasses import dataclass

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from mnistnet.engine.arrays import ALIGNMENT, PixelScale
from mnistnet.engine.layers import LAYER_KINDS, Dense, Flatten, Softmax
from mnistnet.engine.losses import MeanSquaredError, SoftmaxCrossEntropy
from mnistnet.engine.minibatch import AVERAGE, FLUSH_INTERVAL, NORM_BLOCK, Minibatches
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import SGD, Adam, AdamW, Optimizer
from mnistnet.engine.streams import NOISE, TRANSFORM, stream
from mnistnet.engine.transform import BoundTransform, Transform, transform_of
from mnistnet.errors import ShapeError, UsageError
from mnistnet.models import build

MODEL, COUNT = "mlp", 96


@dataclass(frozen=True)
class Dimmed(Transform):
    """Takes away the same random amount from every pixel of an image."""

    most: int

    def bind(self, n: int, shape: tuple[int, ...]) -> BoundTransform:
        return lambda images, rng: (
            np.maximum(images, 100) - rng.integers(0, self.most, (n, 1, 1, 1), dtype=np.uint8)
        )


@dataclass(frozen=True)
class Backwards(SGD):
    """Goes up instead of down, under its parent's name."""

    def factors(self, step: int, learning_rate: float) -> tuple[float, ...]:
        return super().factors(step, -learning_rate)


@dataclass(frozen=True)
class DoubledError(MeanSquaredError):
    """With a name of its own that no registry has."""

    name = "doubled"


def images() -> np.ndarray:
    return np.random.default_rng(5).integers(0, 256, (COUNT, 1, 28, 28), dtype=np.uint8)


def labels() -> np.ndarray:
    return np.random.default_rng(6).integers(0, 10, COUNT)


def start(**settings: object) -> Minibatches:
    options = {"optimizer": SGD(), "batch_size": 80, **settings}
    network = build(MODEL).initialize(3)
    return Minibatches(network, images(), labels(), loss=SoftmaxCrossEntropy(), **options)  # type: ignore[arg-type]


def threads_of_blas() -> list[int]:
    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def gradient(which: slice, shown: np.ndarray | None = None) -> np.ndarray:
    network = build(MODEL).initialize(3)
    shown = images()[which] if shown is None else shown
    _, parts = network.loss_and_gradients(shown, labels()[which], SoftmaxCrossEntropy())
    return np.concatenate([part.ravel() for part in parts.values()])


@pytest.mark.parametrize(
    "settings",
    [
        {"clip_norm": 0.5},
        {"average_decay": 0.9},
        {"transform": Dimmed(50), "seed": 7},
        {"clip_norm": 0.1, "average_decay": 0.99, "transform": Dimmed(9), "optimizer": SGD(0.9, 1e-4)},
    ],
    ids="-".join,
)
def test_the_same_bits_with_any_number_of_workers(settings: dict) -> None:
    found = []
    for workers in (1, 2, 3):
        with start(workers=workers, **settings) as team:
            outcomes = [team.step(1, 0, 80, 0.1), team.step(2, 80, 16, 0.1)]
            states = [vector.tobytes() for vector in team.state.values()]
        found.append((outcomes, states, team.network.vector.tobytes()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("clip_norm", [0.01, 1e6])
def test_a_gradient_longer_than_the_norm_is_shortened_to_it(clip_norm: float) -> None:
    g = gradient(slice(64)).astype(np.float64)
    length = np.sqrt((g * g).sum())
    assert 0.01 < length < 1e6
    with start(clip_norm=clip_norm) as team:
        before = team.network.vector.copy()
        team.step(1, 0, 64, 0.1)
    moved = before - team.network.vector
    np.testing.assert_allclose(moved, 0.1 * g * min(1.0, clip_norm / length), rtol=1e-3, atol=2e-8)


@pytest.mark.parametrize("workers", [1, 2])
def test_every_step_starts_from_the_weights_of_the_one_before(workers: int) -> None:
    """Also where a layer packs its weights anew, and where the last batch has fewer shards."""
    by_hand = build("lenet").initialize(3)
    parts = [slice(0, 80), slice(0, 80), slice(80, 96)]
    losses, hits = [], []
    for part in parts:
        hits.append(np.count_nonzero(by_hand.predict(images()[part]).argmax(axis=1) == labels()[part]))
        loss, gradients = by_hand.loss_and_gradients(images()[part], labels()[part], SoftmaxCrossEntropy())
        losses.append(loss * (part.stop - part.start))
        by_hand.vector[...] -= 0.1 * np.concatenate([g.ravel() for g in gradients.values()])
    network = build("lenet").initialize(3)
    with Minibatches(
        *(network, images(), labels()),
        loss=SoftmaxCrossEntropy(),
        optimizer=SGD(),
        batch_size=80,
        workers=workers,
    ) as minibatches:
        outcomes = [
            minibatches.step(number, part.start, part.stop - part.start, 0.1)
            for number, part in enumerate(parts, start=1)
        ]
    assert [outcome.loss for outcome in outcomes] == pytest.approx(losses, rel=1e-4)
    assert [outcome.correct for outcome in outcomes] == hits
    assert [outcome.images for outcome in outcomes] == [80, 80, 16]
    np.testing.assert_allclose(network.vector, by_hand.vector, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_process_updates_its_share_of_the_parameters(workers: int) -> None:
    with start(workers=workers, batch_size=96) as minibatches:
        share = minibatches._rank._slice
        assert share.start == 0
        even = minibatches.network.trainable / workers
        assert share.stop == pytest.approx(even, abs=0 if workers == 1 else NORM_BLOCK)


@pytest.mark.parametrize("workers", [1, 2])
def test_targets_may_be_values(workers: int) -> None:
    values = np.random.default_rng(8).random((COUNT, 10))
    by_hand = build(MODEL).initialize(3)
    loss, gradients = by_hand.loss_and_gradients(images()[:80], values[:80], MeanSquaredError())
    by_hand.vector[...] -= 0.1 * np.concatenate([g.ravel() for g in gradients.values()])
    network = build(MODEL).initialize(3)
    options = {"loss": MeanSquaredError(), "optimizer": SGD(), "batch_size": 80, "workers": workers}
    with Minibatches(network, images(), values, **options) as minibatches:  # type: ignore[arg-type]
        assert minibatches.step(1, 0, 80, 0.1).loss == pytest.approx(80 * loss, rel=1e-5)
    np.testing.assert_allclose(network.vector, by_hand.vector, rtol=1e-4, atol=1e-6)


def test_the_average_follows_the_parameters_quickly_at_first() -> None:
    with start(average_decay=0.5) as team:
        expected = team.network.vector.astype(np.float64)
        assert team.state[AVERAGE].tobytes() == team.network.vector.tobytes()
        for number, rate in ((1, 0.9), (2, 1 - 2 / 11), (200, 0.5)):
            team.step(number, 0, 64, 0.1)
            expected += rate * (team.network.vector - expected)
            np.testing.assert_allclose(team.state[AVERAGE], expected, rtol=1e-5, atol=1e-7)


def test_what_a_transform_draws_depends_on_seed_step_and_slot_alone() -> None:
    transform = Dimmed(200)
    bound = transform.bind(16, (1, 28, 28))
    shown = bound(images()[64:80], stream(7, TRANSFORM, 5, 2))
    with start(transform=transform, seed=7) as team:
        team.step(5, 64, 16, 0.1)  # the third shard's images, alone: in slot 0
        alone = team.network.vector.copy()
    with start(transform=transform, seed=7) as team:
        before = team.network.vector.copy()
        team.step(5, 0, 80, 0.1)
    g = gradient(slice(64, 80), shown)
    wholes = [bound_of(transform, images()[i : i + 32], stream(7, TRANSFORM, 5, i // 32)) for i in (0, 32)]
    parts = [gradient(slice(i, i + 32), whole) * 32 for i, whole in zip((0, 32), wholes, strict=True)]
    expected = (sum(parts) + 16 * g) / 80
    np.testing.assert_allclose(before - team.network.vector, 0.1 * expected, rtol=1e-3, atol=1e-6)
    assert not np.allclose(before - alone, 0.1 * g, rtol=1e-3, atol=1e-6)


def bound_of(transform: Transform, shown: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return transform.bind(len(shown), shown.shape[1:])(shown, rng)


def test_streams_are_apart_and_can_be_had_again() -> None:
    def first(*place: int, seed: int = 1, purpose: int = NOISE) -> bytes:
        return stream(seed, purpose, *place).bytes(16)

    assert first(3, 1) == first(3, 1)
    others = [first(3, 2), first(1, 3), first(3), first(3, 1, seed=2), first(3, 1, purpose=TRANSFORM)]
    assert len({first(3, 1), *others}) == 6


def test_streams_are_those_of_every_version() -> None:
    """A seed stands for the same training for ever: Philox4x64, its counter 0 and then the place."""
    whole_numbers = np.random.Philox(key=7 + (TRANSFORM << 64), counter=(3 << 64) + (5 << 128))
    expected = [13984147169242192277, 7275717322171842395, 13346805023878721547]
    assert whole_numbers.random_raw(3).tolist() == expected
    assert stream(7, TRANSFORM, 3, 5).bit_generator.random_raw(3).tolist() == expected


def test_blas_has_one_thread_while_there_is_training() -> None:
    """Of several it would round by their number; when the training is over it has those it had."""
    before = threads_of_blas()
    with start() as minibatches:
        assert set(threads_of_blas()) <= {1}
        minibatches.step(1, 0, 64, 0.1)
    assert threads_of_blas() == before


def test_a_loss_that_is_not_finite_changes_nothing() -> None:
    network = build(MODEL).initialize(3)
    network.vector[:] = 1e38
    with Minibatches(
        network,
        images(),
        labels(),
        loss=SoftmaxCrossEntropy(),
        optimizer=SGD(0.9),
        batch_size=64,
        average_decay=0.9,
        workers=2,
    ) as team:
        outcome = team.step(1, 0, 64, 0.1)
        assert not np.isfinite(outcome.loss)
        assert (team.network.vector == np.float32(1e38)).all()
        assert not team.state["velocity"].any()


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("rule", [SGD(0.9), SGD(0.9, nesterov=True), Adam(), AdamW()], ids=repr)
def test_momentum_that_has_faded_away_becomes_zero_every_64_steps(rule: Optimizer, workers: int) -> None:
    shown = images()
    shown[:, :, 0, 0] = 0
    network = build(MODEL).initialize(3)
    before = np.array([1e-25, 1e-31, -1e-31, 1e-40, 0.0], np.float32)
    where = 784 * np.array([0, 1, 100, 101, 127])  # the corner's weights to five features: no gradient
    with Minibatches(
        network, shown, labels(), loss=SoftmaxCrossEntropy(), optimizer=rule, batch_size=80, workers=workers
    ) as team:
        first, *others = (team.state[name] for name in rule.state_names)
        first[where] = before
        for other in others:
            other[where] = 1e-31
        team.step(FLUSH_INTERVAL - 1, 0, 80, 0.1)
        kept = before * np.float32(0.9)
        np.testing.assert_array_equal(first[where], kept)
        team.step(FLUSH_INTERVAL, 0, 80, 0.1)
        np.testing.assert_array_equal(first[where], [kept[0] * np.float32(0.9), 0, 0, 0, 0])
        assert all(np.all(other[where] > 0) for other in others)


def test_plain_descent_has_no_momentum_to_fade() -> None:
    with start() as team:
        team.step(FLUSH_INTERVAL, 0, 80, 0.1)
        assert not team.state


@pytest.mark.parametrize("workers", [1, 2])
def test_parameters_begin_where_a_cache_line_does(workers: int) -> None:
    with start(workers=workers) as team:
        assert team.network.vector.ctypes.data % ALIGNMENT == 0
    assert team.network.vector.ctypes.data % ALIGNMENT == 0


def test_a_transform_is_rebuilt_from_its_spec() -> None:
    assert transform_of(Dimmed(3).spec()) == Dimmed(3)


@pytest.mark.parametrize("workers", [1, 2])
def test_classes_of_ones_own_are_what_they_are_in_every_process(workers: int) -> None:
    from engine_custom import Threshold

    LAYER_KINDS.pop(Threshold.kind, None)  # which the other tests do not expect
    vectors = []
    for optimizer in (SGD(0.0, 0.0), Backwards(0.0, 0.0)):
        layers = [Flatten(), Dense(20), Threshold(), Dense(10), Softmax()]
        network = Network(layers, (1, 28, 28)).initialize(3)
        before = network.vector.copy()
        options = {"loss": DoubledError(), "optimizer": optimizer, "batch_size": 64, "workers": workers}
        with Minibatches(network, images(), labels(), **options) as team:
            team.step(1, 0, 64, 0.5)
        vectors.append(network.vector - before)
    np.testing.assert_allclose(vectors[0], -vectors[1], atol=1e-7)
    assert vectors[0].any()


def test_what_workers_cannot_import_is_said_before_they_start() -> None:
    class Here(SGD):
        pass

    with start(optimizer=Here()) as team:
        team.step(1, 0, 64, 0.1)
    with pytest.raises(
        UsageError, match=r"Here: worker processes cannot import it from test_minibatch: .*workers=1"
    ):
        start(optimizer=Here(), workers=2)


def test_numpys_numbers_may_be_settings() -> None:
    found = []
    for number in (float, np.float32):
        settings = {"pixels": PixelScale(number(0.25), number(-0.5)), "clip_norm": number(0.5)}
        with start(workers=2, optimizer=SGD(number(0.5), number(0.25)), **settings) as team:
            team.step(1, 0, 80, 0.1)
            found.append(team.network.vector.tobytes())
    assert found[0] == found[1]


def test_images_of_another_form_are_refused() -> None:
    network = build("lenet").initialize(1)
    options = {"loss": SoftmaxCrossEntropy(), "optimizer": SGD(), "batch_size": 4}
    for shape in ((4, 28, 28, 1), (4, 1, 28, 27), (4, 783)):
        with pytest.raises(ShapeError, match="images: expected "):
            Minibatches(network, np.zeros(shape, np.uint8), np.zeros(4, int), **options)
    with pytest.raises(ShapeError, match="images: expected uint8 or floats, found int64"):
        Minibatches(network, np.zeros((4, 784), int), np.zeros(4, int), **options)
    Minibatches(network, np.zeros((4, 784), np.uint8), np.zeros(4, int), **options).close()


def test_shared_memory_goes_with_the_last_array_and_waits_for_no_collector() -> None:
    gc.disable()
    try:
        with start(workers=2) as team:
            team.step(1, 0, 64, 0.1)
            memory = weakref.ref(team._workers)
        del team
        assert memory() is None
    finally:
        gc.enable()
