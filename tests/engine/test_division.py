"""How a minibatch is divided among processes, and that it does not show in the result."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mnistnet.engine import blas, division
from mnistnet.engine.arrays import UNIT_SCALE, PixelScale
from mnistnet.engine.division import Division, choose_workers, divide
from mnistnet.engine.layers import (
    GELU,
    BatchNorm,
    Dense,
    Dropout,
    Flatten,
    Layer,
    LeakyReLU,
    ReLU,
    Sigmoid,
    Sine,
    Softmax,
    Tanh,
    dense,
)
from mnistnet.engine.losses import LOSSES, SoftmaxCrossEntropy, loss_for
from mnistnet.engine.minibatch import Minibatches
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import SGD, Adam
from mnistnet.models import build

SHARDS = Division(shard=32, dealt=None, most=2, worthwhile=2)


def one_layer(f_out: int) -> Network:
    return Network([Flatten(), Dense(f_out), Softmax()], (1, 28, 28))


def test_outputs_are_dealt_out_where_the_first_layer_is_nearly_all() -> None:
    assert divide(build("mlp"), 64) == Division(shard=64, dealt=1, most=4, worthwhile=8)
    assert divide(Network([Dense(40), Softmax()], (100,)), 64).dealt == 0
    assert divide(build("lenet"), 64) == SHARDS
    middle: list[Layer] = [Flatten(), Dense(128), ReLU(), Dense(128), Softmax()]
    assert divide(Network(middle, (1, 28, 28)), 64) == SHARDS
    assert divide(Network([Flatten()], (1, 2, 2)), 64).dealt is None


def test_images_are_dealt_out_where_they_do_not_fit_a_cache_or_are_transformed() -> None:
    mlp = build("mlp")
    assert divide(mlp, 130).dealt == 1
    assert divide(mlp, 131) == Division(shard=64, dealt=None, most=3, worthwhile=3)
    assert divide(mlp, 64, transformed=True) == SHARDS


def test_outputs_that_have_no_large_pieces_are_not_dealt_out() -> None:
    assert all(divide(one_layer(f_out), 64).dealt is None for f_out in (10, 20, 127, 148, 508))
    assert [divide(one_layer(f_out), 64).most for f_out in (64, 100, 120, 512)] == [2, 4, 4, 16]


def test_the_division_is_the_same_on_every_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """It decides what a batch normalization averages over."""
    found = []
    for cuts in (True, False):
        for module in (blas, dense):
            monkeypatch.setattr(module, "cuts_products", lambda cuts=cuts: cuts)
        found.append([divide(one_layer(f_out), 64) for f_out in range(2, 200)])
    assert found[0] == found[1]


def test_a_process_has_enough_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(division, "usable_cores", lambda: 6)
    mlp = build("mlp")
    assert [choose_workers(mlp, n) for n in (1, 15, 16, 24, 64)] == [1, 1, 2, 3, 4]
    assert [choose_workers(mlp, 16, wanted) for wanted in (1, 3, 100)] == [1, 3, 4]
    assert choose_workers(mlp, 64, 100, transformed=True) == 2


def network_of_all_kinds() -> Network:
    """Whose statistics, noise and gradients all have to be the same everywhere."""
    layers = [Flatten(), Dense(128), BatchNorm(), ReLU(), Dropout(0.3), Dense(10), Softmax()]
    return Network(layers, (1, 28, 28)).initialize(3)


@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.1}, {"average_decay": 0.9}, {"optimizer": Adam()}])
def test_the_same_bits_however_the_outputs_are_dealt_out(settings: dict) -> None:
    check_bits(network_of_all_kinds, settings)


def test_who_mixes_features_does_not_overwrite_what_all_see() -> None:
    layers = [Flatten(), Dense(128), Flatten(), Dropout(0.3), Dense(10), Softmax()]
    check_bits(lambda: Network(layers, (1, 28, 28)).initialize(3), {})


@pytest.mark.parametrize("f_out", [36, 50, 100, 300])
def test_the_same_bits_with_pieces_of_any_size(f_out: int) -> None:
    """Where a product begins decides how OpenBLAS rounds; a step so large shows every bit of the gradient."""
    layers = [Flatten(), Dense(f_out), ReLU(), Dense(10), Softmax()]
    for size in (7, 37, 64, 100):
        check_bits(lambda: Network(layers, (1, 28, 28)).initialize(3), {"batch_size": size}, 1e4, [(0, size)])


def check_bits(
    make: Callable[[], Network],
    settings: dict,
    learning_rate: float = 0.1,
    parts: Sequence[tuple[int, int]] = ((0, 60), (60, 59), (119, 1)),  # a whole batch, a rest, one image
) -> None:
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (120, 1, 28, 28), dtype=np.uint8)
    labels = rng.integers(0, 10, len(images))
    options = {"optimizer": SGD(0.9), "batch_size": 60, "seed": 5, **settings}
    found = []
    for workers in (1, 2, 3):
        network = make()
        with Minibatches(
            network, images, labels, loss=SoftmaxCrossEntropy(), workers=workers, **options
        ) as team:  # type: ignore[arg-type]
            assert team._rank._team is not None
            outcomes = [team.step(i, *part, learning_rate) for i, part in enumerate(parts, 1)]
        found.append((outcomes, network.vector.tobytes()))
    assert found[0] == found[1] == found[2]


DEALT: dict[str, Sequence[Layer]] = {
    "in place": [ReLU(), Dense(10), Softmax()],
    "all in place": [GELU(), Sine(1.0), Tanh(), Dense(10), Softmax()],
    "beside one whose output is needed": [Tanh(), Sigmoid(), Sine(1.0), Dense(10), Softmax()],
    "mixed at once": [Softmax(), Dense(10), Softmax()],
    "nothing behind": [Softmax()],
    "fused sigmoid": [Sigmoid()],
    "a function at the end": [LeakyReLU()],
    "two that mix": [ReLU(), BatchNorm(), Dropout(0.0), Dense(12), ReLU(), Dense(10), Softmax()],
}


PIXELS = [UNIT_SCALE, PixelScale(0.01, 0.0), PixelScale(0.01, -1.0), None]


@pytest.mark.parametrize(
    ("name", "pixels"), [*((name, UNIT_SCALE) for name in DEALT), *(("in place", some) for some in PIXELS)]
)
def test_a_dealt_step_is_the_step_of_one_shard(name: str, pixels: PixelScale | None) -> None:
    """Whatever follows the layer that is dealt out, wherever processes meet; from bytes and floats."""
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (64, 1, 28, 28), dtype=np.uint8)
    if pixels is None:
        images, pixels = UNIT_SCALE.apply(images), UNIT_SCALE
    labels = rng.integers(0, 10, len(images))
    network = Network([Flatten(), Dense(128), *DEALT[name]], (1, 28, 28)).initialize(4)
    loss = LOSSES[loss_for(network.layers[-1].kind)]()
    value, gradients = network.loss_and_gradients(images, labels, loss, pixels=pixels)
    before = network.vector[: network.trainable].copy()
    outcomes = []
    for workers in (1, 2, 3):
        network.vector[: network.trainable] = before
        with Minibatches(
            network,
            images,
            labels,
            loss=loss,
            optimizer=SGD(0.0),
            batch_size=64,
            pixels=pixels,
            workers=workers,
        ) as team:
            assert team._rank._team is not None
            outcomes.append((team.step(1, 0, 64, 0.5), network.vector[: network.trainable].tobytes()))
    assert outcomes[0] == outcomes[1] == outcomes[2]
    outcome, after = outcomes[0]
    gradient = np.concatenate([part.ravel() for part in gradients.values()])
    assert outcome.loss == pytest.approx(64 * value, rel=1e-6)
    if not network.momenta.size:  # which measure what a prediction does not
        network.vector[...] = before
        assert outcome.correct == np.count_nonzero(
            network.predict(images, pixels=pixels).argmax(axis=1) == labels
        )
    moved = before - np.frombuffer(after, before.dtype)
    np.testing.assert_allclose(moved, 0.5 * gradient, rtol=1e-4, atol=1e-6)
