"""Pictures as numbers and back: tones, sizes, formats."""

import io

import numpy as np
import pytest
from PIL import Image

from mnistnet.data.pictures.raster import (
    COLOUR,
    FORMATS,
    GREY,
    INK,
    TONES,
    Raster,
    check_format,
    encode_film,
    encode_raster,
    read_raster,
    resized,
    shrunk,
)
from mnistnet.errors import PictureError


def file_of(pixels: np.ndarray, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind, **options)
    return stream.getvalue()


RAMP = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
RGB = np.stack([RAMP, RAMP[::-1], RAMP.T.reshape(3, 4)], axis=2)


@pytest.mark.parametrize(
    ("content", "tone", "values"),
    [
        (b"P1\n3 2\n1 0 1\n0 0 1\n", INK, np.array([[0, 1, 0], [1, 1, 0]])),
        (b"P2\n2 1\n255\n0 255\n", INK, np.array([[0, 1]])),
        (file_of(RAMP, "PNG"), GREY, RAMP / 255),
        (file_of(np.repeat(RAMP[..., None], 3, axis=2), "PNG"), GREY, RAMP / 255),
        (file_of(RGB, "PNG"), COLOUR, RGB / 255),
        (file_of(RAMP.astype(np.uint16) * 257, "PNG"), GREY, RAMP / 255),
        (b"P5\n2 1\n65535\n\x00\x00\x80\x00", GREY, np.array([[0, 32768 / 65535]])),
    ],
    ids=["pbm", "pgm of two levels", "grey", "grey in colour", "colour", "16 bits", "16-bit pgm"],
)
def test_a_picture_takes_the_fewest_numbers_that_hold_it(content: bytes, tone: str, values) -> None:
    notes: list[str] = []
    raster = read_raster(content, notes)
    wanted = values if values.ndim == 3 else values[..., None]
    assert (raster.tone, notes) == (tone, [])
    assert raster.values.dtype == np.float32
    assert raster.size == (wanted.shape[1], wanted.shape[0])
    assert raster.values.shape[2] == len(TONES[tone])
    np.testing.assert_allclose(raster.values, wanted, atol=1e-6)


def test_transparency_is_said_and_no_picture_is_refused() -> None:
    notes: list[str] = []
    clear = np.zeros((2, 2, 4), np.uint8)
    assert read_raster(file_of(clear, "PNG"), notes).values.min() == 1
    assert notes == ["transparent parts filled with white"]
    with pytest.raises(PictureError, match=r"^expected a picture \(PNG, .*\), found 5 bytes$"):
        read_raster(b"hello", [])


def test_shrinking_averages_and_keeps_the_shape() -> None:
    checks = Raster((np.indices((40, 80)).sum(axis=0) % 2).astype(np.float32)[..., None], INK)
    small = shrunk(checks, 200)
    assert (small.size, small.tone) == ((20, 10), GREY)
    assert abs(small.values - 0.5).max() < 0.1
    assert shrunk(checks, 3200) is checks
    assert resized(checks, (80, 40)) is checks
    assert shrunk(checks, 1).size == (1, 1)
    colour = resized(read_raster(file_of(RGB, "PNG"), []), (2, 2))
    assert (colour.values.shape, colour.tone) == ((2, 2, 3), COLOUR)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_format_comes_back(suffix: str) -> None:
    values = np.array([[0.0, 1.0, 1.2], [0.4, -0.1, 0.6]], np.float32).repeat(8, 0).repeat(8, 1)[..., None]
    back = read_raster(encode_raster(values, suffix), []).values
    wanted = values.clip(0, 1)
    if suffix == ".pbm":
        wanted = (values >= 0.5).astype(np.float32)
    lossy = 0.1 if suffix in (".jpg", ".jpeg", ".webp") else 0.003
    assert np.abs(back - wanted).max() < lossy
    if suffix not in (".pbm", ".pgm"):
        colour = np.zeros((8, 8, 3), np.float32) + np.array([1.0, 0.5, 0.0], np.float32)
        found = read_raster(encode_raster(colour, suffix), [])
        assert found.tone == COLOUR
        assert np.abs(found.values - colour).max() < 0.03


@pytest.mark.parametrize(
    ("suffix", "tone", "message"),
    [
        (".txt", GREY, r"expected a name that ends in .png, .*, found '.txt'"),
        ("", GREY, r"expected a name that ends in .png, .*, found none"),
        (".pbm", GREY, r".pbm holds no grey picture: use .png"),
        (".pbm", COLOUR, r".pbm holds no colour picture: use .png"),
        (".pgm", COLOUR, r".pgm holds no colour picture: use .png"),
    ],
)
def test_formats_that_will_not_do(suffix: str, tone: str, message: str) -> None:
    with pytest.raises(PictureError, match=f"^{message}$"):
        check_format(suffix, tone)


def test_a_film_has_its_frames_and_times() -> None:
    frames = [np.full((4, 6, 1), level, np.float32) for level in (0.0, 0.5, 1.0)]
    film = Image.open(io.BytesIO(encode_film(frames)))
    assert (film.n_frames, film.size, film.info["loop"]) == (3, (6, 4), 0)
    times, levels = [], []
    for index in range(3):
        film.seek(index)
        times.append(film.info["duration"])
        levels.append(np.asarray(film.convert("L"))[0, 0])
    assert times == [100, 100, 2000]
    assert levels == [0, 128, 255]
    assert Image.open(io.BytesIO(encode_film(frames[:1]))).n_frames == 1
