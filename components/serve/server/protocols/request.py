"""A request for predictions as every protocol hands it to the model, its answer, and how a request is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

INPUT, OUTPUT = "image", "output_0"
"""Names of the model's input and output tensor."""


class Refused(Exception):
    """A request that gets an error for an answer: `status` is the HTTP status, the message its text."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Answer(NamedTuple):
    """The body of an answer.

    Attributes:
        content: JSON, with binary tensors behind it or without.
        json_length: Bytes of the JSON where binary tensors follow, else None.
        images: What was asked, see `PredictRequest`.
        probabilities: What the model answered, shape (images, classes).
    """

    content: bytes
    json_length: int | None = None
    images: np.ndarray | None = None
    probabilities: np.ndarray | None = None


class PredictRequest(NamedTuple):
    """A request for predictions, whatever its protocol.

    Attributes:
        images: uint8 or float32, shape (images, height, width, channels).
        write: Makes the answer of their probabilities, shape (images, classes).
    """

    images: np.ndarray
    write: Callable[[np.ndarray], Answer]


def shown(value: object, length: int = 80) -> str:
    """What a client sent, for a message: escaped and cut."""
    text = ascii(value[:length] if isinstance(value, str | bytes | list) else value)
    return text if len(text) <= length else f"{text[:length]}..."
