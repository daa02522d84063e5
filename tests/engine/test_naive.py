"""The naive loops against numbers worked out by hand: what all other tests of the engine lean on."""

import engine_naive as naive
import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

IMAGE = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]])
KERNEL = np.array([[[[1.0, 2.0], [0.0, -1.0]]]])


def test_conv2d_by_hand():
    # y[p, q] is x[p, q] plus twice its right neighbour minus the one diagonally below, plus the bias 10,
    # so 1 + 4 - 5, 2 + 6 - 6, 4 + 10 - 8, 5 + 12 - 9, and 10 each
    assert_array_equal(naive.conv2d(IMAGE, KERNEL, np.array([10.0])), [[[[10, 12], [16, 18]]]])


def test_conv2d_with_stride_and_padding_by_hand():
    # windows start at (-1, -1), (-1, 1), (1, -1), (1, 1): -1; -3; 2 x 4 - 7; 5 + 12 - 9
    y = naive.conv2d(IMAGE, KERNEL, np.array([0.0]), stride=(2, 2), padding=(1, 1))
    assert_array_equal(y, [[[[-1, -3], [1, 8]]]])


def test_conv2d_adds_channels_by_hand():
    x = np.array([2.0, 3.0]).reshape(1, 2, 1, 1)
    weight = np.array([[1.0, 10.0], [100.0, 1000.0]]).reshape(2, 2, 1, 1)
    # 2 + 30 and 200 + 3000
    assert_array_equal(naive.conv2d(x, weight, np.array([0.0, 1.0])).ravel(), [32, 3201])


def test_conv2d_backward_by_hand():
    dy = np.array([[[[1.0, 0.0], [0.0, 2.0]]]])
    dx, d_weight, d_bias = naive.conv2d_backward(IMAGE, KERNEL, dy)
    # the window (1 2, 4 5) once and (5 6, 8 9) twice
    assert_array_equal(d_weight, [[[[11, 14], [20, 23]]]])
    assert_array_equal(d_bias, [3])
    # the kernel laid down once at (0, 0) and twice at (1, 1)
    assert_array_equal(dx, [[[[1, 2, 0], [0, 1, 4], [0, 0, -2]]]])


def test_conv2d_backward_with_padding_leaves_out_the_border():
    # only the last element of the first window, and only the kernel's -1, meets a pixel
    dy = np.array([[[[5.0, 0.0], [0.0, 0.0]]]])
    dx, d_weight, _ = naive.conv2d_backward(IMAGE, KERNEL, dy, stride=(2, 2), padding=(1, 1))
    assert_array_equal(dx, [[[[-5, 0, 0], [0, 0, 0], [0, 0, 0]]]])
    assert_array_equal(d_weight, [[[[0, 0], [0, 5]]]])


TIES = np.array([[[[1.0, 3.0, 3.0], [2.0, 3.0, 0.0], [5.0, 4.0, 5.0]]]])


def test_max_pool2d_by_hand():
    assert_array_equal(naive.max_pool2d(TIES, (2, 2), (1, 1)), [[[[3, 3], [5, 5]]]])


def test_max_pool2d_padding_is_minus_infinity():
    x = -IMAGE[:, :, :2, :2]
    # kernel 2, stride 2, padding 1: each window sees one pixel, and never a zero
    assert_array_equal(naive.max_pool2d(x, (2, 2), (2, 2), (1, 1)), x)


def test_max_pool2d_backward_takes_one_maximum_by_hand():
    dy = np.array([[[[1.0, 2.0], [4.0, 8.0]]]])
    # windows (1 3, 2 3) and (3 3, 3 0) both choose the 3 in the middle of the first row: 1 + 2
    dx = naive.max_pool2d_backward(TIES, dy, (2, 2), (1, 1))
    assert_array_equal(dx, [[[[0, 3, 0], [0, 0, 0], [4, 0, 8]]]])


def test_max_pool2d_backward_of_ties_goes_left_then_up_by_hand():
    x = np.array([[[[1.0, 2.0, 7.0], [7.0, 7.0, 3.0], [7.0, 0.0, 0.0]]]])
    dx = naive.max_pool2d_backward(x, np.array([[[[5.0]]]]), (3, 3), (3, 3))
    assert_array_equal(dx, [[[[0, 0, 0], [5, 0, 0], [0, 0, 0]]]])


def test_avg_pool2d_by_hand():
    assert_array_equal(naive.avg_pool2d(IMAGE, (2, 2), (1, 1)), [[[[3, 4], [6, 7]]]])
    # windows of one, two, two and four pixels
    y = naive.avg_pool2d(IMAGE, (2, 2), (2, 2), (1, 1))
    assert_array_equal(y, [[[[1, 2.5], [5.5, 7]]]])


def test_avg_pool2d_backward_by_hand():
    dy = np.array([[[[1.0, 2.0], [4.0, 8.0]]]])
    dx = naive.avg_pool2d_backward(IMAGE, dy, (2, 2), (2, 2), (1, 1))
    assert_array_equal(dx, [[[[1, 1, 1], [2, 2, 2], [2, 2, 2]]]])
    dx = naive.avg_pool2d_backward(IMAGE, dy, (2, 2), (1, 1))
    assert_array_equal(4 * dx, [[[[1, 3, 2], [5, 15, 10], [4, 12, 8]]]])


def test_dense_by_hand():
    weight = np.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    x = np.array([[1.0, -1.0]])
    assert_array_equal(naive.dense(x, weight, np.array([1.0, 0.0, -1.0])), [[0, -1, -2]])
    dx, d_weight, d_bias = naive.dense_backward(x, weight, np.array([[1.0, 0.0, 2.0]]))
    assert_array_equal(dx, [[11, 14]])
    assert_array_equal(d_weight, [[1, -1], [0, 0], [2, -2]])
    assert_array_equal(d_bias, [1, 0, 2])


def test_softmax_by_hand():
    # exp(ln 3) is 3 times exp(0)
    y = naive.softmax(np.array([[0.0, np.log(3.0)]]))
    assert_allclose(y, [[1 / 4, 3 / 4]], rtol=1e-15)
    # y (dy - y . dy) with y . dy = 1/4
    assert_allclose(naive.softmax_backward(y, np.array([[1.0, 0.0]])), [[3 / 16, -3 / 16]], rtol=1e-15)


def test_cross_entropy_by_hand():
    logits = np.array([[0.0, np.log(3.0)], [0.0, 0.0]])
    loss, gradient = naive.cross_entropy(logits, np.array([0, 1]))
    # -log(1/4) and -log(1/2), over two samples
    assert_allclose(loss, (np.log(4.0) + np.log(2.0)) / 2, rtol=1e-15)
    assert_allclose(gradient, [[-3 / 8, 3 / 8], [1 / 4, -1 / 4]], rtol=1e-15)


def test_sigmoid_by_hand():
    # exp(ln 3) is 3: 3/4 and 1/4; y (1 - y) is 3/16
    y = naive.sigmoid(np.array([np.log(3.0), -np.log(3.0), 0.0]))
    assert_allclose(y, [3 / 4, 1 / 4, 1 / 2], rtol=1e-15)
    assert_allclose(naive.sigmoid_backward(y, np.array([1.0, 2.0, 4.0])), [3 / 16, 3 / 8, 1], rtol=1e-15)


def test_gelu_by_hand():
    # the normal distribution has 0.8413447460685429 below 1, and a density of 0.24197072451914337 there
    x = np.array([-1.0, 0.0, 1.0])
    assert_allclose(naive.gelu(x), [-0.15865525393145707, 0, 0.8413447460685429], rtol=1e-14)
    slopes = [0.15865525393145707 - 0.24197072451914337, 0.5, 0.8413447460685429 + 0.24197072451914337]
    assert_allclose(naive.gelu_backward(x, np.array([1.0, 2.0, 1.0])), [slopes[0], 1, slopes[2]], rtol=1e-13)


def test_batch_norm_by_hand():
    # channel 0: mean 3, variance 4, with epsilon 5 a deviation of 3; channel 1 does not vary
    x = np.array([[1.0, 7.0], [5.0, 7.0]])
    weight, bias = np.array([3.0, 2.0]), np.array([10.0, 0.5])
    assert_array_equal(naive.batch_norm(x, weight, bias, 5.0), [[8, 0.5], [12, 0.5]])


def test_batch_norm_backward_by_hand():
    x = np.array([[1.0, 7.0], [5.0, 7.0]])
    dy = np.array([[9.0, 1.0], [0.0, 3.0]])
    dx, d_weight, d_bias = naive.batch_norm_backward(x, np.array([3.0, 9.0]), dy, 5.0)
    # xhat is -2/3 and 2/3, then 0 and 0
    assert_allclose(d_weight, [-6, 0], rtol=1e-15)
    assert_allclose(d_bias, [9, 4], rtol=1e-15)
    # weight / deviation is 1: 9 - 9/2 - (-2/3)(-6)/2 = 2.5 and 0 - 9/2 - (2/3)(-6)/2 = -2.5
    # then 9 / sqrt(5) times 1 - 2 and 3 - 2
    assert_allclose(dx, [[2.5, -9 / np.sqrt(5)], [-2.5, 9 / np.sqrt(5)]], rtol=1e-14)


def test_smoothed_by_hand():
    assert_allclose(naive.smoothed(np.array([2, 0]), 4, 0.2), [[0.05, 0.05, 0.85, 0.05], [0.85, *[0.05] * 3]])


def test_soft_cross_entropy_by_hand():
    # the probabilities are 1/4 and 3/4
    loss, gradient = naive.soft_cross_entropy(np.array([[0.0, np.log(3.0)]]), np.array([[0.5, 0.5]]))
    assert_allclose(loss, (np.log(4) + np.log(4 / 3)) / 2, rtol=1e-15)
    assert_allclose(gradient, [[-1 / 4, 1 / 4]], rtol=1e-15)


def test_binary_cross_entropy_by_hand():
    # y = 1/2 and 3/4: log 2, whatever the target; -log(3/4) / 4 - log(1/4) x 3 / 4
    loss, gradient = naive.binary_cross_entropy(np.array([[0.0, np.log(3.0)]]), np.array([[1.0, 0.25]]))
    assert_allclose(loss, (np.log(2) + np.log(4 / 3) / 4 + np.log(4) * 3 / 4) / 2, rtol=1e-15)
    assert_allclose(gradient, [[-1 / 4, 1 / 4]], rtol=1e-15)


def test_mean_squared_error_by_hand():
    loss, gradient = naive.mean_squared_error(np.array([[1.0, 5.0]]), np.array([[0.0, 2.0]]))
    assert loss == 5
    assert_array_equal(gradient, [[1, 3]])
