"""Made-up photos: an object of a class anywhere in a picture, in any size and colour, before any background."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SHAPES = ("circle", "cross", "square", "star", "triangle")
TEXTURES = ("checks", "dots", "grain", "plain", "stripes")


def write_photos(
    folder: Path, counts: dict[str, int], size: tuple[int, int], classes: tuple[str, ...] = SHAPES, seed: int = 0
) -> Path:
    """Write a data set of JPEG files, `<split>/<class>/<number>.jpg`.

    Args:
        folder: Where to write it.
        counts: Photos of each split, shared out evenly among the classes.
        size: Height and width in pixels.
        classes: SHAPES, or TEXTURES.
        seed: Of all that is random.
    """
    random = np.random.default_rng(seed)
    for split, count in counts.items():
        for index in range(count):
            name = classes[index % len(classes)]
            path = folder / split / name / f"{index:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            photo(name, size, random).save(path, quality=90)
    return folder


def photo(name: str, size: tuple[int, int], random: np.random.Generator) -> Image.Image:
    """A photo of (height, width) pixels with a shape, or with a circle of a texture."""
    height, width = size
    back, front = (_colours(random) for _ in range(2))
    while np.abs(back - front).max() < 90:
        front = _colours(random)
    canvas = Image.fromarray(_surface(back, size, 40, random))
    side = min(size) * random.uniform(0.3, 0.7)
    x, y = random.uniform(side / 2, width - side / 2), random.uniform(side / 2, height - side / 2)
    mask = Image.new("L", (width, height))
    outline = _outline(name if name in SHAPES else "circle", random.uniform(-0.3, 0.3))
    ImageDraw.Draw(mask).polygon([(x + side / 2 * a, y + side / 2 * b) for a, b in outline], fill=255)
    pixels = _surface(front, size, 25, random).astype(int)
    if name in TEXTURES:
        pixels = pixels + 60 * _pattern(name, size, side, random)[..., None]
    canvas.paste(Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), mask=mask)
    return canvas


def _colours(random: np.random.Generator) -> np.ndarray:
    return random.uniform(30, 225, 3)


def _surface(colour: np.ndarray, size: tuple[int, int], change: float, random: np.random.Generator) -> np.ndarray:
    """A colour that changes slowly over a surface, with the noise of a camera: uint8, shape (height, width, 3)."""
    coarse = np.clip(colour + random.normal(0, change, (4, 4, 3)), 0, 255).astype(np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC), float)
    return np.clip(smooth + random.normal(0, 6, (*size, 1)), 0, 255).astype(np.uint8)


def _outline(shape: str, turn: float) -> list[tuple[float, float]]:
    """Corners within a circle of radius 1."""
    spokes: dict[str, Callable[[int], float]] = {
        "circle": lambda corner: 1.0,
        "square": lambda corner: 1.0,
        "triangle": lambda corner: 1.0,
        "star": lambda corner: 1.0 if corner % 2 else 0.42,
        "cross": lambda corner: 1.0 if corner % 3 else 0.45,
    }
    corners = {"circle": 40, "square": 4, "triangle": 3, "star": 10, "cross": 12}[shape]
    angles = [2 * math.pi * corner / corners + turn for corner in range(corners)]
    lengths = [spokes[shape](corner) for corner in range(corners)]
    return [(length * math.sin(angle), length * math.cos(angle)) for angle, length in zip(angles, lengths, strict=True)]


def _pattern(texture: str, size: tuple[int, int], side: float, random: np.random.Generator) -> np.ndarray:
    """-1 to 1, shape (height, width)."""
    y, x = np.indices(size)
    period = max(4, side / random.uniform(4, 7))
    angle = random.uniform(0, math.pi)
    along, across = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    waves = np.sin(2 * math.pi * along / period), np.sin(2 * math.pi * across / period)
    if texture == "stripes":
        return np.sign(waves[0])
    if texture == "checks":
        return np.sign(waves[0] * waves[1])
    if texture == "dots":
        return np.where(waves[0] + waves[1] > 0.9, 1, -1)
    if texture == "grain":
        return random.uniform(-1, 1, size)
    return np.zeros(size)
