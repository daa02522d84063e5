"""Convolution against the naive loops: any geometry, any of the ways in which the work is cut up."""

from dataclasses import dataclass, replace

import engine_naive as naive
import numpy as np
import pytest
from engine_probes import Array, WeightedSum, run_layers
from hypothesis import assume, example, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from mnistnet.engine import blas
from mnistnet.engine.layers import Conv2d, MaxPool2d, lowering
from mnistnet.engine.layers.winograd import suits
from mnistnet.engine.network import Network
from mnistnet.errors import ShapeError


@dataclass(frozen=True)
class Case:
    n: int
    c: int
    h: int
    w: int
    k: int
    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)

    @property
    def layer(self) -> Conv2d:
        return Conv2d(self.k, self.kernel, self.stride, self.padding)

    @property
    def is_winograd(self) -> bool:
        _, p, q = self.layer.output_shape((self.c, self.h, self.w))
        return suits(
            lowering.Geometry(
                self.h, self.c, self.w, self.n, self.k, *self.kernel, self.stride, self.padding, p, q
            )
        )

    def draw(self, dtype: type) -> tuple[Array, Array, Array, Array]:
        """x, weight, bias and dy."""
        rng = np.random.default_rng(self.n)
        _, p, q = self.layer.output_shape((self.c, self.h, self.w))
        shapes = (
            (self.n, self.c, self.h, self.w),
            (self.k, self.c, *self.kernel),
            (self.k,),
            (self.n, self.k, p, q),
        )
        x, weight, bias, dy = (rng.standard_normal(shape).astype(dtype) for shape in shapes)
        return x, weight, bias, dy


SMALL = st.integers(1, 6)
CHANNELS = SMALL | st.sampled_from([8, 16, 31, 32, 33, 40])
BATCH = st.integers(1, 70) | st.sampled_from([1, 16, 32, 48, 64])


@st.composite
def cases(draw: st.DrawFn) -> Case:
    kernel = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    h, w = (max(1, size - 2 * p) + draw(SMALL) - 1 for size, p in zip(kernel, padding, strict=True))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    return Case(draw(BATCH), draw(CHANNELS), h, w, draw(CHANNELS), kernel, stride, padding)


def check(case: Case, dtype: type) -> None:
    """Output and all three gradients; errors are measured against the same sums of absolute values."""
    tolerance = 1e-10
    if dtype == np.float32:
        # float32 rounds at 6e-8; sums of up to 15,000 terms, in an order that BLAS chooses; and Winograd's
        # transforms cost one and a half digits more
        tolerance = 3e-5 if case.is_winograd else 3e-6
    x, weight, bias, dy = case.draw(dtype)
    geometry = case.stride, case.padding
    found = run_layers([case.layer], x, dy, {"0.weight": weight, "0.bias": bias})
    pairs = zip(
        ("y", "dx", "weight", "bias"),
        (found.y, found.dx, found.parameters["0.weight"], found.parameters["0.bias"]),
        (naive.conv2d(x, weight, bias, *geometry), *naive.conv2d_backward(x, weight, dy, *geometry)),
        (
            naive.conv2d(abs(x), abs(weight), abs(bias), *geometry),
            *naive.conv2d_backward(abs(x), abs(weight), abs(dy), *geometry),
        ),
        strict=True,
    )
    for name, values, expected, scale in pairs:
        assert values.dtype == dtype
        assert values.shape == expected.shape
        if case.is_winograd:
            scale = scale.max()  # its roundings are as large as the tile's largest number
        error = np.abs(values - expected) - tolerance * scale
        assert error.max() <= 0, f"{name} is off by {np.abs(values - expected).max()}"


# K < 32 with K x patch > 1200: the weight gradient in 4 pieces of 32 and of 50, in 11 of 13, and in one where
# the patch is 43, a prime number; K >= 32: its factors swapped
@example(Case(7, 8, 6, 6, 31, (4, 4)))
@example(Case(7, 8, 12, 12, 16, (5, 5)))
@example(Case(32, 13, 11, 3, 31, (11, 1)))
@example(Case(7, 43, 3, 3, 31, (1, 1)))
@example(Case(16, 2, 5, 5, 32, (3, 3)))
@example(Case(1, 1, 1, 1, 1, (1, 1)))
@example(Case(2, 1, 3, 4, 2, (2, 2), padding=(3, 3)))
@example(Case(2, 2, 1, 1, 2, (5, 4), stride=(3, 2), padding=(3, 3)))
@given(cases())
def test_float64_is_the_naive_loop(case):
    check(case, np.float64)


@given(cases())
def test_float32_is_the_naive_loop_up_to_rounding(case):
    check(case, np.float32)


@st.composite
def winograd_cases(draw: st.DrawFn) -> Case:
    """Stride 1 along the height, kernels of 3 to 5 rows, channels and images enough."""
    kernel = draw(st.tuples(st.integers(3, 5), st.integers(1, 5)))
    padding = draw(st.tuples(st.integers(0, 3), st.integers(0, 3)))
    h, w = (max(1, size - 2 * p) + draw(st.integers(0, 9)) for size, p in zip(kernel, padding, strict=True))
    c, k = draw(st.sampled_from([(40, 10), (11, 37), (20, 20), (23, 29)]))
    return Case(draw(st.integers(8, 40)), c, h, w, k, kernel, (1, draw(st.integers(1, 3))), padding)


# every tile whole and no padding, so that the input is used where it stands; one row beyond a tile
@example(Case(32, 8, 12, 12, 16, (5, 5)))
@example(Case(16, 32, 10, 5, 32, (3, 3)))
@example(Case(8, 20, 11, 4, 20, (4, 3)))
@example(Case(8, 20, 7, 4, 20, (3, 3), (1, 1), (1, 1)))
@given(winograd_cases())
def test_winograd_is_the_naive_loop(case):
    assume(case.is_winograd)
    check(case, np.float64)
    check(case, np.float32)


def test_which_correlations_are_winograd():
    """By their sizes alone; the cases on both sides of each limit."""
    yes = Case(8, 8, 12, 12, 10, (5, 5))  # 10 x 8 x 5 = 400
    assert yes.is_winograd
    assert not replace(yes, n=7).is_winograd
    assert not replace(yes, k=9).is_winograd
    assert not replace(yes, stride=(2, 1)).is_winograd
    assert replace(yes, stride=(1, 2)).is_winograd
    assert not replace(yes, kernel=(2, 5), k=40).is_winograd
    assert not replace(yes, kernel=(6, 5), k=40).is_winograd
    # one output row costs 8 products in place of 5
    assert not replace(yes, h=5).is_winograd


@pytest.mark.parametrize(
    ("case", "limit"),
    [
        (Case(64, 8, 5, 12, 40, (2, 5)), 1_000_000),
        (Case(64, 8, 12, 12, 16, (5, 5)), 50_000),
        (Case(32, 3, 9, 10, 33, (3, 3), padding=(1, 1)), 50_000),
        (Case(48, 2, 7, 8, 5, (3, 2), stride=(2, 1)), 5_000),
        (Case(16, 4, 9, 9, 8, (3, 3), (1, 2), (0, 2)), 15_000),
    ],
    ids=str,
)
def test_cut_products_are_the_naive_loop(case, limit, monkeypatch):
    """Whatever the BLAS of this machine is; and they are really cut, or this test would be empty."""
    pieces = []

    def noting(size: int, others: int, **options: int) -> int:
        block = blas.block_of(size, others, **options)
        pieces.append(size // block)
        return block

    monkeypatch.setattr(lowering, "block_of", noting)
    monkeypatch.setattr(blas, "SMALL_PRODUCT", limit)
    monkeypatch.setattr(blas, "cuts_products", lambda: True)
    check(case, np.float64)
    check(case, np.float32)
    assert max(pieces) > 1

    pieces.clear()
    monkeypatch.setattr(blas, "cuts_products", lambda: False)
    check(case, np.float64)
    assert set(pieces) == {1}


def test_pixels_that_no_window_sees():
    """Kernel 1, stride 2 and padding 1 on a single column: both windows see padding only."""
    x = np.ones((2, 1, 1, 1))
    dy = np.ones((2, 1, 1, 2))
    weight, bias = np.full((1, 1, 1, 1), 3.0), np.array([0.5])
    found = run_layers(
        [Conv2d(1, (1, 1), stride=(1, 2), padding=(0, 1))], x, dy, {"0.weight": weight, "0.bias": bias}
    )
    assert_array_equal(found.y, np.full((2, 1, 1, 2), 0.5))
    assert_array_equal(found.dx, np.zeros((2, 1, 1, 1)))
    assert_array_equal(found.parameters["0.weight"], [[[[0]]]])
    assert_array_equal(found.parameters["0.bias"], [4])


@pytest.mark.parametrize(
    "case",
    [
        Case(5, 2, 10, 11, 3, (3, 2)),
        Case(5, 2, 10, 11, 3, (3, 2), (2, 2)),
        Case(8, 20, 10, 11, 20, (3, 3)),
        Case(8, 20, 9, 11, 20, (4, 3), padding=(1, 2)),
    ],
    ids=str,
)
def test_the_first_layer_computes_no_gradient_of_the_images(case):
    """With nothing to train below it, the gradients of its own parameters are the same, to the bit."""
    x, weight, bias, dy = case.draw(np.float64)
    parameters = {"0.weight": weight, "0.bias": bias}
    network = Network([case.layer], x.shape[1:], np.float64)
    for name, view in network.parameters().items():
        view[...] = parameters[name]
    _, gradients = network.loss_and_gradients(x, np.zeros(len(x), np.intp), WeightedSum(dy))
    expected = run_layers([case.layer], x, dy, parameters).parameters
    for name, values in expected.items():
        assert_array_equal(gradients[name], values)


@pytest.mark.parametrize(
    "case",
    [
        Case(5, 2, 10, 11, 3, (3, 2)),
        Case(5, 2, 10, 11, 3, (3, 2), (2, 2)),
        Case(8, 20, 10, 11, 20, (3, 3)),
        Case(8, 20, 11, 9, 20, (3, 3), padding=(1, 0)),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "pool", [((2, 2), (2, 2)), ((2, 2), (3, 3)), ((3, 2), (1, 2)), ((1, 1), (1, 1))], ids=str
)
def test_under_a_pool_whose_gradient_replaces_its_input(pool, case):
    """Output and gradient of a convolution share memory where windows neither overlap nor are padded."""
    geometry = case.stride, case.padding
    x, weight, bias, _ = case.draw(np.float64)
    z = naive.conv2d(x, weight, bias, *geometry)
    y = naive.max_pool2d(z, *pool)
    dy = np.random.default_rng(1).standard_normal(y.shape)
    dz = naive.max_pool2d_backward(z, dy, *pool)
    dx, d_weight, d_bias = naive.conv2d_backward(x, weight, dz, *geometry)
    found = run_layers([case.layer, MaxPool2d(*pool)], x, dy, {"0.weight": weight, "0.bias": bias})
    assert_allclose(found.y, y, rtol=1e-10, atol=1e-10)
    assert_allclose(found.dx, dx, rtol=1e-10, atol=1e-10)
    assert_allclose(found.parameters["0.weight"], d_weight, rtol=1e-10, atol=1e-10)
    assert_allclose(found.parameters["0.bias"], d_bias, rtol=1e-10, atol=1e-10)


def test_cross_correlation_does_not_flip_the_kernel():
    # the numbers of test_naive.py: 1 + 4 - 5, 2 + 6 - 6, 4 + 10 - 8, 5 + 12 - 9, plus 10
    x = np.arange(1.0, 10.0).reshape(1, 1, 3, 3)
    weight = np.array([[[[1.0, 2.0], [0.0, -1.0]]]])
    found = run_layers(
        [Conv2d(1, (2, 2))], x, np.ones((1, 1, 2, 2)), {"0.weight": weight, "0.bias": np.array([10.0])}
    )
    assert_array_equal(found.y, [[[[10, 12], [16, 18]]]])


def test_groups_and_dilation_by_hand():
    """Two groups of one channel each; the kernel's two rows lie two apart."""
    x = np.array([[[[1.0], [2.0], [3.0], [4.0]], [[5.0], [6.0], [7.0], [8.0]]]])
    weight = np.array([[[[1.0], [10.0]]], [[[2.0], [-1.0]]]])
    layer = Conv2d(2, (2, 1), dilation=(2, 1), groups=2)
    dy = np.ones((1, 2, 2, 1))
    found = run_layers([layer], x, dy, {"0.weight": weight, "0.bias": np.array([0.5, 0.0])})
    # 1 + 10 x 3, 2 + 10 x 4; 2 x 5 - 7, 2 x 6 - 8
    assert_array_equal(found.y, [[[[31.5], [42.5]], [[3.0], [4.0]]]])
    assert_array_equal(found.parameters["0.weight"], [[[[3.0], [7.0]]], [[[11.0], [15.0]]]])
    assert_array_equal(found.dx, [[[[1.0], [1.0], [10.0], [10.0]], [[2.0], [2.0], [-1.0], [-1.0]]]])


@given(cases(), st.integers(1, 4), st.tuples(st.integers(1, 3), st.integers(1, 3)))
def test_groups_and_dilation_are_plain_convolutions(case, groups, dilation):
    """Each group on its own, its kernel with zeros in the gaps."""
    case = replace(case, n=case.n % 9 + 1, c=case.c * groups, k=case.k * groups)
    layer = replace(case.layer, groups=groups, dilation=dilation)
    (r, s), (dr, ds) = case.kernel, dilation
    case = replace(case, h=case.h + (r - 1) * (dr - 1), w=case.w + (s - 1) * (ds - 1))
    rng = np.random.default_rng(case.n)
    x = rng.standard_normal((case.n, case.c, case.h, case.w))
    weight = rng.standard_normal((case.k, case.c // groups, r, s))
    bias = rng.standard_normal(case.k)
    dy = rng.standard_normal((case.n, *layer.output_shape(x.shape[1:])))
    found = run_layers([layer], x, dy, {"0.weight": weight, "0.bias": bias})
    wide = np.zeros((*weight.shape[:2], *layer.extent))
    wide[:, :, ::dr, ::ds] = weight
    parts = [
        (
            run_layers(
                [
                    replace(
                        layer,
                        out_channels=case.k // groups,
                        groups=1,
                        dilation=(1, 1),
                        kernel_size=layer.extent,
                    )
                ],
                a,
                b,
                {"0.weight": v, "0.bias": c},
            )
        )
        for a, b, v, c in zip(
            np.split(x, groups, 1),
            np.split(dy, groups, 1),
            np.split(wide, groups),
            np.split(bias, groups),
            strict=True,
        )
    ]
    assert_allclose(found.y, np.concatenate([p.y for p in parts], 1), rtol=1e-9, atol=1e-9)
    assert_allclose(found.dx, np.concatenate([p.dx for p in parts], 1), rtol=1e-9, atol=1e-9)
    d_wide = np.concatenate([p.parameters["0.weight"] for p in parts])[:, :, ::dr, ::ds]
    assert_allclose(found.parameters["0.weight"], d_wide, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Conv2d(5, 3, groups=2), "out_channels 5 must be a multiple of groups 2"),
        (lambda: Conv2d(4, 3, groups=0), "groups must be a whole number >= 1, found 0"),
        (
            lambda: Conv2d(4, 3, groups=2).output_shape((3, 9, 9)),
            "in 2 equal groups, found 3 channels",
        ),
        (lambda: Conv2d(4, 3, dilation=4).output_shape((1, 8, 8)), "a kernel of 9 does not fit into 8"),
    ],
)
def test_groups_and_dilation_that_do_not_fit(make, message):
    with pytest.raises(ShapeError, match=message):
        make()
