"""A person's picture on its way to the model, step by step and as a whole."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from mnistnet.data import pictures, read_picture
from mnistnet.errors import PictureError

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
SHAPE = (1, 28, 28)


def encode(pixels: np.ndarray | Image.Image, form: str = "PNG", **options: object) -> bytes:
    stream = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(stream, form, **options)
    return stream.getvalue()


def sample(digit: int) -> np.ndarray:
    return np.frombuffer((SAMPLES / f"{digit}.bin").read_bytes(), np.uint8).reshape(28, 28)


def read(content: bytes, shape: tuple[int, int, int] = SHAPE) -> pictures.Picture:
    return read_picture(content, shape, name="-")


def message(source: bytes | Path, shape: tuple[int, int, int] = SHAPE) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(source, shape, name="photo")
    text = str(caught.value)
    assert "\n" not in text
    return text


def likeness(found: np.ndarray, wanted: np.ndarray) -> float:
    """Correlation of two pictures, the best of the nine shifts by at most a pixel."""
    shifts = [np.roll(found, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    return max(float(np.corrcoef(each.ravel(), wanted.ravel())[0, 1]) for each in shifts)


def on_canvas(digit: int, side: int, height: int, width: int, corner: tuple[int, int]) -> np.ndarray:
    """A digit's ink, float 0 to 1, enlarged to ``side`` pixels somewhere on a canvas."""
    ink = np.zeros((height, width))
    large = Image.fromarray(sample(digit)).resize((side, side), Image.Resampling.BICUBIC)
    y, x = corner
    ink[y : y + side, x : x + side] = np.asarray(large) / 255.0
    return ink


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
    says = (
        "photo: expected a picture (PNG, JPEG, PBM, PGM, PPM, BMP, GIF, WebP) or 784 bytes (28x28), found 9"
    )
    assert message(b"some text") == says


def test_row_80_blank_bin():
    assert message(bytes(784)) == "photo: no digit found: the picture is blank"


def test_row_81_no_data(tmp_path):
    assert message(b"") == "photo: no data"
    for name in ("empty.bin", "empty.png"):
        (tmp_path / name).touch()
        assert message(tmp_path / name) == "photo: no data"


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
    monkeypatch.setattr(pictures, "_MAX_BYTES", 100)
    (tmp_path / "a.png").write_bytes(encode(sample(7)))
    assert message(tmp_path / "a.png").endswith("bytes exceed the limit of 100 bytes for a picture")


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


# --- the steps --------------------------------------------------------------------------------------------


def test_light_is_found_below_the_ink():
    y, x = np.mgrid[0:100, 0:150].astype(np.float32)
    light = 120 + 0.6 * x + 0.2 * y - 0.004 * (x - 60) ** 2
    inked = light.copy()
    inked[20:80, 60:75] -= 90
    # a tenth of the picture's range would be 13
    assert np.abs(pictures.estimate_light(inked) - light)[5:-5, 5:-5].max() < 3


@pytest.mark.parametrize("inverted", [False, True])
def test_ink_on_dark_either_way_round(inverted):
    grey = np.full((60, 80), 40, np.float32)
    grey[20:40, 30:36] = 200
    ink, found = pictures.ink_on_dark(255 - grey if inverted else grey)
    assert found is inverted
    assert ink[25, 32] == pytest.approx(160, abs=2)
    assert ink[0].max() == pytest.approx(0, abs=2)


def test_a_wide_shadow_is_no_ink():
    plane = np.zeros((64, 64), np.float32)
    plane[:, 30:] = 50  # shadow
    plane[20:40, 10:15] = 90  # stroke
    wide = pictures.wide_parts(plane)
    assert wide[30, 50] == pytest.approx(50)
    assert wide[30, 12] == pytest.approx(0)


def test_remove_noise_takes_grain_and_specks_away_and_keeps_the_ink():
    rng = np.random.default_rng(0)
    ink = np.zeros((120, 120), np.float32)
    ink[30:90, 50:60] = 100
    ink[30:38, 60:80] = 100
    ink[100:102, 100:102] = 150  # a speck
    ink[:, 0:6] = 130  # the edge of a table
    noisy = np.maximum(ink + rng.normal(0, 8, ink.shape), 0).astype(np.float32)
    clean = pictures.remove_noise(noisy)
    assert clean[35:85, 53:57].min() > 220
    assert clean[:, :20].max() == 0
    assert clean[95:, 95:].max() == 0
    assert np.count_nonzero(clean) < 1.6 * (60 * 10 + 8 * 20)


def test_remove_noise_keeps_a_detached_bar():
    ink = np.zeros((60, 60), np.float32)
    ink[10:50, 20:26] = 200
    ink[10:14, 32:44] = 200  # the bar of a 5, not joined
    assert pictures.remove_noise(ink)[12, 38] == 255


def test_a_digit_that_touches_the_border_is_kept():
    ink = np.zeros((40, 30), np.float32)
    ink[:, 10:16] = 200
    assert np.count_nonzero(pictures.remove_noise(ink)) == 40 * 6


def test_crop_to_ink():
    ink = np.zeros((9, 8), np.float32)
    ink[2, 3] = ink[5, 6] = 255
    ink[0, 0] = 10  # too faint to count
    assert pictures.crop_to_ink(ink).shape == (4, 4)
    with pytest.raises(PictureError, match="no digit found"):
        pictures.crop_to_ink(np.zeros((5, 5), np.float32))


def test_stroke_width_of_a_long_bar():
    ink = np.zeros((300, 20), np.float32)
    ink[10:290, 5:12] = 255
    # 2 * area / outline = 2 * 7 * 280 / (2 * 287)
    assert pictures.stroke_width(ink) == pytest.approx(2 * 7 * 280 / (2 * 287), rel=0.01)


def test_thin_strokes_are_widened_and_thick_ones_left():
    thin = np.zeros((200, 100), np.float32)
    thin[:, 50:52] = 255
    scale = 20 / 200
    wide = pictures.thicken_strokes(thin, (20, 20))
    assert pictures.stroke_width(wide) * scale == pytest.approx(1.5, abs=0.15)
    thick = np.zeros((200, 100), np.float32)
    thick[:, 40:60] = 255
    assert pictures.thicken_strokes(thick, (20, 20)) is thick


@pytest.mark.parametrize(
    ("size", "expected"),
    [((200, 100), (20, 10)), ((50, 100), (10, 20)), ((7, 7), (20, 20)), ((400, 4), (20, 1))],
)
def test_scale_to_box_keeps_the_aspect(size, expected):
    assert pictures.scale_to_box(np.full(size, 255, np.float32), (20, 20)).shape == expected


def test_scale_to_box_makes_the_ink_bright_again():
    faint = np.zeros((200, 200), np.float32)
    faint[:, 98:102] = 255  # less than half a pixel of 20
    assert pictures.scale_to_box(faint, (20, 20)).max() == 255


def test_box():
    assert pictures.box_for((28, 28)) == (20, 20)
    assert pictures.box_for((56, 28)) == (40, 20)


def test_centre_by_mass():
    ink = np.zeros((20, 10), np.float32)
    ink[8, 2] = 255
    canvas = pictures.centre_by_mass(ink, (28, 28))
    assert np.argwhere(canvas).tolist() == [[14, 14]]
    assert pictures.centre_by_mass(np.ones((28, 28), np.float32), (28, 28)).all()


def test_centring_cuts_nothing_off():
    ink = np.zeros((20, 20), np.float32)
    ink[19, :] = 255  # all the weight at the bottom
    ink[0, 0] = 1
    canvas = pictures.centre_by_mass(ink, (28, 28))
    assert canvas.sum() == ink.sum()
    assert np.argwhere(canvas)[0].tolist() == [0, 5]  # as far up as it can go; 14 - 9.4995 across


def flood_fill(mask: np.ndarray) -> np.ndarray:
    """The naive way to number connected parts."""
    parts = np.zeros(mask.shape, int)
    for y, x in np.argwhere(mask):
        if parts[y, x]:
            continue
        number, todo = parts.max() + 1, [(y, x)]
        while todo:
            v, u = todo.pop()
            if 0 <= v < mask.shape[0] and 0 <= u < mask.shape[1] and mask[v, u] and not parts[v, u]:
                parts[v, u] = number
                todo += [(v + j, u + i) for j in (-1, 0, 1) for i in (-1, 0, 1)]
    return parts


@pytest.mark.parametrize("density", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_connected_parts_against_flood_fill(density):
    rng = np.random.default_rng(1)
    for shape in [(1, 1), (1, 9), (9, 1), (12, 17), (30, 30)]:
        mask = rng.random(shape) < density
        assert np.array_equal(pictures.connected_parts(mask), flood_fill(mask))


def test_connected_parts_of_a_long_winding_line():
    mask = np.ones((41, 30), np.bool_)
    mask[1::4, :-1] = False
    mask[3::4, 1:] = False
    assert pictures.connected_parts(mask).max() == 1
    mask[:, 15] = False
    assert (
        pictures.connected_parts(mask).max() == 11 + 11
    )  # pairs of rows joined at either side, one row alone


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


def test_strange_number_of_channels():
    assert message(encode(sample(7)), (4, 28, 28)).startswith("photo: pictures have 1 or 3 channels")


def test_pillow_is_imported_only_when_a_picture_is_read():
    code = "import sys, mnistnet.data; sys.exit('PIL' in sys.modules)"
    root = Path(__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
