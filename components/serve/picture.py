"""Show an image and what a model saw in it: in a terminal, or as a PNG."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..common.files import atomic_file
from .predict import Prediction

if TYPE_CHECKING:
    from PIL import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont, ImageFont

    Font = FreeTypeFont | ImageFont

WIDEST = 64
"""Columns of a terminal that an image may take."""
RAMP = " .:-=+*#%@"
TOP = 3
BAR = 28


def as_text(seen: Prediction) -> str:
    """The image, the label and the most probable classes as bars, for this process's stdout.

    Colours on a terminal (24 bits where COLORTERM says so, else 256), plain characters elsewhere and with NO_COLOR.
    """
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        picture = _in_colour(seen.image, exact=os.environ.get("COLORTERM", "") in ("truecolor", "24bit"))
        full, empty = "█", "░"
    else:
        picture = _in_characters(seen.image)
        full, empty = "#", "."
    truth = "" if seen.true_label is None else f"   true label {seen.true_label}, {_verdict(seen)}"
    where = "" if seen.index is None else f"   test image {seen.index}"
    lines = [picture, "", f"  {seen.label}  {_percent(seen.probability)}{truth}{where}", ""]
    width = max(len(seen.classes[index]) for index in seen.order[:TOP])
    for index in seen.order[:TOP]:
        filled = round(BAR * seen.probabilities[index])
        bar = full * filled + empty * (BAR - filled)
        lines.append(f"  {seen.classes[index]:>{width}}  {bar}  {_percent(seen.probabilities[index]):>7}")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _verdict(seen: Prediction) -> str:
    return "right" if seen.label == seen.true_label else "wrong"


def _in_characters(image: np.ndarray) -> str:
    """Two rows of the image per line, since characters are twice as high as wide."""
    grey = _pairs_of_rows(_rgb(_small(image))).mean(axis=(1, 3))
    return "\n".join("".join(RAMP[int(value) * len(RAMP) // 256] for value in row).rstrip() for row in grey)


def _in_colour(image: np.ndarray, exact: bool) -> str:
    """Upper half blocks: the upper row is the colour of the character, the lower one that of its background."""
    code = _exact_code if exact else _code_of_256
    lines = []
    for upper, lower in _pairs_of_rows(_rgb(_small(image))):
        cells = [f"\033[38;{code(a)};48;{code(b)}m▀" for a, b in zip(upper.tolist(), lower.tolist(), strict=True)]
        lines.append("".join(cells) + "\033[0m")
    return "\n".join(lines)


def _exact_code(colour: list[int]) -> str:
    return "2;{};{};{}".format(*colour)


def _code_of_256(colour: list[int]) -> str:
    """The nearest of the terminal's 24 greys, or of its cube of 6 x 6 x 6 colours."""
    red, green, blue = colour
    if red == green == blue:
        return f"5;{232 + round(red / 255 * 23)}"
    return f"5;{16 + 36 * round(red / 51) + 6 * round(green / 51) + round(blue / 51)}"


def _pairs_of_rows(image: np.ndarray) -> np.ndarray:
    """(height, width, 3) as (height / 2, 2, width, 3); an odd last row gets a black one below it."""
    height, width, _ = image.shape
    even = np.concatenate([image, np.zeros((height % 2, width, 3), np.uint8)])
    return even.reshape(-1, 2, width, 3)


def _small(image: np.ndarray) -> np.ndarray:
    """The image, made smaller if it is wider than WIDEST."""
    height, width, _ = image.shape
    if width <= WIDEST:
        return image
    from PIL import Image

    size = (WIDEST, max(1, round(height * WIDEST / width)))
    return np.asarray(Image.fromarray(_rgb(image)).resize(size, Image.Resampling.BOX))


def _rgb(image: np.ndarray) -> np.ndarray:
    """The first three channels as colours, or the first one as grey, as the page of the model server shows them."""
    return image[..., :3] if image.shape[2] > 2 else np.repeat(image[..., :1], 3, axis=2)


INK, MUTED, TRACK, PAPER = "#111827", "#6b7280", "#eef1f5", "#ffffff"
RIGHT, WRONG, OTHER = "#2563eb", "#dc2626", "#a9bbd6"
SIDE = 560
"""Pixels of the image in a picture."""
MARGIN = 48
ROWS = 10


def save_picture(seen: Prediction, path: Path) -> None:
    """Write a PNG: the image on the left; label and a bar per class on the right (of many, the ten most probable)."""
    from PIL import Image, ImageDraw

    canvas = Image.new("RGB", (2 * SIDE + 3 * MARGIN, SIDE + 2 * MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    _paste(canvas, seen.image)
    left, right = 2 * MARGIN + SIDE, canvas.width - MARGIN
    colour = WRONG if seen.true_label not in (None, seen.label) else RIGHT

    heading = next((_font(size) for size in (72, 52, 36) if draw.textlength(seen.label, _font(size)) <= 360), _font(28))
    draw.text((left, MARGIN), _fit(draw, seen.label, heading, 360), INK, heading, anchor="lt")
    draw.text((right, MARGIN), _percent(seen.probability), colour, _font(44), anchor="rt")
    if seen.true_label is not None:
        truth = _fit(draw, f"true label {seen.true_label}, {_verdict(seen)}", _font(22), right - left)
        draw.text((left, MARGIN + 82), truth, MUTED, _font(22), anchor="lt")

    shown = range(len(seen.classes)) if len(seen.classes) <= ROWS else seen.order[:ROWS]
    font = _font(22)
    names = [_fit(draw, seen.classes[index], font, 180) for index in shown]
    bars = left + max(draw.textlength(name, font) for name in names) + 16
    end = right - 96
    top = MARGIN + 132
    step = (MARGIN + SIDE - top) / ROWS
    for row, (index, name) in enumerate(zip(shown, names, strict=True)):
        middle = top + step * (row + 0.5)
        chosen = index == seen.order[0]
        share = seen.probabilities[index]
        draw.text((bars - 16, middle), name, INK if chosen else MUTED, font, anchor="rm")
        draw.rounded_rectangle((bars, middle - 11, end, middle + 11), 5, TRACK)
        if share * (end - bars) >= 1:
            length = max(6, share * (end - bars))
            draw.rounded_rectangle((bars, middle - 11, bars + length, middle + 11), 5, colour if chosen else OTHER)
        draw.text((right, middle), _percent(share), INK if chosen else MUTED, font, anchor="rm")
    with atomic_file(path) as partial:
        canvas.save(partial, format="PNG", optimize=True)


def _paste(canvas: Image.Image, image: np.ndarray) -> None:
    """Put the image into the left half, its pixels as squares."""
    from PIL import Image

    height, width, _ = image.shape
    scale = SIDE / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    method = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    large = Image.fromarray(_rgb(image)).resize(size, method)
    canvas.paste(large, (MARGIN + (SIDE - size[0]) // 2, MARGIN + (SIDE - size[1]) // 2))


def _font(size: int) -> Font:
    from PIL.ImageFont import load_default

    return load_default(size)


def _fit(draw: ImageDraw, text: str, font: Font, width: float) -> str:
    """The text, cut if it is wider than `width` pixels."""
    if draw.textlength(text, font) <= width:
        return text
    while text and draw.textlength(text + "...", font) > width:
        text = text[:-1]
    return text + "..."
