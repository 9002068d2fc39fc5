"""Encoded images in requests: base64 to pixels of the size that the model takes, by the one reader of images."""

from __future__ import annotations

import base64
import binascii
from contextlib import nullcontext
from threading import Lock
from typing import Any

import numpy as np

from ....common.cli import BadInput
from ....common.datasets.decoding import decode_images, image_shape
from .request import Refused

KEY = "b64"
"""TensorFlow Serving's mark of binary values: `{"b64": "..."}`."""
ENCODED_IMAGE = f'"{KEY}"'.encode()
"""What stands in a body with such values."""
MOST_PIXELS = 25_000_000
"""Of an image; more take hundreds of megabytes while they are decoded."""
MOST_DECODED = 64 * 2**20
"""Bytes of the decoded images of a request, which may be a thousand times those of small files."""
LARGE = 1_000_000
"""Pixels from which on one image is decoded at a time."""

_one_large = Lock()


def are_encoded(values: list[Any]) -> bool:
    """Whether one of these values is an encoded image."""
    return any(isinstance(value, dict) and KEY in value for value in values)


def decoded(values: list[Any], shape: tuple[int, ...], key: str) -> np.ndarray:
    """Encoded images as pixels.

    Args:
        values: Each `{"b64": base64 of an image file}`.
        shape: (height, width, channels) of the model's input; images of other sizes are resized.
        key: What to call the list in messages.

    Returns:
        uint8 of shape (images, height, width, channels).

    Raises:
        Refused: 400, one is no image, or too large; 413, they are too many.
    """
    height, width, channels = shape
    if channels not in (1, 3):
        raise Refused(400, f"{key}: expected numbers, received base64 images; the model takes {channels} channels")
    most = MOST_DECODED // (height * width * channels)
    if len(values) > most:
        raise Refused(413, f"{key}: expected at most {most:,} images in base64, received {len(values):,}; send fewer")
    images = np.empty((len(values), height, width, channels), np.uint8)
    for index, value in enumerate(values):
        name = f"{key}[{index}]"
        try:
            images[index] = _image(_content(value, name), (height, width, channels), name)
        except BadInput as error:
            raise Refused(400, str(error).partition(";")[0]) from None
    return images


def _content(value: Any, name: str) -> bytes:
    if not isinstance(value, dict) or set(value) != {KEY} or not isinstance(value[KEY], str):
        raise Refused(400, f'{name}: expected {{"{KEY}": base64}} as the other images, received something else')
    try:
        return base64.b64decode("".join(value[KEY].split()), validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, f"{name}: expected base64, received something else") from None


def _image(content: bytes, shape: tuple[int, int, int], name: str) -> np.ndarray:
    height, width, _ = image_shape(content, name)
    if height * width > MOST_PIXELS:
        raise Refused(
            400,
            f"{name}: expected an image of at most {MOST_PIXELS:,} pixels, received {height} x {width}; scale it down",
        )
    with _one_large if height * width >= LARGE else nullcontext():
        return decode_images([content], shape, lambda _: name, resize=True)[0]
