"""A request for predictions as every protocol hands it to the model, and how a request is refused."""

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


class PredictRequest(NamedTuple):
    """A request for predictions, whatever its protocol.

    Attributes:
        images: float32, shape (images, height, width, channels).
        write: Makes the body of the answer of their probabilities, shape (images, classes).
    """

    images: np.ndarray
    write: Callable[[np.ndarray], bytes]
