"""Layouts by explicit indices, and what bytes mean."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from mnistnet.engine.arrays import (
    ALIGNMENT,
    PixelScale,
    aligned,
    aligned_copy,
    chw_order,
    engine_shape,
    from_engine,
    rows_as_engine,
)

N, C, H, W = 2, 3, 4, 5
IMAGES = np.arange(N * C * H * W).reshape(N, C, H, W)


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (1000, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
def test_aligned_arrays_are_zeros_that_begin_where_a_cache_line_does(shape, dtype):
    found = [aligned(shape, dtype) for _ in range(5)]
    for array in found:
        assert (array.shape, array.dtype) == (shape, dtype)
        assert array.ctypes.data % ALIGNMENT == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert not array.any()


def test_an_aligned_copy_is_a_copy():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)[:, 1:]
    copy = aligned_copy(values)
    assert_array_equal(copy, values)
    assert copy.ctypes.data % ALIGNMENT == 0
    assert not np.shares_memory(copy, values)


def test_engine_shape():
    assert engine_shape((C, H, W), N) == (H, C, W, N)
    assert engine_shape((7,), N) == (7, N)


def test_rows_as_engine_is_a_view_with_the_batch_innermost():
    rows = IMAGES.reshape(N, -1)
    view = rows_as_engine(rows, (C, H, W))
    assert view.shape == (H, C, W, N)
    assert np.shares_memory(view, rows)
    for n, c, h, w in np.ndindex(N, C, H, W):
        assert view[h, c, w, n] == IMAGES[n, c, h, w]
    features = rows_as_engine(rows, (C * H * W,))
    assert features.shape == (C * H * W, N)
    assert features[7, 1] == rows[1, 7]


def test_from_engine_is_the_way_back():
    there = rows_as_engine(IMAGES.reshape(N, -1), (C, H, W))
    assert_array_equal(from_engine(there), IMAGES)
    assert np.shares_memory(from_engine(there), IMAGES)
    features = np.arange(6).reshape(3, 2)
    assert_array_equal(from_engine(features), [[0, 2, 4], [1, 3, 5]])


def test_chw_order_flattens_as_the_world_does():
    there = rows_as_engine(IMAGES.reshape(N, -1), (C, H, W))
    ordered = chw_order(there)
    assert ordered.shape == (C, H, W, N)
    assert_array_equal(ordered[..., 1].ravel(), IMAGES[1].ravel())


def test_bytes_become_numbers_between_zero_and_one():
    images = np.array([[0, 51, 255]], np.uint8)
    floats = PixelScale().apply(images)
    assert floats.dtype == np.float32
    np.testing.assert_allclose(floats, [[0, 0.2, 1]], rtol=1e-6)
    assert_array_equal(images, [[0, 51, 255]])


def test_scale_and_shift():
    # -1 .. 1, in numbers that are exact: 128 / 64 - 1
    floats = PixelScale(1 / 64, -1.0).apply(np.array([0, 64, 128], np.uint8), np.float64)
    assert floats.dtype == np.float64
    assert_array_equal(floats, [-1, 0, 1])


def test_float_images_are_taken_as_they_are():
    images = np.array([0.25, 7.0])
    floats = PixelScale(1 / 64, -1.0).apply(images)
    assert floats.dtype == np.float32
    assert_array_equal(floats, images)
    assert not np.shares_memory(PixelScale().apply(images.astype(np.float32)), images)


def test_a_pixel_scale_does_not_change():
    with pytest.raises(AttributeError):
        PixelScale().scale = 1.0  # type: ignore[misc]
