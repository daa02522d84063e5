"""Softmax cross-entropy: by hand, at its edges, and what it counts."""

import engine_naive as naive
import numpy as np
import pytest
from engine_probes import Offset
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.layers import Dense, Layer, Softmax
from mnistnet.engine.losses import LOSSES, SoftmaxCrossEntropy
from mnistnet.engine.network import Network
from mnistnet.engine.plan import Plan


def bound(logits, labels, layers: tuple[Layer, ...] = (), scale: float | None = None):
    """A plan that was run on these logits, and the gradient (N, K)."""
    logits = np.asarray(logits)
    n, k = logits.shape
    network = Network([Offset(n), *layers], (k,), logits.dtype)
    network.parameters()["0.offset"][...] = logits
    gradient = np.full_like(network.vector, np.nan)
    plan = Plan(network.blueprint(), n, loss=SoftmaxCrossEntropy(), gradients=network.views(gradient))
    plan.prepare()
    plan.load(np.zeros((n, k), logits.dtype), slice(None))
    plan.loss.labels[:] = labels
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
    plan.loss.labels[:] = 1
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
