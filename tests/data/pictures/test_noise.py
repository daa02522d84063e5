"""Ink parted from grain and specks."""

from __future__ import annotations

import numpy as np

from mnistnet.data.pictures import noise


def test_remove_noise_takes_grain_and_specks_away_and_keeps_the_ink():
    rng = np.random.default_rng(0)
    ink = np.zeros((120, 120), np.float32)
    ink[30:90, 50:60] = 100
    ink[30:38, 60:80] = 100
    ink[100:102, 100:102] = 150  # a speck
    ink[:, 0:6] = 130  # the edge of a table
    noisy = np.maximum(ink + rng.normal(0, 8, ink.shape), 0).astype(np.float32)
    clean = noise.remove_noise(noisy)
    assert clean[35:85, 53:57].min() > 220
    assert clean[:, :20].max() == 0
    assert clean[95:, 95:].max() == 0
    assert np.count_nonzero(clean) < 1.6 * (60 * 10 + 8 * 20)


def test_remove_noise_keeps_a_detached_bar():
    ink = np.zeros((60, 60), np.float32)
    ink[10:50, 20:26] = 200
    ink[10:14, 32:44] = 200  # the bar of a 5, not joined
    assert noise.remove_noise(ink)[12, 38] == 255


def test_a_digit_that_touches_the_border_is_kept():
    ink = np.zeros((40, 30), np.float32)
    ink[:, 10:16] = 200
    assert np.count_nonzero(noise.remove_noise(ink)) == 40 * 6
