"""The losses: by hand, at their edges, and what they count."""

import re

import engine_naive as naive
import numpy as np
import pytest
from engine_probes import Offset
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.layers import Dense, Layer, ReLU, Sigmoid, Softmax
from mnistnet.engine.losses import (
    LOSSES,
    BinaryCrossEntropy,
    Loss,
    MeanSquaredError,
    SoftmaxCrossEntropy,
    loss_for,
)
from mnistnet.engine.minibatch import Minibatches
from mnistnet.engine.network import Network
from mnistnet.engine.optimizers import SGD
from mnistnet.engine.plan import Plan
from mnistnet.errors import ShapeError, UsageError


def bound(
    logits, targets, layers: tuple[Layer, ...] = (), scale: float | None = None, loss: Loss | None = None
):
    """A plan that was run on these logits, and the gradient (N, K); of cross-entropy unless told."""
    loss = loss or SoftmaxCrossEntropy()
    logits = np.asarray(logits)
    n, k = logits.shape
    network = Network([Offset(n), *layers], (k,), logits.dtype)
    network.parameters()["0.offset"][...] = logits
    gradient = np.full_like(network.vector, np.nan)
    plan = Plan(network.blueprint(), n, loss=loss, gradients=network.views(gradient))
    plan.prepare()
    plan.load(np.zeros((n, k), logits.dtype), slice(None))
    plan.loss.load_targets(np.asarray(targets), slice(None))
    plan.loss.scale[...] = 1 / n if scale is None else scale
    plan.run()
    return plan, gradient.reshape(n, k)


def test_by_hand():
    plan, gradient = bound([[0.0, np.log(3.0)], [0.0, 0.0]], [0, 1])
    # softmax (1/4, 3/4) and (1/2, 1/2): -log(1/4) - log(1/2), the sum and not the mean
    assert_allclose(plan.loss.loss, np.log(4.0) + np.log(2.0), rtol=1e-15)
    # softmax minus the one-hot, over 2
    assert_allclose(gradient, [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]], rtol=1e-15)
    assert_array_equal(plan.loss.hits, [False, False])


def test_the_scale_is_that_of_the_whole_batch():
    """A shard of 2 in a batch of 10."""
    _, gradient = bound([[0.0, np.log(3.0)], [0.0, 0.0]], [0, 1], scale=0.1)
    assert_allclose(gradient, [[-0.075, 0.075], [0.05, -0.05]], rtol=1e-15)


def test_network_loss_is_the_mean():
    network = Network([Offset(2)], (2,), np.float64)
    network.parameters()["0.offset"][...] = [[0.0, np.log(3.0)], [0.0, 0.0]]
    loss, gradients = network.loss_and_gradients(np.zeros((2, 2)), np.array([0, 1]), SoftmaxCrossEntropy())
    assert loss == pytest.approx(np.log(8.0) / 2, rel=1e-15)
    assert_allclose(gradients["0.offset"], [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]], rtol=1e-15)


def test_fused_with_softmax_or_without_one_it_is_the_same():
    logits = np.random.default_rng(0).standard_normal((4, 3))
    (fused, d_fused), (plain, d_plain) = (
        bound(logits, [0, 1, 2, 0], layers) for layers in [(Softmax(),), ()]
    )
    assert_array_equal(d_fused, d_plain, strict=True)
    assert fused.loss.loss == plain.loss.loss


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_stay_finite(dtype):
    """1e4 would overflow exp; here every floating-point fault but underflow raises."""
    big = 1e4
    logits = np.array([[big, 0, -big], [big, 0, -big], [-big, -big, -big], [big, big, -big]], dtype)
    plan, gradient = bound(logits, [0, 2, 1, 1])
    # 0; z_0 - z_2 = 2e4; log 3 of three equals; log 2 of two
    assert_allclose(plan.loss.loss, 2 * big + np.log(3) + np.log(2), rtol=1e-6)
    expected = [[0, 0, 0], [1, 0, -1], [1 / 3, -2 / 3, 1 / 3], [1 / 2, -1 / 2, 0]]
    assert_allclose(gradient, np.array(expected) / 4, atol=1e-7)


def test_a_certain_right_answer_costs_nothing():
    plan, gradient = bound([[1000.0, 0.0]], [0])
    assert plan.loss.loss == 0
    assert_array_equal(gradient, [[0, 0]])


def test_hits_count_the_largest_and_of_equals_the_first():
    logits = [[1.0, 2.0, 0.0], [1.0, 2.0, 0.0], [5.0, 5.0, 1.0], [5.0, 5.0, 1.0], [0.0, 0.0, 0.0]]
    plan, _ = bound(logits, [1, 0, 0, 1, 0])
    assert_array_equal(plan.loss.hits, [True, False, True, False, True])


def test_the_first_and_the_last_class():
    logits = np.log([[1.0, 2.0, 3.0, 4.0]] * 2)
    plan, gradient = bound(logits, [0, 3])
    # minus log(1/10) and log(4/10)
    assert_allclose(plan.loss.loss, np.log(10.0) + np.log(2.5), rtol=1e-14)
    assert_allclose(gradient * 2, [[-0.9, 0.2, 0.3, 0.4], [0.1, 0.2, 0.3, -0.6]], rtol=1e-14)


def test_a_single_class_costs_nothing():
    plan, gradient = bound([[3.0], [-2.0]], [0, 0])
    assert plan.loss.loss == 0
    assert_array_equal(gradient, [[0], [0]])
    assert_array_equal(plan.loss.hits, [True, True])


def test_a_second_run_sees_new_labels():
    plan, gradient = bound([[0.0, np.log(3.0)]], [0])
    plan.loss.load_targets(np.array([1]), slice(None))
    plan.load(np.zeros((1, 2)), slice(None))
    plan.run()
    assert_allclose(plan.loss.loss, np.log(4 / 3), rtol=1e-14)
    assert_allclose(gradient, [[1 / 4, -1 / 4]], rtol=1e-14)


@given(st.integers(1, 40), st.integers(1, 12), st.sampled_from([0.1, 1.0, 30.0]), st.integers(0, 99))
def test_is_the_naive_loss(n, k, spread, seed):
    rng = np.random.default_rng(seed)
    logits, labels = spread * rng.standard_normal((n, k)), rng.integers(0, k, n)
    plan, gradient = bound(logits, labels)
    loss, expected = naive.cross_entropy(logits, labels)
    assert float(plan.loss.loss) / n == pytest.approx(loss, rel=1e-12, abs=1e-14)
    assert_allclose(gradient, expected, rtol=1e-11, atol=1e-15)
    assert_array_equal(plan.loss.hits, logits.argmax(axis=1) == labels)


def test_gradient_columns_sum_to_zero():
    logits = np.random.default_rng(0).standard_normal((8, 5))
    _, gradient = bound(logits, [0, 1, 2, 3, 4, 0, 1, 2])
    assert_allclose(gradient.sum(axis=1), 0, atol=1e-16)


def test_softmax_in_front_of_another_layer_keeps_its_own_derivative():
    """Only a softmax at the very end is fused."""
    network = Network([Offset(2), Softmax(), Dense(3)], (3,), np.float64).initialize(0)
    network.parameters()["0.offset"][...] = x = np.array([[1.0, 2.0, 0.0], [0.0, -1.0, 1.0]])
    labels = np.array([0, 2])
    loss, gradients = network.loss_and_gradients(np.zeros((2, 3)), labels, SoftmaxCrossEntropy())
    weight, bias = network.parameters()["2.weight"], network.parameters()["2.bias"]
    y = naive.softmax(x)
    expected, dz = naive.cross_entropy(naive.dense(y, weight, bias), labels)
    dy, d_weight, _ = naive.dense_backward(y, weight, dz)
    assert loss == pytest.approx(expected, rel=1e-14)
    assert_allclose(gradients["2.weight"], d_weight, rtol=1e-12)
    assert_allclose(gradients["0.offset"], naive.softmax_backward(y, dy), rtol=1e-12, atol=1e-16)


def test_names():
    assert LOSSES["cross_entropy"] is SoftmaxCrossEntropy
    assert SoftmaxCrossEntropy.fuses == Softmax.kind
    assert BinaryCrossEntropy.fuses == Sigmoid.kind
    assert [loss_for(kind) for kind in ("softmax", "sigmoid", "dense")] == list(LOSSES)
    for name, cls in LOSSES.items():
        assert LOSSES[name](**cls().config()) == cls()


# label smoothing


@given(st.integers(1, 9), st.integers(1, 9), st.floats(0, 0.999), st.integers(0, 99))
def test_label_smoothing_is_the_naive_loss(n, k, smoothing, seed):
    rng = np.random.default_rng(seed)
    logits, labels = 3 * rng.standard_normal((n, k)), rng.integers(0, k, n)
    plan, gradient = bound(logits, labels, loss=SoftmaxCrossEntropy(smoothing))
    loss, expected = naive.soft_cross_entropy(logits, naive.smoothed(labels, k, smoothing))
    assert float(plan.loss.loss) / n == pytest.approx(loss, rel=1e-11, abs=1e-13)
    assert_allclose(gradient, expected, rtol=1e-10, atol=1e-15)
    assert_array_equal(plan.loss.hits, logits.argmax(axis=1) == labels)


@pytest.mark.parametrize("smoothing", [1.0, -0.1, float("nan")])
def test_label_smoothing_out_of_range(smoothing):
    with pytest.raises(
        UsageError, match=re.escape(f"--label-smoothing: must be >= 0 and < 1, found {smoothing}")
    ):
        SoftmaxCrossEntropy(smoothing)


# binary cross-entropy and mean squared error

VALUES = {"binary_cross_entropy": naive.binary_cross_entropy, "mean_squared_error": naive.mean_squared_error}
of_values = pytest.mark.parametrize("name", VALUES)


@of_values
@given(data=st.data())
def test_losses_of_values_are_the_naive_ones(name, data):
    n, k = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 12))
    rng = np.random.default_rng(n)
    outputs, targets = 4 * rng.standard_normal((n, k)), rng.random((n, k))
    plan, gradient = bound(outputs, targets, loss=LOSSES[name]())
    loss, expected = VALUES[name](outputs, targets)
    assert float(plan.loss.loss) / n == pytest.approx(loss, rel=1e-12)
    assert_allclose(gradient, expected, rtol=1e-10, atol=1e-16)
    y = naive.sigmoid(outputs) if name == "binary_cross_entropy" else outputs
    assert_array_equal(plan.loss.hits, (np.abs(y - targets) < 0.5).all(axis=1))


@of_values
def test_a_class_is_1_at_its_own_output_and_0_at_the_others(name):
    outputs, labels = np.random.default_rng(0).standard_normal((6, 3)), np.array([0, 1, 2, 2, 1, 0])
    by_class, d_by_class = bound(outputs, labels, loss=LOSSES[name]())
    by_value, d_by_value = bound(outputs, np.eye(3)[labels], loss=LOSSES[name]())
    assert by_class.loss.loss == by_value.loss.loss
    assert_array_equal(d_by_class, d_by_value, strict=True)
    assert_array_equal(by_class.loss.hits, outputs.argmax(axis=1) == labels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_binary_cross_entropy_of_extreme_logits(dtype):
    """1e4 would overflow exp and make log(0); here every floating-point fault but underflow raises."""
    plan, gradient = bound(
        np.array([[1e4, -1e4, 1e4, -1e4]], dtype), np.array([[1.0, 0.0, 0.0, 1.0]]), loss=BinaryCrossEntropy()
    )
    assert_allclose(plan.loss.loss, (0 + 0 + 1e4 + 1e4) / 4, rtol=1e-6)
    assert_allclose(gradient, [[0, 0, 1 / 4, -1 / 4]], atol=1e-30)


def test_binary_cross_entropy_is_fused_with_the_sigmoid():
    logits = np.random.default_rng(0).standard_normal((4, 3))
    (fused, d_fused), (plain, d_plain) = (
        bound(logits, [0, 1, 2, 0], layers, loss=BinaryCrossEntropy()) for layers in [(Sigmoid(),), ()]
    )
    assert_array_equal(d_fused, d_plain, strict=True)
    assert fused.loss.loss == plain.loss.loss


@pytest.mark.parametrize("last", [[], [ReLU()], [Sigmoid()], [Softmax()]], ids=str)
def test_mean_squared_error_behind_any_last_layer(last):
    network = Network([Dense(3), *last], (4,), np.float64).initialize(0)
    x, targets = np.random.default_rng(0).standard_normal((2, 5, 4))
    targets = targets[:, :3]
    loss, gradients = network.loss_and_gradients(x, targets, MeanSquaredError())
    assert loss == pytest.approx(((network.predict(x) - targets) ** 2).mean(), rel=1e-14)
    weight = network.parameters()["0.weight"]
    for index in np.ndindex(weight.shape):
        before, sides = weight[index], []
        for step in (1e-6, -1e-6):
            weight[index] = before + step
            sides.append(((network.predict(x) - targets) ** 2).mean())
        weight[index] = before
        assert gradients["0.weight"][index] == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-6, abs=1e-9)


# what fits what


def test_a_network_that_does_not_end_as_the_loss_needs():
    def message(loss: Loss, last: Layer, targets) -> str:
        network = Network([Dense(3), last], (2,))
        with pytest.raises(ShapeError) as caught:
            Minibatches(
                network,
                np.zeros((4, 2), np.float32),
                np.asarray(targets),
                loss=loss,
                optimizer=SGD(),
                batch_size=4,
            )
        return str(caught.value)

    labels, values = [0, 1, 2, 0], np.zeros((4, 3))
    expected = "expected a network that ends in"
    assert message(SoftmaxCrossEntropy(), Sigmoid(), labels) == (
        f"loss cross_entropy: {expected} softmax, found sigmoid"
    )
    assert message(BinaryCrossEntropy(), ReLU(), labels) == (
        f"loss binary_cross_entropy: {expected} sigmoid, found relu"
    )
    assert message(SoftmaxCrossEntropy(), Softmax(), values) == (
        "loss cross_entropy: expected targets (N,) classes, found float64 (4, 3)"
    )
    assert message(MeanSquaredError(), ReLU(), values[:, 0]) == (
        "loss mean_squared_error: expected targets (N,) classes or (N, 3) values, found float64 (4,)"
    )
    assert "found float64 (4, 2)" in message(BinaryCrossEntropy(), Sigmoid(), values[:, :2])


@pytest.mark.parametrize(
    ("loss", "last"),
    [(SoftmaxCrossEntropy(0.1), Softmax()), (BinaryCrossEntropy(), Sigmoid()), (MeanSquaredError(), ReLU())],
    ids=lambda value: type(value).__name__,
)
def test_the_same_bits_with_any_number_of_workers(loss, last):
    rows = np.random.default_rng(0).standard_normal((96, 5)).astype(np.float32)
    targets = np.arange(96) % 4 if isinstance(loss, SoftmaxCrossEntropy) else np.abs(rows[:, :4])
    found = []
    for workers in (1, 2, 3):
        network = Network([Dense(4), last], (5,)).initialize(0)
        settings = {"loss": loss, "optimizer": SGD(0.9), "batch_size": 80, "workers": workers}
        with Minibatches(network, rows, targets, **settings) as team:
            outcomes = [team.step(1, 0, 80, 0.1), team.step(2, 80, 16, 0.1)]
        found.append((outcomes, network.vector.tobytes()))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize(
    ("outputs", "targets", "says"),
    [
        (
            5,
            np.array([0, 5]),
            "loss mean_squared_error: expected classes 0 to 4, one for each output, found 0 to 5",
        ),
        (5, np.array([-1, 3]), "found -1 to 3"),
        (1, np.array([0, 1]), "found 0 to 1; a single output takes values (N, 1)"),
        (5, np.zeros((2, 4)), "expected targets (N,) classes or (N, 5) values, found float64 (2, 4)"),
    ],
)
def test_targets_that_the_network_has_no_output_for(outputs, targets, says):
    with pytest.raises(ShapeError, match=re.escape(says)):
        MeanSquaredError().check_targets(outputs, targets)
