"""Picture files: every kind that is read, every fault that is said."""

from __future__ import annotations

import struct
import warnings
import zlib

import numpy as np
import pytest
from picture_helpers import SHAPE, encode, likeness, message, read, sample
from PIL import Image

from mnistnet.data.pictures import read_picture, reading
from mnistnet.errors import PictureError

# --- files ------------------------------------------------------------------------------------------------


def test_missing_file_and_directory(tmp_path):
    assert message(tmp_path / "none.png") == f"{tmp_path / 'none.png'}: no such file"
    assert message(tmp_path) == f"{tmp_path}: not a regular file, but a directory"


def test_path_with_spaces_and_unicode(tmp_path):
    path = tmp_path / "-ein Bild 数.png"
    path.write_bytes(encode(sample(4)))
    assert np.array_equal(read_picture(path, SHAPE, name=str(path)).pixels[0], sample(4))


@pytest.mark.parametrize("form", ["PNG", "PPM", "BMP", "GIF"])
def test_lossless_formats(form):
    picture = read(encode(sample(7), form))
    assert np.array_equal(picture.pixels[0], sample(7))
    assert picture.notes == ()


@pytest.mark.parametrize("form", ["JPEG", "WEBP"])
def test_lossy_formats(form):
    assert likeness(read(encode(sample(7), form, quality=95)).pixels[0], sample(7)) > 0.99


def test_pbm_by_hand():
    # P1: 1 is black. A bright bar on a dark ground.
    rows = ["1 1 1 1 1 1", "1 1 0 0 1 1", "1 1 0 0 1 1", "1 1 1 1 1 1"]
    picture = read(("P1\n6 4\n" + "\n".join(rows) + "\n").encode(), (1, 4, 6))
    assert picture.pixels[0].tolist() == [[0] * 6, [0, 0, 255, 255, 0, 0], [0, 0, 255, 255, 0, 0], [0] * 6]


@pytest.mark.parametrize("form", ["TIFF", "PDF"])
def test_other_formats_are_not_read(form):
    assert "expected a picture (PNG" in message(encode(sample(7), form))


# --- row 77: every kind of picture is converted -----------------------------------------------------------


def test_16_bits_are_scaled_not_clipped():
    wide = sample(7).astype(np.uint16) * 257
    assert np.array_equal(read(encode(wide)).pixels[0], sample(7))
    pgm = b"P5 28 28 65535\n" + wide.astype(">u2").tobytes()
    assert np.array_equal(read(pgm).pixels[0], sample(7))


def test_palette():
    image = Image.fromarray(sample(7)).convert("P")
    assert image.mode == "P"
    assert np.array_equal(read(encode(image)).pixels[0], sample(7))


def test_one_bit():
    image = Image.fromarray(sample(7) > 127)
    assert image.mode == "1"
    assert np.array_equal(read(encode(image)).pixels[0], np.where(sample(7) > 127, 255, 0))


def test_transparent_ground_becomes_white():
    # black ink whose alpha is the digit: on white that is dark on light, and so inverted
    rgba = np.zeros((28, 28, 4), np.uint8)
    rgba[..., 3] = sample(7)
    picture = read(encode(rgba))
    assert np.array_equal(picture.pixels[0], sample(7))
    assert picture.notes == ("transparent parts filled with white", "inverted: dark ink on a light ground")


def test_palette_with_transparency():
    image = Image.new("P", (28, 28), 0)
    image.putpalette([0, 0, 0, 0, 0, 0])
    image.paste(1, (10, 5, 14, 23))
    picture = read(encode(image, transparency=0))
    assert picture.pixels[0, 5:23, 10:14].min() == 255
    assert int(picture.pixels.astype(int).sum()) == 255 * 18 * 4


def test_exif_rotation():
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise by 90 degrees
    turned = Image.fromarray(sample(7)).transpose(Image.Transpose.ROTATE_90)
    picture = read(encode(turned, exif=exif))
    assert np.array_equal(picture.pixels[0], sample(7))
    assert picture.notes == ("rotated as its EXIF data says",)


def test_rgb_and_cmyk():
    rgb = Image.fromarray(sample(7)).convert("RGB")
    assert np.array_equal(read(encode(rgb)).pixels[0], sample(7))
    assert likeness(read(encode(rgb.convert("CMYK"), "JPEG", quality=95)).pixels[0], sample(7)) > 0.99


# --- rows 78 and 79: hostile and damaged pictures ---------------------------------------------------------


def png_header(width: int, height: int) -> bytes:
    """The beginning of a PNG, as far as the chunk that would hold its pixels."""
    header = b"IHDR" + struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0)
    chunks = (
        struct.pack(">I", len(each) - 4) + each + struct.pack(">I", zlib.crc32(each))
        for each in (header, b"IDAT")
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("width", [8_000, 12_000, 60_000])  # Pillow itself: silent, a warning, an error
def test_row_78_picture_bomb_is_refused_by_its_header(width):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "exceed the limit of 50000000 pixels: make it smaller" in message(png_header(width, width))


def test_file_too_large_to_be_a_picture(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "_MAX_BYTES", 100)
    (tmp_path / "a.png").write_bytes(encode(sample(7)))
    assert message(tmp_path / "a.png").endswith("more than the limit of 100 bytes")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM"])
def test_row_79_truncated(form):
    noise = np.random.default_rng(0).integers(0, 256, (90, 90), np.uint8)
    assert message(encode(noise, form)[:2000]).startswith("photo: cannot decode the picture: ")


@pytest.mark.parametrize("form", ["PNG", "GIF", "WEBP"])
def test_row_79_not_even_a_header(form):
    assert message(encode(sample(7), form)[:14]) == "photo: cannot decode the picture: its header is damaged"


@pytest.mark.parametrize("form", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "PPM"])
def test_no_damage_gets_past_as_another_error(form):
    rng = np.random.default_rng(0)
    whole = encode(rng.integers(0, 256, (40, 40), np.uint8), form)
    for _ in range(60):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 4):
            damaged[place] = rng.integers(0, 256)
        try:
            assert read(bytes(damaged)).pixels.shape == SHAPE
        except PictureError as error:
            assert str(error).startswith("-: ")  # noqa: PT017 (most damage is harmless, some is not)
