"""Dropout: what is left out, how much of it, and on what the choice depends."""

import numpy as np
import pytest
from engine_probes import Offset, WeightedSum, run_layers
from numpy.testing import assert_array_equal

from mnistnet.engine.layers import Dense, Dropout, Layer, Softmax
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.minibatch import Minibatches
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import SGD
from mnistnet.engine.plan import Plan
from mnistnet.engine.streams import Noise


def passed(layers: list[Layer], x, noise: Noise | None = None):
    """What comes out of the layers in training."""
    network = Network(layers, x.shape[1:], x.dtype).initialize(0)
    loss = WeightedSum(np.ones((len(x), *network.output_shape)))
    gradients = network.views(np.zeros_like(network.vector))
    plan = Plan(network.blueprint(), len(x), loss=loss, gradients=gradients, noise=noise)
    plan.load(x.reshape(len(x), -1), slice(None))
    plan.run()
    return loss.outputs


@pytest.mark.parametrize("rate", [0.0, 1e-6, 0.1, 0.5, 0.99])
def test_the_rate_is_kept_and_the_mean_too(rate):
    y = passed([Dropout(rate)], np.ones((300, 1000), np.float32))
    count = y.size
    # five standard deviations of a share of that many draws
    assert np.mean(y == 0) == pytest.approx(rate, abs=5 * np.sqrt(rate * (1 - rate) / count) + 1 / 65536)
    scale = 65536 / (65536 - round(rate * 65536))
    assert set(np.unique(y)) <= {np.float32(0), np.float32(scale)}


def test_the_gradient_passes_where_the_value_did():
    x, dy = np.random.default_rng(0).standard_normal((2, 9, 3, 4, 5))
    found = run_layers([Dropout(0.5)], x, dy)
    assert_array_equal(found.y, x)  # as in inference
    kept = found.dx != 0
    assert 0.2 < kept.mean() < 0.8
    assert_array_equal(found.dx, np.where(kept, 2 * dy, 0))
    y = np.moveaxis(passed([Offset(9), Dropout(0.5)], x), (3, 1, 0, 2), (0, 1, 2, 3))
    assert_array_equal(y, np.where(kept, 2 * x, 0))


def test_inference_copies_nothing():
    network = Network([Dense(4), Dropout(0.9)], (3,)).initialize(0)
    alone = Network([Dense(4)], (3,)).initialize(0)
    x = np.random.default_rng(0).standard_normal((70, 3)).astype(np.float32)
    assert_array_equal(network.predict(x), alone.predict(x), strict=True)
    assert Plan(network.blueprint(), 32).workspace.nbytes == Plan(alone.blueprint(), 32).workspace.nbytes


def test_a_mask_depends_on_seed_step_slot_and_layer_and_on_nothing_else():
    x = np.ones((8, 100), np.float32)

    def mask(*place: int, below: int = 0) -> bytes:
        noise = Noise(place[0])
        noise.step, noise.slot = place[1:]
        return passed([*[Dropout(0.0)] * below, Dropout(0.5)], x, noise).tobytes()

    assert mask(1, 2, 3) == mask(1, 2, 3)
    others = [mask(2, 2, 3), mask(1, 3, 3), mask(1, 2, 4), mask(1, 3, 2), mask(1, 2, 3, below=1)]
    assert len({mask(1, 2, 3), *others}) == 6


def steps(numbers: list[int], seed: int, workers: int = 1) -> bytes:
    rows = np.random.default_rng(0).standard_normal((64, 6)).astype(np.float32)
    network = Network([Dropout(0.5), Dense(4), Softmax()], (6,)).initialize(0)
    labels = np.arange(64) % 4
    settings = {"loss": SoftmaxCrossEntropy(), "optimizer": SGD(), "batch_size": 64, "seed": seed}
    with Minibatches(network, rows, labels, workers=workers, **settings) as team:
        for number in numbers:
            team.step(number, 0, 64, 0.1)
    return network.vector.tobytes()


def test_a_step_draws_by_its_number_and_the_seed():
    assert steps([1, 2], 0) == steps([1, 2], 0, workers=2)
    assert steps([5], 0) != steps([6], 0)
    assert steps([5], 0) != steps([5], 1)
