"""Pools: ties, overlaps, borders and gaps, by hand and against the naive loops."""

import engine_naive as naive
import numpy as np
import pytest
from engine_probes import run_layers
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine.layers import AvgPool2d, GlobalAvgPool, MaxPool2d


def pooled(x, dy, *geometry, kind=MaxPool2d):
    """y and dx of one image and one channel, from lists."""
    x, dy = (np.array(values, np.float64)[None, None] for values in (x, dy))
    found = run_layers([kind(*geometry)], x, dy)
    return found.y[0, 0], found.dx[0, 0]


def test_all_equal_pays_one_corner_only():
    y, dx = pooled(np.zeros((4, 4)), [[1, 2], [3, 4]], (2, 2))
    assert_array_equal(y, np.zeros((2, 2)))
    assert_array_equal(dx, [[1, 0, 2, 0], [0, 0, 0, 0], [3, 0, 4, 0], [0, 0, 0, 0]])


def test_of_several_the_leftmost_then_the_topmost():
    # 7 stands at (0, 2), (1, 0), (1, 1) and (2, 0): the column decides before the row
    y, dx = pooled([[1, 2, 7], [7, 7, 3], [7, 0, 0]], [[5]], (3, 3))
    assert_array_equal(y, [[7]])
    assert_array_equal(dx, [[0, 0, 0], [5, 0, 0], [0, 0, 0]])


def test_the_last_tap_of_a_window():
    y, dx = pooled([[1, 2], [3, 4]], [[5]], (2, 2))
    assert_array_equal(y, [[4]])
    assert_array_equal(dx, [[0, 0], [0, 5]])


def test_overlapping_windows_add_up():
    # the windows (1 3, 2 3) and (3 3, 3 0) both choose the middle of the first row
    y, dx = pooled([[1, 3, 3], [2, 3, 0], [5, 4, 5]], [[1, 2], [4, 8]], (2, 2), (1, 1))
    assert_array_equal(y, [[3, 3], [5, 5]])
    assert_array_equal(dx, [[0, 3, 0], [0, 0, 0], [4, 0, 8]])


def test_padding_is_minus_infinity_not_zero():
    y, dx = pooled([[-1, -2], [-3, -4]], [[1, 2], [3, 4]], (2, 2), (2, 2), (1, 1))
    assert_array_equal(y, [[-1, -2], [-3, -4]])
    assert_array_equal(dx, [[1, 2], [3, 4]])


def test_a_stride_beyond_the_kernel_leaves_zeros():
    x = np.arange(42.0).reshape(6, 7)
    # kernel 1 x 2, stride 3 x 4: windows at rows 0 and 3, columns 0 and 4; the larger is the right one
    y, dx = pooled(x, [[1, 2], [3, 4]], (1, 2), (3, 4))
    assert_array_equal(y, [[1, 5], [22, 26]])
    expected = np.zeros((6, 7))
    expected[0, 1], expected[0, 5], expected[3, 1], expected[3, 5] = 1, 2, 3, 4
    assert_array_equal(dx, expected)


def test_a_remainder_that_no_window_covers_gets_zero():
    y, dx = pooled([[1, 2, 9], [3, 4, 9], [9, 9, 9]], [[5]], (2, 2))
    assert_array_equal(y, [[4]])
    assert_array_equal(dx, [[0, 0, 0], [0, 5, 0], [0, 0, 0]])


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1])
def test_ties_neither_lose_nor_make_gradient(stride, padding):
    """The popular ``dy * (x == max)`` fails here: it pays every one of the equals."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (4, 3, 9, 9)).astype(np.float64)
    layer = MaxPool2d((3, 3), (stride, stride), (padding, padding))
    dy = rng.integers(-8, 9, (4, *layer.output_shape((3, 9, 9)))).astype(np.float64)
    dx = run_layers([layer], x, dy).dx
    assert_array_equal(dx.sum(axis=(2, 3)), dy.sum(axis=(2, 3)))


@st.composite
def geometries(draw: st.DrawFn):
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    stride = draw(st.none() | st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    h, w = (max(1, size - 2 * p) + draw(st.integers(0, 7)) for size, p in zip(kernel, padding, strict=True))
    n = draw(st.integers(1, 70))
    return (n, draw(st.integers(1, 40 if n < 10 else 5)), h, w), (kernel, stride, padding)


@given(geometries(), st.sampled_from([1, 3, 1000]), st.sampled_from([np.float32, np.float64]))
def test_pool_is_the_naive_loop(geometry, levels, dtype):
    """Few levels make ties nearly everywhere; whole numbers make every sum exact."""
    shape, (kernel, stride, padding) = geometry
    layer = MaxPool2d(kernel, stride, padding)
    rng = np.random.default_rng(shape[0])
    x = rng.integers(-levels, levels, shape).astype(dtype)
    dy = rng.integers(-9, 10, (shape[0], *layer.output_shape(shape[1:]))).astype(dtype)
    found = run_layers([layer], x, dy)
    assert_array_equal(found.y, naive.max_pool2d(x, kernel, stride or kernel, padding))
    assert_array_equal(found.dx, naive.max_pool2d_backward(x, dy, kernel, stride or kernel, padding))


# average pools


def test_the_mean_of_a_window():
    y, dx = pooled([[1, 2, 9], [3, 6, 9], [9, 9, 9]], [[8]], (2, 2), kind=AvgPool2d)
    assert_array_equal(y, [[3]])
    assert_array_equal(dx, [[2, 2, 0], [2, 2, 0], [0, 0, 0]])


def test_padding_does_not_count():
    # windows of one, two, two and four pixels
    x = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
    y, dx = pooled(x, [[1, 2], [4, 8]], (2, 2), (2, 2), (1, 1), kind=AvgPool2d)
    assert_array_equal(y, [[1, 2.5], [5.5, 7]])
    assert_array_equal(dx, [[1, 1, 1], [2, 2, 2], [2, 2, 2]])


def test_windows_that_overlap_share_their_pixels():
    y, dx = pooled([[1, 3, 5]], [[2, 4]], (1, 2), (1, 1), kind=AvgPool2d)
    assert_array_equal(y, [[2, 4]])
    assert_array_equal(dx, [[1, 3, 2]])


@given(geometries(), st.sampled_from([np.float32, np.float64]))
def test_avg_pool_is_the_naive_loop(geometry, dtype):
    shape, (kernel, stride, padding) = geometry
    layer = AvgPool2d(kernel, stride, padding)
    rng = np.random.default_rng(shape[0])
    x = rng.integers(-99, 100, shape).astype(dtype)
    dy = rng.integers(-9, 10, (shape[0], *layer.output_shape(shape[1:]))).astype(dtype)
    found = run_layers([layer], x, dy)
    close = {"rtol": 1e-5, "atol": 1e-5} if dtype == np.float32 else {"rtol": 1e-13, "atol": 1e-13}
    assert_allclose(found.y, naive.avg_pool2d(x, kernel, stride or kernel, padding), **close)
    expected = naive.avg_pool2d_backward(x, dy, kernel, stride or kernel, padding)
    assert_allclose(found.dx, expected, **close)


@given(st.tuples(*[st.integers(1, 9)] * 4))
def test_global_avg_pool_is_the_mean_of_each_channel(shape):
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(shape), rng.standard_normal(shape[:2])
    found = run_layers([GlobalAvgPool()], x, dy)
    assert_allclose(found.y, x.mean(axis=(2, 3)), rtol=1e-12, atol=1e-14)
    shares = np.broadcast_to(dy[:, :, None, None] / (shape[2] * shape[3]), shape)
    assert_allclose(found.dx, shares, rtol=1e-14)
