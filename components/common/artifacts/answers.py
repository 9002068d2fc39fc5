"""What a model answers: probabilities of its classes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ..cli import BadInput
from ..progress import readable_shape, some_of
from .model import Card

if TYPE_CHECKING:
    import numpy as np

TOLERANCE = 0.01
"""How far the probabilities of an image may be from a sum of 1: 16-bit numbers are no more exact."""


def differing_classes(knows: list[str], names: list[str]) -> tuple[str, str] | None:
    """Both sides in words where they are not the same classes; names and bare numbers can be."""
    if len(knows) != len(names):
        return f"{len(knows)} classes ({some_of(knows)})", f"{len(names)} ({some_of(names)})"
    if knows == names or numbered(len(names)) in (knows, names):
        return None
    at = next(index for index in range(len(names)) if knows[index] != names[index])
    return f"classes with {knows[at]!r} at place {at}", repr(names[at])


def check_answers(model: Path, card: Card, probabilities: np.ndarray) -> None:
    """Raise BadInput where the model does not answer with a probability for each class of its card."""
    import numpy as np

    classes = len(card.classes)
    if probabilities.shape[1:] != (classes,):
        raise BadInput(
            f"{model}: expected {classes} probabilities for an image, as many as there are classes, received "
            f"{readable_shape(probabilities.shape[1:])}; train the model again"
        )
    unusable = int((~np.isfinite(probabilities)).any(axis=1).sum())
    if unusable:
        raise BadInput(
            f"{model}: expected numbers as answers, received NaN or infinity for {unusable} of {len(probabilities)} "
            "images; train the model again with a smaller learning rate"
        )
    sums = probabilities.sum(axis=1)
    if probabilities.min() < 0 or abs(sums - 1).max() > TOLERANCE:
        raise BadInput(
            f"{model}: expected probabilities that sum to 1 for each image, received answers from "
            f"{probabilities.min():.3g} to {probabilities.max():.3g} that sum to {sums.min():.3g} to {sums.max():.3g}; "
            "end the model in a softmax"
        )


def numbered(count: int) -> list[str]:
    """The class names of data that has none: 0, 1, 2 ..."""
    return [str(index) for index in range(count)]
