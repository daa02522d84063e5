"""Draw the pictures of data/samples that mnistnet reconstruct learns: a spiral, and a scene as of a photo.

    python scripts/make_pictures.py

The spiral (50x50, black and white) has one arm and a stroke of even width. The scene (128x128, grey) has what
photographs have: soft shading and its shadow, hard edges, and detail at all scales, with a spectrum that
falls as that of natural pictures does (Field 1987: amplitude as 1 / frequency); a little noise of a sensor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

SAMPLES = Path(__file__).parents[1] / "data" / "samples"
Plane = npt.NDArray[np.float64]


def centres(side: int) -> tuple[Plane, Plane]:
    """(x, y) of the pixels of a square picture that goes from -1 to 1."""
    y, x = (np.mgrid[0:side, 0:side] + 0.5) / side * 2 - 1
    return x, y


def averaged(large: Plane, factor: int) -> Plane:
    side = len(large) // factor
    return large.reshape(side, factor, side, factor).mean(axis=(1, 3))


def spiral(side: int = 50, turns: float = 2.6, factor: int = 8) -> npt.NDArray[np.bool_]:
    """(side, side), True where the paper is white."""
    x, y = centres(side * factor)
    radius, angle = np.hypot(x, y), np.arctan2(y, x) / (2 * np.pi)
    arm, across = np.divmod(radius * turns / 0.9 - angle, 1.0)
    along = arm + 0.5 + angle  # turns from the middle
    ink = (np.abs(across - 0.5) < 0.26) & (along > 0.4) & (along < turns - 0.2)
    return averaged(ink.astype(float), factor) < 0.5


def fractal(side: int, seed: int) -> Plane:
    """Noise whose amplitude falls as 1 / frequency, mean 0 and deviation 1."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(side), np.fft.fftfreq(side)))
    frequency[0, 0] = np.inf
    spectrum = np.fft.fft2(np.random.default_rng(seed).standard_normal((side, side))) / frequency
    noise = np.fft.ifft2(spectrum).real
    return (noise - noise.mean()) / noise.std()


def scene(side: int = 128, factor: int = 4) -> npt.NDArray[np.uint8]:
    """(side, side) grey levels: a sphere on rough ground in front of hills and clouds, lit from the left."""
    large = side * factor
    x, y = centres(large)
    sky = 0.72 - 0.12 * y + 0.07 * fractal(large, 1)
    ridge = -0.12 + 0.09 * np.cumsum(fractal(large, 2)[0]) / np.sqrt(large)
    hills = 0.34 + 0.08 * fractal(large, 3)
    ground = 0.44 + 0.12 * y + 0.09 * fractal(large, 4)
    picture = np.where(y < ridge[None, :], sky, hills)
    picture = np.where(y > 0.12, ground, picture)
    shadow = ((x - 0.35) / 0.62) ** 2 + ((y - 0.68) / 0.1) ** 2
    picture *= 1 - 0.6 / (1 + np.exp(np.minimum(12 * (shadow - 1), 50)))
    u, v = (x + 0.05) / 0.42, (y - 0.28) / 0.42
    depth = np.sqrt(np.clip(1 - u**2 - v**2, 0, None))
    light = np.clip((-0.6 * u - 0.6 * v + 0.53 * depth), 0, None)
    stone = 0.1 + (0.62 + 0.05 * fractal(large, 5)) * light + 0.35 * light**24
    picture = np.where(u**2 + v**2 < 1, stone, picture)
    seen = averaged(np.clip(picture, 0, 1), factor)
    noise = 0.008 * np.random.default_rng(6).standard_normal(seen.shape)
    return np.rint(np.clip(seen + noise, 0, 1) * 255).astype(np.uint8)


def main() -> None:
    Image.fromarray(spiral()).save(SAMPLES / "spiral.pbm")
    Image.fromarray(scene()).save(SAMPLES / "scene.pgm")


if __name__ == "__main__":
    main()
