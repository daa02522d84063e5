"""Activations: values by hand, at their edges, and against the naive formulas."""

import math

import engine_naive as naive
import numpy as np
import pytest
from engine_probes import run_layers
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.layers import GELU, LeakyReLU, Sigmoid, Softmax, Tanh
from mnistnet.engine.network import Network


def applied(layer, values, dtype=np.float64):
    """y and dy/dx at each of the values."""
    x = np.array(values, dtype)[None]
    found = run_layers([layer], x, np.ones_like(x))
    assert found.y.dtype == found.dx.dtype == dtype
    return found.y[0], found.dx[0]


def test_leaky_relu_by_hand():
    y, slope = applied(LeakyReLU(0.25), [-8, -1, 0, 1, 8])
    assert_array_equal(y, [-2, -0.25, 0, 1, 8])
    assert_array_equal(slope, [0.25, 0.25, 0.25, 1, 1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_leaky_relu_commutes_with_a_maximum_bit_for_bit(dtype):
    """Among the values neighbours, subnormals, and numbers that the slope makes equal."""
    rng = np.random.default_rng(0)
    info = np.finfo(dtype)
    edges = np.array([0, info.tiny, info.smallest_subnormal, 1, 1 + info.eps, info.max], dtype)
    a = np.concatenate([edges, -edges, rng.standard_normal(500).astype(dtype)])
    a, b = (part.ravel() for part in np.meshgrid(a, np.concatenate([a, np.nextafter(a, dtype(0))])))
    for slope in (0.0, 0.01, 1.0):
        leaky = Network([LeakyReLU(slope)], a.shape, dtype).predict
        separately = np.maximum(leaky(a[None]), leaky(b[None]))
        together = leaky(np.maximum(a, b)[None])
        assert_array_equal(separately, together, strict=True)


def test_sigmoid_is_the_formula():
    x = np.linspace(-30, 30, 601)
    y, slope = applied(Sigmoid(), x)
    assert_allclose(y, naive.sigmoid(x), rtol=1e-14)
    assert_allclose(slope, naive.sigmoid_backward(y, np.ones_like(y)), rtol=1e-14)
    single, _ = applied(Sigmoid(), x, np.float32)
    assert_allclose(single, naive.sigmoid(x), rtol=3e-6)  # small ones too: x itself is rounded


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sigmoid_of_extreme_numbers(dtype):
    """exp(1000) would overflow; here every floating-point fault but underflow raises."""
    y, slope = applied(Sigmoid(), [-1e30, -1000, 1000, 1e30], dtype)
    assert_allclose(y, [0, 0, 1, 1], atol=1e-37)
    assert_allclose(slope, 0, atol=1e-37)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_softmax_of_extreme_numbers(dtype):
    logits = np.array([[1e4, 0, -1e4], [-1e4, -1e4, -1e4], [1e30, 1e30, -1e30]], dtype)
    found = Network([Softmax()], (3,), dtype).predict(logits)
    assert found.dtype == dtype
    assert_allclose(found, [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]], rtol=1e-6)


def test_tanh_is_the_formula():
    x = np.linspace(-9, 9, 301)
    y, slope = applied(Tanh(), x)
    assert_allclose(y, [math.tanh(v) for v in x], rtol=1e-14)
    assert_allclose(slope, [1 / math.cosh(v) ** 2 for v in x], rtol=1e-7)  # 1 - y^2 loses digits


FAR = np.concatenate([np.linspace(-13, 13, 5201), [-1e6, -40.0, 40.0, 1e6]])


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 3e-7), (np.float64, 1e-13)])
def test_gelu_is_the_formula_within_its_bound(dtype, bound):
    x = FAR.astype(dtype).astype(np.float64)
    y, slope = applied(GELU(), x, dtype)
    assert_allclose(y, naive.gelu(x), rtol=bound, atol=bound)
    assert_allclose(slope, naive.gelu_backward(x, np.ones_like(x)), rtol=bound, atol=bound)


@pytest.mark.parametrize(("dtype", "bound"), [(np.float32, 3e-7), (np.float64, 1e-14)])
def test_gelu_with_tanh_is_the_formula(dtype, bound):
    x = FAR[:-4].astype(dtype).astype(np.float64)
    y, slope = applied(GELU("tanh"), x, dtype)
    u = [math.sqrt(2 / math.pi) * (v + 0.044715 * v**3) for v in x]
    tanh = np.array([math.tanh(v) for v in u])
    assert_allclose(y, x * (1 + tanh) / 2, rtol=bound, atol=10 * bound)
    inner = math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    sech = np.array([1 / math.cosh(min(abs(v), 300)) ** 2 for v in u])
    assert_allclose(slope, (1 + tanh) / 2 + x * sech * inner / 2, rtol=bound, atol=20 * bound)
    exact, _ = applied(GELU(), x, dtype)
    assert np.abs(y - exact).max() < 5e-4
