"""Augmentation: maps that are known, fields that are measured, and the same bits again."""

from __future__ import annotations

import re
from dataclasses import dataclass
from io import BytesIO
from itertools import product
from math import cos, floor, radians, sin

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mnistnet.data.augmentation import AUGMENTATIONS, Affine, Augmentation, Elastic, Shift, examples
from mnistnet.data.pictures_sheet import contact_sheet
from mnistnet.engine.losses import SoftmaxCrossEntropy
from mnistnet.engine.minibatch import Minibatches
from mnistnet.engine.optimizers import SGD
from mnistnet.engine.transform import transform_of
from mnistnet.errors import UsageError
from mnistnet.models import build

STILL: list[Augmentation] = [Shift(0), Affine(0, 0, 0, 0), Elastic(0, 0, 0, 0, displacement=0)]
every_kind = pytest.mark.parametrize("kind", AUGMENTATIONS.values())


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def blob(size: int, y: float, x: float) -> np.ndarray:
    """One float image of a soft spot at (y, x) from the middle."""
    rows, columns = np.mgrid[:size, :size] - (size - 1) / 2
    return np.exp(-((rows - y) ** 2 + (columns - x) ** 2) / 8).astype(np.float32)[np.newaxis, np.newaxis]


def middle_of_mass(image: np.ndarray) -> tuple[float, float]:
    rows, columns = (
        np.mgrid[: image.shape[0], : image.shape[1]] - (np.array(image.shape) - 1)[:, None, None] / 2
    )
    return float((rows * image).sum() / image.sum()), float((columns * image).sum() / image.sum())


def apply(augmentation: Augmentation, images: np.ndarray, rng: object = None) -> np.ndarray:
    bound = augmentation.bind(len(images), images.shape[1:])
    return bound(images, rng or np.random.default_rng(1)).copy()  # type: ignore[arg-type]


class Chosen:
    """A source of chance that always says the same."""

    def __init__(self, *values: float) -> None:
        self._values = np.array(values)

    def uniform(self, low: float, high: float, size: tuple[int, int]) -> np.ndarray:
        assert (low, high) == (-1, 1)
        return np.broadcast_to(self._values[:, np.newaxis], size)


@dataclass(frozen=True)
class Anywhere(Affine):
    """Takes every pixel from a place that has nothing to do with it."""

    reach: float = 0.0

    def basis(self, height: int, width: int) -> np.ndarray:
        return np.vstack([np.ones(height * width), np.random.default_rng(7).uniform(-1, 1, height * width)])

    def draw(self, coefficients: np.ndarray, side: int, rng: np.random.Generator) -> None:
        coefficients[...] = rng.uniform(-self.reach, self.reach, coefficients.shape)


def bilinear(image: np.ndarray, y: float, x: float) -> float:
    """The plain formula for one place, (0, 0) being the first pixel."""
    total = 0.0
    for row, column in product((floor(y), floor(y) + 1), (floor(x), floor(x) + 1)):
        if 0 <= row < image.shape[0] and 0 <= column < image.shape[1]:
            total += float(image[row, column]) * (1 - abs(y - row)) * (1 - abs(x - column))
    return total


# --- interpolation ----------------------------------------------------------------------------------------


@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    reach=st.sampled_from([0.5, 3.0, 20.0]),
)
def test_interpolation_is_the_plain_formula(shape, reach):
    n, channels, height, width = shape
    images, warp = noise(*shape), Anywhere(reach=reach)
    coefficients = np.empty((2, n, 2), np.float32)
    warp.draw(coefficients, 0, np.random.default_rng(1))
    middle = np.array([height - 1, width - 1])[:, np.newaxis, np.newaxis] / 2
    places = coefficients.astype(np.float64) @ warp.basis(height, width) + middle
    expected = [
        [[bilinear(images[i, c], y, x) for y, x in places[:, i].T] for c in range(channels)] for i in range(n)
    ]
    smooth = apply(warp, images.astype(np.float32))
    np.testing.assert_allclose(smooth.reshape(n, channels, -1), expected, atol=2e-2)
    found = apply(warp, images)
    assert found.dtype == np.uint8
    assert np.abs(found.astype(float) - smooth).max() <= 0.5


@pytest.mark.parametrize("warp", STILL, ids=str)
@given(
    shape=st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from(["uint8", "float32"]),
)
def test_no_strength_is_no_change(warp, shape, dtype):
    images = noise(*shape).astype(dtype)
    np.testing.assert_array_equal(apply(warp, images), images, strict=True)


@every_kind
def test_values_stay_in_range(kind):
    images = np.where(noise(16, 1, 28, 28) < 128, 0, 255).astype(np.uint8)
    found = apply(kind(), images.astype(np.float32))
    assert found.min() >= 0
    assert found.max() <= 255 + 1e-4
    white = apply(kind(), np.full((16, 3, 28, 28), 255, np.uint8))
    assert (white[:, :, 12:16, 12:16] == 255).all()  # nothing has wrapped round, and nothing has gone dark


# --- the maps ---------------------------------------------------------------------------------------------


def test_shifts_are_whole_and_what_comes_in_is_black():
    image = noise(1, 2, 5, 7)
    bordered = np.pad(image[0], [(0, 0), (2, 2), (2, 2)])
    expected = {
        bordered[:, down : down + 5, right : right + 7].tobytes()
        for down, right in product(range(5), repeat=2)
    }
    found = {row.tobytes() for row in apply(Shift(2), image.repeat(500, axis=0))}
    assert found == expected


@pytest.mark.parametrize("size", [6, 7])
@pytest.mark.parametrize("turn", [1, -1])
def test_a_quarter_turn(size, turn):
    images = noise(3, 2, size, size)
    found = apply(Affine(90, 0, 0, 0), images, Chosen(turn, 0, 0, 0, 0))
    np.testing.assert_array_equal(found, np.rot90(images, turn, axes=(2, 3)))


def test_the_affine_map_by_its_matrices():
    """Shifted, slanted, made larger and turned, in this order; y points down, a turn is anticlockwise."""
    rule = Affine(rotation=30, scale=0.2, shear=0.5, shift=0.1)
    found = apply(rule, blob(61, 5, -8), Chosen(0.5, 1.0, 0.4, 0.5, -1.0))[0, 0]
    angle, zoom, slant, down, right = radians(15), 1.2, 0.2, 0.05 * 61, -0.1 * 61
    turn = np.array([[cos(angle), sin(angle)], [-sin(angle), cos(angle)]])  # of (x, y)
    x, y = zoom * turn @ np.array([[1, slant], [0, 1]]) @ np.array([-8 + right, 5 + down])
    assert middle_of_mass(found) == pytest.approx((y, x), abs=0.02)
    assert found.sum() == pytest.approx(blob(61, 0, 0).sum() * zoom**2, rel=1e-2)


def test_drawn_limits_are_kept_and_used():
    """Of many draws, the coefficients that say how far."""
    rule = Affine(rotation=20, scale=0.0, shear=0.0, shift=0.1)
    coefficients = np.empty((2, 5000, 3), np.float32)
    rule.draw(coefficients, 30, np.random.default_rng(0))
    angles = np.degrees(np.arctan2(coefficients[0, :, 2], coefficients[0, :, 1]))
    for values, limit in ((angles, 20), (coefficients[0, :, 0], 3), (coefficients[1, :, 0], 3)):
        assert np.abs(values).max() <= limit + 1e-4
        assert values.min() < -0.99 * limit
        assert values.max() > 0.99 * limit
        assert abs(values.mean()) < 0.05 * limit


def test_mass_is_roughly_conserved():
    images = np.repeat(255 * blob(28, 1, -2), 200, axis=0)
    mass = images[0].sum()
    turned = apply(Affine(scale=0.0), images).sum(axis=(1, 2, 3))
    np.testing.assert_allclose(turned, mass, rtol=0.01)  # a shear and a turn keep areas
    assert apply(Elastic(), images).sum(axis=(1, 2, 3)).mean() == pytest.approx(mass, rel=0.1)


@pytest.mark.parametrize(("height", "width"), [(28, 28), (20, 31)])
def test_elastic_fields_are_as_strong_and_as_smooth_as_they_should_be(height, width):
    rule = Elastic(0, 0, 0, 0, displacement=0.05, smoothness=0.15)
    side = max(height, width)
    basis = rule.basis(height, width)
    coefficients = np.empty((2, 4000, len(basis)), np.float32)
    rule.draw(coefficients, side, np.random.default_rng(0))
    field = coefficients[:, :, 3:] @ basis[3:]
    strength = np.sqrt((field**2).mean(axis=(0, 1)))
    np.testing.assert_allclose(strength, 0.05 * side, rtol=0.05)  # at every pixel
    assert (
        abs(np.mean(field[0] * field[1])) < 0.01 * strength.mean() ** 2
    )  # y and x know nothing of each other
    # white noise after a Gaussian filter is correlated as exp(-distance^2 / (4 width^2))
    planes = field.reshape(-1, height, width)
    for distance in (2, 5, 8):
        expected = np.exp(-((distance / (0.15 * side)) ** 2) / 4)
        at, to = planes[:, 10, 6], planes[:, 10, 6 + distance]
        assert np.corrcoef(at, to)[0, 1] == pytest.approx(expected, abs=0.06)


# --- in training ------------------------------------------------------------------------------------------


@every_kind
def test_the_same_source_gives_the_same_bits_and_calls_leave_nothing_behind(kind):
    images = noise(5, 3, 11, 13)
    bound = kind().bind(5, (3, 11, 13))
    first = bound(images, np.random.default_rng(4)).copy()
    other = bound(noise(5, 3, 11, 13, seed=1), np.random.default_rng(5)).copy()
    assert bound(images, np.random.default_rng(4)).tobytes() == first.tobytes()
    assert other.tobytes() != first.tobytes()
    assert apply(kind(), images, np.random.default_rng(5)).tobytes() != first.tobytes()


@every_kind
def test_every_image_has_its_own_draw(kind):
    found = apply(kind(), noise(1, 1, 28, 28).repeat(8, axis=0))
    assert len({image.tobytes() for image in found}) > 4


def test_the_same_bits_with_any_number_of_workers():
    found = []
    for workers in (1, 2):
        with Minibatches(
            build("mlp").initialize(3),
            noise(64, 1, 28, 28),
            np.arange(64) % 10,
            loss=SoftmaxCrossEntropy(),
            optimizer=SGD(),
            batch_size=64,
            transform=Elastic(),
            workers=workers,
        ) as team:
            team.step(1, 0, 64, 0.1)
            found.append(team.network.vector.tobytes())
    assert found[0] == found[1]


@every_kind
def test_kinds_are_rebuilt_from_their_settings(kind):
    assert AUGMENTATIONS[kind.name] is kind
    assert transform_of(kind().spec()) == kind()


@pytest.mark.parametrize(
    ("kind", "strength", "expected"),
    [
        (Shift, 1.0, Shift(2)),
        (Shift, 0.7, Shift(1)),
        (Shift, 1.25, Shift(3)),
        (Affine, 0.5, Affine(rotation=5.0, scale=0.05, shear=0.05, shift=0.035)),
        (Elastic, 0.0, Elastic(rotation=0.0, scale=0.0, shear=0.0, shift=0.0, displacement=0.0)),
        (Affine, 4.0, Affine(rotation=40.0, scale=0.4, shear=0.4, shift=0.28)),
        (Elastic, 2.0, Elastic(rotation=20.0, scale=0.2, shear=0.2, shift=0.14, displacement=0.06)),
        *((kind, 1.0, kind()) for kind in AUGMENTATIONS.values()),
    ],
)
def test_strength_is_a_multiple_of_the_limits(kind, strength, expected):
    assert kind.of_strength(strength) == expected


@every_kind
@pytest.mark.parametrize("strength", [-0.1, 5.1, float("nan"), float("inf")])
def test_strength_out_of_range(kind, strength):
    with pytest.raises(UsageError, match=f"^--augment-strength: must be 0 to 5, found {strength}$"):
        kind.of_strength(strength)


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        (Shift, {"pixels": -1}, "pixels must be a whole number >= 0, found -1"),
        (Shift, {"pixels": 1.5}, "pixels must be a whole number >= 0, found 1.5"),
        (Affine, {"rotation": 181.0}, "rotation must be 0 to 180, found 181.0"),
        (Affine, {"scale": 1.0}, "scale must be 0 to 0.9, found 1.0"),
        (Affine, {"shear": float("nan")}, "shear must be 0 to 10, found nan"),
        (Elastic, {"shift": -0.1}, "shift must be 0 to 1, found -0.1"),
        (Elastic, {"displacement": 2.0}, "displacement must be 0 to 1, found 2.0"),
        (Elastic, {"smoothness": 0.0}, "smoothness must be 0.05 to 1, found 0.0"),
    ],
)
def test_settings_out_of_range(kind, settings, message):
    with pytest.raises(UsageError, match=f"^--augment: {re.escape(message)}$"):
        kind(**settings)


# --- a picture of it --------------------------------------------------------------------------------------


def test_examples_begin_with_the_original():
    images = noise(3, 1, 28, 28)
    rows = examples(Affine(), images, 4, np.random.default_rng(0))
    assert rows.shape == (3, 5, 1, 28, 28)
    np.testing.assert_array_equal(rows[:, 0], images, strict=True)
    assert len({variation.tobytes() for variation in rows[0]}) == 5
    np.testing.assert_array_equal(rows[:, 1], apply(Affine(), images, np.random.default_rng(0)))


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB"), (2, "L")])
def test_a_contact_sheet_shows_every_image_where_it_belongs(channels, mode):
    images = noise(2, 3, channels, 10, 20)
    with Image.open(BytesIO(contact_sheet(images))) as picture:
        assert (picture.format, picture.mode, picture.size) == ("PNG", mode, (3 * 84 + 4, 2 * 44 + 4))
        pixels = np.asarray(picture).reshape(92, 256, -1)
    for row, column in product(range(2), range(3)):
        # 20 pixels become 80: every fourth one, after a frame of four
        tile = pixels[4 + 44 * row : 44 + 44 * row, 4 + 84 * column : 84 + 84 * column]
        expected = images[row, column, : tile.shape[2]].transpose(1, 2, 0)
        np.testing.assert_array_equal(tile[::4, ::4], expected)
        np.testing.assert_array_equal(tile[3::4, 3::4], expected)
    assert (pixels[:4] == 96).all()
    assert (pixels[:, -4:] == 96).all()
