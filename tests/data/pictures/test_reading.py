"""A person's picture on the whole way to the model."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from picture_helpers import SAMPLES, SHAPE, encode, likeness, message, on_canvas, read, sample
from PIL import Image, ImageDraw

from mnistnet.data.pictures import read_digits, read_picture

# --- raw bytes --------------------------------------------------------------------------------------------


def test_bin_is_taken_as_it_is(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(range(256)) * 3 + bytes(16))
    picture = read_picture(path, SHAPE, name="x.bin")
    assert picture.pixels.shape == SHAPE
    assert picture.pixels.dtype == np.uint8
    assert picture.pixels[0, 1].tolist() == list(range(28, 56))
    assert picture.notes == ()
    assert np.array_equal(read(path.read_bytes()).pixels, picture.pixels)


def test_bin_is_never_inverted():
    light = 255 - sample(3)
    assert np.array_equal(read(light.tobytes()).pixels[0], light)


def test_bin_of_a_colour_model():
    content = bytes(range(12)) + bytes(range(12))
    assert read(content, (3, 2, 4)).pixels[1].tolist() == [[8, 9, 10, 11], [0, 1, 2, 3]]


def test_row_76_bin_of_the_wrong_length(tmp_path):
    path = tmp_path / "x.bin"
    path.write_bytes(bytes(783))
    assert message(path) == "photo: expected 784 bytes (28x28), found 783"
    assert message(path, (3, 32, 32)) == "photo: expected 3072 bytes (3x32x32), found 783"


def test_bytes_that_are_nothing_known():
    says = "expected a picture (PNG, JPEG, PBM, PGM, PPM, BMP, GIF, WebP) or 784 bytes (28x28), found 9 bytes"
    assert message(b"some text") == f"photo: {says}"


def test_row_80_blank_bin():
    assert message(bytes(784)) == "photo: no digit found: the picture is blank"


def test_row_81_no_data(tmp_path):
    assert message(b"") == "photo: no data"
    for name in ("empty.bin", "empty.png"):
        (tmp_path / name).touch()
        assert message(tmp_path / name) == "photo: no data"


# --- pictures of the model's own size ---------------------------------------------------------------------


def test_dark_on_light_is_inverted_and_said():
    picture = read(encode(255 - sample(7)))
    assert np.array_equal(picture.pixels[0], sample(7))
    assert picture.notes == ("inverted: dark ink on a light ground",)


def test_samples_are_the_same_as_bin_and_as_png():
    for digit in range(10):
        found = [read_picture(SAMPLES / f"{digit}.{kind}", SHAPE, name="x").pixels for kind in ("bin", "png")]
        assert np.array_equal(*found)


@pytest.mark.parametrize("level", [0, 128, 255])
@pytest.mark.parametrize("size", [(28, 28), (200, 300), (3, 2), (1, 1)])
def test_row_80_blank(size, level):
    assert message(encode(np.full(size, level, np.uint8))) == "photo: no digit found: the picture is blank"


@pytest.mark.parametrize("sigma", [3, 20, 70])
def test_row_80_nothing_but_grain_and_shade_is_blank(sigma):
    y, x = np.mgrid[0:200, 0:300] / 200.0
    paper = 190 - 40 * x - 30 * (y - 0.5) ** 2 + np.random.default_rng(0).normal(0, sigma, (200, 300))
    assert "no digit found" in message(encode(np.clip(paper, 0, 255).astype(np.uint8)))


# --- the whole way ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("digit", range(10))
@pytest.mark.parametrize(("side", "corner"), [(60, (5, 230)), (120, (70, 20)), (190, (4, 90))])
def test_dark_digit_somewhere_on_white(digit, side, corner):
    ink = on_canvas(digit, side, 200, 300, corner)
    picture = read(encode((255 * (1 - ink)).astype(np.uint8)))
    assert likeness(picture.pixels[0], sample(digit)) > 0.9
    assert picture.pixels.max() == 255
    assert picture.notes[0] == "inverted: dark ink on a light ground"
    assert picture.notes[1].startswith("digit found, scaled to ")


@pytest.mark.parametrize("digit", range(10))
def test_photo_like(digit):
    rng = np.random.default_rng(digit)
    ink = on_canvas(digit, 180, 300, 400, (30 + 8 * digit, 15 * digit))
    y, x = np.mgrid[0:300, 0:400] / 400.0
    light = 225 - 70 * x + 20 * y - 50 * (x - 0.4) ** 2
    photo = light * (1 - ink) + 60 * ink + rng.normal(0, 10, ink.shape)
    picture = read(encode(np.clip(photo, 0, 255).astype(np.uint8), "JPEG", quality=70))
    assert likeness(picture.pixels[0], sample(digit)) > 0.92
    assert np.percentile(picture.pixels[picture.pixels > 16], 80) > 240


def test_light_digit_on_dark_keeps_its_side():
    ink = on_canvas(3, 100, 200, 300, (10, 10))
    picture = read(encode((20 + 200 * ink).astype(np.uint8)))
    assert likeness(picture.pixels[0], sample(3)) > 0.93
    assert len(picture.notes) == 1


def test_the_place_on_the_canvas_does_not_matter():
    found = [
        read(encode((255 * (1 - on_canvas(5, 90, 200, 300, corner))).astype(np.uint8))).pixels
        for corner in [(3, 3), (100, 200), (50, 101)]
    ]
    assert likeness(found[0], found[1]) > 0.99
    assert likeness(found[0], found[2]) > 0.99


def test_mass_sits_in_the_middle_and_the_longer_side_has_20_pixels():
    for digit in range(10):
        ink = on_canvas(digit, 150, 200, 300, (40, 120))
        pixels = read(encode((255 * (1 - ink)).astype(np.uint8))).pixels[0].astype(float)
        rows, columns = (np.flatnonzero(pixels.any(axis=axis)) for axis in (1, 0))
        assert 19 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= 20
        y, x = np.mgrid[0:28, 0:28]
        assert abs((pixels * y).sum() / pixels.sum() - 14) <= 0.51
        assert abs((pixels * x).sum() / pixels.sum() - 14) <= 0.51


def test_a_ballpoint_line_on_a_large_photo():
    image = Image.new("L", (1600, 1200), 210)
    ImageDraw.Draw(image).line([(600, 300), (1000, 300), (750, 900)], fill=70, width=8)
    pixels = read(encode(image, "JPEG")).pixels[0]
    assert np.count_nonzero(pixels > 200) >= 30  # a line of some 33 pixels length that a network can see


def test_other_model_sizes():
    ink = on_canvas(3, 150, 200, 300, (40, 120))
    pixels = read(encode((255 * (1 - ink)).astype(np.uint8)), (1, 56, 42)).pixels[0]
    assert pixels.shape == (56, 42)
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    assert np.ptp(rows) + 1 <= 40
    assert np.ptp(columns) + 1 <= 30


def test_colour_model():
    rgb = np.zeros((8, 6, 3), np.uint8)
    rgb[..., 0], rgb[..., 1], rgb[..., 2] = 10, 20, 30
    same = read(encode(rgb), (3, 8, 6))
    assert same.pixels[:, 3, 3].tolist() == [10, 20, 30]
    assert same.notes == ()
    resized = read(encode(rgb), (3, 4, 4))
    assert resized.pixels.shape == (3, 4, 4)
    assert resized.pixels[:, 1, 1].tolist() == [10, 20, 30]
    assert resized.notes == ("resized from 6x8 to 4x4",)


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_size_of_a_photo_is_that_of_its_file(orientation):
    """Its decoder gives a half or a quarter of it."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    turned = orientation == 6
    photo = Image.new("L", (3000, 2000), 210)
    ImageDraw.Draw(photo).line([(600, 300), (1000, 300), (750, 900)], fill=70, width=40)
    grey = read(encode(photo, "JPEG", exif=exif))
    assert grey.steps[0].reason == f"{'2000x3000' if turned else '3000x2000'} pixels in grey"
    assert max(grey.steps[0].grey.shape) < 3000
    colour = read(encode(photo.convert("RGB").resize((2000, 1500)), "JPEG", exif=exif), (3, 64, 64))
    assert colour.notes[-1] == f"resized from {'1500x2000' if turned else '2000x1500'} to 64x64"


def test_strange_number_of_channels():
    assert message(encode(sample(7)), (4, 28, 28)).startswith("photo: pictures have 1 or 3 channels")


def test_pillow_is_imported_only_when_a_picture_is_read():
    code = "import sys, mnistnet.data; sys.exit('PIL' in sys.modules)"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0


# --- several digits, and the way there --------------------------------------------------------------------


def number(digits: str, gap: int = 10) -> bytes:
    """A number as a person writes it: samples side by side, dark on light paper."""
    rows = [np.asarray(Image.fromarray(sample(int(digit))).resize((90, 90))) for digit in digits]
    ink = np.pad(np.concatenate([np.pad(row, ((0, 0), (0, gap))) for row in rows], axis=1), 30)
    return encode((230 - ink * 0.7).astype(np.uint8))


@pytest.mark.parametrize("digits", ["10", "472", "8036", "1234567890"])
def test_digits_are_read_from_left_to_right(digits):
    pictures = read_digits(number(digits), SHAPE, name="-")
    assert len(pictures) == len(digits)
    for picture, digit in zip(pictures, digits, strict=True):
        assert picture.digits == len(digits)
        assert likeness(picture.pixels[0], sample(int(digit))) > 0.8


def test_several_digits_read_as_one_are_counted():
    picture = read(number("42"))
    assert picture.digits == 2
    assert picture.pixels.shape == SHAPE


@pytest.mark.parametrize("digit", range(10))
def test_one_digit_is_one(digit):
    assert read(number(str(digit))).digits == 1
    (only,) = read_digits(number(str(digit)), SHAPE, name="-")
    assert np.array_equal(only.pixels, read(number(str(digit))).pixels)


def test_a_picture_of_the_models_size_is_one_digit():
    (only,) = read_digits(encode(sample(7)), SHAPE, name="-")
    assert np.array_equal(only.pixels[0], sample(7))


def test_the_steps_lead_from_the_photo_to_what_the_model_sees():
    picture = read(number("3"))
    assert [step.name for step in picture.steps] == ["photo", "ink", "clean", "cropped", "scaled", "centred"]
    assert all(step.grey.dtype == np.uint8 and step.grey.ndim == 2 for step in picture.steps)
    assert all(step.reason for step in picture.steps)
    assert np.array_equal(picture.steps[-1].grey, picture.pixels[0])
    assert max(picture.steps[-2].grey.shape) == 20
    assert [step.name for step in read(encode(255 - sample(7))).steps] == ["picture", "inverted"]
    assert [step.name for step in read(sample(7).tobytes()).steps] == ["picture"]
    colour = read(encode(np.zeros((9, 9, 3), np.uint8)), (3, 4, 4))
    assert [step.name for step in colour.steps] == ["photo", "resized"]
